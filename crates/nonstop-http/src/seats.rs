//! Who may be connected at once: so many of one party and so many in all, so that a client that
//! opens all it can keeps nobody else out.
//!
//! A party is whoever the server says shares seats, by an address: a segment, an account. Where all seats are taken, the party that
//! has the most gives its oldest connection to one that has fewer.

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, Shutdown, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The segment that an address belongs to (a /28), by its first address.
pub fn segment(address: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(address) & !0xf)
}

/// All seats.
#[derive(Debug)]
pub struct Seats {
    of_party: usize,
    total: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    taken: usize,
    parties: HashMap<Ipv4Addr, BTreeMap<u64, Arc<TcpStream>>>,
}

/// A connection that may go on; given back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    party: Ipv4Addr,
    number: u64,
}

impl Seats {
    /// `of_party` connections of each party, and `total` in all.
    pub fn new(of_party: usize, total: usize) -> Arc<Seats> {
        Arc::new(Seats { of_party, total, table: Mutex::default() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for `stream`, which is of `party`; None if there is none for it.
    ///
    /// Whose connection has to go for it is shut down, which ends whatever waits on it.
    pub fn take(self: &Arc<Seats>, party: Ipv4Addr, stream: &Arc<TcpStream>) -> Option<Seat> {
        let mut table = self.table();
        let has = table.parties.get(&party).map_or(0, BTreeMap::len);
        if has >= self.of_party {
            return None;
        }
        if table.taken >= self.total {
            table.give_way(has)?;
        }
        let number = table.next;
        table.next += 1;
        table.taken += 1;
        table.parties.entry(party).or_default().insert(number, Arc::clone(stream));
        Some(Seat { seats: Arc::clone(self), party, number })
    }
}

impl Table {
    /// Ends the oldest connection of the party with the most, if that is more than one above
    /// `has`: two parties never take a seat from each other in turn.
    fn give_way(&mut self, has: usize) -> Option<()> {
        let (party, most) = self.parties.iter().max_by_key(|(_, streams)| streams.len())?;
        if most.len() <= has + 1 {
            return None;
        }
        let (party, number) = (*party, *most.first_key_value()?.0);
        let stream = self.remove(party, number)?;
        let _closed_already = stream.shutdown(Shutdown::Both);
        Some(())
    }

    fn remove(&mut self, party: Ipv4Addr, number: u64) -> Option<Arc<TcpStream>> {
        let streams = self.parties.get_mut(&party)?;
        let stream = streams.remove(&number)?;
        if streams.is_empty() {
            self.parties.remove(&party);
        }
        self.taken -= 1;
        Some(stream)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.table().remove(self.party, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read, net::TcpListener};

    /// Both ends of a connection.
    fn pair() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        (Arc::new(listener.accept().expect("accept").0), near)
    }

    fn machine(segment: u8, host: u8) -> Ipv4Addr {
        super::segment(Ipv4Addr::new(10, 77, 0, segment * 16 + host))
    }

    #[test]
    fn the_clients_of_a_party_share_its_seats() {
        let seats = Seats::new(2, 10);
        let (stream, _near) = pair();
        let one = seats.take(machine(0, 2), &stream).expect("free");
        let _two = seats.take(machine(0, 3), &stream).expect("free");
        assert!(seats.take(machine(0, 4), &stream).is_none());
        assert!(seats.take(machine(1, 2), &stream).is_some());
        drop(one);
        assert!(seats.take(machine(0, 4), &stream).is_some());
    }

    #[test]
    fn where_all_are_taken_whoever_has_the_most_gives_its_oldest() {
        let seats = Seats::new(3, 4);
        let (oldest, mut far) = pair();
        let (stream, _near) = pair();
        let _a = seats.take(machine(0, 2), &oldest).expect("free");
        let _b = [(); 2].map(|()| seats.take(machine(0, 2), &stream).expect("free"));
        let _c = seats.take(machine(1, 2), &stream).expect("free");
        let _d = seats.take(machine(2, 2), &stream).expect("of who has three");
        assert_eq!(far.read(&mut [0; 8]).expect("an end"), 0);
        // Two, one, one: nobody has enough to give.
        assert!(seats.take(machine(1, 3), &stream).is_none());
        assert!(seats.take(machine(3, 3), &stream).is_some(), "who has none gets one of two");
    }
}

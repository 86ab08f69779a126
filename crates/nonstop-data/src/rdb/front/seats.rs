//! How many connections a segment has, and may have.

use std::collections::BTreeMap;

/// Connections by segment.
#[derive(Debug)]
pub(super) struct Seats {
    each: usize,
    total: usize,
    open: BTreeMap<u32, usize>,
    seated: BTreeMap<u32, usize>,
}

/// Connections of one segment beside the seated ones: those that have said nothing yet, and
/// those that ask for the end of a query.
const STANDING: usize = 8;

impl Seats {
    pub(super) fn new(each: u16, total: u16) -> Seats {
        Seats {
            each: each.into(),
            total: total.into(),
            open: BTreeMap::new(),
            seated: BTreeMap::new(),
        }
    }

    /// Whether a connection of `slot` is heard at all. Decided before anything else about it.
    pub(super) fn enter(&mut self, slot: u32) -> bool {
        let standing = count(&self.open, slot) - count(&self.seated, slot);
        let heard = standing < STANDING;
        if heard {
            *self.open.entry(slot).or_default() += 1;
        }
        heard
    }

    /// Whether it gets a place at the reader. The last quarter of all places is for segments that
    /// have none.
    pub(super) fn sit(&mut self, slot: u32) -> Result<(), Full> {
        let own = count(&self.seated, slot);
        let all: usize = self.seated.values().sum();
        if own >= self.each {
            return Err(Full::Segment(self.each));
        }
        if all >= self.total || (own > 0 && all >= self.total / 4 * 3) {
            return Err(Full::All);
        }
        *self.seated.entry(slot).or_default() += 1;
        Ok(())
    }

    /// It is gone; `seated` if it had a place.
    pub(super) fn leave(&mut self, slot: u32, seated: bool) {
        lower(&mut self.open, slot);
        if seated {
            lower(&mut self.seated, slot);
        }
    }
}

/// No place left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The segment has as many as one may have.
    Segment(usize),
    /// The server has no more.
    All,
}

impl Full {
    pub(super) fn told(self) -> String {
        match self {
            Full::Segment(each) => format!(
                "this machine's segment has {each} connections, which is all that one may have: \
                 close one"
            ),
            Full::All => "the server has no free connection for you: try again, with fewer".into(),
        }
    }
}

fn count(map: &BTreeMap<u32, usize>, slot: u32) -> usize {
    map.get(&slot).copied().unwrap_or(0)
}

fn lower(map: &mut BTreeMap<u32, usize>, slot: u32) {
    if let Some(n) = map.get_mut(&slot) {
        *n -= 1;
        if *n == 0 {
            map.remove(&slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_open_connections_of_one_segment_keep_no_other_out() {
        let mut seats = Seats::new(2, 100);
        let heard = (0..10_000).filter(|_| seats.enter(1)).count();
        assert_eq!(heard, STANDING);
        assert!(seats.enter(2));
        assert_eq!(seats.sit(2), Ok(()));
        seats.leave(1, false);
        assert!(seats.enter(1));
        assert!(!seats.enter(1));
    }

    #[test]
    fn a_segment_has_its_share_and_the_last_places_are_for_who_has_none() {
        let mut seats = Seats::new(4, 8);
        for slot in [1, 1, 1, 1, 2, 2] {
            assert!(seats.enter(slot));
            assert_eq!(seats.sit(slot), Ok(()));
        }
        assert_eq!(seats.sit(1), Err(Full::Segment(4)));
        assert_eq!(seats.sit(2), Err(Full::All));
        assert_eq!(seats.sit(3), Ok(()));
        assert_eq!(seats.sit(4), Ok(()));
        assert_eq!(seats.sit(5), Err(Full::All));
        seats.leave(1, true);
        assert_eq!(seats.sit(5), Ok(()));
    }
}

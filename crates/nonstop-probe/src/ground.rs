//! Where attempts are fired: the lab's network, or a copy of it. Sends each frame, waits until it is
//! seen on its own card's tap, and collects what was seen of it elsewhere.

use crate::{
    attempts::{Attempt, Expect, To},
    frame::{self, FIRST_SEQ, Marker, Segment, Wire, mac},
    gun::Gun,
    local::{Local, Taken},
    watch::{Captured, Watch},
};
use anyhow::{Context, Result};
use etherparse::{ArpOperation, ArpPacketSlice, NetSlice, SlicedPacket, TransportSlice};
use nonstop_reach::probe::Order;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

/// Where something of an attempt was seen beside the tap that it came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// On its way to the guest behind this tap.
    Tap(String),
    /// Taken up by the host from this bridge.
    Bridge(String),
    /// On its way out by this interface.
    Out(String),
    /// In the network namespace of the servers behind this interface.
    Domain(String),
    /// In the host's own sockets, sent to this address; None for IPv6.
    Local(Option<Ipv4Addr>),
    /// Answered by this address, or by something without one.
    Answer(Option<Ipv4Addr>),
    /// Bytes over the connection that it opened, at the other end.
    Data,
}

/// What became of the attempts.
#[derive(Debug, Default)]
pub struct Seen {
    /// Where each was seen, by its number.
    pub spots: BTreeMap<u32, BTreeSet<Spot>>,
    /// The numbers of those that never left their card.
    pub unsent: BTreeSet<u32>,
    /// What came to a canary and belongs to no attempt.
    pub unexplained: BTreeSet<String>,
}

/// Where attempts are fired.
#[derive(Debug)]
pub struct Ground<'a> {
    order: &'a Order,
    /// By canary and card.
    guns: BTreeMap<(usize, usize), Gun>,
    /// The domain interface of each watched network but the first, which is the host's.
    domains: Vec<String>,
    frames: Receiver<Captured>,
    taken: Receiver<Taken>,
    watches: Vec<Watch>,
    local: Local,
    seen: Seen,
    /// What a card last asked for by ARP, by address.
    asked: BTreeMap<((usize, usize), Ipv4Addr), u32>,
    /// When a card last sent to everybody.
    last_to_all: BTreeMap<(usize, usize), Instant>,
    run: u32,
}

/// What a ground consists of.
#[derive(Debug)]
pub struct Parts {
    /// By canary and card.
    pub guns: BTreeMap<(usize, usize), Gun>,
    /// The domain interface of each watched network but the first.
    pub domains: Vec<String>,
    /// What was captured.
    pub frames: Receiver<Captured>,
    /// What the host took in.
    pub taken: Receiver<Taken>,
    /// The watches that capture.
    pub watches: Vec<Watch>,
    /// The host's sockets.
    pub local: Local,
}

/// A card of which more than this is asked takes more than it is given: the machine hangs.
const SENDING: Duration = Duration::from_secs(3);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How long to listen at the end.
const SETTLE: Duration = Duration::from_millis(700);
/// Between two frames of a card to everybody, below every template's limit of a second.
const BETWEEN_BROADCASTS: Duration = Duration::from_millis(60);
/// More that is unexplained is not told one by one.
const TOLD: usize = 50;
const ARP: u16 = 0x0806;
/// The first of the numbers by which cards show that they send.
const HELLO: u32 = 1 << 30;
/// The bit of a marker that bytes over an open connection bear.
const DATA: u32 = 1 << 31;

impl<'a> Ground<'a> {
    /// A ground of these parts.
    pub fn new(order: &'a Order, run: u32, parts: Parts) -> Ground<'a> {
        let Parts { guns, domains, frames, taken, watches, local } = parts;
        let (seen, asked, last_to_all) = (Seen::default(), BTreeMap::new(), BTreeMap::new());
        Ground {
            order,
            guns,
            domains,
            frames,
            taken,
            watches,
            local,
            seen,
            asked,
            last_to_all,
            run,
        }
    }

    /// Waits until each gun's card sends: a canary may still be starting.
    ///
    /// Errors: one does not within `limit`.
    pub fn await_cards(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let cards: Vec<(usize, usize)> = self.guns.keys().copied().collect();
        let run = self.run;
        let hello = |at: usize| Marker { run, attempt: HELLO + at as u32 };
        let mut silent: BTreeMap<String, (Marker, &str)> = BTreeMap::new();
        for (at, (canary, card)) in cards.iter().enumerate() {
            let name = &self.order.canaries[*canary].machine;
            let card = self.order.machine(name).and_then(|machine| machine.cards.get(*card));
            let card = card.context("a canary without a card")?;
            silent.insert(card.tap.clone(), (hello(at), name));
        }
        for (at, card) in cards.iter().enumerate() {
            // To nobody: a hardware address that no card has.
            let wire = Wire { from: [2, 0x66, 0, 0, 0, 2], to: [2, 0x66, 0, 0, 0, 3] };
            let frame = frame::raw(wire, 0x88b5, &[], hello(at));
            self.send(*card, &frame)?;
        }
        while let Some((name, _)) = silent.values().map(|(_, name)| (name, ())).next() {
            let left = end.saturating_duration_since(Instant::now());
            match self.frames.recv_timeout(left) {
                Ok(captured) => {
                    let marker = Marker::find(self.run, &captured.content);
                    let own = silent.get(&captured.interface).map(|(marker, _)| *marker);
                    if own.is_some() && own == marker && !captured.outgoing {
                        silent.remove(&captured.interface);
                    }
                }
                Err(_) => {
                    anyhow::bail!("the canary {name} did not send within {} s", limit.as_secs())
                }
            }
        }
        Ok(())
    }

    /// Fires all `attempts`, telling `each` how many are done. With `talk`, connections are gone
    /// through with.
    ///
    /// Errors: a gun is broken. A frame that does not leave is no error.
    pub fn fire(
        &mut self,
        attempts: &[&Attempt],
        talk: bool,
        each: &mut dyn FnMut(usize),
    ) -> Result<()> {
        let by_number: BTreeMap<u32, &Attempt> =
            attempts.iter().map(|a| (a.marker.attempt, *a)).collect();
        for (done, attempt) in attempts.iter().enumerate() {
            each(done);
            let card = (attempt.canary, attempt.card);
            if attempt.frame[0] & 1 == 1 {
                if let Some(last) = self.last_to_all.get(&card) {
                    std::thread::sleep(BETWEEN_BROADCASTS.saturating_sub(last.elapsed()));
                }
                self.last_to_all.insert(card, Instant::now());
            }
            if let (Some(target), true) =
                (attempt.target, attempt.frame[12..14] == ARP.to_be_bytes())
            {
                self.asked.insert((card, target), attempt.marker.attempt);
            }
            self.send(card, &attempt.frame)?;
            if !self.until(SENDING, &by_number, Wait::Sent(attempt.marker.attempt))? {
                self.seen.unsent.insert(attempt.marker.attempt);
                continue;
            }
            if talk && attempt.expect == Expect::Connects {
                self.until(ANSWER, &by_number, Wait::Data(attempt.marker.attempt))?;
            }
        }
        self.until(SETTLE, &by_number, Wait::Over)?;
        Ok(())
    }

    /// Ends it, and gives what was seen, and how many frames could not be.
    pub fn end(self) -> (Seen, u64) {
        let lost = self.watches.into_iter().map(Watch::end).sum();
        drop(self.local);
        (self.seen, lost)
    }

    fn send(&mut self, card: (usize, usize), frame: &[u8]) -> Result<()> {
        self.guns.get_mut(&card).context("a card without a way to it")?.send(frame)
    }

    /// Takes in what is seen until `wait` is over; false if that took longer than `limit`.
    fn until(
        &mut self,
        limit: Duration,
        attempts: &BTreeMap<u32, &Attempt>,
        wait: Wait,
    ) -> Result<bool> {
        let end = Instant::now() + limit;
        loop {
            while let Ok(taken) = self.taken.try_recv() {
                let Taken { to, marker } = taken;
                let spot = match marker.attempt & DATA {
                    0 => Spot::Local(to),
                    _ => Spot::Data,
                };
                self.saw(marker.attempt & !DATA, spot);
                if wait.is_over(marker) {
                    return Ok(true);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.frames.recv_timeout(left.min(Duration::from_millis(20))) {
                Ok(captured) => {
                    let own = self.take(&captured, attempts)?;
                    if own.is_some_and(|marker| wait == Wait::Sent(marker.attempt)) {
                        return Ok(true);
                    }
                    let marker = Marker::find(self.run, &captured.content);
                    if marker.is_some_and(|marker| wait.is_over(marker)) && own.is_none() {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(wait == Wait::Over),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("tcpdump ended"),
            }
        }
    }

    fn saw(&mut self, number: u32, spot: Spot) {
        self.seen.spots.entry(number).or_default().insert(spot);
    }

    /// Takes in one captured frame; the marker of one that just left its card.
    fn take(
        &mut self,
        captured: &Captured,
        attempts: &BTreeMap<u32, &Attempt>,
    ) -> Result<Option<Marker>> {
        let marker = Marker::find(self.run, &captured.content);
        if captured.network > 0 {
            if let (Some(marker), false) = (marker, captured.outgoing) {
                let domain = self.domains[captured.network - 1].clone();
                let data = marker.attempt & DATA != 0;
                self.saw(
                    marker.attempt & !DATA,
                    if data { Spot::Data } else { Spot::Domain(domain) },
                );
            }
            return Ok(None);
        }
        let interface = &captured.interface;
        if let Some(card) = self.card_behind(interface) {
            let own = marker.and_then(|m| attempts.get(&(m.attempt & !DATA)));
            let own = own.filter(|attempt| (attempt.canary, attempt.card) == card);
            match (captured.outgoing, own, marker) {
                (false, Some(_), Some(marker)) => return Ok(Some(marker)),
                (true, None, Some(marker)) => {
                    self.saw(marker.attempt & !DATA, Spot::Tap(interface.clone()))
                }
                (true, _, _) => self.answer(card, captured, attempts)?,
                (false, _, _) => {}
            }
            return Ok(None);
        }
        let Some(marker) = marker else { return Ok(None) };
        let is_segment = self.order.wanted.segment(interface).is_some();
        let spot = match (captured.outgoing, is_segment) {
            _ if interface == "lo" => return Ok(None),
            (true, true) => return Ok(None),
            (false, true) => Spot::Bridge(interface.clone()),
            (true, false) if self.order.behind_tap(interface).is_some() => {
                Spot::Tap(interface.clone())
            }
            (true, false) if marker.attempt & DATA != 0 => Spot::Data,
            (true, false) => Spot::Out(interface.clone()),
            (false, false) => return Ok(None),
        };
        self.saw(marker.attempt & !DATA, spot);
        Ok(None)
    }

    fn card_behind(&self, tap: &str) -> Option<(usize, usize)> {
        self.guns.keys().copied().find(|(canary, card)| {
            let machine = self.order.machine(&self.order.canaries[*canary].machine);
            machine.is_some_and(|machine| machine.cards[*card].tap == tap)
        })
    }

    /// Something came to a canary: an answer, a question for its address, or what must not be.
    fn answer(
        &mut self,
        card: (usize, usize),
        captured: &Captured,
        attempts: &BTreeMap<u32, &Attempt>,
    ) -> Result<()> {
        let of_card = |attempt: &&&Attempt| (attempt.canary, attempt.card) == card;
        if captured.protocol == ARP {
            let Ok(arp) = ArpPacketSlice::from_slice(&captured.content) else { return Ok(()) };
            let (Some(from), Some(to)) =
                (v4(arp.sender_protocol_addr()), v4(arp.target_protocol_addr()))
            else {
                return Ok(());
            };
            if arp.operation() == ArpOperation::REQUEST {
                return self.be_there(card, arp.sender_hw_addr(), from, to);
            }
            let number = self.asked.get(&(card, from)).copied();
            match number {
                Some(number) => self.saw(number, Spot::Answer(Some(from))),
                None => self.unexplained(card, format!("an ARP answer of {from}")),
            }
            return Ok(());
        }
        let Ok(packet) = SlicedPacket::from_ip(&captured.content) else {
            let what = format!("a frame of ethertype {:#06x}", captured.protocol);
            self.unexplained(card, what);
            return Ok(());
        };
        let from = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => Some(ip.header().source_addr()),
            _ => None,
        };
        let (ports, tcp) = match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                (Some((tcp.source_port(), tcp.destination_port())), Some(tcp))
            }
            Some(TransportSlice::Udp(udp)) => {
                (Some((udp.source_port(), udp.destination_port())), None)
            }
            _ => (None, None),
        };
        let marked = Marker::find(self.run, &captured.content).map(|m| m.attempt & !DATA);
        let by_port = ports.and_then(|(_, to)| {
            attempts
                .values()
                .filter(of_card)
                .find(|a| a.source_port == to)
                .map(|a| a.marker.attempt)
        });
        let Some(number) = marked.or(by_port) else {
            let what = match &packet.net {
                Some(NetSlice::Ipv6(ip)) => {
                    let header = ip.header();
                    let (from, to) = (header.source_addr(), header.destination_addr());
                    format!("an IPv6 packet of {from} to {to}")
                }
                _ => format!("a packet of {}", from.map_or("somebody".into(), |a| a.to_string())),
            };
            self.unexplained(card, what);
            return Ok(());
        };
        self.saw(number, Spot::Answer(from));
        if let (Some(tcp), Some(attempt)) = (tcp, attempts.get(&number))
            && tcp.syn()
            && tcp.ack()
            && attempt.expect == Expect::Connects
        {
            let (seq, ack) = (tcp.acknowledgment_number(), tcp.sequence_number().wrapping_add(1));
            self.go_on(card, attempt, seq, ack)?;
        }
        Ok(())
    }

    /// Goes through with a connection that was answered: some bytes, and its end.
    fn go_on(&mut self, card: (usize, usize), attempt: &Attempt, seq: u32, ack: u32) -> Result<()> {
        let (Some(wire), Some(target), Some(port)) =
            (wire_of(&attempt.frame), attempt.target, attempt.port)
        else {
            return Ok(());
        };
        let Some(own) = attempt.frame.get(26..30).and_then(v4) else { return Ok(()) };
        let marker = Marker { run: self.run, attempt: attempt.marker.attempt | DATA };
        let (from, to) = ((own, attempt.source_port), (target, port.port));
        let data = frame::tcp(wire, from, to, Segment::Ack { seq, ack }, marker);
        self.send(card, &data)?;
        // Two writes at once would be one read on the other side.
        std::thread::sleep(Duration::from_millis(30));
        let seq = seq.max(FIRST_SEQ).wrapping_add(8);
        let end = frame::tcp(wire, from, to, Segment::Rst { seq }, attempt.marker);
        self.send(card, &end)
    }

    /// Answers for a canary, whose kernel has no address, that it is there.
    fn be_there(
        &mut self,
        card: (usize, usize),
        asker: &[u8],
        from: Ipv4Addr,
        asked: Ipv4Addr,
    ) -> Result<()> {
        let machine = self.order.machine(&self.order.canaries[card.0].machine);
        let Some(own) = machine.and_then(|machine| machine.cards.get(card.1)) else {
            return Ok(());
        };
        let (Some(mac), Ok(asker)) = (mac(&own.mac), <[u8; 6]>::try_from(asker)) else {
            return Ok(());
        };
        if own.address != Some(asked) {
            return Ok(());
        }
        let wire = Wire { from: mac, to: asker };
        let nobody = Marker { run: !self.run, attempt: 0 };
        let answer = frame::arp(wire, mac, asked, (asker, from), true, nobody);
        self.send(card, &answer)?;
        std::thread::sleep(Duration::from_millis(30));
        Ok(())
    }

    fn unexplained(&mut self, card: (usize, usize), what: String) {
        if self.seen.unexplained.len() < TOLD {
            let machine = &self.order.canaries[card.0].machine;
            self.seen.unexplained.insert(format!("{what} came to {machine}, card {}", card.1));
        }
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// That the attempt leaves its card.
    Sent(u32),
    /// That bytes of its connection arrive.
    Data(u32),
    /// The end of the time.
    Over,
}

impl Wait {
    fn is_over(self, marker: Marker) -> bool {
        match self {
            Wait::Data(number) => marker.attempt == number | DATA,
            Wait::Sent(_) | Wait::Over => false,
        }
    }
}

fn v4(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn wire_of(frame: &[u8]) -> Option<Wire> {
    Some(Wire { to: frame.get(..6)?.try_into().ok()?, from: frame.get(6..12)?.try_into().ok()? })
}

/// Whether `attempt` can be judged by where it arrives: those to everybody by anyone.
pub fn is_for(attempt: &Attempt, to: &To) -> bool {
    attempt.to == *to || attempt.to == To::Everybody
}

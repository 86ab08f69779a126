//! Where attempts are fired: the lab's network, or a copy of it. Sends each frame, waits until it is
//! seen on its own card's tap, and collects what was seen of it elsewhere.

use crate::{
    attempts::{Attempt, Expect},
    cards::{At, Cards, SENDING},
    frame::{self, ARP, Wire},
    gun::Gun,
    local::{Local, Taken},
    marker::{About, Marker},
    talk::Talk,
    watch::{Captured, Watch},
};
use anyhow::{Context, Result};
use nonstop_reach::probe::{Domain, Order};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
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

impl Seen {
    pub(crate) fn add(&mut self, number: u32, spot: Spot) {
        self.spots.entry(number).or_default().insert(spot);
    }
}

/// Where attempts are fired.
#[derive(Debug)]
pub struct Ground<'a> {
    order: &'a Order,
    run: u32,
    cards: Cards,
    /// The domain interface of each watched network but the first, which is the host's.
    domains: Vec<String>,
    /// What was captured.
    frames: Receiver<Captured>,
    /// What the host took in.
    taken: Receiver<Taken>,
    watches: Vec<Watch>,
    local: Local,
    talk: Talk<'a>,
    seen: Seen,
    /// When a card last sent to everybody.
    last_to_all: BTreeMap<At, Instant>,
}

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How long to listen at the end.
const SETTLE: Duration = Duration::from_millis(700);
/// Between two frames of a card to everybody, below every template's limit of a second.
const BETWEEN_BROADCASTS: Duration = Duration::from_millis(60);

impl<'a> Ground<'a> {
    /// The network `net` (a path) with the servers of `domains` and what sends by `guns`, looked at
    /// from now on. Needs root.
    ///
    /// Errors: a program that looks is missing, or a network cannot be entered.
    pub fn open(
        order: &'a Order,
        run: u32,
        net: &str,
        domains: &[Domain],
        guns: BTreeMap<At, Gun>,
    ) -> Result<Ground<'a>> {
        let mut cards = Cards::default();
        for (at, gun) in guns {
            let machine = order.machine(&order.canaries[at.0].machine);
            let card = machine.and_then(|machine| machine.cards.get(at.1));
            cards.add(at, &card.context("a canary without a card")?.tap, gun);
        }
        let ((to, frames), (into, taken)) = (channel(), channel());
        let mut watches = vec![Watch::start(net, 0, run, cards.taps(), to.clone())?];
        for (at, domain) in domains.iter().enumerate() {
            let net = domain.namespace.to_string_lossy();
            watches.push(Watch::start(&net, at + 1, run, BTreeSet::new(), to.clone())?);
        }
        Ok(Ground {
            order,
            run,
            cards,
            domains: domains.iter().map(|domain| domain.interface.clone()).collect(),
            frames,
            taken,
            watches,
            local: Local::start(net, run, into)?,
            talk: Talk::new(order, run),
            seen: Seen::default(),
            last_to_all: BTreeMap::new(),
        })
    }

    /// Waits until each card sends: a canary may still be starting.
    ///
    /// Errors: one does not within `limit`.
    pub fn await_cards(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let mut silent: BTreeMap<Marker, At> = BTreeMap::new();
        for at in self.cards.all() {
            let marker = self.talk.marker();
            // To nobody: a hardware address that no card has.
            let wire = Wire { from: [2, 0x66, 0, 0, 0, 2], to: [2, 0x66, 0, 0, 0, 3] };
            self.cards.send(at, marker, frame::raw(wire, 0x88b5, &[], marker))?;
            silent.insert(marker, at);
        }
        while let Some((_, (canary, _))) = silent.first_key_value() {
            let Ok(captured) =
                self.frames.recv_timeout(end.saturating_duration_since(Instant::now()))
            else {
                let name = &self.order.canaries[*canary].machine;
                anyhow::bail!("the canary {name} did not send within {} s", limit.as_secs())
            };
            if let Some((at, marker)) = self.left(&captured)? {
                silent.retain(|hello, card| (*hello, *card) != (marker, at));
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
            attempts.iter().map(|a| (a.marker.number, *a)).collect();
        for (done, attempt) in attempts.iter().enumerate() {
            each(done);
            let at = (attempt.canary, attempt.card);
            if attempt.frame[0] & 1 == 1 {
                if let Some(last) = self.last_to_all.get(&at) {
                    std::thread::sleep(BETWEEN_BROADCASTS.saturating_sub(last.elapsed()));
                }
                self.last_to_all.insert(at, Instant::now());
            }
            if let (Some(target), true) =
                (attempt.target, attempt.frame[12..14] == ARP.to_be_bytes())
            {
                self.talk.asks(at, target, attempt.marker.number);
            }
            self.cards.send(at, attempt.marker, attempt.frame.clone())?;
            if !self.until(SENDING, &by_number, Wait::Sent(attempt.marker))? {
                self.seen.unsent.insert(attempt.marker.number);
                continue;
            }
            if talk && attempt.expect == Expect::Connects {
                self.until(ANSWER, &by_number, Wait::Data(attempt.marker.number))?;
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

    /// Takes in what is seen until `wait` is over; false if that took longer than `limit`.
    fn until(
        &mut self,
        limit: Duration,
        attempts: &BTreeMap<u32, &Attempt>,
        wait: Wait,
    ) -> Result<bool> {
        let end = Instant::now() + limit;
        loop {
            while let Ok(Taken { to, marker }) = self.taken.try_recv() {
                self.saw(marker, Spot::Local(to));
            }
            if let Wait::Data(number) = wait
                && self.seen.spots.get(&number).is_some_and(|spots| spots.contains(&Spot::Data))
            {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.frames.recv_timeout(left.min(Duration::from_millis(20))) {
                Ok(captured) => match self.left(&captured)? {
                    Some((_, marker)) if wait == Wait::Sent(marker) => return Ok(true),
                    Some(_) => {}
                    None => self.take(&captured, attempts)?,
                },
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(wait == Wait::Over),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("tcpdump ended"),
            }
        }
    }

    /// The card that a frame of ours just left, and its marker; the next one of that card is sent.
    fn left(&mut self, captured: &Captured) -> Result<Option<(At, Marker)>> {
        if captured.network > 0 || captured.outgoing {
            return Ok(None);
        }
        let Some(at) = self.cards.behind(&captured.interface) else { return Ok(None) };
        let Some(marker) = Marker::find(self.run, &captured.content) else { return Ok(None) };
        self.cards.left(at, marker)?;
        Ok(Some((at, marker)))
    }

    fn saw(&mut self, marker: Marker, spot: Spot) {
        match marker.about() {
            About::Attempt(number) => self.seen.add(number, spot),
            About::Data(number) => self.seen.add(number, Spot::Data),
            About::Talk => {}
        }
    }

    /// Takes in a captured frame that does not come from a card of ours.
    fn take(&mut self, captured: &Captured, attempts: &BTreeMap<u32, &Attempt>) -> Result<()> {
        let marker = Marker::find(self.run, &captured.content);
        let interface = &captured.interface;
        if captured.network > 0 {
            if let (Some(marker), false) = (marker, captured.outgoing) {
                self.saw(marker, Spot::Domain(self.domains[captured.network - 1].clone()));
            }
            return Ok(());
        }
        if let Some(at) = self.cards.behind(interface) {
            let of_another = marker.filter(|marker| match marker.about() {
                About::Attempt(number) | About::Data(number) => {
                    attempts.get(&number).is_none_or(|a| (a.canary, a.card) != at)
                }
                About::Talk => false,
            });
            return match of_another {
                Some(marker) => {
                    self.saw(marker, Spot::Tap(interface.clone()));
                    Ok(())
                }
                None => self.talk.heard(at, captured, attempts, &mut self.seen, &mut self.cards),
            };
        }
        let Some(marker) = marker else { return Ok(()) };
        let is_segment = self.order.wanted.segment(interface).is_some();
        let spot = match (captured.outgoing, is_segment) {
            // On its way inside the host; its end is seen elsewhere.
            (true, true) | (false, false) => return Ok(()),
            _ if interface == "lo" => return Ok(()),
            (false, true) => Spot::Bridge(interface.clone()),
            (true, false) if self.order.behind_tap(interface).is_some() => {
                Spot::Tap(interface.clone())
            }
            (true, false) => Spot::Out(interface.clone()),
        };
        // Bytes over a connection pass the bridge on their way to where it leads.
        let passes = matches!((&spot, marker.about()), (Spot::Bridge(_), About::Data(_)));
        if !passes {
            self.saw(marker, spot);
        }
        Ok(())
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// That this frame leaves its card.
    Sent(Marker),
    /// That bytes arrive over the connection that this attempt has opened.
    Data(u32),
    /// The end of the time.
    Over,
}

//! What a canary's kernel would say, if it had an address: that it is there when somebody asks by ARP,
//! and the rest of a connection that was answered. Whatever else comes to a canary is an answer to
//! something that was tried, or must not be.

use crate::{
    attempts::{Attempt, Expect},
    cards::{At, Cards},
    frame::{self, ARP, FIRST_SEQ, Segment, Wire, mac},
    ground::{Seen, Spot},
    marker::{About, Marker},
    watch::Captured,
};
use anyhow::Result;
use etherparse::{ArpOperation, ArpPacketSlice, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use nonstop_reach::probe::Order;
use std::{collections::BTreeMap, net::Ipv4Addr};

/// What canaries say and hear.
#[derive(Debug)]
pub struct Talk<'a> {
    order: &'a Order,
    run: u32,
    /// How many frames of the conversation there were.
    said: u32,
    /// What a card last asked for by ARP, by address.
    asked: BTreeMap<(At, Ipv4Addr), u32>,
}

/// More that is unexplained is not told one by one.
const TOLD: usize = 50;

impl<'a> Talk<'a> {
    /// The conversation of a run.
    pub fn new(order: &'a Order, run: u32) -> Talk<'a> {
        Talk { order, run, said: 0, asked: BTreeMap::new() }
    }

    /// A marker for a frame that nobody asks for.
    pub fn marker(&mut self) -> Marker {
        self.said += 1;
        Marker::talk(self.run, self.said)
    }

    /// Remembers that the attempt `number` of the card at `at` asks who has `target`.
    pub fn asks(&mut self, at: At, target: Ipv4Addr, number: u32) {
        self.asked.insert((at, target), number);
    }

    /// Something came to the card at `at`: an answer, a question for its address, or what must not be.
    ///
    /// Errors: the answer to it cannot be sent.
    pub fn heard(
        &mut self,
        at: At,
        captured: &Captured,
        attempts: &BTreeMap<u32, &Attempt>,
        seen: &mut Seen,
        cards: &mut Cards,
    ) -> Result<()> {
        if captured.protocol == ARP {
            return self.heard_arp(at, captured, seen, cards);
        }
        // Captures are cut, and a server's answer can be longer than what is kept of it.
        let Ok(packet) = LaxSlicedPacket::from_ip(&captured.content) else {
            self.unexplained(at, &format!("a frame of ethertype {:#06x}", captured.protocol), seen);
            return Ok(());
        };
        let from = match &packet.net {
            Some(LaxNetSlice::Ipv4(ip)) => Some(ip.header().source_addr()),
            _ => None,
        };
        let (port, tcp) = match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) => (Some(tcp.destination_port()), Some(tcp)),
            Some(TransportSlice::Udp(udp)) => (Some(udp.destination_port()), None),
            _ => (None, None),
        };
        let marked = Marker::find(self.run, &captured.content).map(Marker::about);
        let of_card = |attempt: &&&Attempt| (attempt.canary, attempt.card) == at;
        let number = match marked {
            Some(About::Attempt(number) | About::Data(number)) => Some(number),
            // The answer to a frame of the conversation is part of it.
            Some(About::Talk) => return Ok(()),
            None => attempts
                .values()
                .filter(of_card)
                .find(|attempt| Some(attempt.source_port) == port)
                .map(|attempt| attempt.marker.number),
        };
        let Some(number) = number else {
            let what = match &packet.net {
                Some(LaxNetSlice::Ipv6(ip)) => {
                    let header = ip.header();
                    let (from, to) = (header.source_addr(), header.destination_addr());
                    format!("an IPv6 packet of {from} to {to}")
                }
                _ => format!("a packet of {}", from.map_or("somebody".into(), |a| a.to_string())),
            };
            self.unexplained(at, &what, seen);
            return Ok(());
        };
        seen.add(number, Spot::Answer(from));
        match (tcp, attempts.get(&number)) {
            (Some(tcp), Some(attempt))
                if tcp.syn() && tcp.ack() && attempt.expect == Expect::Connects =>
            {
                let ack = tcp.sequence_number().wrapping_add(1);
                self.go_on(at, attempt, tcp.acknowledgment_number(), ack, cards)
            }
            _ => Ok(()),
        }
    }

    fn heard_arp(
        &mut self,
        at: At,
        captured: &Captured,
        seen: &mut Seen,
        cards: &mut Cards,
    ) -> Result<()> {
        let Ok(arp) = ArpPacketSlice::from_slice(&captured.content) else { return Ok(()) };
        let (Some(from), Some(to)) =
            (v4(arp.sender_protocol_addr()), v4(arp.target_protocol_addr()))
        else {
            return Ok(());
        };
        if arp.operation() == ArpOperation::REQUEST {
            return self.be_there(at, arp.sender_hw_addr(), from, to, cards);
        }
        match self.asked.get(&(at, from)) {
            Some(number) => seen.add(*number, Spot::Answer(Some(from))),
            None => self.unexplained(at, &format!("an ARP answer of {from}"), seen),
        }
        Ok(())
    }

    /// Goes through with a connection that was answered: some bytes, and its end.
    fn go_on(
        &mut self,
        at: At,
        attempt: &Attempt,
        seq: u32,
        ack: u32,
        cards: &mut Cards,
    ) -> Result<()> {
        let own = attempt.frame.get(26..30).and_then(v4);
        let (Some(wire), Some(own), Some(target), Some(port)) =
            (wire_of(&attempt.frame), own, attempt.target, attempt.port)
        else {
            return Ok(());
        };
        let (from, to) = ((own, attempt.source_port), (target, port.port));
        let data = attempt.marker.data();
        cards.send(at, data, frame::tcp(wire, from, to, Segment::Ack { seq, ack }, data))?;
        let (end, seq) = (self.marker(), seq.max(FIRST_SEQ).wrapping_add(8));
        cards.send(at, end, frame::tcp(wire, from, to, Segment::Rst { seq }, end))
    }

    /// Answers that the canary is there, if its address was asked for.
    fn be_there(
        &mut self,
        at: At,
        asker: &[u8],
        from: Ipv4Addr,
        asked: Ipv4Addr,
        cards: &mut Cards,
    ) -> Result<()> {
        let machine = self.order.machine(&self.order.canaries[at.0].machine);
        let card = machine.and_then(|machine| machine.cards.get(at.1));
        let Some(card) = card.filter(|card| card.address == Some(asked)) else { return Ok(()) };
        let (Some(mac), Ok(asker)) = (mac(&card.mac), <[u8; 6]>::try_from(asker)) else {
            return Ok(());
        };
        let (wire, marker) = (Wire { from: mac, to: asker }, self.marker());
        let answer = frame::arp(wire, mac, asked, (asker, from), true, marker);
        cards.send(at, marker, answer)
    }

    fn unexplained(&self, at: At, what: &str, seen: &mut Seen) {
        if seen.unexplained.len() < TOLD {
            let machine = &self.order.canaries[at.0].machine;
            seen.unexplained.insert(format!("{what} came to {machine}, card {}", at.1));
        }
    }
}

fn v4(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn wire_of(frame: &[u8]) -> Option<Wire> {
    Some(Wire { to: frame.get(..6)?.try_into().ok()?, from: frame.get(6..12)?.try_into().ok()? })
}

//! A card that sends, and frames of every kind from it.

use super::{Attempt, Expect, Scene, To};
use crate::{
    frame::{self, EVERYBODY, MacBytes, Segment, Wire, arp, ip, ping, raw, tcp, udp},
    marker::Marker,
};
use nonstop_reach::{
    probe::Order,
    question::What,
    wanted::{Card, Port, Protocol},
};
use std::net::Ipv4Addr;

/// GRE, ESP, SCTP, and a number for experiments (RFC 3692).
const OTHER_IP: [u8; 4] = [47, 50, 132, 253];
/// For experiments, PPPoE discovery, profinet, wake-on-LAN, 802.1X.
pub(super) const ETHERTYPES: [u16; 5] = [0x88b5, 0x8863, 0x8892, 0x0842, 0x888e];
/// Machines of researchers beside the canaries that are aimed at: no more than these.
const OTHERS: usize = 12;
const FIRST_SOURCE_PORT: u16 = 20_000;

/// An attempt that has no number yet, and the way to make its frame.
pub(super) struct Draft {
    pub(super) place: (usize, usize),
    pub(super) what: What,
    pub(super) to: To,
    pub(super) label: String,
    pub(super) expect: Expect,
    pub(super) port: Option<Port>,
    pub(super) target: Option<Ipv4Addr>,
    pub(super) make: Box<dyn Fn(Marker, u16) -> Vec<u8>>,
}

impl Draft {
    pub(super) fn finish(self, marker: Marker) -> Attempt {
        let source_port = FIRST_SOURCE_PORT + (marker.number % 40_000) as u16;
        Attempt {
            marker,
            canary: self.place.0,
            card: self.place.1,
            what: self.what,
            to: self.to,
            label: self.label,
            expect: self.expect,
            port: self.port,
            target: self.target,
            source_port,
            frame: (self.make)(marker, source_port),
        }
    }
}

/// A card that sends, and what it has made up so far.
pub(super) struct Sender<'a> {
    pub(super) order: &'a Order,
    pub(super) scene: &'a Scene,
    pub(super) place: (usize, usize),
    pub(super) name: &'a str,
    pub(super) card: &'a Card,
    pub(super) mac: MacBytes,
    pub(super) own: Ipv4Addr,
    /// The hardware address of its bridge: the way to the host.
    pub(super) bridge: MacBytes,
    pub(super) made: Vec<Draft>,
}

impl Sender<'_> {
    pub(super) fn all(&mut self) {
        let others: Vec<usize> = {
            let machines = self.order.wanted.machines.iter().enumerate();
            let others = machines.filter(|(_, machine)| machine.name != self.name);
            let is_canary = |name: &str| self.order.canaries.iter().any(|c| c.machine == name);
            let (canaries, researchers): (Vec<_>, Vec<_>) =
                others.partition(|(_, machine)| is_canary(&machine.name));
            canaries
                .into_iter()
                .chain(researchers.into_iter().take(OTHERS))
                .map(|(n, _)| n)
                .collect()
        };
        for number in others {
            self.machine(number);
        }
        self.gate();
        self.host();
        for number in 0..self.order.wanted.servers.len() {
            self.server(number);
        }
        self.elsewhere();
        self.everybody();
    }

    pub(super) fn add(
        &mut self,
        what: What,
        to: &To,
        label: impl Into<String>,
        target: Option<Ipv4Addr>,
        make: impl Fn(Marker, u16) -> Vec<u8> + 'static,
    ) -> &mut Draft {
        let (place, to, label) = (self.place, to.clone(), label.into());
        let (expect, port, make) = (Expect::Nothing, None, Box::new(make));
        self.made.push(Draft { place, what, to, label, expect, port, target, make });
        self.made.last_mut().expect("pushed")
    }

    pub(super) fn is_link(&self) -> bool {
        self.card.address.is_none()
    }

    pub(super) fn to_bridge(&self) -> Wire {
        Wire { from: self.mac, to: self.bridge }
    }

    pub(super) fn at(&self, to: MacBytes) -> Wire {
        Wire { from: self.mac, to }
    }

    /// IPv4 of every kind over `wire` to `target`.
    pub(super) fn ipv4(
        &mut self,
        to: &To,
        wire: Wire,
        target: Ipv4Addr,
        tcp_ports: &[u16],
        udp_ports: &[u16],
        how: &str,
    ) {
        let own = self.own;
        for port in tcp_ports.iter().copied() {
            let syn = move |m, source| tcp(wire, (own, source), (target, port), Segment::Syn, m);
            let draft =
                self.add(What::Tcp, to, format!("tcp {target}:{port}{how}"), Some(target), syn);
            draft.port = Some(Port { protocol: Protocol::Tcp, port });
        }
        for port in udp_ports.iter().copied() {
            let datagram =
                move |m: Marker, source| udp(wire, (own, source), (target, port), &m.bytes());
            let draft = self.add(
                What::Udp,
                to,
                format!("udp {target}:{port}{how}"),
                Some(target),
                datagram,
            );
            draft.port = Some(Port { protocol: Protocol::Udp, port });
        }
        self.add(What::Icmp, to, format!("ping {target}{how}"), Some(target), move |m, _| {
            ping(wire, own, target, m)
        });
        for protocol in OTHER_IP {
            let label = format!("ip {protocol} to {target}{how}");
            self.add(What::OtherIp, to, label, Some(target), move |m, _| {
                ip(wire, own, target, protocol, 0, m)
            });
        }
        // The host waits for the first one and drops both; so may a bridge that tracks flows.
        let routed = how.is_empty() && !matches!(to, To::Gate | To::Host);
        for protocol in [6, 17].into_iter().filter(|_| routed) {
            let label = format!("later fragment of ip {protocol} to {target}{how}");
            let what = if protocol == 6 { What::Tcp } else { What::Udp };
            self.add(what, to, label, Some(target), move |m, _| {
                ip(wire, own, target, protocol, 8, m)
            });
        }
        let answer = move |m, source| tcp(wire, (own, 3389), (target, source), Segment::SynAck, m);
        self.add(
            What::Answers,
            to,
            format!("an answer to {target} that nobody asked for{how}"),
            Some(target),
            answer,
        );
    }

    /// What is no IPv4, to the hardware address `mac`.
    pub(super) fn frames(&mut self, to: &To, mac: MacBytes, asked: Ipv4Addr) {
        let (wire, own, source) = (self.at(mac), self.own, self.mac);
        for (wire, how) in [(self.at(EVERYBODY), "everybody"), (wire, "it alone")] {
            let label = format!("arp for {asked}, asking {how}");
            let ask = move |m, _| arp(wire, source, own, ([0; 6], asked), false, m);
            self.add(What::Arp, to, label, Some(asked), ask);
        }
        let (ll, theirs) = (frame::link_local(source), frame::link_local(mac));
        self.add(What::Ipv6, to, format!("ping {theirs}"), None, move |m, _| {
            frame::ping6(wire, ll, theirs, m)
        });
        let datagram = move |m, port| frame::udp6(wire, (ll, port), (theirs, 53), m);
        self.add(What::Ipv6, to, format!("udp {theirs}"), None, datagram);
        for ethertype in ETHERTYPES {
            let label = format!("ethertype {ethertype:#06x}");
            self.add(What::OtherEthertype, to, label, None, move |m, _| {
                raw(wire, ethertype, &[], m)
            });
        }
        let tag = move |ethertype| {
            move |m, source| {
                let inner = udp(wire, (own, source), (asked, 53), &Marker::bytes(m));
                frame::tagged(&inner, ethertype, 1)
            }
        };
        for ethertype in [0x8100, 0x88a8] {
            let label = format!("udp to {asked} behind a VLAN tag {ethertype:#06x}");
            self.add(What::OtherEthertype, to, label, None, tag(ethertype));
        }
    }
}

/// A neighbour's address in the same network of sixteen.
pub(super) fn beside(address: Ipv4Addr) -> Ipv4Addr {
    let number = u32::from(address);
    let host = if number & 15 == 5 { 6 } else { 5 };
    Ipv4Addr::from((number & !15) | host)
}

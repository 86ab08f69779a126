//! To other machines, servers, the world beyond, and everybody.

use super::{
    Expect, To,
    sender::{ETHERTYPES, Sender, beside},
};
use crate::{
    frame::{self, EVERYBODY, MacBytes, Segment, Wire, arp, ip, mac, ping, raw, tcp, udp},
    marker::Marker,
};
use nonstop_reach::{
    question::What,
    wanted::{Port, Protocol},
};
use std::net::Ipv4Addr;

const MACHINE_TCP: [u16; 3] = [22, 445, 3389];
const SERVER_TCP: [u16; 4] = [22, 80, 443, 5432];
/// Addresses that are nobody's here: a resolver of the world, and one for documents (RFC 5737).
pub(super) const ELSEWHERE: [Ipv4Addr; 2] =
    [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(203, 0, 113, 9)];
/// Groups that a bridge keeps for itself unless told otherwise: 802.1X, LLDP; and CDP's.
const BRIDGE_GROUPS: [(MacBytes, u16); 3] = [
    ([1, 0x80, 0xc2, 0, 0, 3], 0x0026),
    ([1, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc),
    ([1, 0, 0x0c, 0xcc, 0xcc, 0xcc], 0x0026),
];
/// LLC of the spanning tree.
const LLC: [u8; 3] = [0x42, 0x42, 3];

impl Sender<'_> {
    /// Another machine: over the wire that both are on, or as if there were one.
    pub(super) fn machine(&mut self, number: usize) {
        let machine = &self.order.wanted.machines[number];
        let (name, cards) = (machine.name.clone(), machine.cards.clone());
        let to = To::Machine(name);
        for card in &cards {
            let Some(theirs) = mac(&card.mac) else { continue };
            let peer = self.is_link() && card.segment == self.card.segment;
            let address = card.address.unwrap_or(Ipv4Addr::new(192, 168, 99, 10));
            let before = self.made.len();
            if card.address.is_some() {
                let through = self.to_bridge();
                self.ipv4(&to, through, address, &MACHINE_TCP, &[53, 137], "");
                let (wire, neighbour) = (through, beside(address));
                let spoofed = move |m: Marker, source| {
                    udp(wire, (neighbour, source), (address, 53), &m.bytes())
                };
                if !self.is_link() {
                    let label = format!("udp to {address} as {neighbour}");
                    self.add(What::SpoofedSource, &to, label, Some(address), spoofed);
                }
            }
            self.ipv4(
                &to,
                self.at(theirs),
                address,
                &MACHINE_TCP[..1],
                &[53],
                ", by its hardware address",
            );
            self.frames(&to, theirs, address);
            if peer {
                for draft in &mut self.made[before..] {
                    draft.expect = Expect::Arrives;
                }
            }
            // Under the other's hardware address, to where the other would answer.
            let (wire, own) = (Wire { from: theirs, to: self.bridge }, self.own);
            self.add(
                What::SpoofedMac,
                &to,
                format!("ping {address} as {}", card.mac),
                Some(address),
                move |m, _| ping(wire, own, address, m),
            );
            let wire = Wire { from: theirs, to: EVERYBODY };
            self.add(
                What::SpoofedMac,
                &to,
                format!("ethertype 0x88b5 as {}", card.mac),
                None,
                move |m, _| raw(wire, 0x88b5, &[], m),
            );
        }
    }

    /// A server of a data domain.
    pub(super) fn server(&mut self, number: usize) {
        let server = &self.order.wanted.servers[number];
        let (to, address) = (To::Server(server.name.clone()), server.address);
        let machine = self.order.machine(self.name);
        let reach = machine.map(|machine| machine.reach.clone()).unwrap_or_default();
        let mine: Vec<Port> = match self.is_link() {
            true => Vec::new(),
            false => reach.iter().filter(|r| r.address == address).map(|r| r.port).collect(),
        };
        let all = self.order.wanted.machines.iter().flat_map(|machine| &machine.reach);
        let all: Vec<Port> = all.filter(|r| r.address == address).map(|r| r.port).collect();
        let of = |protocol, usual: &[u16]| -> Vec<u16> {
            let named = all.iter().filter(|port| port.protocol == protocol).map(|port| port.port);
            let mut ports: Vec<u16> = usual.iter().copied().chain(named).collect();
            ports.sort_unstable();
            ports.dedup();
            ports
        };
        let before = self.made.len();
        let wire = self.to_bridge();
        self.ipv4(
            &to,
            wire,
            address,
            &of(Protocol::Tcp, &SERVER_TCP),
            &of(Protocol::Udp, &[53]),
            "",
        );
        for draft in &mut self.made[before..] {
            if let Some(port) = draft.port.filter(|port| mine.contains(port)) {
                draft.expect = match port.protocol {
                    Protocol::Tcp => Expect::Connects,
                    Protocol::Udp => Expect::Arrives,
                };
            }
        }
        let port = all.first().map_or(80, |port| port.port);
        let neighbour = beside(self.own);
        if !self.is_link() {
            let spoofed =
                move |m, source| tcp(wire, (neighbour, source), (address, port), Segment::Syn, m);
            let label = format!("tcp {address}:{port} as {neighbour}");
            self.add(What::SpoofedSource, &to, label, Some(address), spoofed);
        }
        let (foreign, own) = (Wire { from: [2, 0x66, 0, 0, 0, 1], to: self.bridge }, self.own);
        let spoofed =
            move |m, source| tcp(foreign, (own, source), (address, port), Segment::Syn, m);
        let label = format!("tcp {address}:{port} under another hardware address");
        self.add(What::SpoofedMac, &to, label, Some(address), spoofed);
        let (all, mac) = (self.at(EVERYBODY), self.mac);
        let ask = move |m, _| arp(all, mac, own, ([0; 6], address), false, m);
        self.add(What::Arp, &to, format!("arp for {address}"), Some(address), ask);
    }

    /// What is nobody's here.
    pub(super) fn elsewhere(&mut self) {
        for target in ELSEWHERE {
            self.ipv4(&To::Elsewhere, self.to_bridge(), target, &[80, 443], &[53, 123, 443], "");
        }
    }

    /// Broadcasts, groups, and news that nobody asked for.
    pub(super) fn everybody(&mut self) {
        let (all, mac, own) = (self.at(EVERYBODY), self.mac, self.own);
        let to = To::Everybody;
        let subnet = Ipv4Addr::from(u32::from(own) | 15);
        let segments = self.order.wanted.segments.iter().filter(|s| s.bridge != self.card.segment);
        let others = segments.filter_map(|s| s.host.map(|(_, net)| net.broadcast())).take(2);
        for target in [Ipv4Addr::BROADCAST, subnet].into_iter().chain(others) {
            let datagram =
                move |m: Marker, source| udp(all, (own, source), (target, 138), &m.bytes());
            self.add(What::Broadcast, &to, format!("udp {target}:138"), Some(target), datagram);
        }
        for (group, port) in
            [([224, 0, 0, 251], 5353), ([239, 255, 255, 250], 1900), ([224, 0, 0, 252], 5355)]
        {
            let target = Ipv4Addr::from(group);
            let wire = self.at([1, 0, 0x5e, group[1] & 0x7f, group[2], group[3]]);
            let datagram =
                move |m: Marker, source| udp(wire, (own, source), (target, port), &m.bytes());
            self.add(What::Broadcast, &to, format!("udp {target}:{port}"), Some(target), datagram);
        }
        let routers = Ipv4Addr::new(224, 0, 0, 22);
        let wire = self.at([1, 0, 0x5e, 0, 0, 22]);
        self.add(What::Broadcast, &to, "igmp", Some(routers), move |m, _| {
            ip(wire, own, routers, 2, 0, m)
        });
        let claimed = self.order.gate(self.card);
        if let Some(gate) = claimed {
            let claim = move |m, _| arp(all, mac, gate, (EVERYBODY, gate), true, m);
            self.add(
                What::SpoofedSource,
                &to,
                format!("arp: says that it is {gate}"),
                Some(gate),
                claim,
            );
        }
        let tell = move |m, _| arp(all, mac, own, ([0; 6], own), false, m);
        self.add(What::Arp, &to, "arp: tells its own address", Some(own), tell);
        let ll = frame::link_local(mac);
        let nodes = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let wire = self.at([0x33, 0x33, 0, 0, 0, 1]);
        self.add(What::Ipv6, &to, format!("ping {nodes}"), None, move |m, _| {
            frame::ping6(wire, ll, nodes, m)
        });
        let dns6 = move |m, port| frame::udp6(wire, (ll, port), (nodes, 5353), m);
        self.add(What::Ipv6, &to, format!("udp {nodes}:5353"), None, dns6);
        for bridge in self.scene.bridges.values().take(3).copied().collect::<Vec<_>>() {
            let asked = frame::link_local(bridge);
            let wire = self.at([0x33, 0x33, 0xff, bridge[3], bridge[4], bridge[5]]);
            let ask = move |m, _| frame::solicit6(wire, ll, asked, m);
            self.add(What::Ipv6, &to, format!("who has {asked}"), None, ask);
        }
        for ethertype in ETHERTYPES {
            let label = format!("ethertype {ethertype:#06x} to all");
            self.add(What::OtherEthertype, &to, label, None, move |m, _| {
                raw(all, ethertype, &[], m)
            });
        }
        for (mac, ethertype) in BRIDGE_GROUPS {
            let wire = self.at(mac);
            let label = format!("ethertype {ethertype:#06x} to a group of bridges");
            let before = if ethertype < 0x600 { &LLC[..] } else { &[] };
            self.add(What::OtherEthertype, &to, label, None, move |m, _| {
                raw(wire, ethertype, before, m)
            });
        }
        let foreign = Wire { from: [2, 0x66, 0, 0, 0, 1], to: EVERYBODY };
        let label = "ethertype 0x88b5 to all under another hardware address";
        self.add(What::SpoofedMac, &to, label, None, move |m, _| raw(foreign, 0x88b5, &[], m));
    }
}

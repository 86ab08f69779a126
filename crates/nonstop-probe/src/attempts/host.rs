//! To the host: on the sender's own segment, where some of it is allowed, and at its other addresses.

use super::{
    Expect, To,
    sender::{Sender, beside},
    targets::ELSEWHERE,
};
use crate::{
    frame::{self, Dhcp, EVERYBODY, Segment, Wire, arp, dns, ping, tcp, udp},
    marker::Marker,
};
use nonstop_reach::{
    question::What,
    wanted::{Port, Protocol},
};
use std::net::Ipv4Addr;

/// Ports of the host that would be worth reaching: SSH, DNS, HTTP, RPC, HTTPS, SMB, RDP, the gateway's
/// and the portal's usual ones, libvirt.
const HOST_TCP: [u16; 11] = [22, 53, 80, 111, 443, 445, 3389, 8080, 8022, 16509, 16514];
const HOST_UDP: [u16; 7] = [53, 67, 69, 123, 161, 1900, 5353];

impl Sender<'_> {
    /// The host on the segment of the card.
    pub(super) fn gate(&mut self) {
        let Some(gate) = self.order.gate(self.card) else { return };
        let (wire, own, mac) = (self.to_bridge(), self.own, self.mac);
        let machine = self.order.machine(self.name);
        let reach = machine.map(|machine| machine.reach.clone()).unwrap_or_default();
        let services: Vec<Port> =
            reach.iter().filter(|r| r.address == gate).map(|r| r.port).collect();
        let of = |protocol, usual: &[u16]| -> Vec<u16> {
            let more =
                services.iter().filter(|port| port.protocol == protocol).map(|port| port.port);
            let mut ports: Vec<u16> = usual.iter().copied().chain(more).collect();
            ports.sort_unstable();
            ports.dedup();
            ports
        };
        let before = self.made.len();
        self.ipv4(
            &To::Gate,
            wire,
            gate,
            &of(Protocol::Tcp, &HOST_TCP),
            &of(Protocol::Udp, &HOST_UDP),
            "",
        );
        for draft in &mut self.made[before..] {
            let Some(port) = draft.port else { continue };
            let dns = port.port == 53;
            draft.expect = match port.protocol {
                Protocol::Tcp if dns || services.contains(&port) => Expect::Connects,
                Protocol::Udp if dns || services.contains(&port) => Expect::Arrives,
                Protocol::Tcp | Protocol::Udp => Expect::Nothing,
            };
        }
        let before = self.made.len();
        self.frames(&To::Gate, self.bridge, gate);
        for draft in self.made[before..].iter_mut().filter(|draft| draft.what == What::Arp) {
            draft.expect = Expect::Answered;
        }
        let neighbour = beside(own);
        let spoofed = move |m, source| tcp(wire, (neighbour, source), (gate, 53), Segment::Syn, m);
        self.add(
            What::SpoofedSource,
            &To::Gate,
            format!("tcp {gate}:53 as {neighbour}"),
            Some(gate),
            spoofed,
        );
        let told = move |m, _| arp(wire, mac, neighbour, ([0; 6], gate), false, m);
        self.add(
            What::SpoofedSource,
            &To::Gate,
            format!("arp for {gate} as {neighbour}"),
            Some(gate),
            told,
        );
        let foreign = Wire { from: [2, 0x66, 0, 0, 0, 1], to: self.bridge };
        self.add(
            What::SpoofedMac,
            &To::Gate,
            format!("ping {gate} under another hardware address"),
            Some(gate),
            move |m, _| ping(foreign, own, gate, m),
        );
        self.names(gate);
        self.leases(gate);
    }

    /// Questions for names: those of the reach, and such as nobody may ask the world.
    pub(super) fn names(&mut self, gate: Ipv4Addr) {
        let (wire, own) = (self.to_bridge(), self.own);
        let to_port = Some(Port { protocol: Protocol::Udp, port: 53 });
        let servers: Vec<String> =
            self.order.wanted.servers.iter().map(|s| s.name.clone()).collect();
        let random = |m: Marker| format!("x{}.example.com", m.text());
        let ask = move |m, source| udp(wire, (own, source), (gate, 53), &dns(&random(m), m));
        let draft =
            self.add(What::Udp, &To::Gate, "dns for a name that nobody knows", Some(gate), ask);
        (draft.expect, draft.port) = (Expect::Answered, to_port);
        for server in servers.into_iter().take(2) {
            let label = format!("dns for {server}");
            let ask = move |m, source| udp(wire, (own, source), (gate, 53), &dns(&server, m));
            let draft = self.add(What::Udp, &To::Gate, label, Some(gate), ask);
            (draft.expect, draft.port) = (Expect::Answered, to_port);
        }
        for resolver in ELSEWHERE {
            let ask =
                move |m, source| udp(wire, (own, source), (resolver, 53), &dns(&random(m), m));
            let draft = self.add(
                What::Udp,
                &To::Elsewhere,
                format!("dns by {resolver}"),
                Some(resolver),
                ask,
            );
            draft.port = to_port;
        }
    }

    /// Asking for addresses as itself and as another, and offering some.
    pub(super) fn leases(&mut self, gate: Ipv4Addr) {
        let (mac, own, all) = (self.mac, self.own, self.at(EVERYBODY));
        let (nobody, everybody) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
        let other = [mac[0], mac[1], mac[2], mac[3], mac[4] ^ 0x40, mac[5]];
        let to_port = Some(Port { protocol: Protocol::Udp, port: 67 });
        let discover = move |m, _| {
            udp(all, (nobody, 68), (everybody, 67), &frame::dhcp(mac, Dhcp::Discover, m))
        };
        let draft = self.add(
            What::Broadcast,
            &To::Gate,
            "dhcp: asks for its address",
            Some(everybody),
            discover,
        );
        (draft.expect, draft.port) = (Expect::Answered, to_port);
        // The host hears them, and what it makes of them is dnsmasq's: known cards get their own alone.
        for (label, card, message) in [
            ("dhcp: asks for the address of another card", other, Dhcp::Discover),
            ("dhcp: asks for the host's address", mac, Dhcp::Request(gate)),
        ] {
            let ask =
                move |m, _| udp(all, (nobody, 68), (everybody, 67), &frame::dhcp(card, message, m));
            let draft = self.add(What::Broadcast, &To::Gate, label, Some(everybody), ask);
            (draft.expect, draft.port) = (Expect::Arrives, to_port);
        }
        let offer = move |m, _| {
            udp(all, (own, 67), (everybody, 68), &frame::dhcp(mac, Dhcp::Offer(own), m))
        };
        self.add(
            What::Broadcast,
            &To::Everybody,
            "dhcp: offers an address",
            Some(everybody),
            offer,
        );
    }

    /// The host's other addresses; on a link, all of them.
    pub(super) fn host(&mut self) {
        let gate = self.order.gate(self.card);
        let own = self.scene.host.iter().map(|(_, address)| *address);
        let targets: Vec<Ipv4Addr> = own.filter(|address| Some(*address) != gate).collect();
        for target in targets {
            self.ipv4(&To::Host, self.to_bridge(), target, &HOST_TCP, &HOST_UDP, "");
            let (wire, mac, own) = (self.at(EVERYBODY), self.mac, self.own);
            let ask = move |m, _| arp(wire, mac, own, ([0; 6], target), false, m);
            self.add(What::Arp, &To::Host, format!("arp for {target}"), Some(target), ask);
            let asleep =
                move |m, _| arp(wire, mac, Ipv4Addr::UNSPECIFIED, ([0; 6], target), false, m);
            self.add(
                What::Arp,
                &To::Host,
                format!("arp for {target} from nobody"),
                Some(target),
                asleep,
            );
        }
        if gate.is_none() {
            let asked =
                self.scene.host.iter().map(|(_, address)| *address).find(|a| !a.is_loopback());
            self.frames(&To::Host, self.bridge, asked.unwrap_or(Ipv4Addr::LOCALHOST));
        }
    }
}

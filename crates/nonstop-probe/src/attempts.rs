//! What is tried: for each card of each canary, frames to every other machine, the gateway, the
//! host's other addresses, every server, the world beyond, and everybody, of every kind that a cell
//! of the matrix asks about.

use crate::frame::{
    self, Dhcp, EVERYBODY, MacBytes, Marker, Segment, Wire, arp, dns, ip, mac, ping, raw, tcp, udp,
};
use nonstop_reach::{
    kernel::Kernel,
    probe::Order,
    question::What,
    wanted::{Card, Port, Protocol},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

/// To whom a frame is meant to go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// A machine.
    Machine(String),
    /// A server of a data domain.
    Server(String),
    /// The host on the sender's own segment.
    Gate,
    /// The host at any other address, or on a segment where it should be nobody.
    Host,
    /// Beyond the lab.
    Elsewhere,
    /// Whoever hears it.
    Everybody,
}

/// What must become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It arrives nowhere that the lab does not allow.
    Nothing,
    /// It arrives.
    Arrives,
    /// It is answered.
    Answered,
    /// It opens a connection, by which bytes arrive.
    Connects,
}

/// One frame that is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its mark.
    pub marker: Marker,
    /// The canary, by its number in the order.
    pub canary: usize,
    /// Its card.
    pub card: usize,
    /// What it is.
    pub what: What,
    /// To whom.
    pub to: To,
    /// In words.
    pub label: String,
    /// What must become of it.
    pub expect: Expect,
    /// The port that it is for, if the protocol has ports.
    pub port: Option<Port>,
    /// The address that it is for, if it has one.
    pub target: Option<Ipv4Addr>,
    /// Its source port, by which an answer is known.
    pub source_port: u16,
    /// The frame.
    pub frame: Vec<u8>,
}

/// Of the host, what frames are made of.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// Hardware addresses of bridges.
    pub bridges: BTreeMap<String, MacBytes>,
    /// The host's IPv4 addresses, with the interface of each.
    pub host: Vec<(String, Ipv4Addr)>,
}

impl Scene {
    /// From what was read of the kernel.
    pub fn of(kernel: &Kernel) -> Scene {
        // One without ports has none, and nobody can send to it.
        let has_mac = |text: &str| mac(text).is_some_and(|mac| mac != [0; 6]);
        let bridges =
            kernel.links.iter().filter(|link| link.bridge.is_some() && has_mac(&link.mac));
        let v4 = |address: &nonstop_reach::kernel::Address| match address.address.addr() {
            IpAddr::V4(v4) => Some((address.interface.clone(), v4)),
            IpAddr::V6(_) => None,
        };
        Scene {
            bridges: bridges
                .filter_map(|link| Some((link.name.clone(), mac(&link.mac)?)))
                .collect(),
            host: kernel.addresses.iter().filter_map(v4).collect(),
        }
    }
}

/// Ports of the host that would be worth reaching: SSH, DNS, HTTP, RPC, HTTPS, SMB, RDP, the gateway's
/// and the portal's usual ones, libvirt.
const HOST_TCP: [u16; 11] = [22, 53, 80, 111, 443, 445, 3389, 8080, 8022, 16509, 16514];
const HOST_UDP: [u16; 7] = [53, 67, 69, 123, 161, 1900, 5353];
const MACHINE_TCP: [u16; 3] = [22, 445, 3389];
const SERVER_TCP: [u16; 4] = [22, 80, 443, 5432];
/// GRE, ESP, SCTP, and a number for experiments (RFC 3692).
const OTHER_IP: [u8; 4] = [47, 50, 132, 253];
/// For experiments, PPPoE discovery, profinet, wake-on-LAN, 802.1X.
const ETHERTYPES: [u16; 5] = [0x88b5, 0x8863, 0x8892, 0x0842, 0x888e];
/// Addresses that are nobody's here: a resolver of the world, and one for documents (RFC 5737).
const ELSEWHERE: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(203, 0, 113, 9)];
/// Groups that a bridge keeps for itself unless told otherwise: 802.1X, LLDP; and CDP's.
const BRIDGE_GROUPS: [(MacBytes, u16); 3] = [
    ([1, 0x80, 0xc2, 0, 0, 3], 0x0026),
    ([1, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc),
    ([1, 0, 0x0c, 0xcc, 0xcc, 0xcc], 0x0026),
];
/// LLC of the spanning tree.
const LLC: [u8; 3] = [0x42, 0x42, 3];
/// Machines of researchers beside the canaries that are aimed at: no more than these.
const OTHERS: usize = 12;
const FIRST_SOURCE_PORT: u16 = 20_000;

/// Everything that `order` tries in `scene`, in an order in which no card sends many in a row.
pub fn attempts(order: &Order, scene: &Scene, run: u32) -> Vec<Attempt> {
    let mut by_sender: Vec<Vec<Draft>> = Vec::new();
    for (canary, of) in order.canaries.iter().enumerate() {
        let Some(machine) = order.machine(&of.machine) else { continue };
        for (card, of) in machine.cards.iter().enumerate() {
            let Some(mac) = mac(&of.mac) else { continue };
            let mut sender = Sender {
                order,
                scene,
                place: (canary, card),
                name: &machine.name,
                card: of,
                mac,
                // On a link it gives itself one.
                own: of.address.unwrap_or(Ipv4Addr::new(192, 168, 99, 100 + canary as u8)),
                bridge: scene.bridges.get(&of.segment).copied().unwrap_or(EVERYBODY),
                made: Vec::new(),
            };
            sender.all();
            by_sender.push(sender.made);
        }
    }
    let mut senders: Vec<_> = by_sender.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    loop {
        let before = all.len();
        for drafts in &mut senders {
            if let Some(draft) = drafts.next() {
                let number = all.len() as u32;
                all.push(draft.finish(Marker { run, attempt: number }));
            }
        }
        if all.len() == before {
            return all;
        }
    }
}

/// An attempt that has no number yet, and the way to make its frame.
struct Draft {
    place: (usize, usize),
    what: What,
    to: To,
    label: String,
    expect: Expect,
    port: Option<Port>,
    target: Option<Ipv4Addr>,
    make: Box<dyn Fn(Marker, u16) -> Vec<u8>>,
}

impl Draft {
    fn finish(self, marker: Marker) -> Attempt {
        let source_port = FIRST_SOURCE_PORT + (marker.attempt % 40_000) as u16;
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
struct Sender<'a> {
    order: &'a Order,
    scene: &'a Scene,
    place: (usize, usize),
    name: &'a str,
    card: &'a Card,
    mac: MacBytes,
    own: Ipv4Addr,
    /// The hardware address of its bridge: the way to the host.
    bridge: MacBytes,
    made: Vec<Draft>,
}

impl Sender<'_> {
    fn all(&mut self) {
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

    fn add(
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

    fn is_link(&self) -> bool {
        self.card.address.is_none()
    }

    fn to_bridge(&self) -> Wire {
        Wire { from: self.mac, to: self.bridge }
    }

    fn at(&self, to: MacBytes) -> Wire {
        Wire { from: self.mac, to }
    }

    /// IPv4 of every kind over `wire` to `target`.
    fn ipv4(
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
    fn frames(&mut self, to: &To, mac: MacBytes, asked: Ipv4Addr) {
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

    /// Another machine: over the wire that both are on, or as if there were one.
    fn machine(&mut self, number: usize) {
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

    /// The host on the segment of the card.
    fn gate(&mut self) {
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
    fn names(&mut self, gate: Ipv4Addr) {
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
    fn leases(&mut self, gate: Ipv4Addr) {
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
    fn host(&mut self) {
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

    /// A server of a data domain.
    fn server(&mut self, number: usize) {
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
    fn elsewhere(&mut self) {
        for target in ELSEWHERE {
            self.ipv4(&To::Elsewhere, self.to_bridge(), target, &[80, 443], &[53, 123, 443], "");
        }
    }

    /// Broadcasts, groups, and news that nobody asked for.
    fn everybody(&mut self) {
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

/// A neighbour's address in the same network of sixteen.
fn beside(address: Ipv4Addr) -> Ipv4Addr {
    let number = u32::from(address);
    let host = if number & 15 == 5 { 6 } else { 5 };
    Ipv4Addr::from((number & !15) | host)
}

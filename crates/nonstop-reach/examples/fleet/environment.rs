//! The environments of the fleet: half of them are macros, half are pairs of debugger and debuggee.

use nonstop_host::firewall::FirewallConfig;
use nonstop_model::{
    EnvironmentId, Mac, MachineId, NetworkLimits, Protocol, SegmentName,
    network::{self, Segment, SegmentKind, Slot},
};
use nonstop_plan::Grant;
use nonstop_reach::wanted::{self, Card, Machine, Port, Reach, Server, Wanted};
use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

/// The interface of the data domain.
pub(crate) const DOMAIN: &str = "nsd0";

/// Name, last byte of the address, protocol and port of each of its servers.
const SERVERS: [(&str, u8, Protocol, u16); 4] = [
    ("reports", 2, Protocol::Tcp, 80),
    ("pcap", 3, Protocol::Tcp, 80),
    ("rdb", 4, Protocol::Tcp, 5432),
    ("live", 5, Protocol::Udp, 7000),
];

/// Where the airlock answers, at the host's address of each segment.
const AIRLOCK: u16 = 8080;

const LEASE: Option<Duration> = Some(Duration::from_secs(3600));

/// The first number of a debuggee.
const DEBUGGEES: u32 = 50_000;

/// One environment of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Environment(pub(crate) u32);

pub(crate) fn server(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 80, 0, last)
}

/// What the rules are made of.
pub(crate) fn config() -> FirewallConfig {
    let servers = SERVERS.iter().map(|(_, last, ..)| server(*last));
    FirewallConfig {
        gateway: "0.0.0.0:22".parse().expect("an address"),
        connections_per_source: 64,
        new_per_minute: 60,
        pool: "10.128.0.0/9".parse().expect("a network"),
        domains: BTreeMap::from([(DOMAIN.to_string(), servers.collect())]),
        airlock_port: 8443,
        program_uids: vec![300, 301],
        dnsmasq_uids: vec![110],
        display_uids: 60_000..=60_999,
        machine_uids: 100_000..=199_999,
        account_uids: 70_000..=89_999,
    }
}

impl Environment {
    /// Whether it is a debugger with its debuggee, and not a macro.
    fn is_pair(self) -> bool {
        self.0.is_multiple_of(2)
    }

    pub(crate) fn segment(self) -> Segment {
        Segment::new(EnvironmentId(self.0), config().pool, Slot(self.0)).expect("in the pool")
    }

    fn link(self) -> String {
        SegmentName::of_kind(SegmentKind::Link, EnvironmentId(self.0)).to_string()
    }

    /// The machine on the access segment.
    fn analyst(self) -> MachineId {
        MachineId(self.0)
    }

    fn debuggee(self) -> MachineId {
        MachineId(DEBUGGEES + self.0)
    }

    /// The analyst's card.
    pub(crate) fn card(self) -> Card {
        let (machine, segment) = (self.analyst(), self.segment());
        Card {
            tap: network::tap(machine),
            mac: Mac::of(machine).to_string(),
            address: Some(segment.machine(0)),
            segment: segment.name.to_string(),
        }
    }

    fn link_card(self, machine: MachineId) -> Card {
        let (tap, mac) = (network::link_tap(machine), Mac::of_link(machine).to_string());
        Card { segment: self.link(), tap, mac, address: None }
    }

    /// Where the analyst may connect to.
    pub(crate) fn reach(self) -> Vec<(Ipv4Addr, Protocol, u16)> {
        let servers = if self.is_pair() { &SERVERS[..1] } else { &SERVERS[1..] };
        let servers =
            servers.iter().map(|(_, last, protocol, port)| (server(*last), *protocol, *port));
        std::iter::once((self.segment().host(), Protocol::Tcp, AIRLOCK)).chain(servers).collect()
    }

    /// All of its rights: its cards, what they reach, its person's portal and desktops.
    pub(crate) fn rights(self) -> Vec<(Grant, Option<Duration>)> {
        let machine = self.analyst();
        let (source, limits) = (self.segment().machine(0), NetworkLimits::default());
        let mut all = vec![(Grant::Port { machine, address: source, limits }, None)];
        for (address, protocol, port) in self.reach() {
            let environment = EnvironmentId(self.0);
            all.push((
                Grant::Reach { machine, environment, source, address, protocol, port },
                LEASE,
            ));
        }
        let (uid, own) = (70_000 + self.0, Ipv4Addr::from(0x7f40_0000 + self.0));
        all.push((Grant::Portal { uid, address: own, port: 8080 }, LEASE));
        let mut machines = vec![machine];
        if self.is_pair() {
            machines.push(self.debuggee());
            let broadcasts_a_second = limits.broadcasts_a_second;
            all.extend(
                machines
                    .iter()
                    .map(|machine| (Grant::Link { machine: *machine, broadcasts_a_second }, None)),
            );
        }
        all.extend(machines.into_iter().map(|machine| {
            let (address, port) = (network::display_address(machine), network::RDP_PORT);
            (Grant::Desktop { uid, address, port }, LEASE)
        }));
        all
    }

    fn want(self, wanted: &mut Wanted) {
        let segment = self.segment();
        let (bridge, host) = (segment.name.to_string(), Some((segment.host(), segment.net)));
        wanted.segments.push(wanted::Segment { bridge, host });
        let (mut cards, mut role) = (vec![self.card()], "analyst");
        if self.is_pair() {
            wanted.segments.push(wanted::Segment { bridge: self.link(), host: None });
            cards.push(self.link_card(self.analyst()));
            role = "debugger";
        }
        let reach = self.reach().into_iter().map(|(address, protocol, port)| {
            let protocol = match protocol {
                Protocol::Tcp => wanted::Protocol::Tcp,
                Protocol::Udp => wanted::Protocol::Udp,
            };
            Reach { address, port: Port { protocol, port } }
        });
        let named = |role, cards, reach| Machine {
            name: format!("e{}/{role}", self.0),
            running: true,
            edition: Some(DOMAIN.into()),
            cards,
            reach,
            ..Machine::default()
        };
        wanted.machines.push(named(role, cards, reach.collect()));
        if self.is_pair() {
            let cards = vec![self.link_card(self.debuggee())];
            wanted.machines.push(named("debuggee", cards, Vec::new()));
        }
    }
}

/// What a lab with the first `count` environments wants, but for rules and sets.
pub(crate) fn wanted(count: u32) -> Wanted {
    let server = |(name, last, ..): &(&str, u8, Protocol, u16)| Server {
        name: (*name).into(),
        address: server(*last),
        domain: DOMAIN.into(),
        interface: DOMAIN.into(),
        stand_in: true,
    };
    let mut wanted = Wanted {
        domains: vec![DOMAIN.into()],
        servers: SERVERS.iter().map(server).collect(),
        ..Wanted::default()
    };
    (1..=count).for_each(|n| Environment(n).want(&mut wanted));
    wanted
}

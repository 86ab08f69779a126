//! The matrix: for every sender and every target, what is allowed, what gets through, and the
//! rule that decides.

mod allowed;
mod judge;
mod meet;

use crate::{
    evaluate::LocalTypes,
    extent::Extent,
    host::Host,
    operand::fib,
    packets::{Field, Packets, ethertype, track},
    question::{Sender, What},
    value::{self, Ranges},
    walk::{self, End, Fate},
    wanted::{DHCP_CLIENT, DNS, Machine, Port, Protocol, Server, Wanted},
};
use allowed::opened;
use judge::Row;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

/// A cell in which something is allowed or gets through, or in which nothing could be proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Who sends.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What.
    pub what: What,
    /// What may get through: ports, `yes`, `all`, or `-`.
    pub allowed: String,
    /// What does.
    pub reachable: String,
    /// Why it could not be proven, if so.
    pub not_proven: Option<String>,
    /// Whether the two agree.
    pub agrees: bool,
    /// The rule that decides.
    pub rule: String,
}

/// Cells in which nothing is allowed and nothing gets through, by what decides them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Who sends.
    pub from: String,
    /// What.
    pub what: What,
    /// The rule that decides.
    pub rule: String,
    /// How many targets.
    pub count: usize,
    /// Which, where they are few enough to be listed one by one.
    pub to: Vec<String>,
}

/// More machines than this are not listed one by one where nothing gets through.
pub const LISTED: usize = 300;

/// The whole matrix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// Where something is allowed, gets through, or is in doubt.
    pub cells: Vec<Cell>,
    /// The rest.
    pub closed: Vec<Closed>,
}

/// The host's addresses other than the one of the sender's own segment, and what it does with
/// frames that no segment has a use for.
pub const HOST: &str = "host";
/// The host at its address of the sender's own access segment.
pub const GATE: &str = "host on its segment";
/// Anything that is none of the lab's.
pub const ELSEWHERE: &str = "elsewhere";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Machine(usize),
    Server(usize),
    Gate,
    Host,
    Elsewhere,
}

/// The matrix of what `wanted` allows and what `host` lets through.
pub fn matrix(host: &Host<'_>, wanted: &Wanted) -> Matrix {
    let mut making = Making::new(host, wanted);
    for number in 0..wanted.machines.len() {
        making.machine(number);
    }
    let mut interfaces: BTreeSet<&str> = wanted.domains.iter().map(String::as_str).collect();
    interfaces.extend(wanted.servers.iter().map(|server| &*server.interface));
    for interface in &interfaces {
        making.domain(interface);
    }
    for link in &host.kernel.links {
        let ours = making.is_ours(&link.name) || interfaces.contains(&*link.name);
        let behind_ours = link.master.as_deref().is_some_and(|master| interfaces.contains(master));
        if link.up && !ours && !behind_ours && link.name != "lo" && link.master.is_none() {
            making.outside(&link.name);
        }
    }
    for number in 0..wanted.machines.len() {
        making.programs(number);
    }
    making.matrix
}

struct Making<'a> {
    host: &'a Host<'a>,
    wanted: &'a Wanted,
    matrix: Matrix,
    taps: HashMap<u128, usize>,
    by_address: BTreeMap<u128, usize>,
    /// Machines by the link bridge they stand on.
    on_link: HashMap<&'a str, Vec<usize>>,
    segments: HashMap<&'a str, Option<Ipv4Addr>>,
    /// The host's addresses on access segments, and those of groups.
    at_gates: Ranges,
    /// Its other addresses.
    at_host: Ranges,
    /// Addresses of neither the host nor a machine.
    at_others: Ranges,
    /// The names of taps.
    tap_names: Ranges,
    /// The addresses of machines.
    addresses: Ranges,
}

impl<'a> Making<'a> {
    fn new(host: &'a Host<'a>, wanted: &'a Wanted) -> Making<'a> {
        let segments: HashMap<&str, Option<Ipv4Addr>> = wanted
            .segments
            .iter()
            .map(|segment| (&*segment.bridge, segment.host.map(|(address, _)| address)))
            .collect();
        let mut making = Making {
            host,
            wanted,
            matrix: Matrix::default(),
            taps: HashMap::new(),
            by_address: BTreeMap::new(),
            on_link: HashMap::new(),
            at_gates: Ranges::empty(),
            at_host: Ranges::empty(),
            at_others: Ranges::empty(),
            tap_names: Ranges::empty(),
            addresses: Ranges::empty(),
            segments,
        };
        for (number, machine) in wanted.machines.iter().enumerate() {
            for card in &machine.cards {
                making.taps.insert(value::name(&card.tap), number);
                if let Some(address) = card.address {
                    making.by_address.insert(u32::from(address).into(), number);
                }
                if making.segments.get(&*card.segment) == Some(&None) {
                    making.on_link.entry(&card.segment).or_default().push(number);
                }
            }
        }
        making.addresses = Ranges::values(making.by_address.keys().copied());
        making.tap_names = Ranges::values(making.taps.keys().copied());
        let gates = making.segments.values().flatten();
        let gates = Ranges::values(gates.map(|address| u32::from(*address).into()));
        making.at_gates = gates.or(host.many());
        making.at_host = host.addresses(fib::LOCAL, None).minus(&gates);
        making.at_others = Field::Target.any().minus(&host.own().or(&making.addresses));
        making
    }

    fn is_ours(&self, interface: &str) -> bool {
        self.segments.contains_key(interface) || self.taps.contains_key(&value::name(interface))
    }

    fn machine(&mut self, number: usize) {
        let machine = &self.wanted.machines[number];
        let parts = machine.cards.iter().map(|card| {
            let sender = Sender::new(&card.mac, card.address);
            (sender, walk::from_port(self.host, &card.tap, Packets::all()))
        });
        let row = Row::new(self.host, machine.name.clone(), parts);
        let mut targets: BTreeSet<Target> = BTreeSet::from([Target::Host, Target::Elsewhere]);
        for end in row.ends() {
            self.targets(end, &mut targets);
        }
        targets.remove(&Target::Machine(number));
        for card in &machine.cards {
            match self.segments.get(&*card.segment) {
                Some(Some(_)) => _ = targets.insert(Target::Gate),
                _ => {
                    let peers = self.on_link.get(&*card.segment).into_iter().flatten();
                    targets.extend(peers.filter(|n| **n != number).map(|n| Target::Machine(*n)));
                }
            }
        }
        targets.extend((0..self.wanted.servers.len()).map(Target::Server));
        let few = self.wanted.machines.len() <= LISTED;
        if few {
            let others = (0..self.wanted.machines.len()).filter(|n| *n != number);
            targets.extend(others.map(Target::Machine));
        }
        for what in What::ALL {
            for target in &targets {
                let allowed = self.allowed(machine, number, *target, what);
                let opens = self.allowed(machine, number, *target, What::Kept);
                self.cell(&row, *target, what, allowed, &opens);
            }
            if !few {
                let listed = targets.iter().filter(|t| matches!(t, Target::Machine(_))).count();
                let rest = self.wanted.machines.len() - 1 - listed;
                let rule = self.why_closed(&row, what, self.machines(), None);
                self.matrix.closed.push(Closed {
                    from: row.from.clone(),
                    what,
                    rule,
                    count: rest,
                    to: Vec::new(),
                });
            }
        }
    }

    /// The row of a data domain: nothing in it may open anything.
    fn domain(&mut self, interface: &str) {
        let ends = walk::from_interface(self.host, interface, Packets::all());
        let row = Row::new(self.host, format!("data domain {interface}"), [(Sender::ANY, ends)]);
        let servers: Vec<&Server> =
            self.wanted.servers.iter().filter(|s| s.interface == interface).collect();
        let addresses: BTreeSet<Ipv4Addr> = servers.iter().map(|server| server.address).collect();
        self.all_machines(&row, |machine, what| match what {
            What::Answers if machine.running => Extent::ports(
                machine.reach.iter().filter(|r| addresses.contains(&r.address)).map(|r| r.port),
            ),
            _ => Extent::none(),
        });
        let to_host = row.only(|_, end| {
            // That the two ends of a cable find each other's MAC is no harm.
            let ip = end.packets.get(Field::EtherType).contains(ethertype::IP);
            end.fate != Fate::Host || ip
        });
        for what in [What::Tcp, What::Udp, What::Icmp, What::OtherIp] {
            self.cell(&to_host, Target::Host, what, Extent::none(), &Extent::none());
        }
    }

    /// The row of an interface that is none of ours: nothing may come from it to a machine.
    fn outside(&mut self, interface: &str) {
        let ends = walk::from_interface(self.host, interface, Packets::all());
        let row = Row::new(self.host, format!("outside {interface}"), [(Sender::ANY, ends)]);
        self.all_machines(&row, |_, _| Extent::none());
        let servers = self.wanted.servers.iter().enumerate();
        let elsewhere: Vec<usize> =
            servers.filter(|(_, server)| server.interface != interface).map(|(n, _)| n).collect();
        for what in What::ALL {
            for number in &elsewhere {
                self.cell(&row, Target::Server(*number), what, Extent::none(), &Extent::none());
            }
        }
    }

    fn all_machines(&mut self, row: &Row, allowed: impl Fn(&Machine, What) -> Extent) {
        let few = self.wanted.machines.len() <= LISTED;
        let none = Extent::none();
        for what in What::ALL {
            let asked = row.only(|part, end| match end.fate {
                Fate::Host => false,
                Fate::Stopped => true,
                _ => part.questions[what as usize].iter().any(|q| q.meets(&end.packets)),
            });
            let open: Vec<&End> = asked.ends().filter(|end| end.fate != Fate::Stopped).collect();
            let unknown = open.iter().any(|end| end.fate == Fate::Unknown);
            let mut rest = 0;
            for number in 0..self.wanted.machines.len() {
                let allowed = allowed(&self.wanted.machines[number], what);
                let target = Target::Machine(number);
                let touched = few
                    || unknown
                    || !allowed.is_none()
                    || open.iter().any(|end| self.at(end, target).is_some());
                match touched {
                    true => self.cell(&asked, target, what, allowed, &none),
                    false => rest += 1,
                }
            }
            if rest > 0 {
                let rule = self.why_closed(&asked, what, self.machines(), None);
                let from = row.from.clone();
                self.matrix.closed.push(Closed { from, what, rule, count: rest, to: Vec::new() });
            }
        }
    }

    /// The row of programs on the host, for one machine.
    fn programs(&mut self, number: usize) {
        let machine = &self.wanted.machines[number];
        let Some((card, address)) = machine.cards.iter().find_map(|c| Some((c, c.address?))) else {
            return self.host_on_link(number);
        };
        let to = Packets::all().having(Field::Target, u32::from(address).into());
        let (sender, ends) = (Sender::ANY, walk::from_host(self.host, &card.segment, to));
        let row = Row::new(self.host, HOST.into(), [(sender, ends)]);
        let port = |protocol, port| Port { protocol, port };
        let opens = Extent::ports(machine.from_host.iter().copied());
        let gate = self.segments.get(&*card.segment).copied().flatten();
        let services = machine.reach.iter().filter(|reach| Some(reach.address) == gate);
        let answers = Extent::ports(services.map(|reach| reach.port))
            .or(&Extent::ports([port(Protocol::Udp, DNS), port(Protocol::Tcp, DNS)]));
        let dhcp = Extent::ports([port(Protocol::Udp, DHCP_CLIENT)]);
        let all = opens.or(&dhcp);
        let running = |allowed| if machine.running { allowed } else { Extent::none() };
        for (what, allowed) in [
            (What::Tcp, opened(What::Tcp, opens.clone())),
            (What::Udp, opened(What::Udp, all.clone())),
            (What::Icmp, Extent::none()),
            (What::OtherIp, Extent::none()),
            (What::Answers, answers),
        ] {
            self.cell(&row, Target::Machine(number), what, running(allowed), &all);
        }
    }

    /// The host says nothing on a link segment.
    fn host_on_link(&mut self, number: usize) {
        for card in &self.wanted.machines[number].cards {
            let all = Packets::all().having(Field::Track, track::NEW);
            let ends = walk::from_host(self.host, &card.segment, all);
            let row = Row::new(self.host, HOST.into(), [(Sender::ANY, ends)]);
            for what in [What::Tcp, What::Udp, What::Icmp, What::OtherIp] {
                self.cell(&row, Target::Machine(number), what, Extent::none(), &Extent::none());
            }
        }
    }
}

//! The matrix: for every sender and every target, what is allowed, what gets through, and the
//! rule that decides.

use crate::{
    evaluate::LocalTypes,
    extent::Extent,
    host::{Host, passed_on_macs, single_macs},
    operand::fib,
    packets::{Field, Packets, ethertype, track},
    question::{self, Sender, What},
    rules::Family,
    value::{self, Ranges},
    walk::{self, By, End, Fate},
    wanted::{DHCP, DHCP_CLIENT, DNS, Machine, Port, Protocol, Server, Wanted},
};
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

/// What a sender's packets came to, and all it takes to judge its cells.
struct Row {
    from: String,
    parts: Vec<Part>,
}

/// What came of one of its cards.
struct Part {
    /// Where it all ended.
    ends: Vec<End>,
    /// What each kind is about, in the order of [`What::ALL`].
    questions: Vec<Vec<Packets>>,
    /// Those of them that somebody who means it would send.
    typical: Vec<Vec<Packets>>,
}

impl Row {
    fn new(
        host: &Host<'_>,
        from: String,
        parts: impl IntoIterator<Item = (Sender, Vec<End>)>,
    ) -> Row {
        let parts = parts.into_iter().map(|(sender, ends)| {
            let questions = What::ALL.map(|what| question::packets(what, sender, host));
            let typical = What::ALL.map(|what| {
                questions[what as usize].iter().map(|q| typical(q, what, sender)).collect()
            });
            Part { ends, questions: questions.into(), typical: typical.into() }
        });
        Row { from, parts: parts.collect() }
    }

    fn ends(&self) -> impl Iterator<Item = &End> {
        self.parts.iter().flat_map(|part| &part.ends)
    }

    /// The same sender with those ends alone that `wanted` keeps.
    fn only(&self, wanted: impl Fn(&Part, &End) -> bool) -> Row {
        let parts = self.parts.iter().map(|part| Part {
            ends: part.ends.iter().filter(|end| wanted(part, end)).cloned().collect(),
            questions: part.questions.clone(),
            typical: part.typical.clone(),
        });
        Row { from: self.from.clone(), parts: parts.collect() }
    }
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

    /// What may come from `machine` to `target`.
    fn allowed(&self, machine: &Machine, number: usize, target: Target, what: What) -> Extent {
        let access = machine.cards.iter().find_map(|card| card.address);
        let gate = machine.cards.iter().find_map(|card| *self.segments.get(&*card.segment)?);
        let reach = |address: Option<Ipv4Addr>| {
            let here = machine.reach.iter().filter(move |reach| Some(reach.address) == address);
            Extent::ports(here.map(|reach| reach.port))
        };
        match target {
            Target::Machine(other) => {
                let linked = machine.cards.iter().any(|card| {
                    let peers = self.on_link.get(&*card.segment).into_iter().flatten();
                    peers.into_iter().any(|peer| *peer == other && other != number)
                });
                match what {
                    _ if !linked => Extent::none(),
                    What::SpoofedMac => Extent::none(),
                    // From its other card it may not pass for another.
                    What::SpoofedSource => Extent::none(),
                    What::Tcp => Extent::all_tcp(),
                    What::Udp => Extent::all_udp(),
                    What::Broadcast | What::Answers | What::Kept => Extent::all(),
                    What::Icmp | What::OtherIp | What::Arp | What::Ipv6 | What::OtherEthertype => {
                        Extent::rest()
                    }
                }
            }
            Target::Server(server) => {
                let all = reach(Some(self.wanted.servers[server].address));
                opened(what, all)
            }
            Target::Gate if access.is_some() => {
                let port = |protocol, port| Port { protocol, port };
                let dhcp = Extent::ports([port(Protocol::Udp, DHCP)]);
                let dns = [port(Protocol::Udp, DNS), port(Protocol::Tcp, DNS)];
                let all = dhcp.or(&Extent::ports(dns)).or(&reach(gate));
                match what {
                    What::Broadcast => dhcp,
                    What::Arp => Extent::rest(),
                    What::Answers => Extent::ports(machine.from_host.iter().copied()),
                    _ => opened(what, all),
                }
            }
            Target::Gate | Target::Host | Target::Elsewhere => Extent::none(),
        }
    }

    /// Whom `end` touches.
    fn targets(&self, end: &End, found: &mut BTreeSet<Target>) {
        let oif = end.packets.get(Field::Oif);
        let routed = end.packets.get(Field::Iif).single() == Some(0);
        match end.fate {
            Fate::Stopped | Fate::Unknown => {}
            Fate::Host => {
                _ = found.insert(if self.at_gate(end) { Target::Gate } else { Target::Host })
            }
            Fate::Ports => {
                for port in oif.each(4096).unwrap_or_default() {
                    match self.taps.get(&port) {
                        // Routed to an address that nobody has: whoever takes it may have it.
                        Some(machine) => _ = found.insert(Target::Machine(*machine)),
                        None if routed => self.servers(end, found),
                        None => _ = found.insert(Target::Elsewhere),
                    }
                }
            }
            Fate::Wire => self.servers(end, found),
            Fate::Anywhere => {
                self.servers(end, found);
                let near = end.packets.get(Field::Target).parts().iter().take(LISTED);
                for (first, last) in near {
                    let here = self.by_address.range(first..=last).take(LISTED);
                    found.extend(here.map(|(_, machine)| Target::Machine(*machine)));
                }
            }
        }
    }

    fn servers(&self, end: &End, found: &mut BTreeSet<Target>) {
        for (number, server) in self.wanted.servers.iter().enumerate() {
            if self.at_server(end, server) {
                found.insert(Target::Server(number));
            }
        }
        found.insert(Target::Elsewhere);
    }

    fn at_server(&self, end: &End, server: &Server) -> bool {
        let oif = end.packets.get(Field::Oif);
        let by = match end.fate {
            Fate::Wire | Fate::Anywhere => oif.contains(value::name(&server.interface)),
            Fate::Ports => self
                .host
                .ports(&server.interface)
                .iter()
                .any(|port| oif.contains(value::name(&port.name))),
            Fate::Host | Fate::Stopped | Fate::Unknown => false,
        };
        by && end.packets.get(Field::Target).contains(u32::from(server.address).into())
    }

    /// Whether what came to the host came to it as the host of that segment.
    fn at_gate(&self, end: &End) -> bool {
        let Some(bridge) = end.packets.get(Field::Iif).single().map(value::name_text) else {
            return false;
        };
        let Some(Some(gate)) = self.segments.get(&*bridge) else { return false };
        let ethertypes = end.packets.get(Field::EtherType);
        if !ethertypes.contains(ethertype::IP) {
            return true;
        }
        self.gate_addresses(*gate, &bridge).covers(end.packets.get(Field::Target))
    }

    fn gate_addresses(&self, gate: Ipv4Addr, bridge: &str) -> Ranges {
        let of = |kind| self.host.addresses(kind, Some(value::name(bridge)));
        Ranges::one(u32::from(gate).into()).or(&of(fib::BROADCAST)).or(&of(fib::MULTICAST))
    }

    /// The part of `end` that touches `target`.
    fn at(&self, end: &End, target: Target) -> Option<Packets> {
        let packets = &end.packets;
        let oif = packets.get(Field::Oif);
        let routed = packets.get(Field::Iif).single() == Some(0);
        match (target, end.fate) {
            (_, Fate::Stopped) => None,
            (Target::Machine(number), Fate::Ports | Fate::Anywhere) => {
                let machine = &self.wanted.machines[number];
                let card = machine.cards.iter().find(|card| match end.fate {
                    Fate::Ports => oif.contains(value::name(&card.tap)),
                    _ => oif.contains(value::name(&card.segment)) && card.address.is_some(),
                })?;
                match card.address {
                    Some(address) if routed || end.fate == Fate::Anywhere => {
                        let to = Ranges::one(u32::from(address).into());
                        Some(packets.clone().with(Field::Target, &to))
                    }
                    _ => Some(packets.clone()),
                }
            }
            (Target::Server(number), _) => {
                let server = &self.wanted.servers[number];
                let to = Ranges::one(u32::from(server.address).into());
                self.at_server(end, server).then(|| packets.clone().with(Field::Target, &to))
            }
            (Target::Gate, Fate::Host) => self.at_gate(end).then(|| packets.clone()),
            (Target::Host, Fate::Host) => (!self.at_gate(end)).then(|| packets.clone()),
            (Target::Elsewhere, Fate::Ports) => {
                let others = oif.minus(&self.tap_names);
                let there = packets.clone().with(Field::Oif, &others);
                (!there.is_empty()).then(|| self.not_servers(there, end)).flatten()
            }
            (Target::Elsewhere, Fate::Wire | Fate::Anywhere) => {
                let there = packets.clone();
                let others = there.get(Field::Target).minus(&self.addresses);
                self.not_servers(there.with(Field::Target, &others), end)
            }
            _ => None,
        }
    }

    fn not_servers(&self, packets: Packets, end: &End) -> Option<Packets> {
        let known = self.wanted.servers.iter().filter(|server| self.at_server(end, server));
        let known = Ranges::values(known.map(|server| u32::from(server.address).into()));
        let others = packets.get(Field::Target).minus(&known);
        let there = packets.with(Field::Target, &others);
        (!there.is_empty()).then_some(there)
    }

    fn name(&self, target: Target) -> String {
        match target {
            Target::Machine(number) => self.wanted.machines[number].name.clone(),
            Target::Server(number) => self.wanted.servers[number].name.clone(),
            Target::Gate => GATE.into(),
            Target::Host => HOST.into(),
            Target::Elsewhere => ELSEWHERE.into(),
        }
    }

    /// At which addresses and by which interfaces `target` is met; interfaces also where none
    /// is chosen yet.
    fn met(&self, target: Target) -> (Ranges, Ranges) {
        let address = |address: Ipv4Addr| Ranges::one(u32::from(address).into());
        let names = |names: &mut dyn Iterator<Item = &str>| {
            Ranges::values(std::iter::once(0).chain(names.map(value::name)))
        };
        match target {
            Target::Machine(number) => {
                let cards = &self.wanted.machines[number].cards;
                let own = cards.iter().find_map(|card| card.address);
                let own = own.map_or_else(|| Field::Target.any(), address);
                (own, names(&mut cards.iter().flat_map(|card| [&*card.segment, &*card.tap])))
            }
            Target::Server(number) => {
                let server = &self.wanted.servers[number];
                (address(server.address), names(&mut std::iter::once(&*server.interface)))
            }
            Target::Gate => (self.at_gates.clone(), Field::Oif.any()),
            Target::Host => (self.at_host.clone(), Field::Oif.any()),
            Target::Elsewhere => (self.at_others.clone(), Field::Oif.any()),
        }
    }

    /// Judges one cell. `opens` is what the sender may open connections to there.
    fn cell(&mut self, row: &Row, target: Target, what: What, allowed: Extent, opens: &Extent) {
        let mut reachable = Extent::none();
        let mut not_proven = None;
        let mut rule = None;
        for part in &row.parts {
            let questions = &part.questions[what as usize];
            for end in part.ends.iter().filter(|end| end.fate != Fate::Stopped) {
                if !questions.iter().any(|question| question.meets(&end.packets)) {
                    continue;
                }
                if end.fate == Fate::Unknown {
                    not_proven = end.packets.doubt().map(ToString::to_string).or(not_proven);
                    continue;
                }
                let Some(there) = self.at(end, target) else { continue };
                for question in questions {
                    let here = there.and(question);
                    if here.is_empty() {
                        continue;
                    }
                    // To a port that it may open connections to, it may say anything.
                    let to = Extent::of(&here, Field::TargetPort);
                    let extent = Extent::of(&here, what.ports());
                    let excused = what == What::Answers && to.minus(opens).is_none();
                    if excused && !extent.minus(&allowed).is_none() {
                        continue;
                    }
                    match here.doubt() {
                        Some(why) if !extent.minus(&allowed).is_none() => {
                            not_proven.get_or_insert_with(|| why.to_string());
                        }
                        _ => {}
                    }
                    reachable = reachable.or(&extent);
                    if rule.is_none() || !extent.minus(&allowed).is_none() {
                        rule = Some(self.by(&end.by));
                    }
                }
            }
        }
        let closed = reachable.is_none() && allowed.is_none() && not_proven.is_none();
        let missing = allowed.minus(&reachable);
        let rule = match rule {
            Some(rule) if missing.is_none() => rule,
            _ => self.why_closed(row, what, self.met(target), Some(&missing)),
        };
        if closed {
            self.closed(row, target, what, rule);
            return;
        }
        let agrees = reachable == allowed && not_proven.is_none();
        self.matrix.cells.push(Cell {
            from: row.from.clone(),
            to: self.name(target),
            what,
            allowed: allowed.to_string(),
            reachable: reachable.to_string(),
            not_proven,
            agrees,
            rule,
        });
    }

    fn closed(&mut self, row: &Row, target: Target, what: What, rule: String) {
        let to = self.name(target);
        // Cells come by sender and kind, so those that belong together are the latest ones.
        let last = self
            .matrix
            .closed
            .iter_mut()
            .rev()
            .take_while(|closed| closed.from == row.from && closed.what == what);
        for closed in last {
            if closed.rule == rule {
                closed.count += 1;
                closed.to.push(to);
                return;
            }
        }
        let from = row.from.clone();
        self.matrix.closed.push(Closed { from, what, rule, count: 1, to: vec![to] });
    }

    /// Where machines are met.
    fn machines(&self) -> (Ranges, Ranges) {
        (self.addresses.clone(), Field::Oif.any())
    }

    /// The rule by which `what` does not get to whom is met there.
    fn why_closed(
        &self,
        row: &Row,
        what: What,
        (addresses, interfaces): (Ranges, Ranges),
        missing: Option<&Extent>,
    ) -> String {
        // The further it came, the more the reason says; and a rule says more than what the
        // kernel does by itself.
        for distance in [Distance::Routed, Distance::Bridged, Distance::Kernel] {
            for part in &row.parts {
                let questions: Vec<Packets> = part.typical[what as usize]
                    .iter()
                    .map(|question| {
                        let mut question = question.clone().with(Field::Oif, &interfaces);
                        if question.get(Field::EtherType).single() == Some(ethertype::IP) {
                            question.narrow(Field::Target, &addresses);
                        }
                        question
                    })
                    .collect();
                let stopped = part.ends.iter().filter(|end| end.fate == Fate::Stopped);
                for end in stopped.filter(|end| self.distance(&end.by) == distance) {
                    for question in &questions {
                        if !end.packets.meets(question) {
                            continue;
                        }
                        let here = end.packets.and(question);
                        let of_these = missing.is_none_or(|missing| {
                            missing.is_none()
                                || !missing.and(&Extent::of(&here, what.ports())).is_none()
                        });
                        if of_these {
                            return self.by(&end.by);
                        }
                    }
                }
            }
        }
        "no way leads there".into()
    }

    fn distance(&self, by: &By) -> Distance {
        match by {
            By::Rule(place) => match self.host.rules.chains[place.chain as usize].family {
                Family::Bridge | Family::Netdev => Distance::Bridged,
                Family::Inet | Family::Ip | Family::Ip6 | Family::Arp => Distance::Routed,
            },
            By::Kernel(_) | By::Nobody => Distance::Kernel,
        }
    }

    fn by(&self, by: &By) -> String {
        match by {
            By::Rule(place) => self.host.rules.describe(*place),
            By::Kernel(why) => why.to_string(),
            By::Nobody => "no rule says no".into(),
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
            What::Answers => Extent::ports(
                machine.reach.iter().filter(|r| addresses.contains(&r.address)).map(|r| r.port),
            ),
            _ => Extent::none(),
        });
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
        let to_host = row.only(|_, end| {
            // That the two ends of a cable find each other's MAC is no harm.
            let ip = end.packets.get(Field::EtherType).contains(ethertype::IP);
            end.fate != Fate::Host || ip
        });
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
            let domain = row.from.starts_with("data domain");
            if domain && matches!(what, What::Tcp | What::Udp | What::Icmp | What::OtherIp) {
                self.cell(&to_host, Target::Host, what, Extent::none(), &Extent::none());
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
        for (what, allowed) in [
            (What::Tcp, opened(What::Tcp, opens.clone())),
            (What::Udp, opened(What::Udp, all.clone())),
            (What::Icmp, Extent::none()),
            (What::OtherIp, Extent::none()),
            (What::Answers, answers),
        ] {
            self.cell(&row, Target::Machine(number), what, allowed, &all);
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distance {
    Routed,
    Bridged,
    Kernel,
}

/// Those of `question` that somebody who means it would send: whole packets under the own
/// address, not to a group where one target is meant.
fn typical(question: &Packets, what: What, sender: Sender) -> Packets {
    let mut typical = question.clone();
    if let Some(own) = sender.address.map(|own| u128::from(u32::from(own)))
        && question.get(Field::EtherType).single() == Some(ethertype::IP)
        && question.get(Field::Source).contains(own)
    {
        typical.narrow(Field::Source, &Ranges::one(own));
    }
    typical.narrow(Field::LaterFragment, &Ranges::one(0));
    let macs = match what {
        What::Broadcast | What::Arp => passed_on_macs(),
        _ => single_macs(),
    };
    typical.narrow(Field::TargetMac, &macs);
    typical
}

/// What may be opened of `all` by `what`.
fn opened(what: What, all: Extent) -> Extent {
    match what {
        What::Tcp => all.and(&Extent::all_tcp()),
        What::Udp => all.and(&Extent::all_udp()),
        What::Kept => all,
        What::Icmp
        | What::OtherIp
        | What::Arp
        | What::Ipv6
        | What::OtherEthertype
        | What::Broadcast
        | What::SpoofedSource
        | What::SpoofedMac
        | What::Answers => Extent::none(),
    }
}

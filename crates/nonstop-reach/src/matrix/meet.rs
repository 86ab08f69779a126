//! Whom packets have come to: machines, servers, the host, or none of these.

use super::{ELSEWHERE, GATE, HOST, LISTED, Making, Target};
use crate::{
    evaluate::LocalTypes,
    operand::fib,
    packets::{Field, Packets, ethertype},
    value::{self, Ranges},
    walk::{End, Fate},
    wanted::Server,
};
use std::{collections::BTreeSet, net::Ipv4Addr};

impl Making<'_> {
    /// Whom `end` touches.
    pub(super) fn targets(&self, end: &End, found: &mut BTreeSet<Target>) {
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

    pub(super) fn servers(&self, end: &End, found: &mut BTreeSet<Target>) {
        for (number, server) in self.wanted.servers.iter().enumerate() {
            if self.at_server(end, server) {
                found.insert(Target::Server(number));
            }
        }
        found.insert(Target::Elsewhere);
    }

    pub(super) fn at_server(&self, end: &End, server: &Server) -> bool {
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
    pub(super) fn at_gate(&self, end: &End) -> bool {
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

    pub(super) fn gate_addresses(&self, gate: Ipv4Addr, bridge: &str) -> Ranges {
        let of = |kind| self.host.addresses(kind, Some(value::name(bridge)));
        Ranges::one(u32::from(gate).into()).or(&of(fib::BROADCAST)).or(&of(fib::MULTICAST))
    }

    /// The part of `end` that touches `target`.
    pub(super) fn at(&self, end: &End, target: Target) -> Option<Packets> {
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

    pub(super) fn not_servers(&self, packets: Packets, end: &End) -> Option<Packets> {
        let known = self.wanted.servers.iter().filter(|server| self.at_server(end, server));
        let known = Ranges::values(known.map(|server| u32::from(server.address).into()));
        let others = packets.get(Field::Target).minus(&known);
        let there = packets.with(Field::Target, &others);
        (!there.is_empty()).then_some(there)
    }

    pub(super) fn name(&self, target: Target) -> String {
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
    pub(super) fn met(&self, target: Target) -> (Ranges, Ranges) {
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

    /// Where machines are met.
    pub(super) fn machines(&self) -> (Ranges, Ranges) {
        (self.addresses.clone(), Field::Oif.any())
    }
}

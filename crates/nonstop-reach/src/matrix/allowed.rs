//! What the lab wants to get through to whom.

use super::{Making, Target};
use crate::{
    extent::Extent,
    question::What,
    wanted::{DHCP, DNS, Machine, Port, Protocol},
};
use std::net::Ipv4Addr;

impl Making<'_> {
    /// What may come from `machine` to `target`.
    pub(super) fn allowed(
        &self,
        machine: &Machine,
        number: usize,
        target: Target,
        what: What,
    ) -> Extent {
        if machine.mute || !machine.running {
            return Extent::none();
        }
        let access = machine.cards.iter().find_map(|card| card.address);
        let gate = machine.cards.iter().find_map(|card| *self.segments.get(&*card.segment)?);
        let reach = |address: Option<Ipv4Addr>| {
            let here = machine.reach.iter().filter(move |reach| Some(reach.address) == address);
            Extent::ports(here.map(|reach| reach.port))
        };
        match target {
            Target::Machine(other) if !self.wanted.machines[other].running => Extent::none(),
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
}

/// What may be opened of `all` by `what`.
pub(super) fn opened(what: What, all: Extent) -> Extent {
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

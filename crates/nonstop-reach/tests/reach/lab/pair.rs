//! A lab with a dynamic-micro, two macros and a static-micro, wanted and built.

use super::{Lab, our_rules};
use nonstop_reach::{Proof, prove, wanted::*};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

pub(crate) struct Pair {
    pub(crate) lab: Lab,
    pub(crate) wanted: Wanted,
}

fn reach(server: [u8; 4]) -> Reach {
    let port = Port { protocol: Protocol::Tcp, port: 80 };
    Reach { address: server.into(), port }
}

const REPORTS: [u8; 4] = [10, 99, 0, 10];
const PCAP: [u8; 4] = [10, 99, 0, 20];
const MWS_PCAP: [u8; 4] = [10, 99, 0, 30];

impl Pair {
    pub(crate) fn new() -> Pair {
        let mut wanted = Wanted { domains: vec!["nsd0".into()], ..Wanted::default() };
        let servers = [
            ("reports", REPORTS, "intermediate"),
            ("pcap", PCAP, "intermediate"),
            ("mws pcap", MWS_PCAP, "mws"),
        ];
        for (name, address, domain) in servers {
            wanted.servers.push(Server {
                name: name.into(),
                address: address.into(),
                domain: domain.into(),
                interface: "nsd0".into(),
                stand_in: true,
            });
        }
        let names = ["micro debugger", "macro 1", "macro 2", "static"];
        for (n, name) in names.into_iter().enumerate() {
            let n = n as u32 + 1;
            let base = u32::from(Ipv4Addr::new(10, 77, 0, 0)) + 16 * (n - 1);
            let bridge = format!("nsb{n:05}");
            let net = ipnet::Ipv4Net::new(base.into(), 28).expect("a prefix");
            let card = Card {
                segment: bridge.clone(),
                tap: format!("nst{n:05}"),
                mac: format!("52:54:00:00:00:{n:02x}"),
                address: Some((base + 2).into()),
            };
            let gate = Ipv4Addr::from(base + 1);
            wanted.segments.push(Segment { bridge, host: Some((gate, net)) });
            let airlock =
                Reach { address: gate, port: Port { protocol: Protocol::Tcp, port: 8080 } };
            let servers = if name.starts_with("macro") { PCAP } else { REPORTS };
            wanted.machines.push(Machine {
                name: name.into(),
                running: true,
                edition: Some("intermediate".into()),
                cards: vec![card],
                reach: vec![reach(servers), airlock],
                ..Machine::default()
            });
        }
        let link = |n: u32| Card {
            segment: "nsl00001".into(),
            tap: format!("nsk{n:05}"),
            mac: format!("56:54:00:00:00:{n:02x}"),
            address: None,
        };
        wanted.segments.push(Segment { bridge: "nsl00001".into(), host: None });
        wanted.machines[0].cards.push(link(1));
        wanted.machines.push(Machine {
            name: "micro debuggee".into(),
            running: true,
            cards: vec![link(5)],
            ..Machine::default()
        });
        let lab = Lab::new();
        for segment in &wanted.segments {
            match segment.host {
                Some((host, net)) => {
                    let address = format!("{host}/{}", net.prefix_len());
                    lab.bridge(&segment.bridge, Some(&address));
                }
                None => lab.link_bridge(&segment.bridge),
            }
        }
        for card in wanted.machines.iter().flat_map(|machine| &machine.cards) {
            lab.tap(&card.tap, &card.segment, &card.mac);
        }
        lab.card("nsd0", "10.99.0.1/24", "02:00:00:00:00:99");
        lab.nft(&our_rules());
        wanted.rules = Some(lab.ours());
        wanted.sets = sets(&wanted);
        for set in &wanted.sets {
            let WantedSet { family, table, name, elements, .. } = set;
            let elements: Vec<&str> = elements.iter().map(String::as_str).collect();
            lab.nft(&format!("add element {family} {table} {name} {{ {} }}", elements.join(", ")));
        }
        Pair { lab, wanted }
    }

    pub(crate) fn prove(&self) -> Proof {
        prove(&self.lab.kernel(), &self.wanted).expect("a listing")
    }
}

/// The elements that the lab's grants come to.
fn sets(wanted: &Wanted) -> Vec<WantedSet> {
    let mut sets: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for machine in &wanted.machines {
        for Card { segment, tap, mac, address } in &machine.cards {
            let Some(address) = address else {
                sets.entry(("bridge", "links")).or_default().insert(format!("{tap} . {mac}"));
                continue;
            };
            let gate = Ipv4Addr::from(u32::from(*address) - 1);
            let mut add = |family, set, element| {
                sets.entry((family, set)).or_default().insert(element);
            };
            add("bridge", "ports", format!("{tap} . {mac} . {address}"));
            add("bridge", "cards", format!("{tap} . {mac}"));
            add("bridge", "neighbours", format!("{tap} . {address}"));
            add("bridge", "neighbours", format!("{tap} . {gate}"));
            for reach in &machine.reach {
                let to = format!("{address} . {} . tcp . {}", reach.address, reach.port.port);
                add("inet", "reach", format!("{segment} . {to}"));
                add("bridge", "reach", format!("{tap} . {to}"));
                add("inet", "reach_replies", to);
            }
        }
    }
    let set = |((family, name), elements): ((&str, &str), _)| WantedSet {
        family: family.into(),
        table: "nonstop".into(),
        name: name.into(),
        elements,
        lease_seconds: None,
    };
    sets.into_iter().map(set).collect()
}

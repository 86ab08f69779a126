//! What was seen, held against what the lab allows and against the proof from the rules.

use crate::{
    attempts::{Attempt, Expect, To},
    copy::Kind,
    ground::{Seen, Spot},
};
use nonstop_reach::{
    Proof,
    matrix::{ELSEWHERE, GATE, HOST},
    probe::{Order, ProbedCell, Report},
    question::What,
    wanted::{Port, Protocol},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// What the copies showed of each attempt: where it arrived.
pub type Controls = BTreeMap<u32, Kind>;

/// The name of a target as the matrix has it.
pub fn name(to: &To) -> String {
    match to {
        To::Machine(name) | To::Server(name) => name.clone(),
        To::Gate => GATE.into(),
        To::Host => HOST.into(),
        To::Elsewhere => ELSEWHERE.into(),
        To::Everybody => "everybody".into(),
    }
}

/// Whom a spot belongs to, for what `attempt` sent.
pub fn whom(order: &Order, attempt: &Attempt, spot: &Spot) -> Option<To> {
    let machine = order.machine(&order.canaries[attempt.canary].machine)?;
    let card = machine.cards.get(attempt.card)?;
    let gate = order.gate(card);
    let server = |address: Option<Ipv4Addr>, interface: Option<&str>| {
        let servers = order.wanted.servers.iter();
        servers
            .filter(|server| interface.is_none_or(|interface| behind(&server.interface, interface)))
            .find(|server| Some(server.address) == address)
            .map(|server| To::Server(server.name.clone()))
    };
    let of_host = |address: Option<Ipv4Addr>| {
        // IPv6 of ours stays on its segment.
        let near = address.map_or(gate.is_some(), |address| {
            let segment = order.segment(card).and_then(|segment| segment.host);
            let broadcast = segment.map(|(_, net)| net.broadcast());
            Some(address) == gate
                || (gate.is_some()
                    && (Some(address) == broadcast
                        || address.is_broadcast()
                        || address.is_multicast()))
        });
        if near { To::Gate } else { To::Host }
    };
    match spot {
        Spot::Tap(tap) => {
            order.behind_tap(tap).map(|(machine, _)| To::Machine(machine.name.clone()))
        }
        // IP and ARP that pass the bridge meet further rules; what else passes has arrived.
        Spot::Bridge(bridge) => match attempt.what {
            What::OtherEthertype | What::SpoofedMac if attempt.target.is_none() => {
                Some(if *bridge == card.segment && gate.is_some() { To::Gate } else { To::Host })
            }
            _ => None,
        },
        Spot::Out(interface) | Spot::Domain(interface) => {
            Some(server(attempt.target, Some(interface)).unwrap_or(To::Elsewhere))
        }
        Spot::Local(address) => Some(of_host(*address)),
        Spot::Answer(address) => {
            let address = address.filter(|address| Some(*address) != card.address);
            let machines = order.wanted.machines.iter();
            let other = machines
                .filter(|other| {
                    other.cards.iter().any(|c| c.address.is_some() && c.address == address)
                })
                .map(|other| To::Machine(other.name.clone()))
                .next();
            let outside = address.is_some_and(|a| {
                !order.wanted.segments.iter().any(|s| s.host.is_some_and(|(host, _)| host == a))
            });
            match server(address, None).or(other) {
                Some(to) => Some(to),
                // An address of the host's, or the one that was asked for.
                None if outside && attempt.to != To::Host => Some(attempt.to.clone()),
                None => Some(of_host(address)),
            }
        }
        Spot::Data => None,
    }
}

/// The bridge of a data domain, or the port of it that leads to its servers.
fn behind(domain: &str, interface: &str) -> bool {
    interface == domain || interface.strip_suffix('p') == Some(domain)
}

/// Whether the lab lets `attempt` come to `to`.
fn may(order: &Order, attempt: &Attempt, to: &To) -> bool {
    let Some(machine) = order.machine(&order.canaries[attempt.canary].machine) else {
        return false;
    };
    let Some(card) = machine.cards.get(attempt.card) else { return false };
    match to {
        To::Machine(other) => {
            let linked = card.address.is_none()
                && order.machine(other).is_some_and(|other| {
                    other.cards.iter().any(|theirs| theirs.segment == card.segment)
                });
            linked && attempt.what != What::SpoofedMac
        }
        To::Server(name) => {
            let server = order.wanted.servers.iter().find(|server| server.name == *name);
            let opens = matches!(attempt.what, What::Tcp | What::Udp) && card.address.is_some();
            opens
                && server.is_some_and(|server| {
                    attempt.port.is_some_and(|port| {
                        machine.reach.iter().any(|r| r.address == server.address && r.port == port)
                    })
                })
        }
        To::Gate => {
            let Some(gate) = order.gate(card) else { return false };
            let service = |port: Port| {
                machine.reach.iter().any(|r| r.address == gate && r.port == port)
                    || port.port == 53
                    || port == Port { protocol: Protocol::Udp, port: 67 }
            };
            match attempt.what {
                What::Tcp | What::Udp => {
                    attempt.target == Some(gate) && attempt.port.is_some_and(service)
                }
                What::Broadcast => attempt.port == Some(Port { protocol: Protocol::Udp, port: 67 }),
                What::Arp => attempt.target == Some(gate) || attempt.target == card.address,
                _ => false,
            }
        }
        To::Host | To::Elsewhere | To::Everybody => false,
    }
}

/// What the attempts have shown.
pub fn judge(
    order: &Order,
    attempts: &[Attempt],
    seen: &Seen,
    controls: &Controls,
    proof: Option<&Proof>,
) -> Report {
    let mut report = Report {
        tried: attempts.len(),
        canaries: order.canaries.iter().map(|canary| canary.machine.clone()).collect(),
        ..Report::default()
    };
    let mut cells: BTreeMap<(String, To, What), ProbedCell> = BTreeMap::new();
    let none = BTreeSet::new();
    for attempt in attempts {
        let number = attempt.marker.number;
        let from = &order.canaries[attempt.canary].machine;
        let on =
            order.machine(from).and_then(|m| m.cards.get(attempt.card)).map_or("", |c| &c.segment);
        let told = |what: &str| format!("{from} on {on}, {}: {what}", attempt.label);
        let key = (from.clone(), attempt.to.clone(), attempt.what);
        let cell = cells.entry(key).or_insert_with(|| ProbedCell {
            from: from.clone(),
            to: name(&attempt.to),
            what: attempt.what,
            tried: 0,
            allowed: 0,
            arrived: 0,
            control: Vec::new(),
            agrees: true,
        });
        cell.tried += 1;
        if seen.unsent.contains(&number) {
            cell.agrees = false;
            report.not_shown.push(told("the canary did not send it"));
            continue;
        }
        let spots = seen.spots.get(&number).unwrap_or(&none);
        let arrived: BTreeSet<To> =
            spots.iter().filter_map(|spot| whom(order, attempt, spot)).collect();
        for to in arrived.iter().filter(|to| !may(order, attempt, to)) {
            cell.agrees = false;
            let what = format!("came to {}, which is not allowed", name(to));
            report.differences.push(told(&what));
        }
        let there = arrived.contains(&attempt.to);
        let answered = spots.iter().any(|spot| matches!(spot, Spot::Answer(_)));
        let (good, missing) = match attempt.expect {
            Expect::Nothing => (true, ""),
            Expect::Arrives => (there, "is allowed and did not arrive"),
            Expect::Answered => (answered, "is allowed and was not answered"),
            Expect::Connects => (
                spots.contains(&Spot::Data),
                "is allowed and opened no connection that bytes go over",
            ),
        };
        if !good {
            cell.agrees = false;
            report.differences.push(told(missing));
        }
        let there = there || (attempt.to == To::Everybody && !arrived.is_empty());
        cell.arrived += usize::from(there);
        match attempt.expect {
            Expect::Nothing => {
                report.denied += 1;
                match controls.get(&number) {
                    Some(kind) => {
                        report.controlled += 1;
                        let word = kind.word().to_string();
                        if !cell.control.contains(&word) {
                            cell.control.push(word);
                        }
                    }
                    // Where it arrived, that shows enough.
                    None if there => {}
                    None => {
                        cell.agrees = false;
                        report
                            .not_shown
                            .push(told("it did not arrive in a copy of the network either"));
                    }
                }
            }
            Expect::Arrives | Expect::Answered | Expect::Connects => {
                report.allowed += 1;
                cell.allowed += 1;
            }
        }
    }
    report
        .differences
        .extend(seen.unexplained.iter().map(|what| format!("{what}: belongs to nothing tried")));
    report.cells = cells.into_values().collect();
    if let Some(proof) = proof {
        report.differences.extend(disagreements(proof, &report.cells));
    }
    report.holds = report.differences.is_empty() && report.not_shown.is_empty();
    report
}

/// Where probe and proof say different things of the same cell.
fn disagreements(proof: &Proof, cells: &[ProbedCell]) -> Vec<String> {
    let open: BTreeMap<(&str, &str, What), &str> = proof
        .cells
        .iter()
        .map(|cell| ((&*cell.from, &*cell.to, cell.what), &*cell.reachable))
        .collect();
    let mut found = Vec::new();
    for cell in cells.iter().filter(|cell| cell.to != name(&To::Everybody)) {
        let proven = open.get(&(&*cell.from, &*cell.to, cell.what)).copied().unwrap_or("-");
        let told = |arrives: &str| {
            let ProbedCell { from, to, what, .. } = cell;
            format!("{from} to {to}, {what}: {arrives}, and the proof says {proven}")
        };
        if cell.arrived > 0 && proven == "-" {
            found.push(told("something arrives"));
        }
        if cell.arrived == 0 && cell.allowed == 0 && ["all", "yes"].contains(&proven) {
            found.push(told("nothing arrives"));
        }
    }
    found
}

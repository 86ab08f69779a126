//! Rules on demand: a line on stdin says what is to be loaded or done, a JSON line on stdout what it
//! came to. Ends with its stdin.
//!
//! | line | what is there afterwards |
//! | --- | --- |
//! | `none` | no rules at all |
//! | `ours N` | the daemon's rules, and all rights of N environments |
//! | `unlimited` | the same without any machine's limits |
//! | `list N` | a list of rules, one an environment, one after the other |
//! | `change N` | the same; N's rights were taken away and given back, by ours and by nft |
//! | `whoami N` | the same; tells N's card and what it reaches |

use crate::{
    environment::{DOMAIN, Environment},
    interfaces::feed,
    loaded,
};
use nonstop_host::firewall::Firewall;
use nonstop_model::{ConnectionLimit, EnvironmentId, Mac, Protocol, SegmentName, network};
use nonstop_plan::Grant;
use nonstop_testkit::place::Place;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::Instant,
};

/// Does what it is told until stdin ends.
pub(crate) fn serve() {
    let firewall = loaded::firewall();
    for line in io::stdin().lines() {
        let line = line.expect("lines");
        let (verb, number) = line.split_once(' ').unwrap_or((&line, "0"));
        let number: u32 = number.parse().expect("a number");
        let begun = Instant::now();
        let mut answer = json!({});
        match verb {
            "none" => nft("flush ruleset\n"),
            "ours" => {
                nft("flush ruleset\n");
                loaded::load(&firewall);
                loaded::grant(&firewall, number);
            }
            "unlimited" => unlimited(),
            "list" => nft(&list(number)),
            "change" => answer = change(&firewall, Environment(number)),
            "whoami" => answer = whoami(Environment(number)),
            other => panic!("`{other}` is not known"),
        }
        answer["ms"] = millis(begun).into();
        println!("{answer}");
        io::stdout().flush().expect("heard");
    }
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

fn nft(script: &str) {
    feed(&Place::here(), &["nft", "-f", "-"], script);
}

/// Takes out what every machine may do at most; the rules stay.
fn unlimited() {
    let mut script = String::from("flush set bridge nonstop broadcasts\n");
    let _ = writeln!(script, "flush set inet nonstop new_connections");
    for limit in ConnectionLimit::all() {
        let _ = writeln!(script, "flush set inet nonstop connections_{}", limit.number());
    }
    nft(&script);
}

/// What one would write by hand: one rule an environment.
fn list(environments: u32) -> String {
    let mut rules = String::from("flush ruleset\ntable inet peer {\nchain forward {\n");
    let _ = writeln!(rules, "type filter hook forward priority filter; policy drop;");
    let _ = writeln!(rules, "iifname \"{DOMAIN}\" ct state established accept");
    for n in 1..=environments {
        let card = Environment(n).card();
        let own = card.address.expect("an access card");
        let _ = writeln!(
            rules,
            "iifname \"{}\" ip saddr {own} oifname \"{DOMAIN}\" meta l4proto {{ tcp, udp }} accept",
            card.segment
        );
    }
    rules + "}\n}\n"
}

fn whoami(environment: Environment) -> Value {
    let (card, segment) = (environment.card(), environment.segment());
    let at = |protocol| {
        let reach = environment.reach().into_iter().skip(1).find(|(_, p, _)| *p == protocol);
        reach.map(|(address, _, port)| format!("{address}:{port}"))
    };
    json!({
        "bridge": card.segment, "tap": card.tap, "mac": card.mac, "address": card.address,
        "host": segment.host(), "domain": DOMAIN, "tcp": at(Protocol::Tcp), "udp": at(Protocol::Udp),
    })
}

/// Takes all rights of `environment` away and gives them back; then, by `nft -j` as a child, those of
/// its card and its reach, which are fewer.
fn change(firewall: &Firewall, environment: Environment) -> Value {
    let rights = environment.rights();
    let grants: Vec<Grant> = rights.iter().map(|(grant, _)| grant.clone()).collect();
    let begun = Instant::now();
    firewall.revoke_all(&grants).expect("revoked");
    let revoked = millis(begun);
    let begun = Instant::now();
    firewall.grant_all(&rights).expect("granted");
    let granted = millis(begun);
    let elements: Vec<_> = grants.iter().flat_map(elements).collect();
    let timed = |verb| {
        let script = script(verb, &elements);
        let begun = Instant::now();
        feed(&Place::here(), &["nft", "-j", "-f", "-"], &script);
        millis(begun)
    };
    let (nft_revoked, nft_granted) = (timed("delete"), timed("add"));
    json!({
        "revoked_ms": revoked, "granted_ms": granted,
        "nft_revoked_ms": nft_revoked, "nft_granted_ms": nft_granted,
    })
}

type InSet = (&'static str, &'static str, Value);

/// The elements of a card and of a reach. `nft -j` cannot write a uid nor the limit of an element.
fn elements(grant: &Grant) -> Vec<InSet> {
    match *grant {
        Grant::Port { machine, address, .. } => {
            let (tap, mac) = (network::tap(machine), Mac::of(machine).to_string());
            vec![
                ("bridge", "ports", json!([tap, mac, address])),
                ("bridge", "cards", json!([tap, mac])),
                ("bridge", "neighbours", json!([tap, address])),
            ]
        }
        Grant::Reach { machine, environment, source, address, protocol, port } => {
            let segment = SegmentName::of(EnvironmentId(environment.0)).to_string();
            let (tap, protocol) = (network::tap(machine), protocol.to_string());
            vec![
                ("inet", "reach", json!([segment, source, address, protocol, port])),
                ("bridge", "reach", json!([tap, source, address, protocol, port])),
                ("inet", "reach_replies", json!([source, address, protocol, port])),
            ]
        }
        Grant::Portal { .. }
        | Grant::Transfer { .. }
        | Grant::Desktop { .. }
        | Grant::Link { .. }
        | Grant::Source { .. } => Vec::new(),
    }
}

fn script(verb: &str, elements: &[InSet]) -> String {
    let one = |(family, set, fields): &InSet| {
        let key = json!({ "concat": fields });
        let element = match verb {
            "add" => json!({ "elem": { "val": key, "timeout": 3600 } }),
            _ => key,
        };
        json!({ verb: { "element": {
            "family": family, "table": "nonstop", "name": set, "elem": [element],
        } } })
    };
    json!({ "nftables": elements.iter().map(one).collect::<Vec<_>>() }).to_string()
}

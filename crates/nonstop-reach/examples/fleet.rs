//! How long the proof takes for a fleet: the rules are those of this version as the real nft
//! lists them, the interfaces, addresses and elements those of as many environments as asked for.
//!
//!     cargo run --release -p nonstop-reach --example fleet -- 102 10000
//!
//! One JSON line a fleet on stdout. Needs root, for an empty network namespace.

use nonstop_host::firewall::{Firewall, FirewallConfig};
use nonstop_reach::{
    kernel::{Address, Bridge, Kernel, Link, Policy, Port as BridgePort, Route},
    prove,
    wanted::{Card, Machine, Port, Protocol, Reach, Segment, Server, Wanted},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::Instant,
};

const SERVERS: [(&str, [u8; 4], u16); 3] = [
    ("reports", [10, 99, 0, 10], 80),
    ("pcap", [10, 99, 0, 20], 80),
    ("rdb", [10, 99, 0, 30], 5432),
];

fn main() {
    let listing = listing();
    let asked: Vec<u32> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    for environments in if asked.is_empty() { vec![102, 10_000] } else { asked } {
        let (kernel, wanted) = fleet(environments, listing.clone());
        let read = serde_json::to_string(&kernel.rules).expect("JSON").len();
        let start = Instant::now();
        let proof = prove(&kernel, &wanted).expect("a listing");
        let seconds = start.elapsed().as_secs_f64();
        for line in proof.differences.iter().chain(&proof.not_proven).take(5) {
            eprintln!("{line}");
        }
        let line = json!({
            "what": "prove", "environments": environments, "machines": wanted.machines.len(),
            "cells": proof.count(), "holds": proof.holds, "seconds": seconds,
            "listing_bytes": read,
        });
        println!("{line}");
    }
}

/// Our rules, closed, as nft lists them.
fn listing() -> Value {
    let servers = SERVERS.map(|(_, address, _)| Ipv4Addr::from(address));
    let config = FirewallConfig {
        pool: "10.0.0.0/8".parse().expect("a network"),
        domains: BTreeMap::from([("nsd0".to_string(), BTreeSet::from(servers))]),
        portal_uid: 300,
        agent_uid: 301,
        dnsmasq_uids: vec![110],
        display_uids: 60_000..=60_999,
        machine_uids: 70_000..=79_999,
        account_uids: 20_000..=29_999,
    };
    let rules = Firewall::new(config).rules().to_string();
    let mut child = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", "nft -f - && nft -j list ruleset"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare and nft");
    child.stdin.take().expect("a pipe").write_all(rules.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("nft ends");
    serde_json::from_slice(&output.stdout).expect("a listing")
}

/// Half of the environments are macros, half are pairs of debugger and debuggee.
fn fleet(environments: u32, mut rules: Value) -> (Kernel, Wanted) {
    let mut kernel = Kernel::default();
    let mut wanted = Wanted { domains: vec!["nsd0".into()], ..Wanted::default() };
    let mut elements: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    for (name, address, _) in SERVERS {
        let (name, address) = (name.into(), address.into());
        wanted.servers.push(Server { name, address, interface: "nsd0".into(), stand_in: true });
    }
    kernel.links.push(link("nsd0", "02:00:00:00:00:01", None));
    add_address(&mut kernel, "nsd0", "10.99.0.1/24");
    conf(&mut kernel, "nsd0", "1", "0");
    conf(&mut kernel, "all", "0", "0");
    for table in ["local", "main", "default"] {
        let (priority, for_all) = (0, true);
        kernel.policies.push(Policy { priority, table: table.into(), for_all });
    }
    let mut machine = 0;
    for n in 1..=environments {
        let pair = n % 2 == 0;
        machine += 1;
        let (bridge, tap) = (format!("nsb{n:05}"), format!("nst{machine:05}"));
        let base = u32::from(Ipv4Addr::new(10, 128, 0, 0)) + 16 * n;
        let (gate, own) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        let net = ipnet::Ipv4Net::new(base.into(), 28).expect("a prefix");
        add_bridge(&mut kernel, &bridge);
        add_address(&mut kernel, &bridge, &format!("{gate}/28"));
        conf(&mut kernel, &bridge, "1", "0");
        wanted.segments.push(Segment { bridge: bridge.clone(), host: Some((gate, net)) });
        let mac = mac(0x52, machine);
        add_port(&mut kernel, &tap, &bridge);
        let servers = if pair { &SERVERS[..1] } else { &SERVERS[1..] };
        let mut reach = vec![(gate, 8080)];
        reach.extend(servers.iter().map(|(_, address, port)| (Ipv4Addr::from(*address), *port)));
        let mut add = |family, set, fields: Value| {
            let element = json!({"elem": {"val": {"concat": fields}, "timeout": 3600}});
            elements.entry((family, set)).or_default().push(element);
        };
        add("bridge", "ports", json!([tap, mac, own.to_string()]));
        add("bridge", "cards", json!([tap, mac]));
        add("bridge", "neighbours", json!([tap, own.to_string()]));
        add("bridge", "neighbours", json!([tap, gate.to_string()]));
        for (to, port) in &reach {
            let (own, to) = (own.to_string(), to.to_string());
            add("inet", "reach", json!([bridge, own, to, "tcp", port]));
            add("bridge", "reach", json!([tap, own, to, "tcp", port]));
            add("inet", "reach_replies", json!([own, to, "tcp", port]));
        }
        let reach = reach
            .into_iter()
            .map(|(address, port)| Reach { address, port: Port { protocol: Protocol::Tcp, port } });
        let mut cards =
            vec![Card { segment: bridge.clone(), tap, mac: mac.clone(), address: Some(own) }];
        let link_bridge = format!("nsl{n:05}");
        let mut add_link = |kernel: &mut Kernel, machine: u32| {
            let (tap, mac) = (format!("nsk{machine:05}"), self::mac(0x56, machine));
            add_port(kernel, &tap, &link_bridge);
            add("bridge", "links", json!([tap, mac]));
            Card { segment: link_bridge.clone(), tap, mac, address: None }
        };
        if pair {
            add_bridge(&mut kernel, &link_bridge);
            conf(&mut kernel, &link_bridge, "0", "1");
            wanted.segments.push(Segment { bridge: link_bridge.clone(), host: None });
            cards.push(add_link(&mut kernel, machine));
        }
        let name = format!("{n}/{}", if pair { "debugger" } else { "analyst" });
        let reach = reach.collect();
        wanted.machines.push(Machine { name, running: true, cards, reach, from_host: vec![] });
        if pair {
            machine += 1;
            let cards = vec![add_link(&mut kernel, machine)];
            let name = format!("{n}/debuggee");
            wanted.machines.push(Machine { name, running: true, cards, ..Machine::default() });
        }
    }
    for object in rules["nftables"].as_array_mut().expect("objects") {
        if let Some(set) = object.get_mut("set") {
            let key = (set["family"].as_str().unwrap_or(""), set["name"].as_str().unwrap_or(""));
            if let Some(elements) = elements.get(&key) {
                set["elem"] = elements.clone().into();
            }
        }
    }
    kernel.rules = rules;
    (kernel, wanted)
}

fn mac(first: u8, machine: u32) -> String {
    let [a, b, c, d] = machine.to_be_bytes();
    format!("{first:02x}:54:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn link(name: &str, mac: &str, master: Option<&str>) -> Link {
    let (name, mac, master) = (name.into(), mac.into(), master.map(str::to_string));
    Link { name, mac, up: true, master, ..Link::default() }
}

fn add_bridge(kernel: &mut Kernel, name: &str) {
    let number = kernel.links.len() as u32;
    let mut link = link(name, &mac(0x02, number), None);
    (link.kind, link.bridge) = ("bridge".into(), Some(Bridge::default()));
    kernel.links.push(link);
}

fn add_port(kernel: &mut Kernel, name: &str, bridge: &str) {
    let number = kernel.links.len() as u32;
    let mut link = link(name, &mac(0xfe, number), Some(bridge));
    link.port = Some(BridgePort { forwarding: true, ..BridgePort::default() });
    kernel.links.push(link);
}

fn add_address(kernel: &mut Kernel, interface: &str, address: &str) {
    let net: ipnet::Ipv4Net = address.parse().expect("an address");
    let mut route = |table: &str, kind: &str, to: ipnet::Ipv4Net| {
        let (table, kind, interfaces) = (table.into(), kind.into(), vec![interface.to_string()]);
        kernel.routes.push(Route { table, kind, to: to.into(), interfaces, metric: 0 });
    };
    route("local", "local", net.addr().into());
    route("local", "broadcast", net.broadcast().into());
    route("main", "unicast", net.trunc());
    let (interface, address) = (interface.into(), net.into());
    kernel.addresses.push(Address { interface, address });
}

fn conf(kernel: &mut Kernel, interface: &str, forwarding: &str, strict: &str) {
    for (key, value) in [
        ("forwarding", forwarding),
        ("arp_ignore", strict),
        ("arp_announce", if strict == "1" { "2" } else { "0" }),
        ("rp_filter", strict),
    ] {
        let path = format!("net/ipv4/conf/{interface}/{key}");
        kernel.settings.insert(path, value.into());
    }
}

//! What the rules cost a packet, and what a change of rights costs, with 10,000 environments; beside
//! no rules, and beside a list of as many rules: `cargo run --release -p nonstop-host --example
//! reach_bench`, as root, in network namespaces of its own. One JSON line a comparison on stdout;
//! talk goes to stderr.

#[path = "../tests/net/mod.rs"]
mod net;

use net::Net;
use nonstop_host::firewall::{Firewall, FirewallConfig};
use nonstop_model::{EnvironmentId, Mac, MachineId, NetworkLimits, Protocol, network};
use nonstop_plan::Grant;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

const ENVIRONMENTS: u32 = 10_000;

/// The environment whose packets are measured: the last one, which a list finds last.
const MEASURED: u32 = ENVIRONMENTS;

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 2);
const ROUNDS: usize = 3;

fn main() {
    let lab = Lab::new();
    let kinds = [Rules::None, Rules::Reach, Rules::Limits, Rules::List];
    let mut seen: BTreeMap<Rules, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for round in 1..=ROUNDS {
        for kind in kinds {
            lab.load(kind);
            let (gbits, packets) = (lab.throughput(), lab.packets());
            eprintln!("round {round}, {kind:?}: {gbits:.2} Gbit/s, {packets:.0} packets/s");
            let all = seen.entry(kind).or_default();
            all.0.push(gbits);
            all.1.push(packets);
        }
    }
    let middle = |kind: Rules, small: bool| {
        let (gbits, packets) = &seen[&kind];
        median(if small { packets.clone() } else { gbits.clone() })
    };
    let none = "no rules";
    let list = "a list of 10,000 rules";
    for (what, kind, peer, peer_name) in [
        ("10,000 environments, reach alone", Rules::Reach, Rules::None, none),
        ("10,000 environments, all limits", Rules::Limits, Rules::None, none),
        ("10,000 environments, all limits", Rules::Limits, Rules::List, list),
    ] {
        let tcp = format!("routed TCP, {what}");
        higher(&tcp, "Gbit/s", middle(kind, false), middle(peer, false), peer_name);
        let small = format!("64-byte datagrams, {what}");
        higher(&small, "packets/s", middle(kind, true), middle(peer, true), peer_name);
    }
    lab.load(Rules::Limits);
    lab.changes();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rules {
    None,
    /// Ours without limits.
    Reach,
    /// Ours.
    Limits,
    /// One rule an environment, one after the other.
    List,
}

/// A machine, the host that routes, and a server of a data domain.
struct Lab {
    host: Net,
    machine: Net,
    server: Net,
    firewall: Firewall,
}

fn address(environment: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 2)) + 16 * environment)
}

/// What one environment may: its port, four targets, its person's portal and desktop.
fn rights(environment: u32) -> Vec<(Grant, Option<Duration>)> {
    let (machine, source) = (MachineId(environment), address(environment));
    let limits = NetworkLimits {
        new_connections_a_second: 10_000,
        connections: 65_536.into(),
        ..NetworkLimits::default()
    };
    let mut all = vec![(Grant::Port { machine, address: source, limits }, None)];
    for (protocol, port) in
        [(Protocol::Tcp, 80), (Protocol::Tcp, 5432), (Protocol::Tcp, 7000), (Protocol::Udp, 9)]
    {
        let environment = EnvironmentId(environment);
        let address = SERVER;
        all.push((Grant::Reach { machine, environment, source, address, protocol, port }, HOUR));
    }
    let (uid, own) = (70_000 + environment, Ipv4Addr::from(0x7f40_0000 + environment));
    all.push((Grant::Portal { uid, address: own, port: 8080 }, HOUR));
    let display = network::display_address(machine);
    all.push((Grant::Desktop { uid, address: display, port: 3389 }, HOUR));
    all
}

impl Lab {
    fn new() -> Lab {
        let config = FirewallConfig {
            pool: "10.64.0.0/12".parse().expect("a network"),
            domains: BTreeMap::from([("nsd0".into(), BTreeSet::from([SERVER]))]),
            portal_uid: 64_101,
            agent_uid: 64_102,
            dnsmasq_uids: vec![64_103],
            display_uids: 65_600..=69_999,
            machine_uids: 100_000..=199_999,
            account_uids: 70_000..=99_999,
        };
        let (host, machine, server) = (Net::new(), Net::new(), Net::new());
        let id = MachineId(MEASURED);
        let (tap, mac) = (network::tap(id), Mac::of(id));
        let own = address(MEASURED);
        let gateway = Ipv4Addr::from(u32::from(own) - 1);
        host.sh(&format!(
            "ip link add nsb{MEASURED:05} type bridge; ip link set nsb{MEASURED:05} up
             ip addr add {gateway}/28 dev nsb{MEASURED:05}
             ip link add {tap} type veth peer name eth0 address {mac} netns {}
             ip link set {tap} master nsb{MEASURED:05} up
             ip link add nsd0 type bridge; ip link set nsd0 up; ip addr add 10.80.0.1/24 dev nsd0
             ip link add nsd0p type veth peer name eth0 netns {}
             ip link set nsd0p master nsd0 up
             for i in nsb{MEASURED:05} nsd0; do sysctl -q net.ipv4.conf.$i.forwarding=1; done",
            machine.pid(),
            server.pid()
        ));
        machine.sh(&format!(
            "ip link set eth0 up; ip addr add {own}/28 dev eth0
             ip route add default via {gateway}"
        ));
        server.sh(&format!(
            "ip link set eth0 up; ip addr add {SERVER}/24 dev eth0
             ip route add default via 10.80.0.1"
        ));
        Lab { host, machine, server, firewall: Firewall::new(config) }
    }

    fn load(&self, kind: Rules) {
        self.nft("flush ruleset");
        match kind {
            Rules::None => {}
            Rules::Limits => self.nft(self.firewall.rules()),
            Rules::Reach => {
                let limits = |line: &&str| {
                    !line.contains("@broadcasts drop") && !line.contains("jump limit_flows")
                };
                let lines: Vec<&str> = self.firewall.rules().lines().filter(limits).collect();
                self.nft(&(lines.join("\n") + "\n"));
            }
            Rules::List => {
                let mut rules = String::from(
                    "table inet peer {\nchain forward {\ntype filter hook forward priority \
                     filter; policy drop;\niifname \"nsd0\" ct state established accept\n",
                );
                for n in 1..=ENVIRONMENTS {
                    let own = address(n);
                    let _ = writeln!(
                        rules,
                        "iifname \"nsb{n:05}\" ip saddr {own} ip daddr {SERVER} meta l4proto \
                         {{ tcp, udp }} accept"
                    );
                }
                self.nft(&(rules + "}\n}\n"));
            }
        }
        if matches!(kind, Rules::Reach | Rules::Limits) {
            let numbers: Vec<u32> = (1..=ENVIRONMENTS).collect();
            for some in numbers.chunks(100) {
                let all: Vec<_> = some.iter().flat_map(|n| rights(*n)).collect();
                self.host.inside(|| self.firewall.grant_all(&all)).expect("granted");
            }
        }
    }

    /// Runs a script of nft in the host.
    fn nft(&self, script: &str) {
        let run = || {
            let mut child = std::process::Command::new("nft")
                .args(["-f", "-"])
                .stdin(Stdio::piped())
                .spawn()
                .expect("nft runs");
            child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("read by nft");
            assert!(child.wait().expect("waited").success());
        };
        self.host.inside(run);
    }

    /// Gbit/s of one connection from the machine to the server.
    fn throughput(&self) -> f64 {
        let listener = self.server.inside(|| TcpListener::bind((SERVER, 80))).expect("listening");
        let client = thread::scope(|scope| {
            let accepted = scope.spawn(|| listener.accept().expect("accepted").0);
            let client = self.machine.inside(|| {
                TcpStream::connect_timeout(&(SERVER, 80).into(), Duration::from_secs(5))
            });
            (client.expect("connected"), accepted.join().expect("no panic"))
        });
        let (mut client, mut served) = client;
        let reader = thread::spawn(move || {
            let (mut buffer, mut bytes) = (vec![0; 1 << 18], 0_u64);
            let begun = Instant::now();
            while let Ok(n @ 1..) = served.read(&mut buffer) {
                bytes += n as u64;
            }
            bytes as f64 * 8.0 / begun.elapsed().as_secs_f64() / 1e9
        });
        let (buffer, begun) = (vec![0; 1 << 17], Instant::now());
        while begun.elapsed() < Duration::from_millis(1500) {
            client.write_all(&buffer).expect("taken");
        }
        drop(client);
        reader.join().expect("no panic")
    }

    /// Datagrams a second of one flow that arrive at the server.
    fn packets(&self) -> f64 {
        let server = self.server.inside(|| UdpSocket::bind((SERVER, 9))).expect("a socket");
        server.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let client = self.machine.inside(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        client.connect((SERVER, 9)).expect("connected");
        // Answered once: a flow that nobody answers is a new one at each packet.
        client.send(&[7; 64]).expect("sent");
        let (_, back) = server.recv_from(&mut [0; 64]).expect("it arrives");
        server.send_to(&[7; 64], back).expect("sent");
        client.recv(&mut [0; 64]).expect("answered");
        let (over, heard) = (AtomicBool::new(false), AtomicU64::new(0));
        let begun = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = [0; 64];
                while !over.load(Ordering::Relaxed) {
                    if server.recv(&mut buffer).is_ok() {
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            while begun.elapsed() < Duration::from_millis(1500) {
                for _ in 0..64 {
                    let _refused_by_a_full_queue = client.send(&[7; 64]);
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        heard.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
    }

    /// Takes the rights of one environment of 10,000 away and gives them back, by ours and by nft.
    fn changes(&self) {
        let (mut granted, mut revoked, mut by_nft) = (Vec::new(), Vec::new(), Vec::new());
        for n in 1..=50 {
            let all = rights(n * 100);
            let grants: Vec<Grant> = all.iter().map(|(grant, _)| grant.clone()).collect();
            let timed = |act: &(dyn Fn() + Sync)| {
                self.host.inside(|| {
                    let begun = Instant::now();
                    act();
                    begun.elapsed().as_secs_f64() * 1000.0
                })
            };
            revoked.push(timed(&|| self.firewall.revoke_all(&grants).expect("revoked")));
            granted.push(timed(&|| self.firewall.grant_all(&all).expect("granted")));
            let own = address(n * 100);
            let mut script = String::new();
            for verb in ["delete", "add"] {
                for (protocol, port) in [("tcp", 80), ("tcp", 5432), ("tcp", 7000), ("udp", 9)] {
                    let flow = format!("{own} . {SERVER} . {protocol} . {port}");
                    let _ = writeln!(
                        script,
                        "{verb} element inet nonstop reach {{ nsb{:05} . {flow} }}",
                        n * 100
                    );
                }
            }
            let begun = Instant::now();
            self.nft(&script);
            by_nft.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        let nft = "nft as a child, a quarter of the elements";
        let by_nft = median(by_nft);
        lower("grant one environment of 10,000", median(granted), by_nft, nft);
        lower("revoke one environment of 10,000", median(revoked), by_nft, nft);
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn higher(what: &str, unit: &str, ours: f64, peer: f64, peer_name: &str) {
    line(what, unit, ours, peer, peer_name, ours / peer);
}

fn lower(what: &str, ours: f64, peer: f64, peer_name: &str) {
    line(what, "ms", ours, peer, peer_name, peer / ours);
}

fn line(what: &str, unit: &str, ours: f64, peer: f64, peer_name: &str, ratio: f64) {
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    let line = serde_json::json!({
        "what": what, "unit": unit, "ours": round(ours), "peer": round(peer),
        "peer_name": peer_name, "ratio": round(ratio),
    });
    println!("{line}");
}

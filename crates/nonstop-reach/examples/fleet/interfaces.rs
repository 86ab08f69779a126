//! The fleet's bridges, taps, addresses, routes and settings: as data, or made in a kernel.

use crate::environment::{DOMAIN, server};
use nonstop_reach::{
    kernel::{Address, Bridge, Kernel, Link, Policy, Port, Route},
    wanted::{Card, Wanted},
};
use nonstop_testkit::{net::Namespace, place::Place};
use std::{fmt::Write as _, io::Write, net::Ipv4Addr, process::Stdio};

/// The host's address in the data domain.
fn in_domain() -> Ipv4Addr {
    server(1)
}

fn cards(wanted: &Wanted) -> impl Iterator<Item = &Card> {
    wanted.machines.iter().flat_map(|machine| &machine.cards)
}

/// What would be read of a kernel that holds all of `wanted`, but for its rules.
pub(crate) fn as_data(wanted: &Wanted) -> Kernel {
    let mut kernel = Kernel::default();
    for (priority, table) in [(0, "local"), (32766, "main"), (32767, "default")] {
        kernel.policies.push(Policy { priority, table: table.into(), for_all: true });
    }
    conf(&mut kernel, "all", &[("rp_filter", 0)]);
    add_link(&mut kernel, DOMAIN, None);
    add_address(&mut kernel, DOMAIN, in_domain(), 24);
    conf(&mut kernel, DOMAIN, &[("forwarding", 1), ("rp_filter", 0)]);
    for segment in &wanted.segments {
        let link = add_link(&mut kernel, &segment.bridge, None);
        (link.kind, link.bridge) = ("bridge".into(), Some(Bridge::default()));
        match segment.host {
            Some((host, net)) => {
                add_address(&mut kernel, &segment.bridge, host, net.prefix_len());
                conf(&mut kernel, &segment.bridge, ACCESS);
            }
            None => conf(&mut kernel, &segment.bridge, LINK),
        }
    }
    for card in cards(wanted) {
        let link = add_link(&mut kernel, &card.tap, Some(&card.segment));
        link.port = Some(Port { forwarding: true, ..Port::default() });
    }
    kernel
}

/// The settings of an access segment, and those of a link segment.
const ACCESS: &[(&str, u8)] = &[("forwarding", 1), ("rp_filter", 0)];
const LINK: &[(&str, u8)] =
    &[("arp_ignore", 1), ("arp_announce", 2), ("rp_filter", 1), ("forwarding", 0)];

fn add_link<'k>(kernel: &'k mut Kernel, name: &str, master: Option<&str>) -> &'k mut Link {
    let [_, a, b, c] = u32::try_from(kernel.links.len()).expect("a fleet's").to_be_bytes();
    let mac = format!("02:fe:00:{a:02x}:{b:02x}:{c:02x}");
    let (name, master) = (name.into(), master.map(str::to_string));
    kernel.links.push(Link { name, mac, up: true, master, ..Link::default() });
    kernel.links.last_mut().expect("just added")
}

fn add_address(kernel: &mut Kernel, interface: &str, address: Ipv4Addr, prefix: u8) {
    let net = ipnet::Ipv4Net::new(address, prefix).expect("a prefix");
    for (table, kind, to) in [
        ("local", "local", net.addr().into()),
        ("local", "broadcast", net.broadcast().into()),
        ("main", "unicast", net.trunc()),
    ] {
        let (table, kind, interfaces) = (table.into(), kind.into(), vec![interface.to_string()]);
        kernel.routes.push(Route { table, kind, to: to.into(), interfaces, metric: 0 });
    }
    let (interface, address) = (interface.into(), net.into());
    kernel.addresses.push(Address { interface, address });
}

fn conf(kernel: &mut Kernel, interface: &str, settings: &[(&str, u8)]) {
    for (key, value) in settings {
        let path = format!("net/ipv4/conf/{interface}/{key}");
        kernel.settings.insert(path, value.to_string());
    }
}

/// A host in a namespace of its own; the other ends of its taps are in a second one.
pub(crate) struct Made {
    pub(crate) host: Namespace,
    _machines: Namespace,
}

/// Makes all of `wanted` in a kernel, but for its rules.
pub(crate) fn make(wanted: &Wanted) -> Made {
    let (host, machines) = (namespace(), namespace());
    let mut ip = String::new();
    let other = machines.holder();
    let _ = writeln!(ip, "link add {DOMAIN} type veth peer name {DOMAIN} netns {other}");
    let _ = writeln!(ip, "address add {}/24 dev {DOMAIN}\nlink set {DOMAIN} up", in_domain());
    for segment in &wanted.segments {
        let bridge = &segment.bridge;
        let _ = writeln!(ip, "link add {bridge} type bridge mcast_snooping 0");
        if let Some((host, net)) = segment.host {
            let _ = writeln!(ip, "address add {host}/{} dev {bridge}", net.prefix_len());
        }
    }
    for Card { tap, segment, .. } in cards(wanted) {
        let _ = writeln!(ip, "link add {tap} type veth peer name {tap} netns {other}");
        let _ = writeln!(ip, "link set {tap} master {segment} up");
    }
    batch(&host.place(), &ip);
    let mut settings = String::new();
    for segment in &wanted.segments {
        for (key, value) in if segment.host.is_some() { ACCESS } else { LINK } {
            let _ = writeln!(settings, "net.ipv4.conf.{}.{key}={value}", segment.bridge);
        }
    }
    feed(&host.place(), &["sysctl", "-q", "-p", "-"], &settings);
    let up = wanted.segments.iter().map(|segment| format!("link set {} up\n", segment.bridge));
    batch(&host.place(), &up.collect::<String>());
    let up = cards(wanted).map(|card| format!("link set {} up\n", card.tap));
    batch(&machines.place(), &up.chain([format!("link set {DOMAIN} up\n")]).collect::<String>());
    Made { host, _machines: machines }
}

fn namespace() -> Namespace {
    let namespace = Namespace::new().expect("a namespace");
    feed(
        &namespace.place(),
        &["sysctl", "-q", "-e", "-p", "-"],
        "net.ipv6.conf.all.disable_ipv6=1\nnet.ipv6.conf.default.disable_ipv6=1\n\
         net.ipv4.ip_forward=1\nnet.ipv4.conf.all.rp_filter=0\n\
         net.bridge.bridge-nf-call-iptables=0\nnet.bridge.bridge-nf-call-ip6tables=0\n\
         net.bridge.bridge-nf-call-arptables=0\n",
    );
    namespace
}

fn batch(place: &Place, lines: &str) {
    feed(place, &["ip", "-batch", "-"], lines);
}

/// Runs `words` in `place` with `stdin`.
pub(crate) fn feed(place: &Place, words: &[&str], stdin: &str) {
    let mut child = place
        .command(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it is installed");
    child.stdin.take().expect("a pipe").write_all(stdin.as_bytes()).expect("it reads all");
    assert!(child.wait().expect("it ends").success(), "{words:?} failed");
}

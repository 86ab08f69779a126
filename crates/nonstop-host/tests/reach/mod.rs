//! What machines may connect to, by real packets: servers of data domains, services of the lab,
//! each other over a link. Each refusal has its control: the same without our rules.

use crate::{ALICE, HOUR, Host, connect, ip, is_cut, listen, net::Net, passes, port, reached};
use nonstop_model::{EnvironmentId, Mac, MachineId, NetworkLimits, Protocol, network};
use nonstop_plan::Grant;
use std::{
    io::{ErrorKind, Read},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

/// The right of machine `number`, at 10.77.`net`.2, to a port of a server.
fn reach(number: u32, source: &str, address: &str, protocol: Protocol, port: u16) -> Grant {
    Grant::Reach {
        machine: MachineId(number),
        environment: EnvironmentId(number),
        source: ip(source),
        address: ip(address),
        protocol,
        port,
    }
}

/// Two machines on segments of their own, and two data domains with a server each.
struct Two {
    host: Host,
    seven: Net,
    eight: Net,
    a: Net,
    b: Net,
}

impl Two {
    fn new() -> Two {
        let host = Host::new();
        let (seven, eight) = (host.guest(7, "10.77.0"), host.guest(8, "10.77.1"));
        host.grant(&port(MachineId(7), ip("10.77.0.2")), None);
        host.grant(&port(MachineId(8), ip("10.77.1.2")), None);
        let a = domain(&host, "nsd0", "10.80.0");
        let b = domain(&host, "nsd1", "10.81.0");
        host.net.sh("for i in nsb00007 nsb00008 nsd0 nsd1; do
                 sysctl -q net.ipv4.conf.$i.forwarding=1; done");
        Two { host, seven, eight, a, b }
    }
}

/// A data domain's bridge, and its servers at .2 and .3 in a namespace.
fn domain(host: &Host, bridge: &str, net: &str) -> Net {
    let servers = Net::new();
    host.net.sh(&format!(
        "ip link add {bridge} type bridge; ip link set {bridge} up
         ip addr add {net}.1/24 dev {bridge}
         ip link add {bridge}p type veth peer name eth0 netns {}
         ip link set {bridge}p master {bridge} up",
        servers.pid()
    ));
    servers.sh(&format!(
        "ip link set eth0 up; ip addr add {net}.2/24 dev eth0; ip addr add {net}.3/24 dev eth0
         ip route add default via {net}.1"
    ));
    servers
}

/// Whether a datagram from `from` reaches `server`, and the answer comes back.
fn answered(from: &Net, server: &Net, address: &str, port: u16) -> bool {
    let there = server.inside(|| UdpSocket::bind((ip(address), port))).expect("a socket");
    let here = from.inside(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    for socket in [&there, &here] {
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    }
    let ask = || {
        here.send_to(b"question", (ip(address), port)).ok()?;
        let (_, back) = there.recv_from(&mut [0; 9]).ok()?;
        there.send_to(b"answer", back).ok()?;
        here.recv(&mut [0; 9]).ok()
    };
    // The first one may wait for ARP.
    (0..3).any(|_| ask().is_some())
}

fn silent(from: &Net, to: &str) {
    let silence = connect(from, 0, to).err();
    let expected = [ErrorKind::TimedOut, ErrorKind::HostUnreachable];
    assert!(silence.is_some_and(|kind| expected.contains(&kind)), "{to}: {silence:?}");
}

#[test]
fn a_machine_reaches_its_servers_at_their_ports_and_nothing_else() {
    let lab = Two::new();
    for server in [&lab.a, &lab.b, &lab.seven, &lab.eight] {
        for at in ["0.0.0.0:80", "0.0.0.0:81"] {
            let listener = listen(server, 0, at);
            thread::spawn(move || listener.incoming().for_each(drop));
        }
    }
    silent(&lab.seven, "10.80.0.2:80");
    lab.host.grant(&reach(7, "10.77.0.2", "10.80.0.2", Protocol::Tcp, 80), HOUR);
    lab.host.grant(&reach(8, "10.77.1.2", "10.81.0.2", Protocol::Tcp, 81), HOUR);
    lab.host.grant(&reach(7, "10.77.0.2", "10.80.0.3", Protocol::Udp, 7000), HOUR);
    assert!(reached(&lab.seven, 0, "10.80.0.2:80") && reached(&lab.eight, 0, "10.81.0.2:81"));
    assert!(answered(&lab.seven, &lab.a, "10.80.0.3", 7000));
    let refused = [
        (&lab.seven, "10.80.0.2:81"),
        (&lab.seven, "10.80.0.3:80"),
        (&lab.seven, "10.81.0.2:81"),
        (&lab.seven, "10.81.0.2:80"),
        (&lab.seven, "10.77.1.2:80"),
        (&lab.seven, "10.80.0.1:80"),
        (&lab.seven, "10.77.1.1:80"),
        (&lab.eight, "10.80.0.2:80"),
        (&lab.eight, "10.81.0.2:80"),
    ];
    let _on_the_host = listen(&lab.host.net, 0, "0.0.0.0:80");
    for (from, to) in refused {
        silent(from, to);
    }
    for (server, address, port) in [(&lab.a, "10.80.0.3", 7001), (&lab.a, "10.80.0.2", 7000)] {
        assert!(!answered(&lab.seven, server, address, port), "{address}:{port} by UDP");
    }
    let ping = |to| format!("busybox ping -c 1 -W 1 {to} >/dev/null && echo answered || true");
    assert_eq!(lab.seven.sh(&ping("10.80.0.2")), "");
    assert!(lab.host.observe().current);
    assert_eq!(lab.host.observe().grants.len(), 5);
    lab.host.net.sh("nft flush ruleset");
    for (from, to) in refused {
        assert!(reached(from, 0, to), "{to} is there without the rules");
    }
    assert!(answered(&lab.seven, &lab.a, "10.80.0.3", 7001));
    assert_eq!(lab.seven.sh(&ping("10.80.0.2")), "answered\n");
}

#[test]
fn revoking_a_reach_and_the_end_of_its_lease_cut_what_is_open() {
    let lab = Two::new();
    let server = listen(&lab.a, 0, "0.0.0.0:80");
    let right = reach(7, "10.77.0.2", "10.80.0.2", Protocol::Tcp, 80);
    let open = || {
        let client = (0..5).find_map(|_| connect(&lab.seven, 0, "10.80.0.2:80").ok());
        (client.expect("connected"), server.accept().expect("accepted").0)
    };
    lab.host.grant(&right, HOUR);
    let (mut client, mut served) = open();
    assert!(passes(&mut client, &mut served) && passes(&mut served, &mut client));
    lab.host.revoke(&right);
    assert!(!passes(&mut client, &mut served), "nothing goes out");
    assert!(!passes(&mut served, &mut client), "nothing comes in");
    assert!(is_cut(&mut served), "the server is told");
    silent(&lab.seven, "10.80.0.2:80");
    lab.host.grant(&right, Some(Duration::from_millis(1500)));
    let (mut client, mut served) = open();
    assert!(passes(&mut client, &mut served) && passes(&mut served, &mut client));
    thread::sleep(Duration::from_millis(1700));
    assert!(!passes(&mut served, &mut client), "the kernel has ended it by itself");
}

#[test]
fn a_data_domain_opens_no_connection_to_anything() {
    let lab = Two::new();
    let _desktop = listen(&lab.seven, 0, "0.0.0.0:3389");
    let _ssh = listen(&lab.host.net, 0, "0.0.0.0:22");
    let _other = listen(&lab.b, 0, "0.0.0.0:80");
    let tcp = reach(7, "10.77.0.2", "10.80.0.2", Protocol::Tcp, 80);
    let udp = reach(7, "10.77.0.2", "10.80.0.2", Protocol::Udp, 3389);
    lab.host.grant(&tcp, HOUR);
    lab.host.grant(&udp, HOUR);
    let targets =
        ["10.77.0.2:3389", "10.77.0.1:22", "10.80.0.1:22", "10.81.0.2:80", "10.81.0.1:22"];
    for to in targets {
        silent(&lab.a, to);
    }
    // From the port that the machine may send to, to the machine, unasked.
    let heard = || {
        let guest = lab.seven.inside(|| UdpSocket::bind("0.0.0.0:3389")).expect("a socket");
        guest.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let server = lab.a.inside(|| UdpSocket::bind("10.80.0.2:3389")).expect("a socket");
        let send = || server.send_to(b"unasked", "10.77.0.2:3389").is_ok();
        send() && guest.recv(&mut [0; 9]).is_ok() || send() && guest.recv(&mut [0; 9]).is_ok()
    };
    assert!(!heard());
    lab.host.net.sh("nft flush ruleset");
    for to in targets {
        assert!(reached(&lab.a, 0, to), "{to} is there without the rules");
    }
    assert!(heard());
}

#[test]
fn a_service_of_the_lab_is_reached_at_the_segments_own_address_and_cut_on_revoke() {
    let lab = Two::new();
    let server = listen(&lab.host.net, ALICE, "0.0.0.0:8443");
    let right = reach(7, "10.77.0.2", "10.77.0.1", Protocol::Tcp, 8443);
    silent(&lab.seven, "10.77.0.1:8443");
    lab.host.grant(&right, HOUR);
    let client = (0..5).find_map(|_| connect(&lab.seven, 0, "10.77.0.1:8443").ok());
    let (mut client, mut served) = (client.expect("connected"), server.accept().expect("one").0);
    assert!(passes(&mut client, &mut served) && passes(&mut served, &mut client));
    for (from, to) in [
        (&lab.seven, "10.77.1.1:8443"),
        (&lab.seven, "10.80.0.1:8443"),
        (&lab.eight, "10.77.0.1:8443"),
        (&lab.eight, "10.77.1.1:8443"),
        (&lab.a, "10.80.0.1:8443"),
    ] {
        silent(from, to);
    }
    for uid in [0, 1000, ALICE, crate::PORTAL] {
        for to in ["10.77.0.1:8443", "127.0.0.1:8443", "10.80.0.1:8443"] {
            let refused = connect(&lab.host.net, uid, to).err();
            assert_eq!(
                refused,
                Some(ErrorKind::ConnectionRefused),
                "uid {uid} of the host to {to}"
            );
        }
    }
    assert!(passes(&mut client, &mut served) && passes(&mut served, &mut client));
    lab.host.revoke(&right);
    assert!(!passes(&mut client, &mut served) && !passes(&mut served, &mut client));
}

#[test]
fn nobody_borrows_a_neighbours_reach_by_address_or_bridge() {
    let lab = Two::new();
    let listener = listen(&lab.a, 0, "0.0.0.0:80");
    thread::spawn(move || listener.incoming().for_each(drop));
    lab.host.grant(&reach(7, "10.77.0.2", "10.80.0.2", Protocol::Tcp, 80), HOUR);
    assert!(reached(&lab.seven, 0, "10.80.0.2:80"));
    // With the neighbour's address, from its own segment: the reply would go to the neighbour,
    // so the server is watched.
    let arrives = |from: &Net, source: &str| {
        let server = lab.a.inside(|| UdpSocket::bind("10.80.0.2:80")).expect("a socket");
        server.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        let sent = from.inside(|| {
            let socket = UdpSocket::bind((ip(source), 0)).expect("a socket");
            socket.send_to(b"x", "10.80.0.2:80").is_ok()
                && socket.send_to(b"x", "10.80.0.2:80").is_ok()
        });
        sent && server.recv(&mut [0; 9]).is_ok()
    };
    lab.host.grant(&reach(7, "10.77.0.2", "10.80.0.2", Protocol::Udp, 80), HOUR);
    lab.eight.sh("ip addr add 10.77.0.2/32 dev eth0");
    assert!(arrives(&lab.seven, "10.77.0.2"));
    assert!(!arrives(&lab.eight, "10.77.0.2"), "the neighbour's address");
    // On the neighbour's bridge.
    lab.host.net.sh("ip link set nst00008 master nsb00007");
    lab.eight.sh("ip addr flush dev eth0; ip addr add 10.77.0.2/28 dev eth0
         ip route add default via 10.77.0.1");
    assert!(!arrives(&lab.eight, "10.77.0.2"), "the neighbour's bridge");
    lab.host.net.sh("nft flush ruleset; sysctl -q net.ipv4.conf.all.rp_filter=0");
    let arrived = (0..5).any(|_| arrives(&lab.eight, "10.77.0.2"));
    assert!(arrived, "it is there without the rules");
}

/// A link segment with machines 7 and 8 on it.
struct Pair {
    host: Host,
    debugger: Net,
    debuggee: Net,
}

const LIMIT: u32 = 20;

impl Pair {
    fn new() -> Pair {
        let host = Host::new();
        host.net.sh("ip link add nsl00007 type bridge mcast_snooping 0; ip link set nsl00007 up");
        let machine = |number: u32, net: &str| {
            let machine = Net::new();
            let (tap, id) = (network::link_tap(MachineId(number)), MachineId(number));
            host.net.sh(&format!(
                "ip link add {tap} type veth peer name eth1 address {} netns {}
                 ip link set {tap} master nsl00007 up",
                Mac::of_link(id),
                machine.pid()
            ));
            machine.sh(&format!("ip link set eth1 up; ip addr add {net}/24 dev eth1"));
            machine
        };
        let (debugger, debuggee) = (machine(7, "172.16.0.1"), machine(8, "172.16.0.2"));
        Pair { host, debugger, debuggee }
    }

    fn grant(&self) {
        for machine in [7, 8].map(MachineId) {
            self.host.grant(&Grant::Link { machine, broadcasts_a_second: LIMIT }, None);
        }
    }
}

#[test]
fn over_a_link_two_machines_say_what_they_like_each_from_its_own_mac() {
    let pair = Pair::new();
    let _server = listen(&pair.debugger, 0, "0.0.0.0:80");
    let _server6 = listen(&pair.debugger, 0, "[::]:81");
    silent(&pair.debuggee, "172.16.0.1:80");
    pair.grant();
    assert!(reached(&pair.debuggee, 0, "172.16.0.1:80"));
    pair.debugger.sh("ip addr add fd00::1/64 dev eth1 nodad");
    pair.debuggee.sh("ip addr add fd00::2/64 dev eth1 nodad");
    assert!(reached(&pair.debuggee, 0, "[fd00::1]:81"), "IPv6 too");
    let own = Mac::of_link(MachineId(8));
    pair.debuggee.sh("ip link set eth1 down; ip link set eth1 address 52:54:00:00:00:63
         ip link set eth1 up");
    silent(&pair.debuggee, "172.16.0.1:80");
    pair.debuggee
        .sh(&format!("ip link set eth1 down; ip link set eth1 address {own}; ip link set eth1 up"));
    assert!(reached(&pair.debuggee, 0, "172.16.0.1:80"));
    assert_eq!(pair.host.observe().grants.len(), 2);
    pair.host.revoke(&Grant::Link { machine: MachineId(8), broadcasts_a_second: LIMIT });
    silent(&pair.debuggee, "172.16.0.1:80");
}

#[test]
fn the_host_says_nothing_on_a_link_and_hears_nothing() {
    let pair = Pair::new();
    pair.grant();
    // Other addresses of the host, which a bridge without one answers ARP for, and IPv6.
    pair.host.net.sh("ip link add other type bridge; ip link set other up
         ip addr add 172.16.0.9/32 dev other; ip addr add 172.16.0.8/24 dev nsl00007
         ip addr add fd00::9/64 dev nsl00007 nodad");
    let _server = listen(&pair.host.net, 0, "0.0.0.0:22");
    let _server6 = listen(&pair.host.net, 0, "[::]:23");
    pair.debuggee.sh("ip addr add fd00::2/64 dev eth1 nodad");
    let neighbour = |to: &str| pair.debuggee.sh(&format!("ip neigh show {to} dev eth1"));
    let targets = ["172.16.0.8:22", "172.16.0.9:22", "[fd00::9]:23"];
    for to in targets {
        silent(&pair.debuggee, to);
    }
    for to in ["172.16.0.8", "172.16.0.9"] {
        assert!(!neighbour(to).contains("lladdr"), "no ARP answer for {to}: {}", neighbour(to));
    }
    // With its MAC known, so that it is not ARP alone that fails; and a tap on an access bridge.
    let shown = pair.host.net.sh("ip -o link show dev nsl00007");
    let mac = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
    let mac = mac.expect("a bridge has a MAC");
    pair.debuggee.sh(&format!("ip neigh replace 172.16.0.8 lladdr {mac} dev eth1"));
    silent(&pair.debuggee, "172.16.0.8:22");
    pair.host.net.sh("ip link add nsb00007 type bridge; ip link set nsb00007 up
         ip addr add 10.77.0.1/28 dev nsb00007; ip link set nsk00008 master nsb00007");
    pair.debuggee.sh("ip addr add 10.77.0.3/28 dev eth1");
    let _dns = listen(&pair.host.net, 0, "0.0.0.0:53");
    silent(&pair.debuggee, "10.77.0.1:53");
    pair.host.net.sh("ip link set nsk00008 master nsl00007; ip neigh flush all");
    pair.debuggee.sh("ip neigh del 172.16.0.8 dev eth1; ip neigh flush all");
    pair.host.net.sh("nft flush ruleset");
    for to in targets {
        assert!(reached(&pair.debuggee, 0, to), "{to} is there without the rules");
    }
    assert!(neighbour("172.16.0.9").contains("lladdr"), "ARP is answered without the rules");
}

#[test]
fn a_machine_that_floods_its_link_with_broadcasts_is_held_to_its_rate() {
    let pair = Pair::new();
    pair.grant();
    let peer = pair.debugger.inside(|| UdpSocket::bind("0.0.0.0:9")).expect("a socket");
    peer.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let flood = pair.debuggee.inside(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    flood.set_broadcast(true).expect("allowed");
    for _ in 0..500 {
        flood.send_to(b"x", "172.16.0.255:9").expect("sent");
    }
    let heard = std::iter::from_fn(|| peer.recv(&mut [0; 9]).ok()).count();
    assert!((1..=LIMIT as usize * 2).contains(&heard), "{heard} of 500");
    let _server = listen(&pair.debuggee, 0, "0.0.0.0:80");
    assert!(reached(&pair.debugger, 0, "172.16.0.2:80"), "the other one is heard");
}

#[test]
fn what_a_link_says_is_counted_and_what_would_leave_it_is_refused_and_counted_or_has_left() {
    let pair = Pair::new();
    pair.grant();
    let machines = [7, 8].map(MachineId);
    let counts = || {
        let counts = pair
            .host
            .net
            .inside(|| pair.host.firewall.link_counts(nonstop_model::EnvironmentId(7), &machines));
        counts.expect("asked").expect("loaded")
    };
    // What they said by IPv6 as they came up, before anything was granted, was refused.
    let before = counts();
    let _server = listen(&pair.debugger, 0, "0.0.0.0:80");
    assert!(reached(&pair.debuggee, 0, "172.16.0.1:80"));
    let spoken = counts();
    // ARP, the handshake, the end: there and back.
    assert!(spoken.between >= before.between + 6, "{before:?} {spoken:?}");
    assert_eq!((spoken.refused, spoken.left), (before.refused, 0), "no attempt: {spoken:?}");

    // To the host itself, whose MAC on the link is known.
    pair.host.net.sh("ip addr add 172.16.0.8/24 dev nsl00007");
    let shown = pair.host.net.sh("ip -o link show dev nsl00007");
    let mac = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
    let mac = mac.expect("a bridge has a MAC");
    pair.debuggee.sh(&format!("ip neigh replace 172.16.0.8 lladdr {mac} dev eth1"));
    let send = || {
        let socket = pair.debuggee.inside(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        for _ in 0..3 {
            socket.send_to(b"out", "172.16.0.8:7").expect("sent");
        }
    };
    send();
    let tried = counts();
    assert_eq!((tried.refused, tried.left), (before.refused + 3, 0), "{tried:?}");
    assert_eq!(tried.tables, spoken.tables);
    assert!(pair.host.observe().current, "counting is no change of the rules");

    // Somebody opens the link by hand: what gets out is told.
    for (family, chain) in [("bridge", "input"), ("inet", "input")] {
        pair.host.net.sh(&format!("nft flush chain {family} nonstop {chain}"));
    }
    send();
    let open = counts();
    assert_eq!(open.refused, tried.refused, "{open:?}");
    // Seen leaving the bridge, and arriving at the host; what IPv6 says to everybody may be there too.
    assert!(open.left >= 6, "{open:?}");
    pair.host.net.sh("ip link add lan type veth peer name lanp; ip link set lan master nsl00007 up
         ip link set lanp up; nft flush chain bridge nonstop forward");
    pair.debuggee.sh("ip neigh replace 172.16.0.99 lladdr 02:00:00:00:00:99 dev eth1");
    let socket = pair.debuggee.inside(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    socket.send_to(b"out", "172.16.0.99:7").expect("sent");
    assert!(counts().left > open.left, "by another port of the bridge");

    pair.host.net.inside(|| pair.host.firewall.load()).expect("loaded");
    let anew = counts();
    assert_ne!(anew.tables, spoken.tables, "counted from the start: not to be compared");
    assert_eq!((anew.between, anew.left), (0, 0), "{anew:?}");
    pair.host.net.sh("nft flush ruleset");
    let none = pair
        .host
        .net
        .inside(|| pair.host.firewall.link_counts(nonstop_model::EnvironmentId(7), &machines));
    assert_eq!(none.expect("asked"), None);
}

#[test]
fn a_machine_opens_so_many_connections_and_so_many_a_second_and_disturbs_no_neighbour() {
    let lab = Two::new();
    let few = NetworkLimits { connections: 16.into(), ..NetworkLimits::default() };
    let slow = NetworkLimits { new_connections_a_second: 10, ..NetworkLimits::default() };
    let listener = listen(&lab.a, 0, "0.0.0.0:80");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || stream.read(&mut [0]));
        }
    });
    for (number, source, limits) in [(7, "10.77.0.2", few), (8, "10.77.1.2", slow)] {
        let (machine, address) = (MachineId(number), ip(source));
        lab.host.revoke(&port(machine, address));
        lab.host.grant(&Grant::Port { machine, address, limits }, None);
        lab.host.grant(&reach(number, source, "10.80.0.2", Protocol::Tcp, 80), HOUR);
    }
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..20 {
        held.extend(connect(&lab.seven, 0, "10.80.0.2:80").ok());
    }
    assert!((15..=16).contains(&held.len()), "{} of 20 are open", held.len());
    held.truncate(8);
    assert!(reached(&lab.seven, 0, "10.80.0.2:80"), "what was closed counts no more");
    // Datagrams, each a flow of its own, faster than the rate.
    let right = reach(8, "10.77.1.2", "10.80.0.2", Protocol::Udp, 9);
    lab.host.grant(&right, HOUR);
    let server = lab.a.inside(|| UdpSocket::bind("0.0.0.0:9")).expect("a socket");
    server.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    for _ in 0..200 {
        let socket = lab.eight.inside(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        socket.send_to(b"x", (Ipv4Addr::new(10, 80, 0, 2), 9)).expect("sent");
    }
    let heard = std::iter::from_fn(|| server.recv(&mut [0; 9]).ok()).count();
    assert!((1..60).contains(&heard), "{heard} of 200");
    assert!(reached(&lab.seven, 0, "10.80.0.2:80"), "the neighbour is not held back");
    assert!(lab.host.observe().current, "counting is no change of the rules");
}

//! The walls before SSH: who gets as far as the gateway, and how much of it one source may take.

use crate::{ALICE, HOUR, Host, connect, firewall, ip, listen, net::Net, passes, portal_of};
use nonstop_plan::Grant;
use rustix::net::{self, AddressFamily, SocketType, sockopt};
use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// A host with a gateway at 192.0.2.1:22, and a street with many addresses before it.
struct Door {
    host: Host,
    street: Net,
    gateway: TcpListener,
}

impl Door {
    fn new() -> Door {
        let (host, street) = (Host::new(), Net::new());
        host.net.sh(&format!(
            "ip link add up0 type veth peer name eth0 netns {}
             ip link set up0 up; ip addr add 192.0.2.1/24 dev up0
             ip route add 198.51.100.0/24 dev up0; ip route add 203.0.113.0/24 dev up0",
            street.pid()
        ));
        street.sh("ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0
             for a in 198.51.100.10 198.51.100.20 198.51.100.200 203.0.113.5; do
                 ip addr add $a/32 dev eth0; done");
        let gateway = listen(&host.net, 0, "0.0.0.0:22");
        let door = Door { host, street, gateway };
        // A link that has just come up may lose the first packets.
        let _other = listen(&door.host.net, 0, "0.0.0.0:2222");
        assert!((0..20).any(|_| door.opens("192.0.2.2", 2222)), "a street that leads nowhere");
        door
    }

    fn register(&self, net: &str) -> Grant {
        let grant = source(net);
        self.host.grant(&grant, HOUR);
        grant
    }

    /// A connection to `port` of the host from the address `from`, answered within `patience`.
    fn from(&self, from: &str, port: u16, patience: Duration) -> Option<TcpStream> {
        let (from, to) = (ip(from), SocketAddrV4::new(ip("192.0.2.1"), port));
        self.street.inside(|| {
            let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("one");
            net::bind(&socket, &SocketAddrV4::new(from, 0)).expect("its own address");
            let wait = sockopt::Timeout::Send;
            sockopt::set_socket_timeout(&socket, wait, Some(patience)).expect("a timeout");
            net::connect(&socket, &to).ok()?;
            sockopt::set_socket_timeout(&socket, wait, None).expect("no timeout");
            Some(TcpStream::from(socket))
        })
    }

    /// Whether somebody at `port` answers who comes from `from`.
    fn opens(&self, from: &str, port: u16) -> bool {
        self.from(from, port, Duration::from_millis(300)).is_some()
    }

    /// Opens from `from` until one is not answered; gives those that were, at most `most`.
    fn crowd(&self, from: &str, most: usize) -> Vec<TcpStream> {
        let next = || self.from(from, 22, Duration::from_millis(100));
        std::iter::from_fn(next).take(most).collect()
    }

    /// Flows to the gateway that the host tracks.
    fn tracked(&self) -> usize {
        self.host
            .net
            .sh("grep -c 'dport=22 ' /proc/net/nf_conntrack || true")
            .trim()
            .parse()
            .expect("n")
    }

    /// The kernel's word on who was refused: source, whether registered, packets.
    fn refused(&self) -> Vec<(String, bool, u64)> {
        let all = self.host.net.inside(|| self.host.firewall.refused()).expect("asked");
        assert!(all.iter().all(|one| one.seconds_ago < 60), "{all:?}");
        all.iter().map(|one| (one.source.to_string(), one.registered, one.packets)).collect()
    }
}

fn source(net: &str) -> Grant {
    Grant::Source { net: net.parse().expect("a network") }
}

#[test]
fn only_a_registered_network_reaches_the_gateway_and_overlapping_ones_come_and_go_apart() {
    let door = Door::new();
    let _other = listen(&door.host.net, 0, "0.0.0.0:2222");
    assert!(!door.opens("198.51.100.10", 22), "nobody is registered yet");
    assert!(door.opens("198.51.100.10", 2222), "what else the host serves is its own");
    let wide = door.register("198.51.100.0/24");
    let half = door.register("198.51.100.0/25");
    let single = door.register("198.51.100.10/32");
    let seen = door.host.observe();
    assert!(seen.current, "as it was loaded");
    let mut expected = vec![wide.clone(), half.clone(), single.clone()];
    expected.sort();
    assert_eq!(seen.grants.into_keys().collect::<Vec<_>>(), expected);
    assert!(door.opens("198.51.100.10", 22) && door.opens("198.51.100.200", 22));
    assert!(!door.opens("203.0.113.5", 22) && !door.opens("192.0.2.2", 22));
    // The wide one goes: whom a narrower one covers is not asked again.
    let mut open = door.from("198.51.100.200", 22, Duration::from_secs(1)).expect("registered");
    door.host.revoke(&wide);
    assert!(door.opens("198.51.100.10", 22) && !door.opens("198.51.100.200", 22));
    let mut served = loop {
        let (served, peer) = door.gateway.accept().expect("accepted");
        if peer.port() == open.local_addr().expect("its own").port() {
            break served;
        }
    };
    assert!(passes(&mut open, &mut served), "what is open is ended by name, not by its network");
    door.host.revoke(&half);
    assert!(door.opens("198.51.100.10", 22), "its own is left");
    door.host.revoke(&single);
    assert!(!door.opens("198.51.100.10", 22));
    let anywhere = door.register("0.0.0.0/0");
    assert!(door.opens("203.0.113.5", 22), "somebody may come from anywhere");
    door.host.revoke(&anywhere);
    assert!(!door.opens("203.0.113.5", 22));
    let strangers = door.refused();
    assert!(strangers.iter().all(|(_, registered, packets)| !registered && *packets > 0));
    assert!(strangers.iter().any(|(source, ..)| source == "203.0.113.5"), "{strangers:?}");
}

#[test]
fn a_registered_network_lasts_as_long_as_its_lease_and_what_is_open_outlives_it() {
    let door = Door::new();
    door.host.grant(&source("198.51.100.0/24"), Some(Duration::from_millis(1500)));
    let mut open = door.from("198.51.100.10", 22, Duration::from_secs(1)).expect("registered");
    let (mut served, _) = door.gateway.accept().expect("accepted");
    thread::sleep(Duration::from_millis(1600));
    assert!(!door.opens("198.51.100.10", 22), "nobody renewed it");
    assert!(passes(&mut open, &mut served) && passes(&mut served, &mut open));
}

#[test]
fn a_gateway_of_one_address_is_guarded_there_and_nowhere_else() {
    let door = Door::new();
    door.host.net.sh("ip addr add 192.0.2.9/24 dev up0");
    let mut config = crate::config();
    config.gateway = "192.0.2.9:22".parse().expect("an address");
    let own = nonstop_host::firewall::Firewall::new(config);
    door.host.net.inside(|| own.load()).expect("loaded");
    assert!(door.opens("203.0.113.5", 22), "another sshd of the host");
    let there = || {
        let answered =
            "timeout 0.5 bash -c 'exec 3<>/dev/tcp/192.0.2.9/22' 2>&1 && echo yes || true";
        door.street.sh(answered).ends_with("yes\n")
    };
    assert!(!there());
    door.host.net.inside(|| own.grant(&source("192.0.2.0/24"), HOUR)).expect("granted");
    assert!(there());
}

#[test]
fn one_source_holds_its_share_and_others_do_not_notice() {
    let door = Door::new();
    door.register("198.51.100.0/24");
    let counted = Instant::now();
    let held = door.crowd("198.51.100.10", 1000);
    assert_eq!(held.len(), 60, "as many as a minute's at once");
    let begun = Instant::now();
    assert!(door.opens("198.51.100.20", 22));
    println!("another source, beside {} held: {:?}", held.len(), begun.elapsed());
    assert!(begun.elapsed() < Duration::from_millis(300));
    // One comes back each second.
    thread::sleep(Duration::from_millis(2200));
    let more = door.crowd("198.51.100.10", 1000);
    let back = counted.elapsed().as_secs() as usize + 1;
    assert!((2..=back).contains(&more.len()), "{} within {back} s", more.len());
    thread::sleep(Duration::from_millis(6000));
    let most = door.crowd("198.51.100.10", 1000);
    assert_eq!(held.len() + more.len() + most.len(), 64, "and at most its share at a time");
    drop((held, more, most));
    let refused = door.refused();
    let crowds: Vec<_> = refused.iter().filter(|(_, registered, _)| *registered).collect();
    assert!(matches!(&crowds[..], [(source, _, _)] if source == "198.51.100.10"), "{refused:?}");
}

#[test]
fn no_source_fills_the_hosts_table_of_connections() {
    let door = Door::new();
    door.register("198.51.100.0/24");
    let begun = Instant::now();
    // Connect and drop, from one that is registered and from one that is not.
    while begun.elapsed() < Duration::from_secs(5) {
        for from in ["198.51.100.10", "203.0.113.5"] {
            drop(door.from(from, 22, Duration::from_millis(1)));
        }
    }
    let tracked = door.tracked();
    println!("tracked after {:?} of connecting and dropping: {tracked}", begun.elapsed());
    assert!((1..=70).contains(&tracked), "{tracked}");
    assert!(door.opens("198.51.100.20", 22));
}

#[test]
fn the_persons_rights_and_the_gateways_are_told_apart() {
    let door = Door::new();
    let _portal = door.host.portal();
    door.host.grant(&portal_of(ALICE), HOUR);
    assert!(connect(&door.host.net, ALICE, "127.64.0.1:8080").is_ok());
    assert!(connect(&door.host.net, 0, "127.0.0.1:22").is_err(), "the host itself is no source");
    door.register("127.0.0.0/8");
    assert!(connect(&door.host.net, 0, "127.0.0.1:22").is_ok());
    assert!(connect(&door.host.net, ALICE, "127.0.0.1:22").is_err(), "nor from within a tunnel");
    let address: Ipv4Addr = ip("127.64.0.1");
    let to_own = format!("{address}:22");
    assert!(connect(&door.host.net, ALICE, &to_own).is_err());
    let restarted = firewall();
    let seen = door.host.net.inside(|| restarted.observe()).expect("observed");
    assert!(seen.current && seen.grants.len() == 2, "{:?}", seen.grants);
}

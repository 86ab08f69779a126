//! A host that routes between one machine's segment and a data domain, and the two ends.

use super::rules::{Card, Rules};
use anyhow::Result;
use nonstop_testkit::{
    net::Namespace,
    place::{Place, wait_for},
};
use std::{net::Ipv4Addr, path::Path, time::Duration};

/// A host with its machine and its server.
pub(super) struct Ground {
    pub(super) card: Card,
    machine: Namespace,
    server: Namespace,
    /// None where somebody else keeps the host.
    _host: Option<Namespace>,
}

/// A new host, and the program that changes its rules.
pub(super) fn host(fleet: &Path) -> Result<(Namespace, Rules)> {
    let host = Namespace::new()?;
    settle(&host.place())?;
    let rules = Rules::start(fleet, &host.place())?;
    Ok((host, rules))
}

/// Neither IPv6 nor br_netfilter, and a host that may route.
pub(super) fn settle(place: &Place) -> Result<()> {
    let settings = [
        "net.ipv6.conf.all.disable_ipv6=1",
        "net.ipv6.conf.default.disable_ipv6=1",
        "net.ipv4.conf.all.rp_filter=0",
        "net.bridge.bridge-nf-call-iptables=0",
        "net.bridge.bridge-nf-call-ip6tables=0",
        "net.bridge.bridge-nf-call-arptables=0",
    ];
    // A kernel may lack some of them.
    place.run(&[&["sysctl", "-qew"], &settings[..]].concat()).map(drop)
}

impl Ground {
    /// Puts a machine with `card` and its server around `host`.
    pub(super) fn around(host: Namespace, card: Card) -> Result<Ground> {
        let ground = Ground::around_place(host.holder(), card)?;
        Ok(Ground { _host: Some(host), ..ground })
    }

    /// Puts them around the host in whose network the process `host` is.
    pub(super) fn around_place(host: u32, card: Card) -> Result<Ground> {
        let (machine, server) = (Namespace::new()?, Namespace::new()?);
        let place = Place::in_network(host);
        let Card { bridge, tap, mac, address, host: gate, domain, tcp, udp } = &card;
        let [a, b, c, _] = tcp.ip().octets();
        let there = Ipv4Addr::new(a, b, c, 1);
        for line in [
            format!("ip link add {bridge} type bridge mcast_snooping 0"),
            format!("ip link set {bridge} up"),
            format!("ip address add {gate}/28 dev {bridge}"),
            format!(
                "ip link add {tap} type veth peer name eth0 address {mac} netns {}",
                machine.holder()
            ),
            format!("ip link set {tap} master {bridge} up"),
            format!("ip link add {domain} type bridge mcast_snooping 0"),
            format!("ip link set {domain} up"),
            format!("ip address add {there}/24 dev {domain}"),
            format!("ip link add {domain}p type veth peer name eth0 netns {}", server.holder()),
            format!("ip link set {domain}p master {domain} up"),
            format!("sysctl -qw net.ipv4.conf.{bridge}.forwarding=1"),
            format!("sysctl -qw net.ipv4.conf.{domain}.forwarding=1"),
        ] {
            place.line(&line)?;
        }
        for (end, addresses, route) in [
            (&machine, vec![format!("{address}/28")], gate),
            (&server, vec![format!("{}/24", tcp.ip()), format!("{}/24", udp.ip())], &there),
        ] {
            settle(&end.place())?;
            end.place().line("ip link set eth0 up")?;
            for address in addresses {
                end.place().line(&format!("ip address add {address} dev eth0"))?;
            }
            end.place().line(&format!("ip route add default via {route}"))?;
        }
        wait_for("the cables to carry", Duration::from_secs(10), || {
            let ports = place.line("bridge link show")?;
            Ok((ports.matches("state forwarding").count() >= 2).then_some(()))
        })?;
        Ok(Ground { card, machine, server, _host: None })
    }

    /// A process in the machine's network.
    pub(super) fn machine(&self) -> u32 {
        self.machine.holder()
    }

    /// A process in the server's network.
    pub(super) fn server(&self) -> u32 {
        self.server.holder()
    }
}

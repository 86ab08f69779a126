//! Small labs in namespaces of their own: real bridges, real rules, veth pairs for taps.

pub(crate) mod pair;

use nonstop_host::firewall::{Firewall, FirewallConfig};
use nonstop_reach::{
    kernel::Kernel,
    observe::{self, Network},
};
use nonstop_testkit::net::Namespace;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

/// A host with its guests' ends of the cables in another namespace.
pub(crate) struct Lab {
    pub(crate) host: Namespace,
    pub(crate) guests: Namespace,
}

impl Lab {
    /// A host with nothing on it that routes, as Debian starts it.
    pub(crate) fn new() -> Lab {
        let lab = Lab {
            host: Namespace::new().expect("a namespace"),
            guests: Namespace::new().expect("a namespace"),
        };
        // What a guest's end of a cable says by itself is no part of any test.
        let quiet =
            "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1";
        lab.guests.place().line(quiet).expect("quiet");
        lab.ip("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0");
        lab.ip("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        // Where br_netfilter is built in, it would put frames of bridges through routed rules.
        for which in ["iptables", "ip6tables", "arptables"] {
            lab.ip(&format!("sysctl -eqw net.bridge.bridge-nf-call-{which}=0"));
        }
        lab
    }

    pub(crate) fn ip(&self, line: &str) {
        self.host.place().line(line).unwrap_or_else(|e| panic!("{line}: {e:#}"));
    }

    pub(crate) fn bridge(&self, name: &str, address: Option<&str>) {
        self.ip(&format!("ip link add {name} type bridge mcast_snooping 0"));
        if let Some(address) = address {
            self.ip(&format!("ip address add {address} dev {name}"));
        }
        self.ip(&format!("ip link set {name} up"));
    }

    /// A tap on `bridge`; its other end is `g-NAME` among the guests, with `mac`.
    pub(crate) fn tap(&self, name: &str, bridge: &str, mac: &str) {
        let peer = format!("g{name}");
        self.cable(name, &peer, mac);
        self.ip(&format!("ip link set {name} master {bridge} up"));
    }

    /// An interface of the host with an address; its other end is `gNAME`.
    pub(crate) fn card(&self, name: &str, address: &str, mac: &str) {
        self.cable(name, &format!("g{name}"), mac);
        self.ip(&format!("ip address add {address} dev {name}"));
        self.ip(&format!("ip link set {name} up"));
    }

    fn cable(&self, name: &str, peer: &str, mac: &str) {
        let guests = self.guests.holder();
        self.ip(&format!(
            "ip link add {name} type veth peer name {peer} address {mac} netns {guests}"
        ));
        self.guests.place().line(&format!("ip link set {peer} up")).expect("up");
    }

    pub(crate) fn nft(&self, script: &str) {
        self.try_nft(script).unwrap_or_else(|said| panic!("{said}\n{script}"));
    }

    /// Loads `script`, or returns what nft has against it.
    pub(crate) fn try_nft(&self, script: &str) -> Result<(), String> {
        let net = format!("--net=/proc/{}/ns/net", self.host.holder());
        let mut child = Command::new("nsenter")
            .args([&net, "--", "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nft");
        child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("nft ends");
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// A bridge on which the host says nothing.
    pub(crate) fn link_bridge(&self, name: &str) {
        self.ip(&format!("ip link add {name} type bridge mcast_snooping 0"));
        for setting in ["arp_ignore=1", "arp_announce=2", "rp_filter=1", "forwarding=0"] {
            self.ip(&format!("sysctl -qw net.ipv4.conf.{name}.{setting}"));
        }
        self.ip(&format!("ip link set {name} up"));
    }

    /// Our tables alone, as they are listed.
    pub(crate) fn ours(&self) -> Value {
        let mut listing = self.kernel().rules;
        let ours = |object: &Value| {
            let (_, body) = object.as_object().and_then(|o| o.iter().next()).expect("an object");
            [&body["table"], &body["name"]].iter().any(|name| **name == "nonstop")
        };
        if let Some(objects) = listing["nftables"].as_array_mut() {
            objects.retain(ours);
        }
        listing
    }

    pub(crate) fn kernel(&self) -> Kernel {
        observe::kernel(Network::Of(self.host.holder())).expect("the kernel is read")
    }
}

/// The rules that this version of the lab loads, closed, with a data domain behind `nsd0`.
pub(crate) fn our_rules() -> String {
    let servers = [[10, 99, 0, 10], [10, 99, 0, 20], [10, 99, 0, 30]].map(Ipv4Addr::from);
    let config = FirewallConfig {
        gateway: "0.0.0.0:22".parse().expect("an address"),
        connections_per_source: 64,
        new_per_minute: 60,
        pool: "10.77.0.0/16".parse().expect("a network"),
        domains: BTreeMap::from([("nsd0".to_string(), BTreeSet::from(servers))]),
        airlock_port: 8443,
        program_uids: vec![300, 301],
        dnsmasq_uids: vec![110],
        display_uids: 60_000..=60_999,
        machine_uids: 70_000..=79_999,
        account_uids: 20_000..=29_999,
    };
    Firewall::new(config).rules().to_string()
}

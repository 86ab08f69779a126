//! Small labs in namespaces of their own: real bridges, real rules, veth pairs for taps.

use nonstop_host::firewall::{Firewall, FirewallConfig};
use nonstop_reach::{
    kernel::Kernel,
    observe::{self, Network},
};
use nonstop_testkit::net::Namespace;
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// A host with its guests' ends of the cables in another namespace.
pub struct Lab {
    pub host: Namespace,
    pub guests: Namespace,
}

impl Lab {
    /// A host with nothing on it that routes, as Debian starts it.
    pub fn new() -> Lab {
        let lab = Lab {
            host: Namespace::new().expect("a namespace"),
            guests: Namespace::new().expect("a namespace"),
        };
        // What a guest's end of a cable says by itself is no part of any test.
        let quiet =
            "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1";
        lab.guests.place().line(quiet).expect("quiet");
        lab.ip("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0");
        lab
    }

    pub fn ip(&self, line: &str) {
        self.host.place().line(line).unwrap_or_else(|e| panic!("{line}: {e:#}"));
    }

    pub fn bridge(&self, name: &str, address: Option<&str>) {
        self.ip(&format!("ip link add {name} type bridge mcast_snooping 0"));
        if let Some(address) = address {
            self.ip(&format!("ip address add {address} dev {name}"));
        }
        self.ip(&format!("sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1"));
        self.ip(&format!("ip link set {name} up"));
    }

    /// A tap on `bridge`; its other end is `g-NAME` among the guests, with `mac`.
    pub fn tap(&self, name: &str, bridge: &str, mac: &str) {
        let peer = format!("g{name}");
        self.cable(name, &peer, mac);
        self.ip(&format!("ip link set {name} master {bridge} up"));
    }

    /// An interface of the host with an address; its other end is `gNAME`.
    pub fn card(&self, name: &str, address: &str, mac: &str) {
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

    pub fn nft(&self, script: &str) {
        let net = format!("--net=/proc/{}/ns/net", self.host.holder());
        let mut child = Command::new("nsenter")
            .args([&net, "--", "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nft");
        child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("nft ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{script}");
    }

    pub fn kernel(&self) -> Kernel {
        observe::kernel(Network::Of(self.host.holder())).expect("the kernel is read")
    }
}

/// The rules that this version of the lab loads, closed.
pub fn our_rules() -> String {
    let config = FirewallConfig {
        pool: "10.77.0.0/16".parse().expect("a network"),
        portal_uid: 300,
        agent_uid: 301,
        dnsmasq_uids: vec![110],
        display_uids: 60_000..=60_999,
        machine_uids: 70_000..=79_999,
        account_uids: 20_000..=29_999,
    };
    Firewall::new(config).rules().to_string()
}

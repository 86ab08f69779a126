//! What was read from the running kernel, as plain data.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Everything that decides where a packet goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// What `nft -j list ruleset` says.
    pub rules: Value,
    /// The interfaces.
    pub links: Vec<Link>,
    /// Their addresses.
    pub addresses: Vec<Address>,
    /// The routes of all tables.
    pub routes: Vec<Route>,
    /// The rules that choose a routing table.
    pub policies: Vec<Policy>,
    /// Settings under /proc/sys, by their path below it: `net/ipv4/conf/lo/rp_filter`.
    pub settings: BTreeMap<String, String>,
    /// What else may move packets and is not evaluated: qdiscs with filters, rules of
    /// iptables-legacy.
    pub strange: Vec<String>,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its MAC; empty if it has none.
    pub mac: String,
    /// Whether it is switched on.
    pub up: bool,
    /// What it is: `bridge`, `tun`, `veth`; empty for hardware.
    pub kind: String,
    /// The bridge it is a port of.
    pub master: Option<String>,
    /// If it is a bridge, how it is set.
    pub bridge: Option<Bridge>,
    /// If it is a port of a bridge, how it is set.
    pub port: Option<Port>,
}

/// How a bridge is set, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Whether it speaks the spanning tree protocol.
    pub stp: bool,
    /// Whether it tells ports apart by VLAN.
    pub vlan_filtering: bool,
    /// Link-local groups that it forwards.
    pub group_fwd_mask: u32,
    /// Whether its frames pass the rules for IPv4, IPv6 and ARP (0 if only the host's setting says).
    pub nf_call: [bool; 3],
}

/// How a port of a bridge is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Whether it forwards.
    pub forwarding: bool,
    /// Whether it is kept from other isolated ports.
    pub isolated: bool,
    /// Whether frames may leave by the port they came from.
    pub hairpin: bool,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The interface.
    pub interface: String,
    /// The address and its network.
    pub address: IpNet,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `local`, `main`, `default`, or a number.
    pub table: String,
    /// `unicast`, `local`, `broadcast`, `blackhole` …
    pub kind: String,
    /// Where to.
    pub to: IpNet,
    /// By which interfaces; more than one if the kernel may choose.
    pub interfaces: Vec<String>,
    /// Lower ones first.
    pub metric: u32,
}

/// A rule that chooses a routing table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Lower ones first.
    pub priority: u32,
    /// The table.
    pub table: String,
    /// Whether it is for all packets.
    pub for_all: bool,
}

impl Policy {
    /// Whether it is one of the three with which every host starts.
    pub fn is_usual(&self) -> bool {
        self.for_all && ["local", "main", "default"].contains(&self.table.as_str())
    }
}

impl Kernel {
    /// A setting of `family` (`ipv4` or `ipv6`) for `interface` as a number; None if it was not read.
    pub fn conf(&self, family: &str, interface: &str, key: &str) -> Option<i64> {
        self.settings.get(&format!("net/{family}/conf/{interface}/{key}"))?.trim().parse().ok()
    }

    /// The setting of `interface` or that of all, whichever is greater: so the kernel takes
    /// `arp_ignore`, `arp_announce` and `rp_filter`.
    pub fn strictest(&self, interface: &str, key: &str) -> Option<i64> {
        let of = |interface| self.conf("ipv4", interface, key);
        Some(of(interface)?.max(of("all").unwrap_or(0)))
    }

    /// Whether frames on bridges pass the rules of `iptables`, `ip6tables` or `arptables` too.
    pub fn bridge_calls(&self, which: &str) -> bool {
        let path = format!("net/bridge/bridge-nf-call-{which}");
        self.settings.get(&path).is_some_and(|value| value.trim() != "0")
    }
}

//! What the lab wants: its machines, segments and servers, and who may reach what.
//!
//! Plain data without a store or a plan behind it, so that a test or a file can say it too.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeSet, net::Ipv4Addr};

/// What should be on the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// The machines that may run now.
    pub machines: Vec<Machine>,
    /// Their segments.
    pub segments: Vec<Segment>,
    /// The servers of the data domains.
    pub servers: Vec<Server>,
    /// Services of the lab itself for which only a listener stands: `airlock`.
    #[serde(default)]
    pub stand_ins: Vec<String>,
    /// The interfaces of the data domains.
    #[serde(default)]
    pub domains: Vec<String>,
    /// What sets of ours must hold, element by element.
    #[serde(default)]
    pub sets: Vec<WantedSet>,
    /// How `nft -j list ruleset` lists our rules right after they are loaded, wherever that was;
    /// None: rules are not compared one by one, only by what they do.
    #[serde(default)]
    pub rules: Option<Value>,
    /// Settings beyond those that every segment needs.
    #[serde(default)]
    pub settings: Vec<Setting>,
}

/// A machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name in the matrix: environment and role.
    pub name: String,
    /// Whether it runs, so that its taps must be there. Without them nothing comes from it or to
    /// it, whatever its rights.
    #[serde(default)]
    pub running: bool,
    /// Whether it may say nothing at all on its cards: its rights are not given yet, or have ended.
    #[serde(default)]
    pub mute: bool,
    /// The data domain whose servers it may have rights to; None for none.
    #[serde(default)]
    pub edition: Option<String>,
    /// Its network cards.
    pub cards: Vec<Card>,
    /// What it may connect to, beyond what its segment gives to all.
    #[serde(default)]
    pub reach: Vec<Reach>,
    /// Ports of its access address that programs on the host may connect to.
    #[serde(default)]
    pub from_host: Vec<Port>,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The bridge it belongs on.
    pub segment: String,
    /// Its tap on the host.
    pub tap: String,
    /// Its MAC.
    pub mac: String,
    /// Its only address; None on a link segment, where the host gives none.
    pub address: Option<Ipv4Addr>,
}

/// An isolated bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its bridge.
    pub bridge: String,
    /// The host's address and network on it; None on a link segment, where it has none.
    pub host: Option<(Ipv4Addr, Ipv4Net)>,
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// Of what.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// A port that a machine may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reach {
    /// A server's address, or the host's own on the machine's access segment.
    pub address: Ipv4Addr,
    /// The port there.
    #[serde(flatten)]
    pub port: Port,
}

/// A server of a data domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The data domain that it belongs to.
    #[serde(default)]
    pub domain: String,
    /// The host's interface that leads to it.
    pub interface: String,
    /// Whether only a listener stands for it.
    #[serde(default)]
    pub stand_in: bool,
}

/// A set of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedSet {
    /// `inet`, `bridge`.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its elements as nft takes them: fields joined by ` . `, then the limit, if it has one.
    pub elements: BTreeSet<String>,
    /// If its elements are rights that end by themselves, the longest that one may last, in seconds.
    #[serde(default)]
    pub lease_seconds: Option<u64>,
}

/// A setting under /proc/sys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Below /proc/sys: `net/ipv4/conf/nsl00001/arp_ignore`.
    pub path: String,
    /// What it must be.
    pub value: String,
}

/// What was wanted at a time, as the daemon leaves it for a proof without it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// When, in RFC 3339.
    pub at: String,
    /// What.
    pub wanted: Wanted,
}

/// The ports of DHCP and DNS on every access segment's host address.
pub(crate) const DHCP: u16 = 67;
pub(crate) const DHCP_CLIENT: u16 = 68;
pub(crate) const DNS: u16 = 53;

impl Wanted {
    /// The segment on `bridge`.
    pub fn segment(&self, bridge: &str) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.bridge == bridge)
    }
}

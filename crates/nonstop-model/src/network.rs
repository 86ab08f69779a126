//! Segments, addresses, and the names that Linux sees. All derive from ids, so that
//! a listing of the host says whose a thing is without asking the database.

use crate::ids::{EnvironmentId, MachineId};
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Addresses that identify accounts. Connections to one are refused to every uid but the
/// account's own.
pub const ACCOUNT_NET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 64, 0, 0), 10);

/// Addresses on which the hypervisor's displays are served, one a machine. Only uids that hold a
/// right to one reach it.
pub const DESKTOP_NET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 128, 0, 0), 9);

/// The port of RDP, and that of the owner's viewer of a display; others follow it.
pub const RDP_PORT: u16 = 3389;

/// The address on which the display of `machine` is served; never used for another.
pub fn display_address(machine: MachineId) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(DESKTOP_NET.network()) + machine.0)
}

/// What a segment joins.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SegmentKind {
    /// Machines of one environment with the host, which gives addresses and answers names there.
    Access,
    /// Machines of one environment with each other. The host has no address on it and says
    /// nothing there.
    Link,
}

impl SegmentKind {
    /// All of them; a machine has at most one card on each.
    pub const ALL: [SegmentKind; 2] = [SegmentKind::Access, SegmentKind::Link];

    /// The word of templates, pages and log.
    pub fn as_str(self) -> &'static str {
        match self {
            SegmentKind::Access => "access",
            SegmentKind::Link => "link",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            SegmentKind::Access => "nsb",
            SegmentKind::Link => "nsl",
        }
    }
}

impl fmt::Display for SegmentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Name of a segment's bridge: `nsb` (access) or `nsl` (link) and five digits; fits the 15 bytes
/// of Linux.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SegmentName(String);

impl SegmentName {
    /// The access segment of an environment.
    pub fn of(environment: EnvironmentId) -> SegmentName {
        SegmentName::of_kind(SegmentKind::Access, environment)
    }

    /// The segment of an environment that is of `kind`.
    pub fn of_kind(kind: SegmentKind, environment: EnvironmentId) -> SegmentName {
        SegmentName(format!("{}{:05}", kind.prefix(), environment.0))
    }

    /// What it joins.
    pub fn kind(&self) -> SegmentKind {
        match self.0.starts_with(SegmentKind::Link.prefix()) {
            true => SegmentKind::Link,
            false => SegmentKind::Access,
        }
    }

    /// The environment whose segment this is.
    pub fn environment(&self) -> EnvironmentId {
        EnvironmentId(self.0[3..].parse().expect("from_str checked the digits"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for SegmentName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [access, link] = [SegmentKind::Access, SegmentKind::Link].map(SegmentKind::prefix);
        match text.strip_prefix(access).or_else(|| text.strip_prefix(link)) {
            Some(d) if (5..=9).contains(&d.len()) && d.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(SegmentName(text.into()))
            }
            _ => Err(format!("`{text}` is not the name of a segment")),
        }
    }
}

impl From<SegmentName> for String {
    fn from(name: SegmentName) -> String {
        name.0
    }
}

impl TryFrom<String> for SegmentName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Number of a /28 in the lab's pool; unique among segments that are not gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u32);

/// The prefix length of a segment.
pub const SEGMENT_PREFIX: u8 = 28;

/// How many segments `pool` holds.
pub fn slots(pool: Ipv4Net) -> u32 {
    match SEGMENT_PREFIX.checked_sub(pool.prefix_len()) {
        Some(bits) => 1u32.checked_shl(bits.into()).unwrap_or(u32::MAX),
        None => 0,
    }
}

/// An isolated bridge with the addresses on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The bridge and the libvirt network.
    pub name: SegmentName,
    /// A /28 of the lab's pool.
    pub net: Ipv4Net,
}

impl Segment {
    /// The segment of `environment` at `slot` of `pool`; None past the pool's end.
    pub fn new(environment: EnvironmentId, pool: Ipv4Net, slot: Slot) -> Option<Segment> {
        if slot.0 >= slots(pool) {
            return None;
        }
        let base = u32::from(pool.network()) + (slot.0 << (32 - SEGMENT_PREFIX));
        let net = Ipv4Net::new(Ipv4Addr::from(base), SEGMENT_PREFIX).expect("28 is at most 32");
        Some(Segment { name: SegmentName::of(environment), net })
    }

    /// The host's address on the segment, where DHCP and DNS answer.
    pub fn host(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.net.network()) + 1)
    }

    /// The address of the machine at `index` (from 0, in the template's order).
    pub fn machine(&self, index: u8) -> Ipv4Addr {
        assert!(index < 12, "a /28 has room for twelve machines");
        Ipv4Addr::from(u32::from(self.net.network()) + 2 + u32::from(index))
    }
}

/// A machine's hardware address: locally administered, `52:54` and the machine's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address of the first network card of `machine`.
    pub fn of(machine: MachineId) -> Mac {
        let [a, b, c, d] = machine.0.to_be_bytes();
        Mac([0x52, 0x54, a, b, c, d])
    }

    /// The address of the card by which `machine` stands on a link segment: `56:54` and the
    /// machine's number.
    pub fn of_link(machine: MachineId) -> Mac {
        let [a, b, c, d] = machine.0.to_be_bytes();
        Mac([0x56, 0x54, a, b, c, d])
    }

    /// Its bytes, in the order of the wire.
    pub fn octets(&self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The tap device of `machine` on its segment: `nst` and digits.
pub fn tap(machine: MachineId) -> String {
    format!("nst{:05}", machine.0)
}

/// The tap device of `machine` on its link segment: `nsk` and digits.
pub fn link_tap(machine: MachineId) -> String {
    format!("nsk{:05}", machine.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_lie_side_by_side_in_the_pool() {
        let pool: Ipv4Net = "10.77.0.0/16".parse().expect("a network");
        let segment = Segment::new(EnvironmentId(9), pool, Slot(17)).expect("in the pool");
        assert_eq!(segment.net.to_string(), "10.77.1.16/28");
        assert_eq!(segment.host().to_string(), "10.77.1.17");
        assert_eq!(segment.machine(0).to_string(), "10.77.1.18");
        assert_eq!(segment.name.to_string(), "nsb00009");
        assert_eq!(segment.name.environment(), EnvironmentId(9));
        assert!(Segment::new(EnvironmentId(9), pool, Slot(4096)).is_none());
    }

    #[test]
    fn the_name_of_a_segment_says_what_it_joins() {
        let link: SegmentName = "nsl00009".parse().expect("a name");
        assert_eq!((link.kind(), link.environment()), (SegmentKind::Link, EnvironmentId(9)));
        assert_eq!(SegmentName::of(EnvironmentId(9)).kind(), SegmentKind::Access);
        assert!("nsk00009".parse::<SegmentName>().is_err());
    }

    #[test]
    fn names_fit_a_linux_interface_however_many_there_were() {
        assert!(SegmentName::of(EnvironmentId(999_999_999)).as_str().len() <= 15);
        let link = SegmentName::of_kind(SegmentKind::Link, EnvironmentId(999_999_999));
        assert!(link.as_str().len() <= 15);
        assert!(tap(MachineId(u32::MAX)).len() <= 15);
        assert!(link_tap(MachineId(u32::MAX)).len() <= 15);
    }
}

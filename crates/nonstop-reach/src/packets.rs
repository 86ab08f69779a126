//! A set of packets, as one set of values for each field a rule can look at.
//!
//! What a machine may send is such a set with everything open; rules and the kernel's own checks
//! narrow it. A single packet is the set with one value in each field, so the very code that
//! proves is the code that the tests hold against the kernel.

use crate::value::{self, Ranges};
use std::{
    fmt,
    net::Ipv4Addr,
    sync::{Arc, OnceLock},
};

/// What can be looked at in a packet or about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // The names say it.
pub enum Field {
    Iif,
    Oif,
    EtherType,
    SourceMac,
    TargetMac,
    ArpOperation,
    ArpSourceMac,
    ArpSource,
    ArpTargetMac,
    ArpTarget,
    Source,
    Target,
    Source6,
    Target6,
    Protocol,
    /// 1 for a later part of a packet in fragments: it has no ports.
    LaterFragment,
    SourcePort,
    TargetPort,
    IcmpType,
    TcpFlags,
    /// The uid of the socket that sent it; [`NO_OWNER`] where none did.
    Owner,
    /// What the connection tracker says, see [`track`].
    Track,
}

/// How many fields there are.
pub const FIELDS: usize = Field::Track as usize + 1;

/// [`Field::Owner`] of a packet that no socket sent.
pub const NO_OWNER: u128 = 1 << 32;

/// Values of [`Field::Track`].
pub mod track {
    /// The first packet of a flow.
    pub const NEW: u128 = 0;
    /// A later packet from the side that opened the flow.
    pub const ESTABLISHED_ORIGINAL: u128 = 1;
    /// A packet from the other side.
    pub const ESTABLISHED_REPLY: u128 = 2;
    /// About another flow, from the side that opened it.
    pub const RELATED_ORIGINAL: u128 = 3;
    /// About another flow, from the other side.
    pub const RELATED_REPLY: u128 = 4;
    /// Of no flow the tracker could find.
    pub const INVALID: u128 = 5;
    /// Not looked at by the tracker.
    pub const UNTRACKED: u128 = 6;
}

/// Ethertypes.
pub mod ethertype {
    /// IPv4.
    pub const IP: u128 = 0x0800;
    /// ARP.
    pub const ARP: u128 = 0x0806;
    /// IPv6.
    pub const IP6: u128 = 0x86dd;
}

impl Field {
    /// All of them.
    pub const ALL: [Field; FIELDS] = [
        Field::Iif,
        Field::Oif,
        Field::EtherType,
        Field::SourceMac,
        Field::TargetMac,
        Field::ArpOperation,
        Field::ArpSourceMac,
        Field::ArpSource,
        Field::ArpTargetMac,
        Field::ArpTarget,
        Field::Source,
        Field::Target,
        Field::Source6,
        Field::Target6,
        Field::Protocol,
        Field::LaterFragment,
        Field::SourcePort,
        Field::TargetPort,
        Field::IcmpType,
        Field::TcpFlags,
        Field::Owner,
        Field::Track,
    ];

    /// The greatest value.
    pub const fn greatest(self) -> u128 {
        match self {
            Field::Iif | Field::Oif | Field::Source6 | Field::Target6 => u128::MAX,
            Field::SourceMac | Field::TargetMac | Field::ArpSourceMac | Field::ArpTargetMac => {
                (1 << 48) - 1
            }
            Field::ArpSource | Field::ArpTarget | Field::Source | Field::Target => u32::MAX as u128,
            Field::EtherType | Field::ArpOperation | Field::SourcePort | Field::TargetPort => {
                0xffff
            }
            Field::Protocol | Field::IcmpType | Field::TcpFlags => 0xff,
            Field::LaterFragment => 1,
            Field::Owner => NO_OWNER,
            Field::Track => track::UNTRACKED,
        }
    }

    /// Every value.
    pub fn any(self) -> Ranges {
        Ranges::between(0, self.greatest())
    }

    /// Whether its values are names of interfaces.
    pub fn is_name(self) -> bool {
        matches!(self, Field::Iif | Field::Oif)
    }

    /// Whether its values are IPv4 addresses.
    pub fn is_address(self) -> bool {
        matches!(self, Field::ArpSource | Field::ArpTarget | Field::Source | Field::Target)
    }

    /// Whether its values are MACs.
    pub fn is_mac(self) -> bool {
        use Field::{ArpSourceMac, ArpTargetMac, SourceMac, TargetMac};
        matches!(self, SourceMac | TargetMac | ArpSourceMac | ArpTargetMac)
    }
}

/// A set of packets: all that have, in each field, one of its values.
#[derive(Clone, PartialEq, Eq)]
pub struct Packets {
    // Shared until changed: they are handed on from rule to rule far more often than narrowed.
    fields: Arc<[Ranges; FIELDS]>,
    /// Why some of them may not be here, if that could not be decided.
    doubt: Option<Arc<str>>,
}

impl Default for Packets {
    fn default() -> Packets {
        static ANY: OnceLock<Arc<[Ranges; FIELDS]>> = OnceLock::new();
        Packets {
            fields: ANY.get_or_init(|| Arc::new(Field::ALL.map(Field::any))).clone(),
            doubt: None,
        }
    }
}

impl Packets {
    /// All packets.
    pub fn all() -> Packets {
        Packets::default()
    }

    /// The values of `field`.
    pub fn get(&self, field: Field) -> &Ranges {
        &self.fields[field as usize]
    }

    /// Those with any of `values` in `field`; may be none.
    pub fn with(mut self, field: Field, values: &Ranges) -> Packets {
        self.narrow(field, values);
        self
    }

    /// Those with `value` in `field`.
    pub fn having(self, field: Field, value: u128) -> Packets {
        self.with(field, &Ranges::one(value))
    }

    /// Keeps those with any of `values` in `field`.
    pub fn narrow(&mut self, field: Field, values: &Ranges) {
        let here = self.get(field);
        if !values.covers(here) {
            let both = here.and(values);
            self.replace(field, both);
        }
    }

    /// Puts `values` into `field`, whatever was there: the packets moved on.
    pub fn replace(&mut self, field: Field, values: Ranges) {
        Arc::make_mut(&mut self.fields)[field as usize] = values;
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fields.iter().any(Ranges::is_empty)
    }

    /// Those that are in `other` too.
    pub fn and(&self, other: &Packets) -> Packets {
        let mut both = self.clone();
        for field in Field::ALL {
            both.narrow(field, other.get(field));
        }
        both
    }

    /// Whether any is in `other` too.
    pub fn meets(&self, other: &Packets) -> bool {
        Field::ALL.into_iter().all(|field| self.get(field).meets(other.get(field)))
    }

    /// Those with a value of `values` in `field`, and the others.
    pub fn split(self, field: Field, values: &Ranges) -> (Option<Packets>, Option<Packets>) {
        let here = self.get(field);
        if values.covers(here) {
            return (Some(self), None);
        }
        let (within, outside) = (here.and(values), here.minus(values));
        if within.is_empty() {
            return (None, Some(self));
        }
        let mut yes = self.clone();
        yes.replace(field, within);
        let mut no = self;
        no.replace(field, outside);
        (Some(yes), Some(no))
    }

    /// Says that it could not be decided whether they are here.
    pub fn doubted(mut self, why: &Arc<str>) -> Packets {
        self.doubt.get_or_insert_with(|| why.clone());
        self
    }

    /// Why some of them may not be here.
    pub fn doubt(&self) -> Option<&Arc<str>> {
        self.doubt.as_ref()
    }
}

impl fmt::Debug for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packets{{")?;
        for field in Field::ALL {
            let values = self.get(field);
            if *values != field.any() {
                write!(f, " {field:?}={}", field.text(values))?;
            }
        }
        if let Some(doubt) = &self.doubt {
            write!(f, " doubt: {doubt}")?;
        }
        write!(f, " }}")
    }
}

impl Field {
    /// `values` as a person reads them; long lists are cut.
    pub fn text(self, values: &Ranges) -> String {
        const SHOWN: usize = 6;
        if *values == self.any() {
            return "any".into();
        }
        let one = |value: u128| {
            if self.is_name() {
                value::name_text(value)
            } else if self.is_mac() {
                value::mac_text(value)
            } else if self.is_address() {
                Ipv4Addr::from(value as u32).to_string()
            } else {
                value.to_string()
            }
        };
        let parts = values.parts();
        let mut shown: Vec<String> = parts
            .iter()
            .take(SHOWN)
            .map(|&(first, last)| match first == last {
                true => one(first),
                false => format!("{}-{}", one(first), one(last)),
            })
            .collect();
        if parts.len() > SHOWN {
            shown.push(format!("… {} more", parts.len() - SHOWN));
        }
        shown.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_in_its_place() {
        for (place, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, place);
        }
    }

    #[test]
    fn a_split_loses_nobody() {
        let ports = Ranges::one(53);
        let (yes, no) = Packets::all().split(Field::TargetPort, &ports);
        let (yes, no) = (yes.expect("some"), no.expect("some"));
        assert!(!yes.meets(&no));
        assert_eq!(format!("{yes:?}"), "packets{ TargetPort=53 }");
        assert_eq!(format!("{no:?}"), "packets{ TargetPort=0-52,54-65535 }");
    }
}

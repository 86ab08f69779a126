//! What rules look at, and the values they compare it with.

use crate::{
    listing::is_ip,
    packets::{Field, NO_OWNER, ethertype, track},
    rules::{Family, Operand},
    value::{self, Ranges},
};
use serde_json::Value;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub enum Kind {
    Name,
    Mac,
    Ip4,
    Ip6,
    Protocol,
    EtherType,
    NfProto,
    Number,
    TcpFlags,
    IcmpType,
    Icmp6Type,
    ArpOperation,
    TrackState,
    TrackDirection,
    FibType,
    Unknown,
}

/// Types of addresses as the kernel's table `local` has them, in the numbers of [`Kind::FibType`].
pub mod fib {
    /// Neither of the others.
    pub const UNICAST: u128 = 1;
    /// The host's own.
    pub const LOCAL: u128 = 2;
    /// Everybody on a network.
    pub const BROADCAST: u128 = 3;
    /// A group.
    pub const MULTICAST: u128 = 5;
}

type Needs = Vec<(Field, Ranges)>;

/// Reads one thing that is looked at. What must hold for it to exist goes to `needs`.
pub fn read(family: Family, value: &Value, needs: &mut Needs) -> (Operand, Kind) {
    let known = known(family, value, needs);
    known.unwrap_or_else(|| (Operand::Unknown(value.to_string()), Kind::Unknown))
}

fn known(family: Family, value: &Value, needs: &mut Needs) -> Option<(Operand, Kind)> {
    if let Some(body) = value.get("meta") {
        return meta(body["key"].as_str()?, needs);
    }
    if let Some(body) = value.get("payload") {
        return payload(body["protocol"].as_str()?, body["field"].as_str()?, needs);
    }
    if let Some(body) = value.get("ct")
        && matches!(family, Family::Inet | Family::Ip)
    {
        return tracked(body["key"].as_str()?, body["dir"].as_str(), needs);
    }
    if let Some(body) = value.get("fib")
        && matches!(family, Family::Inet | Family::Ip)
    {
        let flags: Vec<&str> = body["flags"].as_array()?.iter().filter_map(Value::as_str).collect();
        if body["result"] != "type" || !flags.contains(&"daddr") {
            return None;
        }
        let any_interface = match &flags[..] {
            ["daddr"] => true,
            ["daddr", "iif"] | ["iif", "daddr"] => false,
            _ => return None,
        };
        return Some((Operand::LocalType { any_interface }, Kind::FibType));
    }
    None
}

fn ip_or_ip6() -> (Field, Ranges) {
    (Field::EtherType, Ranges::values([ethertype::IP, ethertype::IP6]))
}

fn meta(key: &str, needs: &mut Needs) -> Option<(Operand, Kind)> {
    let (field, kind) = match key {
        "iifname" | "iif" => (Field::Iif, Kind::Name),
        "oifname" | "oif" => (Field::Oif, Kind::Name),
        "protocol" => (Field::EtherType, Kind::EtherType),
        "nfproto" => {
            needs.push(ip_or_ip6());
            (Field::EtherType, Kind::NfProto)
        }
        "l4proto" => {
            needs.push(ip_or_ip6());
            (Field::Protocol, Kind::Protocol)
        }
        "skuid" => {
            needs.push((Field::Owner, Ranges::between(0, NO_OWNER - 1)));
            (Field::Owner, Kind::Number)
        }
        _ => return None,
    };
    Some((Operand::Field(field), kind))
}

fn payload(protocol: &str, field: &str, needs: &mut Needs) -> Option<(Operand, Kind)> {
    let arp = (Field::EtherType, Ranges::one(ethertype::ARP));
    let (need, field, kind) = match (protocol, field) {
        ("ether", "saddr") => (None, Field::SourceMac, Kind::Mac),
        ("ether", "daddr") => (None, Field::TargetMac, Kind::Mac),
        ("ether", "type") => (None, Field::EtherType, Kind::EtherType),
        ("ip", "saddr") => (Some(is_ip()), Field::Source, Kind::Ip4),
        ("ip", "daddr") => (Some(is_ip()), Field::Target, Kind::Ip4),
        ("ip", "protocol") => (Some(is_ip()), Field::Protocol, Kind::Protocol),
        ("ip6", field) => {
            let need = (Field::EtherType, Ranges::one(ethertype::IP6));
            match field {
                "saddr" => (Some(need), Field::Source6, Kind::Ip6),
                "daddr" => (Some(need), Field::Target6, Kind::Ip6),
                _ => return None,
            }
        }
        ("arp", "operation") => (Some(arp), Field::ArpOperation, Kind::ArpOperation),
        ("arp", "saddr ether") => (Some(arp), Field::ArpSourceMac, Kind::Mac),
        ("arp", "daddr ether") => (Some(arp), Field::ArpTargetMac, Kind::Mac),
        ("arp", "saddr ip") => (Some(arp), Field::ArpSource, Kind::Ip4),
        ("arp", "daddr ip") => (Some(arp), Field::ArpTarget, Kind::Ip4),
        ("th", "sport") => return Some(port(Field::SourcePort, None, needs)),
        ("th", "dport") => return Some(port(Field::TargetPort, None, needs)),
        ("tcp" | "udp" | "udplite" | "sctp" | "dccp", "sport" | "dport") => {
            let field = if field == "sport" { Field::SourcePort } else { Field::TargetPort };
            return Some(port(field, protocol_number(protocol), needs));
        }
        ("tcp", "flags") => {
            let (_, _) = port(Field::TargetPort, protocol_number("tcp"), needs);
            (None, Field::TcpFlags, Kind::TcpFlags)
        }
        ("icmp", "type") => {
            needs.push((Field::Protocol, Ranges::one(1)));
            needs.push((Field::LaterFragment, Ranges::one(0)));
            (Some(is_ip()), Field::IcmpType, Kind::IcmpType)
        }
        ("icmpv6", "type") => {
            needs.push((Field::Protocol, Ranges::one(58)));
            needs.push((Field::LaterFragment, Ranges::one(0)));
            let need = (Field::EtherType, Ranges::one(ethertype::IP6));
            (Some(need), Field::IcmpType, Kind::Icmp6Type)
        }
        _ => return None,
    };
    needs.extend(need);
    Some((Operand::Field(field), kind))
}

fn port(field: Field, protocol: Option<u128>, needs: &mut Needs) -> (Operand, Kind) {
    needs.push(ip_or_ip6());
    needs.push((Field::LaterFragment, Ranges::one(0)));
    match protocol {
        Some(protocol) => {
            needs.push((Field::Protocol, Ranges::one(protocol)));
            (Operand::Field(field), Kind::Number)
        }
        None => (Operand::Port(field), Kind::Number),
    }
}

fn tracked(key: &str, dir: Option<&str>, needs: &mut Needs) -> Option<(Operand, Kind)> {
    let (this, other, kind) = match key {
        "state" => return Some((Operand::Field(Field::Track), Kind::TrackState)),
        "direction" => {
            let has_a_flow = Ranges::between(track::NEW, track::RELATED_REPLY);
            needs.push((Field::Track, has_a_flow));
            return Some((Operand::Field(Field::Track), Kind::TrackDirection));
        }
        "ip saddr" | "saddr" => (Field::Source, Field::Target, Kind::Ip4),
        "ip daddr" | "daddr" => (Field::Target, Field::Source, Kind::Ip4),
        "proto-src" => (Field::SourcePort, Field::TargetPort, Kind::Number),
        "proto-dst" => (Field::TargetPort, Field::SourcePort, Kind::Number),
        "protocol" => (Field::Protocol, Field::Protocol, Kind::Protocol),
        _ => return None,
    };
    if kind == Kind::Ip4 {
        needs.push(is_ip());
    }
    match dir {
        Some("original") => Some((Operand::Original(this, other), kind)),
        Some("reply") => Some((Operand::Reply(this, other), kind)),
        _ => None,
    }
}

/// The values that `value` stands for. With `any_bit`, a list is one of flags, any of which
/// will do.
pub fn values(kind: Kind, value: &Value, any_bit: bool) -> Option<Ranges> {
    if let Some(list) = value.get("set").and_then(Value::as_array) {
        return union(list.iter().map(|value| values(kind, value, any_bit)));
    }
    if let Some(elem) = value.get("elem") {
        return values(kind, &elem["val"], any_bit);
    }
    if let Some(range) = value.get("range").and_then(Value::as_array) {
        let [first, last] = &range[..] else { return None };
        let (first, last) = (values(kind, first, false)?, values(kind, last, false)?);
        return Some(Ranges::between(first.single()?, last.single()?));
    }
    if let Some(prefix) = value.get("prefix") {
        let first = values(kind, &prefix["addr"], false)?.single()?;
        let bits = match kind {
            Kind::Ip4 => 32,
            Kind::Ip6 => 128,
            _ => return None,
        };
        let behind = bits - u32::try_from(prefix["len"].as_u64()?).ok().filter(|l| *l <= bits)?;
        let mask = 1u128.checked_shl(behind).map_or(u128::MAX, |above| above - 1);
        return Some(Ranges::between(first & !mask, first | mask));
    }
    let flags = value.as_array().or_else(|| value.get("|").and_then(Value::as_array));
    match kind {
        // A packet has one state, so a list of them is met by any.
        Kind::TrackState => match flags {
            Some(states) => union(states.iter().map(|value| values(kind, value, any_bit))),
            None => track_state(value.as_str()?),
        },
        Kind::TcpFlags => {
            let bits = match flags {
                Some(flags) => flags.iter().map(tcp_flag).sum::<Option<u128>>()?,
                None => tcp_flag(value)?,
            };
            match any_bit {
                true => Some(Ranges::values((0..=0xff).filter(|flags| flags & bits != 0))),
                false => Some(Ranges::one(bits)),
            }
        }
        _ if flags.is_some() => None,
        Kind::Name => value.as_str().map(names),
        _ => match value {
            Value::Number(number) => number.as_u64().map(|n| Ranges::one(n.into())),
            Value::String(text) => word(kind, text),
            _ => None,
        },
    }
}

fn union(of: impl Iterator<Item = Option<Ranges>>) -> Option<Ranges> {
    let all: Vec<Ranges> = of.collect::<Option<_>>()?;
    Some(Ranges::of(all.iter().flat_map(|ranges| ranges.parts().iter().copied())))
}

fn names(text: &str) -> Ranges {
    match text.strip_suffix('*') {
        Some(exact) if exact.ends_with('\\') => {
            Ranges::one(value::name(&format!("{}*", &exact[..exact.len() - 1])))
        }
        Some(prefix) => value::names_beginning(prefix),
        None => Ranges::one(value::name(text)),
    }
}

fn word(kind: Kind, text: &str) -> Option<Ranges> {
    let number = || text.parse::<u128>().ok();
    let one = match kind {
        Kind::Mac => value::mac(text)?,
        Kind::Ip4 => return address(text),
        Kind::Ip6 => u128::from(text.parse::<Ipv6Addr>().ok()?),
        Kind::Protocol => protocol_number(text).or_else(number)?,
        Kind::EtherType => ethertype_number(text).or_else(number)?,
        Kind::NfProto => match text {
            "ipv4" => ethertype::IP,
            "ipv6" => ethertype::IP6,
            _ => return None,
        },
        Kind::ArpOperation => match text {
            "request" => 1,
            "reply" => 2,
            _ => number()?,
        },
        Kind::IcmpType => icmp_type(text).or_else(number)?,
        Kind::Icmp6Type => icmp6_type(text).or_else(number)?,
        Kind::TrackDirection => {
            return match text {
                "original" => Some(Ranges::values([
                    track::NEW,
                    track::ESTABLISHED_ORIGINAL,
                    track::RELATED_ORIGINAL,
                ])),
                "reply" => Some(Ranges::values([track::ESTABLISHED_REPLY, track::RELATED_REPLY])),
                _ => None,
            };
        }
        Kind::FibType => match text {
            "unicast" => fib::UNICAST,
            "local" => fib::LOCAL,
            "broadcast" => fib::BROADCAST,
            "multicast" => fib::MULTICAST,
            _ => return None,
        },
        Kind::Number => number()?,
        Kind::Name | Kind::TcpFlags | Kind::TrackState | Kind::Unknown => return None,
    };
    Some(Ranges::one(one))
}

/// An address, alone or with a prefix length, or a range of them.
fn address(text: &str) -> Option<Ranges> {
    let one = |text: &str| text.parse::<Ipv4Addr>().ok().map(|a| u128::from(u32::from(a)));
    if let Some((first, last)) = text.split_once('-') {
        return Some(Ranges::between(one(first)?, one(last)?));
    }
    one(text).map(Ranges::one)
}

fn track_state(text: &str) -> Option<Ranges> {
    Some(match text {
        "new" => Ranges::one(track::NEW),
        "established" => Ranges::values([track::ESTABLISHED_ORIGINAL, track::ESTABLISHED_REPLY]),
        "related" => Ranges::values([track::RELATED_ORIGINAL, track::RELATED_REPLY]),
        "invalid" => Ranges::one(track::INVALID),
        "untracked" => Ranges::one(track::UNTRACKED),
        _ => return None,
    })
}

fn tcp_flag(value: &Value) -> Option<u128> {
    if let Some(number) = value.as_u64() {
        return Some(number.into());
    }
    let at = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"]
        .iter()
        .position(|name| value == name)?;
    Some(1 << at)
}

fn protocol_number(text: &str) -> Option<u128> {
    Some(match text {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "comp" => 108,
        "sctp" => 132,
        "udplite" => 136,
        _ => return None,
    })
}

fn ethertype_number(text: &str) -> Option<u128> {
    Some(match text {
        "ip" => ethertype::IP,
        "arp" => ethertype::ARP,
        "ip6" => ethertype::IP6,
        "vlan" | "8021q" => 0x8100,
        "8021ad" => 0x88a8,
        hex => u128::from_str_radix(hex.strip_prefix("0x")?, 16).ok()?,
    })
}

fn icmp_type(text: &str) -> Option<u128> {
    Some(match text {
        "echo-reply" => 0,
        "destination-unreachable" => 3,
        "redirect" => 5,
        "echo-request" => 8,
        "time-exceeded" => 11,
        "parameter-problem" => 12,
        _ => return None,
    })
}

fn icmp6_type(text: &str) -> Option<u128> {
    Some(match text {
        "destination-unreachable" => 1,
        "packet-too-big" => 2,
        "time-exceeded" => 3,
        "parameter-problem" => 4,
        "echo-request" => 128,
        "echo-reply" => 129,
        "mld-listener-query" => 130,
        "mld-listener-report" => 131,
        "mld-listener-done" | "mld-listener-reduction" => 132,
        "nd-router-solicit" => 133,
        "nd-router-advert" => 134,
        "nd-neighbor-solicit" => 135,
        "nd-neighbor-advert" => 136,
        "nd-redirect" => 137,
        "mld2-listener-report" => 143,
        _ => return None,
    })
}

/// The values of a small field whose bits under `mask` are those of `right`.
pub fn masked(operands: &[Operand], kinds: &[Kind], mask: &Value, right: &Value) -> Option<Ranges> {
    let ([Operand::Field(field) | Operand::Port(field)], [kind]) = (operands, kinds) else {
        return None;
    };
    if field.greatest() > 0xffff {
        return None;
    }
    let mask = values(*kind, mask, false)?.single()?;
    let wanted = values(*kind, right, false)?;
    Some(Ranges::values((0..=field.greatest()).filter(|value| wanted.contains(value & mask))))
}

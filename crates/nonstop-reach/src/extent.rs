//! How much of one kind of traffic gets through: ports of TCP, ports of UDP, and anything else.

use crate::{
    packets::{Field, Packets, ethertype},
    value::Ranges,
    wanted::{Port, Protocol},
};
use std::fmt;

/// A set of ports, and of what has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent(Ranges);

// On one axis: TCP ports, then UDP ports, then one value for the rest.
const UDP: u128 = 0x1_0000;
const REST: u128 = 0x2_0000;

impl Extent {
    /// Nothing.
    pub fn none() -> Extent {
        Extent(Ranges::empty())
    }

    /// Every port, and the rest.
    pub fn all() -> Extent {
        Extent(Ranges::between(0, REST))
    }

    /// Every port of TCP.
    pub fn all_tcp() -> Extent {
        Extent(Ranges::between(0, UDP - 1))
    }

    /// Every port of UDP.
    pub fn all_udp() -> Extent {
        Extent(Ranges::between(UDP, REST - 1))
    }

    /// What has no ports.
    pub fn rest() -> Extent {
        Extent(Ranges::one(REST))
    }

    /// These ports.
    pub fn ports(ports: impl IntoIterator<Item = Port>) -> Extent {
        Extent(Ranges::values(ports.into_iter().map(|port| match port.protocol {
            Protocol::Tcp => port.port.into(),
            Protocol::Udp => UDP + u128::from(port.port),
        })))
    }

    /// What `packets` cover, by their ports in `field`.
    pub fn of(packets: &Packets, field: Field) -> Extent {
        const TCP_NUMBER: u128 = 6;
        const UDP_NUMBER: u128 = 17;
        let (ethertypes, protocols) = (packets.get(Field::EtherType), packets.get(Field::Protocol));
        let ports = packets.get(field).parts();
        let mut parts = Vec::new();
        if ethertypes.contains(ethertype::IP) {
            if protocols.contains(TCP_NUMBER) {
                parts.extend(ports);
            }
            if protocols.contains(UDP_NUMBER) {
                parts.extend(ports.iter().map(|(first, last)| (first + UDP, last + UDP)));
            }
            if !Ranges::values([TCP_NUMBER, UDP_NUMBER]).covers(protocols) {
                parts.push((REST, REST));
            }
        }
        if !Ranges::one(ethertype::IP).covers(ethertypes) {
            parts.push((REST, REST));
        }
        Extent(Ranges::of(parts))
    }

    /// Whether nothing gets through.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Both together.
    pub fn or(&self, other: &Extent) -> Extent {
        Extent(self.0.or(&other.0))
    }

    /// What is in both.
    pub fn and(&self, other: &Extent) -> Extent {
        Extent(self.0.and(&other.0))
    }

    /// What is in it and not in `other`.
    pub fn minus(&self, other: &Extent) -> Extent {
        Extent(self.0.minus(&other.0))
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &str, from: u128, to: u128| {
            let here = self.0.and(&Ranges::between(from, to));
            if here.is_empty() {
                return None;
            }
            if here == Ranges::between(from, to) {
                return Some(format!("{name} all"));
            }
            let ports = Ranges::of(here.parts().iter().map(|(a, b)| (a - from, b - from)));
            Some(format!("{name} {}", Field::TargetPort.text(&ports)))
        };
        if *self == Extent::all() {
            return f.pad("all");
        }
        let rest = self.0.contains(REST).then(|| "yes".to_string());
        let parts = [part("tcp", 0, UDP - 1), part("udp", UDP, REST - 1), rest];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.pad(&if parts.is_empty() { "-".into() } else { parts.join(" + ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_apart_by_protocol() {
        let ports = [(Protocol::Tcp, 80), (Protocol::Udp, 53), (Protocol::Tcp, 81)];
        let ports = ports.map(|(protocol, port)| Port { protocol, port });
        let some = Extent::ports(ports);
        assert_eq!(some.to_string(), "tcp 80-81 + udp 53");
        let packets = Packets::all().having(Field::TargetPort, 80);
        assert_eq!(Extent::of(&packets, Field::TargetPort).to_string(), "tcp 80 + udp 80 + yes");
        assert_eq!(Extent::all_tcp().minus(&some).to_string(), "tcp 0-79,82-65535");
        assert_eq!(Extent::none().to_string(), "-");
    }
}

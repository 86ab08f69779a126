//! Hosts, ports, and what lies behind the gateway.

use crate::WordError;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    str::FromStr,
};

/// A TCP port; never 0, which would mean "any".
pub type Port = NonZeroU16;

/// Why a text is no host.
pub type HostError = WordError;

/// A host of the Internet: a name of DNS in small letters, or an address in its one usual form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A name: labels of letters, digits and inner hyphens; the last begins with a letter, so that
    /// none of the many odd forms of addresses (`127.1`, `0x7f.1`) is taken for a name.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl FromStr for Host {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Host, WordError> {
        let no = |rule| Err(WordError::new(text, "host", rule));
        if let Ok(address) = text.parse::<IpAddr>() {
            if address.to_string() != text {
                return no("an address in its usual form");
            }
            return match is_host(address) {
                true => Ok(Host::Address(address)),
                false => no("the address of one host"),
            };
        }
        let label = |label: &str| {
            let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            (1..=63).contains(&label.len())
                && label.bytes().all(letter)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let last = text.rsplit('.').next().unwrap_or("");
        let good = text.len() <= 253
            && text.split('.').all(label)
            && last.starts_with(|c: char| c.is_ascii_lowercase());
        if good {
            return Ok(Host::Name(text.into()));
        }
        no("a name of DNS in small letters, or an address")
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.pad(name),
            Host::Address(address) => address.fmt(f),
        }
    }
}

impl TryFrom<String> for Host {
    type Error = WordError;

    fn try_from(text: String) -> Result<Host, WordError> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> String {
        host.to_string()
    }
}

/// Where a forwarded port leads: an address, so that the gateway resolves no name, and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// As seen from the gateway.
    pub address: Address,
    /// TCP port.
    pub port: Port,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.0 {
            IpAddr::V4(v4) => write!(f, "{v4}:{}", self.port),
            IpAddr::V6(v6) => write!(f, "[{v6}]:{}", self.port),
        }
    }
}

/// The address of one host, in its one usual form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(IpAddr);

impl Address {
    /// The address as the standard library has it.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

impl TryFrom<IpAddr> for Address {
    type Error = WordError;

    fn try_from(address: IpAddr) -> Result<Address, WordError> {
        address.to_string().try_into()
    }
}

impl TryFrom<String> for Address {
    type Error = WordError;

    fn try_from(text: String) -> Result<Address, WordError> {
        match text.parse()? {
            Host::Address(address) => Ok(Address(address)),
            Host::Name(_) => Err(WordError::new(&text, "address", "an address, no name")),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.0.to_string()
    }
}

/// Whether it is one host's: not "any", not many, and no IPv4 address in the clothes of IPv6.
fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_multicast() && v4 != Ipv4Addr::BROADCAST && v4.octets()[0] != 0,
        IpAddr::V6(v6) => {
            !v6.is_multicast() && v6 != Ipv6Addr::UNSPECIFIED && v6.to_ipv4_mapped().is_none()
        }
    }
}

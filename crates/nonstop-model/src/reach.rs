//! Reach: what a machine may connect to. A server is a data domain's, or a service of the lab.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// The service of the lab that takes exports and gives imports: at the host's address of the
/// machine's own segment.
pub const AIRLOCK: &str = "airlock";

/// What a connection speaks. Nothing else passes between a machine and a server.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The word of files, listings and rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            _ => Err(format!("`{text}` is not a protocol: use `tcp` or `udp`")),
        }
    }
}

/// What one machine may do on its networks before the kernel drops the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetworkLimits {
    /// Connections that it may hold open at once.
    pub connections: ConnectionLimit,
    /// Connections that it may open a second.
    pub new_connections_a_second: u32,
    /// Broadcasts, multicasts, ARP and DHCP that it may send a second, on each of its cards.
    pub broadcasts_a_second: u32,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        NetworkLimits {
            connections: 1000.into(),
            new_connections_a_second: 100,
            broadcasts_a_second: 50,
        }
    }
}

/// A number of connections as the kernel's rules know it: a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionLimit(u32);

impl ConnectionLimit {
    /// All there are.
    pub fn all() -> impl Iterator<Item = ConnectionLimit> {
        (4..=16).map(|power| ConnectionLimit(1 << power))
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// The next one that is not less, from 16 to 65,536.
impl From<u32> for ConnectionLimit {
    fn from(connections: u32) -> ConnectionLimit {
        ConnectionLimit(connections.clamp(16, 1 << 16).next_power_of_two())
    }
}

/// One port of one server that a machine may open connections to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReachTarget {
    /// The name that machines resolve.
    pub server: String,
    /// Where it answers.
    pub address: Ipv4Addr,
    /// What it speaks.
    pub protocol: Protocol,
    /// At which port.
    pub port: u16,
}

impl fmt::Display for ReachTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{}/{})", self.server, self.address, self.port, self.protocol)
    }
}

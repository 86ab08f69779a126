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

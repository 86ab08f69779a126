//! Who was refused at the gateway before SSH, as the kernel counts it by source address.

use super::{Firewall, HELP, nft};
use crate::HostError;
use serde_json::Value;
use std::net::Ipv4Addr;

/// The set of those that nobody is registered to come from.
pub(super) const STRANGERS: &str = "gateway_strangers";
/// The set of those that opened or held too many connections.
pub(super) const CROWDS: &str = "gateway_crowds";

/// A source address whose packets were dropped at the gateway in the last hour.
///
/// The kernel remembers 4,096 addresses of each kind; what more there are it drops as well, and
/// does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Where they came from, or pretended to.
    pub source: Ipv4Addr,
    /// Whether it is registered, and opened or held too many connections.
    pub registered: bool,
    /// How many were dropped since the first of them; a client sends some again.
    pub packets: u64,
    /// Seconds since the last of them.
    pub seconds_ago: u64,
}

/// After so many seconds without a packet the kernel forgets an address.
const REMEMBERED: u64 = 3600;

impl Firewall {
    /// Who was refused at the gateway, the most persistent first. None while our tables are not
    /// loaded.
    ///
    /// Errors: `nft` cannot be run.
    pub fn refused(&self) -> Result<Vec<Refused>, HostError> {
        let mut all = Vec::new();
        for (set, registered) in [(STRANGERS, false), (CROWDS, true)] {
            let listed = nft::list_set("inet", set).map_err(|e| {
                HostError::new("ask the kernel whom it refused at the gateway", e).help(HELP)
            })?;
            let objects = listed.as_ref().and_then(|all| all["nftables"].as_array());
            let elements = objects
                .into_iter()
                .flatten()
                .filter_map(|object| object["set"]["elem"].as_array())
                .flatten();
            all.extend(elements.filter_map(|element| refused(&element["elem"], registered)));
        }
        all.sort_by_key(|one| (std::cmp::Reverse(one.packets), one.source));
        Ok(all)
    }
}

fn refused(element: &Value, registered: bool) -> Option<Refused> {
    Some(Refused {
        source: element["val"].as_str()?.parse().ok()?,
        registered,
        packets: element["counter"]["packets"].as_u64()?,
        seconds_ago: REMEMBERED.saturating_sub(element["expires"].as_u64()?),
    })
}

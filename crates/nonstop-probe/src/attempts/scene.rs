//! Of the host, what frames are made of.

use crate::frame::{MacBytes, mac};
use nonstop_reach::kernel::Kernel;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

/// Of the host, what frames are made of.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// Hardware addresses of bridges.
    pub bridges: BTreeMap<String, MacBytes>,
    /// The host's IPv4 addresses, with the interface of each.
    pub host: Vec<(String, Ipv4Addr)>,
}

impl Scene {
    /// From what was read of the kernel.
    pub fn of(kernel: &Kernel) -> Scene {
        // One without ports has none, and nobody can send to it.
        let has_mac = |text: &str| mac(text).is_some_and(|mac| mac != [0; 6]);
        let bridges =
            kernel.links.iter().filter(|link| link.bridge.is_some() && has_mac(&link.mac));
        let v4 = |address: &nonstop_reach::kernel::Address| match address.address.addr() {
            IpAddr::V4(v4) => Some((address.interface.clone(), v4)),
            IpAddr::V6(_) => None,
        };
        Scene {
            bridges: bridges
                .filter_map(|link| Some((link.name.clone(), mac(&link.mac)?)))
                .collect(),
            host: kernel.addresses.iter().filter_map(v4).collect(),
        }
    }
}

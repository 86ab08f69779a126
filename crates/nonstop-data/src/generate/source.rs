//! Who sends: addresses that look like the internet's, each with a way and habits of its own that
//! stay the same from day to day.

use super::{
    darknet::Darknet,
    dice::{Dice, mixed},
};
use std::net::Ipv4Addr;

/// What a sender's system is, as its packets show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    Linux,
    Windows,
    /// A device whose packets begin with a time to live of 255.
    Device,
}

/// One sender.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) address: Ipv4Addr,
    /// Its habits: mixed with what is asked.
    pub(super) key: u64,
    pub(super) system: System,
    /// Routers between it and the sensor.
    pub(super) hops: u8,
}

impl Source {
    /// The time to live of a packet that began with `first`.
    pub(super) fn ttl_of(&self, first: u8) -> u8 {
        first - self.hops
    }

    /// The time to live of what its system sends.
    pub(super) fn ttl(&self) -> u8 {
        self.ttl_of(match self.system {
            System::Linux => 64,
            System::Windows => 128,
            System::Device => 255,
        })
    }

    /// A number below `n` that stands for its habit in `what`.
    pub(super) fn habit(&self, what: u64, n: u64) -> u64 {
        mixed(self.key ^ what.wrapping_mul(0x9e37_79b9_7f4a_7c15)) % n
    }
}

/// Finds senders: most in few networks, and none in the darknet.
pub(super) struct Internet {
    networks: Vec<(u32, u32)>,
    darknet: Darknet,
}

/// Some of the senders, one after the other: the first ones are the same however many are wanted.
pub(super) struct Senders<'a> {
    internet: &'a Internet,
    dice: Dice,
}

/// Networks of 65,536 addresses that have many senders.
const NETWORKS: u64 = 400;

impl Internet {
    pub(super) fn new(mut dice: Dice, darknet: Darknet) -> Self {
        let mut networks = Vec::new();
        for rank in 0..NETWORKS {
            let network = loop {
                let address = Ipv4Addr::from(dice.u32() & 0xffff_0000 | 0x0101);
                if public(address) && !darknet.contains(address) {
                    break u32::from(address) & 0xffff_0000;
                }
            };
            networks.push((network, (100_000 / (rank + 4)) as u32));
        }
        Self { networks, darknet }
    }

    /// Those that `dice` choose.
    pub(super) fn senders(&self, dice: Dice) -> Senders<'_> {
        Senders { internet: self, dice }
    }
}

impl Senders<'_> {
    /// One more, of these systems.
    pub(super) fn next(&mut self, systems: &[(System, u32)]) -> Source {
        let address = loop {
            let anywhere = self.dice.u32();
            let address = match self.dice.below(10) {
                0..7 => self.dice.pick(&self.internet.networks) | (anywhere & 0xffff),
                _ => anywhere,
            };
            let address = Ipv4Addr::from(address);
            if public(address) && !self.internet.darknet.contains(address) {
                break address;
            }
        };
        let hops = 6 + self.dice.below(7) + self.dice.below(7) + self.dice.below(7);
        let system = self.dice.pick(systems);
        Source { address, key: self.dice.u64(), system, hops: hops as u8 }
    }
}

/// Whether an address is one that packets of the internet come from: none of IANA's special ones.
fn public(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    let special = address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || matches!((a, b, c), (0 | 127 | 224.., ..))
        || matches!((a, b), (100, 64..128) | (198, 18..20))
        || matches!((a, b, c), (192, 0, 0) | (192, 88, 99) | (192, 31, 196) | (192, 52, 193))
        || matches!((a, b, c), (192, 175, 48));
    // The first and last of a network of 256 are seldom given to anybody.
    !special && !matches!(d, 0 | 255)
}

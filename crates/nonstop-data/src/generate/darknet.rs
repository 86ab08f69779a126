//! The addresses that nobody has, and orders in which somebody goes through them.

use super::dice::mixed;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

#[derive(Debug, Clone, Copy)]
pub(super) struct Darknet {
    first: u32,
    bits: u32,
}

impl Darknet {
    pub(super) fn new(net: Ipv4Net) -> Self {
        Self { first: net.network().into(), bits: 32 - u32::from(net.prefix_len()) }
    }

    /// Addresses in it.
    pub(super) fn size(self) -> u64 {
        1 << self.bits
    }

    pub(super) fn contains(self, address: Ipv4Addr) -> bool {
        u64::from(u32::from(address) ^ self.first) < self.size()
    }

    /// The `i`th address in order, around from the last to the first.
    pub(super) fn at(self, i: u64) -> Ipv4Addr {
        (self.first | (i & (self.size() - 1)) as u32).into()
    }

    /// The `i`th address in an order that `key` chooses: each once, then anew.
    pub(super) fn shuffled(self, key: u64, i: u64) -> Ipv4Addr {
        let mask = self.size() - 1;
        let half = self.bits.div_ceil(2).max(1);
        // Each step can be undone within so many bits, so no two become one.
        let mut at = i.wrapping_add(key) & mask;
        for round in 0..3 {
            at = at.wrapping_mul(mixed(key ^ round) | 1) & mask;
            at ^= at >> half;
            at = at.wrapping_add(mixed(key.wrapping_add(round))) & mask;
        }
        self.at(at)
    }
}

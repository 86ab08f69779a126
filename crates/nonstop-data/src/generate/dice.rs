//! Chance that falls the same way each time: whole numbers out of ChaCha, none from a library of
//! floating point, so that a seed gives the same bytes on every machine.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use sha2::{Digest, Sha256};

pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// Dice of their own for these words.
    pub(super) fn of(words: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for word in words {
            hash.update((word.len() as u64).to_le_bytes());
            hash.update(word);
        }
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    pub(super) fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(super) fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub(super) fn u16(&mut self) -> u16 {
        self.u32() as u16
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number of `from..until`.
    pub(super) fn between(&mut self, from: u64, until: u64) -> u64 {
        from + self.below(until - from)
    }

    /// One of `many` by weight.
    pub(super) fn pick<T: Copy>(&mut self, many: &[(T, u32)]) -> T {
        let all: u32 = many.iter().map(|(_, weight)| weight).sum();
        let mut at = self.below(all.into()) as u32;
        for (one, weight) in many {
            if at < *weight {
                return *one;
            }
            at -= weight;
        }
        unreachable!("the number is below the sum of the weights")
    }
}

/// Mixes 64 bits so that each tells on all (the last step of SplitMix64): for choices that are a
/// source's own and the same each day.
pub(super) fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

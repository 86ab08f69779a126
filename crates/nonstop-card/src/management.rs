//! The management key: who shows it may write on the card.

use crate::error::CardError;
use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use std::fmt;
use zeroize::Zeroizing;

/// How a card uses its management key (SP 800-78).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Three keys of DES.
    TripleDes,
    /// AES-128.
    Aes128,
    /// AES-192.
    Aes192,
    /// AES-256.
    Aes256,
}

impl Algorithm {
    /// In the order in which cards are asked.
    pub const ALL: [Algorithm; 4] =
        [Algorithm::TripleDes, Algorithm::Aes192, Algorithm::Aes256, Algorithm::Aes128];

    /// Its number in commands.
    pub fn number(self) -> u8 {
        match self {
            Algorithm::TripleDes => 0x03,
            Algorithm::Aes128 => 0x08,
            Algorithm::Aes192 => 0x0A,
            Algorithm::Aes256 => 0x0C,
        }
    }

    /// Bytes of its key.
    pub fn key_length(self) -> usize {
        match self {
            Algorithm::Aes128 => 16,
            Algorithm::TripleDes | Algorithm::Aes192 => 24,
            Algorithm::Aes256 => 32,
        }
    }

    /// Bytes of its block.
    pub fn block_length(self) -> usize {
        match self {
            Algorithm::TripleDes => 8,
            Algorithm::Aes128 | Algorithm::Aes192 | Algorithm::Aes256 => 16,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::TripleDes => "3DES",
            Algorithm::Aes128 => "AES-128",
            Algorithm::Aes192 => "AES-192",
            Algorithm::Aes256 => "AES-256",
        })
    }
}

/// Up to 32 bytes, of which a card takes as many as its algorithm has.
#[derive(Clone, PartialEq, Eq)]
pub struct ManagementKey(Zeroizing<[u8; 32]>);

impl ManagementKey {
    /// What makers of cards put on them: 01 to 08, again and again.
    pub fn factory() -> ManagementKey {
        let mut bytes = Zeroizing::new([0; 32]);
        (1..=8).cycle().zip(bytes.iter_mut()).for_each(|(n, byte)| *byte = n);
        ManagementKey(bytes)
    }

    /// The lab's secret for one card.
    pub fn derived(secret: [u8; 32]) -> ManagementKey {
        ManagementKey(Zeroizing::new(secret))
    }

    /// As much of it as `algorithm` takes.
    pub(crate) fn cut(&self, algorithm: Algorithm) -> &[u8] {
        &self.0[..algorithm.key_length()]
    }

    /// Encrypts one block; None where `data` is none.
    pub(crate) fn encrypt(&self, algorithm: Algorithm, data: &[u8]) -> Option<Vec<u8>> {
        self.block(algorithm, data, true)
    }

    /// Decrypts one block; None where `data` is none.
    pub(crate) fn decrypt(&self, algorithm: Algorithm, data: &[u8]) -> Option<Vec<u8>> {
        self.block(algorithm, data, false)
    }

    fn block(&self, algorithm: Algorithm, data: &[u8], encrypt: bool) -> Option<Vec<u8>> {
        let key = self.cut(algorithm);
        match algorithm {
            Algorithm::TripleDes => one::<des::TdesEde3>(key, data, encrypt),
            Algorithm::Aes128 => one::<aes::Aes128>(key, data, encrypt),
            Algorithm::Aes192 => one::<aes::Aes192>(key, data, encrypt),
            Algorithm::Aes256 => one::<aes::Aes256>(key, data, encrypt),
        }
    }
}

fn one<C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt>(
    key: &[u8],
    data: &[u8],
    encrypt: bool,
) -> Option<Vec<u8>> {
    let cipher = C::new_from_slice(key).expect("cut to its length");
    let mut block = Block::<C>::try_from(data).ok()?;
    if encrypt {
        cipher.encrypt_block(&mut block);
    } else {
        cipher.decrypt_block(&mut block);
    }
    Some(block.to_vec())
}

impl fmt::Debug for ManagementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ManagementKey(..)")
    }
}

/// Random bytes that a card has to encrypt.
pub(crate) fn challenge(algorithm: Algorithm) -> Result<Vec<u8>, CardError> {
    let mut bytes = vec![0; algorithm.block_length()];
    getrandom::fill(&mut bytes).map_err(|_| CardError::NoRandom)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_and_keys_are_not_shown() {
        let key = ManagementKey::factory();
        for algorithm in Algorithm::ALL {
            let data = vec![9; algorithm.block_length()];
            let sent = key.encrypt(algorithm, &data).expect("a block");
            assert_ne!(sent, data);
            assert_eq!(key.decrypt(algorithm, &sent), Some(data));
            assert_eq!(key.encrypt(algorithm, b"odd"), None);
        }
        assert_eq!(format!("{key:?}"), "ManagementKey(..)");
    }

    #[test]
    fn the_factory_key_is_the_one_that_everybody_knows() {
        let key = ManagementKey::factory();
        assert_eq!(key.cut(Algorithm::TripleDes)[7..10], [8, 1, 2]);
    }
}

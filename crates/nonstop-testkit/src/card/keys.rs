//! The key in slot 9A, and the ciphers of the management key.

use super::tlv::element;
use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use anyhow::{Context, Result, bail};
use getrandom::{SysRng, rand_core::UnwrapErr};
use p256::ecdsa::{SigningKey, signature::hazmat::PrehashSigner};
use rsa::{
    BoxedUint, RsaPrivateKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
    traits::PublicKeyParts,
};
use serde::{Deserialize, Serialize};

/// A key as the card keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotKey {
    /// P-256: the scalar, hexadecimal.
    EcP256(String),
    /// RSA-2048: PKCS#8, hexadecimal.
    Rsa2048(String),
}

impl SlotKey {
    /// Makes one; `algorithm` as SP 800-78 numbers them.
    pub(super) fn generate(algorithm: u8) -> Result<SlotKey> {
        Ok(match algorithm {
            0x11 => loop {
                let mut scalar = [0; 32];
                getrandom::fill(&mut scalar).context("no random bytes")?;
                if SigningKey::from_slice(&scalar).is_ok() {
                    break SlotKey::EcP256(hex::encode(scalar));
                }
            },
            0x07 => {
                let key = RsaPrivateKey::new(&mut UnwrapErr(SysRng), 2048)?;
                SlotKey::Rsa2048(hex::encode(key.to_pkcs8_der()?.as_bytes()))
            }
            other => bail!("algorithm {other:#x}"),
        })
    }

    /// The public key, as PEM.
    pub fn public_pem(&self) -> Result<String> {
        Ok(match self {
            SlotKey::EcP256(scalar) => {
                let key = SigningKey::from_slice(&hex::decode(scalar)?)?;
                use p256::pkcs8::{EncodePublicKey, LineEnding};
                key.verifying_key().to_public_key_pem(LineEnding::LF)?
            }
            SlotKey::Rsa2048(der) => {
                let key = RsaPrivateKey::from_pkcs8_der(&hex::decode(der)?)?;
                key.to_public_key().to_public_key_pem(LineEnding::LF)?
            }
        })
    }

    /// Its number in SP 800-78.
    pub(super) fn algorithm(&self) -> u8 {
        match self {
            SlotKey::EcP256(_) => 0x11,
            SlotKey::Rsa2048(_) => 0x07,
        }
    }

    /// The public key as GENERATE answers: the content of 7F49.
    pub(super) fn public(&self) -> Result<Vec<u8>> {
        Ok(match self {
            SlotKey::EcP256(scalar) => {
                let key = SigningKey::from_slice(&hex::decode(scalar)?)?;
                element(0x86, key.verifying_key().to_encoded_point(false).as_bytes())
            }
            SlotKey::Rsa2048(der) => {
                let key = RsaPrivateKey::from_pkcs8_der(&hex::decode(der)?)?;
                let n = key.n_bytes();
                [element(0x81, &n), element(0x82, &key.e_bytes())].concat()
            }
        })
    }

    /// The private operation over what the host sent: a digest, or a padded block.
    pub(super) fn sign(&self, data: &[u8]) -> Result<Vec<u8>> {
        Ok(match self {
            SlotKey::EcP256(scalar) => {
                let key = SigningKey::from_slice(&hex::decode(scalar)?)?;
                let signature: p256::ecdsa::Signature = key.sign_prehash(data)?;
                signature.to_der().as_bytes().to_vec()
            }
            SlotKey::Rsa2048(der) => {
                if data.len() != 256 {
                    bail!("{} bytes instead of a block", data.len());
                }
                let key = RsaPrivateKey::from_pkcs8_der(&hex::decode(der)?)?;
                let block = BoxedUint::from_be_slice(data, 2048)?;
                let mut rng = UnwrapErr(SysRng);
                let done = rsa::hazmat::rsa_decrypt_and_check(&key, Some(&mut rng), &block)?;
                let bytes = done.to_be_bytes();
                [vec![0; 256_usize.saturating_sub(bytes.len())], bytes.to_vec()].concat()
            }
        })
    }
}

/// Bytes of the key and of a block of a management algorithm.
pub(super) fn sizes(algorithm: u8) -> Option<(usize, usize)> {
    match algorithm {
        0x03 => Some((24, 8)),
        0x08 => Some((16, 16)),
        0x0A => Some((24, 16)),
        0x0C => Some((32, 16)),
        _ => None,
    }
}

/// Encrypts or decrypts one block with the management key.
pub(super) fn block(algorithm: u8, key: &[u8], encrypt: bool, data: &[u8]) -> Result<Vec<u8>> {
    match algorithm {
        0x03 => one::<des::TdesEde3>(key, encrypt, data),
        0x08 => one::<aes::Aes128>(key, encrypt, data),
        0x0A => one::<aes::Aes192>(key, encrypt, data),
        0x0C => one::<aes::Aes256>(key, encrypt, data),
        other => bail!("algorithm {other:#x}"),
    }
}

fn one<C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt>(
    key: &[u8],
    encrypt: bool,
    data: &[u8],
) -> Result<Vec<u8>> {
    let cipher = C::new_from_slice(key).ok().context("the key's length")?;
    let mut block = Block::<C>::try_from(data).ok().context("the block's length")?;
    if encrypt {
        cipher.encrypt_block(&mut block);
    } else {
        cipher.decrypt_block(&mut block);
    }
    Ok(block.to_vec())
}

//! A card's public key, and what it is asked to sign.

use crate::{
    der,
    tlv::{self, TlvError},
};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// What kind of key a card is asked to make or use (SP 800-78).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256.
    EcP256,
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
}

impl KeyAlgorithm {
    /// Its number in commands.
    pub fn number(self) -> u8 {
        match self {
            KeyAlgorithm::EcP256 => 0x11,
            KeyAlgorithm::Rsa2048 => 0x07,
        }
    }

    /// What the card has to put its key to, for a signature over `message` with SHA-256: the
    /// digest, or the digest in a block of PKCS #1 v1.5.
    pub fn input(self, message: &[u8]) -> Vec<u8> {
        let digest = Sha256::digest(message);
        match self {
            KeyAlgorithm::EcP256 => digest.to_vec(),
            KeyAlgorithm::Rsa2048 => {
                let info = [&der::SHA256_INFO[..], &digest].concat();
                let filling = vec![0xFF; 256 - 3 - info.len()];
                [&[0, 1][..], &filling, &[0], &info].concat()
            }
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            KeyAlgorithm::EcP256 => "ec",
            KeyAlgorithm::Rsa2048 => "rsa",
        })
    }
}

impl FromStr for KeyAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ec" => Ok(KeyAlgorithm::EcP256),
            "rsa" => Ok(KeyAlgorithm::Rsa2048),
            _ => Err(format!("`{text}` is no algorithm: use `ec` (P-256) or `rsa` (2048 bits)")),
        }
    }
}

/// A public key of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardKey {
    /// What kind.
    pub algorithm: KeyAlgorithm,
    /// As SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

impl CardKey {
    /// From the content of 7F49, as GENERATE ASYMMETRIC KEY PAIR answers.
    ///
    /// Errors: it is broken, or no key of `algorithm`.
    pub fn generated(algorithm: KeyAlgorithm, content: &[u8]) -> Result<CardKey, TlvError> {
        let spki = match algorithm {
            KeyAlgorithm::EcP256 => {
                let point = tlv::find(content, 0x86)?;
                if point.len() != 65 || point[0] != 4 {
                    return Err(TlvError::Broken);
                }
                der::spki(&der::EC_P256, point)
            }
            KeyAlgorithm::Rsa2048 => {
                let modulus = significant(tlv::find(content, 0x81)?);
                let exponent = significant(tlv::find(content, 0x82)?);
                if modulus.len() != 256 || exponent.is_empty() || exponent.len() > 8 {
                    return Err(TlvError::Broken);
                }
                let key = [der::unsigned(modulus), der::unsigned(exponent)].concat();
                der::spki(&der::RSA, &tlv::element(0x30, &key))
            }
        };
        Ok(CardKey { algorithm, spki })
    }

    /// The key that an X.509 certificate is about.
    ///
    /// Errors: it is broken, or its key is neither P-256 nor RSA-2048.
    pub fn of_certificate(certificate: &[u8]) -> Result<CardKey, TlvError> {
        let spki = der::spki_of(certificate)?;
        let algorithm = der::algorithm(spki)?;
        Ok(CardKey { algorithm, spki: spki.to_vec() })
    }
}

/// A number without zeros before it.
fn significant(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    &bytes[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_card_made_is_what_a_certificate_would_say() {
        let mut point = [7; 65];
        point[0] = 4;
        let ec = CardKey::generated(KeyAlgorithm::EcP256, &tlv::element(0x86, &point));
        let ec = ec.expect("a key");
        assert_eq!(der::algorithm(&ec.spki), Ok(KeyAlgorithm::EcP256));
        let content = [tlv::element(0x81, &[0x99; 256]), tlv::element(0x82, &[1, 0, 1])].concat();
        let rsa = CardKey::generated(KeyAlgorithm::Rsa2048, &content).expect("a key");
        assert_eq!(der::algorithm(&rsa.spki), Ok(KeyAlgorithm::Rsa2048));
        assert!(CardKey::generated(KeyAlgorithm::EcP256, &content).is_err());
        let short = [tlv::element(0x81, &[0x99; 128]), tlv::element(0x82, &[1, 0, 1])].concat();
        assert_eq!(CardKey::generated(KeyAlgorithm::Rsa2048, &short), Err(TlvError::Broken));
    }

    #[test]
    fn an_rsa_block_is_as_long_as_the_modulus() {
        let block = KeyAlgorithm::Rsa2048.input(b"x");
        assert_eq!((block.len(), &block[..3]), (256, &[0, 1, 0xFF][..]));
        assert_eq!(KeyAlgorithm::EcP256.input(b"x").len(), 32);
    }
}

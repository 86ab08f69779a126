//! Fingerprints: of keys as OpenSSH shows them, of certificates as FreeRDP takes them.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// The SHA-256 of a key, shown as `SHA256:` and 43 letters, which `ssh` does too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

/// The SHA-256 of a certificate, shown as 64 letters of hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateDigest([u8; 32]);

/// A text that is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Not as `ssh` shows one.
    #[error("a fingerprint is `SHA256:` and 43 letters")]
    Key,
    /// Not as FreeRDP takes one.
    #[error("a certificate's fingerprint is 64 letters of 0-9 and a-f")]
    Certificate,
}

impl Fingerprint {
    /// The fingerprint of a key in its binary form: of a lab's authority its SubjectPublicKeyInfo
    /// in DER, of a host key what stands in `known_hosts` as base64.
    pub fn of(key: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(key).into())
    }

    /// Its first 8 bytes in hex: enough to tell apart the labs that one PC knows.
    pub fn short(&self) -> String {
        hex(&self.0[..8])
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Fingerprint, FingerprintError> {
        let letters = text.strip_prefix("SHA256:").ok_or(FingerprintError::Key)?;
        let bytes = BASE64_STANDARD_NO_PAD.decode(letters).map_err(|_| FingerprintError::Key)?;
        bytes.try_into().map(Fingerprint).map_err(|_| FingerprintError::Key)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", BASE64_STANDARD_NO_PAD.encode(self.0))
    }
}

impl FromStr for CertificateDigest {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<CertificateDigest, FingerprintError> {
        let small = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        if text.len() != 64 || !text.as_bytes().iter().all(small) {
            return Err(FingerprintError::Certificate);
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).expect("looked at above");
            *byte = u8::from_str_radix(pair, 16).expect("looked at above");
        }
        Ok(CertificateDigest(digest))
    }
}

impl fmt::Display for CertificateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl TryFrom<String> for Fingerprint {
    type Error = FingerprintError;

    fn try_from(text: String) -> Result<Fingerprint, FingerprintError> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> String {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for CertificateDigest {
    type Error = FingerprintError;

    fn try_from(text: String) -> Result<CertificateDigest, FingerprintError> {
        text.parse()
    }
}

impl From<CertificateDigest> for String {
    fn from(digest: CertificateDigest) -> String {
        digest.to_string()
    }
}

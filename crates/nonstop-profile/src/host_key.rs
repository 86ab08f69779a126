//! Host keys: lines of OpenSSH, taken apart and written anew.

use crate::Fingerprint;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A public host key. Its text is made from its bytes: kind and base64, no comment, no option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostKey {
    kind: Kind,
    blob: Vec<u8>,
}

/// Why a line is no host key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostKeyError {
    /// Not two words.
    #[error("a host key is its kind and its base64, with one blank between")]
    Form,
    /// DSA, certificates, security keys, and what there will be.
    #[error("a host key is ssh-ed25519, ecdsa-sha2-nistp256, -nistp384, -nistp521 or ssh-rsa")]
    Kind,
    /// The bytes are those of another kind, torn or too long.
    #[error("the host key's bytes are not those of its kind")]
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ed25519,
    Nistp256,
    Nistp384,
    Nistp521,
    Rsa,
}

impl Kind {
    const ALL: [Kind; 5] =
        [Kind::Ed25519, Kind::Nistp256, Kind::Nistp384, Kind::Nistp521, Kind::Rsa];

    fn name(self) -> &'static str {
        match self {
            Kind::Ed25519 => "ssh-ed25519",
            Kind::Nistp256 => "ecdsa-sha2-nistp256",
            Kind::Nistp384 => "ecdsa-sha2-nistp384",
            Kind::Nistp521 => "ecdsa-sha2-nistp521",
            Kind::Rsa => "ssh-rsa",
        }
    }

    /// Whether what follows the name in a key of this kind is what should.
    fn fits(self, fields: &[&[u8]]) -> bool {
        let point = |curve: &[u8], size: usize| {
            matches!(fields, [its, point] if *its == curve
                && point.len() == 1 + 2 * size
                && point[0] == 4)
        };
        match self {
            Kind::Ed25519 => matches!(fields, [key] if key.len() == 32),
            Kind::Nistp256 => point(b"nistp256", 32),
            Kind::Nistp384 => point(b"nistp384", 48),
            Kind::Nistp521 => point(b"nistp521", 66),
            // 2048 to 16384 bits, and the zero that keeps a number positive.
            Kind::Rsa => matches!(fields, [exponent, modulus]
                if (1..=9).contains(&exponent.len()) && (256..=2049).contains(&modulus.len())),
        }
    }
}

impl HostKey {
    /// Its fingerprint, as `ssh` shows it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.blob)
    }

    /// Its kind: `ssh-ed25519`.
    pub fn kind(&self) -> &'static str {
        self.kind.name()
    }
}

impl FromStr for HostKey {
    type Err = HostKeyError;

    fn from_str(line: &str) -> Result<HostKey, HostKeyError> {
        let (kind, base64) = line.split_once(' ').ok_or(HostKeyError::Form)?;
        let kind =
            Kind::ALL.into_iter().find(|known| known.name() == kind).ok_or(HostKeyError::Kind)?;
        let blob = BASE64_STANDARD.decode(base64).map_err(|_| HostKeyError::Form)?;
        let fields = fields(&blob).ok_or(HostKeyError::Bytes)?;
        let good = fields
            .split_first()
            .is_some_and(|(name, rest)| *name == kind.name().as_bytes() && kind.fits(rest));
        match good {
            true => Ok(HostKey { kind, blob }),
            false => Err(HostKeyError::Bytes),
        }
    }
}

/// The fields of a key: each its length in four bytes, then that many.
fn fields(blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    let mut rest = blob;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        fields.push(after.get(..length)?);
        rest = &after[length..];
    }
    Some(fields)
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), BASE64_STANDARD.encode(&self.blob))
    }
}

impl TryFrom<String> for HostKey {
    type Error = HostKeyError;

    fn try_from(line: String) -> Result<HostKey, HostKeyError> {
        line.parse()
    }
}

impl From<HostKey> for String {
    fn from(key: HostKey) -> String {
        key.to_string()
    }
}

//! A row of the trace and its hash.
//!
//! The hash of a row is SHA-256 over the hash before (32 zero bytes for the first) and the row's
//! fields in order: number, time in microseconds since 1970 (both eight bytes, little-endian), actor,
//! action, subject, detail (UTF-8 as it stands in the database); each preceded by its length as eight
//! bytes, little-endian.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// A SHA-256, written as 64 digits of hex in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash(pub [u8; 32]);

/// A text that is no [`Hash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 digits of hex in lower case")]
pub struct HashError;

impl Hash {
    /// What stands before the first row.
    pub const ZERO: Hash = Hash([0; 32]);
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Hash, HashError> {
        let small = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let mut bytes = [0; 32];
        if !text.bytes().all(small) || hex::decode_to_slice(text, &mut bytes).is_err() {
            return Err(HashError);
        }
        Ok(Hash(bytes))
    }
}

impl TryFrom<String> for Hash {
    type Error = HashError;

    fn try_from(text: String) -> Result<Hash, HashError> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        hash.to_string()
    }
}

/// A row as it stands in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
    /// More, by action: JSON, byte for byte.
    pub detail: String,
    /// The hash that stands in the row.
    pub hash: Hash,
}

impl Row {
    /// The hash that it should have behind `before`.
    pub fn recomputed(&self, before: &Hash) -> Hash {
        let fields = [&*self.actor, &*self.action, &*self.subject, &*self.detail];
        chained(before, self.seq, self.at, fields)
    }
}

/// The hash of the row `seq` of the time `at` (microseconds) with actor, action, subject and detail.
pub fn chained(before: &Hash, seq: u64, at: i64, fields: [&str; 4]) -> Hash {
    let mut hasher = Sha256::new_with_prefix(before.0);
    let mut add = |field: &[u8]| {
        hasher.update((field.len() as u64).to_le_bytes());
        hasher.update(field);
    };
    add(&seq.to_le_bytes());
    add(&at.to_le_bytes());
    fields.iter().for_each(|field| add(field.as_bytes()));
    Hash(hasher.finalize().into())
}

//! A head: the hash of one row of a lab's trace, signed. It vouches for that row and all before.
//!
//! The file is one line of JSON, so that it can stand in a mail and many in one file:
//!
//! ```text
//! {"nonstop_head":1,"lab":"UUID","seq":17,"hash":"HEX","at":"2030-01-01T00:00:00Z","authority":"BASE64","signature":"BASE64"}
//! ```
//!
//! `authority` is the public key in DER (SubjectPublicKeyInfo, P-256); `signature` is ECDSA with
//! SHA-256 in DER over the text `nonstop head 1`, lab, seq, hash and at, each with a line feed behind.

use crate::{
    key::{AuthorityKey, KeyError, Sign, SignatureBytes},
    once::EachKeyOnce,
    row::Hash,
};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use std::error::Error;
use uuid::Uuid;

/// The longest line in bytes.
pub const LONGEST_HEAD: usize = 1024;

/// A head whose signature is right, by the key that stands in it: whose that is, has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "File", try_from = "File")]
pub struct Head {
    file: File,
}

/// A line that is no head.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Longer than any is.
    #[error("it has {0} bytes, more than the {LONGEST_HEAD} of a head")]
    Long(usize),
    /// No JSON, or other fields than a head has.
    #[error("it is no head: {0}")]
    Form(#[from] serde_json::Error),
    /// Of a version that this program does not know.
    #[error("it is a head of version {0}, and this program reads version 1")]
    Version(u32),
    /// A field is not written in the one way there is.
    #[error("{0} is not written as in a head")]
    Text(&'static str),
    /// Changed after it was signed, or signed with another key.
    #[error("its signature is wrong: it was changed after it was signed")]
    Signature(#[source] KeyError),
    /// The key did not sign.
    #[error("sign a head of the trace")]
    Sign(#[source] Box<dyn Error + Send + Sync>),
}

/// A row that is told, and is not what a head signs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// The head is of another row.
    #[error("its head is of row {head}, and it speaks of row {row}")]
    OtherRow {
        /// The head's.
        head: u64,
        /// That of what is told.
        row: u64,
    },
    /// What is told is not what was signed.
    #[error("it was changed: what it says has the hash {says}, and {signed} was signed")]
    Changed {
        /// The hash of what is told.
        says: Hash,
        /// The hash in the head.
        signed: Hash,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    nonstop_head: u32,
    lab: String,
    seq: u64,
    hash: Hash,
    #[serde(deserialize_with = "one_way")]
    at: Timestamp,
    authority: AuthorityKey,
    signature: SignatureBytes,
}

/// A time that is written as we write it.
pub(crate) fn one_way<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    let at: Timestamp = text.parse().map_err(serde::de::Error::custom)?;
    let whole = at.as_nanosecond() % 1_000 == 0;
    if whole && at.to_string() == text {
        return Ok(at);
    }
    Err(serde::de::Error::custom("a time is in UTC, to the microsecond"))
}

/// Whether `text` says what `read` says in the one way there is: spaces and escapes aside. Nothing is
/// said twice, lest a person reads what was not looked at.
pub(crate) fn same_words<T: Serialize>(text: &[u8], read: &T) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<EachKeyOnce>(text)?;
    let (said, ours): (serde_json::Value, _) =
        (serde_json::from_slice(text)?, serde_json::to_value(read)?);
    if said == ours {
        return Ok(());
    }
    Err(serde::de::Error::custom("it is not written as we write it"))
}

impl File {
    fn signed(&self) -> Vec<u8> {
        let File { lab, seq, hash, at, .. } = self;
        format!("nonstop head 1\n{lab}\n{seq}\n{hash}\n{at}\n").into_bytes()
    }

    fn check(&self) -> Result<(), HeadError> {
        if self.nonstop_head != 1 {
            return Err(HeadError::Version(self.nonstop_head));
        }
        let uuid = Uuid::parse_str(&self.lab).map_err(|_| HeadError::Text("`lab`"))?;
        if uuid.to_string() != self.lab {
            return Err(HeadError::Text("`lab`"));
        }
        if self.seq == 0 || i64::try_from(self.seq).is_err() {
            return Err(HeadError::Text("`seq`"));
        }
        self.authority.check(&self.signed(), &self.signature.0).map_err(HeadError::Signature)
    }
}

impl Head {
    /// Whether this is the head of the row `row`, which has the hash `says`.
    pub(crate) fn signs(&self, row: u64, says: Hash) -> Result<(), NotSigned> {
        let (head, signed) = (self.seq(), self.hash());
        match head == row {
            false => Err(NotSigned::OtherRow { head, row }),
            true if says != signed => Err(NotSigned::Changed { says, signed }),
            true => Ok(()),
        }
    }

    /// Signs that the row `seq` of the trace of the lab `lab` has `hash`, at the time `at`, of which
    /// whole microseconds are taken. What was signed is checked before it is given.
    pub fn sign(
        lab: &str,
        seq: u64,
        hash: Hash,
        at: Timestamp,
        key: &dyn Sign,
    ) -> Result<Head, HeadError> {
        let at = Timestamp::from_microsecond(at.as_microsecond())
            .map_err(|_| HeadError::Text("`at`"))?;
        let authority = AuthorityKey::from_der(key.public_key()).map_err(HeadError::Signature)?;
        let mut file = File {
            nonstop_head: 1,
            lab: lab.into(),
            seq,
            hash,
            at,
            authority,
            signature: SignatureBytes(Vec::new()),
        };
        file.signature = SignatureBytes(key.sign(&file.signed()).map_err(HeadError::Sign)?);
        Head::try_from(file)
    }

    /// A head from its parts, as they are kept in a database.
    pub fn from_parts(
        lab: &str,
        seq: u64,
        hash: Hash,
        at: Timestamp,
        authority: &AuthorityKey,
        signature: Vec<u8>,
    ) -> Result<Head, HeadError> {
        Head::try_from(File {
            nonstop_head: 1,
            lab: lab.into(),
            seq,
            hash,
            at,
            authority: authority.clone(),
            signature: SignatureBytes(signature),
        })
    }

    /// Reads one line, with or without a line feed at its end, and checks its signature against the
    /// key that stands in it.
    pub fn read(line: &str) -> Result<Head, HeadError> {
        if line.len() > LONGEST_HEAD {
            return Err(HeadError::Long(line.len()));
        }
        let file: File = serde_json::from_str(line)?;
        same_words(line.as_bytes(), &file)?;
        Head::try_from(file)
    }

    /// The line, with a line feed at its end.
    pub fn line(&self) -> String {
        serde_json::to_string(&self.file).expect("its fields are numbers and strings") + "\n"
    }

    /// The UUID of the lab.
    pub fn lab(&self) -> &str {
        &self.file.lab
    }

    /// The row.
    pub fn seq(&self) -> u64 {
        self.file.seq
    }

    /// The row's hash.
    pub fn hash(&self) -> Hash {
        self.file.hash
    }

    /// When it was signed: the lab's trusted time.
    pub fn at(&self) -> Timestamp {
        self.file.at
    }

    /// The key that signed it.
    pub fn authority(&self) -> &AuthorityKey {
        &self.file.authority
    }

    /// Its signature, in DER.
    pub fn signature(&self) -> &[u8] {
        &self.file.signature.0
    }

    /// The name of its file in a folder: heads of one row that differ have names that differ.
    pub fn file_name(&self) -> String {
        let hash = self.file.hash.to_string();
        format!("head-{:012}-{}.json", self.file.seq, &hash[..16])
    }
}

impl TryFrom<File> for Head {
    type Error = HeadError;

    fn try_from(file: File) -> Result<Head, HeadError> {
        file.check()?;
        Ok(Head { file })
    }
}

impl From<Head> for File {
    fn from(head: Head) -> File {
        head.file
    }
}

//! The record of a run: what was put before a guest, and what held from then until it was gone, as one
//! row of the trace says it, and the head of just that row. A paper can cite it.
//!
//! The file is one JSON object: `nonstop_record` (1), `seq`, `at` (of the row), `before` (the hash of
//! the row before), `injection` (its number), `record` (what is said) and `head` ([`Head`]). The row's
//! other fields are always the same: the actor `nonstopd`, the action `sample.record`, as subject the
//! injection's number, as detail `record` as JSON without spaces, its keys in the order of the alphabet.
//! So whoever holds a record can recompute the row's hash ([`crate::row`]); it is the hash that the head
//! signs.

use crate::{
    RECORD,
    head::{Head, NotSigned, one_way, same_words},
    row::{self, Hash},
};
use jiff::Timestamp;
use nonstop_model::InjectionId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest file in bytes.
pub const LONGEST_RECORD: usize = 256 << 10;

/// A record that is whole: its row has the hash that its head signs. By whose key, has to be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    file: File,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    nonstop_record: u32,
    seq: u64,
    #[serde(deserialize_with = "one_way")]
    at: Timestamp,
    before: Hash,
    injection: InjectionId,
    record: Value,
    head: Head,
}

/// A file that is no record, or a forged one.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Longer than any is.
    #[error("it has {0} bytes, more than the {LONGEST_RECORD} of a record")]
    Long(usize),
    /// No JSON, other fields than a record has, or a head that is none.
    #[error("it is no record: {0}")]
    Form(#[from] serde_json::Error),
    /// Of a version that this program does not know.
    #[error("it is a record of version {0}, and this program reads version 1")]
    Version(u32),
    /// What is said is no object.
    #[error("what it says is no object")]
    Said,
    /// The head signs something else.
    #[error(transparent)]
    Row(#[from] NotSigned),
}

impl Record {
    /// The record of a row that says `said` of `injection`, of the time `at`, behind a row of the hash
    /// `before`.
    pub fn new(
        before: Hash,
        at: Timestamp,
        injection: InjectionId,
        said: Value,
        head: Head,
    ) -> Result<Record, RecordError> {
        let seq = head.seq();
        Record::checked(File { nonstop_record: 1, seq, at, before, injection, record: said, head })
    }

    /// Reads a file, and checks that what it says is what its head signs.
    pub fn read(file: &[u8]) -> Result<Record, RecordError> {
        if file.len() > LONGEST_RECORD {
            return Err(RecordError::Long(file.len()));
        }
        let text = file;
        let file: File = serde_json::from_slice(text)?;
        same_words(text, &file)?;
        Record::checked(file)
    }

    fn checked(file: File) -> Result<Record, RecordError> {
        if file.nonstop_record != 1 {
            return Err(RecordError::Version(file.nonstop_record));
        }
        if !file.record.is_object() {
            return Err(RecordError::Said);
        }
        let (subject, detail) = (file.injection.to_string(), file.record.to_string());
        let row = ["nonstopd", RECORD, &subject, &detail];
        let says = row::chained(&file.before, file.seq, file.at.as_microsecond(), row);
        file.head.signs(file.seq, says)?;
        Ok(Record { file })
    }

    /// The file.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(&self.file).expect("its keys are strings") + "\n"
    }

    /// What is said.
    pub fn said(&self) -> &Value {
        &self.file.record
    }

    /// Which injection it is of.
    pub fn injection(&self) -> InjectionId {
        self.file.injection
    }

    /// The head of its row.
    pub fn head(&self) -> &Head {
        &self.file.head
    }
}

//! The receipt of a release: what was released, as one row of the trace says it, and the head of
//! just that row. It can be published: it names no person and no file unless the lab wants it.
//!
//! The file is one JSON object: `nonstop_receipt` (1), `seq`, `at` (of the row), `before` (the hash of
//! the row before), `export` ([`Released`]) and `head` ([`Head`]). The row's other fields are always
//! the same: the actor `nonstopd`, the action `export.receipt`, as subject the export's number, as
//! detail `export` as JSON without spaces, its keys in the order of the alphabet. So whoever holds a
//! receipt can recompute the row's hash ([`crate::row`]); it is the hash that the head signs.

use crate::{
    RECEIPT,
    head::{Head, NotSigned, one_way, same_words},
    row::{self, Hash},
};
use jiff::Timestamp;
use nonstop_model::ExportId;
use serde::{Deserialize, Serialize};

/// The longest file in bytes.
pub const LONGEST_RECEIPT: usize = 16 << 10;

/// The longest text in a receipt, in bytes.
const LONGEST_TEXT: usize = 2048;

/// What decided that an export is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// The lab's policy, after the screening found nothing against it.
    Policy,
    /// A member of staff.
    Staff,
    /// An admin.
    Admin,
}

/// What a receipt says of a release. Its fields stand in the order of the alphabet: as JSON it is the
/// detail of the receipt's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// Whose it is; only where the lab's policy names people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Its bytes.
    pub bytes: u64,
    /// What decided.
    pub decided: Decided,
    /// Who; only where the lab's policy names people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// Its number.
    pub export: ExportId,
    /// The lab's name.
    pub lab: String,
    /// Its name; only where the lab's policy names files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was released.
    #[serde(deserialize_with = "one_way")]
    pub released_at: Timestamp,
    /// SHA-256 over the rules that were in force at its screening.
    pub rules: Hash,
    /// SHA-256 of its bytes.
    pub sha256: Hash,
    /// When it was submitted.
    #[serde(deserialize_with = "one_way")]
    pub submitted_at: Timestamp,
    /// The template of the environment that it comes from.
    pub template: String,
    /// What it is by content, such as `image/png`.
    #[serde(rename = "type")]
    pub content_type: String,
    /// The screening's verdict: `pass` or `hold`.
    pub verdict: String,
}

impl Released {
    /// What a row's detail says.
    pub fn read(detail: &str) -> Result<Released, serde_json::Error> {
        serde_json::from_str(detail)
    }

    /// As it stands in the row's detail.
    pub fn detail(&self) -> String {
        serde_json::to_string(self).expect("its fields are numbers and strings")
    }
}

/// A receipt that is whole: its row has the hash that its head signs. By whose key, has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "File", try_from = "File")]
pub struct Receipt {
    file: File,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    nonstop_receipt: u32,
    seq: u64,
    #[serde(deserialize_with = "one_way")]
    at: Timestamp,
    before: Hash,
    export: Released,
    head: Head,
}

/// A file that is no receipt, or a forged one.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// Longer than any is.
    #[error("it has {0} bytes, more than the {LONGEST_RECEIPT} of a receipt")]
    Long(usize),
    /// No JSON, other fields than a receipt has, or a head that is none.
    #[error("it is no receipt: {0}")]
    Form(#[from] serde_json::Error),
    /// Of a version that this program does not know.
    #[error("it is a receipt of version {0}, and this program reads version 1")]
    Version(u32),
    /// A text is too long, or holds what cannot be shown.
    #[error("`{0}` is not as in a receipt")]
    Text(&'static str),
    /// The head signs something else.
    #[error(transparent)]
    Row(#[from] NotSigned),
}

impl File {
    fn hash(&self) -> Hash {
        let (subject, detail) = (self.export.export.to_string(), self.export.detail());
        let at = self.at.as_microsecond();
        row::chained(&self.before, self.seq, at, ["nonstopd", RECEIPT, &subject, &detail])
    }

    fn check(&self) -> Result<(), ReceiptError> {
        if self.nonstop_receipt != 1 {
            return Err(ReceiptError::Version(self.nonstop_receipt));
        }
        let Released { account, decided_by, lab, name, template, content_type, verdict, .. } =
            &self.export;
        for (what, text) in [
            ("account", account.as_deref()),
            ("decided_by", decided_by.as_deref()),
            ("lab", Some(&**lab)),
            ("name", name.as_deref()),
            ("template", Some(&**template)),
            ("type", Some(&**content_type)),
            ("verdict", Some(&**verdict)),
        ] {
            let text = text.unwrap_or("-");
            if text.is_empty() || text.len() > LONGEST_TEXT || text.contains(char::is_control) {
                return Err(ReceiptError::Text(what));
            }
        }
        Ok(self.head.signs(self.seq, self.hash())?)
    }
}

impl Receipt {
    /// The receipt of a row that says `released`, of the time `at`, behind a row of the hash `before`.
    pub fn new(
        before: Hash,
        at: Timestamp,
        released: Released,
        head: Head,
    ) -> Result<Receipt, ReceiptError> {
        let seq = head.seq();
        Receipt::try_from(File { nonstop_receipt: 1, seq, at, before, export: released, head })
    }

    /// Reads a file, and checks that what it says is what its head signs.
    pub fn read(file: &[u8]) -> Result<Receipt, ReceiptError> {
        if file.len() > LONGEST_RECEIPT {
            return Err(ReceiptError::Long(file.len()));
        }
        let text = file;
        let file: File = serde_json::from_slice(text)?;
        same_words(text, &file)?;
        Receipt::try_from(file)
    }

    /// The file.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(&self.file).expect("its fields are numbers and strings") + "\n"
    }

    /// What was released.
    pub fn released(&self) -> &Released {
        &self.file.export
    }

    /// The head of its row.
    pub fn head(&self) -> &Head {
        &self.file.head
    }

    /// The hash of the row before.
    pub fn before(&self) -> Hash {
        self.file.before
    }

    /// When its row was written.
    pub fn at(&self) -> Timestamp {
        self.file.at
    }
}

impl TryFrom<File> for Receipt {
    type Error = ReceiptError;

    fn try_from(file: File) -> Result<Receipt, ReceiptError> {
        file.check()?;
        Ok(Receipt { file })
    }
}

impl From<Receipt> for File {
    fn from(receipt: Receipt) -> File {
        receipt.file
    }
}

//! What callers see of imports and exports.

use jiff::Timestamp;
use nonstop_model::{
    AccountName, EntryPath, EnvironmentId, ExportId, ExportState, ImportId, MachineRole,
};
use serde::{Deserialize, Serialize};

/// An export. To its owner, who is outside, no more is told of it than its number, how far it is, and
/// which rules had something against it, until it is released: what is None then says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportView {
    /// Which.
    pub id: ExportId,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// Of which template that is.
    pub template: String,
    /// Whose.
    pub account: AccountName,
    /// Which machine gave it.
    pub machine: MachineRole,
    /// How far it is.
    pub state: ExportState,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When its state came to be.
    pub changed_at: Timestamp,
    /// The rules that held or blocked it.
    pub rules: Vec<String>,
    /// What its owner says to it.
    pub note: Option<String>,
    /// What stands behind the number.
    pub about: Option<ExportAbout>,
    /// Whether the caller may decide on it now.
    pub decidable: bool,
    /// What stands in the way of that, where the caller could otherwise.
    pub undecidable: Option<String>,
}

/// What stands behind the number of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportAbout {
    /// Its name below `export/`.
    pub path: EntryPath,
    /// Which version of that name, from 1.
    pub version: u32,
    /// Its bytes.
    pub bytes: u64,
    /// Its SHA-256 in hex, once it was screened.
    pub sha256: Option<String>,
    /// What it is by content, such as `image/png`, once it was screened.
    pub content_type: Option<String>,
    /// How long the screening took, in milliseconds.
    pub screened_ms: Option<u64>,
    /// SHA-256 over the rules that were in force, in hex.
    pub rules_digest: Option<String>,
    /// What was found.
    pub findings: Vec<crate::airlock::FindingTold>,
    /// Who decided, when, and why.
    pub decisions: Vec<DecisionView>,
    /// Other exports of the same person, newest first, with as little as their number and state.
    pub earlier: Vec<EarlierView>,
}

/// What a person, or the lab's policy, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionView {
    /// What it made of the export.
    pub state: ExportState,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// Another export of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierView {
    /// Which.
    pub id: ExportId,
    /// How far it is.
    pub state: ExportState,
    /// Its name.
    pub path: EntryPath,
    /// Its bytes.
    pub bytes: u64,
    /// When it was submitted.
    pub submitted_at: Timestamp,
}

/// What a reviewer sees of a file, made anew from it by a program without rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "preview", rename_all = "snake_case")]
pub enum PreviewView {
    /// Its beginning as text: plain, not escaped.
    Text {
        /// What it is written in.
        encoding: String,
        /// At most 64 KiB.
        text: String,
        /// Whether there is more.
        cut: bool,
    },
    /// Its first rows and columns.
    Table {
        /// At most 100 rows of 30 cells.
        rows: Vec<Vec<String>>,
        /// Whether there is more.
        cut: bool,
    },
    /// A picture: a PNG comes as a file beside the answer.
    Picture {
        /// Pixels across, of the file.
        width: u32,
        /// Pixels down, of the file.
        height: u32,
    },
    /// Its first bytes, in hex.
    Bytes {
        /// At most 512 bytes.
        hex: String,
    },
    /// There is none.
    None {
        /// Why.
        why: String,
    },
}

/// A file that was brought into an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportView {
    /// Which.
    pub id: ImportId,
    /// Into which environment.
    pub environment: EnvironmentId,
    /// By whom.
    pub account: AccountName,
    /// Its name below `import/`.
    pub path: EntryPath,
    /// Its bytes.
    pub bytes: u64,
    /// When it was brought.
    pub at: Timestamp,
    /// Its SHA-256 in hex, once it was looked at.
    pub sha256: Option<String>,
    /// What it is by content, once it was looked at.
    pub content_type: Option<String>,
    /// How far it is.
    pub state: ImportState,
    /// What the scan found.
    pub findings: Vec<crate::airlock::FindingTold>,
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    /// Its hash and type are not known yet; machines do not see it.
    Looking,
    /// Machines see it, if it is still there.
    Visible,
    /// The scan was against it; machines do not see it.
    Refused,
    /// It was removed, or another was brought under its name.
    Removed,
}

/// A head of the trace that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadView {
    /// The number of the last row it covers.
    pub seq: u64,
    /// The hash of that row in hex.
    pub hash: String,
    /// When it was signed.
    pub at: Timestamp,
    /// The second places that have it.
    pub sent: Vec<String>,
    /// The second places that do not have it yet, and why.
    pub unsent: Vec<String>,
    /// The file of it, as it is sent.
    pub document: String,
}

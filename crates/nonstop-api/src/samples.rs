//! Samples of malware as they are searched for: what is asked, and what is told of each.
//!
//! Asked by the portal and the CLI of `nonstopd`, and by that of a child of its own, which reads what
//! arrived. `nonstopd` believes hashes, numbers and days of the child's answer; other words of it are
//! shown, and never used as a path or in a decision.

use jiff::{Timestamp, civil::Date};
use nonstop_model::{
    EnvironmentId, InjectBy, InjectedItem, InjectionId, InjectionState, MachineRole,
};
use serde::{Deserialize, Serialize};

/// What is searched for; what is left empty is not asked for, and nothing at all gives the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleQuery {
    /// How the SHA-256 begins, in hexadecimal digits.
    pub hash: String,
    /// The family, whole, in letters of either size.
    pub family: String,
    /// A tag, whole.
    pub tag: String,
    /// The type by content, as `pe` or `pdf`.
    pub kind: String,
    /// Words that a report of the sample has, all of them: `word`, `begin*`, `"words in a row"`, or one
    /// of these in a field of it, as `mutexes:word`.
    pub text: String,
    /// The first day.
    pub from: Option<Date>,
    /// The last day.
    pub until: Option<Date>,
    /// Where the page before ended: its [`SamplePage::after`].
    pub after: Option<String>,
    /// How many at most; 0 is [`SampleQuery::USUAL`].
    pub limit: u32,
}

impl SampleQuery {
    /// How many are told where it is not said.
    pub const USUAL: u32 = 50;
    /// How many are told at most.
    pub const MOST: u32 = 200;
    /// The longest query as JSON, in bytes.
    pub const LONGEST: usize = 8192;
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleView {
    /// Its SHA-256, as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Its length in bytes; none where reports of it are all there is.
    pub bytes: Option<u64>,
    /// Its type by content; empty where its bytes are not there.
    pub kind: String,
    /// Its family; empty where nobody said.
    pub family: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was seen first, as its source says; else the first day that has it.
    pub first_seen: Option<Date>,
    /// When it was seen last, as its source says; else the last day that has it.
    pub last_seen: Option<Date>,
    /// The days that have it or a report of it, the newest first.
    pub days: Vec<Date>,
    /// Where it is from, as its source says.
    pub source: String,
    /// Reports of it, of all days.
    pub reports: u32,
}

/// Some samples, of the newest day first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplePage {
    /// The samples.
    pub samples: Vec<SampleView>,
    /// Where the next page goes on; none where this is the last.
    pub after: Option<String>,
}

impl SamplePage {
    /// The longest page as JSON, in bytes.
    pub const LONGEST: usize = 4 << 20;
}

/// Samples that are to be written out, and how: what the children that do it read on standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The samples, each under a name of its own.
    pub items: Vec<OrderedItem>,
    /// The name of the disc: capital letters, digits and `_`, at most 16.
    pub volume: String,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderedItem {
    /// Which.
    pub sha256: String,
    /// The name of its file; with `zip`, in the archive, whose own name has `.zip` behind it.
    pub name: String,
    /// Length of the sample in bytes, as whoever asked for it was told; one of another is not written.
    pub bytes: u64,
    /// Whether it is wrapped in a zip archive with the password `infected`.
    pub zip: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Length of all of it in bytes.
    pub bytes: u64,
    /// The files of it, in the order asked.
    pub items: Vec<WrittenItem>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenItem {
    /// The sample that it has; its bytes were read and are of this SHA-256.
    pub sha256: String,
    /// The name of the file as guests see it.
    pub name: String,
    /// Length of the sample in bytes.
    pub bytes: u64,
}

/// What a child answers: one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer<T> {
    /// What is asked makes no sense, whenever it is asked.
    Refused {
        /// What of it, for who asked; at most 500 bytes, printable.
        refused: String,
    },
    /// It was not done.
    Error {
        /// Why, and how to mend it; at most 500 bytes, printable.
        error: String,
    },
    /// It was.
    Done(T),
}

/// A sample that is to be put before a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InjectItem {
    /// Which: its SHA-256, whole.
    pub sha256: String,
    /// The name of its file; without, `nonstop_model::injection::usual_name`.
    #[serde(default)]
    pub name: Option<String>,
}

/// Samples that were put before a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectionView {
    /// Its number.
    pub id: InjectionId,
    /// The environment.
    pub environment: EnvironmentId,
    /// The machine's role.
    pub machine: MachineRole,
    /// The generation of what the machine can write.
    pub generation: u32,
    /// The data domain that the samples are from.
    pub domain: String,
    /// Who asked.
    pub by_person: String,
    /// How they get there.
    pub by: InjectBy,
    /// Whether each is wrapped in a zip archive with the password `infected`.
    pub zip: bool,
    /// How far it is.
    pub state: InjectionState,
    /// What.
    pub items: Vec<InjectedItem>,
    /// When it was asked for.
    pub at: Timestamp,
    /// When it was before the guest.
    pub there_at: Option<Timestamp>,
    /// When it was not any more, or had failed.
    pub ended_at: Option<Timestamp>,
    /// What ended it: `revert`, `return`, `eject`, `replaced` or `environment end`.
    pub ended_by: Option<String>,
    /// Why it failed.
    pub failure: Option<String>,
    /// What the guest's agent said, to be shown as the guest's words: information, never proof.
    pub guest_says: Option<String>,
}

//! Views of data domains: what they offer, what is on its way, and what was not fit.

use super::Problem;
use jiff::{Timestamp, civil::Date};
use nonstop_model::{Content, EnvironmentId, PublicationId, Resource};
use serde::{Deserialize, Serialize};

/// A data domain, for staff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDomainView {
    /// Its name.
    pub name: String,
    /// Whether days are published here; otherwise its servers are the lab's own, or it offers none.
    pub publishes: bool,
    /// What it offers.
    pub offers: Vec<Resource>,
    /// Minutes by which its days begin before those of UTC.
    pub utc_offset_minutes: i16,
    /// Days that are kept, counted from the newest; None for ever.
    pub keep_days: Option<u32>,
    /// Where files are put to be published.
    pub inbox_folder: String,
    /// Where files lie that were not fit.
    pub rejected_folder: String,
    /// What machines see, by day.
    pub days: Vec<DayView>,
    /// What is on its way, in order of arrival.
    pub under_way: Vec<PublicationView>,
    /// The last that were rejected, newest first.
    pub rejected: Vec<PublicationView>,
    /// What lies in the inbox.
    pub inbox: Vec<InboxView>,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
    /// Bytes of what is published.
    pub published_bytes: u64,
    /// Bytes of PostgreSQL's folder; None where there is none.
    pub rdb_bytes: Option<u64>,
    /// Bytes that are free on the disk.
    pub free_bytes: u64,
}

/// A published day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayView {
    /// What it is offered as.
    pub kind: Resource,
    /// Which.
    pub day: Date,
    /// The name of its file; of a day of samples the one that it was brought by.
    pub file: String,
    /// What is in it.
    pub content: Content,
    /// When it was published.
    pub published_at: Timestamp,
    /// The publication that it comes from.
    pub publication: PublicationId,
    /// Rows in PostgreSQL when it was loaded; None where there is none.
    pub rows: Option<u64>,
    /// Whether PostgreSQL has it; None where there is none, or it does not answer.
    pub loaded: Option<bool>,
    /// Whether it is going to be loaded again.
    pub load_wanted: bool,
    /// What somebody changed by hand, and how to mend it.
    pub fault: Option<String>,
}

/// A publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationView {
    /// Which.
    pub id: PublicationId,
    /// The data domain.
    pub domain: String,
    /// What it is offered as.
    pub kind: Resource,
    /// The day; None for a name that is none.
    pub day: Option<Date>,
    /// Its name in the inbox.
    pub file: String,
    /// Who asked for it.
    pub by: String,
    /// `taken`, `checked`, `loaded`, `published`, `rejected`, `replaced` or `expired`.
    pub state: String,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// When it came to be so.
    pub changed_at: Timestamp,
    /// What is in its file, once that was read.
    pub content: Option<Content>,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// What is being done.
    pub doing: Option<ProgressView>,
    /// What keeps it from going on.
    pub problem: Option<Problem>,
    /// Whether it is going to be loaded again.
    pub load_wanted: bool,
}

/// What is being done for a publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressView {
    /// `check`, `load` or `show`.
    pub what: String,
    /// Bytes that were read.
    pub bytes: u64,
    /// Of how many; 0 where that says nothing.
    pub of: u64,
    /// Since when.
    pub since: Timestamp,
}

/// Something in an inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxView {
    /// The data domain.
    pub domain: String,
    /// Its name, as far as that can be shown.
    pub name: String,
    /// Its length; None for what is no file.
    pub bytes: Option<u64>,
    /// Why it is not taken; empty for a file that will be.
    pub note: String,
}

/// Answer to `DataPublish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BegunView {
    /// What was begun.
    pub publications: Vec<PublicationView>,
    /// What stays in the inbox, and why.
    pub left: Vec<InboxView>,
}

/// What a data domain offers to a researcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferView {
    /// Its name.
    pub domain: String,
    /// One's environments that reach it.
    pub environments: Vec<EnvironmentId>,
    /// The servers that they reach.
    pub servers: Vec<OfferedServer>,
    /// Whether the days are known here: otherwise the servers are the lab's own, and say it.
    pub known: bool,
    /// Minutes by which its days begin before those of UTC.
    pub utc_offset_minutes: i16,
    /// Its days of packets, newest first.
    pub days: Vec<OfferedDay>,
    /// Its days of samples and reports, newest first.
    pub sample_days: Vec<OfferedSamples>,
}

/// A day of samples and reports in which a researcher's machine can search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedSamples {
    /// Which.
    pub day: Date,
    /// Samples of it.
    pub samples: u64,
    /// Reports of it.
    pub reports: u64,
}

/// A server that a researcher's machine reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedServer {
    /// Its name, as machines resolve it.
    pub name: String,
    /// What it offers.
    pub offers: Option<Resource>,
    /// Whether it gives out samples themselves; a catalogue only tells of them.
    pub bytes: bool,
    /// Its TCP port.
    pub port: u16,
}

/// A day of packets that a researcher's machine can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedDay {
    /// Which.
    pub day: Date,
    /// The name of its file.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Packets in it.
    pub packets: u64,
    /// Its SHA-256.
    pub sha256: String,
}

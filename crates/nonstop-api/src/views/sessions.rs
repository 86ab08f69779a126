//! Sessions at the gateway, and logins that became none.

use jiff::Timestamp;
use nonstop_model::{AccountName, CardId};
use serde::{Deserialize, Serialize};

/// A session at the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Which.
    pub id: u64,
    /// Whose.
    pub account: AccountName,
    /// From where.
    pub source: String,
    /// Fingerprint of the key.
    pub key: String,
    /// The card that holds it; None where that is not known.
    #[serde(default)]
    pub card: Option<CardId>,
    /// What its client calls itself; empty where that is not known.
    #[serde(default)]
    pub client: String,
    /// When it began.
    pub opened_at: Timestamp,
    /// When it ended; None while it is open.
    pub closed_at: Option<Timestamp>,
    /// Why it ended, or is going to; empty where that is not known.
    #[serde(default)]
    pub ended: String,
    /// Whether connections may have ended while nobody counted.
    #[serde(default)]
    pub uncounted: bool,
    /// What it exchanged, by target.
    #[serde(default)]
    pub flows: Vec<FlowView>,
}

impl SessionView {
    /// Bytes from the client, and to it, of all targets.
    pub fn bytes(&self) -> (u64, u64) {
        let sum = |of: fn(&FlowView) -> u64| self.flows.iter().map(of).fold(0, u64::saturating_add);
        (sum(|flow| flow.bytes_in), sum(|flow| flow.bytes_out))
    }
}

/// What a session exchanged with one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowView {
    /// `ADDRESS:PORT`.
    pub target: String,
    /// Bytes from the client to the target.
    pub bytes_in: u64,
    /// Bytes from the target to the client.
    pub bytes_out: u64,
    /// Connections.
    pub connections: u64,
}

/// Logins that were refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedLoginsView {
    /// Since when.
    pub since: Timestamp,
    /// How many since then.
    pub all: u64,
    /// Login names that were refused again and again, the most first.
    pub by_user: Vec<RepeatedView>,
    /// Addresses that were refused again and again, the most first.
    pub by_source: Vec<RepeatedView>,
    /// Each, newest first; those that are alike and within a minute together.
    pub rows: Vec<RefusedView>,
}

/// What was refused again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepeatedView {
    /// A login name or an address.
    pub what: String,
    /// How often.
    pub tries: u64,
    /// The last time.
    pub last_at: Timestamp,
}

/// Logins that were refused, all alike and within a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// The first of them.
    pub first_at: Timestamp,
    /// The last of them.
    pub last_at: Timestamp,
    /// The login name that was tried; empty where none was said.
    pub user: String,
    /// From where.
    pub source: String,
    /// Why, in a word.
    pub why: String,
    /// Why, in a sentence. The one who tried was not told.
    pub reason: String,
    /// Fingerprint of the last key that was tried; empty where there was none.
    pub key: String,
    /// What the client calls itself; empty where it did not say.
    pub client: String,
    /// How many.
    pub tries: u64,
}

/// A day's logins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DayOfLoginsView {
    /// `2026-11-28`, in UTC.
    pub day: String,
    /// Sessions that began.
    pub logins: u64,
    /// The average of the twenty days that end with this one.
    pub average: f64,
}

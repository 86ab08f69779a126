//! What `nonstop-heads` asks of `nonstopd` at `RUN/heads.sock`: which heads of the trace a second
//! place lacks; and what it tells: that a place has them, or why not. One question a connection.

use serde::{Deserialize, Serialize};

/// A question, or something told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// What is to be brought where.
    Errands,
    /// A place has every head up to this row.
    Sent {
        /// Which place.
        place: String,
        /// Which row.
        seq: u64,
    },
    /// A place did not take a head.
    Failed {
        /// Which place.
        place: String,
        /// Why, in one line.
        why: String,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "value", rename_all = "snake_case")]
pub enum Answer {
    /// It is recorded.
    Done,
    /// To `Errands`: none for a place that has all.
    Errands(Vec<Errand>),
    /// Nothing was recorded; the daemon's log says more.
    Failed,
}

/// Heads that a place lacks, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// Which place, as `lab.yaml` gives it: `folder:PATH`, `mail:ADDRESS`, `url:URL`.
    pub place: String,
    /// The name of the lab, to be shown.
    pub lab: String,
    /// Heads: at most 64.
    pub heads: Vec<Parcel>,
}

/// A head on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// The row that it is of.
    pub seq: u64,
    /// The name of its file, without a folder.
    pub file: String,
    /// The file: one line with its line feed.
    pub line: String,
}

//! What the short-lived programs of data domains tell `nonstopd` on standard output: one JSON object
//! a line.
//!
//! The reader takes nothing for granted: a line is at most [`LONGEST`] bytes, numbers are numbers,
//! and texts are shown, never used as a path or in a decision.

use jiff::{Timestamp, civil::Date};
use nonstop_model::PublicationId;
use serde::{Deserialize, Serialize};

/// The longest line, in bytes.
pub const LONGEST: usize = 4096;

/// The longest line of [`Days`], in bytes: a hundred years.
pub const LONGEST_DAYS: usize = 16 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// How far it is, at most once a second.
    Progress {
        /// Bytes of the file that were read.
        bytes: u64,
        /// Bytes of the file.
        of: u64,
    },
    /// The file is whole and what its name says. The last line.
    Checked(Checked),
    /// The archive is whole and a day of samples and reports, which was written to the files that were
    /// given for it. The last line.
    Packed(Packed),
    /// The file cannot be published. The last line.
    Refused {
        /// What is wrong, where, and how to mend it; at most 500 bytes, printable.
        reason: String,
    },
    /// What was asked for is done, and lasts. The last line.
    Done {
        /// Rows that the day has now; 0 when it was dropped.
        rows: u64,
    },
    /// It could not be done now, though nothing is wrong with the file (a full disk, no server);
    /// nothing of it is left. The last line.
    Failed {
        /// What happened, and how to mend it; at most 500 bytes, printable.
        reason: String,
    },
}

/// What is known of a file of packets that was read to its last record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// `pcap` or `pcapng`.
    pub format: String,
    /// Packets in it; at least one.
    pub packets: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Time of the earliest packet.
    pub first: Timestamp,
    /// Time of the latest packet.
    pub last: Timestamp,
    /// Its SHA-256, as 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// What is known of a day of samples and reports whose archive was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Length of the archive in bytes.
    pub bytes: u64,
    /// Samples in it.
    pub samples: u64,
    /// Reports in it.
    pub reports: u64,
    /// SHA-256 of the archive, as 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// The days that PostgreSQL has: all that `nonstop-data days` says, in one line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Days {
    /// The days, in order.
    pub days: Vec<LoadedDay>,
}

/// A day in PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedDay {
    /// Which.
    pub day: Date,
    /// Its rows.
    pub rows: u64,
    /// What put it there.
    pub publication: PublicationId,
    /// The SHA-256 of the file that it was loaded from, as 64 lower-case hexadecimal digits.
    pub sha256: String,
}

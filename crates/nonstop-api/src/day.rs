//! What lies beside the file of a published day, as `day.json`: written by `nonstopd` in the one
//! step that publishes it, read by what serves it.

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

/// One published day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// Which.
    pub day: Date,
    /// Name of the file in the same folder: `YYYY-MM-DD.pcap` or `.pcapng`.
    pub file: String,
    /// `pcap` or `pcapng`.
    pub format: String,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Packets in it.
    pub packets: u64,
    /// Time of the earliest packet.
    pub first: Timestamp,
    /// Time of the latest packet.
    pub last: Timestamp,
    /// Its SHA-256, as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// When it was published.
    pub published: Timestamp,
    /// The publication that it comes from.
    pub publication: String,
}

impl Day {
    /// The name of this note in the folder of a day.
    pub const FILE: &str = "day.json";
    /// The longest note, in bytes.
    pub const LONGEST: usize = 4096;
}

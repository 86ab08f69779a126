//! What lies beside the files of a published day, as `day.json`: written by `nonstopd` in the one
//! step that publishes it, read by what serves it.

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

/// The file of a day's samples: their bytes, masked, one after the other.
pub const SAMPLES_PACK: &str = "samples.pack";
/// The file of a day's reports: their bytes, masked, one after the other.
pub const REPORTS_PACK: &str = "reports.pack";
/// The file in which samples and reports of a day are found.
pub const INDEX: &str = "index.db";

/// The file of the SHA-256 of each sample and each report of a day: 32 bytes each, ascending, none twice.
pub const HASHES: &str = "hashes";

/// One published day of samples and reports. Beside it lie [`SAMPLES_PACK`], [`REPORTS_PACK`], [`INDEX`]
/// and [`HASHES`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleDay {
    /// Which.
    pub day: Date,
    /// Samples in it.
    pub samples: u64,
    /// Reports in it.
    pub reports: u64,
    /// Length of the archive that it was brought by, in bytes.
    pub bytes: u64,
    /// The archive's SHA-256, as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Length of the pack of samples, in bytes.
    pub pack_bytes: u64,
    /// Length of the pack of reports, in bytes.
    pub reports_bytes: u64,
    /// Length of the index, in bytes.
    pub index_bytes: u64,
    /// Length of the hashes, in bytes.
    pub hashes_bytes: u64,
    /// When it was published.
    pub published: Timestamp,
    /// The publication that it comes from.
    pub publication: String,
}

impl SampleDay {
    /// The name of this note in the folder of a day.
    pub const FILE: &str = Day::FILE;
    /// The longest note, in bytes.
    pub const LONGEST: usize = Day::LONGEST;
}

/// One published day of packets.
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

//! How much of what arrives is taken.

/// The longest sample, in bytes: what fits on a disc, and more.
pub const SAMPLE_BYTES: u64 = 1 << 30;
/// The longest report, in bytes.
pub const REPORT_BYTES: u64 = 64 << 20;
/// The longest list of metadata, in bytes.
pub const METADATA_BYTES: u64 = 256 << 20;
/// Samples and reports of one day.
pub const MEMBERS: u64 = 2_000_000;
/// The longest text that is kept of a name, family or tag, in bytes.
pub const TEXT_BYTES: usize = 200;
/// Tags of one sample.
pub const TAGS: usize = 64;
/// The longest term of a report that is found by search, in bytes; longer ones are cut.
pub const TERM_BYTES: usize = 512;
/// What is found by search of one report, in bytes, for each of its fields.
pub const FIELD_BYTES: usize = 256 << 10;

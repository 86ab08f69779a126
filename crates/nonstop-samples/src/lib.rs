//! Malware by its SHA-256, and reports of what it did when it ran: checked, kept, found and given.
//!
//! One program, `nonstop-samples`, of several short or long lives, each confined before it reads a byte:
//! what is read here was made by those whose malware it is. Below them are the formats, which know
//! nothing of processes, users and networks.
//!
//! ```text
//! check      an archive that arrived becomes a day, or is refused
//! find       one question over the published days
//! give       samples written out, on a disc or as they are
//! serve      the same for machines, over HTTP
//! generate   days of harmless ones
//!
//! archive    a day as it arrives: one tar, which is never unpacked
//!   kind     what a sample is by content
//!   report   what a sandbox wrote of a run
//!   json     as Python writes it
//! day        the tar becomes packs and an index, or is refused
//!   pack     contents one after the other, masked
//!   index    what people search for, in SQLite
//! days       the published days
//!   search   pages over all of them
//! disc, zip  what guests of any age read
//! ```

pub mod archive;
pub mod check;
mod child;
pub mod day;
pub mod days;
pub mod digest;
pub mod disc;
pub mod find;
pub mod generate;
pub mod give;
pub mod index;
mod json;
pub mod kind;
pub mod limits;
pub mod pack;
pub mod report;
pub mod search;
pub mod serve;
pub mod zip;

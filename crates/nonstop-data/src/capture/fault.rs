//! What can be wrong with a file of packets, and where.

use super::{LONGEST, Looks};
use std::io;

/// A file that cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The system cannot read it; nothing is said about the file.
    #[error("read the file of packets")]
    Read(#[from] io::Error),
    /// The file is not what it should be.
    #[error("{}{fault}", place(*record, *offset, fault))]
    File {
        /// The number of the record, from 1; 0 for the file's header, and the whole file.
        record: u64,
        /// The byte of the file at which the record begins.
        offset: u64,
        /// What is wrong with it.
        fault: Fault,
    },
}

impl CaptureError {
    pub(super) fn file(record: u64, offset: u64, fault: Fault) -> Self {
        Self::File { record, offset, fault }
    }
}

fn place(record: u64, offset: u64, fault: &Fault) -> String {
    match (fault, record) {
        (Fault::NotACapture(_) | Fault::NoPackets, _) => String::new(),
        (_, 0) => "the file's header: ".into(),
        _ => format!("record {record} at byte {offset}: "),
    }
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It is something else.
    #[error("this is no file of packets: {0}")]
    NotACapture(Looks),
    /// It is pcap of another version than 2.4, or pcapng of another than 1.x.
    #[error("version {0}.{1} of the format is not known; `editcap OLD NEW` writes a known one")]
    Version(u16, u16),
    /// It has no record.
    #[error("there is no packet in it")]
    NoPackets,
    /// It ends in the middle.
    #[error("the file ends in the middle of it: {wanted} bytes are announced, {there} are there")]
    Torn {
        /// Bytes that what is there announces.
        wanted: u64,
        /// Bytes up to the end of the file.
        there: u64,
    },
    /// More than any program captures: usually the bytes before it are not a record.
    #[error("it claims {0} captured bytes, above {LONGEST}: this is no header of a record")]
    Captured(u32),
    /// More was captured than there was.
    #[error("it claims {captured} captured bytes of {length}: this is no header of a record")]
    MoreThanOnWire {
        /// Bytes captured.
        captured: u32,
        /// Bytes on the wire.
        length: u32,
    },
    /// A packet of no length: usually zeros where records should be.
    #[error("it claims a packet of no length: this is no header of a record")]
    NothingOnWire,
    /// Not a fraction of a second.
    #[error("it claims {0} parts of a second: this is no header of a record")]
    Fraction(u32),
    /// A time before 1677 or after 2262.
    #[error("its time cannot be")]
    Time,
    /// A record that has no time.
    #[error("it has no time (a \"simple packet block\"); capture into enhanced packet blocks")]
    NoTime,
    /// A link type that is none of [`Link`](super::Link).
    #[error("link type {0} is not known; Ethernet, raw IP, Linux cooked and BSD loopback are")]
    Link(u32),
    /// A record of an interface that the section did not describe.
    #[error("it is of interface {0}, which was not described before it")]
    Interface(u32),
    /// More interfaces in a section than are looked at.
    #[error("more than {0} interfaces are described in one section")]
    Interfaces(usize),
    /// A block whose length cannot be.
    #[error("a block of {0} bytes cannot be: this is no block")]
    Block(u32),
    /// A block whose two lengths differ.
    #[error("a block says {begin} bytes at its begin and {end} at its end")]
    BlockEnd {
        /// The length at its begin.
        begin: u32,
        /// The length at its end.
        end: u32,
    },
    /// A section that says no byte order.
    #[error("a section's byte order reads {0:#010x}")]
    Order(u32),
    /// An option that is longer than its block, or has no length that it may have.
    #[error("an option of a block has a wrong length")]
    Option,
}

//! A file of packets, read record by record to its end: pcap and pcapng.
//!
//! Memory is flat whatever the file says. The reader is strict, because what it accepts is what gets
//! published: a record that is cut off, lengths that cannot be, bytes after the last record and a
//! file without packets are errors, each with the number of the record and the byte of the file.
//! What it reads is the two formats as the IETF's drafts have them (`draft-ietf-opsawg-pcap`,
//! `draft-ietf-opsawg-pcapng`), of any byte order and resolution of time.

mod fault;
mod looks;
mod pcap;
mod pcapng;
mod window;
mod write;

pub use fault::{CaptureError, Fault};
pub use looks::Looks;
pub use write::Writer;

use std::{fmt, io::Read};
use window::Window;

/// The most that a record may hold, in bytes: libpcap's `MAXIMUM_SNAPLEN`.
pub const LONGEST: u32 = 262_144;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// pcap, of microseconds or nanoseconds.
    Pcap,
    /// pcapng.
    Pcapng,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Pcap => "pcap",
            Format::Pcapng => "pcapng",
        })
    }
}

/// What a record begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Ethernet.
    Ethernet,
    /// IPv4 or IPv6 without anything before it.
    Ip,
    /// Linux's "any" interface, first version.
    Sll,
    /// Linux's "any" interface, second version.
    Sll2,
    /// Four bytes with the address family: BSD's loopback.
    Null,
}

impl Link {
    /// By its number in <https://www.tcpdump.org/linktypes.html>; 12 and 14 are what BSDs wrote for
    /// 101.
    pub fn numbered(number: u32) -> Option<Link> {
        match number {
            0 | 108 => Some(Link::Null),
            1 => Some(Link::Ethernet),
            12 | 14 | 101 | 228 | 229 => Some(Link::Ip),
            113 => Some(Link::Sll),
            276 => Some(Link::Sll2),
            _ => None,
        }
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number in the file, from 1.
    pub number: u64,
    /// The byte of the file at which its header begins.
    pub offset: u64,
    /// When it was caught: nanoseconds since 1970, UTC.
    pub nanoseconds: i64,
    /// What `data` begins with.
    pub link: Link,
    /// Bytes that were on the wire; at least one.
    pub length: u32,
    /// What was kept of them; at most [`LONGEST`].
    pub data: &'a [u8],
}

/// Where a record lies, before it is lent.
struct Found {
    nanoseconds: i64,
    link: Link,
    length: u32,
    /// Bytes of the block before its data.
    before: usize,
    captured: usize,
    /// Bytes of the whole block.
    whole: usize,
}

enum Kind {
    Pcap(pcap::Header),
    Pcapng(pcapng::Section),
}

/// Reads records.
pub struct Reader<R> {
    window: Window<R>,
    kind: Kind,
    records: u64,
    /// What was found wrong, and where.
    broken: Option<(u64, u64, Fault)>,
}

impl<R: Read> Reader<R> {
    /// Begins to read `source`, whose first bytes say which format it has. Reads it in pieces of up
    /// to a MiB: no buffer is wanted below.
    pub fn new(source: R) -> Result<Self, CaptureError> {
        let mut window = Window::new(source);
        let kind = match window.fill(4)? {
            4.. => {
                let magic = u32::from_le_bytes(word(window.bytes()));
                match magic {
                    pcapng::SECTION => Some(Kind::Pcapng(pcapng::Section::begin(&mut window)?)),
                    _ if pcap::is_magic(magic) => {
                        Some(Kind::Pcap(pcap::Header::read(&mut window)?))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        let Some(kind) = kind else {
            let seen = window.fill(looks::ENOUGH)?;
            let looks = Looks::of(&window.bytes()[..seen.min(looks::ENOUGH)]);
            return Err(CaptureError::file(0, 0, Fault::NotACapture(looks)));
        };
        Ok(Self { window, kind, records: 0, broken: None })
    }

    /// The format of the file.
    pub fn format(&self) -> Format {
        match self.kind {
            Kind::Pcap(_) => Format::Pcap,
            Kind::Pcapng(_) => Format::Pcapng,
        }
    }

    /// Records that were read.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of the file that were read as records; its length at the end.
    pub fn offset(&self) -> u64 {
        self.window.offset()
    }

    /// The next record; None at the end of a file whose every byte was understood and which has at
    /// least one record. An error is told again by the next call.
    #[expect(clippy::should_implement_trait, reason = "a record is lent until the next call")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        if let Some((record, offset, fault)) = &self.broken {
            return Err(CaptureError::file(*record, *offset, fault.clone()));
        }
        let number = self.records + 1;
        let found = match &mut self.kind {
            Kind::Pcap(header) => header.next(&mut self.window),
            Kind::Pcapng(section) => section.next(&mut self.window),
        };
        let offset = self.window.offset();
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) if self.records > 0 => return Ok(None),
            Ok(None) => return Err(CaptureError::file(0, offset, Fault::NoPackets)),
            Err(CaptureError::File { offset, fault, .. }) => {
                self.broken = Some((number, offset, fault.clone()));
                return Err(CaptureError::file(number, offset, fault));
            }
            Err(e) => return Err(e),
        };
        self.records = number;
        let data = &self.window.take(found.whole)[found.before..][..found.captured];
        let Found { nanoseconds, link, length, .. } = found;
        Ok(Some(Record { number, offset, nanoseconds, link, length, data }))
    }
}

/// Checks what a record says of its lengths.
#[inline]
fn lengths(captured: u32, length: u32) -> Result<(), Fault> {
    if captured > LONGEST {
        return Err(Fault::Captured(captured));
    }
    if length == 0 {
        return Err(Fault::NothingOnWire);
    }
    if captured > length {
        return Err(Fault::MoreThanOnWire { captured, length });
    }
    Ok(())
}

/// Numbers of a file written by a machine of one byte order or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    #[inline]
    fn u16(self, bytes: &[u8]) -> u16 {
        let bytes = [bytes[0], bytes[1]];
        match self {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        }
    }

    #[inline]
    fn u32(self, bytes: &[u8]) -> u32 {
        match self {
            Order::Little => u32::from_le_bytes(word(bytes)),
            Order::Big => u32::from_be_bytes(word(bytes)),
        }
    }
}

/// The first four bytes of at least four.
#[inline]
fn word(bytes: &[u8]) -> [u8; 4] {
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

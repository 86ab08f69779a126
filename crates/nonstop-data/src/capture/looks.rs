//! What a file that is no file of packets looks like, so that whoever brought it knows what to do.

use std::fmt;

/// Bytes that are looked at.
pub(super) const ENOUGH: usize = 512;

/// What a file looks like by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// Nothing is in it.
    Empty,
    /// Compressed or an archive: its name, and what unpacks it.
    Packed(&'static str, &'static str),
    /// Packets in a format that is not read: its name.
    OtherCapture(&'static str),
    /// A program.
    Program,
    /// Text.
    Text,
    /// Nothing but zeros.
    Zeros,
    /// Nothing that is known.
    Unknown,
}

const BEGINNINGS: &[(&[u8], Looks)] = &[
    (b"\x1f\x8b", Looks::Packed("gzip", "gunzip")),
    (b"\x28\xb5\x2f\xfd", Looks::Packed("zstd", "unzstd")),
    (b"\xfd7zXZ\0", Looks::Packed("xz", "unxz")),
    (b"\x04\x22\x4d\x18", Looks::Packed("lz4", "unlz4")),
    (b"BZh", Looks::Packed("bzip2", "bunzip2")),
    (b"PK\x03\x04", Looks::Packed("zip", "unzip")),
    (b"7z\xbc\xaf\x27\x1c", Looks::Packed("7z", "7z x")),
    (b"\xa1\xb2\xcd\x34", Looks::OtherCapture("pcap as patched by Kuznetzov")),
    (b"\x34\xcd\xb2\xa1", Looks::OtherCapture("pcap as patched by Kuznetzov")),
    (b"snoop\0\0\0", Looks::OtherCapture("snoop")),
    (b"ERF", Looks::OtherCapture("ERF")),
    (b"\x7fELF", Looks::Program),
    (b"MZ", Looks::Program),
];

impl Looks {
    /// By the first bytes of a file, at most 512 of them.
    pub fn of(bytes: &[u8]) -> Looks {
        if bytes.is_empty() {
            return Looks::Empty;
        }
        if let Some((_, looks)) = BEGINNINGS.iter().find(|(begin, _)| bytes.starts_with(begin)) {
            return *looks;
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Looks::Zeros;
        }
        // A character may be cut off by the end of what is looked at.
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) if e.error_len().is_none() => {
                std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default()
            }
            Err(_) => return Looks::Unknown,
        };
        match text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace()) {
            true if !text.is_empty() => Looks::Text,
            _ => Looks::Unknown,
        }
    }
}

impl fmt::Display for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Looks::Empty => f.write_str("it is empty"),
            Looks::Packed(name, with) => write!(f, "it looks like {name}; unpack it (`{with}`)"),
            Looks::OtherCapture(name) => {
                write!(f, "it looks like {name}; `editcap OLD NEW` writes pcapng")
            }
            Looks::Program => f.write_str("it looks like a program"),
            Looks::Text => f.write_str("it looks like text"),
            Looks::Zeros => f.write_str("it begins with zeros; was it copied whole?"),
            Looks::Unknown => f.write_str("its first bytes are of no known format"),
        }
    }
}

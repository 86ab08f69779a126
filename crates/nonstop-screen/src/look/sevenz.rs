//! 7z: its header stands at its end, mostly packed. It names the ways in which each file was packed;
//! one of them is encryption.

use super::{Seen, find, le64};
use crate::input::Bytes;
use std::io::{self, Read};

/// The longest header that is read or unpacked, in bytes.
const LONGEST: u64 = 8 << 20;
/// A coder with four bytes of name and properties: AES-256 after SHA-256.
const AES: &[u8] = b"\x24\x06\xf1\x07\x01";

pub(super) fn look(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let start = bytes.piece(0, 32)?;
    let place = le64(&start, 12).and_then(|at| at.checked_add(32));
    let (Some(at), Some(length @ ..=LONGEST)) = (place, le64(&start, 20)) else {
        return Ok(Seen::default());
    };
    let header = bytes.piece(at, usize::try_from(length).unwrap_or(0))?;
    let inner = match header.strip_prefix(b"\x17").and_then(packed) {
        Some(packed) => unpack(bytes, &packed)?,
        None => Vec::new(),
    };
    if [header, inner].iter().any(|header| find(header, AES).is_some()) {
        return Ok(Seen::encrypted("a 7z archive with a password", "パスワード付き 7z"));
    }
    Ok(Seen::default())
}

/// Where a packed header lies, and how it is packed.
struct Packed {
    at: u64,
    length: u64,
    properties: [u8; 5],
    unpacked: u64,
}

/// Reads the description of a packed header: one stream, one folder, one coder, which is LZMA.
fn packed(header: &[u8]) -> Option<Packed> {
    let mut rest = header.strip_prefix(b"\x06")?;
    let at = number(&mut rest)?;
    (number(&mut rest)? == 1).then_some(())?;
    rest = rest.strip_prefix(b"\x09")?;
    let length = number(&mut rest)?;
    // A checksum may follow.
    if let Some(sums) = rest.strip_prefix(b"\x0a\x01") {
        rest = sums.get(4..)?;
    }
    rest = rest.strip_prefix(b"\0\x07\x0b\x01\0\x01\x23\x03\x01\x01\x05")?;
    let properties: [u8; 5] = rest.get(..5)?.try_into().ok()?;
    rest = rest[5..].strip_prefix(b"\x0c")?;
    Some(Packed { at: at.checked_add(32)?, length, properties, unpacked: number(&mut rest)? })
}

/// A number of 7z: the high bits of its first byte say how many more bytes there are.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let (first, more) = rest.split_first()?;
    let extra = first.leading_ones() as usize;
    let low = more.get(..extra)?;
    *rest = &more[extra..];
    let sum = low.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    if extra >= 7 {
        return Some(sum);
    }
    let high = u64::from(first & (0x7f >> extra));
    Some(sum | high << (8 * extra))
}

/// Nothing where it is packed otherwise than it says.
fn unpack(bytes: &(impl Bytes + ?Sized), packed: &Packed) -> io::Result<Vec<u8>> {
    if packed.length > LONGEST || packed.unpacked > LONGEST {
        return Ok(Vec::new());
    }
    let stream = bytes.piece(packed.at, usize::try_from(packed.length).unwrap_or(0))?;
    let [lclppb, dictionary @ ..] = packed.properties;
    // It never needs more than it unpacks.
    let dictionary = u32::from_le_bytes(dictionary).clamp(4096, LONGEST as u32);
    let reader = lzma_rust2::LzmaReader::new_with_props(
        &stream[..],
        packed.unpacked,
        lclppb,
        dictionary,
        None,
    );
    let mut header = Vec::new();
    if let Ok(reader) = reader {
        let _as_far_as_it_goes = reader.take(LONGEST).read_to_end(&mut header);
    }
    Ok(header)
}

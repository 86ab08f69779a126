//! RAR, old and new: whether headers or files are encrypted.

use super::{Seen, le16, le32};
use crate::input::Bytes;
use std::io;

/// Blocks that are looked at.
const MOST_BLOCKS: usize = 10_000;

pub(super) fn look(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let head = bytes.piece(0, 8)?;
    let encrypted = match head.as_slice() {
        b"Rar!\x1a\x07\x01\0" => new(bytes)?,
        head if head.starts_with(b"Rar!\x1a\x07\0") => old(bytes)?,
        _ => false,
    };
    Ok(match encrypted {
        true => Seen::encrypted("a RAR archive with a password", "パスワード付き RAR"),
        false => Seen::default(),
    })
}

/// RAR 1.5 to 4: blocks of checksum, type, flags, length.
fn old(bytes: &(impl Bytes + ?Sized)) -> io::Result<bool> {
    let mut at = 7;
    for _ in 0..MOST_BLOCKS {
        let block = bytes.piece(at, 32)?;
        let fields = (block.get(2), le16(&block, 3), le16(&block, 5));
        let (Some(kind), Some(flags), Some(length @ 7..)) = fields else { break };
        // Of the archive: its headers are encrypted. Of a file: it is.
        if *kind == 0x73 && flags & 0x80 != 0 || *kind == 0x74 && flags & 0x04 != 0 {
            return Ok(true);
        }
        let more = if flags & 0x8000 != 0 { le32(&block, 7).unwrap_or(0) } else { 0 };
        at += u64::from(length) + u64::from(more);
    }
    Ok(false)
}

/// RAR 5: blocks of a checksum and of numbers of seven bits a byte.
fn new(bytes: &(impl Bytes + ?Sized)) -> io::Result<bool> {
    let mut at = 8u64;
    for _ in 0..MOST_BLOCKS {
        let block = bytes.piece(at, 16 << 10)?;
        let Some(mut rest) = block.get(4..) else { break };
        let Some(length) = number(&mut rest) else { break };
        let before = (block.len() - rest.len()) as u64;
        let there = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        let mut header = &rest[..there];
        let mut fields = || {
            let (kind, flags) = (number(&mut header)?, number(&mut header)?);
            let extra = if flags & 1 != 0 { number(&mut header)? } else { 0 };
            let data = if flags & 2 != 0 { number(&mut header)? } else { 0 };
            Some((kind, extra, data))
        };
        let Some((kind, extra, data)) = fields() else { break };
        let extra = usize::try_from(extra).unwrap_or(usize::MAX);
        let records = header.len().checked_sub(extra).map_or(&[][..], |from| &header[from..]);
        if kind == 4 || matches!(kind, 2 | 3) && has_encryption(records) {
            return Ok(true);
        }
        let next = [before, length, data].iter().try_fold(at, |sum, n| sum.checked_add(*n));
        match next {
            Some(next) if kind != 5 && next < bytes.size() => at = next,
            _ => break,
        }
    }
    Ok(false)
}

/// Whether one of the records behind a file's header says how it is encrypted.
fn has_encryption(mut records: &[u8]) -> bool {
    while let Some(length) = number(&mut records).and_then(|n| usize::try_from(n).ok()) {
        let Some((mut record, rest)) = records.split_at_checked(length) else { return false };
        if number(&mut record) == Some(1) {
            return true;
        }
        records = rest;
    }
    false
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut sum = 0u64;
    for shift in (0..63).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        sum |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(sum);
        }
    }
    None
}

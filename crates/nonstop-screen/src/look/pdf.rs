//! PDF: it is encrypted if a trailer names a dictionary that says how; it ends where it says, and what
//! is packed in it lies in streams.

use super::{Seen, find};
use crate::input::Bytes;
use std::io;

const PIECE: usize = 1 << 20;
/// Bytes behind a place that are looked at together with it: the longest name, each letter of it
/// written as its number, and what follows.
const BEHIND: usize = 128;
/// Where the end must stand, from the last byte on.
const TAIL: usize = 64 << 10;
/// Bytes outside of streams that are no text; encoded texts of a document's properties are some.
const MOST_BINARY: u64 = 16 << 10;

/// Trailers stand at the end, in front (linearized), or anywhere between (updates): all is looked at.
pub(super) fn look(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let mut piece = vec![0; PIECE + BEHIND];
    let mut outside = Outside::default();
    let mut at = 0;
    while at < bytes.size() {
        let n = bytes.fill_at(at, &mut piece)?;
        if names_encryption(&piece[..n]) {
            return Ok(Seen::encrypted("a PDF document with a password", "パスワード付き PDF"));
        }
        outside.add(&piece[..n], n.min(PIECE));
        at += PIECE as u64;
    }
    let Some(appended) = behind_the_end(bytes)? else {
        let ja = "PDF として終端まで読み取れません";
        return Ok(Seen::malformed("it begins as a PDF document but does not end as one", ja));
    };
    if outside.binary > MOST_BINARY {
        let ja = "PDF の文書構造に属さないデータが多く含まれています";
        let seen = Seen::malformed("much of it is no part of a PDF document", ja);
        return Ok(Seen { appended, ..seen });
    }
    Ok(Seen { appended, ..Seen::default() })
}

/// How many bytes stand behind the last end of the document, white space not counted; None if there
/// is none near the file's end, or no place of a table in front of it.
fn behind_the_end(bytes: &(impl Bytes + ?Sized)) -> io::Result<Option<u64>> {
    let tail = bytes.piece(bytes.size().saturating_sub(TAIL as u64), TAIL)?;
    let Some(end) = memchr::memmem::rfind(&tail, b"%%EOF") else { return Ok(None) };
    let before = &tail[end.saturating_sub(1024)..end];
    let behind = tail[end + 5..].trim_ascii_end();
    Ok(find(before, b"startxref").map(|_| behind.len() as u64))
}

/// Whether a name in `piece` is that of the dictionary of an encryption, and one follows.
fn names_encryption(piece: &[u8]) -> bool {
    memchr::memchr_iter(b'/', piece).any(|place| {
        let rest = &piece[place + 1..];
        matches!(rest.first(), Some(b'E' | b'#'))
            && after_name(rest, b"Encrypt").is_some_and(is_reference)
    })
}

/// What follows `name` if that is what `text` begins with; any letter may be written as `#` and its
/// number.
fn after_name<'a>(mut text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    for letter in name {
        let (first, mut rest) = text.split_first()?;
        let mut byte = *first;
        if byte == b'#' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            byte = u8::from_str_radix(digits, 16).ok()?;
            rest = &rest[2..];
        }
        if byte != *letter {
            return None;
        }
        text = rest;
    }
    Some(&text[..text.len().min(BEHIND)])
}

/// Whether what follows is a dictionary or names one: `12 0 R` or `<<`, remarks between left out.
fn is_reference(mut behind: &[u8]) -> bool {
    loop {
        behind = behind.trim_ascii_start();
        let Some(remark) = behind.strip_prefix(b"%") else { break };
        let end = remark.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        // One that does not end here is nothing that a program writes.
        let Some(end) = end else { return true };
        behind = &remark[end..];
    }
    if behind.starts_with(b"<<") {
        return true;
    }
    let mut words = behind.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut number = || words.next().is_some_and(|word| word.iter().all(u8::is_ascii_digit));
    number() && number() && words.next().is_some_and(|word| word.starts_with(b"R"))
}

/// Counts what is no text outside of streams.
#[derive(Debug, Default)]
struct Outside {
    in_stream: bool,
    /// Bytes of the next piece that were looked at already.
    ahead: usize,
    binary: u64,
}

impl Outside {
    /// Looks at the first `n` bytes of `piece`; a word may end in those behind.
    fn add(&mut self, piece: &[u8], n: usize) {
        let mut at = self.ahead;
        while at < n {
            let word: &[u8] = if self.in_stream { b"endstream" } else { b"stream" };
            let until = piece.len().min(n + word.len() - 1).max(at);
            let place = find(&piece[at..until], word);
            let end = place.map_or(n.max(at), |place| at + place);
            if !self.in_stream {
                let text = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' '..=b'~' | 0);
                let odd = piece[at..end].iter().filter(|byte| !text(byte)).count();
                self.binary += odd as u64;
            }
            let Some(_) = place else {
                at = end;
                break;
            };
            at = end + word.len();
            let begins = matches!(piece.get(at), Some(b'\r' | b'\n'));
            self.in_stream = !self.in_stream && begins;
        }
        self.ahead = at.saturating_sub(n);
    }
}

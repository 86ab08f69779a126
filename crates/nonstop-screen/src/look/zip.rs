//! ZIP, and what office programs make of it. Its directory stands at its end.

mod parts;

use super::{Seen, find, le16, le32, le64};
use crate::input::Bytes;
use std::io::{self, Read};

/// Entries that are looked at; a directory that has more is an archive for a person.
const MOST_ENTRIES: usize = 100_000;
/// The longest directory that is read, in bytes.
const LONGEST_DIRECTORY: u64 = 16 << 20;
/// The longest manifest that is unpacked, in bytes.
const LONGEST_MANIFEST: u64 = 4 << 20;
/// Bytes between two entries that a description and padding may take.
const GAP: u64 = 64;

struct Entry {
    flags: u16,
    method: u16,
    packed: u64,
    at: u64,
    name: Vec<u8>,
}

impl Entry {
    /// Whether it is encrypted by any of the ways that there are.
    fn is_locked(&self) -> bool {
        self.flags & 0x2041 != 0 || self.method == 99
    }
}

pub(super) fn look(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let locked = Seen::encrypted("a ZIP archive with a password", "パスワード付き ZIP");
    if first_is_locked(bytes)? {
        return Ok(locked);
    }
    let Some((entries, whole)) = directory(bytes)? else { return Ok(Seen::default()) };
    if entries.iter().any(Entry::is_locked) {
        return Ok(locked);
    }
    // What stands beside the entries, nobody has looked at: it stays an archive.
    if !whole {
        return Ok(Seen::default());
    }
    let named = |name: &str| entries.iter().find(|entry| entry.name == name.as_bytes());
    let kind = if named("[Content_Types].xml").is_some() {
        parts::office(bytes, &entries)?
    } else if let Some(entry) = named("mimetype") {
        let kind = open_document(&unpacked(bytes, entry, LONGEST_MANIFEST)?);
        if kind == Some("odf")
            && let Some(manifest) = named("META-INF/manifest.xml")
            && find(&unpacked(bytes, manifest, LONGEST_MANIFEST)?, b"encryption-data").is_some()
        {
            let ja = "パスワード付き OpenDocument";
            return Ok(Seen::encrypted("an OpenDocument file with a password", ja));
        }
        match kind {
            Some("odf") => parts::open_document(bytes, &entries)?,
            Some("epub") => parts::book(bytes, &entries)?,
            _ => None,
        }
    } else if named("META-INF/MANIFEST.MF").is_some() || named("AndroidManifest.xml").is_some() {
        Some("jar")
    } else {
        None
    };
    Ok(Seen { kind, ..Seen::default() })
}

fn open_document(mimetype: &[u8]) -> Option<&'static str> {
    match mimetype.trim_ascii_end() {
        kind if kind.len() > 100 => None,
        kind if kind.starts_with(b"application/vnd.oasis.opendocument.") => Some("odf"),
        b"application/epub+zip" => Some("epub"),
        _ => None,
    }
}

/// The directory, and whether its entries are all there is: none before, between or behind them.
fn directory(bytes: &(impl Bytes + ?Sized)) -> io::Result<Option<(Vec<Entry>, bool)>> {
    let size = bytes.size();
    let tail_at = size.saturating_sub(22 + 65_535);
    let tail = bytes.piece(tail_at, 22 + 65_535)?;
    let fits = |at: &usize| {
        tail[*at..].starts_with(b"PK\x05\x06")
            && le16(&tail, at + 20).is_some_and(|n| at + 22 + usize::from(n) <= tail.len())
    };
    let Some(end) = (0..tail.len().saturating_sub(21)).rev().find(fits) else { return Ok(None) };
    let end_at = tail_at + end as u64;
    let comment = u64::from(le16(&tail, end + 20).unwrap_or(0));
    let number = |at: usize| u64::from(le32(&tail, at).unwrap_or(0));
    let (mut length, mut start, mut until) = (number(end + 12), number(end + 16), end_at);
    let wide = length == u64::from(u32::MAX) || start == u64::from(u32::MAX);
    if let Some(at) = end_at.checked_sub(20).filter(|_| wide) {
        let locator = bytes.piece(at, 20)?;
        if locator.starts_with(b"PK\x06\x07") {
            let at = le64(&locator, 8).unwrap_or(0);
            let record = bytes.piece(at, 56)?;
            if record.starts_with(b"PK\x06\x06") {
                length = le64(&record, 40).unwrap_or(0);
                start = le64(&record, 48).unwrap_or(0);
                until = at;
            }
        }
    }
    if length > LONGEST_DIRECTORY || start.checked_add(length).is_none_or(|end| end > size) {
        return Ok(None);
    }
    let all = bytes.piece(start, usize::try_from(length).unwrap_or(0))?;
    let (entries, read) = entries_of(&all);
    let whole = read == all.len()
        && start + length == until
        && end_at + 22 + comment == size
        && comment < GAP
        && fill(bytes, &entries, start)?;
    Ok(Some((entries, whole)))
}

/// Whether the packed entries fill the file up to `end`.
fn fill(bytes: &(impl Bytes + ?Sized), entries: &[Entry], end: u64) -> io::Result<bool> {
    let mut places: Vec<_> = entries.iter().map(|entry| (entry.at, entry.packed)).collect();
    places.push((end, 0));
    places.sort_unstable();
    if places[0].0 != 0 {
        return Ok(false);
    }
    for pair in places.windows(2) {
        let (at, packed) = pair[0];
        let head = bytes.piece(at, 30)?;
        let Some(body) = body_of(&head, at) else { return Ok(false) };
        let after = body.saturating_add(packed);
        if pair[1].0 < after || pair[1].0 - after > GAP {
            return Ok(false);
        }
    }
    Ok(places.last().is_some_and(|last| last.0 == end))
}

/// Where what an entry holds begins, by the head in front of it.
fn body_of(head: &[u8], at: u64) -> Option<u64> {
    let (name, extra) = (le16(head, 26)?, le16(head, 28)?);
    let known = head.starts_with(b"PK\x03\x04");
    known.then(|| at.saturating_add(30 + u64::from(name) + u64::from(extra)))
}

/// Entries in the order of the directory, and how much of it they are.
fn entries_of(all: &[u8]) -> (Vec<Entry>, usize) {
    let mut entries = Vec::new();
    let mut at = 0;
    while entries.len() < MOST_ENTRIES {
        let read = || {
            let entry = all.get(at..).filter(|rest| rest.starts_with(b"PK\x01\x02"))?;
            let [name, extra, comment] = [28, 30, 32].map(|field| le16(entry, field));
            let (name, extra) = (usize::from(name?), usize::from(extra?));
            let mut found = Entry {
                flags: le16(entry, 8)?,
                method: le16(entry, 10)?,
                packed: le32(entry, 20)?.into(),
                at: le32(entry, 42)?.into(),
                name: entry.get(46..46 + name)?.to_vec(),
            };
            let more = entry.get(46 + name..46 + name + extra)?;
            widen(&mut found, le32(entry, 24)?, more);
            Some((found, at + 46 + name + extra + usize::from(comment?)))
        };
        let Some((entry, next)) = read() else { break };
        entries.push(entry);
        at = next;
    }
    (entries, at)
}

/// Takes the numbers of ZIP64 that do not fit into 32 bits.
fn widen(entry: &mut Entry, unpacked: u32, mut extra: &[u8]) {
    while let (Some(id), Some(length)) = (le16(extra, 0), le16(extra, 2)) {
        let Some(field) = extra.get(4..4 + usize::from(length)) else { return };
        if id == 1 {
            let mut at = if unpacked == u32::MAX { 8 } else { 0 };
            for number in [&mut entry.packed, &mut entry.at] {
                if *number == u64::from(u32::MAX) {
                    *number = le64(field, at).unwrap_or(u64::MAX);
                    at += 8;
                }
            }
            return;
        }
        extra = &extra[4 + usize::from(length)..];
    }
}

/// Whether the first entry says by itself that it is encrypted, or that the directory is.
fn first_is_locked(bytes: &(impl Bytes + ?Sized)) -> io::Result<bool> {
    let head = bytes.piece(0, 64)?;
    let at = if head.starts_with(b"PK00") || head.starts_with(b"PK\x07\x08") { 4 } else { 0 };
    let entry = head.get(at..).is_some_and(|rest| rest.starts_with(b"PK\x03\x04"));
    let flags = le16(&head, at + 6).unwrap_or(0);
    let method = le16(&head, at + 8).unwrap_or(0);
    Ok(head.starts_with(b"PK\x06\x08") || entry && (flags & 0x2041 != 0 || method == 99))
}

/// What `entry` holds, up to a bound; nothing where that is packed in an odd way.
fn unpacked(bytes: &(impl Bytes + ?Sized), entry: &Entry, longest: u64) -> io::Result<Vec<u8>> {
    let head = bytes.piece(entry.at, 30)?;
    let Some(body) = body_of(&head, entry.at) else { return Ok(Vec::new()) };
    let most = entry.packed.min(longest);
    let packed = bytes.piece(body, usize::try_from(most).unwrap_or(0))?;
    match entry.method {
        0 => Ok(packed),
        8 => {
            let mut text = Vec::new();
            let inflate = flate2::read::DeflateDecoder::new(&packed[..]);
            let _as_far_as_it_goes = inflate.take(longest).read_to_end(&mut text);
            Ok(text)
        }
        _ => Ok(Vec::new()),
    }
}

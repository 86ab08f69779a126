//! How a day arrives: one tar, never unpacked.
//!
//! ```text
//! samples/<sha256>            the bytes of a sample
//! reports/<sha256>.json       what a sandbox wrote of it; <sha256>.2.json and on for more runs
//! metadata.jsonl              what is known besides, a line for each sample; may be left out
//! ```
//!
//! In any order, with folders or without; no links, and no holes left out. Anything else refuses the day,
//! with the member's name: what is not understood is not published. What stands between members, long
//! names and records of pax, is kept in memory, so that little of it is taken.

use crate::{digest::Digest, limits};
use sha2::{Digest as _, Sha256};
use std::{
    cell::Cell,
    collections::HashSet,
    fmt,
    io::{self, Read},
    rc::Rc,
};

/// The most bytes between two members: the head of the second and what belongs to it.
const BETWEEN: u64 = 64 << 10;

/// What a member of the tar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Member {
    /// The bytes of the sample of this hash.
    Sample(Digest),
    /// The report of a run, by its number from 1, of the sample of this hash.
    Report(Digest, u32),
    /// What is known of samples besides.
    Metadata,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Member::Sample(digest) => write!(f, "samples/{digest}"),
            Member::Report(digest, 1) => write!(f, "reports/{digest}.json"),
            Member::Report(digest, run) => write!(f, "reports/{digest}.{run}.json"),
            Member::Metadata => f.write_str("metadata.jsonl"),
        }
    }
}

/// A day that cannot be read, or must not be published.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read now; nothing is wrong with it as far as is known.
    #[error("read the file")]
    Read(#[source] io::Error),
    /// What was made of it cannot be written.
    #[error("write what was read")]
    Write(#[source] io::Error),
    /// It is no day.
    #[error("{0}")]
    Refused(String),
}

impl ArchiveError {
    /// A refusal because of `member`.
    pub fn of(member: impl fmt::Display, what: impl fmt::Display) -> ArchiveError {
        ArchiveError::Refused(format!("{member}: {what}"))
    }
}

/// What `path` of a member says that it is; None for the folders that members lie in.
fn member(path: &str) -> Result<Option<Member>, &'static str> {
    let path = path.strip_prefix("./").unwrap_or(path);
    if matches!(path, "" | "samples/" | "samples" | "reports/" | "reports") {
        return Ok(None);
    }
    if path == "metadata.jsonl" {
        return Ok(Some(Member::Metadata));
    }
    if let Some(name) = path.strip_prefix("samples/") {
        let digest = Digest::read(name).ok_or(
            "a sample's name is its SHA-256, as 64 lower-case hexadecimal digits, and nothing else",
        )?;
        return Ok(Some(Member::Sample(digest)));
    }
    const NAME: &str = "a report's name is the SHA-256 of its sample and .json, or .2.json and on";
    if let Some(name) = path.strip_prefix("reports/") {
        let stem = name.strip_suffix(".json").ok_or(NAME)?;
        let (hash, run) = match stem.split_once('.') {
            Some((hash, run)) => (hash, run.parse().ok().filter(|run| (2..=9999).contains(run))),
            None => (stem, Some(1)),
        };
        let (Some(digest), Some(run)) = (Digest::read(hash), run) else { return Err(NAME) };
        return Ok(Some(Member::Report(digest, run)));
    }
    Err("there is samples/, reports/ and metadata.jsonl here, and nothing else")
}

/// What the whole file was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub digest: Digest,
}

/// Reads the tar `file` to its end, once, and has `each` take every member: what it is, its bytes,
/// and how many they are. `heard` is told after each how many bytes were read of the whole.
///
/// Errors: the first that `each` gives, or of the tar itself; a member that is none of ours, is there
/// twice, or is more than a file; a tar that ends before its end.
pub fn read<R: Read>(
    file: R,
    mut each: impl FnMut(Member, &mut dyn Read, u64) -> Result<(), ArchiveError>,
    mut heard: impl FnMut(u64),
) -> Result<Whole, ArchiveError> {
    let mut source = Source::new(file);
    let done = members(&mut source, &mut each, &mut heard);
    if let Some(failed) = source.failed {
        return Err(ArchiveError::Read(failed));
    }
    if source.between.take() == Some(0) && done.is_err() {
        let what = format!(
            "more than {BETWEEN} bytes stand between two members of this tar: bring one without long \
             names, records and folders that have something in them"
        );
        return Err(ArchiveError::Refused(what));
    }
    done?;
    source.read_to_the_end()?;
    Ok(Whole { bytes: source.bytes, digest: Digest(source.hash.finalize().into()) })
}

/// Takes a member.
type Each<'a> = dyn FnMut(Member, &mut dyn Read, u64) -> Result<(), ArchiveError> + 'a;

fn members<R: Read>(
    source: &mut Source<R>,
    each: &mut Each<'_>,
    heard: &mut dyn FnMut(u64),
) -> Result<(), ArchiveError> {
    let no_tar = |e: io::Error| ArchiveError::Refused(format!("this is no whole tar: {e}"));
    // The library borrows its source for as long as it walks, so how far it is is asked of the counter.
    let (count, between) = (Rc::clone(&source.count), Rc::clone(&source.between));
    let mut seen = HashSet::new();
    let mut archive = tar::Archive::new(source);
    let mut entries = archive.entries().map_err(no_tar)?;
    loop {
        // The library takes whole into memory what it reads before it gives an entry, and its records.
        between.set(Some(BETWEEN));
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(no_tar)?;
        let bytes = entry.path_bytes().into_owned();
        let path = String::from_utf8_lossy(&bytes).into_owned();
        let shown: String = path.chars().take(120).flat_map(char::escape_debug).collect();
        let kind = entry.header().entry_type();
        // Before its name: some writers hide that, too.
        if kind.is_gnu_sparse() || is_sparse_by_extension(&mut entry).map_err(no_tar)? {
            let what = "it is written with its holes left out: make the tar without --sparse";
            return Err(ArchiveError::of(&shown, what));
        }
        let Some(member) = member(&path).map_err(|why| ArchiveError::of(&shown, why))? else {
            // Tars of long ago have folders as empty files with a slash behind.
            if kind.is_dir() || (kind.is_file() && path.ends_with('/') && entry.size() == 0) {
                continue;
            }
            return Err(ArchiveError::of(&shown, "it is no folder, which this name is for"));
        };
        if !kind.is_file() {
            return Err(ArchiveError::of(&shown, "it is no plain file, but a link or device"));
        }
        let (size, most) = (entry.size(), longest(member));
        if size > most {
            let what = format!("its {size} bytes are more than the {most} that are taken");
            return Err(ArchiveError::of(&shown, what));
        }
        if seen.len() as u64 >= limits::MEMBERS {
            let what = format!("a day has at most {} members: bring it as two", limits::MEMBERS);
            return Err(ArchiveError::Refused(what));
        }
        if !seen.insert(member) {
            return Err(ArchiveError::of(&shown, "it is there twice"));
        }
        between.set(None);
        let mut counted = Counted { inner: &mut entry, read: 0 };
        each(member, &mut counted, size)?;
        if counted.read != size {
            let what = format!("the tar ends {} bytes into it; bring it whole", counted.read);
            return Err(ArchiveError::of(&shown, what));
        }
        heard(count.get());
    }
    Ok(())
}

/// Whether pax records before `entry` tell where its holes are.
fn is_sparse_by_extension<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<bool> {
    let Some(mut records) = entry.pax_extensions()? else { return Ok(false) };
    Ok(records
        .any(|record| record.is_ok_and(|record| record.key_bytes().starts_with(b"GNU.sparse."))))
}

fn longest(member: Member) -> u64 {
    match member {
        Member::Sample(_) => limits::SAMPLE_BYTES,
        Member::Report(..) => limits::REPORT_BYTES,
        Member::Metadata => limits::METADATA_BYTES,
    }
}

/// Counts what was read of a member.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    read: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read += n as u64;
        Ok(n)
    }
}

/// A block of a tar, in bytes.
const BLOCK: usize = 512;

/// Hashes what is read, and keeps apart what the source says from what the tar's reader thinks of it.
struct Source<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
    count: Rc<Cell<u64>>,
    /// How many bytes may still be read before a member is reached; None in a member.
    between: Rc<Cell<Option<u64>>>,
    /// Zero bytes in a row up to here.
    zeros: u64,
    failed: Option<io::Error>,
}

impl<R: Read> Source<R> {
    fn new(inner: R) -> Source<R> {
        let (count, between) = (Rc::default(), Rc::default());
        Source { inner, hash: Sha256::new(), bytes: 0, count, between, zeros: 0, failed: None }
    }

    /// A tar ends with zeros, two blocks of them and as many more as fill up its last record.
    fn read_to_the_end(&mut self) -> Result<(), ArchiveError> {
        let mut rest = vec![0; 64 << 10];
        loop {
            match self.read(&mut rest) {
                Ok(0) => break,
                Ok(n) if rest[..n].iter().all(|b| *b == 0) => {}
                Ok(_) => {
                    let what = "something stands behind the end of the tar: bring one tar a day";
                    return Err(ArchiveError::Refused(what.into()));
                }
                Err(e) => return Err(ArchiveError::Read(e)),
            }
        }
        match self.zeros >= BLOCK as u64 {
            true => Ok(()),
            false => Err(ArchiveError::Refused(
                "the tar has no end, so something of it is missing: bring it whole".into(),
            )),
        }
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = buffer;
        if let Some(left) = self.between.get() {
            if left == 0 {
                return Err(io::Error::other("too much stands between two members"));
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            buffer = &mut buffer[..most];
        }
        let n = match self.inner.read(buffer) {
            Ok(n) => n,
            Err(e) => {
                let told = io::Error::new(e.kind(), e.to_string());
                self.failed = Some(e);
                return Err(told);
            }
        };
        if let Some(left) = self.between.get() {
            self.between.set(Some(left.saturating_sub(n as u64)));
        }
        let read = &buffer[..n];
        self.hash.update(read);
        self.bytes += n as u64;
        self.count.set(self.bytes);
        let zeros = read.iter().rev().take_while(|b| **b == 0).count();
        self.zeros = if zeros == n { self.zeros + n as u64 } else { zeros as u64 };
        Ok(n)
    }
}

#[cfg(test)]
mod tests;

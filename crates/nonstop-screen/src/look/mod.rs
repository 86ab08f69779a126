//! Looks into containers: whether what they hold can be read at all, and what they are from within.
//!
//! Every length and place that a file says is checked, and every walk has an end: so many steps, so
//! many bytes.

mod ole;
mod pdf;
mod picture;
mod rar;
mod sevenz;
mod tiff;
mod zip;

use crate::input::Bytes;
use std::io;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// What the container is from within.
    pub kind: Option<&'static str>,
    /// What of it is encrypted: in English and Japanese.
    pub encrypted: Option<(&'static str, &'static str)>,
    /// Why it cannot be followed to its end, or what of it is no part of what it is: in English and
    /// Japanese.
    pub malformed: Option<(&'static str, &'static str)>,
    /// Bytes behind its end.
    pub appended: u64,
}

impl Seen {
    fn encrypted(en: &'static str, ja: &'static str) -> Seen {
        Seen { encrypted: Some((en, ja)), ..Seen::default() }
    }

    fn malformed(en: &'static str, ja: &'static str) -> Seen {
        Seen { malformed: Some((en, ja)), ..Seen::default() }
    }
}

/// Looks into `bytes`, which are of `kind` by how they begin.
///
/// Errors: they cannot be read. What is broken is no error: it is seen as far as it goes, and a picture
/// or a PDF document that does not go to its end is malformed.
pub fn look(bytes: &(impl Bytes + ?Sized), kind: &str) -> io::Result<Seen> {
    match kind {
        "zip" => zip::look(bytes),
        "7z" => sevenz::look(bytes),
        "rar" => rar::look(bytes),
        "pdf" => pdf::look(bytes),
        "ole" => ole::look(bytes),
        "png" => picture::png(bytes),
        "gif" => picture::gif(bytes),
        "jpeg" => picture::jpeg(bytes),
        "webp" => picture::riff(bytes),
        "bmp" => picture::bmp(bytes),
        "ico" => picture::ico(bytes),
        "tiff" => tiff::look(bytes),
        _ => Ok(Seen::default()),
    }
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

/// Where `needle` first stands in `hay`.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(hay, needle)
}

#[cfg(test)]
mod tests;

//! Parts of documents that are ZIP archives: a document holds nothing else than such a document needs,
//! and each part begins as its name says. Anything else leaves it an archive, for a person.

use super::{Entry, find, unpacked};
use crate::input::Bytes;
use std::io;

/// How much of the begin of a part is looked at, in bytes.
const BEGIN: u64 = 512;

/// How a part begins that ends so: one of these, or as a text in tags, or as a text.
enum Begins {
    As(&'static [&'static [u8]]),
    Tags,
    Text,
    Anyhow,
}

use Begins::{Anyhow, As, Tags, Text};

/// Pictures of all documents.
const PICTURES: &[(&str, Begins)] = &[
    (".png", As(&[b"\x89PNG\r\n\x1a\n"])),
    (".jpg", As(&[b"\xff\xd8\xff"])),
    (".jpeg", As(&[b"\xff\xd8\xff"])),
    (".gif", As(&[b"GIF87a", b"GIF89a"])),
    (".tif", As(&[b"II*\0", b"MM\0*"])),
    (".tiff", As(&[b"II*\0", b"MM\0*"])),
    (".emf", As(&[b"\x01\0\0\0"])),
    (".wmf", As(&[b"\xd7\xcd\xc6\x9a", b"\x01\0\x09\0", b"\x02\0\x09\0"])),
    (".svg", Tags),
];

/// Pictures, fonts that are made unlike themselves, and sheets within charts.
const OFFICE: &[(&str, Begins)] = &[
    (".xml", Tags),
    (".rels", Tags),
    (".vml", Tags),
    (".xlsx", As(&[b"PK\x03\x04"])),
    (".odttf", Anyhow),
    (".fntdata", Anyhow),
];

const OPEN_DOCUMENT: &[(&str, Begins)] = &[
    (".xml", Tags),
    (".rdf", Tags),
    ("mimetype", Text),
    (".svm", As(&[b"VCLMTF"])),
    (".ttf", As(&[b"\0\x01\0\0", b"true"])),
    (".otf", As(&[b"OTTO"])),
];

const BOOK: &[(&str, Begins)] = &[
    (".xml", Tags),
    (".xhtml", Tags),
    (".html", Tags),
    (".htm", Tags),
    (".opf", Tags),
    (".ncx", Tags),
    (".css", Text),
    ("mimetype", Text),
    (".webp", As(&[b"RIFF"])),
    (".ttf", As(&[b"\0\x01\0\0", b"true"])),
    (".otf", As(&[b"OTTO"])),
    (".woff", As(&[b"wOFF"])),
    (".woff2", As(&[b"wOF2"])),
];

/// What an office program made, if it holds nothing else than that.
pub(super) fn office(
    bytes: &(impl Bytes + ?Sized),
    entries: &[Entry],
) -> io::Result<Option<&'static str>> {
    let names = names(entries);
    let active = |name: &Vec<u8>| {
        let ends = ["vbaproject.bin", "vbadata.xml", "xl/workbook.bin"];
        let holds = [&b"/activex/"[..], b"/macrosheets/", b"/embeddings/oleobject"];
        ends.iter().any(|end| name.ends_with(end.as_bytes()))
            || holds.iter().any(|part| find(name, part).is_some())
    };
    if names.iter().any(active) {
        return Ok(Some("ooxml-macro"));
    }
    for (name, entry) in names.iter().zip(entries) {
        // What a printer's driver notes: nobody else knows its form.
        let printer = find(name, b"/printersettings").is_some() && entry.packed <= 64 << 10;
        if !printer && !is_part(bytes, name, entry, OFFICE)? {
            return Ok(None);
        }
    }
    let below = |folder: &[u8]| names.iter().any(|name| name.starts_with(folder));
    Ok(match () {
        () if below(b"word/") => Some("docx"),
        () if below(b"xl/") => Some("xlsx"),
        () if below(b"ppt/") => Some("pptx"),
        () => None,
    })
}

/// An OpenDocument file, if it holds nothing else; macros are told.
pub(super) fn open_document(
    bytes: &(impl Bytes + ?Sized),
    entries: &[Entry],
) -> io::Result<Option<&'static str>> {
    let names = names(entries);
    let active = |name: &Vec<u8>| name.starts_with(b"basic/") || name.starts_with(b"scripts/");
    if names.iter().any(active) {
        return Ok(Some("ooxml-macro"));
    }
    for (name, entry) in names.iter().zip(entries) {
        // How a chart looks, for programs that cannot draw it; and where pages end.
        let drawn = name.starts_with(b"objectreplacements/") && !name.ends_with(b"/");
        let fits = if drawn {
            let marks: &[&[u8]] = &[b"VCLMTF", b"\x89PNG\r\n\x1a\n", b"\x01\0\0\0\x6c\0\0\0"];
            As(marks).fits(&begin(bytes, entry)?)
        } else if name == b"layout-cache" {
            entry.packed <= 4 << 10
        } else {
            is_part(bytes, name, entry, OPEN_DOCUMENT)?
        };
        if !fits {
            return Ok(None);
        }
    }
    Ok(Some("odf"))
}

/// A book, if it holds nothing else than pages, pictures and fonts in the open.
pub(super) fn book(
    bytes: &(impl Bytes + ?Sized),
    entries: &[Entry],
) -> io::Result<Option<&'static str>> {
    for (name, entry) in names(entries).iter().zip(entries) {
        if name == b"meta-inf/encryption.xml" || !is_part(bytes, name, entry, BOOK)? {
            return Ok(None);
        }
    }
    Ok(Some("epub"))
}

fn names(entries: &[Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.name.to_ascii_lowercase()).collect()
}

/// Whether a part of this name is one that `own` or all documents have, and begins as one.
fn is_part(
    bytes: &(impl Bytes + ?Sized),
    name: &[u8],
    entry: &Entry,
    own: &[(&str, Begins)],
) -> io::Result<bool> {
    if name.ends_with(b"/") {
        return Ok(entry.packed <= 2);
    }
    let ends = |(end, _): &&(&str, Begins)| match end.starts_with('.') {
        true => name.ends_with(end.as_bytes()),
        false => name == end.as_bytes(),
    };
    let Some((_, begins)) = own.iter().chain(PICTURES).find(ends) else { return Ok(false) };
    Ok(entry.packed == 0 || begins.fits(&begin(bytes, entry)?))
}

/// The first bytes of a part, unpacked; nothing where that is packed in an odd way.
fn begin(bytes: &(impl Bytes + ?Sized), entry: &Entry) -> io::Result<Vec<u8>> {
    let mut begin = unpacked(bytes, entry, 2 * BEGIN)?;
    begin.truncate(usize::try_from(BEGIN).unwrap_or(0));
    Ok(begin)
}

impl Begins {
    fn fits(&self, begin: &[u8]) -> bool {
        // Of a text in UTF-16 every other byte is nothing.
        let wide = begin.starts_with(b"\xff\xfe") || begin.starts_with(b"\xfe\xff");
        let control = |byte: &u8| *byte < 32 && !matches!(byte, 9 | 10 | 12 | 13);
        let text = wide || !begin.iter().any(control) && !begin.is_empty();
        match self {
            As(marks) => marks.iter().any(|mark| begin.starts_with(mark)),
            Text => text,
            Tags => {
                let mark = begin.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begin);
                text && (wide || mark.trim_ascii_start().starts_with(b"<"))
            }
            Anyhow => true,
        }
    }
}

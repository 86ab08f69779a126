//! What a sample is, by how it begins: the types that people who look for malware ask for.

/// How much of a sample is looked at, in bytes.
pub const HEAD: usize = 4096;

/// A place, what stands there, and what that makes of a file; the first that fits counts.
const MARKS: &[(usize, &[u8], &str)] = &[
    (0, b"\x7fELF", "elf"),
    (0, b"\xcf\xfa\xed\xfe", "mach-o"),
    (0, b"\xce\xfa\xed\xfe", "mach-o"),
    (0, b"\xfe\xed\xfa\xcf", "mach-o"),
    (0, b"\xfe\xed\xfa\xce", "mach-o"),
    (0, b"%PDF-", "pdf"),
    (0, b"{\\rtf", "rtf"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (0, b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0\x46", "lnk"),
    (0, b"ITSF\x03\0\0\0", "chm"),
    (0, b"dex\n", "dex"),
    (0, b"\xca\xfe\xba\xbe", "java"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"BZh", "bzip2"),
    (0, b"MSCF\0\0\0\0", "cab"),
    (257, b"ustar", "tar"),
    (0, b"FWS", "flash"),
    (0, b"CWS", "flash"),
    (0, b"\0asm", "wasm"),
];

/// The word for a sample that begins with `head`; `data` where nothing is known.
pub fn of(head: &[u8]) -> &'static str {
    if head.is_empty() {
        return "empty";
    }
    if let Some(kind) = executable_of_windows(head) {
        return kind;
    }
    let mark = MARKS.iter().find(|(at, mark, _)| at_place(head, *at, mark));
    if let Some((_, _, kind)) = mark {
        return kind;
    }
    if head.starts_with(b"PK\x03\x04") {
        return of_zip(head);
    }
    text(head).unwrap_or("data")
}

fn at_place(head: &[u8], at: usize, mark: &[u8]) -> bool {
    head.get(at..at + mark.len()) == Some(mark)
}

/// `pe` where the old header leads to the new one, or to beyond what is looked at; else `mz`.
fn executable_of_windows(head: &[u8]) -> Option<&'static str> {
    if !head.starts_with(b"MZ") {
        return None;
    }
    let at = head.get(60..64).and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)));
    let at = usize::try_from(at.unwrap_or(0)).unwrap_or(usize::MAX);
    match head.get(at..).map(|new| new.starts_with(b"PE\0\0")) {
        Some(true) => Some("pe"),
        Some(false) | None => Some("mz"),
    }
}

/// Containers that are a zip, by the name of the first thing in it.
fn of_zip(head: &[u8]) -> &'static str {
    let length = head.get(26..28).map_or(0, |n| usize::from(n[0]) | usize::from(n[1]) << 8);
    let first = head.get(30..30 + length).unwrap_or_default();
    match first {
        b"[Content_Types].xml" | b"_rels/.rels" => "ooxml",
        b"AndroidManifest.xml" | b"classes.dex" => "apk",
        _ if first.starts_with(b"META-INF/") => "jar",
        _ => "zip",
    }
}

fn text(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"#!") {
        return Some("script");
    }
    let wide = [b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| head.starts_with(*mark));
    // A letter of UTF-8 may be cut at the end of what is looked at.
    let whole = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none() && head.len() >= HEAD,
    };
    let plain = head.iter().all(|b| !b.is_ascii_control() || b.is_ascii_whitespace());
    if !(wide || whole && plain) {
        return None;
    }
    let begin: String = String::from_utf8_lossy(head).trim_start().chars().take(256).collect();
    let begin = begin.to_ascii_lowercase();
    let markup = ["<!doctype html", "<html", "<script", "<head", "<body"];
    match markup.iter().any(|tag| begin.starts_with(tag)) {
        true => Some("html"),
        false => Some("text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_by_their_begin_alone() {
        let mut pe = b"MZ".to_vec();
        pe.resize(60, 0);
        pe.extend(128_u32.to_le_bytes());
        pe.resize(128, 0);
        pe.extend(b"PE\0\0");
        let mut zip = b"PK\x03\x04".to_vec();
        zip.resize(26, 0);
        zip.extend([19, 0, 0, 0]);
        zip.extend(b"[Content_Types].xml");
        for (head, kind) in [
            (pe.as_slice(), "pe"),
            (b"MZ\x90\0".as_slice(), "mz"),
            (b"\x7fELF\x02".as_slice(), "elf"),
            (b"%PDF-1.7".as_slice(), "pdf"),
            (zip.as_slice(), "ooxml"),
            (b"#!/bin/sh\n".as_slice(), "script"),
            (b"  <HTML><body>".as_slice(), "html"),
            ("検体".as_bytes(), "text"),
            (b"\x00\x01\x02\x03".as_slice(), "data"),
            (b"".as_slice(), "empty"),
        ] {
            assert_eq!(of(head), kind, "{head:?}");
        }
    }
}

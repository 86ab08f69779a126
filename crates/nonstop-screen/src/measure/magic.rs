//! What bytes are by how they begin; names are not believed.

use base64::Engine;

/// How much of the begin is looked at.
pub const HEAD: usize = 64 << 10;

/// A place and what stands there.
type Mark = (usize, &'static [u8]);

/// Kinds by marks that all must be there. The first that fits counts.
#[rustfmt::skip]
const MARKS: &[(&str, &[Mark])] = &[
    ("png", &[(0, b"\x89PNG\r\n\x1a\n")]),
    ("jpeg", &[(0, b"\xff\xd8\xff")]),
    ("gif", &[(0, b"GIF87a")]),
    ("gif", &[(0, b"GIF89a")]),
    ("webp", &[(0, b"RIFF"), (8, b"WEBP")]),
    ("wav", &[(0, b"RIFF"), (8, b"WAVE")]),
    ("media", &[(0, b"RIFF"), (8, b"AVI ")]),
    ("tiff", &[(0, b"II*\0")]),
    ("tiff", &[(0, b"MM\0*")]),
    ("zip", &[(0, b"PK\x03\x04")]),
    ("zip", &[(0, b"PK\x05\x06")]),
    ("zip", &[(0, b"PK\x06\x06")]),
    ("zip", &[(0, b"PK\x07\x08PK")]),
    ("zip", &[(0, b"PK00PK\x03\x04")]),
    ("zip", &[(0, b"PK\x06\x08")]),
    ("7z", &[(0, b"7z\xbc\xaf\x27\x1c")]),
    ("rar", &[(0, b"Rar!\x1a\x07")]),
    ("rar", &[(0, b"RE~^")]),
    ("gzip", &[(0, b"\x1f\x8b\x08")]),
    ("compress", &[(0, b"\x1f\x9d")]),
    ("compress", &[(0, b"\x1f\xa0")]),
    ("compress", &[(0, b"\x89LZO\0\r\n\x1a\n")]),
    ("bzip2", &[(0, b"BZh"), (4, b"1AY&SY")]),
    ("bzip2", &[(0, b"BZh"), (4, b"\x17\x72\x45\x38\x50\x90")]),
    ("xz", &[(0, b"\xfd7zXZ\0")]),
    ("xz", &[(0, b"LZIP")]),
    ("xz", &[(0, b"\x5d\0\0"), (5, b"\xff\xff\xff\xff\xff\xff\xff\xff")]),
    ("zstd", &[(0, b"\x28\xb5\x2f\xfd")]),
    ("lz4", &[(0, b"\x04\x22\x4d\x18")]),
    ("lz4", &[(0, b"\x02\x21\x4c\x18")]),
    ("cab", &[(0, b"MSCF\0\0\0\0")]),
    ("cab", &[(0, b"ISc(")]),
    ("arj", &[(0, b"\x60\xea")]),
    ("arj", &[(7, b"**ACE**")]),
    ("lzh", &[(2, b"-lh"), (6, b"-")]),
    ("lzh", &[(2, b"-lz"), (6, b"-")]),
    ("cpio", &[(0, b"07070")]),
    ("cpio", &[(0, b"\xc7\x71")]),
    ("ar", &[(0, b"!<arch>\n")]),
    ("rpm", &[(0, b"\xed\xab\xee\xdb")]),
    ("squashfs", &[(0, b"hsqs")]),
    ("iso", &[(0x8001, b"CD001")]),
    ("disk", &[(0, b"QFI\xfb")]),
    ("disk", &[(0, b"KDMV")]),
    ("disk", &[(0, b"conectix")]),
    ("disk", &[(0, b"vhdxfile")]),
    ("disk", &[(0x40, b"\x7f\x10\xda\xbe")]),
    ("tar", &[(257, b"ustar")]),
    ("ole", &[(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")]),
    ("pcapng", &[(0, b"\x0a\x0d\x0d\x0a"), (8, b"\x4d\x3c\x2b\x1a")]),
    ("pcapng", &[(0, b"\x0a\x0d\x0d\x0a"), (8, b"\x1a\x2b\x3c\x4d")]),
    ("pcap", &[(0, b"\xd4\xc3\xb2\xa1")]),
    ("pcap", &[(0, b"\xa1\xb2\xc3\xd4")]),
    ("pcap", &[(0, b"\x4d\x3c\xb2\xa1")]),
    ("pcap", &[(0, b"\xa1\xb2\x3c\x4d")]),
    ("pcap", &[(0, b"\x34\xcd\xb2\xa1")]),
    ("pcap", &[(0, b"snoop\0\0\0")]),
    ("minidump", &[(0, b"MDMP\x93\xa7")]),
    ("minidump", &[(0, b"PAGEDU")]),
    ("elf", &[(0, b"\x7fELF")]),
    ("mach-o", &[(0, b"\xfe\xed\xfa\xce")]),
    ("mach-o", &[(0, b"\xfe\xed\xfa\xcf")]),
    ("mach-o", &[(0, b"\xce\xfa\xed\xfe")]),
    ("mach-o", &[(0, b"\xcf\xfa\xed\xfe")]),
    ("dex", &[(0, b"dex\n")]),
    ("dex", &[(0, b"dey\n")]),
    ("wasm", &[(0, b"\0asm")]),
    ("flash", &[(0, b"FWS")]),
    ("flash", &[(0, b"CWS")]),
    ("flash", &[(0, b"ZWS")]),
    ("chm", &[(0, b"ITSF\x03\0\0\0")]),
    ("lnk", &[(0, b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0\x46")]),
    ("npy", &[(0, b"\x93NUMPY")]),
    ("sqlite", &[(0, b"SQLite format 3\0")]),
    ("hdf5", &[(0, b"\x89HDF\r\n\x1a\n")]),
    ("hdf5", &[(0, b"CDF\x01")]),
    ("hdf5", &[(0, b"CDF\x02")]),
    ("parquet", &[(0, b"PAR1")]),
    ("font", &[(0, b"wOFF")]),
    ("font", &[(0, b"wOF2")]),
    ("font", &[(0, b"OTTO\0")]),
    ("font", &[(0, b"\0\x01\0\0\0")]),
    ("font", &[(0, b"ttcf\0")]),
    ("media", &[(4, b"ftyp")]),
    ("media", &[(0, b"OggS\0")]),
    ("media", &[(0, b"fLaC\0")]),
    ("media", &[(0, b"ID3")]),
    ("media", &[(0, b"\x1a\x45\xdf\xa3")]),
    ("media", &[(0, b"\0\0\x01\xba")]),
    ("media", &[(0, b"\0\0\x01\xb3")]),
    ("media", &[(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")]),
    ("luks", &[(0, b"LUKS\xba\xbe")]),
    ("luks", &[(0, b"SKUL\xba\xbe")]),
    ("bitlocker", &[(3, b"-FVE-FS-")]),
    ("keepass", &[(0, b"\x03\xd9\xa2\x9a")]),
    ("openssl", &[(0, b"Salted__")]),
    ("age", &[(0, b"age-encryption.org/v")]),
    ("aescrypt", &[(0, b"AES\x00")]),
    ("aescrypt", &[(0, b"AES\x01")]),
    ("aescrypt", &[(0, b"AES\x02")]),
    ("aescrypt", &[(0, b"AES\x03")]),
    ("vault", &[(0, b"$ANSIBLE_VAULT;")]),
    ("vimcrypt", &[(0, b"VimCrypt~")]),
    ("keystore", &[(0, b"\xfe\xed\xfe\xed")]),
    ("disk", &[(0, b"encrcdsa")]),
    ("ico", &[(0, b"\0\0\x01\0"), (5, b"\0")]),
    ("pyc", &[(2, b"\r\n\0\0\0\0")]),
];

/// What bytes of `size` that begin as `head` are, if their begin tells.
pub fn by_begin(head: &[u8], size: u64) -> Option<&'static str> {
    if head.starts_with(b"PK") && size < 22 {
        return None;
    }
    let mark = |mark: &Mark| head.get(mark.0..).is_some_and(|rest| rest.starts_with(mark.1));
    let found = MARKS.iter().find(|(_, marks)| marks.iter().all(mark)).map(|(kind, _)| *kind);
    match found {
        Some(_) => found,
        None => by_structure(head, size),
    }
}

/// What two bytes do not tell alone.
fn by_structure(head: &[u8], size: u64) -> Option<&'static str> {
    let le32 = |at: usize| {
        let bytes = head.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let begins = |text: &[u8]| head.starts_with(text);
    // Readers of PDF take its mark anywhere in the first kilobyte; but what begins as something else
    // is that to whoever opens it as such.
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if text.starts_with(b"%PDF-") {
        return Some("pdf");
    }
    if begins(b"MZ") || begins(b"ZM") {
        let header = le32(0x3c).and_then(|at| usize::try_from(at).ok());
        let new = header.and_then(|at| head.get(at..at.checked_add(2)?));
        let is = new.is_some_and(|mark| matches!(mark, b"PE" | b"NE" | b"LE" | b"LX"));
        // Programs of DOS, too: what begins so is run by Windows, whatever comes after.
        return (is || head.len() >= 28).then_some("pe");
    }
    if begins(b"BM") && head.get(6..10) == Some(&[0; 4]) {
        let header = le32(14).unwrap_or(0);
        if u64::from(le32(2).unwrap_or(0)) <= size && (12..=124).contains(&header) {
            return Some("bmp");
        }
    }
    // A fat Mach-O counts its parts, a Java class says its version: 45 and more.
    if begins(b"\xca\xfe\xba\xbe") {
        let version = head.get(4..8).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        return Some(if version.unwrap_or(0) < 30 { "mach-o" } else { "java" });
    }
    if begins(b"\x80") && head.get(1).is_some_and(|version| (2..=5).contains(version)) {
        let frame = head.get(2) == Some(&0x95);
        let old = head.get(2).is_some_and(|op| matches!(op, b'}' | b']' | b'c' | b'(' | b'X'));
        if frame || old {
            return Some("pickle");
        }
    }
    if begins(b"\xff\xfb") || begins(b"\xff\xf3") || begins(b"\xff\xf1") || begins(b"\xff\xf9") {
        return Some("media");
    }
    pgp_packet(head, size).or_else(|| der(head, size))
}

/// A binary message of OpenPGP (RFC 9580): a session key for somebody, or one from a password, or
/// the encrypted data alone.
fn pgp_packet(head: &[u8], size: u64) -> Option<&'static str> {
    let first = *head.first()?;
    if first & 0x80 == 0 {
        return None;
    }
    let (tag, at) = if first & 0x40 != 0 {
        let length = match *head.get(1)? {
            0..=191 | 224..=254 => 1,
            192..=223 => 2,
            255 => 5,
        };
        (first & 0x3f, 1 + length)
    } else {
        let length = match first & 3 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => 0,
        };
        ((first >> 2) & 0x0f, 1 + length)
    };
    let body = |n: usize| head.get(at + n).copied();
    let version = body(0)?;
    let is = match tag {
        // The algorithm of the key stands behind its eight bytes of number.
        1 => version == 3 && matches!(body(9), Some(1 | 2 | 16 | 18 | 25 | 26)),
        3 => matches!(version, 4..=6) && matches!(body(1), Some(1..=4 | 7..=13)) && size < 1 << 40,
        18 => matches!(version, 1 | 2) && size > 40,
        _ => false,
    };
    is.then_some("pgp")
}

/// Contents of CMS that are encrypted: enveloped-data, encrypted-data, auth-enveloped-data.
const ENVELOPED: [&[u8]; 3] = [
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03",
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06",
    b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17",
];

/// A message of CMS that is encrypted for somebody, or an encrypted key or store of keys, in DER.
fn der(head: &[u8], size: u64) -> Option<&'static str> {
    let (content, length) = sequence(head)?;
    if length != u64::MAX && length + (head.len() - content.len()) as u64 != size {
        return None;
    }
    if ENVELOPED.iter().any(|mark| content.starts_with(mark)) {
        return Some("cms");
    }
    // PFX: version 3, then a ContentInfo.
    if content.starts_with(b"\x02\x01\x03\x30") {
        return Some("keystore");
    }
    // EncryptedPrivateKeyInfo: an algorithm of PKCS 5 or 12 first.
    let pkcs = [
        &b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05"[..],
        b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01",
    ];
    let algorithm = sequence(content).map_or(&[][..], |(algorithm, _)| algorithm);
    if pkcs.iter().any(|mark| algorithm.starts_with(mark)) {
        return Some("encrypted-key");
    }
    // PrivateKeyInfo and RSAPrivateKey: version 0, then an algorithm or a number; SEC 1: version 1.
    let key = content.starts_with(b"\x02\x01\x00\x30\x0d\x06")
        || content.starts_with(b"\x02\x01\x00\x30\x13\x06")
        || content.starts_with(b"\x02\x01\x00\x30\x05\x06")
        || content.starts_with(b"\x02\x01\x00\x02\x82")
        || content.starts_with(b"\x02\x01\x00\x02\x81")
        || (content.starts_with(b"\x02\x01\x01\x04") && size < 512);
    key.then_some("private-key")
}

/// What a SEQUENCE of DER holds, and how long it says that is: `u64::MAX` for BER without a length.
fn sequence(der: &[u8]) -> Option<(&[u8], u64)> {
    if *der.first()? != 0x30 {
        return None;
    }
    match *der.get(1)? {
        short @ 0..=0x7f => Some((&der[2..], short.into())),
        0x80 => Some((&der[2..], u64::MAX)),
        long @ 0x81..=0x88 => {
            let n = usize::from(long & 0x7f);
            let bytes = der.get(2..2 + n)?;
            let length = bytes.iter().try_fold(0u64, |sum, byte| {
                sum.checked_mul(256).map(|sum| sum + u64::from(*byte))
            })?;
            Some((&der[2 + n..], length.min(u64::MAX - 1024)))
        }
        _ => None,
    }
}

/// What bytes that are no text are by words that they begin with: an interpreter or a browser does
/// not mind what follows.
pub fn by_first_words(head: &[u8]) -> Option<&'static str> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let active = ["script", "postscript", "html", "svg", "url"];
    Some(by_words(text)).filter(|kind| active.contains(kind))
}

/// What a text is that begins as `head`, decoded enough that ASCII stands as itself.
pub fn by_words(head: &[u8]) -> &'static str {
    let start = head.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(head.len());
    let text = &head[start..];
    let lower = text[..text.len().min(HEAD)].to_ascii_lowercase();
    let begins = |word: &str| lower.starts_with(word.as_bytes());
    let holds = |word: &str| memchr::memmem::find(&lower, word.as_bytes()).is_some();
    if let Some(kind) = armor(text) {
        return kind;
    }
    if begins("$ansible_vault;") {
        return "vault";
    }
    if begins("u2fsdgvkx1") {
        return "openssl";
    }
    if begins("{") && holds("\"encryptedkey\"") && holds("\"scryptobject\"") {
        return "gocryptfs";
    }
    if begins("{\\rtf") {
        return "rtf";
    }
    if begins("#!") || begins("<?php") || begins("@echo off") || begins("<job") {
        return "script";
    }
    if begins("%!") {
        return "postscript";
    }
    if begins("[internetshortcut]") || begins("[desktop entry]") {
        return "url";
    }
    if begins("mime-version:") && (holds("enveloped-data") || holds("multipart/encrypted")) {
        return "cms";
    }
    if begins("<") {
        if holds("<encfs") || holds("<!doctype boost_serialization") && holds("encodedkeydata") {
            return "encfs";
        }
        if is_page(&lower) {
            return "html";
        }
        if holds("<svg") {
            return "svg";
        }
        if begins("<?xml") || begins("<!doctype") || begins("<!--") {
            return "xml";
        }
    }
    "text"
}

/// What a browser shows as a page, and may run: tags of HTML, also where a prefix stands for the
/// namespace, and XML that is made a page by a sheet or whose entities may hide one.
fn is_page(lower: &[u8]) -> bool {
    let tags = [
        "<!doctype html",
        "<html",
        "<head",
        "<body",
        "<script",
        ":script",
        "<iframe",
        "<hta:",
        "http://www.w3.org/1999/xhtml",
        "<?xml-stylesheet",
        "<!entity",
    ];
    tags.iter().any(|tag| memchr::memmem::find(lower, tag.as_bytes()).is_some())
}

/// What stands between dashes: `-----BEGIN ...-----` (RFC 7468, OpenPGP, age, OpenSSH).
fn armor(text: &[u8]) -> Option<&'static str> {
    // Not only at the very begin: mails and notes have words before.
    let near = &text[..text.len().min(16 << 10)];
    let mut lines = near.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let label = lines.by_ref().find_map(|line| {
        line.strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----").filter(|l| l.len() < 64)
    })?;
    let body = || lines.clone().take(4).collect::<Vec<_>>().concat();
    let next = |text: &[u8]| lines.clone().take(4).any(|line| line.starts_with(text));
    Some(match label {
        b"PGP MESSAGE" => "pgp",
        b"AGE ENCRYPTED FILE" => "age",
        b"ENCRYPTED PRIVATE KEY" => "encrypted-key",
        b"CMS" | b"PKCS7" if is_enveloped(&body()) => "cms",
        b"OPENSSH PRIVATE KEY" => {
            // `openssh-key-v1`, the length of the cipher's name, and it: `none` ends so in base64.
            let plain = next(b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmU");
            if plain { "private-key" } else { "encrypted-key" }
        }
        b"PGP PRIVATE KEY BLOCK" => "private-key",
        label if label.ends_with(b"PRIVATE KEY") => {
            if next(b"Proc-Type: 4,ENCRYPTED") {
                "encrypted-key"
            } else {
                "private-key"
            }
        }
        b"SSH2 ENCRYPTED PRIVATE KEY" => "encrypted-key",
        _ => return None,
    })
}

/// Whether base64 of a message of CMS begins as an encrypted one does.
fn is_enveloped(text: &[u8]) -> bool {
    let letters: Vec<u8> = text.iter().filter(|b| !b.is_ascii_whitespace()).copied().collect();
    let whole = letters.len().min(64) / 4 * 4;
    let begin = base64::engine::general_purpose::STANDARD.decode(&letters[..whole]);
    let content = begin.as_deref().ok().and_then(sequence);
    content.is_some_and(|(content, _)| ENVELOPED.iter().any(|mark| content.starts_with(mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(begin: &[u8]) -> Vec<u8> {
        let mut bytes = begin.to_vec();
        bytes.resize(4096.max(bytes.len()), 0);
        bytes
    }

    fn kind(begin: &[u8]) -> Option<&'static str> {
        by_begin(&padded(begin), 4096)
    }

    #[test]
    fn binary_kinds_are_known_by_how_they_begin() {
        assert_eq!(kind(b"\x89PNG\r\n\x1a\n"), Some("png"));
        assert_eq!(kind(b"\xef\xbb\xbf\r\n%PDF-1.7\n"), Some("pdf"));
        assert_eq!(kind(b"\xca\xfe\xba\xbe\0\0\0\x34"), Some("java"));
        assert_eq!(kind(b"\xca\xfe\xba\xbe\0\0\0\x02"), Some("mach-o"));
        assert_eq!(kind(b"MZ\x90\0"), Some("pe"));
        assert_eq!(kind(b"\x80\x04\x95\x10"), Some("pickle"));
        assert_eq!(kind(b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"), Some("bmp"));
        assert_eq!(kind(b"\x84\x5e\x03aaaaaaaa\x12\x01"), Some("pgp"));
        assert_eq!(kind(b"\x8c\x0d\x04\x09\x03\x02"), Some("pgp"));
        assert_eq!(kind(b"Rar!\x1a\x07\x01\0"), Some("rar"));
        assert_eq!(kind(b"LUKS\xba\xbe\0\x02"), Some("luks"));
        assert_eq!(kind(b"nothing that is known\0\0"), None);
        assert_eq!(kind(b"\x30\x82\x0f\xfc\x02\x01\x03\x30"), Some("keystore"));
        let key = padded(b"\x30\x82\x0f\xfc\x02\x01\0\x30\x0d\x06\x09");
        assert_eq!(by_begin(&key, 4096), Some("private-key"));
        let key =
            padded(b"\x30\x82\x0f\xfc\x30\x1c\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x03");
        assert_eq!(by_begin(&key, 4096), Some("encrypted-key"));
        assert_eq!(by_begin(b"", 0), None);
        for n in 0..40 {
            for byte in [0x80, 0x84, 0xc1, 0x30, 0xff, b'M', b'P'] {
                let _no_panic = by_begin(&vec![byte; n], n as u64);
            }
        }
    }

    #[test]
    fn what_begins_as_something_else_is_no_pdf_for_its_mark() {
        let mut program = padded(b"MZ\x90\0");
        program[0x40..0x48].copy_from_slice(b"%PDF-1.4");
        assert_eq!(by_begin(&program, 4096), Some("pe"));
        assert_eq!(kind(b"junk\n%PDF-1.7\n"), None);
        assert_eq!(by_words(b"#!/bin/sh\n# %PDF-1.4\n"), "script");
        assert_eq!(by_words(b"<!-- %PDF-1.4 -->\n<html>"), "html");
        assert_eq!(by_first_words(b"#!/bin/sh\n# %PDF-1.4\nexit\n\0\x01\xff"), Some("script"));
        assert_eq!(by_first_words(b"<!--%PDF-1.4\n\0\xff--><script>"), Some("html"));
        assert_eq!(by_first_words(b"anything\0\xff"), None);
    }

    #[test]
    fn texts_are_told_apart_by_what_they_say() {
        for (text, kind) in [
            ("a,b\n1,2\n", "text"),
            ("#!/bin/sh\necho\n", "script"),
            ("  <!DOCTYPE html><p>", "html"),
            ("<?xml version='1.0'?>\n<svg xmlns=''>", "svg"),
            ("<?xml version='1.0'?>\n<a/>", "xml"),
            ("<a xmlns:h='http://www.w3.org/1999/xhtml'><h:b/></a>", "html"),
            ("<?xml version='1.0'?><a xmlns:x='y'><x:script>alert(1)</x:script></a>", "html"),
            ("<?xml version='1.0'?><?xml-stylesheet href='a.xsl'?><a/>", "html"),
            ("{\"a\": 1}", "text"),
            ("-----BEGIN PGP MESSAGE-----\n\nhQ", "pgp"),
            ("Hello,\n-----BEGIN PGP MESSAGE-----\r\n\r\nhQ", "pgp"),
            ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "text"),
            ("-----BEGIN CERTIFICATE-----\nMII", "text"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMII", "private-key"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: A\n",
                "encrypted-key",
            ),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII", "encrypted-key"),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n",
                "private-key",
            ),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHI\n",
                "encrypted-key",
            ),
            ("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl", "age"),
            (
                "-----BEGIN CMS-----\nMIIBqgYJKoZIhvcNAQcDoIIBmzCCAZcCAQAxggFAMIIBPAIBADAkMAwxCjAIBgNV\nBAMM\n",
                "cms",
            ),
            (
                "-----BEGIN PKCS7-----\nMIIBqgYJKoZIhvcNAQcCoIIBmzCCAZcCAQAxggFAMIIBPAIBADAkMAwxCjAIBgNV\nBAMM\n",
                "text",
            ),
            ("U2FsdGVkX1/abcdef\n", "openssl"),
            ("{\"Creator\":\"g\",\"EncryptedKey\":\"x\",\"ScryptObject\":{}}", "gocryptfs"),
            ("$ANSIBLE_VAULT;1.1;AES256\n6162", "vault"),
            ("[InternetShortcut]\r\nURL=file:", "url"),
            ("%!PS-Adobe-3.0\n", "postscript"),
        ] {
            assert_eq!(by_words(text.as_bytes()), kind, "{text}");
        }
    }
}

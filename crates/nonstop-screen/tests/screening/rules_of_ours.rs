//! What each of our own rules blocks, holds and lets pass.

use crate::{
    lab::{PROTECTED, TestLab, noise, sha256},
    made::{docx, png, sevenz, zip},
};

#[test]
fn what_is_clean_is_released_and_recorded_as_it_is() {
    let lab = TestLab::new();
    let csv = "日付,件数\n2030-01-31,5\n".as_bytes();
    let screened = lab.screen("結果.csv", csv);
    assert_eq!(crate::lab::shown(&screened), "pass as text: ");
    assert_eq!((screened.sha256, screened.bytes), (sha256(csv), csv.len() as u64));
    assert_eq!(screened.encoding.as_deref(), Some("utf-8"));
    assert!(screened.failures.is_empty(), "{:?}", screened.failures);
}

#[test]
fn a_protected_resource_is_blocked_whatever_it_is_called_and_one_byte_more_is_not_it() {
    let lab = TestLab::new();
    assert_eq!(lab.shown("a.txt", PROTECTED), "block as text: protected block");
    let more = [PROTECTED, b"."].concat();
    assert_eq!(lab.shown("a.txt", &more), "pass as text: ");
}

#[test]
fn programs_are_blocked_and_their_names_are_not_believed() {
    let lab = TestLab::new();
    let program = std::fs::read("/bin/true").expect("a program");
    assert_eq!(lab.shown("a.csv", &program), "block as elf: type block, mismatch hold");
    assert_eq!(lab.shown("a.exe", b"not a program\n"), "hold as text: mismatch hold");
}

#[test]
fn what_is_as_dense_as_encrypted_bytes_is_held() {
    let lab = TestLab::new();
    let held = "hold as unknown: compressed hold, type hold";
    assert_eq!(lab.shown("a.dat", &noise(70_000)), held);
    let held = "hold as unknown: type hold";
    assert_eq!(lab.shown("a.dat", &[0, 1, 2, 3].repeat(20_000)), held);
}

#[test]
fn archives_are_held_and_those_with_a_password_are_blocked() {
    let lab = TestLab::new();
    let plain = zip(&[("a.txt", b"hello")], 0);
    assert_eq!(lab.shown("a.zip", &plain), "hold as zip: archive hold");
    let locked = zip(&[("a.txt", b"hello"), ("b", b"x")], 1);
    assert_eq!(lab.shown("a.zip", &locked), "block as zip: encrypted block, archive hold");
    let lzma = sevenz(b"\x23\x03\x01\x01\x05");
    assert_eq!(lab.shown("a.7z", &lzma), "hold as 7z: archive hold");
    let aes = sevenz(b"\x24\x06\xf1\x07\x01\x0a");
    assert_eq!(lab.shown("a.7z", &aes), "block as 7z: encrypted block, archive hold");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gz, b"hello").expect("packed");
    let gz = gz.finish().expect("packed");
    assert_eq!(lab.shown("a.gz", &gz), "hold as gzip: archive hold");
}

#[test]
fn formats_that_are_compressed_by_nature_pass_by_their_type() {
    let lab = TestLab::new();
    assert_eq!(lab.shown("a.png", &png(60, 40)), "pass as png: ");
    assert_eq!(lab.shown("a.docx", &docx(&[])), "pass as docx: ");
    let odt = zip(
        &[
            ("mimetype", b"application/vnd.oasis.opendocument.text"),
            ("META-INF/manifest.xml", b"<manifest/>"),
        ],
        0,
    );
    assert_eq!(lab.shown("a.odt", &odt), "pass as odf: ");
    let pdf = b"%PDF-1.4\n1 0 obj<</EncryptMetadata false>>endobj\ntrailer<</Root 1 0 R>>\n\
        startxref\n9\n%%EOF\n";
    assert_eq!(lab.shown("a.pdf", pdf), "pass as pdf: ");
}

#[test]
fn documents_with_a_password_are_blocked() {
    let lab = TestLab::new();
    let odt = zip(
        &[
            ("mimetype", b"application/vnd.oasis.opendocument.text"),
            ("META-INF/manifest.xml", b"<manifest:encryption-data/>"),
        ],
        0,
    );
    assert_eq!(
        lab.shown("a.odt", &odt),
        "block as zip: encrypted block, archive hold, mismatch hold"
    );
    let pdf = b"%PDF-1.4\ntrailer<</Root 1 0 R /Encrypt 5 0 R>>\n%%EOF\n";
    assert_eq!(lab.shown("a.pdf", pdf), "block as pdf: encrypted block");
}

#[test]
fn what_hides_in_an_office_document_is_no_office_document() {
    let lab = TestLab::new();
    let stowed = docx(&[("word/media/data.bin", b"anything")]);
    assert_eq!(lab.shown("a.docx", &stowed), "hold as zip: archive hold, mismatch hold");
    let before = [&b"PK\x03\x04"[..], &[0; 60], &docx(&[])].concat();
    assert_eq!(lab.shown("a.docx", &before), "hold as zip: archive hold, mismatch hold");
    let behind = [docx(&[]), vec![7; 1000]].concat();
    assert_eq!(lab.shown("a.docx", &behind), "hold as zip: archive hold, mismatch hold");
    let macros = docx(&[("word/vbaProject.bin", b"macros")]);
    assert_eq!(lab.shown("a.docm", &macros), "hold as ooxml-macro: type hold");
}

#[test]
fn what_stands_behind_the_end_of_a_picture_is_found() {
    let lab = TestLab::new();
    let stowed = [png(60, 40), noise(5000)].concat();
    assert_eq!(lab.shown("a.png", &stowed), "hold as png: appended hold");
}

#[test]
fn encrypted_files_and_keys_are_known_by_how_they_begin() {
    let lab = TestLab::new();
    for (bytes, kind) in [
        (&b"Salted__12345678abcdefgh"[..], "openssl"),
        (b"age-encryption.org/v1\n-> X25519 abc\n", "age"),
        (b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n", "pgp"),
        (b"LUKS\xba\xbe\0\x02", "luks"),
        (b"\x03\xd9\xa2\x9a\x67\xfb\x4b\xb5\x01\0", "keepass"),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFHDBOBgkqhkiG9w0BBQ0w\n", "encrypted-key"),
    ] {
        assert_eq!(lab.shown("a", bytes), format!("block as {kind}: encrypted block"));
    }
    let key = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI\n";
    assert_eq!(lab.shown("a.pem", key), "hold as private-key: type hold");
}

#[test]
fn lab_yaml_says_what_may_leave() {
    let lab = TestLab::with("screening: {types: {archive: allow, elf: hold}}\n");
    assert_eq!(lab.shown("a.zip", &zip(&[("a", b"b")], 0)), "pass as zip: ");
    let program = std::fs::read("/bin/true").expect("a program");
    assert_eq!(lab.shown("a", &program), "hold as elf: type hold");
}

#[test]
fn a_mark_of_pdf_in_something_else_makes_it_no_pdf() {
    let lab = TestLab::new();
    let mut program = b"MZ\x90\0".to_vec();
    program.resize(512, 0);
    program[0x40..0x48].copy_from_slice(b"%PDF-1.4");
    let end = b"\n%PDF-1.4\nstartxref\n0\n%%EOF\n";
    program.extend(end);
    assert_eq!(lab.shown("a.pdf", &program), "block as pe: type block, mismatch hold");
    let script = [&b"#!/bin/sh\n#"[..], end].concat();
    assert_eq!(lab.shown("a.pdf", &script), "hold as script: mismatch hold, type hold");
    let binary = [&script[..], &[0, 1, 0xff]].concat();
    assert_eq!(lab.shown("a.pdf", &binary), "hold as script: mismatch hold, type hold");
    let page = [&b"<!--"[..], end, b"--><html><script>alert(1)</script>"].concat();
    assert_eq!(lab.shown("a.pdf", &page), "hold as html: mismatch hold, type hold");
}

#[test]
fn what_only_begins_as_what_is_dense_by_nature_is_held() {
    let lab = TestLab::new();
    for (mark, name) in [
        (&b"\xff\xd8\xff\xe0"[..], "a.jpg"),
        (b"\x89PNG\r\n\x1a\n", "a.png"),
        (b"GIF89a", "a.gif"),
        (b"II*\0", "a.tif"),
        (b"RIFF\x38\x89\x01\0WEBP", "a.webp"),
        (b"\0\0\x01\0\x01\0", "a.ico"),
        (b"%PDF-1.7\n", "a.pdf"),
    ] {
        let shown = lab.shown(name, &[mark, &noise(100_000)].concat());
        assert!(shown.starts_with("hold as ") && shown.ends_with(": malformed hold"), "{shown}");
    }
}

#[test]
fn what_hides_in_an_open_document_or_a_book_is_none() {
    let lab = TestLab::new();
    let odt = |more: &[(&str, &[u8])]| {
        let parts: [(&str, &[u8]); 3] = [
            ("mimetype", b"application/vnd.oasis.opendocument.text"),
            ("META-INF/manifest.xml", b"<manifest/>"),
            ("content.xml", b"<a/>"),
        ];
        zip(&[&parts[..], more].concat(), 0)
    };
    let book = |more: &[(&str, &[u8])]| {
        let parts: [(&str, &[u8]); 3] = [
            ("mimetype", b"application/epub+zip"),
            ("META-INF/container.xml", b"<container/>"),
            ("text/1.xhtml", b"<html/>"),
        ];
        zip(&[&parts[..], more].concat(), 0)
    };
    let picture = png(4, 4);
    assert_eq!(lab.shown("a.odt", &odt(&[("Pictures/1.png", &picture)])), "pass as odf: ");
    assert_eq!(lab.shown("a.epub", &book(&[("1.png", &picture)])), "pass as epub: ");
    let held = "hold as zip: archive hold, mismatch hold";
    for (name, body) in [
        ("a.exe", &b"MZ"[..]),
        ("a.zip", &zip(&[("b", b"c")], 1)),
        ("data", &noise(3000)),
        ("Pictures/1.png", &noise(3000)),
        ("styles.xml", &noise(3000)),
    ] {
        assert_eq!(lab.shown("a.odt", &odt(&[(name, body)])), held, "{name}");
        assert_eq!(lab.shown("a.epub", &book(&[(name, body)])), held, "{name}");
    }
    let parts = odt(&[("Basic/Standard/Module1.xml", b"<m/>")]);
    assert_eq!(lab.shown("a.odt", &parts), "hold as ooxml-macro: mismatch hold, type hold");
    let stowed = docx(&[("word/media/image1.png", &noise(3000))]);
    assert_eq!(lab.shown("a.docx", &stowed), held);
}

#[test]
fn scripts_that_only_their_names_make_so_are_held() {
    let lab = TestLab::new();
    let text = b"WScript.Echo \"hello\"\r\n";
    for name in ["a.bat", "a.vbs", "a.ps1", "a.hta", "a.wsf", "a.py"] {
        assert_eq!(lab.shown(name, text), "hold as text: type hold", "{name}");
    }
    let xml =
        b"<?xml version='1.0'?><h:html xmlns:h='http://www.w3.org/1999/xhtml'><h:script/></h:html>";
    assert_eq!(lab.shown("a.xml", xml), "hold as html: type hold");
}

//! Containers made by hand, and two by 7-Zip.

use super::{Seen, look};
use crate::measure::density::tests::noise;

fn seen(bytes: &[u8], kind: &str) -> Seen {
    look(bytes, kind).expect("memory can be read")
}

fn is_locked(bytes: &[u8], kind: &str) -> bool {
    seen(bytes, kind).encrypted.is_some()
}

/// Six times `hello` with a password and without; 7-Zip has packed both headers.
const LOCKED_7Z: &str = "377abcaf271c0004717b0e72c3000000000000002200000000000000a6cd227d0bfeb1b920f539415477ccd1\
    519210931fb410837f2a2ebbc5175658e37ee2870000813307ae0fd00eb03c9f39109c9fa6d533dab22eb064\
    bb248c28719f42ddd725c4a943b23e7b161f3b6d779ef33313288e52b0516366d8350db511f1d8e117418434\
    2662723fdb0b416064e4d3730b60609c6fdd55a6fe1be8e752e9414ca9d99724af7fecaec459a5b6fdf54315\
    9a7ea34ea605da131e9e2a85bf877e93a67e5e746918c528648bf4967bacd20ef5f1f5bcf2a30b4f5e991397\
    7c002d78000000170620010980a300070b01000123030101055d001000000c821e0a010464dbed0000";
const OPEN_7Z: &str = "377abcaf271c0004b0107b199a000000000000002200000000000000f078f4cce0001d000b5d00341949ee8e\
    98d3d0800000000000813307ae0fcf27f08c07c8437f41b1fafdf6aaf40541e21ad22fe6917091d632bb0f57\
    037f4ccecc21b833f4d6def6658a6dc90a5cd5a771ea042614d9573ceb7355f62520844a0efc5dfcdb9d3e39\
    36b357d3bfd475b2f401f18604aa6e754e20ccb6d5765c6fd99c43b1ef282128ce3fbf33797b86e7ee43d727\
    910ff9d3eeeda00000001706130109808700070b01000123030101055d001000000c820e0a01c89b01de0000";
/// An OpenDocument file, in small.
const ODF: &str = "504b0304140000000000000021005ec6320c2700000027000000080000006d696d65747970656170706c6963\
    6174696f6e2f766e642e6f617369732e6f70656e646f63756d656e742e74657874504b03041400000008000c\
    147d5de6d2d9921000000063000000150000004d4554412d494e462f6d616e69666573742e786d6cb3c94dcc\
    cb4c4b2d2ed1b7b3a1111300504b03041400000008000c147d5dd41cd10106000000040000000b000000636f\
    6e74656e742e786d6cb349d4b70300504b01021403140000000000000021005ec6320c270000002700000008\
    00000000000000000000008001000000006d696d6574797065504b010214031400000008000c147d5de6d2d9\
    92100000006300000015000000000000000000000080014d0000004d4554412d494e462f6d616e6966657374\
    2e786d6c504b010214031400000008000c147d5dd41cd10106000000040000000b0000000000000000000000\
    800190000000636f6e74656e742e786d6c504b05060000000003000300b2000000bf0000000000";

#[test]
fn an_office_document_is_known_from_within() {
    assert_eq!(seen(&hex::decode(ODF).expect("hex"), "zip").kind, Some("odf"));
}

#[test]
fn sevenz_is_locked_if_its_packed_header_says_so() {
    let bytes = |digits: &str| hex::decode(digits).expect("hex");
    let (locked, open) = (bytes(LOCKED_7Z), bytes(OPEN_7Z));
    for archive in [&locked, &open] {
        let header = u64::from_le_bytes(archive[12..20].try_into().expect("eight bytes"));
        assert_eq!(archive[32 + header as usize], 0x17, "a packed header");
    }
    assert!(is_locked(&locked, "7z") && !is_locked(&open, "7z"));
    for cut in 0..locked.len() {
        let _no_panic = seen(&locked[..cut], "7z");
    }
}

/// A block of RAR 1.5 to 4.
fn old_rar(kind: u8, flags: u16) -> Vec<u8> {
    let block = [&[0, 0, kind][..], &flags.to_le_bytes(), &13u16.to_le_bytes(), &[0; 6]].concat();
    let archive = [0, 0, 0x73, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0];
    [b"Rar!\x1a\x07\0", &archive[..], &block].concat()
}

#[test]
fn rar_is_locked_if_a_header_or_a_file_is() {
    assert!(!is_locked(&old_rar(0x74, 0), "rar"));
    assert!(is_locked(&old_rar(0x74, 0x04), "rar"));
    assert!(is_locked(&old_rar(0x73, 0x80), "rar"));
    let new = |block: &[u8]| {
        let main = [0, 0, 0, 0, 3, 1, 0, 0];
        [b"Rar!\x1a\x07\x01\0", &main[..], &[0; 4], &[block.len() as u8], block].concat()
    };
    // Type 4 is the encryption of headers; type 2 a file, with a record 1 behind it, or 3.
    assert!(is_locked(&new(&[4, 0, 0, 0]), "rar"));
    assert!(is_locked(&new(&[2, 1, 3, 0, 2, 1, 0]), "rar"));
    assert!(!is_locked(&new(&[2, 1, 3, 0, 2, 3, 0]), "rar"));
}

/// A compound file with one stream of at least 4096 bytes.
fn compound(name: &str, begin: &[u8]) -> Vec<u8> {
    let mut head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec();
    head.resize(512, 0xff);
    head[30..32].copy_from_slice(&9u16.to_le_bytes());
    head[48..52].copy_from_slice(&1u32.to_le_bytes());
    head[76..80].copy_from_slice(&0u32.to_le_bytes());
    let mut table = vec![0xff; 512];
    table[4..8].copy_from_slice(&0xffff_fffeu32.to_le_bytes());
    let entry = |name: &str, first: u32, size: u32| {
        let mut entry: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let length = entry.len() as u16 + 2;
        entry.resize(128, 0);
        entry[64..66].copy_from_slice(&length.to_le_bytes());
        entry[116..120].copy_from_slice(&first.to_le_bytes());
        entry[120..124].copy_from_slice(&size.to_le_bytes());
        entry
    };
    let directory = [entry("Root Entry", 0, 0), entry(name, 2, 4096), vec![0; 256]].concat();
    let mut stream = begin.to_vec();
    stream.resize(4096, 0);
    [head, table, directory, stream].concat()
}

#[test]
fn old_office_documents_are_locked_by_what_each_program_writes() {
    let word = |flags: u16| [&[0; 10][..], &flags.to_le_bytes()].concat();
    assert!(is_locked(&compound("WordDocument", &word(0x0100)), "ole"));
    assert!(!is_locked(&compound("WordDocument", &word(0x0200)), "ole"));
    let bof = [9, 8, 4, 0, 0, 0, 0, 0];
    assert!(is_locked(&compound("Workbook", &[&bof[..], &[0x2f, 0, 0, 0]].concat()), "ole"));
    assert!(!is_locked(&compound("Workbook", &[&bof[..], &[0x42, 0, 0, 0]].concat()), "ole"));
    assert!(is_locked(&compound("EncryptedPackage", b""), "ole"));
    assert_eq!(seen(&compound("\u{4840}\u{3f7f}", b""), "ole").kind, Some("msi"));
    assert_eq!(seen(&compound("SummaryInformation", b""), "ole"), Seen::default());
}

#[test]
fn pictures_end_where_they_say() {
    let gif = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff\x21\xf9\x04\0\0\0\0\0\
        \x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0\x3b";
    let jpeg =
        b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x04ab\xff\xda\0\x04ab12\xff\0\x34\xff\xd0xx\xff\xd9";
    let bmp = b"BM\x10\0\0\0\0\0\0\0\x36\0\0\0\x28\0";
    for (picture, kind) in [(&gif[..], "gif"), (jpeg, "jpeg"), (bmp, "bmp")] {
        assert_eq!(seen(picture, kind), Seen::default(), "{kind}");
        let more = [picture, b"something behind it"].concat();
        assert_eq!(seen(&more, kind).appended, 19, "{kind}");
    }
}

#[test]
fn what_only_begins_as_a_picture_or_a_document_is_malformed() {
    for (mark, kind) in [
        (&b"\x89PNG\r\n\x1a\n"[..], "png"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", "png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "jpeg"),
        (b"GIF89a", "gif"),
        (b"RIFF\x38\x89\x01\0WEBP", "webp"),
        (b"II*\0", "tiff"),
        (b"MM\0*\0\0\0\x08", "tiff"),
        (b"\0\0\x01\0\x01\0", "ico"),
        (b"%PDF-1.4\n", "pdf"),
    ] {
        let stowed = [mark, &noise(100_000)].concat();
        assert!(seen(&stowed, kind).malformed.is_some(), "{kind}");
        assert!(seen(mark, kind).malformed.is_some(), "{kind} alone");
    }
}

#[test]
fn parts_of_a_picture_that_nobody_knows_are_malformed_if_they_are_large() {
    let chunk = |name: &[u8], body: &[u8]| {
        [&(body.len() as u32).to_be_bytes()[..], name, body, &[0; 4]].concat()
    };
    let png = |name: &[u8], n: usize| {
        let parts = [
            chunk(b"IHDR", &[0; 13]),
            chunk(name, &noise(n)),
            chunk(b"IDAT", &[0; 20]),
            chunk(b"IEND", b""),
        ];
        seen(&[b"\x89PNG\r\n\x1a\n", &parts.concat()[..]].concat(), "png").malformed.is_some()
    };
    assert!(!png(b"prIv", 4000) && png(b"prIv", 5000));
    assert!(!png(b"eXIf", 60_000) && png(b"eXIf", 300_000));
    let jpeg = |mark: u8, begin: &[u8]| {
        let body = [begin, &noise(5000)].concat();
        let segment = [&[0xff, mark][..], &(body.len() as u16 + 2).to_be_bytes(), &body].concat();
        let rest = b"\xff\xc0\0\x04ab\xff\xda\0\x04ab12\xff\xd9";
        seen(&[b"\xff\xd8", &segment[..], rest].concat(), "jpeg").malformed.is_some()
    };
    assert!(jpeg(0xfe, b"") && jpeg(0xeb, b"Exif\0\0") && jpeg(0xe1, b"any"));
    assert!(!jpeg(0xe1, b"Exif\0\0") && !jpeg(0xe2, b"ICC_PROFILE\0"));
}

/// A TIFF of one strip, in the order of bytes of `II`.
fn tiff(strip: &[u8], length: u32) -> Vec<u8> {
    let field = |tag: u16, value: u32| {
        [&tag.to_le_bytes()[..], &4u16.to_le_bytes(), &1u32.to_le_bytes(), &value.to_le_bytes()]
            .concat()
    };
    let fields = [field(256, 8), field(257, 8), field(273, 62), field(279, length)].concat();
    [b"II*\0\x08\0\0\0\x04\0", &fields[..], &[0; 4], strip].concat()
}

#[test]
fn a_tiff_and_an_icon_are_what_their_tables_say() {
    assert_eq!(seen(&tiff(&noise(9000), 9000), "tiff"), Seen::default());
    assert!(seen(&tiff(&noise(9000), 9001), "tiff").malformed.is_some(), "beyond the end");
    assert!(seen(&tiff(&noise(90_000), 9000), "tiff").malformed.is_some(), "beside the strips");
    let icon = |length: u32, bits: u16| {
        let head = [&b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0"[..], &length.to_le_bytes()];
        let header =
            [&40u32.to_le_bytes()[..], &[16, 0, 0, 0, 32, 0, 0, 0, 1, 0], &bits.to_le_bytes()];
        let mut body = header.concat();
        body.resize(length as usize, 7);
        [&head.concat()[..], &22u32.to_le_bytes(), &body].concat()
    };
    assert_eq!(seen(&icon(1128, 32), "ico"), Seen::default());
    assert!(seen(&icon(50_000, 32), "ico").malformed.is_some(), "more than its pixels");
}

#[test]
fn a_pdf_ends_where_it_says_and_packs_in_streams_alone() {
    let end = b"\nstartxref\n9\n%%EOF\r\n\n";
    let pdf =
        |body: &[u8], behind: &[u8]| seen(&[b"%PDF-1.4\n", body, end, behind].concat(), "pdf");
    assert_eq!(pdf(b"1 0 obj", b""), Seen::default());
    assert_eq!(pdf(b"", b"behind its end, twenty").appended, 22 + 3);
    // Also where words of streams stand across the border of what is read at once.
    for before in (1 << 20) - 30..(1 << 20) {
        let mut body = vec![b' '; before];
        body.extend([&b"<<>>stream\n"[..], &noise(40_000), b"\nendstream\n"].concat());
        assert_eq!(pdf(&body, b""), Seen::default(), "{before}");
    }
    assert!(pdf(&noise(40_000), b"").malformed.is_some());
    assert!(pdf(b"", &noise(100_000)).malformed.is_some());
    for name in ["/E#6ecrypt 5 0 R", "/#45ncrypt<<", "/#45#6E#63#72#79#70#74 % x\n5 0 R"] {
        assert!(is_locked(name.as_bytes(), "pdf"), "{name}");
    }
    assert!(!is_locked(b"/E#6ecrypted 5 0 R /E#zzcrypt 5 0 R", "pdf"));
}

#[test]
fn a_pdf_is_locked_by_a_trailer_wherever_it_stands() {
    let between = |at: usize| {
        let mut pdf = vec![b' '; 3 << 20];
        pdf[at..at + 20].copy_from_slice(b"<</Encrypt 12 0 R>> ");
        is_locked(&pdf, "pdf")
    };
    // Also across the border of what is read at once.
    for at in [0, (1 << 20) - 10, 1 << 20, (3 << 20) - 20] {
        assert!(between(at), "{at}");
    }
    for harmless in ["/EncryptMetadata true", "/Encrypt(a text)", "/Encrypt x y R"] {
        assert!(!is_locked(harmless.as_bytes(), "pdf"), "{harmless}");
    }
}

/// What the fuzz target does for hours, for a moment: bytes of good containers are changed, and all of
/// it is looked at to its end. `NONSTOP_ROUNDS` says for how many rounds.
#[test]
fn containers_with_changed_bytes_are_looked_at_to_their_end() {
    let rounds = std::env::var("NONSTOP_ROUNDS").ok().and_then(|n| n.parse().ok());
    let seeds: Vec<(Vec<u8>, &str)> = vec![
        (hex::decode(LOCKED_7Z).expect("hex"), "7z"),
        (hex::decode(OPEN_7Z).expect("hex"), "7z"),
        (hex::decode(ODF).expect("hex"), "zip"),
        (old_rar(0x74, 0x8000), "rar"),
        (compound("Workbook", &[9, 8, 4, 0, 0, 0, 0, 0]), "ole"),
        (b"<</Encrypt 12 0 R>>".repeat(3), "pdf"),
        (include_bytes!("../../../../images/desktop.png")[..4000].to_vec(), "png"),
    ];
    let mut x = 0x2545_f491_4f6c_dd1du64;
    let mut dice = |sides: usize| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 16) as usize % sides.max(1)
    };
    for round in 0..rounds.unwrap_or(3000usize) {
        let (mut bytes, kind) = seeds[round % seeds.len()].clone();
        for _ in 0..=dice(6) {
            let at = dice(bytes.len());
            bytes[at] = [0, 1, 0x7f, 0x80, 0xff, dice(256) as u8][dice(6)];
        }
        if dice(4) == 0 {
            bytes.truncate(dice(bytes.len()) + 1);
        }
        let kinds = [kind, ["zip", "rar", "gif", "jpeg", "webp", "bmp", "ole"][dice(7)]];
        for kind in kinds {
            assert!(seen(&bytes, kind).appended <= bytes.len() as u64);
        }
        let measured = crate::measure::measure(&bytes[..], false).expect("memory can be read");
        assert_eq!(measured.bytes, bytes.len() as u64);
        if round % 10 == 0 {
            crate::preview::shown(&bytes[..], 32 << 20).expect("memory can be read");
        }
    }
}

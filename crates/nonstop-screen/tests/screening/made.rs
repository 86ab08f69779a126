//! Files made by hand, each harmless and as small as what it shows.

use std::io::Write;

/// A ZIP of stored entries; `flags` of each say whether it is encrypted.
pub(crate) fn zip(entries: &[(&str, &[u8])], flags: u16) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for (name, bytes) in entries {
        let at = file.len() as u32;
        let sizes = [bytes.len() as u32; 2].map(u32::to_le_bytes).concat();
        let name_length = (name.len() as u16).to_le_bytes();
        let shared = [
            &20u16.to_le_bytes()[..],
            &flags.to_le_bytes(),
            &[0; 2],
            &[0; 4],
            &[0; 4],
            &sizes,
            &name_length,
            &[0; 2],
        ]
        .concat();
        file.extend([&b"PK\x03\x04"[..], &shared, name.as_bytes(), bytes].concat());
        let entry =
            [&b"PK\x01\x02\x14\0"[..], &shared, &[0; 10], &at.to_le_bytes(), name.as_bytes()];
        directory.extend(entry.concat());
    }
    let at = file.len() as u32;
    let count = (entries.len() as u16).to_le_bytes();
    let length = (directory.len() as u32).to_le_bytes();
    let end = [&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &length, &at.to_le_bytes(), &[0; 2]];
    [file, directory, end.concat()].concat()
}

/// What an office program writes, in small.
pub(crate) fn docx(more: &[(&str, &[u8])]) -> Vec<u8> {
    let parts: [(&str, &[u8]); 3] = [
        ("[Content_Types].xml", b"<Types/>"),
        ("_rels/.rels", b"<R/>"),
        ("word/document.xml", b"<d/>"),
    ];
    zip(&[&parts[..], more].concat(), 0)
}

/// A PNG of one colour.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    chunk(&mut png, b"IHDR", &header);
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..height {
        deflate.write_all(&vec![0; width as usize + 1]).expect("packed");
    }
    chunk(&mut png, b"IDAT", &deflate.finish().expect("packed"));
    chunk(&mut png, b"IEND", b"");
    png
}

fn chunk(png: &mut Vec<u8>, name: &[u8], body: &[u8]) {
    let named = [name, body].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&named);
    png.extend((body.len() as u32).to_be_bytes());
    png.extend(&named);
    png.extend(crc.sum().to_be_bytes());
}

/// The test file of anti-virus programs, put together here so that this source is not taken for it.
pub(crate) fn eicar() -> Vec<u8> {
    let head = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$";
    format!("{head}EICAR-{}-ANTIVIRUS-TEST-FILE!$H+H*", "STANDARD").into_bytes()
}

/// A 7z archive whose header stands in the open and names encryption.
pub(crate) fn sevenz(coder: &[u8]) -> Vec<u8> {
    let header = [b"\x01\x04\x06\x00\x01\x09\x10\x00\x07\x0b\x01\x00\x01", coder].concat();
    let body = [7; 16];
    let mut file = b"7z\xbc\xaf\x27\x1c\0\x04\0\0\0\0".to_vec();
    file.extend((body.len() as u64).to_le_bytes());
    file.extend((header.len() as u64).to_le_bytes());
    file.extend([0; 4]);
    [&file[..], &body, &header].concat()
}

//! Records of a folder, and what Rock Ridge has in them.

/// A number of 16 bits in both orders.
pub(super) fn both16(value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

/// A number of 32 bits in both orders.
pub(super) fn both32(value: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d, e, f, g, h]
}

/// The record of what lies at the sector `at`, with `more` behind its name.
pub(super) fn record(at: u32, bytes: u32, is_folder: bool, name: &[u8], more: &[u8]) -> Vec<u8> {
    // 1 January 1980, as years since 1900.
    const DATE: [u8; 7] = [80, 1, 1, 0, 0, 0, 0];
    let mut record = vec![0, 0];
    record.extend(both32(at));
    record.extend(both32(bytes));
    record.extend(DATE);
    record.extend([if is_folder { 2 } else { 0 }, 0, 0]);
    record.extend(both16(1));
    record.push(name.len() as u8);
    record.extend(name);
    if name.len().is_multiple_of(2) {
        record.push(0);
    }
    record.extend(more);
    if !record.len().is_multiple_of(2) {
        record.push(0);
    }
    record[0] = u8::try_from(record.len()).expect("names are short");
    record
}

/// Rock Ridge: what kind of file, and who may read it.
fn attributes(mode: u32, links: u32) -> Vec<u8> {
    let mut field = b"PX\x24\x01".to_vec();
    for value in [mode, links, 0, 0] {
        field.extend(both32(value));
    }
    field
}

/// What the records of the folder itself have; the first of them says that there is Rock Ridge, and
/// that words on it are in the sector `words`.
pub(super) fn of_folder(first: bool, words: u32) -> Vec<u8> {
    let mut more = Vec::new();
    if first {
        more.extend(b"SP\x07\x01\xbe\xef\0");
    }
    more.extend(attributes(0o40_555, 2));
    if first {
        more.extend(b"CE\x1c\x01");
        for value in [words, 0, rock_ridge().len() as u32] {
            more.extend(both32(value));
        }
    }
    more
}

/// Words on Rock Ridge.
pub(super) fn rock_ridge() -> Vec<u8> {
    const NAME: &[u8] = b"RRIP_1991A";
    const WHAT: &[u8] =
        b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS";
    const WHERE: &[u8] = b"PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION.";
    let length = 8 + NAME.len() + WHAT.len() + WHERE.len();
    let lengths = [length, 1, NAME.len(), WHAT.len(), WHERE.len(), 1].map(|n| n as u8);
    [b"ER".as_slice(), &lengths, NAME, WHAT, WHERE].concat()
}

/// The names of a file.
#[derive(Debug)]
pub(super) struct Names {
    /// For readers that know nothing else: 8 letters and 3.
    plain: Vec<u8>,
    /// Joliet's.
    wide: Vec<u8>,
    /// Rock Ridge's.
    own: Vec<u8>,
}

impl Names {
    /// Those of the file `number` that is called `name`.
    pub(super) fn new(number: usize, name: &str) -> Names {
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let known =
            (1..=3).contains(&ending.len()) && ending.bytes().all(|b| b.is_ascii_alphanumeric());
        let ending = if known { ending.to_ascii_uppercase() } else { String::new() };
        Names {
            plain: format!("S{number:07}.{ending};1").into_bytes(),
            wide: name.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            own: name.as_bytes().to_vec(),
        }
    }

    /// What records are sorted by.
    pub(super) fn key(&self, joliet: bool) -> &[u8] {
        if joliet { &self.wide } else { &self.plain }
    }

    /// The record of the file that lies at the sector `at`.
    pub(super) fn record(&self, at: u32, bytes: u32, joliet: bool) -> Vec<u8> {
        if joliet {
            return record(at, bytes, false, &self.wide, &[]);
        }
        let mut more = attributes(0o100_444, 1);
        more.extend(b"NM");
        more.extend([self.own.len() as u8 + 5, 1, 0]);
        more.extend(&self.own);
        record(at, bytes, false, &self.plain, &more)
    }
}

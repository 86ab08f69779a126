//! A disc of files in one folder: ISO 9660, with the names that people gave in Joliet (for Windows
//! since 95) and Rock Ridge (for Linux).
//!
//! ```text
//! sector 16  primary volume      17  Joliet's volume      18  the end of them
//!        19  its path tables     21  Joliet's path tables
//!        23  its folder, Joliet's folder, words on Rock Ridge, then the files, each from a sector
//!            of its own
//! ```
//!
//! Sources: ECMA-119, 4th edition; Joliet specification (1995); IEEE P1281 and P1282, the forms of 1994.
//! Nothing in it is of the time it is made: the same order gives the same bytes.

mod record;

use record::{Names, both16, both32, record};
use std::{collections::HashSet, io};

const SECTOR: usize = 2048;
/// What a name is at most in Joliet, as all but its first readers take it, in UTF-16 units.
const LONGEST_NAME: usize = 103;
/// And as UTF-8, so that a record of Rock Ridge holds it.
const LONGEST_BYTES: usize = 140;
/// Files of a disc.
const MOST: usize = 256;
/// The largest file, in bytes.
const LARGEST: u64 = 2 << 30;

/// What a file has in it.
pub trait Content {
    /// How many bytes.
    fn bytes(&self) -> u64;

    /// Writes exactly as many, in order; an error where they are not what they should be.
    fn write(&self, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
}

/// One file.
pub struct Item<'a> {
    /// Its name.
    pub name: String,
    /// What it has.
    pub content: Box<dyn Content + 'a>,
}

/// What cannot be on a disc, or was not written.
#[derive(Debug, thiserror::Error)]
pub enum DiscError {
    /// A name that some guest cannot read.
    #[error("`{0}` is no name for a file on a disc: {1}")]
    Name(String, &'static str),
    /// A name of two files, also where only the size of letters differs.
    #[error("`{0}` is the name of two files")]
    Twice(String),
    /// A name of the disc itself.
    #[error("a disc is named by at most 16 of A to Z, 0 to 9 and _")]
    Volume,
    /// Too many or too large.
    #[error("a disc has at most {MOST} files of at most {} GiB", LARGEST >> 30)]
    Much,
    /// It was not written, or what it has is not what it should be.
    #[error("write the disc")]
    Write(#[from] io::Error),
}

/// A disc before it is written.
pub struct Disc<'a> {
    volume: String,
    items: Vec<Item<'a>>,
    names: HashSet<String>,
}

impl<'a> Disc<'a> {
    /// An empty one, named `volume`.
    pub fn new(volume: &str) -> Result<Disc<'a>, DiscError> {
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if volume.is_empty() || volume.len() > 16 || !volume.bytes().all(plain) {
            return Err(DiscError::Volume);
        }
        Ok(Disc { volume: volume.into(), items: Vec::new(), names: HashSet::new() })
    }

    /// Puts `item` on it.
    pub fn add(&mut self, item: Item<'a>) -> Result<(), DiscError> {
        check(&item.name)?;
        if self.items.len() >= MOST || item.content.bytes() > LARGEST {
            return Err(DiscError::Much);
        }
        if !self.names.insert(item.name.to_lowercase()) {
            return Err(DiscError::Twice(item.name));
        }
        self.items.push(item);
        Ok(())
    }

    /// Writes it whole, as a number of sectors.
    pub fn write(&self, out: &mut impl io::Write) -> Result<(), DiscError> {
        let plan = Plan::of(self);
        for sector in self.volumes(&plan) {
            out.write_all(&padded(sector))?;
        }
        for root in [plan.root, plan.joliet_root] {
            for big in [false, true] {
                out.write_all(&padded(path_table(root, big)))?;
            }
        }
        out.write_all(&plan.folder)?;
        out.write_all(&plan.joliet_folder)?;
        // Behind the folders: libarchive 3.6 reads only on.
        out.write_all(&padded(record::rock_ridge()))?;
        for item in &self.items {
            let mut left = item.content.bytes();
            item.content.write(&mut |piece| {
                let more = left.checked_sub(piece.len() as u64);
                left = more.ok_or(io::ErrorKind::FileTooLarge)?;
                out.write_all(piece)
            })?;
            if left > 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let rest = (item.content.bytes() % SECTOR as u64) as usize;
            if rest > 0 {
                out.write_all(&vec![0; SECTOR - rest])?;
            }
        }
        Ok(())
    }

    /// The first 19 sectors.
    fn volumes(&self, plan: &Plan) -> Vec<Vec<u8>> {
        let mut sectors = vec![Vec::new(); 16];
        sectors.push(self.volume(plan, false));
        sectors.push(self.volume(plan, true));
        sectors.push(b"\xffCD001\x01".to_vec());
        sectors
    }

    fn volume(&self, plan: &Plan, joliet: bool) -> Vec<u8> {
        let text = |text: &str, length: usize| match joliet {
            false => format!("{text:<length$}").into_bytes(),
            // Whole letters; a byte that is left over is zero.
            true => {
                let mut wide: Vec<u8> = format!("{text:<0$}", length / 2)
                    .encode_utf16()
                    .flat_map(u16::to_be_bytes)
                    .collect();
                wide.resize(length, 0);
                wide
            }
        };
        let (number, table, root, length) = match joliet {
            false => (1, TABLES, plan.root, plan.folder.len()),
            true => (2, TABLES + 2, plan.joliet_root, plan.joliet_folder.len()),
        };
        let mut sector = vec![number];
        sector.extend(b"CD001\x01\0");
        sector.extend(text("", 32));
        sector.extend(text(&self.volume, 32));
        sector.extend([0; 8]);
        sector.extend(both32(plan.sectors));
        let mut escapes = [0; 32];
        if joliet {
            // UCS-2, level 3.
            escapes[..3].copy_from_slice(b"%/E");
        }
        sector.extend(escapes);
        for word in [1, 1, SECTOR as u16] {
            sector.extend(both16(word));
        }
        sector.extend(both32(10));
        sector.extend(table.to_le_bytes());
        sector.extend([0; 4]);
        sector.extend((table + 1).to_be_bytes());
        sector.extend([0; 4]);
        sector.extend(record(root, length as u32, true, &[0], &[]));
        // Sets, publisher, preparer, application.
        for _ in 0..4 {
            sector.extend(text("", 128));
        }
        for _ in 0..3 {
            sector.extend(text("", 37));
        }
        for _ in 0..4 {
            sector.extend(b"0000000000000000\0");
        }
        sector.extend([1, 0]);
        sector
    }
}

/// The first sector of path tables: two, then Joliet's two.
const TABLES: u32 = 19;
/// The first folder.
const FOLDER: u32 = 23;

/// Where everything lies.
struct Plan {
    root: u32,
    joliet_root: u32,
    folder: Vec<u8>,
    joliet_folder: Vec<u8>,
    sectors: u32,
}

impl Plan {
    fn of(disc: &Disc<'_>) -> Plan {
        let names: Vec<Names> =
            disc.items.iter().enumerate().map(|(n, item)| Names::new(n, &item.name)).collect();
        // Their lengths do not depend on where anything is.
        let lengths = [false, true]
            .map(|joliet| folder(&vec![(0, 0); names.len()], &names, 0, 0, joliet).len());
        let sectors = |bytes: u64| bytes.div_ceil(SECTOR as u64) as u32;
        let joliet_root = FOLDER + sectors(lengths[0] as u64);
        let words = joliet_root + sectors(lengths[1] as u64);
        let mut at = words + 1;
        let mut places = Vec::new();
        for item in &disc.items {
            places.push((at, item.content.bytes() as u32));
            at += sectors(item.content.bytes());
        }
        Plan {
            root: FOLDER,
            joliet_root,
            folder: folder(&places, &names, FOLDER, words, false),
            joliet_folder: folder(&places, &names, joliet_root, words, true),
            sectors: at,
        }
    }
}

/// The folder at `root` that has `names` at `places`: whole sectors, over whose ends no record goes.
/// The sector `words` tells of Rock Ridge.
fn folder(places: &[(u32, u32)], names: &[Names], root: u32, words: u32, joliet: bool) -> Vec<u8> {
    let length = |records: &[Vec<u8>]| {
        records.iter().fold(0, |at, record| {
            let at =
                if at % SECTOR + record.len() > SECTOR { at.next_multiple_of(SECTOR) } else { at };
            at + record.len()
        })
    };
    let mut files: Vec<(&[u8], Vec<u8>)> = places
        .iter()
        .zip(names)
        .map(|((at, bytes), names)| (names.key(joliet), names.record(*at, *bytes, joliet)))
        .collect();
    files.sort();
    let mut records = vec![Vec::new(), Vec::new()];
    records.extend(files.into_iter().map(|(_, record)| record));
    let selves = |bytes: u32| {
        [0, 1].map(|which| match joliet {
            true => record(root, bytes, true, &[which], &[]),
            false => record(root, bytes, true, &[which], &record::of_folder(which == 0, words)),
        })
    };
    let [this, above] = selves(0);
    (records[0], records[1]) = (this, above);
    let bytes = length(&records).next_multiple_of(SECTOR);
    let [this, above] = selves(bytes as u32);
    (records[0], records[1]) = (this, above);
    let mut folder = Vec::with_capacity(bytes);
    for record in records {
        if folder.len() % SECTOR + record.len() > SECTOR {
            folder.resize(folder.len().next_multiple_of(SECTOR), 0);
        }
        folder.extend(record);
    }
    folder.resize(bytes, 0);
    folder
}

/// A table of the one folder that there is.
fn path_table(root: u32, big: bool) -> Vec<u8> {
    let mut table = vec![1, 0];
    match big {
        true => table.extend(root.to_be_bytes().into_iter().chain([0, 1])),
        false => table.extend(root.to_le_bytes().into_iter().chain([1, 0])),
    }
    table.extend([0, 0]);
    table
}

fn padded(mut sector: Vec<u8>) -> Vec<u8> {
    sector.resize(SECTOR, 0);
    sector
}

/// Whether every guest can read a file of this name.
pub(crate) fn check(name: &str) -> Result<(), DiscError> {
    let wrong = |why| Err(DiscError::Name(name.chars().take(120).collect(), why));
    if name.is_empty() || name.encode_utf16().count() > LONGEST_NAME || name.len() > LONGEST_BYTES {
        return wrong("it has 1 to 103 letters, in at most 140 bytes");
    }
    if name.contains(|c: char| c.is_control() || "/\\:*?\"<>|;".contains(c)) {
        return wrong("it has a sign that Windows or a disc has not in names");
    }
    if name.starts_with(' ') || name.ends_with([' ', '.']) {
        return wrong("it begins with a blank, or ends with one or with a dot");
    }
    Ok(())
}

#[cfg(test)]
mod tests;

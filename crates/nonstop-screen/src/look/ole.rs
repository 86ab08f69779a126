//! Compound files of old office programs: a file system of sectors in one file.

use super::{Seen, le16, le32};
use crate::input::Bytes;
use std::io;

/// Sectors of the directory, and of the table, that are followed.
const MOST_SECTORS: usize = 4096;

pub(super) fn look(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let Some(file) = Compound::open(bytes)? else { return Ok(Seen::default()) };
    let entries = file.directory()?;
    let of = |name: &str| entries.iter().find(|entry| entry.name == name);
    if of("EncryptedPackage").is_some() || of("EncryptionInfo").is_some() {
        let ja = "パスワード付き Office 文書";
        return Ok(Seen::encrypted("an office document with a password", ja));
    }
    if let Some(entry) = of("WordDocument") {
        let begin = file.begin(entry, &entries)?;
        // The flag `fEncrypted` of the file information block.
        if le16(&begin, 10).is_some_and(|flags| flags & 0x0100 != 0) {
            let ja = "パスワード付き Word 文書";
            return Ok(Seen::encrypted("a Word document with a password", ja));
        }
    }
    if let Some(entry) = of("Workbook").or_else(|| of("Book"))
        && has_file_pass(&file.begin(entry, &entries)?)
    {
        let ja = "パスワード付き Excel ブック";
        return Ok(Seen::encrypted("an Excel workbook with a password", ja));
    }
    if let Some(entry) = of("Current User")
        && le32(&file.begin(entry, &entries)?, 12) == Some(0xf3d1_c4df)
    {
        let ja = "パスワード付きプレゼンテーション";
        return Ok(Seen::encrypted("a presentation with a password", ja));
    }
    // Tables of an installer have names of their own letters.
    let installer = entries.iter().any(|entry| entry.name.starts_with('\u{4840}'));
    Ok(Seen { kind: installer.then_some("msi"), ..Seen::default() })
}

/// Whether a record FILEPASS stands among the first of a workbook.
fn has_file_pass(stream: &[u8]) -> bool {
    let mut at = 0;
    for _ in 0..16 {
        match (le16(stream, at), le16(stream, at + 2)) {
            (Some(0x2f), _) => return true,
            (Some(_), Some(length)) => at += 4 + usize::from(length),
            _ => return false,
        }
    }
    false
}

struct Entry {
    name: String,
    first: u32,
    size: u32,
}

struct Compound<'a, B: ?Sized> {
    bytes: &'a B,
    sector: usize,
    table: Vec<u32>,
    directory: u32,
}

impl<'a, B: Bytes + ?Sized> Compound<'a, B> {
    fn open(bytes: &'a B) -> io::Result<Option<Self>> {
        let head = bytes.piece(0, 512)?;
        let (Some(shift @ (9 | 12)), Some(directory)) = (le16(&head, 30), le32(&head, 48)) else {
            return Ok(None);
        };
        let mut file = Compound { bytes, sector: 1 << shift, table: Vec::new(), directory };
        // The table's first 109 sectors stand in the header, the others in a chain behind it.
        let mut sectors: Vec<u32> = (0..109).filter_map(|n| le32(&head, 76 + 4 * n)).collect();
        let mut more = le32(&head, 68).unwrap_or(u32::MAX);
        while sectors.len() < MOST_SECTORS {
            let Some(list) = file.read(more)? else { break };
            let last = list.len() - 4;
            sectors.extend((0..last / 4).filter_map(|n| le32(&list, 4 * n)));
            more = le32(&list, last).unwrap_or(u32::MAX);
        }
        for number in sectors.into_iter().take(MOST_SECTORS) {
            let Some(part) = file.read(number)? else { break };
            file.table.extend((0..part.len() / 4).filter_map(|n| le32(&part, 4 * n)));
        }
        Ok(Some(file))
    }

    /// A whole sector, if there is one of this number.
    fn read(&self, number: u32) -> io::Result<Option<Vec<u8>>> {
        if number >= 0xffff_fff0 {
            return Ok(None);
        }
        let sector = self.bytes.piece((u64::from(number) + 1) * self.sector as u64, self.sector)?;
        Ok((sector.len() == self.sector).then_some(sector))
    }

    fn next(&self, number: u32) -> u32 {
        self.table.get(number as usize).copied().unwrap_or(u32::MAX)
    }

    fn directory(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut number = self.directory;
        for _ in 0..MOST_SECTORS {
            let Some(sector) = self.read(number)? else { break };
            entries.extend(sector.chunks_exact(128).filter_map(entry));
            number = self.next(number);
        }
        Ok(entries)
    }

    /// The first bytes of a stream.
    fn begin(&self, entry: &Entry, entries: &[Entry]) -> io::Result<Vec<u8>> {
        if entry.size >= 4096 {
            return Ok(self.read(entry.first)?.unwrap_or_default());
        }
        // Small ones lie in pieces of 64 bytes in the stream of the root.
        let Some(root) = entries.first() else { return Ok(Vec::new()) };
        let at = usize::try_from(entry.first).unwrap_or(0).saturating_mul(64);
        let steps = at / self.sector;
        if steps > MOST_SECTORS {
            return Ok(Vec::new());
        }
        let number = (0..steps).fold(root.first, |number, _| self.next(number));
        let sector = self.read(number)?.unwrap_or_default();
        Ok(sector.get(at % self.sector..).map(<[u8]>::to_vec).unwrap_or_default())
    }
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    let length = usize::from(le16(bytes, 64)?);
    let units = bytes.get(..length.checked_sub(2)?.min(62))?.chunks_exact(2);
    let name = units.map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let name = char::decode_utf16(name).map(|c| c.unwrap_or('\u{fffd}')).collect();
    Some(Entry { name, first: le32(bytes, 116)?, size: le32(bytes, 120)? })
}

//! Pictures: walked over to their end, so that nothing is in them that no part of a picture explains;
//! and how many bytes stand behind that end.

use super::{Seen, find, le32};
use crate::input::Bytes;
use std::io;

/// Chunks that are walked over.
const MOST: usize = 1_000_000;

/// What stands beside the picture itself: bytes of parts that are known, and of others.
#[derive(Debug, Default)]
struct Beside {
    known: u64,
    other: u64,
}

impl Beside {
    fn add(&mut self, known: bool, bytes: u64) {
        let sum = if known { &mut self.known } else { &mut self.other };
        *sum = sum.saturating_add(bytes);
    }

    /// Whether it is as much as cameras and programs write.
    fn is_usual(&self) -> bool {
        self.known <= 256 << 10 && self.other <= 4 << 10
    }
}

/// A picture that ends at `end`, with a picture in it if `pictured`.
fn walked(bytes: &(impl Bytes + ?Sized), end: u64, pictured: bool, beside: &Beside) -> Seen {
    if !pictured || end > bytes.size() {
        return not_walked();
    }
    let appended = bytes.size() - end;
    if beside.is_usual() {
        return Seen { appended, ..Seen::default() };
    }
    let (en, ja) = (
        "much of it is no part of the picture: remarks and fields of programs",
        "画像そのもの以外の情報 (コメントや付加データ) が多く含まれています",
    );
    Seen { appended, ..Seen::malformed(en, ja) }
}

fn not_walked() -> Seen {
    let ja = "画像ファイルとして終端まで読み取れません";
    Seen::malformed("it begins as a picture but is not built as one to its end", ja)
}

/// Chunks of a length, a name, data and a checksum, up to `IEND`.
pub(super) fn png(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let mut at = 8;
    let (mut pictured, mut beside) = (false, Beside::default());
    for n in 0..MOST {
        let head = bytes.piece(at, 8)?;
        let Some((length, name)) = head.split_first_chunk::<4>() else { break };
        let length = u64::from(u32::from_be_bytes(*length));
        if name.len() < 4 || (n == 0) != (name == b"IHDR" && length == 13) {
            break;
        }
        at += 12 + length;
        match name {
            b"IEND" => {
                beside.add(false, length);
                return Ok(walked(bytes, at, pictured, &beside));
            }
            b"IDAT" => pictured = true,
            b"fdAT" => {}
            b"IHDR" | b"PLTE" if length <= 768 => {}
            b"iCCP" | b"eXIf" | b"iTXt" | b"tEXt" | b"zTXt" | b"sPLT" | b"hIST" | b"fcTL" => {
                beside.add(true, length);
            }
            _ => beside.add(false, length),
        }
    }
    Ok(not_walked())
}

/// Chunks within one that says how long all of it is.
pub(super) fn riff(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let head = bytes.piece(0, 8)?;
    let length = u64::from(le32(&head, 4).unwrap_or(u32::MAX));
    let end = 8 + length + length % 2;
    let (mut pictured, mut beside) = (false, Beside::default());
    let mut at = 12;
    for _ in 0..MOST {
        if at >= 8 + length {
            return Ok(walked(bytes, end.min(bytes.size().max(8 + length)), pictured, &beside));
        }
        let head = bytes.piece(at, 8)?;
        let Some(length) = le32(&head, 4).map(u64::from) else { break };
        match &head[..4] {
            b"VP8 " | b"VP8L" | b"ANMF" => pictured = true,
            b"ALPH" => {}
            b"ICCP" | b"EXIF" | b"XMP " => beside.add(true, length),
            _ => beside.add(false, length),
        }
        at += 8 + length + length % 2;
        if at > end {
            break;
        }
    }
    Ok(not_walked())
}

pub(super) fn bmp(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let head = bytes.piece(0, 8)?;
    let end = le32(&head, 2).map_or(u64::MAX, u64::from);
    Ok(Seen { appended: bytes.size().saturating_sub(end), ..Seen::default() })
}

/// Blocks, each a chain of pieces of at most 255 bytes, up to the trailer.
pub(super) fn gif(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let mut reader = Window { bytes, at: 0, held: Vec::new() };
    let table = |flags: u8| if flags & 0x80 != 0 { 3 << ((flags & 7) + 1) } else { 0 };
    let mut at = 13 + reader.byte(10)?.map_or(0, table);
    let (mut pictured, mut beside) = (false, Beside::default());
    for _ in 0..MOST {
        let begin = at;
        let block = reader.byte(at)?;
        // Nothing, or times of a picture, what programs note, or anything else.
        let label = reader.byte(at + 1)?.filter(|_| block == Some(0x21));
        match block {
            Some(0x21) => at += 2,
            Some(0x2c) => {
                at += 11 + reader.byte(at + 9)?.map_or(0, table);
                pictured = true;
            }
            Some(0x3b) => return Ok(walked(bytes, at + 1, pictured, &beside)),
            _ => break,
        }
        while let Some(length @ 1..) = reader.byte(at)? {
            at += 1 + u64::from(length);
        }
        at += 1;
        match label {
            None => {}
            // The control of a picture has four bytes.
            Some(0xf9) if at - begin == 8 => {}
            Some(label) => beside.add(label == 0xff, at - begin),
        }
    }
    Ok(not_walked())
}

/// Segments with a length, then coded data without, up to the mark of the end.
pub(super) fn jpeg(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let mut reader = Window { bytes, at: 0, held: Vec::new() };
    let mut at = 2;
    let (mut framed, mut coded_any, mut beside) = (false, false, Beside::default());
    for _ in 0..MOST {
        let (Some(0xff), Some(mark)) = (reader.byte(at)?, reader.byte(at + 1)?) else { break };
        match mark {
            0xd9 => return Ok(walked(bytes, at + 2, framed && coded_any, &beside)),
            0xff => {
                at += 1;
                beside.add(false, 1);
            }
            0x01 | 0xd0..=0xd8 => at += 2,
            0 | 0x02..=0xbf => break,
            _ => {
                let length = reader.byte(at + 2)?.zip(reader.byte(at + 3)?);
                let Some((high, low)) = length else { break };
                let length = u64::from(u16::from_be_bytes([high, low]));
                match mark {
                    0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => framed = true,
                    // Tables of the coder, and how often it begins anew.
                    0xc4 | 0xcc | 0xdb | 0xdd => {}
                    0xda => coded_any = true,
                    0xe0..=0xef => {
                        let begin = bytes.piece(at + 4, 14)?;
                        beside.add(is_of_a_camera(mark, &begin), length);
                    }
                    _ => beside.add(false, length),
                }
                at += 2 + length;
                if mark == 0xda {
                    let Some(end) = coded(&mut reader, at)? else { break };
                    at = end;
                }
            }
        }
    }
    Ok(not_walked())
}

/// Whether a segment for programs is one of those that cameras and programs write.
fn is_of_a_camera(mark: u8, begin: &[u8]) -> bool {
    let known: &[&[u8]] = match mark {
        0xe0 => &[b"JFIF\0", b"JFXX\0"],
        0xe1 => &[b"Exif\0", b"http://ns.adob"],
        0xe2 => &[b"ICC_PROFILE\0", b"MPF\0"],
        0xed => &[b"Photoshop 3.0"],
        0xee => &[b"Adobe"],
        _ => &[],
    };
    known.iter().any(|known| begin.starts_with(known))
}

/// Where coded data that begin at `at` end: at a mark that is no part of them.
fn coded<B: Bytes + ?Sized>(reader: &mut Window<'_, B>, mut at: u64) -> io::Result<Option<u64>> {
    while let Some(byte) = reader.byte(at)? {
        if byte == 0xff {
            match reader.byte(at + 1)? {
                Some(0 | 0xd0..=0xd7) => at += 1,
                Some(_) => return Ok(Some(at)),
                None => return Ok(None),
            }
        }
        at += 1;
    }
    Ok(None)
}

/// Small pictures, each at the place that a table says: together they are the file.
pub(super) fn ico(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let head = bytes.piece(0, 6 + 16 * 256)?;
    let count = super::le16(&head, 4).map_or(0, usize::from);
    let mut sum = 6 + 16 * count as u64;
    let (mut end, mut beside) = (sum, Beside::default());
    for n in 0..count {
        let Some(entry) = head.get(6 + 16 * n..22 + 16 * n) else { return Ok(not_walked()) };
        let length = u64::from(le32(entry, 8).unwrap_or(0));
        let at = u64::from(le32(entry, 12).unwrap_or(0));
        if length < 40 || at.saturating_add(length) > bytes.size() {
            return Ok(not_walked());
        }
        let begin = bytes.piece(at, 40)?;
        let fits = if begin.starts_with(b"\x89PNG\r\n\x1a\n") {
            // Larger ones than 256 pixels are none of an icon.
            let most = usize::try_from(length.min(1 << 20)).unwrap_or(0);
            let picture = bytes.piece(at, most)?;
            let seen = png(&picture[..])?;
            seen.malformed.is_none() && seen.appended <= 16 && find(&picture, b"IEND").is_some()
        } else {
            length <= bitmap(&begin).unwrap_or(0)
        };
        if !fits {
            return Ok(not_walked());
        }
        sum += length;
        end = end.max(at + length);
    }
    beside.add(false, end.saturating_sub(sum));
    Ok(walked(bytes, end, count > 0, &beside))
}

/// How long a bitmap of this header is at most, its colours and mask included.
fn bitmap(head: &[u8]) -> Option<u64> {
    let (width, height) = (u64::from(le32(head, 4)?), u64::from(le32(head, 8)?));
    let bits = u64::from(super::le16(head, 14)?);
    if le32(head, 0)? != 40 || width > 1024 || height > 2048 || bits > 32 {
        return None;
    }
    let line = |bits: u64| (width * bits).div_ceil(32) * 4;
    Some(40 + 4 * 256 + (line(bits) + line(1)) * height)
}

/// Reads single bytes, 64 KiB at a time.
struct Window<'a, B: ?Sized> {
    bytes: &'a B,
    at: u64,
    held: Vec<u8>,
}

impl<B: Bytes + ?Sized> Window<'_, B> {
    fn byte(&mut self, at: u64) -> io::Result<Option<u8>> {
        if let Some(byte) = self.there(at) {
            return Ok(Some(byte));
        }
        self.held = self.bytes.piece(at, 64 << 10)?;
        self.at = at;
        Ok(self.there(at))
    }

    fn there(&self, at: u64) -> Option<u8> {
        let offset = usize::try_from(at.checked_sub(self.at)?).ok()?;
        self.held.get(offset).copied()
    }
}

//! TIFF: directories of fields, each of which leads to values or to strips of the picture.

use super::{Seen, le16, le32};
use crate::input::Bytes;
use std::io;

/// Directories that are followed: a page each.
const MOST_DIRECTORIES: usize = 1000;
/// Places of strips and tiles that are read, in bytes of all.
const LONGEST_LISTS: u64 = 8 << 20;
/// Bytes that no field leads to: padding of writers.
const GAPS: u64 = 4 << 10;

/// Looks whether all places that the directories say are in the file, and all of it is led to.
pub(super) fn look(bytes: &(impl Bytes + ?Sized)) -> io::Result<Seen> {
    let head = bytes.piece(0, 8)?;
    let mut tiff = Tiff { bytes, little: head.starts_with(b"II"), led_to: 8, lists: 0 };
    let pictured = tiff.walk(tiff.long(&head, 4))?;
    // What is led to twice counts twice, so that this is a bound from one side alone.
    let whole = pictured.is_some_and(|pictured| pictured)
        && tiff.led_to.saturating_add(GAPS + bytes.size() / 64) >= bytes.size();
    if whole {
        return Ok(Seen::default());
    }
    let ja = "TIFF 画像として読み取れない部分があります";
    Ok(Seen::malformed("not all of it is what its directories say of a TIFF picture", ja))
}

struct Tiff<'a, B: ?Sized> {
    bytes: &'a B,
    little: bool,
    led_to: u64,
    lists: u64,
}

impl<B: Bytes + ?Sized> Tiff<'_, B> {
    fn short(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let value = le16(bytes, at)?;
        Some(if self.little { value } else { value.swap_bytes() })
    }

    fn long(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let value = le32(bytes, at)?;
        Some(if self.little { value } else { value.swap_bytes() })
    }

    /// Follows directories from the one at `next` on. Whether there are pixels; None if a place is
    /// not in the file.
    fn walk(&mut self, next: Option<u32>) -> io::Result<Option<bool>> {
        let mut next = next;
        let mut pictured = false;
        for _ in 0..MOST_DIRECTORIES {
            let at = match next {
                Some(0) => return Ok(Some(pictured)),
                Some(at) => u64::from(at),
                None => return Ok(None),
            };
            let count = self.bytes.piece(at, 2)?;
            let Some(count) = self.short(&count, 0).map(usize::from) else { return Ok(None) };
            let all = self.bytes.piece(at + 2, 12 * count + 4)?;
            if count == 0 || all.len() != 12 * count + 4 {
                return Ok(None);
            }
            self.led_to += all.len() as u64 + 2;
            let Some(strips) = self.fields(&all[..12 * count])? else { return Ok(None) };
            pictured |= strips > 0;
            self.led_to = self.led_to.saturating_add(strips);
            next = self.long(&all, 12 * count);
        }
        Ok(None)
    }

    /// How many bytes strips and tiles have. None if a field is odd or leads out of the file.
    fn fields(&mut self, fields: &[u8]) -> io::Result<Option<u64>> {
        let (mut places, mut lengths) = (Vec::new(), Vec::new());
        let mut before = 0;
        for field in fields.chunks_exact(12) {
            let read = (self.short(field, 0), self.short(field, 2), self.long(field, 4));
            let (Some(tag), Some(kind), Some(count)) = read else { return Ok(None) };
            let size = match kind {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 => 8,
                _ => return Ok(None),
            };
            if tag < before {
                return Ok(None);
            }
            before = tag;
            let length = size * u64::from(count);
            let at = self.long(field, 8).map_or(0, u64::from);
            if length > 4 && at + length > self.bytes.size() {
                return Ok(None);
            }
            // Colours, places, profiles and notes; fields of programs of their own lead nowhere.
            let known = matches!(tag, 254..=532 | 700 | 33432..=33434 | 33723 | 34377 | 34675);
            if known && length > 4 && length <= 256 << 10 || matches!(tag, 273 | 279 | 324 | 325) {
                self.led_to += length;
            }
            if matches!(tag, 273 | 279 | 324 | 325) {
                self.lists += length;
                if !matches!(kind, 3 | 4) || self.lists > LONGEST_LISTS {
                    return Ok(None);
                }
                let list = match length {
                    0..=4 => field[8..].to_vec(),
                    _ => self.bytes.piece(at, usize::try_from(length).unwrap_or(0))?,
                };
                let number = |n: usize| match kind {
                    3 => self.short(&list, 2 * n).map(u64::from),
                    _ => self.long(&list, 4 * n).map(u64::from),
                };
                let numbers = (0..count as usize).map_while(number);
                match tag {
                    273 | 324 => places.extend(numbers),
                    _ => lengths.extend(numbers),
                }
            }
        }
        let inside = |(at, length): (&u64, &u64)| at + length <= self.bytes.size();
        let fits = places.len() == lengths.len() && places.iter().zip(&lengths).all(inside);
        Ok(fits.then(|| lengths.iter().sum()))
    }
}

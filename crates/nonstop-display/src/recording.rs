//! What a recording says, decrypted: records, each behind its length, and playing them back.
//!
//! A picture is kept as those of its tiles of 64 x 64 pixels that changed. Who plays a recording
//! takes it for hostile: lengths and sizes are bounded before anything is made of them.

use crate::link::{Cursor, Input, LARGEST, LARGEST_CURSOR, Rect};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};

/// Width and height of a tile in pixels.
pub const TILE: u16 = 64;

/// The longest record in bytes.
pub const LONGEST: usize = 64 * 1024;

/// One thing that was recorded. Times are milliseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The picture has this size from now on, and is black.
    Picture {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
    },
    /// A tile of it changes.
    Tile {
        /// Tiles from the left.
        column: u8,
        /// Tiles from the top.
        row: u8,
        /// Three bytes a pixel (red, green, blue), rows from the top; cut at the picture's edges.
        pixels: Vec<u8>,
    },
    /// What the tiles before make was shown.
    Shown {
        /// When.
        at_ms: u64,
    },
    /// The pointer looks so from now on; None hides it.
    Pointer(Option<Cursor>),
    /// A person typed, or moved the mouse.
    Typed {
        /// When.
        at_ms: u64,
        /// What.
        input: Input,
    },
    /// Bytes that were written cannot be read: the picture may be wrong until all of it changes.
    Lost,
    /// The recording has as many bytes as it may have. Nothing follows.
    Full,
}

/// A recording that cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It could not be read.
    #[error("read the recording")]
    Io(#[from] io::Error),
    /// It says what no recorder writes.
    #[error("the recording holds nonsense")]
    Nonsense,
}

impl Record {
    /// Adds this record, behind its length, to `to`.
    pub fn append(&self, to: &mut Vec<u8>) {
        let body = postcard::to_stdvec(self).expect("a record is plain data");
        to.extend_from_slice(&u32::try_from(body.len()).expect("below 64 KiB").to_le_bytes());
        to.extend_from_slice(&body);
    }
}

/// A picture: three bytes a pixel (red, green, blue), rows from the top.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Bytes.
    pub rgb: Vec<u8>,
}

impl Frame {
    /// The part of it in `rect`, which must lie inside.
    pub fn part(&self, rect: Rect) -> Vec<u8> {
        let (x, width) = (usize::from(rect.x), usize::from(rect.width));
        let rows = usize::from(rect.y)..usize::from(rect.y) + usize::from(rect.height);
        rows.flat_map(|y| {
            let start = (y * usize::from(self.width) + x) * 3;
            &self.rgb[start..start + width * 3]
        })
        .copied()
        .collect()
    }
}

/// Where tile `column`, `row` lies in a picture; None outside.
pub fn tile(width: u16, height: u16, column: u8, row: u8) -> Option<Rect> {
    let (x, y) = (u16::from(column) * TILE, u16::from(row) * TILE);
    (x < width && y < height).then(|| Rect {
        x,
        y,
        width: TILE.min(width - x),
        height: TILE.min(height - y),
    })
}

/// What the next step of playing back shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A picture, which differs from the one before in this part of it; nothing where it was
    /// shown again.
    Shown {
        /// When.
        at_ms: u64,
        /// The smallest part that holds all that differs.
        changed: Option<Rect>,
        /// Whether it has another size than the one before, or is the first.
        resized: bool,
    },
    /// A person typed, or moved the mouse.
    Typed {
        /// When.
        at_ms: u64,
        /// What.
        input: Input,
    },
    /// A part of the recording is missing here.
    Lost,
    /// The recording has as many bytes as it may have.
    Full,
}

/// Plays back a decrypted recording.
#[derive(Debug)]
pub struct Playback<R> {
    from: R,
    frame: Frame,
    pointer: Option<Cursor>,
    at: (u16, u16),
    changed: Option<Rect>,
    resized: bool,
}

impl<R: Read> Playback<R> {
    /// Plays what comes out of `from`, from its beginning.
    pub fn new(from: R) -> Playback<R> {
        let frame = Frame::default();
        Playback { from, frame, pointer: None, at: (0, 0), changed: None, resized: false }
    }

    /// The next moment; None at the end. A recording that was cut ends where it was cut.
    pub fn next_moment(&mut self) -> Result<Option<Moment>, RecordingError> {
        while let Some(record) = self.record()? {
            if let Some(moment) = self.take(record)? {
                return Ok(Some(moment));
            }
        }
        Ok(None)
    }

    /// The picture as it is now, without the pointer.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The picture with the pointer drawn into it.
    pub fn with_pointer(&self) -> Frame {
        let mut frame = self.frame.clone();
        if let Some(pointer) = &self.pointer {
            draw(&mut frame, pointer, self.at);
        }
        frame
    }

    fn record(&mut self) -> Result<Option<Record>, RecordingError> {
        let mut length = [0; 4];
        match self.from.read_exact(&mut length) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > LONGEST {
            return Err(RecordingError::Nonsense);
        }
        let mut body = vec![0; length];
        match self.from.read_exact(&mut body) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        postcard::from_bytes(&body).map(Some).map_err(|_| RecordingError::Nonsense)
    }

    fn take(&mut self, record: Record) -> Result<Option<Moment>, RecordingError> {
        Ok(match record {
            Record::Picture { width, height } => {
                if !(1..=LARGEST).contains(&width) || !(1..=LARGEST).contains(&height) {
                    return Err(RecordingError::Nonsense);
                }
                let rgb = vec![0; usize::from(width) * usize::from(height) * 3];
                self.frame = Frame { width, height, rgb };
                self.changed = Some(Rect { x: 0, y: 0, width, height });
                self.resized = true;
                None
            }
            Record::Tile { column, row, pixels } => {
                self.tile(column, row, &pixels).ok_or(RecordingError::Nonsense)?;
                None
            }
            Record::Shown { .. } if self.frame.width == 0 => return Err(RecordingError::Nonsense),
            Record::Shown { at_ms } => Some(Moment::Shown {
                at_ms,
                changed: self.changed.take(),
                resized: std::mem::take(&mut self.resized),
            }),
            Record::Pointer(pointer) => {
                if pointer.as_ref().is_some_and(|pointer| !sane(pointer)) {
                    return Err(RecordingError::Nonsense);
                }
                self.pointer = pointer;
                None
            }
            Record::Typed { at_ms, input } => {
                if let Input::Pointer { x, y } = input {
                    self.at = (x, y);
                }
                Some(Moment::Typed { at_ms, input })
            }
            Record::Lost => Some(Moment::Lost),
            Record::Full => Some(Moment::Full),
        })
    }

    fn tile(&mut self, column: u8, row: u8, pixels: &[u8]) -> Option<()> {
        let rect = tile(self.frame.width, self.frame.height, column, row)?;
        let line = usize::from(rect.width) * 3;
        if pixels.len() != line * usize::from(rect.height) {
            return None;
        }
        for (y, from) in (usize::from(rect.y)..).zip(pixels.chunks_exact(line)) {
            let start = (y * usize::from(self.frame.width) + usize::from(rect.x)) * 3;
            self.frame.rgb[start..start + line].copy_from_slice(from);
        }
        self.changed = Some(self.changed.map_or(rect, |before| around(before, rect)));
        Some(())
    }
}

fn sane(pointer: &Cursor) -> bool {
    let bytes = usize::from(pointer.width) * usize::from(pointer.height) * 4;
    pointer.width <= LARGEST_CURSOR
        && pointer.height <= LARGEST_CURSOR
        && pointer.pixels.len() == bytes
}

/// The smallest rectangle that holds both.
fn around(a: Rect, b: Rect) -> Rect {
    let (x, y) = (a.x.min(b.x), a.y.min(b.y));
    let right = (a.x + a.width).max(b.x + b.width);
    let bottom = (a.y + a.height).max(b.y + b.height);
    Rect { x, y, width: right - x, height: bottom - y }
}

fn draw(frame: &mut Frame, pointer: &Cursor, at: (u16, u16)) {
    let (left, top) =
        (i32::from(at.0) - i32::from(pointer.hot_x), i32::from(at.1) - i32::from(pointer.hot_y));
    for (index, pixel) in pointer.pixels.chunks_exact(4).enumerate() {
        let (dx, dy) = (index % usize::from(pointer.width), index / usize::from(pointer.width));
        let x = left + i32::try_from(dx).unwrap_or(0);
        let y = top + i32::try_from(dy).unwrap_or(0);
        if x < 0 || y < 0 || x >= i32::from(frame.width) || y >= i32::from(frame.height) {
            continue;
        }
        let (x, y) = (x.unsigned_abs() as usize, y.unsigned_abs() as usize);
        let start = (y * usize::from(frame.width) + x) * 3;
        let opacity = u32::from(pixel[3]);
        for (to, from) in frame.rgb[start..start + 3].iter_mut().zip([pixel[2], pixel[1], pixel[0]])
        {
            let mixed = u32::from(from) * opacity + u32::from(*to) * (255 - opacity);
            *to = u8::try_from(mixed / 255).unwrap_or(u8::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(records: &[Record]) -> Vec<u8> {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.append(&mut bytes));
        bytes
    }

    #[test]
    fn tiles_make_a_picture_and_the_pointer_is_drawn_where_it_was() {
        let recorded = bytes(&[
            Record::Picture { width: 65, height: 2 },
            Record::Tile { column: 1, row: 0, pixels: vec![9; 6] },
            Record::Shown { at_ms: 7 },
            Record::Pointer(Some(Cursor {
                width: 1,
                height: 1,
                hot_x: 1,
                hot_y: 0,
                pixels: vec![1, 2, 3, 255],
            })),
            Record::Typed { at_ms: 8, input: Input::Pointer { x: 1, y: 1 } },
            Record::Shown { at_ms: 9 },
        ]);
        let mut playback = Playback::new(&recorded[..]);
        let whole = Rect { x: 0, y: 0, width: 65, height: 2 };
        assert_eq!(
            playback.next_moment().expect("good"),
            Some(Moment::Shown { at_ms: 7, changed: Some(whole), resized: true })
        );
        assert_eq!(&playback.frame().rgb[64 * 3..65 * 3], [9, 9, 9]);
        assert!(matches!(playback.next_moment(), Ok(Some(Moment::Typed { at_ms: 8, .. }))));
        assert!(matches!(
            playback.next_moment(),
            Ok(Some(Moment::Shown { at_ms: 9, changed: None, resized: false }))
        ));
        assert_eq!(&playback.with_pointer().rgb[65 * 3..66 * 3], [3, 2, 1]);
        assert!(matches!(playback.next_moment(), Ok(None)));
        let mut cut = Playback::new(&recorded[..recorded.len() - 3]);
        assert!(matches!(cut.next_moment(), Ok(Some(_))));
        assert!(matches!(cut.next_moment(), Ok(Some(_))));
        assert!(matches!(cut.next_moment(), Ok(None)), "it ends where it was cut");
    }

    #[test]
    fn what_no_recorder_writes_is_an_error_and_never_a_panic() {
        let picture = Record::Picture { width: 64, height: 64 };
        for nonsense in [
            bytes(&[Record::Picture { width: 0, height: 5 }]),
            bytes(&[Record::Picture { width: LARGEST + 1, height: 5 }]),
            bytes(&[Record::Shown { at_ms: 1 }]),
            bytes(&[picture.clone(), Record::Tile { column: 1, row: 0, pixels: vec![0; 12] }]),
            bytes(&[picture, Record::Tile { column: 0, row: 0, pixels: vec![0; 12] }]),
            u32::MAX.to_le_bytes().to_vec(),
            vec![1, 0, 0, 0, 99],
        ] {
            let mut playback = Playback::new(&nonsense[..]);
            assert!(matches!(playback.next_moment(), Err(RecordingError::Nonsense)));
        }
    }
}

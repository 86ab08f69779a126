//! What the machine's screen shows: where QEMU has it, what of it changed, and our copy.
//!
//! The words of QEMU's display come here after they were read, and are judged here: sizes, strides,
//! rectangles and files that no display would name end the connection. Memory that QEMU lends is
//! never mapped (it can shrink under the reader) but copied by `pread`, and only what changed, when
//! somebody is about to be shown it.

use super::{card, damage::Damage, dbus::Lost, memory::Shared, pixels::Format};
use nonstop_display::link::{Cursor, LARGEST, LARGEST_CURSOR, Rect};
use rustix::{
    fs::{FileType, fcntl_get_seals, fstat},
    io::{Errno, pread},
};
use std::os::fd::OwnedFd;

/// The longest row of QEMU's memory, in bytes.
const LONGEST_STRIDE: u32 = 1 << 17;

/// The largest pointer that is looked at, in pixels; a larger one is not a display's.
const WIDEST_POINTER: i32 = 1024;

/// The size until the machine has chosen one.
const FIRST_SIZE: (u16, u16) = (1024, 768);

/// Our copy of the screen.
#[derive(Debug)]
pub struct Picture {
    /// Blue, green, red, unused; rows without gaps.
    pub memory: Shared,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

/// Where the picture comes from.
#[derive(Debug)]
enum Source {
    /// There is no display: the machine is off.
    Off,
    /// The display shows nothing, or nothing that can be shown.
    Dark,
    /// Pixels come with each message.
    Plain,
    /// Pixels lie in QEMU's memory.
    Mapped { file: OwnedFd, offset: u64, stride: u32, format: Format },
}

/// The screen.
#[derive(Debug)]
pub struct Screen {
    source: Source,
    size: (u16, u16),
    picture: Option<Picture>,
    /// Of `picture`: not yet brought over from `source`.
    stale: Damage,
    /// Of `picture`: brought over, not yet told.
    changed: Damage,
    /// Whether `picture` was made since [`Screen::copy`].
    fresh: bool,
    pointer: Option<Cursor>,
    pointer_shown: bool,
    scratch: Vec<u8>,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// A machine that is off.
    pub fn new() -> Self {
        let mut screen = Self {
            source: Source::Off,
            size: FIRST_SIZE,
            picture: None,
            stale: Damage::new(),
            changed: Damage::new(),
            fresh: false,
            pointer: None,
            pointer_shown: false,
            scratch: Vec::new(),
        };
        screen.stale.add(screen.whole());
        screen
    }

    /// The display is gone. Its size is kept.
    pub fn off(&mut self) {
        self.pointer = None;
        self.pointer_shown = false;
        self.set(Source::Off, self.size);
    }

    /// The display shows nothing.
    pub fn disable(&mut self) {
        self.set(Source::Dark, self.size);
    }

    /// Pixels of the whole screen, in the message.
    pub fn scanout(&mut self, size: [u32; 2], form: [u32; 2], data: &[u8]) -> Result<(), Lost> {
        let Some(size) = mode(size)? else {
            self.disable();
            return Ok(());
        };
        self.set(Source::Plain, size);
        // All of it comes now.
        self.stale = Damage::new();
        let whole = [0, 0, i32::from(size.0), i32::from(size.1)];
        self.update(whole, form, data)
    }

    /// Pixels of a part of the screen, in the message.
    pub fn update(&mut self, rect: [i32; 4], form: [u32; 2], data: &[u8]) -> Result<(), Lost> {
        let [x, y, width, height] = rect;
        let [stride, format] = form;
        if !matches!(self.source, Source::Plain) {
            // After a scanout that cannot be shown, or one of memory.
            return Ok(());
        }
        let format = Format::of(format).ok_or(Lost::Malformed("a format that is not known"))?;
        let Some(part) = self.clip(rect)? else { return Ok(()) };
        let (width, height) = (width.unsigned_abs() as usize, height.unsigned_abs() as usize);
        let (stride, bytes) = (stride as usize, format.bytes());
        let row = width.checked_mul(bytes).ok_or(TOO_LARGE)?;
        let needed = stride.checked_mul(height - 1).and_then(|all| all.checked_add(row));
        if stride < row || needed.is_none_or(|needed| needed > data.len()) {
            return Err(Lost::Malformed("fewer pixels than were named"));
        }
        // What `clip` cut off on the left and on the top.
        let (left, top) = (x.min(0).unsigned_abs() as usize, y.min(0).unsigned_abs() as usize);
        let picture = self.picture_of_size()?;
        let pitch = usize::from(picture.width) * 4;
        for line in 0..usize::from(part.height) {
            let from = (top + line) * stride + left * bytes;
            let to = (usize::from(part.y) + line) * pitch + usize::from(part.x) * 4;
            let wide = usize::from(part.width);
            let to = &mut picture.memory[to..to + wide * 4];
            format.convert(&data[from..from + wide * bytes], to);
        }
        self.changed.add(part);
        Ok(())
    }

    /// The whole screen lies in `file`.
    pub fn scanout_map(
        &mut self,
        file: OwnedFd,
        offset: u32,
        size: [u32; 2],
        form: [u32; 2],
    ) -> Result<(), Lost> {
        let [stride, format] = form;
        // Memory files alone have seals: reading one cannot wait, as reading others may.
        let known = fstat(&file).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if known != Ok(FileType::RegularFile) || fcntl_get_seals(&file).is_err() {
            return Err(Lost::Malformed("a file that is not memory"));
        }
        let Some(size) = mode(size)? else {
            self.disable();
            return Ok(());
        };
        let Some(format) = Format::of(format) else {
            self.set(Source::Dark, size);
            return Ok(());
        };
        let row = u32::from(size.0) * format.bytes() as u32;
        if stride < row || stride > LONGEST_STRIDE {
            return Err(Lost::Malformed("rows that do not fit"));
        }
        let offset = u64::from(offset);
        self.set(Source::Mapped { file, offset, stride, format }, size);
        Ok(())
    }

    /// A part of that memory changed.
    pub fn update_map(&mut self, rect: [i32; 4]) -> Result<(), Lost> {
        let part = self.clip(rect)?;
        if let (Source::Mapped { .. }, Some(part)) = (&self.source, part) {
            self.stale.add(part);
        }
        Ok(())
    }

    /// The pointer's shape. True if what is to be shown changed.
    pub fn define_pointer(&mut self, shape: [i32; 4], pixels: &[u8]) -> Result<bool, Lost> {
        let [width, height, hot_x, hot_y] = shape;
        let range = 1..=WIDEST_POINTER;
        if !range.contains(&width) || !range.contains(&height) {
            return Err(Lost::Malformed("a pointer of no size"));
        }
        let (wide, high) = (width.unsigned_abs() as usize, height.unsigned_abs() as usize);
        if pixels.len() < wide * high * 4 {
            return Err(Lost::Malformed("fewer pixels than were named"));
        }
        // The corner of a larger one.
        let most = usize::from(LARGEST_CURSOR);
        let (kept_wide, kept_high) = (wide.min(most), high.min(most));
        let rows = pixels.chunks_exact(wide * 4).take(kept_high);
        let small = |value: usize| u16::try_from(value).unwrap_or(LARGEST_CURSOR);
        let hot = |at: i32, size: usize| small(usize::try_from(at).unwrap_or(0).min(size - 1));
        let pointer = Cursor {
            width: small(kept_wide),
            height: small(kept_high),
            hot_x: hot(hot_x, kept_wide),
            hot_y: hot(hot_y, kept_high),
            pixels: rows.flat_map(|row| &row[..kept_wide * 4]).copied().collect(),
        };
        let new = self.pointer.as_ref() != Some(&pointer);
        self.pointer = Some(pointer);
        let shown = std::mem::replace(&mut self.pointer_shown, true);
        Ok(new || !shown)
    }

    /// Whether there is a pointer. True if what is to be shown changed.
    pub fn show_pointer(&mut self, shown: bool) -> bool {
        let before = self.pointer().is_some();
        self.pointer_shown = shown;
        before != self.pointer().is_some()
    }

    /// The pointer that is shown; None until the machine has one.
    pub fn pointer(&self) -> Option<&Cursor> {
        self.pointer.as_ref().filter(|_| self.pointer_shown)
    }

    /// The mode's size in pixels.
    pub fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Our copy, if it has been made.
    pub fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }

    /// Whether [`Screen::copy`] would bring something.
    pub fn is_stale(&self) -> bool {
        !self.stale.is_empty() || !self.changed.is_empty()
    }

    /// Brings over what changed. What that was; or None if the picture is a new one.
    pub fn copy(&mut self) -> Result<Option<Damage>, Lost> {
        let stale = self.stale.take();
        self.picture_of_size()?;
        let Some(picture) = &mut self.picture else { return Ok(None) };
        match &self.source {
            _ if stale.is_empty() => {}
            Source::Off => card::draw(&mut picture.memory, usize::from(picture.width)),
            Source::Dark => card::blank(&mut picture.memory),
            Source::Plain => {}
            Source::Mapped { file, offset, stride, format } => {
                for rect in stale.rects() {
                    let rows = Rows { offset: *offset, stride: *stride, format: *format };
                    rows.copy(file, *rect, picture, &mut self.scratch)?;
                }
            }
        }
        let mut changed = self.changed.take();
        changed.add_all(&stale);
        let fresh = std::mem::take(&mut self.fresh);
        Ok((!fresh).then_some(changed))
    }

    fn whole(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.size.0, height: self.size.1 }
    }

    fn set(&mut self, source: Source, size: (u16, u16)) {
        self.source = source;
        self.size = size;
        self.changed = Damage::new();
        self.stale = Damage::new();
        self.stale.add(self.whole());
    }

    /// The picture, made anew if the mode has another size.
    fn picture_of_size(&mut self) -> Result<&mut Picture, Lost> {
        let (width, height) = self.size;
        let fits = |p: &Picture| (p.width, p.height) == (width, height);
        if !self.picture.as_ref().is_some_and(fits) {
            // The old one first: two large ones need not be held at a time.
            self.picture = None;
            let memory = Shared::new(usize::from(width) * usize::from(height) * 4)?;
            self.picture = Some(Picture { memory, width, height });
            self.fresh = true;
        }
        self.picture.as_mut().ok_or(Lost::Kernel(Errno::NOMEM))
    }

    /// The part of `rect` inside the mode; None if there is none. Its size must be one.
    fn clip(&self, rect: [i32; 4]) -> Result<Option<Rect>, Lost> {
        let [x, y, width, height] = rect.map(i64::from);
        if width <= 0 || height <= 0 {
            return Err(Lost::Malformed("a rectangle of no size"));
        }
        let cut = |at: i64, size: i64, most: u16| {
            let (from, to) = (at.clamp(0, most.into()), (at + size).clamp(0, most.into()));
            Some((u16::try_from(from).ok()?, u16::try_from(to - from).ok().filter(|s| *s > 0)?))
        };
        let (columns, rows) = (cut(x, width, self.size.0), cut(y, height, self.size.1));
        Ok(columns.zip(rows).map(|((x, width), (y, height))| Rect { x, y, width, height }))
    }
}

const TOO_LARGE: Lost = Lost::Malformed("a size that no display has");

/// A mode's size; None for one that is larger than can be shown, which a guest may choose.
fn mode([width, height]: [u32; 2]) -> Result<Option<(u16, u16)>, Lost> {
    if width == 0 || height == 0 {
        return Err(Lost::Malformed("a mode of no size"));
    }
    let fits = |size: u32| u16::try_from(size).ok().filter(|size| *size <= LARGEST);
    Ok(fits(width).zip(fits(height)))
}

/// How rows lie in QEMU's memory.
#[derive(Debug, Clone, Copy)]
struct Rows {
    offset: u64,
    stride: u32,
    format: Format,
}

impl Rows {
    /// Copies `rect`, which lies in `picture`. What QEMU's memory no longer has stays as it was.
    fn copy(
        self,
        file: &OwnedFd,
        rect: Rect,
        picture: &mut Picture,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Lost> {
        let (bytes, stride) = (self.format.bytes(), u64::from(self.stride));
        let pitch = usize::from(picture.width) * 4;
        let top = usize::from(rect.y);
        let (left, wide) = (usize::from(rect.x), usize::from(rect.width));
        let ours = self.format == Format::Bgrx;
        if ours && stride == pitch as u64 && wide * 2 >= usize::from(picture.width) {
            // Rows without gaps: one read. What it takes beside the rectangle is as fresh.
            let from = self.offset + top as u64 * stride;
            let to = &mut picture.memory[top * pitch..][..usize::from(rect.height) * pitch];
            return read(file, to, from).map(|_| ());
        }
        for line in top..top + usize::from(rect.height) {
            let from = self.offset + line as u64 * stride + (left * bytes) as u64;
            let to = &mut picture.memory[line * pitch + left * 4..][..wide * 4];
            if ours {
                read(file, to, from)?;
            } else {
                scratch.resize(wide * bytes, 0);
                let got = read(file, scratch, from)?;
                self.format.convert(&scratch[..got], to);
            }
        }
        Ok(())
    }
}

/// Reads as much as there is.
fn read(file: &OwnedFd, to: &mut [u8], from: u64) -> Result<usize, Lost> {
    let mut got = 0;
    while got < to.len() {
        match pread(file, &mut to[got..], from + got as u64) {
            Ok(0) => break,
            Ok(now) => got += now,
            Err(Errno::INTR) => {}
            Err(e) => return Err(Lost::Kernel(e)),
        }
    }
    Ok(got)
}

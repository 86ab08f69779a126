//! What the broker shows, as the session that looks sees it.

use super::server::Figures;
use nonstop_display::link::{Cursor, LARGEST, LARGEST_CURSOR, MOST_RECTS, Rect};
use std::{os::fd::OwnedFd, sync::Arc};

/// Bytes a pixel.
pub(super) const PIXEL: usize = 4;

/// The picture, and what of it has changed since a client took it.
#[derive(Debug, Default)]
pub(super) struct Screen {
    memory: Option<OwnedFd>,
    stride: usize,
    /// Pixels; 0 before the first picture.
    pub(super) width: u16,
    pub(super) height: u16,
    /// Counts pictures that took the place of the one before: each is to be shown whole, of
    /// whatever size.
    pub(super) pictures: u64,
    /// What is to be shown, with the number that the broker waits for.
    pub(super) damage: Option<(u64, Vec<Rect>)>,
    pub(super) cursor: Option<Cursor>,
    /// Counts changes of the cursor.
    pub(super) cursors: u64,
    /// The session that looks; 0 for none.
    pub(super) session: u64,
    /// Of the session that looks.
    pub(super) figures: Option<Arc<Figures>>,
}

/// What the broker said makes no sense: it was taken over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nonsense;

impl Screen {
    /// A picture in `memory` takes the place of the former.
    pub(super) fn picture(
        &mut self,
        (width, height): (u16, u16),
        stride: u32,
        memory: OwnedFd,
    ) -> Result<(), Nonsense> {
        let size = |side: u16| (1..=LARGEST).contains(&side);
        let stride = stride as usize;
        let narrow = stride < usize::from(width) * PIXEL || stride > usize::from(LARGEST) * 8;
        if !size(width) || !size(height) || narrow {
            return Err(Nonsense);
        }
        self.memory = Some(memory);
        (self.width, self.height, self.stride) = (width, height, stride);
        self.pictures += 1;
        self.damage = None;
        Ok(())
    }

    /// The broker has changed `rects`.
    pub(super) fn damaged(&mut self, serial: u64, rects: Vec<Rect>) -> Result<(), Nonsense> {
        let inside = |rect: &Rect| {
            let end = |from: u16, length: u16| u32::from(from) + u32::from(length);
            rect.width > 0
                && rect.height > 0
                && end(rect.x, rect.width) <= self.width.into()
                && end(rect.y, rect.height) <= self.height.into()
        };
        if rects.len() > MOST_RECTS || !rects.iter().all(inside) || self.damage.is_some() {
            return Err(Nonsense);
        }
        self.damage = Some((serial, rects));
        Ok(())
    }

    pub(super) fn point(&mut self, cursor: Option<Cursor>) -> Result<(), Nonsense> {
        if let Some(cursor) = &cursor {
            let side = |side: u16| (1..=LARGEST_CURSOR).contains(&side);
            let bytes = usize::from(cursor.width) * usize::from(cursor.height) * PIXEL;
            let hot = cursor.hot_x < cursor.width && cursor.hot_y < cursor.height;
            if !side(cursor.width) || !side(cursor.height) || cursor.pixels.len() != bytes || !hot {
                return Err(Nonsense);
            }
        }
        self.cursor = cursor;
        self.cursors += 1;
        Ok(())
    }

    /// All of it.
    pub(super) fn whole(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }

    /// The pixels of `rect`, row after row. A part that cannot be read is black.
    pub(super) fn pixels(&self, rect: Rect) -> Vec<u8> {
        let row = usize::from(rect.width) * PIXEL;
        let mut pixels = vec![0; row * usize::from(rect.height)];
        let Some(memory) = &self.memory else { return pixels };
        let first = usize::from(rect.y) * self.stride + usize::from(rect.x) * PIXEL;
        if row == self.stride {
            let _short = rustix::io::pread(memory, &mut pixels, first as u64);
            return pixels;
        }
        for (number, line) in pixels.chunks_exact_mut(row).enumerate() {
            let _short = rustix::io::pread(memory, line, (first + number * self.stride) as u64);
        }
        pixels
    }
}

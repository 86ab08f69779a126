//! What of the broker's picture differs from what was recorded of it.

use super::RecorderError;
use nonstop_display::{
    link::{LARGEST, Rect},
    recording::{Record, TILE, tile},
};
use std::os::fd::OwnedFd;

/// The broker's picture, and what was recorded of it.
pub(super) struct Tiles {
    picture: OwnedFd,
    width: u16,
    height: u16,
    stride: usize,
    /// Three bytes a pixel, as a player has it now.
    recorded: Vec<u8>,
    band: Vec<u8>,
}

impl Tiles {
    /// A picture of which nothing was recorded but its size: black.
    pub(super) fn new(
        picture: OwnedFd,
        width: u16,
        height: u16,
        stride: u32,
    ) -> Result<Self, RecorderError> {
        let sane = (1..=LARGEST).contains(&width) && (1..=LARGEST).contains(&height);
        let line = u32::from(width) * 4;
        if !sane || !(line..=u32::from(LARGEST) * 8).contains(&stride) {
            return Err(RecorderError::Broker);
        }
        let recorded = vec![0; usize::from(width) * usize::from(height) * 3];
        let stride = stride as usize;
        let band = vec![0; stride * usize::from(TILE)];
        Ok(Self { picture, width, height, stride, recorded, band })
    }

    /// Its whole.
    pub(super) fn whole(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }

    /// Gives `keep` each tile that `rects` touch and that differs from what was recorded. Whether
    /// there was one.
    pub(super) fn changed(
        &mut self,
        rects: &[Rect],
        keep: &mut dyn FnMut(Record) -> Result<(), RecorderError>,
    ) -> Result<bool, RecorderError> {
        let inside = |r: &Rect| {
            u32::from(r.x) + u32::from(r.width) <= u32::from(self.width)
                && u32::from(r.y) + u32::from(r.height) <= u32::from(self.height)
        };
        if !rects.iter().all(inside) {
            return Err(RecorderError::Broker);
        }
        let mut any = false;
        for row in 0..self.height.div_ceil(TILE) {
            let touched: Vec<u16> = (0..self.width.div_ceil(TILE))
                .filter(|column| rects.iter().any(|rect| touches(rect, *column, row)))
                .collect();
            if touched.is_empty() {
                continue;
            }
            self.read_band(row)?;
            for column in touched {
                let (Ok(column), Ok(row)) = (u8::try_from(column), u8::try_from(row)) else {
                    return Err(RecorderError::Broker);
                };
                if let Some(pixels) = self.take(column, row) {
                    keep(Record::Tile { column, row, pixels })?;
                    any = true;
                }
            }
        }
        Ok(any)
    }

    /// Reads the rows of a row of tiles.
    fn read_band(&mut self, row: u16) -> Result<(), RecorderError> {
        let top = row * TILE;
        let rows = TILE.min(self.height - top);
        let length = self.stride * usize::from(rows - 1) + usize::from(self.width) * 4;
        let mut done = 0;
        while done < length {
            let from = (self.stride * usize::from(top) + done) as u64;
            match rustix::io::pread(&self.picture, &mut self.band[done..length], from) {
                // It is sealed against shrinking, if it is what it should be.
                Ok(0) => return Err(RecorderError::Broker),
                Ok(read) => done += read,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(RecorderError::Broker),
            }
        }
        Ok(())
    }

    /// The pixels of a tile in the band that was read, if they differ; they count as recorded.
    fn take(&mut self, column: u8, row: u8) -> Option<Vec<u8>> {
        let rect = tile(self.width, self.height, column, row)?;
        let line = usize::from(rect.width) * 3;
        let mut pixels = Vec::with_capacity(line * usize::from(rect.height));
        let mut differs = false;
        for y in 0..usize::from(rect.height) {
            let start = y * self.stride + usize::from(rect.x) * 4;
            let shown = &self.band[start..start + usize::from(rect.width) * 4];
            pixels.extend(shown.chunks_exact(4).flat_map(|p| [p[2], p[1], p[0]]));
            let at =
                ((usize::from(rect.y) + y) * usize::from(self.width) + usize::from(rect.x)) * 3;
            let (new, old) = (&pixels[y * line..], &mut self.recorded[at..at + line]);
            if new != old {
                differs = true;
                old.copy_from_slice(new);
            }
        }
        differs.then_some(pixels)
    }
}

fn touches(rect: &Rect, column: u16, row: u16) -> bool {
    let (x, y) = (column * TILE, row * TILE);
    rect.x < x + TILE && x < rect.x + rect.width && rect.y < y + TILE && y < rect.y + rect.height
}

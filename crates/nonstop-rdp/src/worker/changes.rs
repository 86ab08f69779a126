//! What has changed between the picture that a client has and the one that it shall have: a part
//! that moved up or down, and the tiles that differ after that.

use super::screen::PIXEL;
use nonstop_display::link::Rect;
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

/// Side of a tile in pixels.
const TILE: u16 = 64;

/// The widest run of changed tiles that is sent as one, in pixels.
const RUN: u16 = 512;

/// Fewer moved rows than this are not worth a copy.
const FEW: usize = 16;

/// Rows that are found again elsewhere: `height` rows from `to` on stood at `from` before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) from: u16,
    pub(super) to: u16,
    pub(super) height: u16,
}

/// The picture as a client has it.
#[derive(Debug, Default)]
pub(super) struct Copy {
    pub(super) width: u16,
    pub(super) height: u16,
    pixels: Vec<u8>,
}

impl Copy {
    /// A black picture.
    pub(super) fn new(width: u16, height: u16) -> Copy {
        let pixels = vec![0; usize::from(width) * usize::from(height) * PIXEL];
        Copy { width, height, pixels }
    }

    fn row(&self, rect: Rect, y: u16) -> &[u8] {
        let at = self.at(rect.x, rect.y + y);
        &self.pixels[at..at + usize::from(rect.width) * PIXEL]
    }

    fn at(&self, x: u16, y: u16) -> usize {
        (usize::from(y) * usize::from(self.width) + usize::from(x)) * PIXEL
    }

    /// Rows of `rect` that moved, if `new` (its pixels, row after row) looks like a scrolled
    /// `self`. A row counts only where its content is found once.
    pub(super) fn moved(&self, rect: Rect, new: &[u8]) -> Option<Moved> {
        if usize::from(rect.height) < 2 * FEW || rect.width < TILE {
            return None;
        }
        let line = usize::from(rect.width) * PIXEL;
        let before: Vec<u64> = (0..rect.height).map(|y| digest(self.row(rect, y))).collect();
        let after: Vec<u64> = new.chunks_exact(line).map(digest).collect();
        let mut places: HashMap<u64, Option<usize>> = HashMap::new();
        for (y, digest) in before.iter().enumerate() {
            places.entry(*digest).and_modify(|place| *place = None).or_insert(Some(y));
        }
        let mut votes: HashMap<isize, usize> = HashMap::new();
        for (y, digest) in after.iter().enumerate() {
            if before[y] != *digest
                && let Some(Some(place)) = places.get(digest)
            {
                *votes.entry(*place as isize - y as isize).or_default() += 1;
            }
        }
        // Of equals the smaller step, so that the same pictures give the same answer.
        let (step, count) =
            votes.into_iter().max_by_key(|(step, count)| (*count, -step.abs(), *step))?;
        if count < FEW {
            return None;
        }
        let fits = |y: usize| {
            let from = y as isize + step;
            usize::try_from(from).is_ok_and(|from| before.get(from) == Some(&after[y]))
        };
        let (mut best, mut start) = (0..0, 0);
        for y in 0..=after.len() {
            if y < after.len() && fits(y) {
                continue;
            }
            if y - start > best.len() {
                best = start..y;
            }
            start = y + 1;
        }
        if best.len() < FEW {
            return None;
        }
        let row = |y: isize| u16::try_from(y).ok();
        Some(Moved {
            from: row(best.start as isize + step)? + rect.y,
            to: row(best.start as isize)? + rect.y,
            height: row(best.len() as isize)?,
        })
    }

    /// Moves rows within the columns of `rect`, as the client does.
    pub(super) fn move_rows(&mut self, rect: Rect, moved: Moved) {
        let line = usize::from(rect.width) * PIXEL;
        let rows: Vec<u16> = (0..moved.height).collect();
        let order: Box<dyn Iterator<Item = u16>> = if moved.to < moved.from {
            Box::new(rows.into_iter())
        } else {
            Box::new(rows.into_iter().rev())
        };
        for y in order {
            let from = self.at(rect.x, moved.from + y);
            let to = self.at(rect.x, moved.to + y);
            self.pixels.copy_within(from..from + line, to);
        }
    }

    /// Takes `new`, the pixels of `rect`, over; gives the parts that differed (or all of it).
    pub(super) fn take(&mut self, rect: Rect, new: &[u8], all: bool) -> Vec<Rect> {
        let mut changed: Vec<Rect> = Vec::new();
        for y in (0..rect.height).step_by(TILE.into()) {
            let height = TILE.min(rect.height - y);
            for x in (0..rect.width).step_by(TILE.into()) {
                let tile = Rect { x, y, width: TILE.min(rect.width - x), height };
                if !all && self.same(rect, tile, new) {
                    continue;
                }
                let here = Rect { x: rect.x + x, y: rect.y + y, ..tile };
                match changed.last_mut() {
                    Some(last)
                        if last.y == here.y
                            && last.x + last.width == here.x
                            && last.width + here.width <= RUN =>
                    {
                        last.width += here.width;
                    }
                    _ => changed.push(here),
                }
            }
        }
        let line = usize::from(rect.width) * PIXEL;
        for (y, row) in (0..rect.height).zip(new.chunks_exact(line)) {
            let at = self.at(rect.x, rect.y + y);
            self.pixels[at..at + line].copy_from_slice(row);
        }
        changed
    }

    fn same(&self, rect: Rect, tile: Rect, new: &[u8]) -> bool {
        let line = usize::from(rect.width) * PIXEL;
        let bytes = usize::from(tile.width) * PIXEL;
        (tile.y..tile.y + tile.height).all(|y| {
            let at = self.at(rect.x + tile.x, rect.y + y);
            let there = usize::from(y) * line + usize::from(tile.x) * PIXEL;
            self.pixels[at..at + bytes] == new[there..there + bytes]
        })
    }

    /// The pixels of `rect`, row after row.
    pub(super) fn pixels(&self, rect: Rect) -> Vec<u8> {
        (0..rect.height).flat_map(|y| self.row(rect, y)).copied().collect()
    }
}

fn digest(row: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(copy: &Copy) -> Rect {
        Rect { x: 0, y: 0, width: copy.width, height: copy.height }
    }

    /// Rows that all differ, moved up by `by`.
    fn text(width: u16, height: u16, by: u16) -> Vec<u8> {
        let row = |y: u16| {
            (0..width)
                .flat_map(move |x| (u32::from(y + by) * 7919 + u32::from(x) * 31).to_le_bytes())
        };
        (0..height).flat_map(row).collect()
    }

    #[test]
    fn a_scrolled_text_is_a_copy_and_its_new_lines() {
        let mut copy = Copy::new(640, 400);
        let all = whole(&copy);
        copy.take(all, &text(640, 400, 0), true);
        let new = text(640, 400, 16);
        let moved = copy.moved(all, &new).expect("it moved");
        assert_eq!(moved, Moved { from: 16, to: 0, height: 384 });
        copy.move_rows(all, moved);
        let changed = copy.take(all, &new, false);
        assert!(changed.iter().all(|rect| rect.y >= 384), "{changed:?}");
        assert_eq!(copy.pixels(all), new);
    }

    #[test]
    fn what_is_the_same_is_not_sent_again() {
        let mut copy = Copy::new(300, 200);
        let all = whole(&copy);
        let picture = text(300, 200, 0);
        copy.take(all, &picture, true);
        assert_eq!(copy.moved(all, &picture), None);
        assert!(copy.take(all, &picture, false).is_empty());
    }

    proptest! {
        /// Whatever is shown one after another: the client that follows has the last picture.
        #[test]
        fn who_follows_has_the_picture(
            pictures in prop::collection::vec((0u16..90, 0u16..120, 1u16..70, 1u16..80, 0u16..60), 1..6)
        ) {
            let (mut ours, mut theirs) = (Copy::new(160, 200), Copy::new(160, 200));
            for (x, y, width, height, by) in pictures {
                let rect = Rect { x, y, width, height };
                let new = text(width, height, by);
                if let Some(moved) = ours.moved(rect, &new) {
                    ours.move_rows(rect, moved);
                    theirs.move_rows(rect, moved);
                }
                for part in ours.take(rect, &new, false) {
                    theirs.take(part, &ours.pixels(part), true);
                }
                prop_assert_eq!(&ours.pixels, &theirs.pixels);
            }
        }
    }
}

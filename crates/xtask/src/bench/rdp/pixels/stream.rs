//! The data that is painted, and the program that finds it on a screen.
//!
//! A number of pictures of noise from a known seed, round and round. Each pixel carries three bytes,
//! since what our desktops show is shown without loss. The first pixel of a row tells which picture
//! it is of; the others must be that picture's, or the row counts for nothing. So a picture that
//! is half of one and half of the next is worth as much as a whole one.

use anyhow::Result;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

/// Pixels of a row.
pub(super) const WIDTH: u16 = 1280;

/// Rows of a picture.
pub(super) const HEIGHT: u16 = 800;

/// What is known to both sides: the key's first byte, the others being 0.
pub(super) const SEED: u8 = 7;

/// Bytes that a row carries.
const CARRIED: u64 = 3 * WIDTH as u64;

const ROW: usize = WIDTH as usize * 4;

/// Bytes that a picture carries.
pub(super) const PICTURE: u64 = CARRIED * HEIGHT as u64;

/// The pictures, as a screen shows them.
pub(super) struct Stream {
    pixels: Vec<u8>,
    pictures: u8,
}

impl Stream {
    /// So many pictures, whose unused bytes, one a pixel, are all `unused`.
    pub(super) fn new(pictures: u8, unused: u8) -> Stream {
        let mut seed = [0; 32];
        seed[0] = SEED;
        let mut pixels = vec![0; usize::from(pictures) * usize::from(HEIGHT) * ROW];
        ChaCha20Rng::from_seed(seed).fill_bytes(&mut pixels);
        let mut at = 3;
        while at < pixels.len() {
            pixels[at] = unused;
            at += 4;
        }
        Stream { pixels, pictures }
    }

    /// A row of a picture.
    fn row(&self, picture: u8, y: u16) -> &[u8] {
        let at = (usize::from(picture) * usize::from(HEIGHT) + usize::from(y)) * ROW;
        &self.pixels[at..at + ROW]
    }

    /// The picture of which this row begins with `pixel`.
    fn picture(&self, y: u16, pixel: &[u8]) -> Option<u8> {
        (0..self.pictures).find(|picture| self.row(*picture, y)[..4] == *pixel)
    }
}

/// Reads a screen again and again, and counts what it finds.
pub(super) struct Decoder<'a> {
    stream: &'a Stream,
    /// The picture of which each row was found last.
    found: Vec<Option<u8>>,
    /// Rows found so far.
    pub(super) rows: u64,
}

impl Decoder<'_> {
    /// One that has found nothing yet.
    pub(super) fn new(stream: &Stream) -> Decoder<'_> {
        Decoder { stream, found: vec![None; usize::from(HEIGHT)], rows: 0 }
    }

    /// Looks once, by `part`, which gives so many pixels from this row's first on. A row counts if it
    /// is of another picture than when it was last found, and wholly that picture's.
    pub(super) fn look(&mut self, part: impl Fn(u16, u16) -> Result<Vec<u8>>) -> Result<()> {
        for y in 0..HEIGHT {
            let found = &mut self.found[usize::from(y)];
            let first = part(y, 1)?;
            if found.is_some_and(|found| self.stream.row(found, y)[..4] == first) {
                continue;
            }
            let Some(picture) = self.stream.picture(y, &first) else { continue };
            if part(y, WIDTH)? == self.stream.row(picture, y) {
                *found = Some(picture);
                self.rows += 1;
            }
        }
        Ok(())
    }

    /// Bytes found so far.
    pub(super) fn bytes(&self) -> u64 {
        self.rows * CARRIED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A screen that shows `rows`.
    fn shows(rows: &[u8]) -> impl Fn(u16, u16) -> Result<Vec<u8>> + '_ {
        |y, pixels| {
            let at = usize::from(y) * ROW;
            Ok(rows[at..at + usize::from(pixels) * 4].to_vec())
        }
    }

    fn picture(stream: &Stream, n: usize) -> Vec<u8> {
        let length = ROW * usize::from(HEIGHT);
        stream.pixels[n * length..(n + 1) * length].to_vec()
    }

    #[test]
    fn the_noise_is_what_openssl_makes_of_that_key() {
        // head -c 1024 /dev/zero | openssl enc -chacha20 -K 07 -iv 0 | od -A d -t x1
        let stream = Stream::new(1, 0xff);
        // f1 9e e3 b9 65 42 98 44 e4 96 af 30, but for what a screen does not keep.
        let begin = [0xf1, 0x9e, 0xe3, 0xff, 0x65, 0x42, 0x98, 0xff, 0xe4, 0x96, 0xaf, 0xff];
        assert_eq!(stream.row(0, 0)[..12], begin);
    }

    #[test]
    fn what_was_painted_counts_once() {
        let stream = Stream::new(2, 0);
        let mut decoder = Decoder::new(&stream);
        let (first, second) = (picture(&stream, 0), picture(&stream, 1));
        for (screen, rows) in [(&first, 800), (&first, 800), (&second, 1600), (&first, 2400)] {
            decoder.look(shows(screen)).expect("readable");
            assert_eq!(decoder.rows, rows);
        }
        assert_eq!(decoder.bytes(), 2400 * 3840);
    }

    #[test]
    fn a_row_that_is_not_wholly_there_counts_for_nothing() {
        let stream = Stream::new(2, 0);
        let mut decoder = Decoder::new(&stream);
        decoder.look(shows(&vec![0; ROW * usize::from(HEIGHT)])).expect("readable");
        assert_eq!(decoder.rows, 0);
        // The upper half is the next picture, and of one row the left half.
        let (mut screen, next) = (picture(&stream, 0), picture(&stream, 1));
        screen[..400 * ROW + ROW / 2].copy_from_slice(&next[..400 * ROW + ROW / 2]);
        decoder.look(shows(&screen)).expect("readable");
        assert_eq!(decoder.rows, 799);
        decoder.look(shows(&next)).expect("readable");
        assert_eq!(decoder.rows, 799 + 400);
    }
}

//! The picture that is shown while there is none of the machine: it is off.
//!
//! The words were drawn once (Noto Sans CJK JP, 24 points) into a bitmap, so that no font is
//! opened at run time.

/// A PBM (P4): one bit a pixel, set where ink is.
const WORDS: &[u8] = include_bytes!("card.pbm");

/// Where the bits begin, after `P4`, width and height.
const HEADER: &[u8] = b"P4\n480 80\n";

const WIDTH: usize = 480;
const HEIGHT: usize = 80;

/// Blue, green, red, unused.
const PAPER: [u8; 4] = [0x22, 0x1c, 0x18, 0];
const INK: [u8; 4] = [0xc8, 0xc0, 0xb8, 0];

/// Draws the card over a whole picture of `width` pixels a row, four bytes a pixel.
pub fn draw(pixels: &mut [u8], width: usize) {
    blank(pixels);
    let height = pixels.len() / 4 / width.max(1);
    let (left, top) = (width.saturating_sub(WIDTH) / 2, height.saturating_sub(HEIGHT) / 2);
    // Of a picture too small for them, the middle of the words.
    let (skip_x, skip_y) = (WIDTH.saturating_sub(width) / 2, HEIGHT.saturating_sub(height) / 2);
    let bits = &WORDS[HEADER.len()..];
    for y in 0..HEIGHT.min(height) {
        for x in 0..WIDTH.min(width) {
            let (bit_x, bit_y) = (x + skip_x, y + skip_y);
            if bits[bit_y * WIDTH / 8 + bit_x / 8] >> (7 - bit_x % 8) & 1 == 1 {
                let at = ((top + y) * width + left + x) * 4;
                pixels[at..at + 4].copy_from_slice(&INK);
            }
        }
    }
}

/// Paints a whole picture in the card's dark, without words: a machine whose screen is dark.
pub fn blank(pixels: &mut [u8]) {
    for pixel in pixels.chunks_exact_mut(4) {
        pixel.copy_from_slice(&PAPER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_stand_in_the_middle_of_any_picture() {
        assert!(WORDS.starts_with(HEADER));
        assert_eq!(WORDS.len(), HEADER.len() + WIDTH / 8 * HEIGHT);
        for (width, height) in [(1024, 768), (1, 1), (4096, 8), (300, 40)] {
            let mut pixels = vec![0xff; width * height * 4];
            draw(&mut pixels, width);
            assert!(pixels.chunks_exact(4).all(|p| p == PAPER || p == INK));
        }
        let mut pixels = vec![0; 1024 * 768 * 4];
        draw(&mut pixels, 1024);
        let ink = pixels.chunks_exact(4).filter(|p| *p == INK).count();
        assert!((2_000..20_000).contains(&ink), "{ink}");
    }
}

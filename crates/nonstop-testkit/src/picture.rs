//! Pictures of a screen: read from an X server's framebuffer, measured, kept as PNG.

use anyhow::{Context, Result, bail};
use std::{fs, io::BufWriter, path::Path};

/// A colour: red, green, blue.
pub type Rgb = [u8; 3];

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<Rgb>,
}

impl Picture {
    /// A picture of `width` by `height` pixels, each of which `colour_at(x, y)` gives.
    pub fn paint(width: usize, height: usize, colour_at: impl Fn(usize, usize) -> Rgb) -> Picture {
        let pixels = (0..width * height).map(|n| colour_at(n % width, n / width)).collect();
        Picture { width, height, pixels }
    }

    /// The picture in an X window dump, as `Xvfb -fbdir` keeps its screen.
    ///
    /// Errors: not a dump of a 32-bit true-colour screen, or cut off.
    pub fn from_xwd(bytes: &[u8]) -> Result<Picture> {
        let word = |n: usize| -> Result<usize> {
            let four = bytes.get(4 * n..4 * n + 4).context("the window dump is cut off")?;
            Ok(u32::from_be_bytes(four.try_into()?) as usize)
        };
        let (header, version, width, height) = (word(0)?, word(1)?, word(4)?, word(5)?);
        let (big_endian, bits, stride, colours) = (word(7)? == 1, word(11)?, word(12)?, word(19)?);
        if version != 7 || bits != 32 || word(14)? != 0xff_0000 || width * 4 > stride {
            bail!("not a window dump of a 32-bit screen: version {version}, {bits} bits");
        }
        let start = header + colours * 12;
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            let line = start + y * stride;
            let line = bytes.get(line..line + 4 * width).context("the window dump is cut off")?;
            pixels.extend(
                line.chunks_exact(4)
                    .map(|p| if big_endian { [p[1], p[2], p[3]] } else { [p[2], p[1], p[0]] }),
            );
        }
        Ok(Picture { width, height, pixels })
    }

    /// Reads a PNG with 8 bits a colour.
    pub fn read_png(path: &Path) -> Result<Picture> {
        let file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info()?;
        let mut bytes = vec![0; reader.output_buffer_size().context("the picture is too large")?];
        let info = reader.next_frame(&mut bytes)?;
        let samples = info.color_type.samples();
        if info.bit_depth != png::BitDepth::Eight || samples < 3 {
            bail!("{} is not an 8-bit colour picture", path.display());
        }
        let pixels = bytes[..info.buffer_size()].chunks_exact(samples);
        Ok(Picture {
            width: info.width as usize,
            height: info.height as usize,
            pixels: pixels.map(|p| [p[0], p[1], p[2]]).collect(),
        })
    }

    /// Writes the picture as PNG.
    pub fn write_png(&self, path: &Path) -> Result<()> {
        let file = fs::File::create(path).with_context(|| format!("open {}", path.display()))?;
        let (width, height) = (u32::try_from(self.width)?, u32::try_from(self.height)?);
        let mut encoder = png::Encoder::new(BufWriter::new(file), width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let bytes: Vec<u8> = self.pixels.iter().flatten().copied().collect();
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&bytes))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The colour of a pixel inside the picture.
    pub fn get(&self, x: usize, y: usize) -> Option<Rgb> {
        let inside = x < self.width && y < self.height;
        inside.then(|| self.pixels[y * self.width + x])
    }

    /// Number of pixels for which `is` holds.
    pub fn count(&self, is: impl Fn(Rgb) -> bool) -> usize {
        self.pixels.iter().filter(|p| is(**p)).count()
    }

    /// Share of pixels, 0 to 1, for which `is` holds.
    pub fn share(&self, is: impl Fn(Rgb) -> bool) -> f64 {
        self.count(is) as f64 / self.pixels.len().max(1) as f64
    }

    /// The most frequent colour, counted in steps of 8 so that a lossy transport does not
    /// split it, and its share.
    pub fn main_colour(&self) -> (Rgb, f64) {
        let mut counts = vec![0u32; 1 << 15];
        for [r, g, b] in &self.pixels {
            let bucket = (*r as usize >> 3) << 10 | (*g as usize >> 3) << 5 | *b as usize >> 3;
            counts[bucket] += 1;
        }
        let (bucket, count) = counts.iter().enumerate().max_by_key(|(_, n)| **n).unwrap_or((0, &0));
        let channel = |shift: usize| ((bucket >> shift & 31) << 3) as u8;
        let share = f64::from(*count) / self.pixels.len().max(1) as f64;
        ([channel(10), channel(5), channel(0)], share)
    }

    /// Share of pixels that differ from those of `other`; 1 when the sizes do.
    pub fn difference(&self, other: &Picture) -> f64 {
        if self.size() != other.size() {
            return 1.0;
        }
        let pairs = self.pixels.iter().zip(&other.pixels);
        pairs.filter(|(a, b)| a != b).count() as f64 / self.pixels.len().max(1) as f64
    }
}

/// Whether two colours are the same to within `tolerance` in each channel.
pub fn near(a: Rgb, b: Rgb, tolerance: u8) -> bool {
    a.iter().zip(b).all(|(x, y)| x.abs_diff(y) <= tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(width: u32, height: u32, pixels: &[[u8; 4]]) -> Vec<u8> {
        let mut words = [0u32; 25];
        (words[0], words[1], words[4], words[5]) = (100, 7, width, height);
        (words[11], words[12], words[14], words[19]) = (32, 4 * width, 0xff_0000, 1);
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        bytes.extend([0; 12]);
        bytes.extend(pixels.iter().flatten());
        bytes
    }

    #[test]
    fn a_window_dump_is_read_and_kept() {
        let bytes = dump(2, 1, &[[3, 2, 1, 0], [255, 0, 0, 0]]);
        let picture = Picture::from_xwd(&bytes).expect("valid");
        assert_eq!(picture.pixels, [[1, 2, 3], [0, 0, 255]]);
        let file = tempfile::NamedTempFile::new().expect("room");
        picture.write_png(file.path()).expect("room");
        assert_eq!(Picture::read_png(file.path()).expect("valid"), picture);
        Picture::from_xwd(&bytes[..bytes.len() - 1]).expect_err("cut off");
    }
}

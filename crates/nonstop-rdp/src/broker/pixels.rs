//! Pixel formats of QEMU's surfaces, and rows of them made ours.

/// How the bytes of a pixel lie. Ours is blue, green, red, unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Ours: x8r8g8b8, a8r8g8b8.
    Bgrx,
    /// b8g8r8x8, b8g8r8a8.
    Xrgb,
    /// x8b8g8r8, a8b8g8r8.
    Rgbx,
    /// r8g8b8x8, r8g8b8a8.
    Xbgr,
    /// r8g8b8, three bytes.
    Bgr,
    /// r5g6b5, two bytes.
    Rgb565,
    /// x1r5g5b5, two bytes.
    Rgb555,
}

impl Format {
    /// By pixman's number (pixman.h: bits a pixel, type, and bits of alpha, red, green, blue).
    pub fn of(pixman: u32) -> Option<Self> {
        Some(match pixman {
            0x2002_0888 | 0x2002_8888 => Self::Bgrx,
            0x2008_0888 | 0x2008_8888 => Self::Xrgb,
            0x2003_0888 | 0x2003_8888 => Self::Rgbx,
            0x2009_0888 | 0x2009_8888 => Self::Xbgr,
            0x1802_0888 => Self::Bgr,
            0x1002_0565 => Self::Rgb565,
            0x1002_0555 => Self::Rgb555,
            _ => return None,
        })
    }

    /// Bytes of a pixel.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bgrx | Self::Xrgb | Self::Rgbx | Self::Xbgr => 4,
            Self::Bgr => 3,
            Self::Rgb565 | Self::Rgb555 => 2,
        }
    }

    /// Makes whole pixels of `from` ours, in `to`: as many as both hold.
    pub fn convert(self, from: &[u8], to: &mut [u8]) {
        if self == Self::Bgrx {
            let length = from.len().min(to.len());
            return to[..length].copy_from_slice(&from[..length]);
        }
        for (from, to) in from.chunks_exact(self.bytes()).zip(to.chunks_exact_mut(4)) {
            let wide = |value: u16, bits: u32| {
                let most = (1u32 << bits) - 1;
                // At most 255.
                (((u32::from(value) & most) * 255 + most / 2) / most) as u8
            };
            let [blue, green, red] = match (self, from) {
                (Self::Xrgb, [_, r, g, b]) | (Self::Rgbx, [r, g, b, _]) => [*b, *g, *r],
                (Self::Bgrx, [b, g, r, _])
                | (Self::Xbgr, [_, b, g, r])
                | (Self::Bgr, [b, g, r]) => [*b, *g, *r],
                (_, [low, high]) => {
                    let all = u16::from_le_bytes([*low, *high]);
                    if self == Self::Rgb565 {
                        [wide(all, 5), wide(all >> 5, 6), wide(all >> 11, 5)]
                    } else {
                        [wide(all, 5), wide(all >> 5, 5), wide(all >> 10, 5)]
                    }
                }
                _ => [0; 3],
            };
            to.copy_from_slice(&[blue, green, red, 0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_red_pixel_of_every_format_is_red() {
        for (pixman, bytes) in [
            (0x2002_0888, &[0, 0, 255, 0][..]),
            (0x2008_0888, &[0, 255, 0, 0]),
            (0x2003_0888, &[255, 0, 0, 0]),
            (0x2009_0888, &[0, 0, 0, 255]),
            (0x1802_0888, &[0, 0, 255]),
            (0x1002_0565, &[0, 0xf8]),
            (0x1002_0555, &[0, 0x7c]),
        ] {
            let format = Format::of(pixman).expect("known");
            assert_eq!(format.bytes(), bytes.len());
            let mut ours = [9; 4];
            format.convert(bytes, &mut ours);
            assert_eq!(ours, [0, 0, 255, 0], "{format:?}");
        }
        assert_eq!(Format::of(0), None);
    }
}

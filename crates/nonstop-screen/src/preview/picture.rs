//! A picture, decoded within bounds and encoded anew.

use super::Shown;
use crate::input::Bytes;
use image::{ExtendedColorType, ImageEncoder, ImageFormat, ImageReader, Limits, codecs::png};
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// The longest side that is shown, in pixels.
const LONGEST_SIDE: u32 = 1024;
/// The longest side of a picture that is decoded.
const LARGEST_SIDE: u32 = 32_768;

/// The picture in `bytes`, which are of `kind`; None if it cannot be shown with `memory` bytes.
pub(super) fn shown(bytes: &(impl Bytes + ?Sized), kind: &str, memory: u64) -> Option<Shown> {
    let format = match kind {
        "png" => ImageFormat::Png,
        "jpeg" => ImageFormat::Jpeg,
        "gif" => ImageFormat::Gif,
        "webp" => ImageFormat::WebP,
        "bmp" => ImageFormat::Bmp,
        _ => return None,
    };
    let source = BufReader::new(Source { bytes, at: 0 });
    let mut reader = ImageReader::with_format(source, format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(memory);
    reader.limits(limits);
    let picture = reader.decode().ok()?;
    let (width, height) = (picture.width(), picture.height());
    let small = match width.max(height) > LONGEST_SIDE {
        true => picture.thumbnail(LONGEST_SIDE, LONGEST_SIDE),
        false => picture,
    };
    let small = small.into_rgba8();
    let mut png = Vec::new();
    let encoder = png::PngEncoder::new(&mut png);
    let (across, down) = small.dimensions();
    encoder.write_image(&small, across, down, ExtendedColorType::Rgba8).ok()?;
    Some(Shown::Picture { width, height, png })
}

/// Bytes as a file to read from.
struct Source<'a, B: ?Sized> {
    bytes: &'a B,
    at: u64,
}

impl<B: Bytes + ?Sized> Read for Source<'_, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.bytes.read_at(self.at, buffer)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<B: Bytes + ?Sized> Seek for Source<'_, B> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::other("before the begin"))?;
        Ok(self.at)
    }
}

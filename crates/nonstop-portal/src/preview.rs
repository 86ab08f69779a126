//! What a reviewer sees of a file: made anew from it by a program without rights, and here once
//! more made harmless, so that not even that program, taken over, reaches the reviewer's browser.
//!
//! Text becomes text: what does not show is written as its number. A picture is decoded and encoded
//! anew, pixels alone.

use nonstop_api::PreviewView;
use nonstop_model::text::is_hidden;
use std::io::{Cursor, Read, Seek};

/// The most bytes that a picture may come as.
const PICTURE_BYTES: u64 = 8 << 20;

/// The longest side of a picture in pixels.
const LONGEST_SIDE: u32 = 2048;

/// Bytes of a line of hex.
const LINE: usize = 16;

/// A text in pieces, those that show and those that do not in turn.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pieces(pub(crate) Vec<Piece>);

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// What can be read.
    Shown(String),
    /// One character that cannot, as its number.
    Hidden(String),
}

impl Pieces {
    /// `text` in pieces. Ends of lines are one thing, however they were written.
    pub(crate) fn of(text: &str) -> Pieces {
        let (mut pieces, mut shown) = (Vec::new(), String::new());
        for c in text.replace("\r\n", "\n").chars() {
            if is_hidden(c) {
                if !shown.is_empty() {
                    pieces.push(Piece::Shown(std::mem::take(&mut shown)));
                }
                pieces.push(Piece::Hidden(format!("U+{:04X}", u32::from(c))));
            } else {
                shown.push(c);
            }
        }
        if !shown.is_empty() {
            pieces.push(Piece::Shown(shown));
        }
        Pieces(pieces)
    }

    /// How many characters do not show.
    pub(crate) fn hidden(&self) -> usize {
        self.0.iter().filter(|piece| matches!(piece, Piece::Hidden(_))).count()
    }
}

/// What a file looks like, ready for a page.
#[derive(Debug)]
pub(crate) enum Preview {
    /// Its beginning.
    Text { encoding: String, text: Pieces, cut: bool },
    /// Its first rows.
    Table { rows: Vec<Vec<Pieces>>, hidden: usize, cut: bool },
    /// A picture, which is fetched by itself.
    Picture { width: u32, height: u32 },
    /// Its first bytes, a line each: where, hex, and what of them is ASCII.
    Bytes(Vec<(String, String, String)>),
    /// There is none, as the lab says.
    None(String),
    /// It could not be made.
    Failed,
}

impl Preview {
    /// What the page shows of `seen`.
    pub(crate) fn of(seen: PreviewView) -> Preview {
        match seen {
            PreviewView::Text { encoding, text, cut } => {
                Preview::Text { encoding, text: Pieces::of(&text), cut }
            }
            PreviewView::Table { rows, cut } => {
                let rows: Vec<Vec<Pieces>> = rows
                    .iter()
                    .map(|row| row.iter().map(|cell| Pieces::of(cell)).collect())
                    .collect();
                let hidden = rows.iter().flatten().map(Pieces::hidden).sum();
                Preview::Table { rows, hidden, cut }
            }
            PreviewView::Picture { width, height } => Preview::Picture { width, height },
            PreviewView::Bytes { hex } => {
                Preview::Bytes(lines(&hex::decode(hex).unwrap_or_default()))
            }
            PreviewView::None { why } => Preview::None(why),
        }
    }
}

fn lines(bytes: &[u8]) -> Vec<(String, String, String)> {
    let line = |(number, part): (usize, &[u8])| {
        let hex: Vec<_> = part.iter().map(|b| format!("{b:02x}")).collect();
        let ascii = part.iter().map(|b| if (32..127).contains(b) { char::from(*b) } else { '.' });
        (format!("{:04x}", number * LINE), hex.join(" "), ascii.collect())
    };
    bytes.chunks(LINE).enumerate().map(line).collect()
}

/// The picture in `file`, a PNG, as another PNG of the same pixels and nothing else: one frame, no
/// text, no profile, no chunk that a viewer would have to understand. None if it is no PNG, too
/// large, or broken.
pub(crate) fn picture_anew(mut file: impl Read + Seek) -> Option<Vec<u8>> {
    file.rewind().ok()?;
    let mut bytes = Vec::new();
    file.take(PICTURE_BYTES + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > PICTURE_BYTES {
        return None;
    }
    let limits = png::Limits { bytes: 64 << 20 };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().ok()?;
    if reader.info().width.max(reader.info().height) > LONGEST_SIDE {
        return None;
    }
    let mut pixels = vec![0; reader.output_buffer_size()?];
    let frame = reader.next_frame(&mut pixels).ok()?;
    pixels.truncate(frame.buffer_size());
    let mut anew = Vec::new();
    let mut encoder = png::Encoder::new(&mut anew, frame.width, frame.height);
    encoder.set_color(frame.color_type);
    encoder.set_depth(frame.bit_depth);
    encoder.set_compression(png::Compression::Fast);
    encoder.write_header().ok()?.write_image_data(&pixels).ok()?;
    Some(anew)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png_with(side: u32, text: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side, 1);
        encoder.set_color(png::ColorType::Rgb);
        if text {
            encoder.add_text_chunk("Comment".into(), "<script>".into()).expect("a chunk");
        }
        let pixels = vec![7; side as usize * 3];
        encoder.write_header().expect("made").write_image_data(&pixels).expect("made");
        bytes
    }

    #[test]
    fn a_picture_comes_as_its_pixels_alone() {
        let anew = picture_anew(Cursor::new(png_with(5, true))).expect("a picture");
        assert!(!anew.windows(8).any(|part| part == b"<script>"));
        let chunks = ["IHDR", "IDAT", "IEND"];
        let mut at = 8;
        while at < anew.len() {
            let length = u32::from_be_bytes(anew[at..at + 4].try_into().expect("four"));
            let kind = std::str::from_utf8(&anew[at + 4..at + 8]).expect("ASCII");
            assert!(chunks.contains(&kind), "{kind}");
            at += 12 + length as usize;
        }
        let mut reader = png::Decoder::new(Cursor::new(&anew)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
        assert_eq!(reader.next_frame(&mut pixels).expect("whole").width, 5);
        assert_eq!(pixels, [7; 15]);
    }

    #[test]
    fn what_is_no_picture_or_too_large_a_one_is_none() {
        assert_eq!(picture_anew(Cursor::new(b"<html>".to_vec())), None);
        assert_eq!(picture_anew(Cursor::new(png_with(LONGEST_SIDE + 1, false))), None);
        let mut torn = png_with(5, false);
        torn.truncate(torn.len() - 20);
        assert_eq!(picture_anew(Cursor::new(torn)), None);
        let long = vec![0; usize::try_from(PICTURE_BYTES).expect("small") + 1];
        assert_eq!(picture_anew(Cursor::new(long)), None);
    }

    #[test]
    fn what_does_not_show_is_told_by_number() {
        let pieces = Pieces::of("a\u{202e}b\r\nc\u{200b}");
        let (shown, hidden) = (|t: &str| Piece::Shown(t.into()), |t: &str| Piece::Hidden(t.into()));
        assert_eq!(pieces.0, [shown("a"), hidden("U+202E"), shown("b\nc"), hidden("U+200B")]);
        assert_eq!(pieces.hidden(), 2);
    }

    #[test]
    fn bytes_are_shown_a_line_each() {
        assert_eq!(
            lines(b"\x7fELF\0<script>alert")[1],
            ("0010".into(), "72 74".into(), "rt".into())
        );
    }
}

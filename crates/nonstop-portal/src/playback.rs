//! Looking at a recording: one picture of it with what was typed then, or a while of it as an
//! animated PNG, which a browser plays without scripts.
//!
//! A recording is read from its beginning each time: nothing of it stays in the portal.

use nonstop_display::{
    link::{Button, Input, Rect},
    recording::{Frame, Moment, Playback, RecordingError},
};
use std::{fs::File, io::BufReader};

/// The most pictures of a film.
const FILM: usize = 120;

/// The most bytes of pixels in a film, before they are compressed.
const FILM_BYTES: usize = 64 << 20;

/// The longest that a film shows one picture, in milliseconds: nothing happens, faster.
const LONGEST_MS: u64 = 2000;

/// The most events beside a picture.
const EVENTS: usize = 500;

/// A picture of a recording, and where in it that is.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Its number, from 1.
    pub(crate) number: usize,
    /// How many there are.
    pub(crate) pictures: usize,
    /// When it was shown, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// Pixels.
    pub(crate) width: u16,
    /// Pixels.
    pub(crate) height: u16,
    /// What was typed from then on until the next, with times.
    pub(crate) typed: Vec<(u64, String)>,
    /// Whether a part of the recording is missing.
    pub(crate) lost: bool,
    /// Whether it ended because it had as many bytes as it may have.
    pub(crate) full: bool,
}

/// The picture `number`, or the nearest that there is.
pub(crate) fn look(stream: File, number: usize) -> Result<Look, RecordingError> {
    let mut playback = Playback::new(BufReader::new(stream));
    let mut look = Look::default();
    while let Some(moment) = playback.next_moment()? {
        match moment {
            Moment::Shown { at_ms, .. } => {
                look.pictures += 1;
                // The last one stands for those behind it.
                if look.pictures <= number.max(1) {
                    let (width, height) = (playback.frame().width, playback.frame().height);
                    (look.number, look.at_ms) = (look.pictures, at_ms);
                    (look.width, look.height) = (width, height);
                    look.typed.clear();
                }
            }
            Moment::Typed { at_ms, input } => {
                if look.number == look.pictures && look.typed.len() < EVENTS {
                    look.typed.extend(word(input).map(|word| (at_ms, word)));
                }
            }
            Moment::Lost => look.lost = true,
            Moment::Full => look.full = true,
        }
    }
    Ok(look)
}

/// The picture `number` as PNG; None if there is none.
pub(crate) fn picture(stream: File, number: usize) -> Result<Option<Vec<u8>>, RecordingError> {
    let mut playback = Playback::new(BufReader::new(stream));
    let mut left = number.max(1);
    while let Some(moment) = playback.next_moment()? {
        if let Moment::Shown { .. } = moment {
            left -= 1;
            if left == 0 {
                let shown = playback.with_pointer();
                let whole = Rect { x: 0, y: 0, width: shown.width, height: shown.height };
                return Ok(Some(png(&[Part { rect: whole, rgb: shown.rgb, shown_ms: 0 }])?));
            }
        }
    }
    Ok(None)
}

/// The pictures from `number` on, until there are many or the size changes, as a PNG that moves;
/// None if there is none.
pub(crate) fn film(stream: File, number: usize) -> Result<Option<Vec<u8>>, RecordingError> {
    let mut playback = Playback::new(BufReader::new(stream));
    let (mut parts, mut seen, mut bytes): (Vec<Part>, usize, usize) = (Vec::new(), 0, 0);
    let mut before: Option<(Frame, u64)> = None;
    while let Some(moment) = playback.next_moment()? {
        let Moment::Shown { at_ms, resized, .. } = moment else { continue };
        seen += 1;
        if seen < number.max(1) {
            continue;
        }
        let shown = playback.with_pointer();
        let whole = Rect { x: 0, y: 0, width: shown.width, height: shown.height };
        let rect = match (&before, parts.last_mut()) {
            (Some(_), _) if resized => break,
            (Some((frame, since)), Some(last)) => {
                last.shown_ms = at_ms.saturating_sub(*since).clamp(40, LONGEST_MS);
                differing(frame, &shown)
            }
            _ => whole,
        };
        let rgb = shown.part(rect);
        bytes += rgb.len();
        parts.push(Part { rect, rgb, shown_ms: LONGEST_MS });
        before = Some((shown, at_ms));
        if parts.len() == FILM || bytes > FILM_BYTES {
            break;
        }
    }
    if parts.is_empty() { Ok(None) } else { png(&parts).map(Some) }
}

/// How many pictures the film from `number` on has at most.
pub(crate) fn after_film(number: usize) -> usize {
    number.saturating_add(FILM)
}

/// A picture of a film: what differs from the one before, and how long it is shown.
struct Part {
    rect: Rect,
    rgb: Vec<u8>,
    shown_ms: u64,
}

fn png(parts: &[Part]) -> Result<Vec<u8>, RecordingError> {
    let wrong = |e: png::EncodingError| RecordingError::Io(e.into());
    let mut bytes = Vec::new();
    let Some(first) = parts.first() else { return Ok(bytes) };
    let (width, height) = (first.rect.width.into(), first.rect.height.into());
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let moves = parts.len() > 1;
    if moves {
        let pictures = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        encoder.set_animated(pictures, 1).map_err(wrong)?;
        encoder.set_blend_op(png::BlendOp::Source).map_err(wrong)?;
        encoder.set_dispose_op(png::DisposeOp::None).map_err(wrong)?;
    }
    let mut writer = encoder.write_header().map_err(wrong)?;
    for part in parts {
        if moves {
            let shown = u16::try_from(part.shown_ms).unwrap_or(u16::MAX);
            // A frame lies inside the picture at every moment: it is made small first.
            writer.set_frame_position(0, 0).map_err(wrong)?;
            writer
                .set_frame_dimension(part.rect.width.into(), part.rect.height.into())
                .map_err(wrong)?;
            writer.set_frame_position(part.rect.x.into(), part.rect.y.into()).map_err(wrong)?;
            writer.set_frame_delay(shown, 1000).map_err(wrong)?;
        }
        writer.write_image_data(&part.rgb).map_err(wrong)?;
    }
    writer.finish().map_err(wrong)?;
    Ok(bytes)
}

/// The smallest part in which pictures of one size differ; a pixel where they do not.
fn differing(a: &Frame, b: &Frame) -> Rect {
    let line = usize::from(a.width) * 3;
    let differs = |(_, (a, b)): &(u16, (&[u8], &[u8]))| a != b;
    let rows = || (0..a.height).zip(a.rgb.chunks_exact(line).zip(b.rgb.chunks_exact(line)));
    let (Some((top, _)), Some((bottom, _))) = (rows().find(differs), rows().rev().find(differs))
    else {
        return Rect { x: 0, y: 0, width: 1, height: 1 };
    };
    let (mut left, mut right) = (a.width - 1, 0);
    for (_, (a, b)) in rows().filter(differs) {
        let mut pixels = (0..).zip(a.chunks_exact(3).zip(b.chunks_exact(3)));
        let first = pixels.find(|(_, (a, b))| a != b).map(|(x, _)| x);
        let last = pixels.filter(|(_, (a, b))| a != b).last().map(|(x, _)| x).or(first);
        (left, right) = (left.min(first.unwrap_or(left)), right.max(last.unwrap_or(right)));
    }
    Rect { x: left, y: top, width: right - left + 1, height: bottom - top + 1 }
}

/// What was typed, in the letters on the keys of a US keyboard; nothing for a key let go.
fn word(input: Input) -> Option<String> {
    match input {
        Input::Key { down: false, .. } | Input::Button { down: false, .. } => None,
        Input::Key { qnum, down: true } => Some(key(qnum)),
        Input::Button { button, down: true } => Some(match button {
            Button::Left => "Mouse left".into(),
            Button::Middle => "Mouse middle".into(),
            Button::Right => "Mouse right".into(),
            Button::Side => "Mouse back".into(),
            Button::Extra => "Mouse forward".into(),
            Button::WheelUp => "Wheel up".into(),
            Button::WheelDown => "Wheel down".into(),
        }),
        Input::Pointer { x, y } => Some(format!("→ {x}, {y}")),
    }
}

/// The keys of an AT keyboard (set 1), by number.
const KEYS: [&str; 89] = [
    "",
    "Esc",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "0",
    "-",
    "=",
    "Backspace",
    "Tab",
    "q",
    "w",
    "e",
    "r",
    "t",
    "y",
    "u",
    "i",
    "o",
    "p",
    "[",
    "]",
    "Enter",
    "Ctrl",
    "a",
    "s",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    ";",
    "'",
    "`",
    "Shift",
    "\\",
    "z",
    "x",
    "c",
    "v",
    "b",
    "n",
    "m",
    ",",
    ".",
    "/",
    "Right Shift",
    "Keypad *",
    "Alt",
    "Space",
    "Caps Lock",
    "F1",
    "F2",
    "F3",
    "F4",
    "F5",
    "F6",
    "F7",
    "F8",
    "F9",
    "F10",
    "Num Lock",
    "Scroll Lock",
    "Keypad 7",
    "Keypad 8",
    "Keypad 9",
    "Keypad -",
    "Keypad 4",
    "Keypad 5",
    "Keypad 6",
    "Keypad +",
    "Keypad 1",
    "Keypad 2",
    "Keypad 3",
    "Keypad 0",
    "Keypad .",
    "",
    "",
    "<>",
    "F11",
    "F12",
];

fn key(qnum: u8) -> String {
    let extended = match qnum {
        0x9c => "Keypad Enter",
        0x9d => "Right Ctrl",
        0xb8 => "Right Alt",
        0xc7 => "Home",
        0xc8 => "Up",
        0xc9 => "Page Up",
        0xcb => "Left",
        0xcd => "Right",
        0xcf => "End",
        0xd0 => "Down",
        0xd1 => "Page Down",
        0xd2 => "Insert",
        0xd3 => "Delete",
        0xdb | 0xdc => "Super",
        0xdd => "Menu",
        _ => KEYS.get(usize::from(qnum)).copied().unwrap_or(""),
    };
    if extended.is_empty() { format!("Key {qnum:#04x}") } else { extended.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_display::recording::Record;
    use std::io::{Seek, Write};

    /// Three pictures of 70 x 70 with a red tile that becomes blue, then one of another size.
    fn recorded() -> File {
        let tile = |column, row, side: usize, rgb: [u8; 3]| Record::Tile {
            column,
            row,
            pixels: rgb.repeat(side),
        };
        let records = [
            Record::Picture { width: 70, height: 70 },
            tile(0, 0, 64 * 64, [255, 0, 0]),
            Record::Shown { at_ms: 1000 },
            Record::Typed { at_ms: 1100, input: Input::Key { qnum: 30, down: true } },
            Record::Typed { at_ms: 1150, input: Input::Key { qnum: 30, down: false } },
            tile(1, 1, 6 * 6, [0, 0, 255]),
            Record::Shown { at_ms: 1500 },
            Record::Shown { at_ms: 9000 },
            Record::Picture { width: 10, height: 10 },
            Record::Shown { at_ms: 9500 },
            Record::Full,
        ];
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.append(&mut bytes));
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("written");
        file.rewind().expect("rewound");
        file
    }

    #[test]
    fn a_look_knows_where_it_is_and_what_was_typed_then() {
        let first = look(recorded(), 1).expect("good");
        assert_eq!((first.number, first.pictures, first.at_ms), (1, 4, 1000));
        assert_eq!(first.typed, [(1100, "a".to_string())]);
        assert!(first.full && !first.lost);
        let past = look(recorded(), 99).expect("good");
        assert_eq!((past.number, past.width, past.typed.len()), (4, 10, 0));
    }

    #[test]
    fn a_film_shows_what_was_shown_until_the_size_changes() {
        let bytes = film(recorded(), 1).expect("good").expect("a film");
        let mut reader =
            png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().expect("a PNG");
        let control = reader.info().animation_control().expect("it moves");
        assert_eq!((control.num_frames, control.num_plays), (3, 1));
        let mut frame = vec![0; 70 * 70 * 3];
        reader.next_frame(&mut frame).expect("the first");
        assert_eq!((&frame[..3], &frame[69 * 3..70 * 3]), (&[255, 0, 0][..], &[0, 0, 0][..]));
        reader.next_frame(&mut frame).expect("the second");
        let control = reader.info().frame_control().expect("a frame");
        assert_eq!((control.x_offset, control.y_offset, control.width), (64, 64, 6));
        assert_eq!(&frame[..3], [0, 0, 255]);
        let one = picture(recorded(), 4).expect("good").expect("a picture");
        let reader = png::Decoder::new(std::io::Cursor::new(&one)).read_info().expect("a PNG");
        assert_eq!(reader.info().size(), (10, 10));
        assert!(picture(recorded(), 5).expect("good").is_none());
        assert!(film(recorded(), 5).expect("good").is_none());
    }

    #[test]
    fn pictures_differ_where_they_do() {
        let frame = |at: Option<usize>| {
            let mut rgb = vec![0; 5 * 4 * 3];
            if let Some(at) = at {
                rgb[at * 3 + 1] = 1;
            }
            Frame { width: 5, height: 4, rgb }
        };
        let rect = |x, y, width, height| Rect { x, y, width, height };
        assert_eq!(differing(&frame(None), &frame(None)), rect(0, 0, 1, 1));
        assert_eq!(differing(&frame(None), &frame(Some(7))), rect(2, 1, 1, 1));
        assert_eq!(differing(&frame(Some(4)), &frame(Some(15))), rect(0, 0, 5, 4));
    }
}

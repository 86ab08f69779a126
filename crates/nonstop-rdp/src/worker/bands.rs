//! Pictures of text ([MS-RDPEGFX] 2.2.4.1, "ClearCodec", its bands layer): a line of text is a
//! band, and a column of a letter that the client has seen before takes two bytes.
//!
//! In a band's height lies the gain: where bands and lines of text coincide, there are no more
//! columns than the letters have. So the height of a line is looked for in the picture.

use super::screen::PIXEL;
use std::collections::{HashMap, HashSet};

/// The highest band.
const HIGHEST: usize = 52;

/// The height of a band where no lines are found.
const USUAL: usize = 16;

/// Places of the client's stores: whole columns, and columns without the background at their ends.
const COLUMNS: usize = 32_768;
const SHORTS: usize = 16_384;

/// Column of a picture, by its content.
type Key = u64;

/// One of the client's stores, which is filled in a circle.
struct Store {
    places: HashMap<Key, u16>,
    keys: Vec<Option<Key>>,
    next: usize,
}

impl Store {
    fn new(places: usize) -> Store {
        Store { places: HashMap::new(), keys: vec![None; places], next: 0 }
    }

    fn place(&self, key: Key) -> Option<u16> {
        self.places.get(&key).copied()
    }

    /// Puts a column in the next place, as the client does.
    fn put(&mut self, key: Key) {
        if let Some(old) = self.keys[self.next].replace(key)
            && self.places.get(&old) == Some(&(self.next as u16))
        {
            self.places.remove(&old);
        }
        self.places.insert(key, self.next as u16);
        self.next = (self.next + 1) % self.keys.len();
    }
}

/// Encodes bands for one client, one part of the picture after another.
pub(super) struct Bands {
    columns: Store,
    shorts: Store,
    number: u8,
    /// Height of the lines, and where on the screen one begins.
    lines: (usize, usize),
}

/// A part of the picture: `width` pixels a row, rows from the top.
pub(super) struct Part<'a> {
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) pixels: &'a [u8],
}

impl Part<'_> {
    fn height(&self) -> usize {
        self.pixels.len() / (self.width * PIXEL)
    }

    /// Blue, green and red of a pixel.
    fn pixel(&self, x: usize, y: usize) -> u32 {
        let at = (y * self.width + x) * PIXEL;
        u32::from_le_bytes([self.pixels[at], self.pixels[at + 1], self.pixels[at + 2], 0])
    }

    fn row(&self, y: usize) -> impl Iterator<Item = u32> {
        let row = self.width * PIXEL;
        self.pixels[y * row..(y + 1) * row]
            .chunks_exact(PIXEL)
            .map(|pixel| u32::from_le_bytes([pixel[0], pixel[1], pixel[2], 0]))
    }
}

/// Rows of a part, and what they hold.
struct Band {
    from: usize,
    to: usize,
    background: u32,
    keys: Vec<Key>,
}

impl Bands {
    pub(super) fn new() -> Bands {
        let (columns, shorts) = (Store::new(COLUMNS), Store::new(SHORTS));
        Bands { columns, shorts, number: 0, lines: (USUAL, 0) }
    }

    /// Encodes `part` if that is worth it, that is in at most `most` bytes or so.
    pub(super) fn encode(&mut self, part: &Part<'_>, most: usize) -> Option<Vec<u8>> {
        let mut bands = cut(part, self.lines);
        let mut bytes = self.estimate(&bands);
        // Where every column has been seen, it is two bytes each.
        if bytes > 3 * part.width * bands.len()
            && let Some(lines) = lines(part)
            && lines != self.lines
        {
            let others = cut(part, lines);
            let better = self.estimate(&others);
            if better < bytes {
                (bands, bytes) = (others, better);
                self.lines = lines;
            }
        }
        if bytes > most {
            return None;
        }
        let mut encoded = vec![0, self.number];
        self.number = self.number.wrapping_add(1);
        let start = encoded.len() + 12;
        encoded.resize(start, 0);
        for band in &bands {
            self.band(part, band, &mut encoded);
        }
        let length = (encoded.len() - start) as u32;
        encoded[start - 8..start - 4].copy_from_slice(&length.to_le_bytes());
        Some(encoded)
    }

    /// About how many bytes these bands take.
    fn estimate(&self, bands: &[Band]) -> usize {
        let mut missing = HashSet::new();
        let mut bytes = 0;
        for band in bands {
            bytes += 11 + 2 * band.keys.len();
            for key in &band.keys {
                if self.columns.place(*key).is_none() && missing.insert(*key) {
                    bytes += (band.to - band.from) * 2;
                }
            }
        }
        bytes
    }

    fn band(&mut self, part: &Part<'_>, band: &Band, encoded: &mut Vec<u8>) {
        for edge in [0, part.width - 1, band.from, band.to - 1] {
            encoded.extend((edge as u16).to_le_bytes());
        }
        encoded.extend(&band.background.to_le_bytes()[..3]);
        for (x, key) in band.keys.iter().enumerate() {
            if let Some(place) = self.columns.place(*key) {
                encoded.extend((0x8000 | place).to_le_bytes());
                continue;
            }
            let ink = |y: &usize| part.pixel(x, *y) != band.background;
            let from = (band.from..band.to).find(ink).unwrap_or(band.from);
            let to = (from..band.to).rev().find(ink).map_or(from, |last| last + 1);
            let short = (from..to).fold((to - from) as u64, |key, y| mix(key, part.pixel(x, y)));
            let on = from - band.from;
            if let Some(place) = self.shorts.place(short) {
                encoded.extend((0x4000 | place).to_le_bytes());
                encoded.push(on as u8);
            } else {
                let off = to - band.from;
                encoded.extend(((off << 8 | on) as u16).to_le_bytes());
                for y in from..to {
                    encoded.extend(&part.pixel(x, y).to_le_bytes()[..3]);
                }
                self.shorts.put(short);
            }
            self.columns.put(*key);
        }
    }
}

fn mix(key: Key, pixel: u32) -> Key {
    (key.rotate_left(23) ^ u64::from(pixel)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Cuts `part` where lines begin.
fn cut(part: &Part<'_>, (line, first): (usize, usize)) -> Vec<Band> {
    let mut bands = Vec::new();
    let mut from = 0;
    while from < part.height() {
        let into = (part.top + from + line - first % line) % line;
        let to = (from + line - into).min(part.height());
        let mut keys = vec![(to - from) as Key; part.width];
        // The colour that is seen most often, if one makes up half of what is looked at.
        let (mut background, mut lead) = (0, 0_u32);
        for y in from..to {
            for (key, pixel) in keys.iter_mut().zip(part.row(y)) {
                *key = mix(*key, pixel);
            }
            for pixel in part.row(y).step_by(5) {
                match (pixel == background, lead) {
                    (true, _) => lead += 1,
                    (false, 0) => (background, lead) = (pixel, 1),
                    (false, _) => lead -= 1,
                }
            }
        }
        bands.push(Band { from, to, background, keys });
        from = to;
    }
    bands
}

/// The height of the lines of text in `part`, and where on the screen one begins.
fn lines(part: &Part<'_>) -> Option<(usize, usize)> {
    let height = part.height();
    // How often the colour changes in each row: often in letters, never between lines.
    let edges: Vec<i32> = (0..height)
        .map(|y| part.row(y).zip(part.row(y).skip(1)).filter(|(a, b)| a != b).count() as i32)
        .collect();
    let differences = |line: usize| {
        let pairs = edges.iter().zip(&edges[line..]);
        pairs.map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / (height - line) as f64
    };
    let most = HIGHEST.min(height / 2);
    let scores: Vec<_> = (8..=most).map(|line| (line, differences(line))).collect();
    let least = scores.iter().map(|(_, score)| *score).fold(f64::MAX, f64::min);
    let mean = scores.iter().map(|(_, score)| *score).sum::<f64>() / scores.len().max(1) as f64;
    // Twice the height fits as well; the smallest that does is meant.
    let fits = least + 0.1 * (mean - least);
    let (line, _) = scores.into_iter().find(|(_, score)| *score <= fits)?;
    let letters = |first: usize| edges.iter().skip(first).step_by(line).sum::<i32>();
    let quietest = (0..line).min_by_key(|first| letters(*first))?;
    Some((line, (part.top + quietest) % line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The client, as FreeRDP 3 does it (ironrdp-graphics 0.9 takes the ends of a short column
    /// from other bits than it and Windows).
    struct Client {
        columns: Vec<Vec<u32>>,
        shorts: Vec<Vec<u32>>,
        next: (usize, usize),
        number: u8,
    }

    impl Client {
        fn new() -> Client {
            let (columns, shorts) = (vec![Vec::new(); COLUMNS], vec![Vec::new(); SHORTS]);
            Client { columns, shorts, next: (0, 0), number: 0 }
        }

        fn decode(&mut self, encoded: &[u8], width: usize, height: usize) -> Vec<Option<u32>> {
            let mut screen = vec![None; width * height];
            assert_eq!(encoded[..2], [0, self.number]);
            self.number = self.number.wrapping_add(1);
            let word = |at: usize| u32::from_le_bytes(encoded[at..at + 4].try_into().expect("4"));
            assert_eq!((word(2), word(10)), (0, 0));
            assert_eq!(word(6) as usize, encoded.len() - 14);
            let mut rest = &encoded[14..];
            let mut take = |n: usize| {
                let (taken, after) = rest.split_at(n);
                rest = after;
                let mut four = [0; 4];
                four[..n].copy_from_slice(taken);
                (u32::from_le_bytes(four) as usize, rest.is_empty())
            };
            loop {
                let [left, right, top, bottom] = [0; 4].map(|_| take(2).0);
                let mut end = false;
                let background = take(3).0 as u32;
                let high = bottom - top + 1;
                assert!(high <= HIGHEST);
                for x in left..=right {
                    let head;
                    (head, end) = take(2);
                    let column = if head & 0x8000 != 0 {
                        self.columns[head & 0x7fff].clone()
                    } else {
                        let on;
                        let short = if head & 0x4000 != 0 {
                            (on, end) = take(1);
                            self.shorts[head & 0x3fff].clone()
                        } else {
                            on = head & 0xff;
                            let mut short = Vec::new();
                            for _ in on..head >> 8 {
                                let pixel;
                                (pixel, end) = take(3);
                                short.push(pixel as u32);
                            }
                            self.shorts[self.next.1] = short.clone();
                            self.next.1 = (self.next.1 + 1) % SHORTS;
                            short
                        };
                        let mut column = vec![background; on];
                        column.extend(short);
                        assert!(column.len() <= high);
                        column.resize(high, background);
                        self.columns[self.next.0] = column.clone();
                        self.next.0 = (self.next.0 + 1) % COLUMNS;
                        column
                    };
                    assert_eq!(column.len(), high);
                    for (y, pixel) in column.into_iter().enumerate() {
                        screen[(top + y) * width + x] = Some(pixel);
                    }
                }
                if end {
                    return screen;
                }
            }
        }
    }

    fn shown(bands: &mut Bands, client: &mut Client, part: &Part<'_>) -> usize {
        let encoded = bands.encode(part, usize::MAX).expect("it is worth it");
        let screen = client.decode(&encoded, part.width, part.height());
        let pixels = (0..part.height()).flat_map(|y| part.row(y)).map(Some);
        assert!(pixels.eq(screen));
        encoded.len()
    }

    /// Lines of letters of 8 by 17 pixels.
    fn text(width: usize, height: usize, seed: usize, above: usize) -> Vec<u8> {
        let pixel = |x: usize, y: usize| {
            let (line, row) = ((y + 17 - above) / 17, (y + 17 - above) % 17);
            let letter = (line * 31 + x / 8 * 7 + seed).wrapping_mul(2_654_435_761) >> 7 & 63;
            let ink = row > 3 && (letter * 7919 + x % 8 * 131 + row / 2 * 17) % 5 < 2;
            if ink { [200, (letter * 3) as u8, 180, 0] } else { [20, 20, 20, 0] }
        };
        (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
    }

    #[test]
    fn letters_that_were_seen_take_two_bytes_a_column() {
        let (mut bands, mut client) = (Bands::new(), Client::new());
        let (width, height) = (640, 340);
        let mut last = 0;
        for seed in 0..6 {
            let pixels = text(width, height, seed * 1000, 5);
            last = shown(&mut bands, &mut client, &Part { top: 0, width, pixels: &pixels });
        }
        assert_eq!(bands.lines.0, 17);
        assert!(last < width * (height / 17 + 1) * 2 + 1000, "{last}");
    }

    #[test]
    fn the_stores_go_round() {
        let (mut bands, mut client) = (Bands::new(), Client::new());
        let mut noise = 7_u32;
        for _ in 0..30 {
            let pixels: Vec<u8> = (0..1024 * 32 * PIXEL)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (noise >> 24) as u8
                })
                .collect();
            shown(&mut bands, &mut client, &Part { top: 3, width: 1024, pixels: &pixels });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_part_is_shown(parts in prop::collection::vec(
            (1usize..90, 1usize..120, 0usize..800, 0usize..9, 0usize..17), 1..6))
        {
            let (mut bands, mut client) = (Bands::new(), Client::new());
            for (width, height, top, seed, above) in parts {
                let pixels = text(width, height, seed, above);
                shown(&mut bands, &mut client, &Part { top, width, pixels: &pixels });
            }
        }
    }
}

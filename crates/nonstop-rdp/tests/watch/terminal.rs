//! A full screen of text that scrolls: what lists of files look like, with smoothed letters.

const CELL: (usize, usize) = (9, 18);
const PAPER: [u8; 3] = [14, 20, 28];
const INK: [[u8; 3]; 3] = [[220, 220, 220], [90, 220, 90], [90, 160, 250]];

/// A terminal without a margin.
pub struct Terminal {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    glyphs: Vec<Vec<u8>>,
    noise: u32,
}

impl Terminal {
    pub fn new(width: u16, height: u16) -> Terminal {
        let (width, height) = (width.into(), height.into());
        let pixels = [PAPER[2], PAPER[1], PAPER[0], 0].repeat(width * height);
        let mut terminal = Terminal { width, height, pixels, glyphs: Vec::new(), noise: 7 };
        terminal.glyphs = (0..95).map(|_| terminal.glyph()).collect();
        terminal.scroll(height / CELL.1);
        terminal
    }

    fn random(&mut self, below: u32) -> u32 {
        self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.noise >> 8) % below
    }

    /// A letter of a few strokes, each pixel by how much of it is covered.
    fn glyph(&mut self) -> Vec<u8> {
        let mut point = || {
            let x = self.random(60) as f32 / 10.0 + 1.0;
            (x, self.random(110) as f32 / 10.0 + 3.0)
        };
        let strokes: Vec<_> = (0..3).map(|_| (point(), point())).collect();
        let mut covered = Vec::new();
        for y in 0..CELL.1 {
            for x in 0..CELL.0 {
                let near = strokes.iter().map(|&(a, b)| distance((x as f32, y as f32), a, b));
                let near = near.fold(f32::MAX, f32::min);
                covered.push(((1.3 - near).clamp(0.0, 1.0) * 255.0) as u8);
            }
        }
        covered
    }

    fn text(&mut self) -> Vec<u8> {
        let mut name = String::new();
        for _ in 0..2 + self.random(9) {
            let parts = ["lib", "x86", "linux", "gnu", "core", "util", "py", "so", "conf", "io"];
            let part = parts[self.random(parts.len() as u32) as usize];
            let letter = char::from(b'a' + self.random(26) as u8);
            name.push_str(&format!("{part}{letter}{}-", self.random(90)));
        }
        let (size, minute) = (self.random(9_000_000), self.random(60));
        format!("-rw-r--r-- {} root root {size:8} Nov 24 13:{minute:02} {name}.tar", minute % 5)
            .into_bytes()
    }

    /// Scrolls up by so many lines of text; all pixels after that.
    pub fn scroll(&mut self, lines: usize) -> &[u8] {
        let row = self.width * 4;
        for _ in 0..lines {
            self.pixels.copy_within(CELL.1 * row.., 0);
            let last = self.height / CELL.1 * CELL.1 - CELL.1;
            let text = self.text();
            for (column, letter) in text.iter().take(self.width / CELL.0).enumerate() {
                let glyph = &self.glyphs[usize::from(letter.wrapping_sub(32)) % 95];
                let ink = INK[if column < 10 { 1 } else { usize::from(column > 50) * 2 }];
                for y in 0..CELL.1 {
                    for x in 0..CELL.0 {
                        let covered = u32::from(glyph[y * CELL.0 + x]);
                        let at = (last + y) * row + (column * CELL.0 + x) * 4;
                        for (n, colour) in [2, 1, 0].into_iter().enumerate() {
                            let (ink, paper) = (u32::from(ink[colour]), u32::from(PAPER[colour]));
                            let mixed = (ink * covered + paper * (255 - covered)) / 255;
                            self.pixels[at + n] =
                                if *letter == b' ' { PAPER[colour] } else { mixed as u8 };
                        }
                    }
                }
            }
            let blank = text.len().min(self.width / CELL.0) * CELL.0;
            for y in 0..self.height - last {
                let at = (last + y) * row;
                let from = if y < CELL.1 { blank * 4 } else { 0 };
                for pixel in self.pixels[at + from..at + row].chunks_exact_mut(4) {
                    pixel.copy_from_slice(&[PAPER[2], PAPER[1], PAPER[0], 0]);
                }
            }
        }
        &self.pixels
    }
}

fn distance(p: (f32, f32), a: (f32, f32), b: (f32, f32)) -> f32 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let along = ((p.0 - a.0) * dx + (p.1 - a.1) * dy) / (dx * dx + dy * dy + 0.01);
    let along = along.clamp(0.0, 1.0);
    (p.0 - a.0 - along * dx).hypot(p.1 - a.1 - along * dy)
}

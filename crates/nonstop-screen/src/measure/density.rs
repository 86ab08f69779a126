//! How dense bytes are: a piece of 64 KiB whose bytes are nearly evenly spread is compressed or
//! encrypted, whatever it is called.

/// The bytes that are judged together.
pub const PIECE: usize = 64 << 10;
/// Fewer bytes than these say nothing.
const LEAST: usize = 512;

/// How often each byte occurs.
pub type Counts = [u64; 256];

/// Counts the bytes of `piece`.
///
/// Four tables, so that equal bytes in a row do not wait for each other.
fn count(piece: &[u8]) -> [u32; 256] {
    let mut tables = [[0u32; 256]; 4];
    let mut words = piece.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        for (at, table) in [0, 1, 2, 3, 0, 1, 2, 3].into_iter().enumerate() {
            let byte = (word >> (8 * at)) & 0xff;
            tables[table][byte as usize] += 1;
        }
    }
    for byte in words.remainder() {
        tables[0][usize::from(*byte)] += 1;
    }
    let mut sum = tables[0];
    for table in &tables[1..] {
        for (all, one) in sum.iter_mut().zip(table) {
            *all += one;
        }
    }
    sum
}

/// Bits that a byte of `counts` tells, of `n` in all.
fn entropy(counts: &[u32; 256], n: usize) -> f32 {
    let total = n as f32;
    let sum: f32 = counts.iter().filter(|c| **c > 0).map(|c| *c as f32 * (*c as f32).log2()).sum();
    total.log2() - sum / total
}

/// From how many bits a byte on a piece counts as dense: compressed bytes tell 7.8 and more, programs
/// 6.5, text 5. Of few bytes even random ones tell less.
fn bound(n: usize) -> f32 {
    match n {
        0..1024 => 7.4,
        1024..4096 => 7.6,
        _ => 7.7,
    }
}

/// Counts pieces, each of them full but the last.
#[derive(Debug, Clone)]
pub struct Density {
    counts: Counts,
    dense: u64,
}

impl Default for Density {
    fn default() -> Self {
        Density { counts: [0; 256], dense: 0 }
    }
}

impl Density {
    /// Looks at the next bytes: whole pieces, but at the end.
    pub fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            let counts = count(piece);
            for (all, one) in self.counts.iter_mut().zip(&counts) {
                *all += u64::from(*one);
            }
            if piece.len() >= LEAST && entropy(&counts, piece.len()) >= bound(piece.len()) {
                self.dense += 1;
            }
        }
    }

    /// How many pieces are dense.
    pub fn dense(&self) -> u64 {
        self.dense
    }

    /// How often each byte occurs.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Bytes without order.
    pub(crate) fn noise(n: usize) -> Vec<u8> {
        let mut x = 0x9e37_79b9_7f4a_7c15u64;
        let next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 24) as u8
        };
        std::iter::repeat_with(next).take(n).collect()
    }

    fn dense(bytes: &[u8]) -> u64 {
        let mut density = Density::default();
        density.add(bytes);
        density.dense()
    }

    #[test]
    fn noise_is_dense_from_512_bytes_on_and_text_and_programs_are_not() {
        for n in [512, 1024, 4096, 40_000, PIECE] {
            assert_eq!(dense(&noise(n)), 1, "{n}");
        }
        assert_eq!(dense(&noise(10 * PIECE + 100)), 10);
        assert_eq!(dense(&noise(200)), 0);
        assert_eq!(dense("日本語のテキスト、数 1234567890 と英字。".repeat(9000).as_bytes()), 0);
        let program = std::fs::read("/proc/self/exe").expect("our own program");
        let share = dense(&program) as f64 / (program.len() / PIECE) as f64;
        assert!(share < 0.05, "{share}");
    }

    #[test]
    fn every_byte_is_counted() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1003).collect();
        let mut density = Density::default();
        density.add(&bytes);
        assert_eq!(density.counts().iter().sum::<u64>(), 1003);
        assert_eq!(density.counts()[0], 4);
        assert_eq!(density.counts()[255], 3);
    }
}

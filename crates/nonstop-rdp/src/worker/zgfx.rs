//! Packing for the graphics pipeline ([MS-RDPEGFX] 3.1.9.1, "RDP 8.0 bulk compression"): matches
//! in what was sent before, with a fixed code. Glyphs come again and again, and the three colours
//! of a grey one are the same bytes.
//!
//! ironrdp-graphics has a packer too; once its history is full, it moves all of it for each byte.

/// How far back matches are looked for. The client keeps 2,500,000 bytes; less is less memory here.
const WINDOW: usize = 1 << 20;

/// The most bytes of one segment before packing.
const SEGMENT: usize = 65_535;

/// Shortest match that is looked for.
const LEAST: usize = 4;

/// The longest match that is made: more would be the work of a client only.
const MOST: usize = 4096;

/// Places kept for each hash, the newest first overwritten.
const PLACES: usize = 4;

const HASH_BITS: u32 = 15;

/// Says that a message has one segment, or several.
const SINGLE: u8 = 0xe0;
const MULTIPART: u8 = 0xe1;

/// How a segment is packed: RDP 8.0, and whether it is.
const PLAIN: u8 = 0x04;
const PACKED: u8 = 0x24;

/// Values with a code of their own: code and its length in bits. Others take 9 bits.
const LITERALS: [(u8, u16, u8); 25] = [
    (0x00, 0b11000, 5),
    (0x01, 0b11001, 5),
    (0x02, 0b11_0100, 6),
    (0x03, 0b11_0101, 6),
    (0xff, 0b11_0110, 6),
    (0x04, 0b110_1110, 7),
    (0x05, 0b110_1111, 7),
    (0x06, 0b111_0000, 7),
    (0x07, 0b111_0001, 7),
    (0x08, 0b111_0010, 7),
    (0x09, 0b111_0011, 7),
    (0x0a, 0b111_0100, 7),
    (0x0b, 0b111_0101, 7),
    (0x3a, 0b111_0110, 7),
    (0x3b, 0b111_0111, 7),
    (0x3c, 0b111_1000, 7),
    (0x3d, 0b111_1001, 7),
    (0x3e, 0b111_1010, 7),
    (0x3f, 0b111_1011, 7),
    (0x40, 0b111_1100, 7),
    (0x80, 0b111_1101, 7),
    (0x0c, 0b1111_1100, 8),
    (0x38, 0b1111_1101, 8),
    (0x39, 0b1111_1110, 8),
    (0x66, 0b1111_1111, 8),
];

/// Distances: the first of a class, its code, the code's length, and the bits that follow.
const DISTANCES: [(u32, u16, u8, u8); 9] = [
    (0, 0b10001, 5, 5),
    (32, 0b10010, 5, 7),
    (160, 0b10011, 5, 9),
    (672, 0b10100, 5, 10),
    (1_696, 0b10101, 5, 12),
    (5_792, 0b10_1100, 6, 14),
    (22_176, 0b10_1101, 6, 15),
    (54_944, 0b101_1100, 7, 18),
    (317_088, 0b101_1101, 7, 20),
];

/// Packs messages for one client, one after another.
pub(super) struct Packer {
    /// The end of what was sent; twice the window at most.
    history: Vec<u8>,
    /// What of the history has left it.
    gone: usize,
    /// Where four bytes with this hash stood, counted from the very beginning, plus one.
    places: Vec<[u32; PLACES]>,
    literals: [(u16, u8); 256],
}

impl Packer {
    pub(super) fn new() -> Packer {
        let mut literals = [(0, 9); 256];
        for (value, literal) in literals.iter_mut().enumerate() {
            literal.0 = value as u16;
        }
        for (value, code, bits) in LITERALS {
            literals[usize::from(value)] = (code, bits);
        }
        Packer { history: Vec::new(), gone: 0, places: Vec::new(), literals }
    }

    /// Packs `message` so that the client, who has unpacked all before, can unpack it.
    pub(super) fn pack(&mut self, message: &[u8]) -> Vec<u8> {
        if self.places.is_empty() {
            self.places = vec![[0; PLACES]; 1 << HASH_BITS];
        }
        let segments: Vec<_> = message.chunks(SEGMENT).map(|part| self.segment(part)).collect();
        match &segments[..] {
            [only] => [&[SINGLE], &only[..]].concat(),
            _ => {
                let mut packed = vec![MULTIPART];
                packed.extend((segments.len() as u16).to_le_bytes());
                packed.extend((message.len() as u32).to_le_bytes());
                for segment in &segments {
                    packed.extend((segment.len() as u32).to_le_bytes());
                    packed.extend_from_slice(segment);
                }
                packed
            }
        }
    }

    /// The flags and the bytes of a segment.
    fn segment(&mut self, part: &[u8]) -> Vec<u8> {
        if self.history.len() + part.len() > 2 * WINDOW {
            let leaves = self.history.len() - WINDOW;
            self.history.drain(..leaves);
            self.gone += leaves;
        }
        let start = self.history.len();
        self.history.extend_from_slice(part);
        let mut bits = Bits::new(PACKED, part.len());
        let (mut at, mut missed) = (start, 0_usize);
        while at < self.history.len() {
            if let Some((distance, length)) = self.longest(at) {
                bits.matched(distance as u32, length as u32);
                // Every second place is enough to find it again.
                for place in (at..at + length).step_by(2) {
                    self.remember(place);
                }
                (at, missed) = (at + length, 0);
                continue;
            }
            // What has not matched for long is noise: it is looked at less and less closely.
            missed += 1;
            for _ in 0..1 + missed / 64 {
                let Some(byte) = self.history.get(at) else { break };
                let (code, length) = self.literals[usize::from(*byte)];
                bits.put(code.into(), length);
                self.remember(at);
                at += 1;
            }
            if bits.bytes.len() > part.len() {
                return [&[PLAIN], part].concat();
            }
        }
        let packed = bits.end();
        if packed.len() > part.len() { [&[PLAIN], part].concat() } else { packed }
    }

    fn hash(&self, at: usize) -> Option<usize> {
        let four = self.history.get(at..)?.first_chunk::<LEAST>()?;
        Some((u32::from_le_bytes(*four).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize)
    }

    fn remember(&mut self, at: usize) {
        let Some(hash) = self.hash(at) else { return };
        let places = &mut self.places[hash];
        places.copy_within(0..PLACES - 1, 1);
        // After four billion bytes places are taken for others; what is found is compared.
        places[0] = (self.gone + at + 1) as u32;
    }

    /// Distance and length of the best match for what stands at `at`.
    fn longest(&self, at: usize) -> Option<(usize, usize)> {
        let hash = self.hash(at)?;
        let now = (self.gone + at + 1) as u32;
        let mut best: Option<(usize, usize)> = None;
        for place in self.places[hash] {
            let distance = now.wrapping_sub(place) as usize;
            if place == 0 || distance == 0 || distance > WINDOW || distance > at {
                continue;
            }
            let length = self.length(at - distance, at);
            // A greater distance takes more bits.
            let worth = |(distance, length): (usize, usize)| {
                8 * length as isize - isize::from(bits_of(distance as u32))
            };
            if length >= LEAST && best.is_none_or(|best| worth((distance, length)) > worth(best)) {
                best = Some((distance, length));
            }
        }
        best
    }

    /// How many bytes are the same from `from` and from `at` on.
    fn length(&self, from: usize, at: usize) -> usize {
        let most = MOST.min(self.history.len() - at);
        let (a, b) = (&self.history[from..from + most], &self.history[at..at + most]);
        let mut same = 0;
        for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
            if a != b {
                break;
            }
            same += 8;
        }
        same + a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count()
    }
}

fn class_of(distance: u32) -> (u32, u16, u8, u8) {
    let after = DISTANCES.partition_point(|class| class.0 <= distance);
    DISTANCES[after - 1]
}

fn bits_of(distance: u32) -> u8 {
    let (_, _, code, more) = class_of(distance);
    code + more
}

/// Bits, the first of a byte is its highest.
struct Bits {
    bytes: Vec<u8>,
    pending: u64,
    count: u8,
}

impl Bits {
    fn new(flags: u8, room: usize) -> Bits {
        let mut bytes = Vec::with_capacity(room / 2 + 16);
        bytes.push(flags);
        Bits { bytes, pending: 0, count: 0 }
    }

    fn put(&mut self, value: u32, bits: u8) {
        self.pending = self.pending << bits | u64::from(value);
        self.count += bits;
        while self.count >= 8 {
            self.count -= 8;
            self.bytes.push((self.pending >> self.count) as u8);
        }
    }

    fn matched(&mut self, distance: u32, length: u32) {
        let (first, code, bits, more) = class_of(distance);
        self.put(code.into(), bits);
        self.put(distance - first, more);
        if length == 3 {
            return self.put(0, 1);
        }
        // As many ones as the length has bits beyond two, a zero, and what follows the first bit.
        let bits = 31 - length.leading_zeros() as u8;
        self.put((1 << bits) - 2, bits);
        self.put(length - (1 << bits), bits);
    }

    /// The bytes; the last says how many bits of the one before are unused.
    fn end(mut self) -> Vec<u8> {
        let unused = (8 - self.count) % 8;
        self.put(0, unused);
        self.bytes.push(unused);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironrdp_graphics::zgfx::Decompressor;
    use proptest::prelude::*;

    fn unpacked(client: &mut Decompressor, packed: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        client.decompress(packed, &mut message).expect("it can be unpacked");
        message
    }

    #[test]
    fn repetition_is_packed_well_and_noise_hardly_grows() {
        let (mut packer, mut client) = (Packer::new(), Decompressor::new());
        let line =
            b"drwxr-xr-x 2 root root 4096 Nov 24 13:10 usr/lib/x86_64-linux-gnu\n".repeat(3000);
        let packed = packer.pack(&line);
        assert!(packed.len() < line.len() / 200, "{}", packed.len());
        assert_eq!(unpacked(&mut client, &packed), line);
        let mut state = 1_u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        for _ in 0..20 {
            let noise: Vec<u8> = (0..200_000).map(|_| byte()).collect();
            let packed = packer.pack(&noise);
            assert!(packed.len() < noise.len() + 40, "{}", packed.len());
            assert_eq!(unpacked(&mut client, &packed), noise);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever is sent, the client has it.
        #[test]
        fn who_unpacks_has_the_messages(
            words in prop::collection::vec(prop::collection::vec(0u8..5, 1..40), 1..8),
            picks in prop::collection::vec(prop::collection::vec(0usize..1000, 1..4000), 1..6)
        ) {
            let (mut packer, mut client) = (Packer::new(), Decompressor::new());
            for picks in picks {
                let message: Vec<u8> = picks.iter().flat_map(|n| {
                    let word = &words[n % words.len()];
                    word[..1 + n % word.len()].iter().map(|b| b.wrapping_mul(51))
                }).collect();
                let packed = packer.pack(&message);
                prop_assert_eq!(unpacked(&mut client, &packed), message);
            }
        }
    }
}

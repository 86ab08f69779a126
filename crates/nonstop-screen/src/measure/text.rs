//! Whether bytes are text, and in which encoding: those that every byte so far agrees with.

use super::density::Counts;

/// Encodings that the bytes so far may be in.
#[derive(Debug, Clone)]
pub struct Texts {
    begin: Vec<u8>,
    ascii: bool,
    /// How many pieces beyond ASCII were UTF-8 without a doubt.
    sure: u32,
    utf8: Option<Utf8>,
    shift_jis: Option<Pairs>,
    euc_jp: Option<Pairs>,
    utf16: Option<Utf16>,
}

impl Default for Texts {
    fn default() -> Self {
        Texts {
            begin: Vec::new(),
            ascii: true,
            sure: 0,
            utf8: Some(Utf8::default()),
            shift_jis: Some(Pairs::default()),
            euc_jp: Some(Pairs::default()),
            utf16: None,
        }
    }
}

/// So many pieces of so many bytes that are UTF-8 beyond ASCII are in no other encoding by chance;
/// the others, which agree with nearly everything, need not be looked for any more.
const SURE: u32 = 2;
const LONG: usize = 64 << 10;

impl Texts {
    /// Looks at the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        if self.begin.is_empty() {
            self.begin = bytes[..bytes.len().min(4)].to_vec();
            self.utf16 = match bytes {
                [0xff, 0xfe, ..] => Some(Utf16::new(true)),
                [0xfe, 0xff, ..] => Some(Utf16::new(false)),
                _ => None,
            };
        }
        let waits = |pairs: &Option<Pairs>| pairs.as_ref().is_some_and(|p| p.lead.is_some());
        let open = self.utf8.as_ref().is_some_and(|utf8| utf8.open > 0)
            || waits(&self.shift_jis)
            || waits(&self.euc_jp);
        if open || !bytes.is_ascii() {
            self.ascii = false;
            self.utf8 = self.utf8.take().and_then(|state| state.next(bytes));
            self.sure += u32::from(self.utf8.is_some() && bytes.len() >= LONG);
            if self.sure >= SURE {
                (self.shift_jis, self.euc_jp) = (None, None);
            }
            self.shift_jis = self.shift_jis.take().and_then(|s| s.next(bytes, shift_jis));
            self.euc_jp = self.euc_jp.take().and_then(|s| s.next(bytes, euc_jp));
        }
        self.utf16 = self.utf16.take().and_then(|state| state.next(bytes));
    }

    /// Whether nothing but UTF-16 can come of them any more, or not even that.
    pub fn is_hopeless(&self) -> bool {
        let single = self.utf8.is_some() || self.shift_jis.is_some() || self.euc_jp.is_some();
        !single && self.utf16.is_none() && !self.begin.is_empty()
    }

    /// The encoding of all bytes, which occur as often as `counts` says; None if they are no text.
    pub fn encoding(self, counts: &Counts) -> Option<&'static str> {
        if let Some(utf16) = self.utf16 {
            return utf16.whole();
        }
        // Tab, line feed, form feed, carriage return, and the escape of ISO-2022-JP and terminals.
        let control = (0..=31).chain([127]).filter(|byte| !matches!(byte, 9 | 10 | 12 | 13 | 27));
        if control.map(|byte: usize| counts[byte]).sum::<u64>() > 0 {
            return None;
        }
        if self.ascii {
            return Some(if counts[27] > 0 { "iso-2022-jp" } else { "us-ascii" });
        }
        if self.utf8.is_some_and(|utf8| utf8.open == 0) {
            return Some("utf-8");
        }
        // Where both may be: two bytes above 0xa0 are EUC-JP's, half-width kana are rare.
        if self.euc_jp.is_some_and(|pairs| pairs.lead.is_none()) {
            return Some("euc-jp");
        }
        self.shift_jis.filter(|pairs| pairs.lead.is_none()).map(|_| "shift_jis")
    }
}

/// UTF-8, which may be cut within a character.
#[derive(Debug, Clone, Default)]
struct Utf8 {
    held: [u8; 4],
    open: usize,
}

impl Utf8 {
    fn next(mut self, mut bytes: &[u8]) -> Option<Utf8> {
        while self.open > 0 {
            let Some((first, rest)) = bytes.split_first() else { return Some(self) };
            self.held[self.open] = *first;
            self.open += 1;
            bytes = rest;
            match std::str::from_utf8(&self.held[..self.open]) {
                Ok(_) => self.open = 0,
                Err(e) if e.error_len().is_none() && self.open < 4 => {}
                Err(_) => return None,
            }
        }
        match simdutf8::compat::from_utf8(bytes) {
            Ok(_) => Some(self),
            Err(e) if e.error_len().is_none() => {
                let rest = &bytes[e.valid_up_to()..];
                self.held[..rest.len()].copy_from_slice(rest);
                self.open = rest.len();
                Some(self)
            }
            Err(_) => None,
        }
    }
}

/// An encoding of characters of one, two or three bytes.
#[derive(Debug, Clone, Default)]
struct Pairs {
    /// The bytes before, of a character that has not ended.
    lead: Option<Lead>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// One byte is to come.
    One,
    /// Two bytes are to come.
    Two,
}

/// What a byte is: a whole character, the begin of one, the end of one, or nothing.
enum Part {
    Whole,
    Lead(Lead),
    Wrong,
}

impl Pairs {
    fn next(mut self, bytes: &[u8], part: fn(Option<Lead>, u8) -> Part) -> Option<Pairs> {
        for byte in bytes {
            self.lead = match part(self.lead, *byte) {
                Part::Whole => None,
                Part::Lead(lead) => Some(lead),
                Part::Wrong => return None,
            };
        }
        Some(self)
    }
}

fn shift_jis(lead: Option<Lead>, byte: u8) -> Part {
    match (lead, byte) {
        (None, 0..=0x7f | 0xa1..=0xdf) => Part::Whole,
        (None, 0x81..=0x9f | 0xe0..=0xfc) => Part::Lead(Lead::One),
        (Some(_), 0x40..=0x7e | 0x80..=0xfc) => Part::Whole,
        _ => Part::Wrong,
    }
}

fn euc_jp(lead: Option<Lead>, byte: u8) -> Part {
    match (lead, byte) {
        (None, 0..=0x7f) => Part::Whole,
        (None, 0x8e | 0xa1..=0xfe) => Part::Lead(Lead::One),
        (None, 0x8f) => Part::Lead(Lead::Two),
        (Some(Lead::Two), 0xa1..=0xfe) => Part::Lead(Lead::One),
        (Some(Lead::One), 0xa1..=0xfe) => Part::Whole,
        _ => Part::Wrong,
    }
}

/// UTF-16 that says its order.
#[derive(Debug, Clone)]
struct Utf16 {
    little: bool,
    odd: Option<u8>,
    high: bool,
}

impl Utf16 {
    fn new(little: bool) -> Utf16 {
        Utf16 { little, odd: None, high: false }
    }

    fn next(mut self, bytes: &[u8]) -> Option<Utf16> {
        for byte in bytes {
            let Some(first) = self.odd.take() else {
                self.odd = Some(*byte);
                continue;
            };
            let pair = [first, *byte];
            let unit =
                if self.little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) };
            let control = unit < 32 && !matches!(unit, 9 | 10 | 12 | 13 | 27);
            let (high, low) = (matches!(unit, 0xd800..=0xdbff), matches!(unit, 0xdc00..=0xdfff));
            if control || self.high != low || matches!(unit, 0xfffe | 0xffff) {
                return None;
            }
            self.high = high;
        }
        Some(self)
    }

    fn whole(self) -> Option<&'static str> {
        let whole = self.odd.is_none() && !self.high;
        whole.then_some(if self.little { "utf-16le" } else { "utf-16be" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::density::Density;

    /// The encoding of `bytes`, read in pieces of every small size.
    fn encoding(bytes: &[u8]) -> Option<&'static str> {
        let mut density = Density::default();
        density.add(bytes);
        let found: Vec<_> = (1..6)
            .map(|size| {
                let mut texts = Texts::default();
                // Marks of UTF-16 are in the first piece of a file.
                let (begin, rest) = bytes.split_at(bytes.len().min(4));
                texts.add(begin);
                rest.chunks(size).for_each(|piece| texts.add(piece));
                texts.encoding(density.counts())
            })
            .collect();
        assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
        found[0]
    }

    #[test]
    fn texts_are_known_in_the_encodings_that_researchers_use() {
        assert_eq!(encoding(b"a,b\r\n1,2\n"), Some("us-ascii"));
        assert_eq!(encoding("結果 = 𝟙€é\n".as_bytes()), Some("utf-8"));
        assert_eq!(encoding(b"\xef\xbb\xbfa"), Some("utf-8"));
        // "日本語、ｶﾅ" and "日本語の表"
        assert_eq!(encoding(b"\x93\xfa\x96\x7b\x8c\xea\x81\x41\xb6\xc5\n"), Some("shift_jis"));
        assert_eq!(encoding(b"\xc6\xfc\xcb\xdc\xb8\xec\xa4\xce\xc9\xbd\n"), Some("euc-jp"));
        assert_eq!(encoding(b"\x1b$BF|K\\8l\x1b(B\n"), Some("iso-2022-jp"));
        let utf16: Vec<u8> = "\u{feff}日本語𝟙".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(encoding(&utf16), Some("utf-16le"));
        let utf16: Vec<u8> = "\u{feff}abc".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(encoding(&utf16), Some("utf-16be"));
    }

    #[test]
    fn what_is_cut_within_a_character_or_holds_control_characters_is_no_text() {
        assert_eq!(encoding(b"a\0b"), None);
        assert_eq!(encoding(b"a\x01"), None);
        assert_eq!(encoding(b"abc\xff\xffabc"), None);
        assert_eq!(encoding(b"abc\x93"), None);
        assert_eq!(encoding(b"\xff\xfea"), None);
        assert_eq!(encoding(b"\xff\xfe\x00\xdca\0"), None, "half a pair");
        assert_eq!(encoding(b"\xed\xa0\x80\xff"), None);
    }
}

//! SHA-256 values: what a sample is called by.

use std::fmt;

/// The SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The one that `text` writes as 64 lower-case hexadecimal digits; None for anything else.
    pub fn read(text: &str) -> Option<Digest> {
        let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut bytes = [0; 32];
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sixty_four_small_hexadecimal_digits_are_one() {
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(Digest::read(&text).expect("one").to_string(), text);
        for wrong in [&text[1..], &text.to_uppercase(), &format!("{text}0"), "../x", ""] {
            assert!(Digest::read(wrong).is_none(), "{wrong}");
        }
    }
}

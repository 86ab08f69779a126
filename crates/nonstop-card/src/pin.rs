//! PINs and PUKs: six to eight digits for a PIN, eight bytes for either as a card takes them.

use std::fmt;
use zeroize::Zeroizing;

/// Digits of a PIN that we make. A card takes three wrong ones.
const LENGTH: usize = 6;

/// A PIN or PUK.
#[derive(Clone, PartialEq, Eq)]
pub struct Pin(Zeroizing<Vec<u8>>);

/// A text that is no PIN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a PIN is six to eight digits")]
pub struct PinError;

impl Pin {
    /// What makers of cards put on them.
    pub fn factory() -> Pin {
        Pin(Zeroizing::new(b"123456".to_vec()))
    }

    /// What makers of cards put on them, to unblock the PIN.
    pub fn factory_puk() -> Pin {
        Pin(Zeroizing::new(b"12345678".to_vec()))
    }

    /// `text` as somebody typed it.
    ///
    /// Errors: it is not six to eight digits.
    pub fn parse(text: &str) -> Result<Pin, PinError> {
        let good = (6..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if good { Ok(Pin(Zeroizing::new(text.as_bytes().to_vec()))) } else { Err(PinError) }
    }

    /// A fresh PIN, each digit as likely as any other; never one that everybody tries first.
    pub fn random() -> Pin {
        loop {
            let mut digits = Zeroizing::new(Vec::with_capacity(LENGTH));
            while digits.len() < LENGTH {
                let mut byte = [0];
                getrandom::fill(&mut byte).expect("the kernel gives random bytes");
                // 250 is the last multiple of ten that fits.
                if byte[0] < 250 {
                    digits.push(b'0' + byte[0] % 10);
                }
            }
            let pin = Pin(digits);
            if !pin.is_common() {
                return pin;
            }
        }
    }

    fn is_common(&self) -> bool {
        let steps: Vec<i16> =
            self.0.windows(2).map(|pair| i16::from(pair[1]) - i16::from(pair[0])).collect();
        [-1, 0, 1].iter().any(|step| steps.iter().all(|s| s == step))
    }

    /// As a card takes it: filled up with FF.
    pub(crate) fn padded(&self) -> Zeroizing<[u8; 8]> {
        let mut bytes = Zeroizing::new([0xFF; 8]);
        bytes[..self.0.len()].copy_from_slice(&self.0);
        bytes
    }

    /// The digits, for the letter and for nothing else.
    pub fn reveal(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits")
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn pins_differ_and_are_none_that_everybody_tries() {
        let pins: BTreeSet<String> = (0..200).map(|_| Pin::random().reveal().into()).collect();
        assert!(pins.len() > 190 && pins.iter().all(|p| Pin::parse(p).is_ok()));
        for common in ["000000", "123456", "654321", "99999999"] {
            assert!(Pin::parse(common).expect("digits").is_common(), "{common}");
        }
    }

    #[test]
    fn a_pin_is_not_shown() {
        let pin = Pin::parse("271828").expect("digits");
        assert_eq!(format!("{pin:?}"), "Pin(..)");
        assert_eq!(*pin.padded(), *b"271828\xFF\xFF");
        for bad in ["12345", "123456789", "12345a", "１２３４５６"] {
            assert_eq!(Pin::parse(bad), Err(PinError));
        }
    }
}

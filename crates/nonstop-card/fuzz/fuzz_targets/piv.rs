//! A card that answers whatever it likes: an error at worst, and an end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nonstop_card::{
    Pin,
    apdu::{Link, LinkError},
    issue,
    key::KeyAlgorithm,
    management::ManagementKey,
    piv::Piv,
};

/// Answers cut from the input: a byte of length, then so many bytes.
struct Hostile<'a>(&'a [u8]);

impl Link for Hostile<'_> {
    fn transmit(&mut self, _command: &[u8]) -> Result<Vec<u8>, LinkError> {
        let (length, rest) = self.0.split_first().ok_or(LinkError::PulledOut)?;
        let (answer, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        self.0 = rest;
        Ok(answer.to_vec())
    }
}

fuzz_target!(|data: &[u8]| {
    // The first answer is a PIV card's, so that the rest is reached.
    let start = [4, 0x61, 0, 0x90, 0];
    let bytes = [&start[..], data].concat();
    let Ok(mut piv) = Piv::select(Hostile(&bytes), "fuzz") else { return };
    let _ = piv.guid();
    let _ = issue::enrol::<_, ()>(&mut piv, &Pin::factory(), b"challenge");
    let _ = piv.manage(&[&ManagementKey::factory()]);
    let _ = piv.generate(KeyAlgorithm::Rsa2048);
});

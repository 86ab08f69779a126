//! Any bytes as an element, a certificate, a CHUID, a generated key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nonstop_card::{
    chuid,
    key::{CardKey, KeyAlgorithm},
    tlv,
};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok((_element, after)) = tlv::first(rest) {
        rest = after;
    }
    let _ = chuid::guid(data);
    let _ = CardKey::of_certificate(data);
    let _ = CardKey::generated(KeyAlgorithm::EcP256, data);
    let _ = CardKey::generated(KeyAlgorithm::Rsa2048, data);
});

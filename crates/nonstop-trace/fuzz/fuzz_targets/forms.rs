//! What a head and a receipt may hold: `cargo +nightly fuzz run forms` in `crates/nonstop-trace`.
#![no_main]

use nonstop_trace::{Head, Receipt, Released, stream};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(head) = Head::read(&text) {
        assert_eq!(Head::read(&head.line()).expect("its own"), head);
    }
    if let Ok(receipt) = Receipt::read(bytes) {
        assert_eq!(Receipt::read(receipt.text().as_bytes()).expect("its own"), receipt);
    }
    let _cut = stream::read(bytes, |_| {});
    // Behind the signature, which no fuzzer passes.
    if let Ok(released) = Released::read(&text) {
        assert_eq!(Released::read(&released.detail()).expect("its own"), released);
    }
});

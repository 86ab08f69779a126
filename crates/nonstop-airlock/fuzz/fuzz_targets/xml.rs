//! XML of a request: `cargo +nightly fuzz run xml` in `crates/nonstop-airlock`.
#![no_main]

use nonstop_airlock::xml::read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(element) = read(bytes) else { return };
    // What is kept of it and given back means the same.
    let mut written = String::new();
    element.write(&mut written);
    if let Ok(again) = read(written.as_bytes()) {
        assert_eq!(again, element);
    }
});

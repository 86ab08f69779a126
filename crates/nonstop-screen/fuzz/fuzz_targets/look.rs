//! Whatever a file is, it is measured and looked into to its end, without a panic, the same by one
//! thread and by two.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nonstop_screen::{look, measure};

fuzz_target!(|bytes: &[u8]| {
    let one = measure::measure(bytes, false).expect("memory can be read");
    assert_eq!(one, measure::measure(bytes, true).expect("memory can be read"));
    for kind in [one.kind, "zip", "7z", "rar", "pdf", "ole", "png", "gif", "jpeg", "webp", "bmp"] {
        let seen = look::look(bytes, kind).expect("memory can be read");
        assert!(seen.appended <= bytes.len() as u64);
    }
});

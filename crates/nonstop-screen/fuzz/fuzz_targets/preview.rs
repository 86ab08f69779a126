//! Whatever a file is, what is shown of it is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nonstop_screen::preview::{Shown, shown};

fuzz_target!(|bytes: &[u8]| {
    match shown(bytes, 64 << 20).expect("memory can be read") {
        Shown::Text { text, .. } => assert!(text.len() <= 64 << 10),
        Shown::Table { rows, .. } => {
            assert!(rows.len() <= 100 && rows.iter().all(|row| row.len() <= 30));
        }
        Shown::Picture { png, .. } => assert!(png.len() < 8 << 20),
        Shown::Bytes { hex } => assert!(hex.len() <= 1024),
    }
});

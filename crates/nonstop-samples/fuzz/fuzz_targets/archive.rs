//! An archive that arrives, as a day: `cargo +nightly fuzz run archive` in `crates/nonstop-samples`.
#![no_main]

use nonstop_samples::{archive::ArchiveError, day::Packer};
use std::io;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let packer = Packer::new(io::sink(), io::sink()).expect("memory");
    match packer.pack(file, io::sink(), io::sink(), |_| {}) {
        Ok(packed) => assert_eq!(packed.whole.bytes, file.len() as u64),
        Err(ArchiveError::Refused(_)) => {}
        Err(e) => panic!("memory is read: {e}"),
    }
});

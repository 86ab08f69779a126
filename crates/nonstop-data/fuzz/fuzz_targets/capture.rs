//! A file of packets that arrives: `cargo +nightly fuzz run capture` in `crates/nonstop-data`.
#![no_main]

use nonstop_data::{
    capture::{CaptureError, Reader},
    packet::Packet,
};

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let Ok(mut reader) = Reader::new(file) else { return };
    loop {
        match reader.next() {
            Ok(Some(record)) => {
                Packet::decode(&record);
            }
            Ok(None) => break assert_eq!(reader.offset(), file.len() as u64),
            Err(CaptureError::Read(e)) => panic!("memory is read: {e}"),
            Err(CaptureError::File { offset, .. }) => break assert!(offset <= file.len() as u64),
        }
    }
});

//! What a hostile client may say: `cargo +nightly fuzz run client` in `crates/nonstop-rdp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonstop_rdp::worker::harm::client(bytes));

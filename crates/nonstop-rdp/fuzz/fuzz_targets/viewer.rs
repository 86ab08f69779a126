//! What a hostile worker may say: `cargo +nightly fuzz run viewer` in `crates/nonstop-rdp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonstop_rdp::broker::harm::viewer(bytes));

//! What a hostile QEMU may say: `cargo +nightly fuzz run display` in `crates/nonstop-rdp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonstop_rdp::broker::harm::display(bytes));

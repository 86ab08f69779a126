//! The head of a request, what it names, and its conditions: `cargo +nightly fuzz run request` in
//! `crates/nonstop-airlock`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonstop_airlock::look_at_head(bytes));

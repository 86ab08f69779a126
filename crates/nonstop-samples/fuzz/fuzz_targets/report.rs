//! A report of a sandbox: `cargo +nightly fuzz run report` in `crates/nonstop-samples`.
#![no_main]

use nonstop_samples::limits;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let Ok(report) = nonstop_samples::report::read(file) else { return };
    assert!(report.started.chars().count() <= 40 && report.family.len() <= limits::TEXT_BYTES);
    assert!(report.found.files.len() <= limits::FIELD_BYTES);
});

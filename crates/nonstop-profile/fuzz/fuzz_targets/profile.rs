//! What a profile may hold: `cargo +nightly fuzz run profile` in `crates/nonstop-profile`.
#![no_main]

use nonstop_profile::{HostKey, Profile, Sealed};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _refused = Sealed::read(bytes);
    // Behind the signature, which no fuzzer passes.
    if let Ok(profile) = serde_json::from_slice::<Profile>(bytes) {
        let again = serde_json::to_vec(&profile).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<Profile>(&again).expect("and read"), profile);
    }
    if let Ok(key) = String::from_utf8_lossy(bytes).parse::<HostKey>() {
        assert_eq!(key.to_string().parse::<HostKey>().expect("its own text"), key);
        assert!(key.to_string().is_ascii());
    }
});

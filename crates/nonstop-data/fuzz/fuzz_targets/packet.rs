//! What a record may hold: `cargo +nightly fuzz run packet` in `crates/nonstop-data`.
#![no_main]

use nonstop_data::{
    capture::{Link, Record},
    packet::{PAYLOAD, Packet},
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, data)) = bytes.split_first() else { return };
    let links = [Link::Ethernet, Link::Ip, Link::Sll, Link::Sll2, Link::Null];
    let link = links[usize::from(*first) % links.len()];
    let record = Record { number: 1, offset: 24, nanoseconds: 0, link, length: 1, data };
    let packet = Packet::decode(&record);
    assert!(packet.payload.is_none_or(|payload| payload.len() <= PAYLOAD));
    assert_eq!(packet.src.is_some(), packet.protocol.is_some());
});

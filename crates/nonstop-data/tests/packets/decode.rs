//! Rows of frames that were cut off, changed, or are no frames at all.

use super::odd;
use nonstop_data::{
    capture::{Link, Record},
    packet::{PAYLOAD, Packet},
};
use proptest::prelude::*;

fn row(link: Link, data: &[u8]) -> Packet<'_> {
    let length = data.len() as u32 + 1;
    Packet::decode(&Record { number: 1, offset: 24, nanoseconds: -1, link, length, data })
}

fn sensible(row: &Packet<'_>, data: &[u8]) {
    assert_eq!((row.microseconds, row.length as usize), (-1, data.len() + 1));
    let ip = [row.src.is_some(), row.dst.is_some(), row.protocol.is_some(), row.ttl.is_some()];
    assert!(ip == [true; 4] || ip == [false; 4], "{row:?}");
    assert_eq!(row.sport.is_some(), row.dport.is_some());
    let more = row.sport.is_some() || row.icmp_type.is_some() || row.payload.is_some();
    assert!(ip[0] || !more, "{row:?}");
    assert!(row.tcp_flags.is_none() || (row.protocol == Some(6) && row.sport.is_some()));
    assert!(row.icmp_code.is_none() || row.icmp_type.is_some());
    assert!(row.payload.is_none_or(|payload| (1..=PAYLOAD).contains(&payload.len())));
}

/// Whether `less` is as `more` where it has something.
fn within<T: PartialEq>(less: &Option<T>, more: &Option<T>) -> bool {
    less.is_none() || less == more
}

#[test]
fn a_frame_cut_at_any_byte_tells_less_and_nothing_else() {
    for odd in odd::frames() {
        let link = Link::numbered(odd.link).expect("is known");
        let whole = row(link, &odd.bytes);
        for cut in 0..odd.bytes.len() {
            let cut = row(link, &odd.bytes[..cut]);
            sensible(&cut, &odd.bytes[..cut.length as usize - 1]);
            assert!(within(&cut.src, &whole.src) && within(&cut.dst, &whole.dst));
            assert!(within(&cut.sport, &whole.sport) && within(&cut.dport, &whole.dport));
            assert!(within(&cut.ttl, &whole.ttl) && within(&cut.tcp_flags, &whole.tcp_flags));
            assert!(within(&cut.icmp_type, &whole.icmp_type));
            assert!(within(&cut.icmp_code, &whole.icmp_code));
            let (part, all) = (cut.payload.unwrap_or(&[]), whole.payload.unwrap_or(&[]));
            assert!(all.starts_with(part), "{part:?} of {all:?}");
        }
    }
}

#[test]
fn a_frame_with_any_byte_changed_gives_a_sensible_row() {
    for odd in odd::frames() {
        let link = Link::numbered(odd.link).expect("is known");
        for at in 0..odd.bytes.len() {
            for byte in [0, 1, 4, 0x0f, 0x45, 0x60, 0x7f, 0x81, 0xff] {
                let mut bytes = odd.bytes.clone();
                bytes[at] = byte;
                sensible(&row(link, &bytes), &bytes);
            }
        }
    }
}

#[test]
fn any_bytes_give_a_sensible_row() {
    let links = [Link::Ethernet, Link::Ip, Link::Sll, Link::Sll2, Link::Null];
    let bytes = prop::collection::vec(
        prop_oneof![
            any::<u8>(),
            prop::sample::select(&[0x45, 0x60, 6, 8, 0, 0x81, 0x86, 0xdd][..])
        ],
        0..200,
    );
    proptest!(ProptestConfig::with_cases(20_000), |(link in 0..links.len(), bytes in bytes)| {
        sensible(&row(links[link], &bytes), &bytes);
    });
}

#[test]
fn a_chain_of_headers_that_never_ends_ends_with_the_packet() {
    // Hop-by-hop options of the least length, each followed by the same.
    let mut packet = vec![0x60, 0, 0, 0, 0xff, 0xf8, 0, 61];
    packet.resize(40 + 0xfff8, 0);
    let chained = row(Link::Ip, &packet);
    assert_eq!((chained.protocol, chained.payload), (Some(0), None));
    // And VLAN tags.
    let mut frame = vec![4; 12];
    frame.extend([0x81, 0].repeat(100_000));
    assert_eq!(row(Link::Ethernet, &frame).src, None);
}

#[test]
fn what_a_packet_carries_is_kept_without_padding_up_to_its_bound() {
    let mut by_protocol = std::collections::BTreeMap::new();
    for odd in odd::frames().iter().filter(|odd| odd.link == 1) {
        let row = row(Link::Ethernet, &odd.bytes);
        let payloads: &mut Vec<_> = by_protocol.entry(row.protocol).or_default();
        payloads.push(row.payload.map(<[u8]>::to_vec));
    }
    // ARP and its like have none.
    assert!(by_protocol[&None].iter().all(Option::is_none));
    // A SYN has none, though Ethernet pads it.
    assert_eq!(by_protocol[&Some(6)][0], None);
    // An echo request, and an error of ICMP with what it is about.
    assert_eq!(by_protocol[&Some(1)][0], Some(vec![9; 4]));
    let quoted = by_protocol[&Some(1)][3].as_ref().expect("quotes a packet");
    assert_eq!((quoted.len(), quoted[0], quoted[9]), (29, 0x45, 17));
    // ESP is kept as it is.
    assert_eq!(by_protocol[&Some(50)][0], Some((0..32).collect()));
}

//! Right files of every kind.

use super::{Read, read, writer::*};
use nonstop_data::capture::{Format, Link};
use proptest::prelude::*;

const DAY: i64 = 1_775_000_000;

fn one(file: &Bytes) -> Read {
    let (_, mut records) = read(&file.0).expect("the file is right");
    assert_eq!(records.len(), 1);
    records.remove(0)
}

#[test]
fn a_file_has_a_record_for_each_that_was_written() {
    let written = (
        any::<(bool, bool)>(),
        prop::collection::vec(
            (
                0..=u32::MAX,
                0..1_000_000_u32,
                prop::collection::vec(any::<u8>(), 0..200),
                1..9000_u32,
            ),
            1..60,
        ),
    );
    proptest!(|(((big, nanoseconds), records) in written)| {
        let order = if big { Order::Big } else { Order::Little };
        let mut old = pcap(order, nanoseconds, 1);
        let mut new = pcapng(order);
        let resolution: &[u8] = if nanoseconds { &[9] } else { &[6] };
        interface(&mut new, 1, &[(2, b"eth0"), (9, resolution)]);
        let parts = if nanoseconds { 1_000_000_000 } else { 1_000_000 };
        let mut expected = Vec::new();
        for (seconds, fraction, data, more) in &records {
            let length = data.len() as u32 + more;
            record(&mut old, *seconds, *fraction, length, data);
            let ticks = u64::from(*seconds) * parts + u64::from(*fraction);
            if more % 2 == 0 {
                enhanced(&mut new, 0, ticks, length, data);
            } else {
                obsolete(&mut new, 0, ticks, length, data);
            }
            expected.push(Read {
                nanoseconds: i64::from(*seconds) * 1_000_000_000
                    + i64::from(*fraction) * (1_000_000_000 / parts as i64),
                link: Link::Ethernet,
                length,
                data: data.clone(),
            });
        }
        prop_assert_eq!(read(&old.0).unwrap(), (Format::Pcap, expected.clone()));
        prop_assert_eq!(read(&new.0).unwrap(), (Format::Pcapng, expected));
    });
}

#[test]
fn an_interface_tells_time_in_its_own_resolution_and_offset() {
    let tell = |order: Order, options: &[(u16, &[u8])], ticks| {
        let mut file = pcapng(order);
        interface(&mut file, 1, options);
        enhanced(&mut file, 0, ticks, 60, &[0; 60]);
        one(&file).nanoseconds
    };
    for order in [Order::Little, Order::Big] {
        let offset = match order {
            Order::Little => DAY.to_le_bytes(),
            Order::Big => DAY.to_be_bytes(),
        };
        let before = match order {
            Order::Little => (-DAY).to_le_bytes(),
            Order::Big => (-DAY).to_be_bytes(),
        };
        let second = 1_000_000_000;
        assert_eq!(tell(order, &[], DAY as u64 * 1_000_000 + 7), DAY * second + 7_000);
        assert_eq!(tell(order, &[(9, &[0])], DAY as u64), DAY * second);
        assert_eq!(tell(order, &[(9, &[3])], DAY as u64 * 1000 + 1), DAY * second + 1_000_000);
        assert_eq!(tell(order, &[(9, &[12])], 1_500_000_001_999), second + 500_000_001);
        // A tick of 2^-32 s, as NTP has it; of 2^-1 s; of 10^-38 s.
        assert_eq!(tell(order, &[(9, &[0x80 | 32])], (5 << 32) | (1 << 31)), 5_500_000_000);
        assert_eq!(tell(order, &[(9, &[0x81])], 3), 1_500_000_000);
        assert_eq!(tell(order, &[(9, &[38])], u64::MAX), 0);
        assert_eq!(tell(order, &[(14, &offset), (9, &[9])], 42), DAY * second + 42);
        assert_eq!(tell(order, &[(9, &[0]), (14, &before)], 1), (1 - DAY) * second);
    }
}

#[test]
fn sections_of_both_byte_orders_and_interfaces_of_their_own_follow_each_other() {
    let mut file = pcapng(Order::Little);
    interface(&mut file, 1, &[]);
    interface(&mut file, 101, &[(9, &[9])]);
    enhanced(&mut file, 1, 5, 20, &[0x45; 20]);
    enhanced(&mut file, 0, 5, 60, &[1; 60]);
    let mut second = pcapng(Order::Big);
    interface(&mut second, 113, &[]);
    enhanced(&mut second, 0, 6, 64, &[2; 61]);
    file.raw(&second.0);
    let (_, records) = read(&file.0).unwrap();
    let seen: Vec<_> = records.iter().map(|r| (r.link, r.nanoseconds, r.data.len())).collect();
    assert_eq!(seen, [(Link::Ip, 5, 20), (Link::Ethernet, 5000, 60), (Link::Sll, 6000, 61)]);
}

#[test]
fn blocks_that_hold_no_packets_are_passed_over_whatever_their_length() {
    let mut file = pcapng(Order::Little);
    block(&mut file, 4, |body| {
        body.raw(&[7; 100]);
    });
    interface(&mut file, 1, &[]);
    // Longer than what the reader holds at once.
    block(&mut file, 10, |body| {
        body.raw(&vec![7; 5_000_001]);
    });
    enhanced(&mut file, 0, 1, 60, &[0; 60]);
    block(&mut file, 5, |body| {
        body.raw(&[0; 24]);
    });
    assert_eq!(one(&file).length, 60);
}

#[test]
fn every_link_type_is_known_by_its_number() {
    for (number, link) in [
        (0, Link::Null),
        (108, Link::Null),
        (1, Link::Ethernet),
        (12, Link::Ip),
        (14, Link::Ip),
        (101, Link::Ip),
        (228, Link::Ip),
        (229, Link::Ip),
        (113, Link::Sll),
        (276, Link::Sll2),
    ] {
        let mut old = pcap(Order::Big, false, number);
        record(&mut old, 1, 1, 60, &[0; 60]);
        assert_eq!(one(&old).link, link);
        let mut new = pcapng(Order::Big);
        interface(&mut new, number as u16, &[]);
        enhanced(&mut new, 0, 1, 60, &[0; 60]);
        assert_eq!(one(&new).link, link);
    }
    // The upper bits say that frames end with a checksum of four bytes.
    let mut file = pcap(Order::Little, false, 0x5400_0001);
    record(&mut file, 1, 1, 60, &[0; 60]);
    assert_eq!(one(&file).link, Link::Ethernet);
}

#[test]
fn the_longest_record_is_read() {
    let mut file = pcap(Order::Little, false, 1);
    for _ in 0..9 {
        record(&mut file, 1, 1, 300_000, &vec![9; 262_144]);
    }
    assert_eq!(read(&file.0).unwrap().1.len(), 9);
}

//! Files that something is wrong with.

use super::{told, writer::*};
use nonstop_data::capture::{CaptureError, Fault};

fn small(order: Order) -> Bytes {
    let mut file = pcap(order, false, 1);
    record(&mut file, 1_775_000_000, 5, 60, &[1; 60]);
    record(&mut file, 1_775_000_001, 5, 1500, &[2; 7]);
    file
}

fn small_ng(order: Order) -> Bytes {
    let mut file = pcapng(order);
    interface(&mut file, 1, &[(2, b"eth0"), (9, &[9])]);
    enhanced(&mut file, 0, 1_775_000_000_000_000_000, 60, &[1; 60]);
    block(&mut file, 5, |body| {
        body.raw(&[0; 12]);
    });
    obsolete(&mut file, 0, 1_775_000_000_000_000_009, 1500, &[2; 7]);
    file
}

#[test]
fn a_file_cut_at_any_byte_is_told_unless_a_record_ends_there() {
    for order in [Order::Little, Order::Big] {
        let whole = small(order).0;
        let ends = [24 + 16 + 60, whole.len()];
        for cut in 0..=whole.len() {
            let read = super::read(&whole[..cut]);
            assert_eq!(read.is_ok(), ends.contains(&cut), "{cut}: {read:?}");
        }
        let whole = small_ng(order).0;
        let ends = [whole.len() - 64, whole.len() - 40, whole.len()];
        for cut in 0..=whole.len() {
            let read = super::read(&whole[..cut]);
            assert_eq!(read.is_ok(), ends.contains(&cut), "{cut}: {read:?}");
        }
    }
}

#[test]
fn an_error_says_the_record_and_the_byte_and_stays() {
    let file = small(Order::Little).0;
    let torn = &file[..file.len() - 1];
    assert_eq!(
        told(torn),
        "record 2 at byte 100: the file ends in the middle of it: 23 bytes are announced, 22 are there"
    );
    let mut reader = nonstop_data::capture::Reader::new(torn).unwrap();
    assert!(reader.next().unwrap().is_some());
    for _ in 0..3 {
        let Err(CaptureError::File { record: 2, offset: 100, fault: Fault::Torn { .. } }) =
            reader.next()
        else {
            panic!("it is as torn as before")
        };
    }
}

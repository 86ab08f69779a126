//! Files that something is wrong with.

use super::{read, told, writer::*};
use nonstop_data::capture::{CaptureError, Fault, Reader};
use proptest::prelude::*;
use std::io;

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
            let read = read(&whole[..cut]);
            assert_eq!(read.is_ok(), ends.contains(&cut), "{cut}: {read:?}");
        }
        let whole = small_ng(order).0;
        let ends = [whole.len() - 64, whole.len() - 40, whole.len()];
        for cut in 0..=whole.len() {
            let read = read(&whole[..cut]);
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
    let mut reader = Reader::new(torn).unwrap();
    assert!(reader.next().unwrap().is_some());
    for _ in 0..3 {
        let Err(CaptureError::File { record: 2, offset: 100, fault: Fault::Torn { .. } }) =
            reader.next()
        else {
            panic!("it is as torn as before")
        };
    }
}

#[test]
fn each_fault_is_told_by_its_name() {
    const NONE: &str = ": this is no header of a record";
    let with = |at: usize, number: u32| {
        let mut file = small(Order::Little).0;
        file[at..at + 4].copy_from_slice(&number.to_le_bytes());
        told(&file)
    };
    assert_eq!(
        with(4, 0x0004_0001),
        "the file's header: version 1.4 of the format is not known; `editcap OLD NEW` writes a known \
         one"
    );
    assert_eq!(
        with(20, 147),
        "the file's header: link type 147 is not known; Ethernet, raw IP, Linux cooked and BSD \
         loopback are"
    );
    for (at, number, expected) in [
        (104, 1_000_000, "it claims 1000000 parts of a second"),
        (108, 262_145, "it claims 262145 captured bytes, above 262144"),
        (112, 6, "it claims 7 captured bytes of 6"),
        (112, 0, "it claims a packet of no length"),
    ] {
        assert_eq!(with(at, number), format!("record 2 at byte 100: {expected}{NONE}"));
    }
    let short =
        "record 3 at byte 122: the file ends in the middle of it: 16 bytes are announced, 1";
    assert!(with(108, 6).starts_with(short));

    let new = |write: &dyn Fn(&mut Bytes)| {
        let mut file = pcapng(Order::Little);
        interface(&mut file, 1, &[]);
        interface(&mut file, 147, &[]);
        write(&mut file);
        told(&file.0)
    };
    let first = "record 1 at byte 68: ";
    let says = |write: &dyn Fn(&mut Bytes), expected: &str| {
        assert_eq!(new(write), format!("{first}{expected}"));
    };
    says(
        &|f| enhanced(f, 1, 1, 60, &[0; 60]),
        "link type 147 is not known; Ethernet, raw IP, Linux cooked and BSD loopback are",
    );
    says(
        &|f| enhanced(f, 2, 1, 60, &[0; 60]),
        "it is of interface 2, which was not described before it",
    );
    says(
        &|f| obsolete(f, 9, 1, 60, &[0; 60]),
        "it is of interface 9, which was not described before it",
    );
    says(&|f| enhanced(f, 0, u64::MAX, 60, &[0; 60]), "its time cannot be");
    says(
        &|f| enhanced(f, 0, 1, 0, &[]),
        "it claims a packet of no length: this is no header of a record",
    );
    // Blocks of these words: type, length and on.
    for (words, expected) in [
        (
            &[3, 16, 1, 16][..],
            "it has no time (a \"simple packet block\"); capture into enhanced packet blocks",
        ),
        (&[6, 36, 0, 0, 1, 8, 8, 0, 36], "a block of 36 bytes cannot be: this is no block"),
        (&[6, 16, 0, 16], "a block of 16 bytes cannot be: this is no block"),
        (&[6, 13], "a block of 13 bytes cannot be: this is no block"),
        (&[6, 8], "a block of 8 bytes cannot be: this is no block"),
        (&[6, 0x200_000], "a block of 2097152 bytes cannot be: this is no block"),
        (&[5, 0x4000_0000], "a block of 1073741824 bytes cannot be: this is no block"),
        (&[5, 16, 0, 17], "a block says 16 bytes at its begin and 17 at its end"),
        (&[6, 16, 0, 17], "a block says 16 bytes at its begin and 17 at its end"),
        (
            &[5, 16 << 20],
            "the file ends in the middle of it: 16777216 bytes are announced, 8 are there",
        ),
        (&[0x0a0d_0d0a, 28, 0x1a2b_3c4e, 0, 0, 0, 28], "a section's byte order reads 0x1a2b3c4e"),
        (
            &[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 2, 0, 0, 28],
            "version 2.0 of the format is not known; `editcap OLD NEW` writes a known one",
        ),
        (&[0x0a0d_0d0a, 24, 0x1a2b_3c4d], "a block of 24 bytes cannot be: this is no block"),
    ] {
        let write = |file: &mut Bytes| {
            words.iter().for_each(|word| {
                file.u32(*word);
            });
        };
        says(&write, expected);
    }
    says(&|f| interface(f, 1, &[(9, &[6, 6])]), "an option of a block has a wrong length");
    says(&|f| interface(f, 1, &[(14, &[0; 4])]), "an option of a block has a wrong length");
    says(&|f| interface(f, 1, &[(9, &[39])]), "its time cannot be");
    says(
        &|f| {
            block(f, 1, |body| {
                body.u32(1).u32(0).u16(2).u16(400);
            })
        },
        "an option of a block has a wrong length",
    );
    assert_eq!(new(&|_| {}), "there is no packet in it");
    let many = |f: &mut Bytes| (0..4095).for_each(|_| interface(f, 1, &[]));
    assert!(new(&many).ends_with("more than 4096 interfaces are described in one section"));
}

#[test]
fn a_passed_block_that_is_cut_off_stays_an_error() {
    let mut file = small_ng(Order::Little);
    file.u32(5).u32(8 << 20).raw(&vec![0; 5 << 20]);
    let mut reader = Reader::new(&file.0[..]).unwrap();
    assert!(reader.next().unwrap().is_some() && reader.next().unwrap().is_some());
    for _ in 0..3 {
        let told = reader.next().unwrap_err().to_string();
        assert!(told.ends_with("8388608 bytes are announced, 5242888 are there"), "{told}");
    }
}

#[test]
fn whichever_bit_is_wrong_the_file_is_read_to_its_last_byte_or_told() {
    let (mut right, mut wrong) = (0, 0);
    for order in [Order::Little, Order::Big] {
        for file in [small(order).0, small_ng(order).0] {
            for bit in 0..8 * file.len() {
                let mut file = file.clone();
                file[bit / 8] ^= 1 << (bit % 8);
                match read(&file) {
                    Ok((_, records)) => right += records.len(),
                    Err(CaptureError::File { .. }) => wrong += 1,
                    Err(e) => panic!("{e}"),
                }
            }
        }
    }
    assert!(right > 1000 && wrong > 500, "{right} records in spite of it, {wrong} told");
}

#[test]
fn nonsense_behind_a_right_begin_ends_and_harms_nobody() {
    proptest!(|(which in 0..3, nonsense in prop::collection::vec(any::<u8>(), 0..4000))| {
        let mut file = match which {
            0 => pcap(Order::Little, true, 1).0,
            1 => pcapng(Order::Big).0,
            _ => Vec::new(),
        };
        file.extend(nonsense);
        let _ = read(&file);
    });
}

/// Gives a few bytes at a time, and fails in the end.
struct Slow<'a>(&'a [u8]);

impl io::Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.len().min(buffer.len()).min(3);
        if n == 0 {
            return Err(io::Error::other("the disk is broken"));
        }
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

#[test]
fn what_comes_in_pieces_is_read_and_a_broken_disk_is_no_fault_of_the_file() {
    let file = small_ng(Order::Big).0;
    let mut reader = Reader::new(Slow(&file)).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().data, [1; 60]);
    assert_eq!(reader.next().unwrap().unwrap().data, [2; 7]);
    assert!(matches!(reader.next(), Err(CaptureError::Read(_))));
}

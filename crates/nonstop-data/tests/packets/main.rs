//! Files of packets of every kind, written here byte by byte, and what the reader makes of them.

mod check;
mod decode;
mod generated;
mod harm;
mod kinds;
mod odd;
mod tools;
mod tshark;
mod writer;

use nonstop_data::capture::{CaptureError, Format, Link, Reader};

/// A record that was read, with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Read {
    nanoseconds: i64,
    link: Link,
    length: u32,
    data: Vec<u8>,
}

/// Reads `file` to its end or to what is wrong with it.
fn read(file: &[u8]) -> Result<(Format, Vec<Read>), CaptureError> {
    let mut reader = Reader::new(file)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        records.push(Read {
            nanoseconds: record.nanoseconds,
            link: record.link,
            length: record.length,
            data: record.data.to_vec(),
        });
        assert_eq!(record.number, records.len() as u64);
    }
    assert_eq!(reader.offset(), file.len() as u64, "a file is understood to its last byte");
    Ok((reader.format(), records))
}

/// What is told of a file that is not read to its end.
fn told(file: &[u8]) -> String {
    read(file).expect_err("something is wrong with the file").to_string()
}

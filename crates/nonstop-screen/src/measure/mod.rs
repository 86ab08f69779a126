//! `nonstop-screen measure`: one pass over the bytes. Their hash, what they are, how dense they are.
//!
//! Nothing is parsed that leads anywhere: no length that the file says is followed beyond its first
//! 64 KiB. Where there are two processors, one hashes and the other looks.

pub mod density;
pub mod magic;
pub mod text;

use crate::{
    child::{Given, confined},
    input::{Bytes, Stdin},
    said::{Measured, Said},
};
use density::{Density, PIECE};
use ring::digest::{Context, SHA256};
use std::{io, process::ExitCode, sync::mpsc, thread};
use text::Texts;

/// Reads the file on standard input to its end and says what it is. Run as root; it gives that up
/// before the first byte.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    given: Given,
    /// Uses one processor, also where there are more.
    #[arg(long)]
    one_processor: bool,
}

/// Bytes that are read at once: they stay in a processor's own memory between hash and looks.
const BUFFER: usize = 4 * PIECE;
/// Buffers that go round between two threads.
const BUFFERS: usize = 4;

/// Measures standard input.
pub fn run(args: &Args) -> ExitCode {
    let input = match Stdin::open() {
        Ok(input) => input,
        Err(reason) => return Said::failed(reason).say(),
    };
    // Asked now, since it reads files.
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let two = processors > 1 && !args.one_processor && input.size() > 4 * BUFFER as u64;
    if let Err(e) = confined(args.given, two, 0) {
        return Said::failed(format!("nonstop-screen was not let go of its rights: {e}")).say();
    }
    // Where no thread is to be had, one does both.
    let measured = measure(&input, two).or_else(|_| measure(&input, false));
    match measured {
        Ok(measured) if measured.bytes == input.size() => Said::Measured(measured).say(),
        Ok(measured) => {
            let (had, read) = (input.size(), measured.bytes);
            Said::failed(format!("the file had {had} bytes, and {read} when it was read")).say()
        }
        Err(e) => Said::failed(format!("read the file: {e}")).say(),
    }
}

/// Measures `input`, with a thread beside this one if `two` says so.
///
/// Errors: it cannot be read.
pub fn measure(input: &(impl Bytes + ?Sized), two: bool) -> io::Result<Measured> {
    let mut hash = Context::new(&SHA256);
    let mut looks = Looks::default();
    let bytes = if two {
        in_two(input, &mut hash, &mut looks)?
    } else {
        let mut buffer = vec![0; BUFFER];
        let mut at = 0;
        loop {
            let n = input.fill_at(at, &mut buffer)?;
            if n == 0 {
                break at;
            }
            hash.update(&buffer[..n]);
            looks.add(&buffer[..n]);
            at += n as u64;
        }
    };
    Ok(looks.measured(bytes, &hash))
}

/// Reads and hashes here, and looks in a thread of its own.
fn in_two(input: &(impl Bytes + ?Sized), hash: &mut Context, looks: &mut Looks) -> io::Result<u64> {
    let (full, filled) = mpsc::sync_channel::<(Vec<u8>, usize)>(BUFFERS);
    let (empty, free) = mpsc::sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        let _nobody_is_gone_yet = empty.send(vec![0; BUFFER]);
    }
    thread::scope(move |scope| {
        let looker = move || {
            for (buffer, n) in filled {
                looks.add(&buffer[..n]);
                let _the_reader_has_ended = empty.send(buffer);
            }
        };
        thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, looker)?;
        // Gone when this closure ends, at which the looker ends.
        let full = full;
        let mut at = 0;
        loop {
            let Ok(mut buffer) = free.recv() else {
                return Err(io::Error::other("the thread that looks has ended"));
            };
            let n = input.fill_at(at, &mut buffer)?;
            if n == 0 {
                return Ok(at);
            }
            hash.update(&buffer[..n]);
            at += n as u64;
            if full.send((buffer, n)).is_err() {
                return Err(io::Error::other("the thread that looks has ended"));
            }
        }
    })
}

/// All that is looked at but the hash.
#[derive(Debug, Default)]
struct Looks {
    head: Vec<u8>,
    density: Density,
    texts: Texts,
}

impl Looks {
    /// Looks at the next bytes: whole pieces, but at the end.
    fn add(&mut self, bytes: &[u8]) {
        if self.head.is_empty() {
            self.head = bytes[..bytes.len().min(magic::HEAD)].to_vec();
        }
        self.density.add(bytes);
        if !self.texts.is_hopeless() {
            self.texts.add(bytes);
        }
    }

    fn measured(self, bytes: u64, hash: &Context) -> Measured {
        let begin = magic::by_begin(&self.head, bytes);
        let encoding = self.texts.encoding(self.density.counts());
        let (kind, encoding) = match (bytes, begin, encoding) {
            (0, ..) => ("empty", None),
            (_, Some(kind), _) => (kind, None),
            (_, None, Some(encoding)) => {
                let plain: Vec<u8> = match encoding {
                    "utf-16le" | "utf-16be" => {
                        self.head.iter().filter(|byte| **byte != 0).copied().collect()
                    }
                    _ => self.head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.head).to_vec(),
                };
                (magic::by_words(plain.strip_prefix(b"\xff\xfe").unwrap_or(&plain)), Some(encoding))
            }
            (_, None, None) => (magic::by_first_words(&self.head).unwrap_or("unknown"), None),
        };
        Measured {
            bytes,
            sha256: hex::encode(hash.clone().finish()),
            kind,
            encoding,
            dense_pieces: self.density.dense(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_and_two_find_the_same() {
        let mut bytes = "一行目,1\n".repeat(200_000).into_bytes();
        bytes.truncate(2_000_004);
        let one = measure(&bytes[..], false).expect("read");
        assert_eq!(one, measure(&bytes[..], true).expect("read"));
        assert_eq!((one.kind, one.encoding, one.dense_pieces), ("text", Some("utf-8"), 0));
        assert_eq!(one.bytes, 2_000_004);
        let sum = hex::encode(ring::digest::digest(&SHA256, &bytes));
        assert_eq!(one.sha256, sum);
    }

    #[test]
    fn marks_of_the_order_of_bytes_do_not_hide_what_a_text_says() {
        let html: Vec<u8> =
            "\u{feff}<html><script>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(measure(&html[..], false).expect("read").kind, "html");
        assert_eq!(measure(&b"\xef\xbb\xbf#!/bin/sh\n"[..], false).expect("read").kind, "script");
        assert_eq!(measure(&b""[..], false).expect("read").kind, "empty");
        assert_eq!(measure(&b"\0\x01\x02"[..], false).expect("read").kind, "unknown");
    }
}

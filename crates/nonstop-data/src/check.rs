//! `nonstop-data check`: whether a file that arrived can become a day.
//!
//! Holds the open file as standard input and nothing else. It is read once, to its last record, and
//! hashed on the way; every record must be of the day. What is found is [told](crate::told) on
//! standard output.

use crate::{
    capture::{CaptureError, Fault, Format, Reader, Record},
    say::{GivenDay, Say, confined},
    told::{Checked, Told},
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::{
    io::{self, Read},
    process::ExitCode,
};

/// Reads the file on standard input to its last record and tells whether it can become a day.
///
/// The file must be open for reading, from its begin. Run as root; it gives that up before the
/// first byte.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    given: GivenDay,
    /// The user to read it as.
    #[arg(long, default_value_t = 65534, value_parser = clap::value_parser!(u32).range(1..))]
    pub uid: u32,
    /// The group to read it as.
    #[arg(long, default_value_t = 65534, value_parser = clap::value_parser!(u32).range(1..))]
    pub gid: u32,
}

/// Memory of the process, in bytes: the program itself is most of it.
const MEMORY_BYTES: u64 = 128 << 20;

/// Checks standard input. Exit code 0 if it was told what the file is, also where that is no good.
pub fn run(args: &Args) -> ExitCode {
    let say = Say::new();
    let of = match crate::say::file_on_stdin() {
        Ok(of) => of,
        Err(reason) => return say.failed(&reason),
    };
    if let Err(e) = confined(args.uid, args.gid, MEMORY_BYTES, &[]) {
        return say.failed(&format!("nonstop-data check was not let go of its rights: {e}"));
    }
    let mut file = Hashing { source: crate::say::Stdin, sha256: Sha256::new(), bytes: 0, of, say };
    let told = match day(&mut file, args.given) {
        Ok(told) => told,
        Err(CaptureError::Read(e)) => return file.say.failed(&format!("read the file: {e}")),
        Err(CaptureError::File { record, offset, fault }) => {
            let mend = mend(&fault);
            let fault = CaptureError::File { record, offset, fault };
            Told::Refused { reason: format!("{fault}{mend}") }
        }
    };
    if let Told::Checked(_) = told
        && file.bytes != of
    {
        let read = file.bytes;
        return file.say.failed(&format!("the file had {of} bytes, and {read} when it was read"));
    }
    file.say.last(&told)
}

/// What the file is, read to its end.
fn day<R: Read>(file: &mut Hashing<R>, given: GivenDay) -> Result<Told, CaptureError> {
    let bounds = given.from.as_nanosecond()..given.until.as_nanosecond();
    let mut reader = Reader::new(&mut *file)?;
    let format = reader.format();
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    while let Some(record) = reader.next()? {
        if !bounds.contains(&i128::from(record.nanoseconds)) {
            return Ok(Told::Refused { reason: outside(&record, format, given) });
        }
        first = first.min(record.nanoseconds);
        last = last.max(record.nanoseconds);
    }
    let packets = reader.records();
    Ok(Told::Checked(Checked {
        format: format.to_string(),
        packets,
        bytes: file.bytes,
        first: time(first),
        last: time(last),
        sha256: hex::encode(file.sha256.clone().finalize()),
    }))
}

fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).expect("64 bits of nanoseconds are 584 years")
}

fn outside(record: &Record<'_>, format: Format, given: GivenDay) -> String {
    let GivenDay { day, from, until } = given;
    let Record { number, offset, nanoseconds, .. } = record;
    format!(
        "record {number} at byte {offset} is of {}, and {day} is from {from} up to {until} here; if \
         the sensor's clock is right: `editcap -F {format} -A {from} -B {until} OLD NEW`",
        time(*nanoseconds)
    )
}

/// How to mend a file; what `fault` does not say by itself.
fn mend(fault: &Fault) -> &'static str {
    match fault {
        Fault::Torn { .. } => {
            "; bring the whole file, or what is whole of it: `editcap -F pcapng OLD NEW`"
        }
        Fault::Captured(_)
        | Fault::MoreThanOnWire { .. }
        | Fault::NothingOnWire
        | Fault::Fraction(_)
        | Fault::Time
        | Fault::Interface(_)
        | Fault::Block(_)
        | Fault::BlockEnd { .. }
        | Fault::Order(_)
        | Fault::Option => {
            "; bring the file again, or what stands before this: `editcap -F pcapng OLD NEW`"
        }
        _ => "",
    }
}

/// Hashes what is read, and tells how far it is.
struct Hashing<R> {
    source: R,
    sha256: Sha256,
    bytes: u64,
    of: u64,
    say: Say,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.sha256.update(&buffer[..n]);
        self.bytes += n as u64;
        self.say.progress(self.bytes, self.of);
        Ok(n)
    }
}

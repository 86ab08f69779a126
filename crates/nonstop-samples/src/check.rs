//! `nonstop-samples check-samples`: whether an archive that arrived can become a day, and the files of
//! that day.
//!
//! Holds the open archive as standard input, and as 3, 4, 5 and 6 the empty files that are to be the
//! day's samples, reports, index and hashes: nothing else. The archive is read once. What is found is
//! [told](nonstop_api::told) on standard output.

use crate::{
    archive::ArchiveError,
    child::{Become, IN_MEMORY, chain, confined, given},
    day::Packer,
};
use nonstop_api::told::{Packed, Told};
use nonstop_data::say::{GivenDay, Say, Stdin, file_on_stdin};
use std::{
    io::{BufReader, BufWriter},
    process::ExitCode,
};

/// Reads the archive on standard input to its end, and makes the files of a day of it.
///
/// The archive must be open for reading, from its begin; 3, 4, 5 and 6 are for the samples, the
/// reports, the index and the hashes of all that. Run as root; it gives that up before the first byte.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    _given: GivenDay,
    #[command(flatten)]
    who: Become,
}

/// Memory of the process, in bytes: the index of a day is made in it.
const MEMORY_BYTES: u64 = 4 << 30;
/// What is written at once, in bytes.
const PIECE: usize = 1 << 20;

/// Checks standard input. Exit code 0 if it was told what the archive is, also where that is no good.
pub fn run(args: &Args) -> ExitCode {
    let mut say = Say::new();
    let of = match file_on_stdin() {
        Ok(of) => of,
        Err(reason) => return say.failed(&reason),
    };
    let files = [3, 4, 5, 6].map(|number| given(number).map_err(|e| (number, e)));
    let [samples, reports, index, hashes] = match files {
        [Ok(samples), Ok(reports), Ok(index), Ok(hashes)] => [samples, reports, index, hashes],
        files => {
            let told = files
                .into_iter()
                .find_map(Result::err)
                .map(|(number, e)| format!("descriptor {number} must be a file to write to: {e}"));
            return say.failed(&told.unwrap_or_default());
        }
    };
    let write = |file| BufWriter::with_capacity(PIECE, file);
    // Made before the process is confined: SQLite begins with files that are out of reach after.
    let packer = match Packer::new(write(samples), write(reports)) {
        Ok(packer) => packer,
        Err(e) => return say.failed(&chain(&e)),
    };
    if let Err(e) = confined(&args.who, MEMORY_BYTES, None, &[IN_MEMORY]) {
        return say.failed(&format!("nonstop-samples was not let go of its rights: {e}"));
    }
    let tar = BufReader::with_capacity(PIECE, Stdin);
    match packer.pack(tar, index, hashes, |bytes| say.progress(bytes, of)) {
        Ok(packed) if packed.whole.bytes != of => {
            let read = packed.whole.bytes;
            say.failed(&format!("the file had {of} bytes, and {read} when it was read"))
        }
        Ok(packed) => say.last(&Told::Packed(Packed {
            bytes: of,
            samples: packed.samples,
            reports: packed.reports,
            sha256: packed.whole.digest.to_string(),
        })),
        Err(ArchiveError::Refused(reason)) => say.last(&Told::Refused { reason }),
        Err(e @ (ArchiveError::Read(_) | ArchiveError::Write(_))) => say.failed(&chain(&e)),
    }
}

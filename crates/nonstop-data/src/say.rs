//! How a child of `nonstopd` begins and ends: it looks at the file that it was given, gives up its
//! rights, and says lines of [`Told`] on standard output.

use crate::told::Told;
use jiff::{Timestamp, civil::Date};
use nonstop_confine::{ConfineError, Left, confine};
use rustix::{
    fs::{Advice, FileType, OFlags, fadvise, fcntl_getfl, fstat},
    stdio::stdin,
};
use std::{
    io::{self, Read, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

/// The longest reason, in bytes.
const LONGEST_REASON: usize = 500;

/// The day that standard input is to be.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct GivenDay {
    /// The day that the file's name says.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub day: Date,
    /// When that day begins.
    #[arg(long, value_name = "RFC 3339")]
    pub from: Timestamp,
    /// When that day has ended.
    #[arg(long, value_name = "RFC 3339")]
    pub until: Timestamp,
}

/// Lines on standard output.
#[derive(Debug)]
pub struct Say {
    last: Instant,
}

impl Default for Say {
    fn default() -> Self {
        Self::new()
    }
}

impl Say {
    /// Has said nothing yet.
    pub fn new() -> Self {
        Self { last: Instant::now() }
    }

    /// Says how far it is, if the last time is a second ago. That nobody listens any more is found by
    /// whoever waits for this process.
    pub fn progress(&mut self, bytes: u64, of: u64) {
        if self.last.elapsed() >= Duration::from_secs(1) {
            self.last = Instant::now();
            let _ = line(&Told::Progress { bytes, of });
        }
    }

    /// Says the last line. The exit code is 0 unless it could not be said.
    pub fn last(self, told: &Told) -> ExitCode {
        match line(told) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        }
    }

    /// Says as the last line that it could not be done now. The exit code is 1.
    pub fn failed(self, reason: &str) -> ExitCode {
        let _ = line(&Told::Failed { reason: reason.into() });
        ExitCode::FAILURE
    }
}

fn line(told: &Told) -> io::Result<()> {
    let told = match told.clone() {
        Told::Refused { reason } => Told::Refused { reason: printable(reason) },
        Told::Failed { reason } => Told::Failed { reason: printable(reason) },
        other => other,
    };
    let mut line = serde_json::to_string(&told)?;
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}

/// `reason` on one line, of at most [`LONGEST_REASON`] bytes.
pub fn printable(reason: String) -> String {
    let mut reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
    reason
}

/// Looks at what is on standard input: its length in bytes, or what is wrong with it.
pub fn file_on_stdin() -> Result<u64, String> {
    let told = |e| format!("look at standard input: {e}");
    let stat = fstat(stdin()).map_err(told)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("standard input must be the file itself: `nonstop-data ... < FILE`".into());
    }
    if fcntl_getfl(stdin()).map_err(told)?.contains(OFlags::WRONLY) {
        return Err("standard input must be open for reading".into());
    }
    // Only makes it faster.
    let _ = fadvise(stdin(), 0, None, Advice::Sequential);
    Ok(stat.st_size.unsigned_abs())
}

/// Leaves this process with standard input, output and error, `memory_bytes` of address space and the
/// system calls in `calls` beside those that every process needs. It must be root's, and of one
/// thread.
pub fn confined(
    uid: u32,
    gid: u32,
    memory_bytes: u64,
    calls: &[&[i64]],
) -> Result<(), ConfineError> {
    confine(Left {
        uid,
        gid,
        memory_bytes,
        file_bytes: 1 << 20,
        files: 3,
        threads: 0,
        cpu_seconds: None,
        calls,
    })
}

/// Standard input without a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Stdin;

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(stdin(), buffer)?)
    }
}

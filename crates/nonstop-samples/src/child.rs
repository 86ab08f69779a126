//! How a child of `nonstopd` begins and ends here: it opens what it was given, gives up its rights,
//! and answers one line.

use nonstop_api::samples::Answer;
use nonstop_confine::{ConfineError, Left, confine_in_groups};
use rustix::{
    fs::{Mode, OFlags},
    process::{chdir, chroot, fchdir},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    process::ExitCode,
};

/// Whom a child becomes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Become {
    /// The user to read as.
    #[arg(long, default_value_t = 65534, value_parser = clap::value_parser!(u32).range(1..))]
    pub uid: u32,
    /// The group to read as.
    #[arg(long, default_value_t = 65534, value_parser = clap::value_parser!(u32).range(1..))]
    pub gid: u32,
    /// A group besides, whose files are read too; may be given several times.
    #[arg(long = "group", value_name = "GID", value_parser = clap::value_parser!(u32).range(1..))]
    pub groups: Vec<u32>,
}

/// What SQLite wants to make and search an index in memory.
pub(crate) const IN_MEMORY: &[i64] = &[
    39,  // getpid
    72,  // fcntl: whether a descriptor is still open, as it is closed
    318, // getrandom
];

/// What reading published days takes beside that. The folder of them is all that there is to open.
pub(crate) const READS: &[i64] = &[
    4,   // stat
    5,   // fstat
    6,   // lstat
    8,   // lseek
    17,  // pread64
    20,  // writev
    21,  // access
    79,  // getcwd
    89,  // readlink
    107, // geteuid
    217, // getdents64
    257, // openat
    262, // newfstatat
    332, // statx
];

/// Opens anew, to write, the file that this process was given as the descriptor `number`.
pub(crate) fn given(number: u32) -> io::Result<File> {
    File::options().write(true).open(format!("/proc/self/fd/{number}"))
}

/// Makes the folder `path` all that this process sees.
pub(crate) fn enter(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    fchdir(&folder)?;
    chroot(".")?;
    Ok(chdir("/")?)
}

/// Leaves this process with what is open, `memory_bytes` of address space, `seconds` of a processor
/// and `calls` besides. It must be root's, and of one thread.
pub(crate) fn confined(
    who: &Become,
    memory_bytes: u64,
    seconds: Option<u64>,
    calls: &[&[i64]],
) -> Result<(), ConfineError> {
    confine_in_groups(Left { cpu_seconds: seconds, ..left(who, memory_bytes, calls) }, &who.groups)
}

/// The same for a child that writes, of which no file grows beyond `file_bytes`.
pub(crate) fn confined_to_write(
    who: &Become,
    memory_bytes: u64,
    file_bytes: u64,
    calls: &[&[i64]],
) -> Result<(), ConfineError> {
    confine_in_groups(Left { file_bytes, ..left(who, memory_bytes, calls) }, &who.groups)
}

/// The same for a server, which has threads and runs until it is told to end.
pub(crate) fn confined_with_threads(
    who: &Become,
    memory_bytes: u64,
    calls: &[&[i64]],
) -> Result<(), ConfineError> {
    // Of all servers that run as this user: the kernel counts them together.
    confine_in_groups(Left { threads: 16_384, ..left(who, memory_bytes, calls) }, &who.groups)
}

fn left<'a>(who: &Become, memory_bytes: u64, calls: &'a [&'a [i64]]) -> Left<'a> {
    Left {
        uid: who.uid,
        gid: who.gid,
        memory_bytes,
        // It has nothing that it may write but what it was given and what its log is.
        file_bytes: u64::MAX,
        // Of years of days at five each.
        files: 1 << 14,
        threads: 0,
        cpu_seconds: None,
        calls,
    }
}

/// What stands on standard input, JSON of at most `longest` bytes.
pub(crate) fn asked<T: DeserializeOwned>(longest: usize) -> Result<T, String> {
    let mut text = Vec::new();
    let most = u64::try_from(longest).unwrap_or(u64::MAX);
    nonstop_data::say::Stdin
        .take(most.saturating_add(1))
        .read_to_end(&mut text)
        .map_err(|e| format!("read what is asked: {e}"))?;
    if text.len() > longest {
        return Err(format!("what is asked is longer than {longest} bytes"));
    }
    serde_json::from_slice(&text).map_err(|e| format!("what is asked makes no sense: {e}"))
}

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// It makes no sense.
    Refused(String),
    /// It went wrong here.
    Failed(String),
}

impl From<String> for NotDone {
    fn from(why: String) -> NotDone {
        NotDone::Failed(why)
    }
}

/// Answers `done`, or why it was not. The exit code is 0 where it was done and could be said.
pub(crate) fn answer<T: Serialize>(done: Result<T, impl Into<NotDone>>) -> ExitCode {
    let is_done = done.is_ok();
    let answer = match done.map_err(Into::into) {
        Ok(done) => Answer::Done(done),
        Err(NotDone::Refused(why)) => {
            Answer::Refused { refused: nonstop_data::say::printable(why) }
        }
        Err(NotDone::Failed(why)) => Answer::Error { error: nonstop_data::say::printable(why) },
    };
    let said = serde_json::to_vec(&answer).map_err(io::Error::from).and_then(|mut line| {
        line.push(b'\n');
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()
    });
    if said.is_ok() && is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `e` and what it comes from, in one line.
pub(crate) fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(e) = source {
        text.push_str(": ");
        text.push_str(&e.to_string());
        source = e.source();
    }
    text
}

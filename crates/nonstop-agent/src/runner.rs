//! The parent's side: starts the child, tells it its task, and believes it one byte.

use crate::{PATIENCE_MS, Task, Verdict};
use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// A child that could not be started or said nothing that it may say.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It cannot be started.
    #[error("start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended, hung, or said something else than a verdict.
    #[error("the child that speaks with the guest gave no verdict")]
    NoVerdict(#[source] io::Error),
}

/// Lets a confined child carry out `task` with the agent behind `guest`, as the user `uid` and
/// group `gid`. Returns within [`PATIENCE_MS`] and half a second; the child is gone then.
pub fn run(
    program: &Path,
    guest: OwnedFd,
    task: &Task,
    (uid, gid): (u32, u32),
) -> Result<Verdict, RunError> {
    let start = |source| RunError::Start { program: program.display().to_string(), source };
    let (mut ours, theirs) = UnixStream::pair().map_err(start)?;
    let mut child = Command::new(program)
        .args([uid.to_string(), gid.to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(guest)
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    let verdict = ask(&mut ours, task);
    let _already_gone = child.kill();
    let _reaped = child.wait();
    verdict.map_err(RunError::NoVerdict)
}

fn ask(child: &mut UnixStream, task: &Task) -> io::Result<Verdict> {
    let patience = Duration::from_millis(PATIENCE_MS + 500);
    child.set_read_timeout(Some(patience))?;
    child.set_write_timeout(Some(patience))?;
    child.write_all(&serde_json::to_vec(task)?)?;
    child.shutdown(Shutdown::Write)?;
    let mut byte = [0];
    child.read_exact(&mut byte)?;
    Verdict::from_byte(byte[0]).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

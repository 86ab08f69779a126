//! The parent's side: starts the child, tells it its task, and believes it one byte.

use crate::{PATIENCE_MS, Put, PutFile, SetPassword, Task, Verdict, put_patience};
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
    task: &SetPassword,
    user: (u32, u32),
) -> Result<Verdict, RunError> {
    let task =
        Task::SetPassword(SetPassword { user: task.user.clone(), password: task.password.clone() });
    let patience = Duration::from_millis(PATIENCE_MS + 500);
    let [byte] = carry_out(program, guest, Stdio::null(), &task, user, patience)?;
    Verdict::from_byte(byte).ok_or_else(unexpected)
}

/// Lets a confined child have the agent behind `guest` write what `content` reads, as `task` says.
/// Returns within [`put_patience`] and half a second; the child is gone then.
pub fn run_put(
    program: &Path,
    guest: OwnedFd,
    content: OwnedFd,
    task: &PutFile,
    user: (u32, u32),
) -> Result<Put, RunError> {
    let patience = put_patience(task.bytes) + Duration::from_millis(500);
    let given = Task::PutFile(task.clone());
    let bytes = carry_out(program, guest, content.into(), &given, user, patience)?;
    Put::from_bytes(bytes, task.bytes).ok_or_else(unexpected)
}

fn unexpected() -> RunError {
    RunError::NoVerdict(io::ErrorKind::InvalidData.into())
}

fn carry_out<const BYTES: usize>(
    program: &Path,
    guest: OwnedFd,
    content: Stdio,
    task: &Task,
    (uid, gid): (u32, u32),
    patience: Duration,
) -> Result<[u8; BYTES], RunError> {
    let start = |source| RunError::Start { program: program.display().to_string(), source };
    let (mut ours, theirs) = UnixStream::pair().map_err(start)?;
    let mut child = Command::new(program)
        .args([uid.to_string(), gid.to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(guest)
        .stderr(content)
        .spawn()
        .map_err(start)?;
    let said = ask(&mut ours, task, patience);
    let _already_gone = child.kill();
    let _reaped = child.wait();
    said.map_err(RunError::NoVerdict)
}

fn ask<const BYTES: usize>(
    child: &mut UnixStream,
    task: &Task,
    patience: Duration,
) -> io::Result<[u8; BYTES]> {
    child.set_read_timeout(Some(patience))?;
    child.set_write_timeout(Some(patience))?;
    child.write_all(&serde_json::to_vec(task)?)?;
    child.shutdown(Shutdown::Write)?;
    let mut said = [0; BYTES];
    child.read_exact(&mut said)?;
    Ok(said)
}

//! The parent's side: starts the child, tells it its task, and believes it one byte, or the few of a [`Put`].

use crate::{PATIENCE_MS, Put, PutFile, PutVerdict, SetPassword, Task, Verdict, put_patience};
use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
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
    let byte = carry_out(program, guest, Stdio::null(), user, |_, says| {
        tell(says, &task, patience)?;
        let mut said = [0];
        says.read_exact(&mut said)?;
        Ok(said[0])
    })?;
    Verdict::from_byte(byte).ok_or_else(unexpected)
}

/// Lets a confined child have the agent behind `guest` write what `content` reads, as `task` says, for as
/// long as `wanted`. Returns within [`put_patience`] and half a second, and soon once it is not wanted
/// any more; the child is gone then. One that was ended so broke off, unless nothing was given yet.
pub fn run_put(
    program: &Path,
    guest: OwnedFd,
    content: OwnedFd,
    task: &PutFile,
    user: (u32, u32),
    wanted: &dyn Fn() -> bool,
) -> Result<Put, RunError> {
    let until = Instant::now() + put_patience(task.bytes) + Duration::from_millis(500);
    let given = Task::PutFile(task.clone());
    carry_out(program, guest, content.into(), user, |child, says| {
        tell(says, &given, LOOK)?;
        let (mut heard, mut last) = (Vec::new(), None);
        let (mut asked, mut ended) = (Instant::now(), false);
        while Instant::now() < until {
            if asked.elapsed() >= LOOK && !ended {
                // What it has said before that is heard all the same.
                ended = !wanted();
                if ended {
                    child.kill()?;
                }
                asked = Instant::now();
            }
            let mut buffer = [0; 16 * Put::BYTES];
            match says.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => heard.extend_from_slice(&buffer[..n]),
                Err(e) if is_later(&e) => {}
                Err(e) => return Err(e),
            }
            while let Some((bytes, rest)) = heard.split_first_chunk() {
                let put = Put::from_bytes(*bytes, task.bytes);
                last = Some(put.ok_or(io::ErrorKind::InvalidData)?);
                heard = rest.to_vec();
            }
        }
        let nothing = ended.then_some(Put::new(PutVerdict::Silent, 0));
        last.or(nothing).ok_or(io::ErrorKind::UnexpectedEof.into())
    })
}

/// How long a put that is not wanted any more may go on.
const LOOK: Duration = Duration::from_millis(100);

/// Whether nothing was said yet.
fn is_later(e: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(e.kind(), Interrupted | TimedOut | WouldBlock)
}

fn unexpected() -> RunError {
    RunError::NoVerdict(io::ErrorKind::InvalidData.into())
}

fn carry_out<T>(
    program: &Path,
    guest: OwnedFd,
    content: Stdio,
    (uid, gid): (u32, u32),
    ask: impl FnOnce(&mut Child, &mut UnixStream) -> io::Result<T>,
) -> Result<T, RunError> {
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
    let said = ask(&mut child, &mut ours);
    let _already_gone = child.kill();
    let _reaped = child.wait();
    said.map_err(RunError::NoVerdict)
}

/// Tells `child` its task; what it says is waited for so long at a time.
fn tell(child: &mut UnixStream, task: &Task, patience: Duration) -> io::Result<()> {
    child.set_read_timeout(Some(patience))?;
    child.set_write_timeout(Some(patience))?;
    child.write_all(&serde_json::to_vec(task)?)?;
    child.shutdown(Shutdown::Write)
}

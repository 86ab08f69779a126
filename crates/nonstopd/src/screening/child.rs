//! A child that holds somebody's file: started, heard with bounds, ended with all it has started.

use crate::publisher::plain;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io::Read,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// How `nonstop-screen` is started.
#[derive(Debug, Clone)]
pub struct Child {
    /// The program.
    pub program: PathBuf,
    /// User and group that it looks as.
    pub user: (u32, u32),
    /// Memory that it may have beside the file, in MiB.
    pub memory_mib: u32,
}

/// Why a child said nothing that counts.
pub type Ended = String;

/// How much of what a child complains of is read, in bytes; the rest is thrown away.
const COMPLAINT: u64 = 64 << 10;

impl Child {
    /// Runs `nonstop-screen` with `words` and `file` as its standard input, at its begin, and gives
    /// what it said. How far others read does not matter to it.
    ///
    /// Errors: it could not be started, was not done within `patience`, said more than `longest`
    /// bytes, or ended badly. Whatever came of it, nothing of it runs any more.
    pub fn run(
        &self,
        words: &[&str],
        file: Option<&OwnedFd>,
        longest: usize,
        patience: Duration,
    ) -> Result<Vec<u8>, Ended> {
        let verb = words.first().copied().unwrap_or_default();
        let until = Instant::now() + patience;
        let failed = |e: std::io::Error| format!("start {}: {e}", self.program.display());
        let input = match file {
            Some(file) => Stdio::from(opened_anew(file).map_err(failed)?),
            None => Stdio::null(),
        };
        let mut child = Command::new(&self.program)
            .args(words)
            .args(["--uid", &self.user.0.to_string(), "--gid", &self.user.1.to_string()])
            .args(["--memory-mib", &self.memory_mib.to_string()])
            .args(["--cpu-seconds", &patience.as_secs().max(1).to_string()])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, by which what it has started ends with it.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let heard = hear(child.stdout.take(), longest as u64 + 1);
        let complaint = hear(child.stderr.take(), COMPLAINT);
        let said = heard.recv_timeout(patience);
        let group = Pid::from_child(&child);
        if said.is_ok() {
            // It has closed its output, or said too much: a moment to end by itself keeps its own
            // exit code.
            let moment = until.min(Instant::now() + Duration::from_millis(500));
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < moment {
                thread::sleep(Duration::from_millis(2));
            }
        }
        let _nobody_is_left = kill_process_group(group, Signal::KILL);
        let ended = child.wait().map_err(|e| format!("wait for nonstop-screen {verb}: {e}"))?;
        let said = match said {
            Ok(said) => said,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = patience.as_secs();
                return Err(format!("nonstop-screen {verb} was not done in {seconds} s"));
            }
            Err(RecvTimeoutError::Disconnected) => Vec::new(),
        };
        if said.len() > longest {
            return Err(format!("nonstop-screen {verb} said more than {longest} bytes"));
        }
        if ended.success() {
            return Ok(said);
        }
        // It may still have said why.
        let reason = super::heard::reason(&said).or_else(|| {
            let last = complaint.recv_timeout(Duration::from_secs(1)).ok()?;
            let text = String::from_utf8_lossy(&last).into_owned();
            text.trim().lines().last().map(plain).filter(|line| !line.is_empty())
        });
        let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
        Err(format!("nonstop-screen {verb} ended with {ended}{reason}"))
    }
}

/// `file` opened once more, to read alone: each child has a place of its own in it.
fn opened_anew(file: &OwnedFd) -> std::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(std::fs::File::open(path)?.into())
}

/// Hears what comes out of `pipe` to its end, or to `most` bytes.
fn hear(pipe: Option<impl Read + Send + 'static>, most: u64) -> mpsc::Receiver<Vec<u8>> {
    let (say, heard) = mpsc::sync_channel(1);
    if let Some(pipe) = pipe {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _what_came_counts = pipe.take(most).read_to_end(&mut bytes);
            let _nobody_waits_any_more = say.send(bytes);
        });
    }
    heard
}

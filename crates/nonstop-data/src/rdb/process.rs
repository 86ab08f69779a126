//! Processes that are kept running, in a namespace of processes whose first one we are: whatever
//! loses its parent is ours to bury.

use crate::lines::{LONGEST_OF_A_LOG, line};
use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// One process that shall run, and when it may be tried again.
#[derive(Debug)]
pub(crate) struct Kept {
    word: &'static str,
    running: Option<(Pid, Instant)>,
    pause: Duration,
    next: Instant,
}

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// A run as long as this was no failure to start.
const LASTED: Duration = Duration::from_secs(20);

impl Kept {
    pub(crate) fn new(word: &'static str) -> Kept {
        Kept { word, running: None, pause: SHORTEST, next: Instant::now() }
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        self.running.map(|(pid, _)| pid)
    }

    /// Whether it does not run and may be tried now.
    pub(crate) fn is_due(&self) -> bool {
        self.running.is_none() && self.next <= Instant::now()
    }

    pub(crate) fn start(&mut self, mut command: Command) -> anyhow::Result<Pid> {
        let mut child = command.spawn().with_context(|| format!("start the {}", self.word))?;
        if let Some(said) = child.stderr.take() {
            let begins = format!("{} [", self.word);
            thread::spawn(move || pass_on(BufReader::new(said), &begins));
        }
        let pid = Pid::from_child(&child);
        // Its end is seen by `reap`.
        self.running = Some((pid, Instant::now()));
        Ok(pid)
    }

    /// It could not be started, or ended: the next try is later than the last one was.
    pub(crate) fn failed(&mut self) {
        if let Some((_, since)) = self.running.take()
            && since.elapsed() > LASTED
        {
            self.pause = SHORTEST;
        }
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST);
    }

    /// Takes note of an end; whether it was this one's.
    pub(crate) fn ended(&mut self, pid: Pid) -> bool {
        let ours = self.pid() == Some(pid);
        if ours {
            self.failed();
        }
        ours
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // It may have ended: `reap` will say so.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Passes on what a server logs: lines that begin with its prefix, and before the first of them what
/// a server says that has not read its configuration. PostgreSQL writes more when memory runs out,
/// thousands of lines for one query, and words of its client in them; those begin with neither, and a
/// server that only tells of the worst may have logged nothing before.
fn pass_on(mut from: impl BufRead, begins: &str) {
    let mut configured = false;
    while let Some(line) = line(&mut from, LONGEST_OF_A_LOG) {
        let is_logged = line.starts_with(begins.as_bytes());
        configured |= is_logged;
        if is_logged || (!configured && is_unconfigured(&line)) {
            eprintln!("{}", String::from_utf8_lossy(&line));
        }
    }
}

/// Whether `line` begins as PostgreSQL's do without a configuration: with its name, or the time.
fn is_unconfigured(line: &[u8]) -> bool {
    line.starts_with(b"postgres: ") || line.first().is_some_and(u8::is_ascii_digit)
}

/// Buries whatever has ended, and tells it.
pub(crate) fn reap() -> Vec<(Pid, WaitStatus)> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = waitpid(None, WaitOptions::NOHANG) {
        ended.push((pid, status));
    }
    ended
}

/// Ends every process that works in `folder`, as each of PostgreSQL's does in that of its
/// files: a server whose first process was killed leaves queries behind that go on. Whether there
/// were none.
pub(crate) fn none_in(folder: &Path) -> bool {
    let mut none = true;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        if fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder)
            && let Some(pid) = Pid::from_raw(pid)
        {
            none = false;
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    none
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_log_is_read_to_its_end_whatever_is_in_it() {
        let mut said = &b"TopMemoryContext: 1 total\nreader [7] LOG:  ready\n\xff\xfe"[..];
        pass_on(&mut said, "reader [");
        assert!(said.is_empty());
    }

    #[test]
    fn what_is_said_without_a_configuration_is_no_dump_of_memory() {
        for said in ["postgres: could not find the database", "2026-11-28 21:07:56 UTC [7] FATAL:"]
        {
            assert!(is_unconfigured(said.as_bytes()), "{said}");
        }
        for dump in
            ["TopMemoryContext: 1 total", "  CachedPlanSource: 1: 2026 FATAL:", "", "Grand total"]
        {
            assert!(!is_unconfigured(dump.as_bytes()), "{dump}");
        }
    }
}

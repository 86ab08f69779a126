//! Sessions of the gateway, as processes: found by what the kernel and sshd say of them, and
//! ended so that no forwarded connection outlives its right.
//!
//! A session is `sshd-session: NAME [priv]`, root's, which runs PAM, and its child
//! `sshd-session: NAME`, the account's, which alone makes the forwarded connections. A login
//! inside its hook has the first alone. Killing the first with KILL would leave the second
//! alive, so it is asked by TERM, and killed only once the second is gone.

use crate::HostError;
use procfs::process::{Process, all_processes};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Finds and ends sessions of one gateway.
#[derive(Debug)]
pub struct Sessions {
    /// A file for each name that was ever opened since the host's start, with its uid: a login
    /// in progress is known by name alone, and may outlive the record.
    uids: PathBuf,
    /// The configuration of our sshd: its listener has it in its title.
    sshd_config: PathBuf,
    account_uids: RangeInclusive<u32>,
}

/// One process of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    pid: i32,
    started: u64,
    uid: u32,
    kind: Kind,
    /// The process that leads its session: the monitor.
    leader: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `[priv]`.
    Monitor,
    /// The account's own.
    Worker,
}

const PATIENCE: Duration = Duration::from_secs(5);
const POLITE: Duration = Duration::from_millis(300);

impl Sessions {
    pub(crate) fn new(
        uids: PathBuf,
        sshd_config: PathBuf,
        account_uids: RangeInclusive<u32>,
    ) -> Sessions {
        Sessions { uids, sshd_config, account_uids }
    }

    /// The uid that `name` was last opened with since the host's start.
    pub(crate) fn uid_of(&self, name: &str) -> Option<u32> {
        // A title is written by sshd from what a stranger may have typed.
        let name: nonstop_model::AccountName = name.parse().ok()?;
        fs::read_to_string(self.uids.join(name.as_str())).ok()?.parse().ok()
    }

    /// Sessions and logins in progress: the uid, by the process that leads each.
    pub(crate) fn open(&self) -> Result<BTreeMap<u32, u32>, HostError> {
        Ok(self.parts()?.into_iter().map(|part| (part.leader, part.uid)).collect())
    }

    /// Ends all sessions and logins of `uid`, and returns when none is left.
    pub(crate) fn end(&self, uid: u32) -> Result<(), HostError> {
        self.end_those(&format!("the sessions of uid {uid}"), |part| part.uid == uid)
    }

    /// Ends the session of `uid` that the process `leader` leads, and returns when nothing of it is
    /// left. Other sessions of `uid` go on.
    pub(crate) fn end_one(&self, leader: u32, uid: u32) -> Result<(), HostError> {
        self.end_those(&format!("the session of process {leader}"), |part| {
            part.uid == uid && part.leader == leader
        })
    }

    fn end_those(&self, what: &str, which: impl Fn(&Part) -> bool) -> Result<(), HostError> {
        let begun = Instant::now();
        let mut asked = BTreeSet::new();
        loop {
            let mut parts = self.parts()?;
            parts.retain(&which);
            if parts.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let left: Vec<String> = parts.iter().map(|part| part.pid.to_string()).collect();
                return Err(HostError::new(
                    format!("end {what}"),
                    format!("processes {} do not end", left.join(", ")),
                )
                .help("look at them with `ps`; the firewall has cut their connections already"));
            }
            let only_monitors = parts.iter().all(|part| part.kind == Kind::Monitor);
            for part in &parts {
                let first = asked.insert((part.pid, part.started));
                let late = begun.elapsed() > POLITE;
                let signal = match part.kind {
                    _ if first => Some(Signal::TERM),
                    Kind::Worker if late => Some(Signal::KILL),
                    Kind::Monitor if late && only_monitors => Some(Signal::KILL),
                    Kind::Worker | Kind::Monitor => None,
                };
                if let Some(signal) = signal {
                    self.send(part, signal)
                        .map_err(|e| HostError::new(format!("signal process {}", part.pid), e))?;
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Signals `part` if it is still what was found.
    fn send(&self, part: &Part, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(part.pid) else { return Ok(()) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        // The number may have gone to another process since; behind the handle it no longer can.
        let same = Process::new(part.pid).and_then(|p| p.stat());
        if !same.is_ok_and(|stat| stat.starttime == part.started) {
            return Ok(());
        }
        match pidfd_send_signal(handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn parts(&self) -> Result<Vec<Part>, HostError> {
        let doing = "list processes";
        let here = fs::read_link("/proc/self/ns/net").map_err(|e| HostError::new(doing, e))?;
        let processes = all_processes().map_err(|e| HostError::new(doing, e))?;
        // A process that ends while it is looked at is not listed.
        Ok(processes.flatten().filter_map(|process| self.part(&process, &here)).collect())
    }

    fn part(&self, process: &Process, here: &Path) -> Option<Part> {
        let stat = process.stat().ok()?;
        if stat.comm != "sshd-session" || stat.state == 'Z' {
            return None;
        }
        // Labs in boxes have the same uids, and their processes can be seen from outside.
        if fs::read_link(format!("/proc/{}/ns/net", stat.pid)).ok()? != here {
            return None;
        }
        let part = |uid, kind, leader: i32| Part {
            pid: stat.pid,
            started: stat.starttime,
            uid,
            kind,
            leader: leader.unsigned_abs(),
        };
        let uid = process.status().ok()?.euid;
        if self.account_uids.contains(&uid) {
            return Some(part(uid, Kind::Worker, stat.ppid));
        }
        let name = monitored_name(process.cmdline().ok()?.first()?)?.to_owned();
        let account = self.uid_of(&name)?;
        let ours = uid == 0 && self.is_ours(stat.ppid);
        ours.then(|| part(account, Kind::Monitor, stat.pid))
    }

    /// Whether a monitor whose parent is `parent` belongs to our sshd. One that outlived its
    /// listener counts as ours: only our accounts get this far.
    fn is_ours(&self, parent: i32) -> bool {
        let title = Process::new(parent).and_then(|p| p.cmdline()).unwrap_or_default().join(" ");
        let config = self.sshd_config.display().to_string();
        !title.starts_with("sshd:") || title.split_whitespace().any(|word| word == config)
    }
}

/// `NAME` of the title `sshd-session: NAME [priv]`.
fn monitored_name(title: &str) -> Option<&str> {
    title.trim_end().strip_prefix("sshd-session: ")?.strip_suffix(" [priv]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_progress_is_known_by_its_title() {
        assert_eq!(monitored_name("sshd-session: alice [priv]"), Some("alice"));
        assert_eq!(monitored_name("sshd-session: alice"), None);
        assert_eq!(monitored_name("sshd: alice [priv]"), None);
    }
}

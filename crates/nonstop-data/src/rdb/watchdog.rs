//! Ends what takes too long or too much, from outside of SQL: a role may change any limit that
//! it is told inside.
//!
//! Of what all connections together take, memory beyond a quarter of the host's and room on a disk
//! that is nearly full: the one that has most of it is ended.
//!
//! A query past its time is first ended alone, then its connection; only a process that does not
//! hear that is killed, since PostgreSQL then ends all of its connections and starts anew.

use crate::{
    days::room::reserve_bytes,
    rdb::{DATABASE, KEEPER},
    wire::{Session, WireError},
};
use nonstop_model::RdbLimits;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Looks at the reader once a second, and ten times while the disk is nearly full: one query fills
/// hundreds of megabytes in a second.
pub(crate) struct Watchdog {
    limits: RdbLimits,
    total_bytes: u64,
    session: Option<Session>,
    last: Option<Instant>,
    warned: BTreeMap<i32, (Warning, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Warning {
    Query,
    Connection,
    Process,
}

const PERIOD: Duration = Duration::from_secs(1);
const PERIOD_NEARLY_FULL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a warning may be unheard, and how long that PostgreSQL's own may be.
const UNHEARD: Duration = Duration::from_secs(5);
const DEAF: Duration = Duration::from_secs(30);

impl Watchdog {
    pub(crate) fn new(limits: RdbLimits) -> Watchdog {
        let memory = rustix::system::sysinfo().totalram;
        Watchdog {
            limits,
            // Of all connections together: a quarter of the host's memory.
            total_bytes: (memory / 4).max(u64::from(limits.memory_mib) << 21),
            session: None,
            last: None,
            warned: BTreeMap::new(),
        }
    }

    /// Looks, if it is time, at the reader whose files are in `folder`. An error means that it does
    /// not answer.
    pub(crate) fn look(&mut self, socket: &Path, folder: &Path) -> Result<(), WireError> {
        let since = self.last.map_or(Duration::MAX, |last| last.elapsed());
        if since < PERIOD && !(since >= PERIOD_NEARLY_FULL && is_nearly_full(folder)) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        let looked = self.look_now(socket, folder);
        if looked.is_err() {
            self.session = None;
        }
        looked
    }

    fn look_now(&mut self, socket: &Path, folder: &Path) -> Result<(), WireError> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(Session::open(socket, KEEPER, DATABASE, Some(PATIENCE))?),
        };
        // A connection that waits for its next question has no transaction, and one that waits
        // inside of a transaction holds on to what others want to clean away.
        let rows = session.ask(&format!(
            "select pid, coalesce(xact_start < clock_timestamp() - interval '{} s', false),
                    state = 'active'
             from pg_stat_activity where usename like 'machine\\_%'",
            self.limits.query_seconds
        ))?;
        let mut over = BTreeMap::new();
        let mut sizes = Vec::new();
        for row in &rows {
            let [Some(pid), Some(late), active] = &row[..] else { continue };
            let Ok(pid) = pid.parse::<i32>() else { continue };
            if late == "t" {
                over.insert(pid, active.as_deref() == Some("t"));
            }
            sizes.push((memory_bytes(pid), pid));
        }
        let mut sum: u64 = sizes.iter().map(|(bytes, _)| bytes).sum();
        sizes.sort_unstable();
        while sum > self.total_bytes
            && let Some((bytes, pid)) = sizes.pop()
        {
            sum -= bytes;
            over.insert(pid, true);
        }
        if is_nearly_full(folder)
            && let Some((pid, _)) = temporary_bytes(folder).into_iter().max_by_key(|(_, n)| *n)
        {
            over.insert(pid, true);
        }
        self.warned.retain(|pid, _| over.contains_key(pid));
        let now = Instant::now();
        for (pid, active) in over {
            let warning = match self.warned.get(&pid) {
                None if active => Warning::Query,
                None => Warning::Connection,
                Some((Warning::Query, since)) if since.elapsed() > UNHEARD => Warning::Connection,
                Some((Warning::Connection, since)) if since.elapsed() > DEAF => Warning::Process,
                Some(_) => continue,
            };
            match warning {
                Warning::Query => drop(session.ask(&format!("select pg_cancel_backend({pid})"))?),
                Warning::Connection => {
                    session.ask(&format!("select pg_terminate_backend({pid})"))?;
                }
                Warning::Process => {
                    eprintln!("a connection does not end: process {pid} is killed");
                    if let Some(pid) = Pid::from_raw(pid) {
                        let _ = kill_process(pid, Signal::KILL);
                    }
                }
            }
            self.warned.insert(pid, (warning, now));
        }
        Ok(())
    }
}

/// Whether the disk has less than what is kept for logs, loads and others.
fn is_nearly_full(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|disk| {
        disk.f_bavail * disk.f_frsize < reserve_bytes(disk.f_blocks * disk.f_frsize)
    })
}

/// Bytes on the disk for sorting and hashing, by the process that has them. PostgreSQL names these
/// files `pgsql_tmp`, its number, a dot and theirs, and folders of them alike.
fn temporary_bytes(folder: &Path) -> BTreeMap<i32, u64> {
    let mut bytes = BTreeMap::new();
    let files = fs::read_dir(folder.join("base/pgsql_tmp")).into_iter().flatten().flatten();
    for file in files {
        let name = file.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("pgsql_tmp"));
        let pid = number.and_then(|number| number.split('.').next()?.parse().ok());
        let inside = fs::read_dir(file.path()).into_iter().flatten().flatten();
        let all = inside.chain([file]).filter_map(|file| file.metadata().ok());
        if let Some(pid) = pid {
            *bytes.entry(pid).or_default() += all.map(|data| data.len()).sum::<u64>();
        }
    }
    bytes
}

/// Memory of its own that a process has in use.
fn memory_bytes(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

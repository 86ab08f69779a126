//! What each session exchanges with each target, counted by the kernel (`nonstop_host::connections`).
//!
//! Forwarded connections are sockets of the session's own process: one that is open when the kernel is
//! asked, five times a second, is found there. One that was shorter is told of by the kernel when it is
//! gone, without whose it was; sshd says which session got a connection to which target, and the
//! two are put together. What is known lies on the tmpfs, from where a restarted daemon goes on.

use crate::{Clock, status::chain};
use nonstop_host::connections::{Connection, Connections};
use nonstop_store::{Db, Flow, Flows, StoreError};
use procfs::process::{FDTarget, all_processes};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracing::warn;

/// How often the kernel is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How often what is known is kept on the tmpfs, and in the database.
const KEEP_EVERY: Duration = Duration::from_secs(1);
const RECORD_EVERY: Duration = Duration::from_secs(60);
/// How long a short connection and what sshd says of it wait for each other.
const PATIENCE: Duration = Duration::from_secs(5);
/// Short connections that wait.
const WAITING: usize = 20_000;
/// Targets of a session that are counted apart.
const TARGETS: usize = 200;
const OTHERS: &str = "(more)";

/// What is known of sessions' connections.
#[derive(Debug, Default)]
struct Ledger {
    /// Connections that are open, by cookie.
    open: BTreeMap<u64, Open>,
    /// What connections that ended have exchanged, by session.
    ended: BTreeMap<u64, BTreeMap<String, Counted>>,
    /// Sessions of which connections may have ended while nobody counted.
    uncounted: BTreeSet<u64>,
    /// Connections to a target that sshd said a session got, and that were not found yet. Less than
    /// none where they were found first.
    said: BTreeMap<(u64, String), i64>,
    /// Connections that are gone and of which nobody knows whose they were, and since when.
    nobodys: VecDeque<(Connection, Instant)>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Open {
    session: u64,
    remote: std::net::SocketAddrV4,
    bytes_in: u64,
    bytes_out: u64,
}

#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
struct Counted {
    bytes_in: u64,
    bytes_out: u64,
    connections: u64,
}

impl Ledger {
    /// sshd said that `session` got `count` connections to `target`.
    fn said(&mut self, session: u64, target: &str, count: u32) {
        *self.said.entry((session, target.into())).or_default() += i64::from(count);
    }

    /// The connections that are open now, and the session of each that is found in its process.
    fn are_open(&mut self, now: &[Connection], of: impl Fn(&Connection) -> Option<u64>) {
        for connection in now {
            if let Some(open) = self.open.get_mut(&connection.cookie) {
                (open.bytes_in, open.bytes_out) = (connection.sent, connection.received);
                continue;
            }
            let Some(session) = of(connection) else { continue };
            *self.said.entry((session, connection.remote.to_string())).or_default() -= 1;
            let open = Open {
                session,
                remote: connection.remote,
                bytes_in: connection.sent,
                bytes_out: connection.received,
            };
            self.open.insert(connection.cookie, open);
        }
    }

    /// A connection is gone.
    fn is_gone(&mut self, connection: Connection, now: Instant) {
        match self.open.remove(&connection.cookie) {
            Some(open) => {
                self.add(open.session, open.remote, connection.sent, connection.received);
            }
            // Nobody answered there: sshd says nothing of it.
            None if connection.sent == 0 && connection.received == 0 => {}
            None => {
                self.nobodys.push_back((connection, now));
                if self.nobodys.len() > WAITING {
                    self.nobodys.pop_front();
                }
            }
        }
    }

    /// What is not open any more, although nobody told that it is gone, has its last figures.
    fn only_open(&mut self, now: &BTreeSet<u64>) {
        let over: Vec<u64> = self.open.keys().copied().filter(|c| !now.contains(c)).collect();
        for cookie in over {
            let Some(open) = self.open.remove(&cookie) else { continue };
            self.add(open.session, open.remote, open.bytes_in, open.bytes_out);
            self.uncounted.insert(open.session);
        }
    }

    /// Gives short connections to the sessions that sshd says had one there.
    fn settle(&mut self, now: Instant) {
        let mut waiting = std::mem::take(&mut self.nobodys);
        while let Some((connection, since)) = waiting.pop_front() {
            let target = connection.remote.to_string();
            let had = self.said.iter_mut().find(|((_, to), n)| **n > 0 && *to == target);
            if let Some(((session, _), left)) = had {
                *left -= 1;
                let session = *session;
                self.add(session, connection.remote, connection.sent, connection.received);
            } else if now.duration_since(since) < PATIENCE {
                self.nobodys.push_back((connection, since));
            }
        }
        self.said.retain(|_, left| *left != 0);
    }

    fn add(&mut self, session: u64, to: std::net::SocketAddrV4, bytes_in: u64, bytes_out: u64) {
        let targets = self.ended.entry(session).or_default();
        let mut target = to.to_string();
        if targets.len() >= TARGETS && !targets.contains_key(&target) {
            target = OTHERS.into();
        }
        let counted = targets.entry(target).or_default();
        counted.bytes_in = counted.bytes_in.saturating_add(bytes_in);
        counted.bytes_out = counted.bytes_out.saturating_add(bytes_out);
        counted.connections += 1;
    }

    /// What `session` has exchanged so far.
    fn flows(&self, session: u64) -> Flows {
        let mut flows = Flows::new();
        let mut add = |target: String, counted: Counted| {
            let flow: &mut Flow = flows.entry(target).or_default();
            flow.bytes_in = flow.bytes_in.saturating_add(counted.bytes_in);
            flow.bytes_out = flow.bytes_out.saturating_add(counted.bytes_out);
            flow.connections += counted.connections;
        };
        for (target, counted) in self.ended.get(&session).into_iter().flatten() {
            add(target.clone(), *counted);
        }
        for open in self.open.values().filter(|open| open.session == session) {
            let (bytes_in, bytes_out) = (open.bytes_in, open.bytes_out);
            add(open.remote.to_string(), Counted { bytes_in, bytes_out, connections: 1 });
        }
        flows
    }

    fn forget(&mut self, session: u64) {
        self.ended.remove(&session);
        self.uncounted.remove(&session);
        self.said.retain(|(of, _), _| *of != session);
        self.open.retain(|_, open| open.session != session);
    }

    fn sessions(&self) -> BTreeSet<u64> {
        let open = self.open.values().map(|open| open.session);
        self.ended.keys().copied().chain(open).collect()
    }
}

/// Counts what sessions exchange.
pub struct Meter {
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    run: String,
    uids: RangeInclusive<u32>,
    /// On the tmpfs.
    file: PathBuf,
    ledger: Mutex<Ledger>,
}

impl Meter {
    /// Counts for accounts with these `uids`, going on from `file`.
    pub fn new(
        db: Arc<Db>,
        clock: Arc<dyn Clock>,
        run: String,
        uids: RangeInclusive<u32>,
        file: PathBuf,
    ) -> Meter {
        let text = fs::read(&file).unwrap_or_default();
        let kept = serde_json::from_slice::<Kept>(&text);
        let ledger = kept.map(Ledger::from).unwrap_or_default();
        Meter { db, clock, run, uids, file, ledger: Mutex::new(ledger) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// sshd said that its process `child` got `count` connections to `target`.
    pub(crate) fn said(&self, child: u32, target: &str, count: u32) -> Result<(), StoreError> {
        let Some(pid) = crate::gateway::parent(child) else { return Ok(()) };
        if let Some(session) = self.db.read(|read| read.session_of_process(pid, &self.run))? {
            self.ledger().said(session.id, target, count);
        }
        Ok(())
    }

    /// What `session` has exchanged so far, and whether some of it may be missing.
    pub fn flows(&self, session: u64) -> (Flows, bool) {
        let ledger = self.ledger();
        (ledger.flows(session), ledger.uncounted.contains(&session))
    }

    /// The session is recorded with what it exchanged.
    pub(crate) fn forget(&self, session: u64) {
        self.ledger().forget(session);
    }

    /// Counts for as long as the process lives.
    pub fn keep_counting(&self) -> ! {
        let (mut kept, mut recorded) = (Instant::now(), Instant::now());
        let connections = loop {
            match Connections::open() {
                Ok(connections) => break connections,
                Err(e) => warn!("count what sessions exchange: {e}"),
            }
            std::thread::sleep(Duration::from_secs(10));
        };
        if let Ok(open) = connections.list() {
            // Of what a daemon before this one knew, some may have ended since.
            self.ledger().only_open(&open.iter().map(|c| c.cookie).collect());
        }
        let mut told = false;
        loop {
            std::thread::sleep(ASK_EVERY);
            match self.ask(&connections) {
                Ok(()) => told = false,
                Err(e) if !told => {
                    warn!("count what sessions exchange: {e}");
                    told = true;
                }
                Err(_) => {}
            }
            if kept.elapsed() >= KEEP_EVERY {
                kept = Instant::now();
                if let Err(e) = self.keep() {
                    warn!("keep what sessions exchanged in {}: {e}", self.file.display());
                }
            }
            if recorded.elapsed() >= RECORD_EVERY {
                recorded = Instant::now();
                if let Err(e) = self.record() {
                    warn!("record what sessions exchanged: {}", chain(&e));
                }
            }
        }
    }

    fn ask(&self, connections: &Connections) -> io::Result<()> {
        let (gone, lost) = connections.gone()?;
        let mut open = connections.list()?;
        // What ended between the two questions is told by the next.
        let listed: BTreeSet<u64> = open.iter().map(|c| c.cookie).collect();
        open.retain(|connection| self.uids.contains(&connection.uid) && connection.inode != 0);
        let now = Instant::now();
        let new = {
            let mut ledger = self.ledger();
            for connection in gone {
                ledger.is_gone(connection, now);
            }
            if lost {
                let all: Vec<u64> = ledger.sessions().into_iter().collect();
                ledger.uncounted.extend(all);
                ledger.only_open(&listed);
            }
            open.iter().any(|connection| !ledger.open.contains_key(&connection.cookie))
        };
        let owners = if new { self.owners().map_err(io::Error::other)? } else { BTreeMap::new() };
        let mut ledger = self.ledger();
        ledger.are_open(&open, |connection| owners.get(&connection.inode).copied());
        ledger.settle(now);
        Ok(())
    }

    /// Sessions by the sockets of their processes.
    fn owners(&self) -> Result<BTreeMap<u32, u64>, StoreError> {
        let sessions = self.db.read(|read| read.sessions(false))?;
        let leaders: BTreeMap<u32, u64> =
            sessions.iter().filter(|s| s.run == self.run).map(|s| (s.pid, s.id)).collect();
        let mut owners = BTreeMap::new();
        for process in all_processes().into_iter().flatten().flatten() {
            let Ok(stat) = process.stat() else { continue };
            let Some(session) = leaders.get(&stat.ppid.unsigned_abs()) else { continue };
            for fd in process.fd().into_iter().flatten().flatten() {
                if let FDTarget::Socket(inode) = fd.target
                    && let Ok(inode) = u32::try_from(inode)
                {
                    owners.insert(inode, *session);
                }
            }
        }
        Ok(owners)
    }

    fn keep(&self) -> io::Result<()> {
        let kept = Kept::from(&*self.ledger());
        let new = self.file.with_extension("new");
        fs::write(&new, serde_json::to_vec(&kept)?)?;
        fs::rename(&new, &self.file)
    }

    fn record(&self) -> Result<(), StoreError> {
        let flows: BTreeMap<u64, Flows> = {
            let ledger = self.ledger();
            ledger.sessions().into_iter().map(|session| (session, ledger.flows(session))).collect()
        };
        let mut changed = BTreeMap::new();
        for (session, flows) in flows {
            let before = self.db.read(|read| read.flows(session))?;
            if before != flows {
                changed.insert(session, flows);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        self.db.write("nonstopd", self.clock.now(), |w| w.session_flows(&changed))
    }
}

/// A ledger on file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    open: Vec<(u64, Open)>,
    ended: Vec<(u64, BTreeMap<String, Counted>)>,
    uncounted: Vec<u64>,
}

impl From<&Ledger> for Kept {
    fn from(ledger: &Ledger) -> Kept {
        Kept {
            open: ledger.open.iter().map(|(cookie, open)| (*cookie, *open)).collect(),
            ended: ledger.ended.iter().map(|(id, targets)| (*id, targets.clone())).collect(),
            uncounted: ledger.uncounted.iter().copied().collect(),
        }
    }
}

impl From<Kept> for Ledger {
    fn from(kept: Kept) -> Ledger {
        // While nobody counted, connections of any of them may have come and gone.
        let open = kept.open.iter().map(|(_, open)| open.session);
        let sessions = open.chain(kept.ended.iter().map(|(id, _)| *id));
        let uncounted = sessions.chain(kept.uncounted.iter().copied()).collect();
        Ledger {
            open: kept.open.into_iter().collect(),
            ended: kept.ended.into_iter().collect(),
            uncounted,
            ..Ledger::default()
        }
    }
}

#[cfg(test)]
mod tests;

//! What the gateway's ear heard of sshd, written down: logins that were refused and why, what sessions
//! asked for in vain, their clients, and why they ended.
//!
//! The ear reads what strangers choose, and may be taken over by one: what it says is bounded,
//! made plain and believed of the process that the kernel named only.

use crate::{Clock, flows::Meter, publisher::plain, status::chain, sums::Sums};
use nonstop_api::heard::{Heard, LONGEST_TEXT, MOST_AT_ONCE, Refusal, RefusedFor, Wanted};
use nonstop_store::{Db, LoginRefusal, Session, StoreError};
use serde_json::json;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracing::{error, warn};

/// Rows a minute of logins from one address, and of one session's denials.
const ROWS: usize = 40;
/// Rows a minute in all.
const ROWS_OF_ALL: usize = 500;
/// How long the ear may be silent: it says that it is there every five seconds.
const SILENT: Duration = Duration::from_secs(20);
/// Processes that are remembered until their sessions are known.
const PENDING: usize = 500;
/// What stands for the many that have no row of their own.
const OTHERS: &str = "(more)";

/// Refusals that are alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alike {
    pub(crate) source: String,
    pub(crate) user: String,
    pub(crate) why: RefusedFor,
    pub(crate) reason: String,
    pub(crate) fingerprint: String,
    pub(crate) client: String,
}

/// Denials that are alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Denial {
    session: Option<u64>,
    account: String,
    source: String,
    what: Wanted,
    target: String,
}

#[derive(Debug, Default)]
struct State {
    refused: Sums<Alike>,
    denied: Sums<Denial>,
    /// Words that were lost, and whether only some of them could be counted.
    lost: Sums<()>,
    /// sshd's processes whose login the daemon itself refused: recorded already.
    by_daemon: VecDeque<u32>,
    /// Clients by sshd's processes, until a session has them.
    clients: VecDeque<(u32, String)>,
    heard_at: Option<Instant>,
    deaf_told: bool,
}

/// Writes down what the ear heard.
pub struct Gateway {
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    run: String,
    meter: Arc<Meter>,
    state: Mutex<State>,
}

impl Gateway {
    /// The gateway of the host's run `run`.
    pub fn new(db: Arc<Db>, clock: Arc<dyn Clock>, run: String, meter: Arc<Meter>) -> Gateway {
        Gateway { db, clock, run, meter, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the ear tells at once.
    pub fn take_in(&self, heard: Vec<Heard>) -> Result<(), StoreError> {
        {
            let mut state = self.state();
            state.heard_at = Some(Instant::now());
            state.deaf_told = false;
        }
        for heard in heard.into_iter().take(MOST_AT_ONCE + 2) {
            self.one(heard)?;
        }
        Ok(())
    }

    fn one(&self, heard: Heard) -> Result<(), StoreError> {
        let now = self.clock.now();
        match heard {
            Heard::Began => self.began()?,
            Heard::Lost { words } => {
                self.state().lost.add((), words.max(1), now, |_, _| false, 1, |()| ());
            }
            Heard::Refused(refusal) => self.refused(refusal),
            Heard::Client { pid, client } => {
                let client = short(&client);
                match self.session(pid)? {
                    Some(session) if session.closed_at.is_none() => {
                        self.db.write("sshd", now, |w| w.session_client(session.id, &client))?;
                    }
                    _ => {
                        let mut state = self.state();
                        state.clients.push_back((pid, client));
                        while state.clients.len() > PENDING {
                            state.clients.pop_front();
                        }
                    }
                }
            }
            Heard::Forwarded { child, count, target } => {
                self.meter.said(child, &target, count)?;
            }
            Heard::Denied { child, pid, count, what, target } => {
                let pid = pid.or_else(|| parent(child));
                let session = pid.map(|pid| self.session(pid)).transpose()?.flatten();
                let (id, account, source) = session.map_or_else(
                    || (None, String::new(), String::new()),
                    |s| (Some(s.id), s.account.to_string(), s.source),
                );
                let denial = Denial { session: id, account, source, what, target: short(&target) };
                let together = |a: &Denial, b: &Denial| a.session == b.session;
                let instead = |d: Denial| Denial { target: OTHERS.into(), ..d };
                self.state().denied.add(denial, count.into(), now, together, ROWS, instead);
            }
            Heard::Ended { pid, how } => {
                if let Some(session) = self.session(pid)? {
                    let why = how.sentence();
                    self.db.write("sshd", now, |w| w.session_ends(session.id, why))?;
                }
            }
        }
        Ok(())
    }

    /// sshd is heard from now on: sessions that are open are older, and not heard any more.
    fn began(&self) -> Result<(), StoreError> {
        let open: Vec<u64> =
            self.db.read(|read| read.sessions(false))?.iter().map(|s| s.id).collect();
        if open.is_empty() {
            return Ok(());
        }
        warn!("what {} open sessions ask for in vain is not heard any more", open.len());
        self.db.write("sshd", self.clock.now(), |w| {
            w.trace("gateway.deaf", &"sessions", json!({ "sessions": open }))
        })
    }

    fn refused(&self, refusal: Refusal) {
        if let Some(pid) = refusal.pid
            && self.state().by_daemon.contains(&pid)
        {
            return;
        }
        let alike = Alike {
            source: refusal.source.map_or_else(String::new, |source| source.to_string()),
            user: short(&refusal.user.unwrap_or_default()),
            why: refusal.why,
            reason: refusal.why.sentence().into(),
            fingerprint: short(&refusal.key.unwrap_or_default()),
            client: short(&refusal.client.unwrap_or_default()),
        };
        self.count(alike);
    }

    /// The daemon itself refuses a login, of sshd's process `pid`.
    pub(crate) fn refused_by_daemon(&self, pid: u32, alike: Alike) {
        {
            let mut state = self.state();
            state.by_daemon.push_back(pid);
            while state.by_daemon.len() > PENDING {
                state.by_daemon.pop_front();
            }
        }
        self.count(alike);
    }

    fn count(&self, alike: Alike) {
        let now = self.clock.now();
        let others = |source: String, alike: Alike| Alike {
            source,
            user: OTHERS.into(),
            fingerprint: String::new(),
            client: String::new(),
            ..alike
        };
        let mut state = self.state();
        let of_it = |a: &Alike, b: &Alike| a.source == b.source;
        let all = state.refused.len() >= ROWS_OF_ALL && !state.refused.has(&alike);
        let alike = if all { others(OTHERS.into(), alike) } else { alike };
        let instead = |alike: Alike| others(alike.source.clone(), alike);
        state.refused.add(alike, 1, now, of_it, ROWS, instead);
    }

    /// What the client of the process `pid` calls itself, if that was heard already.
    pub(crate) fn client_of(&self, pid: u32) -> String {
        let mut state = self.state();
        let found = state.clients.iter().position(|(of, _)| *of == pid);
        found.and_then(|n| state.clients.remove(n)).map_or_else(String::new, |(_, client)| client)
    }

    fn session(&self, pid: u32) -> Result<Option<Session>, StoreError> {
        self.db.read(|read| read.session_of_process(pid, &self.run))
    }

    /// Whether sshd is heard; a sentence if not.
    pub fn silence(&self) -> Option<String> {
        match self.state().heard_at {
            Some(at) if at.elapsed() < SILENT => None,
            Some(at) => Some(format!("nothing for {} s", at.elapsed().as_secs())),
            None => Some("nothing since the daemon's start".into()),
        }
    }

    /// Writes what is due.
    pub fn write(&self) -> Result<(), StoreError> {
        let (refused, denied, lost) = {
            let mut state = self.state();
            let now = Instant::now();
            if !state.deaf_told && state.heard_at.is_some_and(|at| at.elapsed() > SILENT) {
                state.deaf_told = true;
                error!("the gateway's sshd is not heard: see the log of nonstop-sshd");
            }
            (state.refused.due(now), state.denied.due(now), state.lost.due(now))
        };
        if refused.is_empty() && denied.is_empty() && lost.is_empty() {
            return Ok(());
        }
        self.db.write("sshd", self.clock.now(), |w| {
            for row in refused {
                w.login_refused(&LoginRefusal {
                    first_at: row.first,
                    last_at: row.last,
                    user: row.key.user,
                    source: row.key.source,
                    why: row.key.why.as_str().into(),
                    reason: row.key.reason,
                    fingerprint: row.key.fingerprint,
                    client: row.key.client,
                    tries: row.count,
                })?;
            }
            for row in denied {
                let detail = json!({
                    "session": row.key.session, "source": row.key.source,
                    "what": row.key.what.as_str(), "target": row.key.target, "tries": row.count,
                });
                w.trace("gateway.denied", &row.key.account, detail)?;
            }
            for row in lost {
                w.trace("gateway.lost", &"words of sshd", json!({ "at_least": row.count }))?;
            }
            Ok::<_, StoreError>(())
        })
    }

    /// Writes what is due, for as long as the process lives.
    pub fn keep_writing(&self) -> ! {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            if let Err(e) = self.write() {
                error!("record what sshd said: {}", chain(&e));
            }
        }
    }
}

/// The process that runs the hook, by the session's own while that lives.
pub(crate) fn parent(child: u32) -> Option<u32> {
    let process = procfs::process::Process::new(child.try_into().ok()?).ok()?;
    u32::try_from(process.stat().ok()?.ppid).ok()
}

/// A text of a stranger's in a row.
fn short(text: &str) -> String {
    crate::prover::cut(&plain(text), LONGEST_TEXT)
}

#[cfg(test)]
mod tests;

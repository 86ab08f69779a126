//! From messages, one after another, to what the daemon is told.
//!
//! A message belongs to the process that the kernel says wrote it: what it says of others is not
//! believed. Root's are sshd's own; an account's process can only speak of what it was denied.

use crate::words::{Word, text, word};
use nonstop_api::heard::{Heard, Refusal, RefusedFor, Wanted};
use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// Connections, and sessions' processes, that are remembered.
const REMEMBERED: usize = 4096;
/// Things that wait to be told.
const WAITING: usize = 4096;
/// Kinds of things that sessions do, which are counted until they are told.
const COUNTED: usize = 512;
/// What a target is called that has no place in there.
const OTHERS: &str = "(more)";
/// A connection of which nothing was heard for so long is forgotten; longer than any login takes.
const FORGOTTEN: Duration = Duration::from_secs(180);
/// How long root has to say whose a process is, which it does a moment after it has made it: what the
/// process was denied by then is told of nobody afterwards.
const UNCLAIMED: Duration = Duration::from_secs(2);

/// Sorts messages.
#[derive(Debug, Default)]
pub(crate) struct Sorting {
    connections: BTreeMap<u32, Connection>,
    /// The process that runs the hook, by the session's own.
    children: BTreeMap<u32, (u32, Instant)>,
    waiting: VecDeque<Heard>,
    forwarded: BTreeMap<(u32, String), u32>,
    /// How often, and since when.
    denied: BTreeMap<Denied, (u32, Instant)>,
    lost: u64,
    /// Some may be lost, and nobody knows how much.
    unsure: bool,
}

/// What was denied: to which process, of which hook, what, and to which target.
type Denied = (u32, Option<u32>, Wanted, String);

/// A connection that is no session yet.
#[derive(Debug)]
struct Connection {
    since: Instant,
    source: Option<Ipv4Addr>,
    user: Option<String>,
    unknown: bool,
    key: Option<String>,
    client: Option<String>,
    why: Option<RefusedFor>,
    accepted: bool,
}

impl Connection {
    fn new(since: Instant) -> Connection {
        Connection {
            since,
            source: None,
            user: None,
            unknown: false,
            key: None,
            client: None,
            why: None,
            accepted: false,
        }
    }

    /// What tells staff most comes first.
    fn why(&self) -> RefusedFor {
        match self.why {
            Some(why @ (RefusedFor::Source | RefusedFor::Expired | RefusedFor::Daemon)) => why,
            _ if self.unknown => RefusedFor::UnknownAccount,
            Some(why) => why,
            None if self.key.is_some() => RefusedFor::UnknownKey,
            None => RefusedFor::NoKey,
        }
    }
}

impl Sorting {
    /// Takes in one message, written by the process `pid` of `uid` at `now`.
    pub(crate) fn hear(&mut self, pid: u32, uid: u32, message: &str, now: Instant) {
        let Some(word) = word(message) else { return };
        if uid == 0 { self.of_root(pid, word, now) } else { self.of_child(pid, word, now) }
    }

    /// Some messages could not be read.
    pub(crate) fn lose(&mut self, words: u64) {
        self.lost = self.lost.saturating_add(words);
    }

    /// Some messages may not have arrived at all.
    pub(crate) fn may_have_lost(&mut self) {
        self.unsure = true;
    }

    /// Whether there is anything to tell.
    pub(crate) fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
            && self.forwarded.is_empty()
            && self.denied.is_empty()
            && self.lost == 0
            && !self.unsure
    }

    /// The next things to tell at `now`, at most `most`.
    pub(crate) fn take(&mut self, most: usize, now: Instant) -> Vec<Heard> {
        let mut told = Vec::new();
        if self.lost > 0 || std::mem::take(&mut self.unsure) {
            told.push(Heard::Lost { words: std::mem::take(&mut self.lost) });
            self.unsure = false;
        }
        while told.len() < most {
            let Some(next) = self.waiting.pop_front() else { break };
            told.push(next);
        }
        while told.len() < most {
            let Some(((child, target), count)) = self.forwarded.pop_first() else { break };
            told.push(Heard::Forwarded { child, count, target });
        }
        let is_due = |(_, pid, ..): &Denied, since: Instant| {
            pid.is_some() || now.duration_since(since) >= UNCLAIMED
        };
        let due = self.denied.iter().filter(|(key, (_, since))| is_due(key, *since));
        let due: Vec<Denied> = due.take(most - told.len()).map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some((count, _)) = self.denied.remove(&key) else { continue };
            let (child, pid, what, target) = key;
            told.push(Heard::Denied { child, pid, count, what, target });
        }
        told
    }

    /// From now on sshd is heard.
    pub(crate) fn begin(&mut self) {
        self.waiting.push_front(Heard::Began);
    }

    fn of_root(&mut self, pid: u32, word: Word<'_>, now: Instant) {
        match word {
            Word::Connection { source } => {
                // The number is used again: what was before it is over.
                self.is_over(pid);
                self.make_room(now);
                let new = Connection { source: Some(source), ..Connection::new(now) };
                self.connections.insert(pid, new);
                return;
            }
            Word::TimeUp { source, pid } => {
                let unheard = || Connection { source: Some(source), ..Connection::new(now) };
                let mut known = self.connections.remove(&pid).unwrap_or_else(unheard);
                known.source.get_or_insert(source);
                self.tell(Heard::Refused(refusal(Some(pid), known, RefusedFor::TooSlow)));
                return;
            }
            Word::Dropped { source, why } => {
                let nothing = Connection { source: Some(source), ..Connection::new(now) };
                self.tell(Heard::Refused(refusal(None, nothing, why)));
                return;
            }
            Word::Child(child) => {
                if self.children.len() >= REMEMBERED {
                    let oldest = self.children.iter().min_by_key(|(_, (_, since))| *since);
                    let oldest = oldest.map(|(child, _)| *child);
                    oldest.and_then(|child| self.children.remove(&child));
                }
                self.children.insert(child, (pid, now));
                self.connections.remove(&pid);
                self.claim(child, pid);
                return;
            }
            Word::Over(how) => {
                let session = self.children.iter().find(|(_, (monitor, _))| *monitor == pid);
                if let Some(child) = session.map(|(child, _)| *child) {
                    self.children.remove(&child);
                    self.tell(Heard::Ended { pid, how });
                } else {
                    self.is_over(pid);
                }
                return;
            }
            Word::Denied { what, target } => return self.count_denied(pid, what, target, now),
            Word::Connected(target) => return self.count_forwarded(pid, target),
            Word::Client(_)
            | Word::User { .. }
            | Word::FailedKey { .. }
            | Word::Because(_)
            | Word::Accepted => {}
        }
        let Some(known) = self.connections.get_mut(&pid) else { return };
        match word {
            Word::Client(client) => known.client = Some(text(client)),
            Word::User { name, known: exists } => {
                known.user = Some(text(name));
                known.unknown = !exists;
            }
            Word::FailedKey { user, key } => {
                known.user = Some(text(user));
                known.key = key.map(String::from).or(known.key.take());
            }
            Word::Because(why) => {
                // The key decides; how many were tried is said by the way.
                let decided = matches!(known.why, Some(RefusedFor::Source | RefusedFor::Expired));
                if !decided {
                    known.why = Some(why);
                }
                if matches!(why, RefusedFor::NoAlgorithms | RefusedFor::NotSsh | RefusedFor::Daemon)
                {
                    self.is_over(pid);
                }
            }
            Word::Accepted => {
                known.accepted = true;
                if let Some(client) = known.client.take() {
                    self.tell(Heard::Client { pid, client });
                }
            }
            _ => {}
        }
    }

    fn of_child(&mut self, child: u32, word: Word<'_>, now: Instant) {
        match word {
            Word::Denied { what, target } => self.count_denied(child, what, target, now),
            Word::Connected(target) => self.count_forwarded(child, target),
            Word::Over(how) => {
                if let Some((pid, _)) = self.children.remove(&child) {
                    self.tell(Heard::Ended { pid, how });
                }
            }
            _ => {}
        }
    }

    fn count_denied(&mut self, child: u32, what: Wanted, target: String, now: Instant) {
        let pid = self.children.get(&child).map(|(pid, _)| *pid);
        let mut key = (child, pid, what, target);
        if self.denied.len() >= COUNTED && !self.denied.contains_key(&key) {
            key.3 = OTHERS.into();
        }
        if self.denied.len() >= 2 * COUNTED && !self.denied.contains_key(&key) {
            return self.lose(1);
        }
        let (count, _) = self.denied.entry(key).or_insert((0, now));
        *count = count.saturating_add(1);
    }

    /// `child` is of `pid`: so is what it was denied before that was said.
    fn claim(&mut self, child: u32, pid: u32) {
        let unclaimed = self.denied.keys().filter(|key| key.0 == child && key.1.is_none());
        for key in unclaimed.cloned().collect::<Vec<_>>() {
            let Some((count, since)) = self.denied.remove(&key) else { continue };
            let (_, _, what, target) = key;
            let (all, _) =
                self.denied.entry((child, Some(pid), what, target)).or_insert((0, since));
            *all = all.saturating_add(count);
        }
    }

    fn count_forwarded(&mut self, child: u32, target: String) {
        let key = (child, target);
        if self.forwarded.len() >= COUNTED && !self.forwarded.contains_key(&key) {
            return self.lose(1);
        }
        let count = self.forwarded.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    /// The connection of `pid` has ended without a session.
    fn is_over(&mut self, pid: u32) {
        let Some(connection) = self.connections.remove(&pid) else { return };
        // An accepted one is a session, or the daemon refused its opening and has recorded that.
        if !connection.accepted || connection.why == Some(RefusedFor::Daemon) {
            let why = connection.why();
            self.tell(Heard::Refused(refusal(Some(pid), connection, why)));
        }
    }

    fn tell(&mut self, heard: Heard) {
        if self.waiting.len() < WAITING { self.waiting.push_back(heard) } else { self.lose(1) }
    }

    /// Lets go of connections of which nothing more will be heard, and of the oldest if need be.
    fn make_room(&mut self, now: Instant) {
        let old = |c: &Connection| now.duration_since(c.since) > FORGOTTEN;
        let mut over: Vec<u32> =
            self.connections.iter().filter(|(_, c)| old(c)).map(|(pid, _)| *pid).collect();
        if over.is_empty() && self.connections.len() >= REMEMBERED {
            over.extend(self.connections.iter().min_by_key(|(_, c)| c.since).map(|(pid, _)| *pid));
        }
        for pid in over {
            self.is_over(pid);
        }
    }
}

fn refusal(pid: Option<u32>, of: Connection, why: RefusedFor) -> Refusal {
    Refusal { pid, source: of.source, user: of.user, why, key: of.key, client: of.client }
}

#[cfg(test)]
mod tests;

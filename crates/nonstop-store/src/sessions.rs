//! Sessions at the gateway: who came, from where, with which key and client, for how long, what went
//! to which target, and why it ended.

use crate::{Read, StoreError, Write, codec};
use jiff::Timestamp;
use nonstop_model::AccountName;
use rusqlite::Row;
use serde_json::json;
use std::collections::BTreeMap;

/// A session that begins.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Whose.
    pub account: AccountName,
    /// Address it comes from.
    pub source: String,
    /// The port it comes from.
    pub port: u16,
    /// Fingerprint of its key.
    pub fingerprint: String,
    /// What its client calls itself; empty while that is not known.
    pub client: String,
    /// The process of sshd.
    pub pid: u32,
    /// The host's run.
    pub run: String,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: u64,
    /// Whose.
    pub account: AccountName,
    /// Address it comes from.
    pub source: String,
    /// The port it comes from; 0 where it was not recorded.
    pub port: u16,
    /// Fingerprint of its key.
    pub fingerprint: String,
    /// What its client calls itself; empty where that is not known.
    pub client: String,
    /// The process of sshd.
    pub pid: u32,
    /// The host's run.
    pub run: String,
    /// When it began.
    pub opened_at: Timestamp,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
    /// Why it ended, or is going to; empty where that is not known.
    pub ended: String,
    /// Whether connections may have ended while nobody counted.
    pub uncounted: bool,
    /// Whether somebody wants it to end.
    pub ending: bool,
}

/// What a session exchanged with one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// Bytes from the client to the target.
    pub bytes_in: u64,
    /// Bytes from the target to the client.
    pub bytes_out: u64,
    /// Connections.
    pub connections: u64,
}

/// Flows by target.
pub type Flows = BTreeMap<String, Flow>;

const SELECT: &str = "SELECT s.id, a.name, s.source, s.fingerprint, s.pid, s.run, s.opened_at,
    s.closed_at, s.port, s.client, s.ended, s.uncounted, s.ending
    FROM sessions s JOIN accounts a ON a.id = s.account";

impl Read<'_> {
    /// Sessions, newest first: open ones, or the last thousand.
    pub fn sessions(&self, all: bool) -> Result<Vec<Session>, StoreError> {
        let sql = format!("{SELECT} WHERE ?1 OR s.closed_at IS NULL ORDER BY s.id DESC LIMIT 1000");
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query([all])?, session_from)
    }

    /// The session `id`.
    pub fn session(&self, id: u64) -> Result<Session, StoreError> {
        let mut statement = self.tx.prepare_cached(&format!("{SELECT} WHERE s.id = ?1"))?;
        let mut rows = statement.query([signed(id)])?;
        rows.next()?.map_or(Err(StoreError::NoSession(id)), session_from)
    }

    /// The last session of sshd's process `pid` in the host's run `run`.
    pub fn session_of_process(&self, pid: u32, run: &str) -> Result<Option<Session>, StoreError> {
        let sql = format!("{SELECT} WHERE s.pid = ?1 AND s.run = ?2 ORDER BY s.id DESC LIMIT 1");
        let mut statement = self.tx.prepare_cached(&sql)?;
        let mut rows = statement.query((pid, run))?;
        rows.next()?.map(session_from).transpose()
    }

    /// What the session `id` exchanged, as far as it was recorded.
    pub fn flows(&self, id: u64) -> Result<Flows, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT target, bytes_in, bytes_out, connections FROM session_flows WHERE session = ?1",
        )?;
        let unsigned = |row: &Row<'_>, n| row.get::<_, i64>(n).map(i64::unsigned_abs);
        let rows = codec::all(statement.query([signed(id)])?, |row| {
            let flow = Flow {
                bytes_in: unsigned(row, 1)?,
                bytes_out: unsigned(row, 2)?,
                connections: unsigned(row, 3)?,
            };
            Ok((row.get::<_, String>(0)?, flow))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// How many sessions began on each of the `days` days up to the one of `now`, in UTC, the earliest
    /// first, each as `2026-11-28`.
    pub fn logins_a_day(
        &self,
        days: u16,
        now: Timestamp,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let today = codec::micros(now).div_euclid(DAY_MICROS);
        let mut statement = self.tx.prepare_cached(
            "WITH RECURSIVE days (day) AS (
                 SELECT ?1 UNION ALL SELECT day + 1 FROM days WHERE day < ?2)
             SELECT date(day * 86400, 'unixepoch'), (SELECT count(*) FROM sessions
                 WHERE opened_at >= day * ?3 AND opened_at < (day + 1) * ?3) FROM days ORDER BY day",
        )?;
        let first = today - i64::from(days.max(1)) + 1;
        codec::all(statement.query([first, today, DAY_MICROS])?, |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
        })
    }
}

const DAY_MICROS: i64 = 86_400_000_000;

fn session_from(row: &Row<'_>) -> Result<Session, StoreError> {
    Ok(Session {
        id: row.get::<_, i64>(0)?.unsigned_abs(),
        account: codec::parsed("an account's name", &row.get::<_, String>(1)?)?,
        source: row.get(2)?,
        fingerprint: row.get(3)?,
        pid: row.get(4)?,
        run: row.get(5)?,
        opened_at: codec::time(row.get(6)?)?,
        closed_at: row.get::<_, Option<i64>>(7)?.map(codec::time).transpose()?,
        port: row.get(8)?,
        client: row.get(9)?,
        ended: row.get(10)?,
        uncounted: row.get(11)?,
        ending: row.get(12)?,
    })
}

impl Write<'_> {
    /// Records that a session began.
    pub fn open_session(&mut self, new: &NewSession) -> Result<u64, StoreError> {
        let account = self.account(&new.account)?;
        self.tx.execute(
            "INSERT INTO sessions (account, source, port, fingerprint, client, pid, run, opened_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (
                account.id.0,
                &new.source,
                new.port,
                &new.fingerprint,
                &new.client,
                new.pid,
                &new.run,
                codec::micros(self.now()),
            ),
        )?;
        let id = self.tx.last_insert_rowid().unsigned_abs();
        let detail = json!({
            "session": id, "source": new.source, "port": new.port, "key": new.fingerprint,
            "client": new.client,
        });
        self.trace("session.open", &new.account, detail)?;
        Ok(id)
    }

    /// Records what the client of the session `id` calls itself.
    pub fn session_client(&mut self, id: u64, client: &str) -> Result<(), StoreError> {
        let session = self.session(id)?;
        if session.client == client {
            return Ok(());
        }
        self.tx.execute("UPDATE sessions SET client = ?2 WHERE id = ?1", (signed(id), client))?;
        self.trace("session.client", &session.account, json!({ "session": id, "client": client }))
    }

    /// Records why the session `id` is going to end, or has just ended. The first reason stays.
    pub fn session_ends(&mut self, id: u64, why: &str) -> Result<(), StoreError> {
        let session = self.session(id)?;
        if !session.ended.is_empty() {
            return Ok(());
        }
        self.tx.execute("UPDATE sessions SET ended = ?2 WHERE id = ?1", (signed(id), why))?;
        self.trace("session.ends", &session.account, json!({ "session": id, "why": why }))
    }

    /// Wants the session `id` to end.
    pub fn end_session(&mut self, id: u64, why: &str) -> Result<(), StoreError> {
        let session = self.session(id)?;
        self.tx.execute(
            "UPDATE sessions SET ending = 1, ended = ?2 WHERE id = ?1 AND closed_at IS NULL",
            (signed(id), why),
        )?;
        self.trace("session.end", &session.account, json!({ "session": id, "why": why }))
    }

    /// Records what sessions have exchanged so far.
    pub fn session_flows(&mut self, flows: &BTreeMap<u64, Flows>) -> Result<(), StoreError> {
        let mut all = Flow::default();
        for (id, flows) in flows {
            self.keep_flows(*id, flows)?;
            for flow in flows.values() {
                all.bytes_in = all.bytes_in.saturating_add(flow.bytes_in);
                all.bytes_out = all.bytes_out.saturating_add(flow.bytes_out);
            }
        }
        let sessions: Vec<_> = flows.keys().collect();
        self.trace(
            "session.meter",
            &"*",
            json!({ "sessions": sessions, "bytes_in": all.bytes_in, "bytes_out": all.bytes_out }),
        )
    }

    fn keep_flows(&mut self, id: u64, flows: &Flows) -> Result<(), StoreError> {
        let mut statement = self.tx.prepare_cached(
            "INSERT INTO session_flows (session, target, bytes_in, bytes_out, connections)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (session, target) DO UPDATE SET bytes_in = excluded.bytes_in,
                 bytes_out = excluded.bytes_out, connections = excluded.connections",
        )?;
        for (target, flow) in flows {
            statement.execute((
                signed(id),
                target,
                signed(flow.bytes_in),
                signed(flow.bytes_out),
                signed(flow.connections),
            ))?;
        }
        Ok(())
    }

    /// Records that a session ended, and what it exchanged; one that is closed already stays as it
    /// is. With `uncounted` connections may have ended while nobody counted.
    pub fn close_session(
        &mut self,
        id: u64,
        flows: &Flows,
        uncounted: bool,
    ) -> Result<(), StoreError> {
        let session = self.session(id)?;
        let changed = self.tx.execute(
            "UPDATE sessions SET closed_at = ?2, uncounted = ?3 WHERE id = ?1 AND closed_at IS NULL",
            (signed(id), codec::micros(self.now()), uncounted),
        )?;
        if changed == 0 {
            return Ok(());
        }
        self.keep_flows(id, flows)?;
        let lasted = self.now().duration_since(session.opened_at).as_secs();
        let targets: BTreeMap<_, _> = flows
            .iter()
            .map(|(target, f)| (target, [f.bytes_in, f.bytes_out, f.connections]))
            .collect();
        let detail = json!({
            "session": id, "lasted_seconds": lasted, "why": session.ended,
            "in_out_connections": targets, "uncounted": uncounted,
        });
        self.trace("session.close", &session.account, detail)
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

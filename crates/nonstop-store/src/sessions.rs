//! Sessions at the gateway: who came, from where, with which key, for how long.

use crate::{Read, StoreError, Write, codec};
use jiff::Timestamp;
use nonstop_model::AccountName;
use rusqlite::Row;
use serde_json::json;

/// A session that begins.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Whose.
    pub account: AccountName,
    /// Address it comes from.
    pub source: String,
    /// Fingerprint of its key.
    pub fingerprint: String,
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
    /// Fingerprint of its key.
    pub fingerprint: String,
    /// The process of sshd.
    pub pid: u32,
    /// The host's run.
    pub run: String,
    /// When it began.
    pub opened_at: Timestamp,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
}

const SELECT: &str = "SELECT s.id, a.name, s.source, s.fingerprint, s.pid, s.run, s.opened_at,
    s.closed_at FROM sessions s JOIN accounts a ON a.id = s.account";

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
        let mut rows = statement.query([i64::try_from(id).unwrap_or(i64::MAX)])?;
        rows.next()?.map_or(Err(StoreError::NoSession(id)), session_from)
    }
}

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
    })
}

impl Write<'_> {
    /// Records that a session began.
    pub fn open_session(&mut self, new: &NewSession) -> Result<u64, StoreError> {
        let account = self.account(&new.account)?;
        self.tx.execute(
            "INSERT INTO sessions (account, source, fingerprint, pid, run, opened_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (
                account.id.0,
                &new.source,
                &new.fingerprint,
                new.pid,
                &new.run,
                codec::micros(self.now()),
            ),
        )?;
        let id = self.tx.last_insert_rowid().unsigned_abs();
        let detail = json!({ "session": id, "source": new.source, "key": new.fingerprint });
        self.trace("session.open", &new.account, detail)?;
        Ok(id)
    }

    /// Records that a session ended; one that is closed already stays as it is.
    pub fn close_session(&mut self, id: u64) -> Result<(), StoreError> {
        let session = self.session(id)?;
        let changed = self.tx.execute(
            "UPDATE sessions SET closed_at = ?2 WHERE id = ?1 AND closed_at IS NULL",
            (i64::try_from(id).unwrap_or(i64::MAX), codec::micros(self.now())),
        )?;
        if changed == 0 {
            return Ok(());
        }
        let lasted = self.now().duration_since(session.opened_at).as_secs();
        let detail = json!({ "session": id, "lasted_seconds": lasted });
        self.trace("session.close", &session.account, detail)
    }

    /// Records a login that was refused.
    pub fn login_refused(
        &mut self,
        user: &str,
        source: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.trace("login.refused", &user, json!({ "source": source, "reason": reason }))
    }
}

//! Logins that were refused: what the server knows and the client is not told.

use crate::{Read, StoreError, Write, codec};
use jiff::Timestamp;
use rusqlite::Row;
use serde_json::json;

/// Logins that were refused, all alike and within a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRefusal {
    /// The first of them.
    pub first_at: Timestamp,
    /// The last of them.
    pub last_at: Timestamp,
    /// The login name that was tried; empty where none was said.
    pub user: String,
    /// Where they came from.
    pub source: String,
    /// Why, in a word.
    pub why: String,
    /// Why, in a sentence.
    pub reason: String,
    /// Fingerprint of the last key that was tried; empty where there was none.
    pub fingerprint: String,
    /// What the client calls itself; empty where it did not say.
    pub client: String,
    /// How many.
    pub tries: u64,
}

impl Read<'_> {
    /// Refusals since `since`, newest first, at most `limit` rows.
    pub fn refusals(&self, since: Timestamp, limit: u32) -> Result<Vec<LoginRefusal>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT first_at, last_at, user, source, why, reason, fingerprint, client, tries
             FROM login_refusals WHERE last_at >= ?1 ORDER BY last_at DESC, id DESC LIMIT ?2",
        )?;
        codec::all(statement.query((codec::micros(since), limit))?, refusal_from)
    }

    /// How many logins were refused since `since`.
    pub fn refused_since(&self, since: Timestamp) -> Result<u64, StoreError> {
        let count: i64 = self.tx.query_row(
            "SELECT coalesce(sum(tries), 0) FROM login_refusals WHERE last_at >= ?1",
            [codec::micros(since)],
            |row| row.get(0),
        )?;
        Ok(count.unsigned_abs())
    }
}

fn refusal_from(row: &Row<'_>) -> Result<LoginRefusal, StoreError> {
    Ok(LoginRefusal {
        first_at: codec::time(row.get(0)?)?,
        last_at: codec::time(row.get(1)?)?,
        user: row.get(2)?,
        source: row.get(3)?,
        why: row.get(4)?,
        reason: row.get(5)?,
        fingerprint: row.get(6)?,
        client: row.get(7)?,
        tries: row.get::<_, i64>(8)?.unsigned_abs(),
    })
}

impl Write<'_> {
    /// Records logins that were refused.
    pub fn login_refused(&mut self, refusal: &LoginRefusal) -> Result<(), StoreError> {
        self.tx.execute(
            "INSERT INTO login_refusals
                 (first_at, last_at, user, source, why, reason, fingerprint, client, tries)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            (
                codec::micros(refusal.first_at),
                codec::micros(refusal.last_at.max(refusal.first_at)),
                &refusal.user,
                &refusal.source,
                &refusal.why,
                &refusal.reason,
                &refusal.fingerprint,
                &refusal.client,
                i64::try_from(refusal.tries).unwrap_or(i64::MAX),
            ),
        )?;
        let detail = json!({
            "source": refusal.source, "why": refusal.why, "reason": refusal.reason,
            "key": refusal.fingerprint, "client": refusal.client, "tries": refusal.tries,
        });
        self.trace("login.refused", &refusal.user, detail)
    }
}

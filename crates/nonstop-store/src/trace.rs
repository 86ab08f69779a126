//! The trace: append-only, without gaps, each row hashed with the one before, as
//! [`nonstop_trace::row`] has it.

use crate::{Read, StoreError, codec};
use jiff::Timestamp;
use nonstop_trace::{Hash, Row, row::chained};
use rusqlite::{OptionalExtension, Transaction, params_from_iter, types::Value};

/// A row of the trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceRow {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
    /// More, by action.
    pub detail: serde_json::Value,
    /// SHA-256 in hex.
    pub hash: String,
}

/// What checking the chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Rows checked.
    pub rows: u64,
    /// Hash of the last row that fits, in hex.
    pub head: String,
    /// The first row that does not fit.
    pub broken_at: Option<u64>,
}

pub(crate) fn append(
    tx: &Transaction<'_>,
    actor: &str,
    at: Timestamp,
    action: &str,
    subject: &str,
    detail: &serde_json::Value,
) -> Result<(), StoreError> {
    let last = last(tx)?;
    let (last, before) = last.unwrap_or((0, Hash::ZERO));
    let (seq, at, detail) = (last + 1, codec::micros(at), detail.to_string());
    let hash = chained(&before, seq.unsigned_abs(), at, [actor, action, subject, &detail]);
    tx.prepare_cached(
        "INSERT INTO trace (seq, at, actor, action, subject, detail, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((seq, at, actor, action, subject, detail, hash.0))?;
    Ok(())
}

/// The number and hash of the last row.
pub(crate) fn last(tx: &Transaction<'_>) -> Result<Option<(i64, Hash)>, StoreError> {
    let last = tx
        .prepare_cached("SELECT seq, hash FROM trace ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, Hash(row.get(1)?))))
        .optional()?;
    Ok(last)
}

/// Which rows of the trace are wanted; a field that is None leaves all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// Of this actor, or about this account, environment, export or other thing.
    pub about: Option<String>,
    /// Of this action; `export.` of all that begin so.
    pub action: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

impl Read<'_> {
    /// The last `limit` rows, newest first.
    pub fn trace_rows(&self, limit: u32) -> Result<Vec<TraceRow>, StoreError> {
        self.trace_filtered(&TraceFilter::default(), limit)
    }

    /// The last `limit` rows that `filter` wants, newest first.
    pub fn trace_filtered(
        &self,
        filter: &TraceFilter,
        limit: u32,
    ) -> Result<Vec<TraceRow>, StoreError> {
        let (mut wanted, mut values) = (Vec::new(), Vec::<Value>::new());
        if let Some(about) = &filter.about {
            // What an account's row says of itself stands in its detail.
            wanted.push(
                "(subject = ? OR actor = ? OR json_extract(detail, '$.account') = ?
                  OR json_extract(detail, '$.environment') = ?)",
            );
            values.extend(std::iter::repeat_n(Value::from(about.clone()), 4));
        }
        if let Some(action) = &filter.action {
            let part = action.ends_with('.');
            wanted.push(if part { "substr(action, 1, ?) = ?" } else { "action = ?" });
            if part {
                values.push(i64::try_from(action.chars().count()).unwrap_or(i64::MAX).into());
            }
            values.push(action.clone().into());
        }
        for (at, part) in [(filter.since, "at >= ?"), (filter.until, "at < ?")] {
            if let Some(at) = at {
                wanted.push(part);
                values.push(codec::micros(at).into());
            }
        }
        values.push(i64::from(limit).into());
        let wanted = if wanted.is_empty() { "TRUE".into() } else { wanted.join(" AND ") };
        let mut statement = self.tx.prepare_cached(&format!(
            "SELECT seq, at, actor, action, subject, detail, hash FROM trace
             WHERE {wanted} ORDER BY seq DESC LIMIT ?",
        ))?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(TraceRow {
                seq: row.get::<_, i64>(0)?.unsigned_abs(),
                at: codec::time(row.get(1)?)?,
                actor: row.get(2)?,
                action: row.get(3)?,
                subject: row.get(4)?,
                detail: codec::json("a detail of the trace", &row.get::<_, String>(5)?)?,
                hash: hex::encode(row.get::<_, [u8; 32]>(6)?),
            });
        }
        Ok(found)
    }

    /// At most `limit` rows behind row `seq`, oldest first, byte for byte: the trace only grows, so
    /// that parts of it that are read one after the other are one whole.
    pub fn trace_after(&self, seq: u64, limit: u32) -> Result<Vec<Row>, StoreError> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        let mut statement = self.tx.prepare_cached(
            "SELECT seq, at, actor, action, subject, detail, hash FROM trace
             WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )?;
        codec::all(statement.query((seq, limit))?, row)
    }

    /// What the last row about `subject` says was done.
    pub fn last_action_on(&self, subject: &str) -> Result<Option<String>, StoreError> {
        let query = "SELECT action FROM trace WHERE subject = ?1 ORDER BY seq DESC LIMIT 1";
        let mut statement = self.tx.prepare_cached(query)?;
        Ok(statement.query_row([subject], |row| row.get(0)).optional()?)
    }

    /// How many rows the trace has.
    pub fn trace_len(&self) -> Result<u64, StoreError> {
        let rows: i64 =
            self.tx.query_row("SELECT coalesce(max(seq), 0) FROM trace", [], |row| row.get(0))?;
        Ok(rows.unsigned_abs())
    }

    /// Recomputes the chain from its first row.
    pub fn verify_trace(&self) -> Result<Verification, StoreError> {
        let mut statement = self.tx.prepare(
            "SELECT seq, at, actor, action, subject, detail, hash FROM trace ORDER BY seq",
        )?;
        let mut rows = statement.query([])?;
        let (mut head, mut count) = (Hash::ZERO, 0);
        while let Some(found) = rows.next()? {
            let found = row(found)?;
            if found.seq != count + 1 || found.recomputed(&head) != found.hash {
                let broken_at = Some(count + 1);
                return Ok(Verification { rows: count, head: head.to_string(), broken_at });
            }
            (head, count) = (found.hash, count + 1);
        }
        Ok(Verification { rows: count, head: head.to_string(), broken_at: None })
    }
}

fn row(row: &rusqlite::Row<'_>) -> Result<Row, StoreError> {
    Ok(Row {
        seq: row.get::<_, i64>(0)?.unsigned_abs(),
        at: row.get(1)?,
        actor: row.get(2)?,
        action: row.get(3)?,
        subject: row.get(4)?,
        detail: row.get(5)?,
        hash: Hash(row.get(6)?),
    })
}

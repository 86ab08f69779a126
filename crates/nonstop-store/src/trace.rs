//! The trace: append-only, without gaps, each row hashed with the one before.
//!
//! The hash of a row is SHA-256 over the hash before (32 zero bytes for the first) and the row's
//! fields, each preceded by its length as eight bytes, little-endian.

use crate::{Read, StoreError, codec};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction};
use sha2::{Digest, Sha256};

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

type Hash = [u8; 32];

fn hash(before: &Hash, fields: [&[u8]; 6]) -> Hash {
    let mut hasher = Sha256::new_with_prefix(before);
    for field in fields {
        hasher.update((field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    hasher.finalize().into()
}

pub(crate) fn append(
    tx: &Transaction<'_>,
    actor: &str,
    at: Timestamp,
    action: &str,
    subject: &str,
    detail: &serde_json::Value,
) -> Result<(), StoreError> {
    let last = tx
        .query_row("SELECT seq, hash FROM trace ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Hash>(1)?))
        })
        .optional()?;
    let (last, before) = last.unwrap_or((0, [0; 32]));
    let (seq, at, detail) = (last + 1, codec::micros(at), detail.to_string());
    let hash = hash(
        &before,
        [
            &seq.to_le_bytes(),
            &at.to_le_bytes(),
            actor.as_bytes(),
            action.as_bytes(),
            subject.as_bytes(),
            detail.as_bytes(),
        ],
    );
    tx.prepare_cached(
        "INSERT INTO trace (seq, at, actor, action, subject, detail, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((seq, at, actor, action, subject, detail, hash))?;
    Ok(())
}

impl Read<'_> {
    /// The last `limit` rows, newest first.
    pub fn trace_rows(&self, limit: u32) -> Result<Vec<TraceRow>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT seq, at, actor, action, subject, detail, hash FROM trace
             ORDER BY seq DESC LIMIT ?1",
        )?;
        let mut rows = statement.query([limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(TraceRow {
                seq: row.get::<_, i64>(0)?.unsigned_abs(),
                at: codec::time(row.get(1)?)?,
                actor: row.get(2)?,
                action: row.get(3)?,
                subject: row.get(4)?,
                detail: codec::json("a detail of the trace", &row.get::<_, String>(5)?)?,
                hash: hex::encode(row.get::<_, Hash>(6)?),
            });
        }
        Ok(found)
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
        let mut head = [0; 32];
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let (seq, at): (i64, i64) = (row.get(0)?, row.get(1)?);
            let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
            let expected = hash(
                &head,
                [
                    &seq.to_le_bytes(),
                    &at.to_le_bytes(),
                    text(2)?.as_bytes(),
                    text(3)?.as_bytes(),
                    text(4)?.as_bytes(),
                    text(5)?.as_bytes(),
                ],
            );
            if seq.unsigned_abs() != count + 1 || expected != row.get::<_, Hash>(6)? {
                let broken_at = Some(count + 1);
                return Ok(Verification { rows: count, head: hex::encode(head), broken_at });
            }
            (head, count) = (expected, count + 1);
        }
        Ok(Verification { rows: count, head: hex::encode(head), broken_at: None })
    }
}

//! Heads of the trace, signed; receipts of releases; and how far second places are with them.
//!
//! A head follows from the trace: it has no row of its own, or there would always be something new
//! to sign.

use crate::{Read, StoreError, Write, codec, trace};
use jiff::Timestamp;
use nonstop_model::{AccountName, ExportId};
use nonstop_trace::{AuthorityKey, Hash, Head, RECEIPT, Receipt, ReceiptError, Released, Sign};
use rusqlite::OptionalExtension;
use std::fmt::Display;

/// The most heads that a second place is given at once.
pub const HEADS_AT_ONCE: u32 = 64;

/// The longest reason for which a place did not take a head, in bytes.
const LONGEST_WHY: usize = 300;

/// How far a second place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which, such as `folder:/mnt/heads`.
    pub place: String,
    /// Since when it is to have heads.
    pub since: Timestamp,
    /// It has all heads up to this row that were signed since.
    pub sent: u64,
    /// When it got the last.
    pub sent_at: Option<Timestamp>,
    /// When it was tried last in vain, and why it was in vain; None once it has taken another.
    pub failed: Option<(Timestamp, String)>,
    /// When the oldest head was signed that it does not have; None if it has all.
    pub lacks_since: Option<Timestamp>,
}

/// A row of the trace with the head that signs it.
pub(crate) struct SignedRow {
    /// The hash of the row before.
    pub(crate) before: Hash,
    /// Of when it is.
    pub(crate) at: Timestamp,
    /// What it says, as JSON.
    pub(crate) detail: String,
    /// Its head.
    pub(crate) head: Head,
}

impl Write<'_> {
    /// Signs the last row of the trace as it is in this transaction; None if that is signed already,
    /// or there is none.
    pub fn sign_head(&mut self, key: &dyn Sign) -> Result<Option<Head>, StoreError> {
        let Some((seq, hash)) = trace::last(self.tx)? else { return Ok(None) };
        let known: Option<i64> = self
            .tx
            .query_row("SELECT seq FROM heads WHERE seq = ?1", [seq], |row| row.get(0))
            .optional()?;
        if known.is_some() {
            return Ok(None);
        }
        let lab = lab(self)?;
        let head = Head::sign(&lab, seq.unsigned_abs(), hash, self.now(), key)?;
        self.derived();
        self.tx.execute(
            "INSERT INTO heads (seq, hash, at, authority, signature) VALUES (?1, ?2, ?3, ?4, ?5)",
            (seq, hash.0, codec::micros(head.at()), key.public_key(), head.signature()),
        )?;
        Ok(Some(head))
    }

    /// Adds the row of the receipt of a release and signs it: whoever sees this transaction's release
    /// sees its head, too. To be called once a release, behind its own row of trace. Times are taken
    /// to the microsecond.
    pub fn release_receipt(
        &mut self,
        released: &Released,
        key: &dyn Sign,
    ) -> Result<Receipt, StoreError> {
        let mut released = released.clone();
        released.released_at = whole(released.released_at)?;
        released.submitted_at = whole(released.submitted_at)?;
        let export = released.export;
        let detail =
            serde_json::from_str(&released.detail()).map_err(|e| codec::corrupt("a receipt", e))?;
        let before = trace::last(self.tx)?.map_or(Hash::ZERO, |(_, hash)| hash);
        self.trace_by("nonstopd", RECEIPT, &export, &detail)?;
        let failed = |source| StoreError::Receipt { export, source };
        let head = self.sign_head(key)?.ok_or_else(|| failed(ReceiptError::Text("head")))?;
        Receipt::new(before, whole(self.now())?, released, head).map_err(failed)
    }

    /// Makes these the second places: what was not one begins with the newest head.
    pub fn keep_places(&mut self, places: &[String]) -> Result<(), StoreError> {
        self.derived();
        let now = codec::micros(self.now());
        for place in places {
            self.tx.execute(
                "INSERT INTO head_places (place, since, sent)
                 VALUES (?1, ?2, (SELECT coalesce(max(seq), 1) - 1 FROM heads))
                 ON CONFLICT DO NOTHING",
                (place, now),
            )?;
        }
        let known: Vec<String> = self
            .tx
            .prepare("SELECT place FROM head_places")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for gone in known.iter().filter(|place| !places.contains(place)) {
            self.tx.execute("DELETE FROM head_places WHERE place = ?1", [gone])?;
        }
        Ok(())
    }

    /// Records that `place` has every head up to row `seq`. What it had already, or what was never
    /// signed, changes nothing.
    pub fn head_sent(&mut self, place: &str, seq: u64) -> Result<(), StoreError> {
        self.derived();
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        self.tx.execute(
            "UPDATE head_places SET sent = ?2, sent_at = ?3, failed_at = NULL, why = NULL
             WHERE place = ?1 AND sent < ?2 AND EXISTS (SELECT 1 FROM heads WHERE seq = ?2)",
            (place, seq, codec::micros(self.now())),
        )?;
        Ok(())
    }

    /// Records that `place` did not take a head.
    pub fn head_failed(&mut self, place: &str, why: &str) -> Result<(), StoreError> {
        self.derived();
        let mut why: String = why.chars().filter(|c| !c.is_control()).collect();
        why.truncate(why.floor_char_boundary(LONGEST_WHY));
        self.tx.execute(
            "UPDATE head_places SET failed_at = ?2, why = ?3 WHERE place = ?1",
            (place, codec::micros(self.now()), why),
        )?;
        Ok(())
    }
}

impl Read<'_> {
    /// The last head.
    pub fn last_head(&self) -> Result<Option<Head>, StoreError> {
        Ok(self.heads_newest(1)?.pop())
    }

    /// The last `limit` heads, newest first.
    pub fn heads_newest(&self, limit: u32) -> Result<Vec<Head>, StoreError> {
        self.heads_where("seq <= ?1 ORDER BY seq DESC LIMIT ?2", i64::MAX, limit)
    }

    /// At most `limit` heads of rows behind `seq`, oldest first.
    pub fn heads_after(&self, seq: u64, limit: u32) -> Result<Vec<Head>, StoreError> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        self.heads_where("seq > ?1 ORDER BY seq LIMIT ?2", seq, limit)
    }

    fn heads_where(&self, part: &str, seq: i64, limit: u32) -> Result<Vec<Head>, StoreError> {
        let lab = lab(self)?;
        let query = format!("SELECT seq, hash, at, authority, signature FROM heads WHERE {part}");
        let mut statement = self.tx.prepare_cached(&query)?;
        codec::all(statement.query((seq, limit))?, |row| head(&lab, row))
    }

    /// The head of just the row `seq`.
    pub(crate) fn head_of(&self, seq: i64) -> Result<Option<Head>, StoreError> {
        Ok(self.heads_where("seq = ?1 LIMIT ?2", seq, 1)?.pop())
    }

    /// The receipt of `export`; None if it was never released.
    pub fn receipt(&self, export: ExportId) -> Result<Option<Receipt>, StoreError> {
        let Some(row) = self.signed_row("a receipt", &export, RECEIPT)? else { return Ok(None) };
        let released: Released = codec::json("a receipt", &row.detail)?;
        let receipt = Receipt::new(row.before, row.at, released, row.head);
        receipt.map(Some).map_err(|source| StoreError::Receipt { export, source })
    }

    /// The newest row of the trace that says `action` of `subject`, which is signed: `what`, as errors
    /// call it.
    pub(crate) fn signed_row(
        &self,
        what: &'static str,
        subject: &dyn Display,
        action: &str,
    ) -> Result<Option<SignedRow>, StoreError> {
        let found = self
            .tx
            .query_row(
                "SELECT seq, at, detail FROM trace WHERE subject = ?1 AND action = ?2
                 ORDER BY seq DESC LIMIT 1",
                (subject.to_string(), action),
                |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()?;
        let Some((seq, at, detail)) = found else { return Ok(None) };
        let before = self
            .tx
            .query_row("SELECT hash FROM trace WHERE seq = ?1", [seq - 1], |row| row.get(0))
            .optional()?
            .map_or(Hash::ZERO, Hash);
        let head = self.head_of(seq)?.ok_or_else(|| codec::corrupt(what, "its head is missing"))?;
        Ok(Some(SignedRow { before, at: codec::time(at)?, detail, head }))
    }

    /// Whose `export` is; None if there is none.
    pub fn owner_of_export(&self, export: ExportId) -> Result<Option<AccountName>, StoreError> {
        let found: Option<String> = self
            .tx
            .prepare_cached(
                "SELECT accounts.name FROM exports
                 JOIN environments ON environments.id = exports.environment
                 JOIN accounts ON accounts.id = environments.account
                 WHERE exports.id = ?1",
            )?
            .query_row([export.0], |row| row.get(0))
            .optional()?;
        found.map(|name| codec::parsed("a name", &name)).transpose()
    }

    /// Second places, and how far each is.
    pub fn places(&self) -> Result<Vec<Place>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT place, since, sent, sent_at, failed_at, why,
                    (SELECT min(at) FROM heads WHERE seq > sent)
             FROM head_places ORDER BY place",
        )?;
        codec::all(statement.query([])?, |row| {
            let time = |column| row.get::<_, Option<i64>>(column)?.map(codec::time).transpose();
            let why: Option<String> = row.get(5)?;
            Ok(Place {
                place: row.get(0)?,
                since: codec::time(row.get(1)?)?,
                sent: row.get::<_, i64>(2)?.unsigned_abs(),
                sent_at: time(3)?,
                failed: time(4)?.zip(why),
                lacks_since: time(6)?,
            })
        })
    }
}

fn lab(read: &Read<'_>) -> Result<String, StoreError> {
    Ok(read.tx.query_row("SELECT uuid FROM lab", [], |row| row.get(0))?)
}

fn head(lab: &str, row: &rusqlite::Row<'_>) -> Result<Head, StoreError> {
    let key = AuthorityKey::from_der(row.get(3)?).map_err(|e| codec::corrupt("a head", e))?;
    let seq = row.get::<_, i64>(0)?.unsigned_abs();
    let (hash, at) = (Hash(row.get(1)?), codec::time(row.get(2)?)?);
    Ok(Head::from_parts(lab, seq, hash, at, &key, row.get(4)?)?)
}

/// `at` as the database keeps it.
fn whole(at: Timestamp) -> Result<Timestamp, StoreError> {
    codec::time(codec::micros(at))
}

//! How long the bytes of exports are kept, what is kept longer, and what was deleted.
//!
//! A deletion is decided, with a signed row of trace, before anything is removed; `done` follows. What
//! a power cut leaves in between is gone on with.

use crate::{Read, StoreError, Write, codec};
use jiff::Timestamp;
use nonstop_model::ExportId;
use nonstop_trace::{DELETED, Sign};
use rusqlite::OptionalExtension;
use serde_json::json;

/// Bytes that policy lets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletable {
    /// Their SHA-256 in hex: the name of their file in the trace store.
    pub sha256: String,
    /// The exports that have them.
    pub exports: Vec<ExportId>,
}

/// An export whose bytes no policy deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub export: ExportId,
    /// Why.
    pub reason: String,
    /// Who wants it.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

impl Write<'_> {
    /// Keeps the bytes of `export` whatever the policy; saying it again changes the reason.
    ///
    /// Errors: `BytesGo` once their deletion is decided, unless they came again since.
    pub fn keep_export(&mut self, export: ExportId, reason: &str) -> Result<(), StoreError> {
        self.bytes_must_stay(export)?;
        let (by, at) = (self.actor().to_string(), codec::micros(self.now()));
        self.tx.execute(
            "INSERT INTO kept_exports (export, reason, kept_by, kept_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET reason = ?2, kept_by = ?3, kept_at = ?4",
            (export.0, reason, by, at),
        )?;
        self.trace("export.keep", &export, json!({ "reason": reason }))
    }

    /// Leaves the bytes of `export` to the policy again; false if they were left to it before.
    pub fn unkeep_export(&mut self, export: ExportId, reason: &str) -> Result<bool, StoreError> {
        if self.tx.execute("DELETE FROM kept_exports WHERE export = ?1", [export.0])? == 0 {
            return Ok(false);
        }
        self.trace("export.unkeep", &export, json!({ "reason": reason }))?;
        Ok(true)
    }

    /// Records, signed, that the bytes `sha256`, of which every export ended before `cutoff`, are
    /// deleted under `rule`. The file may go once this is committed. False, and nothing is recorded,
    /// if they are not [`Read::deletable`] by now.
    pub fn delete_bytes(
        &mut self,
        sha256: &str,
        cutoff: Timestamp,
        rule: &str,
        key: &dyn Sign,
    ) -> Result<bool, StoreError> {
        let Some(Deletable { sha256, exports }) = self.deletable_now(sha256, cutoff)? else {
            return Ok(false);
        };
        self.tx.execute(
            "INSERT INTO deletions (sha256, decided_at) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET decided_at = ?2, done_at = NULL",
            (&sha256, codec::micros(self.now())),
        )?;
        let subject = exports.first().map_or_else(|| sha256.clone(), ToString::to_string);
        let detail = json!({ "sha256": sha256, "exports": exports, "rule": rule });
        self.trace(DELETED, &subject, detail)?;
        self.sign_head(key)?;
        Ok(true)
    }

    /// Records that the file is gone.
    pub fn bytes_deleted(&mut self, sha256: &str) -> Result<(), StoreError> {
        self.derived();
        let now = codec::micros(self.now());
        self.tx.execute("UPDATE deletions SET done_at = ?2 WHERE sha256 = ?1", (sha256, now))?;
        Ok(())
    }
}

/// Groups of exports with the same bytes; `?1` is the cutoff, `?2` one SHA-256 or NULL, `?3` how many.
const DELETABLE: &str = "SELECT sha256, json_group_array(id) FROM exports
     WHERE kept = 'trace' AND (?2 IS NULL OR sha256 = ?2)
     GROUP BY sha256
     HAVING max(changed_at) < ?1
        AND sum(state IN ('submitted', 'screening', 'held')) = 0
        AND sum(id IN (SELECT export FROM kept_exports)) = 0
        AND max(coalesce(screened_at, submitted_at)) >= coalesce(
            (SELECT decided_at FROM deletions WHERE deletions.sha256 = exports.sha256), -1)
     ORDER BY max(changed_at) LIMIT ?3";

impl Read<'_> {
    /// Bytes in the trace store of which every export ended before `cutoff`, none is kept, and whose
    /// deletion was not decided since they were screened last; at most `limit`.
    pub fn deletable(&self, cutoff: Timestamp, limit: u32) -> Result<Vec<Deletable>, StoreError> {
        self.deletable_of(None, cutoff, limit)
    }

    fn deletable_now(
        &self,
        sha256: &str,
        cutoff: Timestamp,
    ) -> Result<Option<Deletable>, StoreError> {
        Ok(self.deletable_of(Some(sha256), cutoff, 1)?.pop())
    }

    fn deletable_of(
        &self,
        sha256: Option<&str>,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<Deletable>, StoreError> {
        let mut statement = self.tx.prepare_cached(DELETABLE)?;
        codec::all(statement.query((codec::micros(cutoff), sha256, limit))?, |row| {
            let exports: Vec<u32> = codec::json("numbers of exports", &row.get::<_, String>(1)?)?;
            let mut exports: Vec<_> = exports.into_iter().map(ExportId).collect();
            exports.sort_unstable();
            Ok(Deletable { sha256: row.get(0)?, exports })
        })
    }

    /// Bytes whose deletion is decided, and not done yet.
    pub fn deletions_under_way(&self) -> Result<Vec<String>, StoreError> {
        let query = "SELECT sha256 FROM deletions WHERE done_at IS NULL ORDER BY decided_at";
        let mut statement = self.tx.prepare_cached(query)?;
        codec::all(statement.query([])?, |row| Ok(row.get(0)?))
    }

    /// Whether an export with these bytes was screened after their deletion was decided: then their
    /// file is another's.
    pub fn wanted_again(&self, sha256: &str) -> Result<bool, StoreError> {
        let found: i64 = self.tx.query_row(
            "SELECT count(*) FROM exports, deletions
             WHERE exports.sha256 = ?1 AND deletions.sha256 = ?1 AND exports.kept = 'trace'
               AND coalesce(exports.screened_at, exports.submitted_at) >= deletions.decided_at",
            [sha256],
            |row| row.get(0),
        )?;
        Ok(found > 0)
    }

    /// Errors if the bytes of `export` go, or went, and did not come again since.
    fn bytes_must_stay(&self, export: ExportId) -> Result<(), StoreError> {
        let decided = self
            .tx
            .query_row(
                "SELECT d.sha256, d.decided_at FROM exports x JOIN deletions d USING (sha256)
                 WHERE x.id = ?1 AND x.kept = 'trace'",
                [export.0],
                |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)),
            )
            .optional()?;
        match decided {
            Some((sha256, at)) if !self.wanted_again(&sha256)? => {
                Err(StoreError::BytesGo { id: export, at: codec::time(at)? })
            }
            _ => Ok(()),
        }
    }

    /// Exports whose bytes no policy deletes, the oldest first.
    pub fn kept_exports(&self) -> Result<Vec<Kept>, StoreError> {
        let query = "SELECT export, reason, kept_by, kept_at FROM kept_exports ORDER BY export";
        let mut statement = self.tx.prepare_cached(query)?;
        codec::all(statement.query([])?, |row| {
            Ok(Kept {
                export: ExportId(row.get(0)?),
                reason: row.get(1)?,
                by: row.get(2)?,
                at: codec::time(row.get(3)?)?,
            })
        })
    }
}

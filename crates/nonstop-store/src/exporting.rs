//! How an export goes from state to state: each step one transaction with its row of trace.

use crate::{
    Export, Read, StoreError, Write, codec,
    exports::{ByHash, Screening, state_by},
};
use jiff::Timestamp;
use nonstop_model::{
    BlobId, EnvironmentId, ExportId, ExportState, screening::Verdict, transfer::EntryPath,
};
use serde_json::json;
use std::collections::BTreeSet;

/// Who decides where no person does.
const POLICY: &str = "policy";

/// Exports of one environment that wait to be screened at once; names that are due beyond that wait.
const MOST_WAITING: u64 = 200;
/// Exports that it submits in an hour, and in a day: the trace keeps some rows of each for ever.
const MOST: (u64, u64) = (5000, 20_000);

/// In microseconds.
const HOUR: i64 = 3_600_000_000;

impl Read<'_> {
    /// Names that are due to become exports at `now`: at most `limit` of each environment, and no
    /// more than it may submit.
    pub fn due(&self, now: Timestamp, limit: u64) -> Result<Vec<u64>, StoreError> {
        let now = codec::micros(now);
        let mut statement = self
            .tx
            .prepare_cached("SELECT DISTINCT environment FROM entries WHERE due_at <= ?1")?;
        let environments = codec::all(statement.query([now])?, |row| Ok(row.get::<_, u32>(0)?))?;
        let mut due = Vec::new();
        for environment in environments {
            let (waiting, hourly, daily): (i64, i64, i64) = self
                .tx
                .prepare_cached(
                    "SELECT (SELECT count(*) FROM exports WHERE environment = ?1
                             AND state IN ('submitted', 'screening')),
                         (SELECT count(*) FROM exports WHERE environment = ?1
                             AND submitted_at > ?2),
                         (SELECT count(*) FROM exports WHERE environment = ?1
                             AND submitted_at > ?3)",
                )?
                .query_row((environment, now - HOUR, now - 24 * HOUR), |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?;
            let room = MOST_WAITING
                .saturating_sub(waiting.unsigned_abs())
                .min(MOST.0.saturating_sub(hourly.unsigned_abs()))
                .min(MOST.1.saturating_sub(daily.unsigned_abs()))
                .min(limit);
            let mut statement = self.tx.prepare_cached(
                "SELECT id FROM entries WHERE environment = ?1 AND due_at <= ?2
                 ORDER BY due_at LIMIT ?3",
            )?;
            let rows = statement.query((environment, now, room.cast_signed()))?;
            due.extend(codec::all(rows, |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))?);
        }
        Ok(due)
    }
}

impl Write<'_> {
    /// Submits what was left alone long enough, at most `limit` names of each environment; those that
    /// are temporary or hold nothing are left. Returns the new exports.
    pub fn submit_due(&mut self, limit: u64) -> Result<Vec<ExportId>, StoreError> {
        let mut submitted = Vec::new();
        for id in self.due(self.now(), limit)? {
            let Some(name) = self.name_by_id(id)? else { continue };
            self.tx
                .execute("UPDATE entries SET due_at = NULL WHERE id = ?1", [id.cast_signed()])?;
            self.names_only();
            let path = self.path_of(id)?;
            if let (Some(blob), 1.., false) = (&name.blob, name.bytes, is_temporary(&path)) {
                submitted.push(self.submit(id, name.environment, &path, blob)?);
            }
        }
        Ok(submitted)
    }

    fn submit(
        &mut self,
        entry: u64,
        environment: EnvironmentId,
        path: &EntryPath,
        blob: &BlobId,
    ) -> Result<ExportId, StoreError> {
        // One name has one version on its way: an earlier one was withdrawn with its content.
        self.withdraw(&[entry], "its name was written anew")?;
        let now = codec::micros(self.now());
        let (id, version, machine, bytes): (u32, u32, u32, i64) = self.tx.query_row(
            "INSERT INTO exports (environment, machine, path, version, entry, blob, bytes, state,
                 submitted_at, changed_at)
             SELECT ?1, n.machine, ?2, 1 + (SELECT coalesce(max(version), 0) FROM exports
                 WHERE environment = ?1 AND path = ?2), n.id, ?3, n.bytes, 'submitted', ?4, ?4
             FROM entries n WHERE n.id = ?5
             RETURNING id, version, machine, bytes",
            (environment.0, path.as_str(), blob.as_str(), now, entry.cast_signed()),
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        let id = ExportId(id);
        let account: String = self.tx.query_row(
            "SELECT a.name FROM accounts a JOIN environments e ON e.account = a.id WHERE e.id = ?1",
            [environment.0],
            |row| row.get(0),
        )?;
        let detail = json!({
            "environment": environment, "account": account,
            "machine": nonstop_model::MachineId(machine), "path": path, "version": version,
            "bytes": bytes,
        });
        self.trace("export.submit", &id, detail)?;
        Ok(id)
    }

    /// Begins to screen `id`; None if it is no longer to be.
    pub fn begin_screening(&mut self, id: ExportId) -> Result<Option<Export>, StoreError> {
        let now = codec::micros(self.now());
        let changed = self.tx.execute(
            "UPDATE exports SET state = 'screening', changed_at = max(changed_at, ?2)
             WHERE id = ?1 AND state = 'submitted'",
            (id.0, now),
        )?;
        if changed == 0 {
            return Ok(None);
        }
        self.trace("export.screen", &id, json!({}))?;
        self.export(id).map(Some)
    }

    /// What is said to be under screening, but is none of `running`, is to be screened again.
    pub fn screen_again(&mut self, running: &BTreeSet<ExportId>) -> Result<(), StoreError> {
        let mut statement =
            self.tx.prepare_cached("SELECT id FROM exports WHERE state = 'screening'")?;
        let ids = codec::all(statement.query([])?, |row| Ok(ExportId(row.get(0)?)))?;
        drop(statement);
        for id in ids.into_iter().filter(|id| !running.contains(id)) {
            self.tx.execute(
                "UPDATE exports SET state = 'submitted', changed_at = max(changed_at, ?2)
                 WHERE id = ?1",
                (id.0, codec::micros(self.now())),
            )?;
            self.trace("export.submit", &id, json!({ "again": "its screening broke off" }))?;
        }
        Ok(())
    }

    /// The export `id`, which was to be screened, cannot be, as its content is lost.
    pub fn export_lost(&mut self, id: ExportId, why: &str) -> Result<(), StoreError> {
        let changed = self.tx.execute(
            "UPDATE exports SET state = 'withdrawn', changed_at = max(changed_at, ?2)
             WHERE id = ?1 AND state = 'screening'",
            (id.0, codec::micros(self.now())),
        )?;
        if changed == 0 {
            return Ok(());
        }
        self.trace("export.withdraw", &id, json!({ "why": why }))
    }

    /// The export `id` was screened, and its bytes lie in `kept`. What was withdrawn meanwhile stays
    /// so unless it is blocked: nobody hides an attempt by taking it back. What the screening said is
    /// kept in either case. Returns what became of it.
    pub fn export_screened(
        &mut self,
        id: ExportId,
        said: &Screening,
        kept: Option<ByHash>,
    ) -> Result<ExportState, StoreError> {
        let export = self.export(id)?;
        // Put back to be screened again while it was: it counts all the same, or it would never end.
        let open = matches!(export.state, ExportState::Submitted | ExportState::Screening);
        if export.screening.is_some() && !open {
            return Ok(export.state);
        }
        let blocked = said.verdict == Verdict::Block;
        let state = if open || blocked { state_by(said.verdict) } else { export.state };
        let now = codec::micros(self.now()).max(codec::micros(export.changed_at));
        let released = (state == ExportState::Released).then_some(now);
        self.tx.execute(
            "UPDATE exports SET state = ?2, changed_at = CASE state WHEN ?2 THEN changed_at ELSE ?3
                 END, released_at = ?4, screened_at = ?5, screened_ms = ?6, sha256 = ?7,
                 content_type = ?8, verdict = ?9, findings = ?10, rules_digest = ?11, kept = ?12
             WHERE id = ?1",
            rusqlite::params![
                id.0,
                state.as_str(),
                now,
                released,
                codec::micros(said.at),
                said.ms.cast_signed(),
                said.sha256,
                said.content_type,
                said.verdict.word(),
                said.findings.to_string(),
                said.rules_digest,
                kept.map(ByHash::as_str),
            ],
        )?;
        let action = match state {
            ExportState::Released => "export.release",
            ExportState::Held => "export.hold",
            ExportState::Blocked => "export.block",
            _ => "export.screened",
        };
        let detail = json!({
            "by": POLICY, "environment": export.environment, "account": export.account,
            "machine": export.machine, "path": export.path, "version": export.version,
            "bytes": export.bytes, "sha256": said.sha256, "type": said.content_type,
            "verdict": said.verdict.word(), "findings": said.findings,
            "rules": said.rules_digest, "withdrawn": !open,
        });
        self.trace(action, &id, detail)?;
        if state == state_by(said.verdict) {
            let reason = if open { "" } else { "it was withdrawn while it was being screened" };
            self.decided(id, state, POLICY, reason)?;
        }
        if state == ExportState::Blocked && open {
            // The machine does not see it any more, wherever else it was copied to meanwhile.
            if self.holds(export.entry, &export.blob)? {
                self.remove_tree(export.entry, "it was blocked")?;
            }
        }
        self.free_blobs([export.blob])?;
        Ok(state)
    }

    fn holds(&self, entry: u64, blob: &BlobId) -> Result<bool, StoreError> {
        Ok(self.name_by_id(entry)?.is_some_and(|name| name.blob.as_ref() == Some(blob)))
    }

    /// A person lets the held export `id` out, or keeps it in.
    ///
    /// Errors: `ExportDecided` if that is decided already, or it does not wait for anybody.
    pub fn decide_export(
        &mut self,
        id: ExportId,
        release: bool,
        reason: &str,
    ) -> Result<Export, StoreError> {
        let (action, state) = match release {
            true => ("export.release", ExportState::Released),
            false => ("export.refuse", ExportState::Refused),
        };
        self.step_export(id, ExportState::Held, state, action, reason)
    }

    /// A person takes the released export `id` back.
    ///
    /// Errors: `ExportDecided` if it is not released.
    pub fn revoke_export(&mut self, id: ExportId, reason: &str) -> Result<Export, StoreError> {
        self.step_export(id, ExportState::Released, ExportState::Revoked, "export.revoke", reason)
    }

    fn step_export(
        &mut self,
        id: ExportId,
        from: ExportState,
        to: ExportState,
        action: &str,
        reason: &str,
    ) -> Result<Export, StoreError> {
        let export = self.export(id)?;
        if export.state != from {
            let by = self.decisions(id)?.pop().map(|last| last.by);
            return Err(StoreError::ExportDecided {
                id,
                state: export.state,
                wanted: to,
                by,
                at: export.changed_at,
            });
        }
        if to == ExportState::Released && export.kept.is_none() {
            return Err(StoreError::NotKept(id));
        }
        let now = codec::micros(self.now()).max(codec::micros(export.changed_at));
        self.tx.execute(
            "UPDATE exports SET state = ?2, changed_at = ?3,
                 released_at = CASE ?2 WHEN 'released' THEN ?3 ELSE released_at END
             WHERE id = ?1",
            (id.0, to.as_str(), now),
        )?;
        let by = self.actor().to_string();
        self.decided(id, to, &by, reason)?;
        let screening = export.screening.as_ref();
        let detail = json!({
            "reason": reason, "environment": export.environment, "account": export.account,
            "machine": export.machine, "path": export.path, "version": export.version,
            "bytes": export.bytes, "sha256": screening.map(|s| &s.sha256),
            "type": screening.map(|s| &s.content_type),
            "rules": screening.and_then(|s| s.rules_digest.as_ref()),
        });
        self.trace(action, &id, detail)?;
        self.free_blobs([export.blob])?;
        self.export(id)
    }

    fn decided(
        &mut self,
        id: ExportId,
        state: ExportState,
        by: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.tx.execute(
            "INSERT INTO export_decisions (export, state, by, at, reason)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            (id.0, state.as_str(), by, codec::micros(self.now()), reason),
        )?;
        Ok(())
    }

    /// Its owner says what the export `id` is; an empty note takes an earlier one away.
    pub fn note_export(&mut self, id: ExportId, note: &str) -> Result<Export, StoreError> {
        self.tx.execute("UPDATE exports SET note = ?2 WHERE id = ?1", (id.0, note))?;
        self.trace("export.note", &id, json!({ "note": note }))?;
        self.export(id)
    }

    /// Withdraws what is on its way out under the names `entries`.
    pub(crate) fn withdraw(&mut self, entries: &[u64], why: &str) -> Result<(), StoreError> {
        let now = codec::micros(self.now());
        let mut update = self.tx.prepare_cached(
            "UPDATE exports INDEXED BY exports_entry
             SET state = 'withdrawn', changed_at = max(changed_at, ?2)
             WHERE entry IN (SELECT value FROM json_each(?1))
                 AND state IN ('submitted', 'screening', 'held')
             RETURNING id, blob, bytes, sha256",
        )?;
        let rows = update.query((json!(entries).to_string(), now))?;
        let mut withdrawn = codec::all(rows, |row| {
            let (id, blob): (u32, String) = (row.get(0)?, row.get(1)?);
            Ok((id, blob, row.get::<_, i64>(2)?, row.get::<_, Option<String>>(3)?))
        })?;
        drop(update);
        withdrawn.sort_unstable();
        for (id, blob, bytes, sha256) in withdrawn {
            let detail = json!({ "why": why, "bytes": bytes, "sha256": sha256 });
            self.trace("export.withdraw", &ExportId(id), detail)?;
            self.free_blobs([codec::parsed("a blob", &blob)?])?;
        }
        Ok(())
    }

    /// Removes all names of the environment `id`, which is gone, and withdraws what was on its way
    /// out. Returns how many contents are to go.
    pub fn end_transfers(&mut self, id: EnvironmentId) -> Result<usize, StoreError> {
        let held = |w: &Self| -> Result<i64, StoreError> {
            Ok(w.tx.query_row(
                "SELECT count(*) FROM blobs WHERE environment = ?1 AND going = 0",
                [id.0],
                |row| row.get(0),
            )?)
        };
        let before = held(self)?;
        let mut roots = self
            .tx
            .prepare_cached("SELECT id FROM entries WHERE environment = ?1 AND parent = 0")?;
        let roots =
            codec::all(roots.query([id.0])?, |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))?;
        for root in roots {
            self.remove_tree(root, "its environment is gone")?;
        }
        // Released ones stay so in the record; their bytes lie in the trace store.
        self.tx.execute(
            "UPDATE blobs SET going = 1 WHERE environment = ?1 AND NOT EXISTS
                 (SELECT 1 FROM exports x WHERE x.blob = blobs.id AND x.state = 'screening')",
            [id.0],
        )?;
        self.names_only();
        if before > 0 {
            self.trace("environment.transfers", &id, json!({ "contents": before }))?;
        }
        Ok(usize::try_from(before).unwrap_or(0))
    }
}

/// Whether a name on the way there is one that programs make for themselves.
fn is_temporary(path: &EntryPath) -> bool {
    let mut names = path.names().filter_map(|name| name.parse().ok());
    names.any(|name: nonstop_model::EntryName| name.is_temporary())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_a_waste_bin_is_no_export() {
        for path in [".Trash-1000/files/a.csv", "a/~$b.docx", "x.part"] {
            assert!(is_temporary(&path.parse().expect("a path")), "{path}");
        }
        assert!(!is_temporary(&"results/a.csv".parse().expect("a path")));
    }
}

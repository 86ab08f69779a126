//! Imports: one row for each file that was brought from outside.

use crate::{Read, StoreError, Write, codec};
use jiff::Timestamp;
use nonstop_model::{AccountName, BlobId, EntryPath, EnvironmentId, ImportId};
use rusqlite::Row;
use serde_json::json;

/// A file that was brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// Which.
    pub id: ImportId,
    /// Into which environment.
    pub environment: EnvironmentId,
    /// Whose that is.
    pub account: AccountName,
    /// The name it was brought under.
    pub path: EntryPath,
    /// Its content.
    pub blob: BlobId,
    /// How long that is.
    pub bytes: u64,
    /// When it was brought.
    pub at: Timestamp,
    /// How far it is.
    pub state: ImportStage,
    /// Its SHA-256 in hex, once it was looked at.
    pub sha256: Option<String>,
    /// What it is by content, once it was looked at.
    pub content_type: Option<String>,
    /// What was found.
    pub findings: serde_json::Value,
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportStage {
    /// It is looked at.
    Looking,
    /// Machines see it.
    Visible,
    /// The scan was against it.
    Refused,
    /// No name holds it any more.
    Removed,
}

const SELECT: &str = "SELECT i.id, i.environment, a.name, i.path, i.blob, i.bytes, i.at, i.state,
    i.sha256, i.content_type, i.findings FROM imports i
    JOIN environments e ON e.id = i.environment JOIN accounts a ON a.id = e.account";

impl Read<'_> {
    /// Imports, newest first, at most a thousand: of one environment or account, or of all; without
    /// `all` those that are still there.
    pub fn imports(
        &self,
        environment: Option<EnvironmentId>,
        account: Option<&AccountName>,
        all: bool,
    ) -> Result<Vec<Import>, StoreError> {
        let sql = format!(
            "{SELECT} WHERE (?1 IS NULL OR i.environment = ?1) AND (?2 IS NULL OR a.name = ?2)
                 AND (?3 OR i.state <> 'removed') ORDER BY i.id DESC LIMIT 1000"
        );
        let mut statement = self.tx.prepare_cached(&sql)?;
        let key = (environment.map(|e| e.0), account.map(AccountName::as_str), all);
        codec::all(statement.query(key)?, import_from)
    }

    /// The oldest import of each environment that is to be looked at, the oldest first.
    pub fn imports_to_look_at(&self) -> Result<Vec<Import>, StoreError> {
        let sql = format!(
            "{SELECT} WHERE i.id IN
                 (SELECT min(id) FROM imports WHERE state = 'looking' GROUP BY environment)
             ORDER BY i.id"
        );
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query([])?, import_from)
    }

    /// Whether machines see the import whose content is `blob`.
    pub fn is_visible(&self, blob: &BlobId) -> Result<bool, StoreError> {
        let mut statement = self
            .tx
            .prepare_cached("SELECT 1 FROM imports WHERE blob = ?1 AND state = 'visible'")?;
        Ok(statement.exists([blob.as_str()])?)
    }
}

fn import_from(row: &Row<'_>) -> Result<Import, StoreError> {
    let text = |column| row.get::<_, String>(column);
    Ok(Import {
        id: ImportId(row.get(0)?),
        environment: EnvironmentId(row.get(1)?),
        account: codec::parsed("an account's name", &text(2)?)?,
        path: codec::parsed("a path", &text(3)?)?,
        blob: codec::parsed("a blob", &text(4)?)?,
        bytes: row.get::<_, i64>(5)?.unsigned_abs(),
        at: codec::time(row.get(6)?)?,
        state: match text(7)?.as_str() {
            "looking" => ImportStage::Looking,
            "visible" => ImportStage::Visible,
            "refused" => ImportStage::Refused,
            "removed" => ImportStage::Removed,
            other => return Err(codec::corrupt("an import's state", other)),
        },
        sha256: row.get(8)?,
        content_type: row.get(9)?,
        findings: codec::json("findings", &text(10)?)?,
    })
}

impl Write<'_> {
    pub(crate) fn import_created(
        &mut self,
        environment: EnvironmentId,
        path: &EntryPath,
        blob: &BlobId,
        bytes: u64,
    ) -> Result<(), StoreError> {
        self.tx.execute(
            "INSERT INTO imports (environment, path, blob, bytes, at, state)
             VALUES (?1, ?2, ?3, ?4, ?5, 'looking')",
            (
                environment.0,
                path.as_str(),
                blob.as_str(),
                bytes.cast_signed(),
                codec::micros(self.now()),
            ),
        )?;
        let id: u32 = self.tx.query_row("SELECT last_insert_rowid()", [], |row| row.get(0))?;
        let detail = json!({ "environment": environment, "path": path, "bytes": bytes });
        self.trace("import.create", &ImportId(id), detail)
    }

    /// The import `id` was looked at: machines see it, or with `refused` they do not. One that was
    /// removed meanwhile stays so.
    pub fn import_checked(
        &mut self,
        id: ImportId,
        sha256: &str,
        content_type: &str,
        findings: &serde_json::Value,
        refused: bool,
    ) -> Result<(), StoreError> {
        let state = if refused { "refused" } else { "visible" };
        let changed = self.tx.execute(
            "UPDATE imports SET sha256 = ?2, content_type = ?3, findings = ?4,
                 state = CASE state WHEN 'looking' THEN ?5 ELSE state END
             WHERE id = ?1 AND sha256 IS NULL",
            (id.0, sha256, content_type, findings.to_string(), state),
        )?;
        if changed == 0 {
            return Ok(());
        }
        let detail = json!({
            "state": state, "sha256": sha256, "type": content_type, "findings": findings,
        });
        self.trace("import.check", &id, detail)
    }

    /// The import `id`, which is to be looked at, cannot be, as its content is lost. One that was
    /// removed meanwhile was not lost.
    pub fn import_lost(&mut self, id: ImportId) -> Result<(), StoreError> {
        let changed = self.tx.execute(
            "UPDATE imports SET state = 'removed' WHERE id = ?1 AND state = 'looking'",
            [id.0],
        )?;
        if changed == 0 {
            return Ok(());
        }
        self.trace("import.remove", &id, json!({ "why": "its content is not there" }))
    }

    /// No name holds the import of `blob` any more, if it is one's.
    pub(crate) fn import_removed(&mut self, blob: &BlobId) -> Result<(), StoreError> {
        let mut update = self.tx.prepare_cached(
            "UPDATE imports SET state = 'removed' WHERE blob = ?1 AND state <> 'removed'
             RETURNING id, environment, path",
        )?;
        let removed = codec::all(update.query([blob.as_str()])?, |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?, row.get::<_, String>(2)?))
        })?;
        drop(update);
        for (id, environment, path) in removed {
            let detail = json!({ "environment": EnvironmentId(environment), "path": path });
            self.trace("import.remove", &ImportId(id), detail)?;
        }
        Ok(())
    }
}

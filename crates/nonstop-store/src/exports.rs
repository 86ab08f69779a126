//! Exports: what machines gave to be let out, and what the database knows of each.
//!
//! How they go from state to state is in `exporting`.

use crate::{Read, StoreError, codec};
use jiff::Timestamp;
use nonstop_model::{
    AccountName, BlobId, EntryPath, EnvironmentId, ExportId, ExportState, MachineId, MachineRole,
    TemplateName, screening::Verdict,
};
use rusqlite::Row;

/// An export.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// Handed out once.
    pub id: ExportId,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// Of which template that is.
    pub template: TemplateName,
    /// Whose that is.
    pub account: AccountName,
    /// Which machine gave it.
    pub machine: MachineId,
    /// What that one is for.
    pub role: MachineRole,
    /// Its name below `export/`.
    pub path: EntryPath,
    /// Which version of that name, from 1.
    pub version: u32,
    /// The number of the name that held it.
    pub(crate) entry: u64,
    /// Its content, for as long as that is needed.
    pub blob: BlobId,
    /// How long that is.
    pub bytes: u64,
    /// How far it is.
    pub state: ExportState,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When its state came to be.
    pub changed_at: Timestamp,
    /// When it was released.
    pub released_at: Option<Timestamp>,
    /// What its owner says to it; may be empty.
    pub note: String,
    /// What the screening said.
    pub screening: Option<Screening>,
    /// Where its bytes lie by their SHA-256.
    pub kept: Option<ByHash>,
}

/// What a screening said.
#[derive(Debug, Clone, PartialEq)]
pub struct Screening {
    /// When it was over.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// The SHA-256 of the content in hex.
    pub sha256: String,
    /// What it is by content; empty where that could not be told.
    pub content_type: String,
    /// What is to become of it.
    pub verdict: Verdict,
    /// What was found, as JSON.
    pub findings: serde_json::Value,
    /// SHA-256 over the rules that were in force; None where they could not be read.
    pub rules_digest: Option<String>,
}

/// What a verdict makes of an export by itself.
pub(crate) fn state_by(verdict: Verdict) -> ExportState {
    match verdict {
        Verdict::Pass => ExportState::Released,
        Verdict::Hold => ExportState::Held,
        Verdict::Block => ExportState::Blocked,
    }
}

/// Where the bytes of exports lie by their SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByHash {
    /// In the trace store.
    Trace,
    /// In the quarantine.
    Quarantine,
}

impl ByHash {
    /// As it stands in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            ByHash::Trace => "trace",
            ByHash::Quarantine => "quarantine",
        }
    }
}

/// What somebody, or the lab's policy, decided on an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What it made of the export.
    pub state: ExportState,
    /// Who: `policy`, or a person.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// Which exports are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those that have not ended, and the last that have.
    Recent,
    /// Those that wait for a person, the oldest first.
    Waiting,
}

/// Exports of one list.
pub const MOST_LISTED: usize = 1000;

const SELECT: &str = "SELECT x.id, x.environment, e.template, a.name, x.machine, m.role, x.path,
    x.version, x.entry, x.blob, x.bytes, x.state, x.submitted_at, x.changed_at, x.released_at,
    x.note, x.screened_at, x.screened_ms, x.sha256, x.content_type, x.verdict, x.findings,
    x.rules_digest, x.kept
    FROM exports x JOIN environments e ON e.id = x.environment
    JOIN accounts a ON a.id = e.account JOIN machines m ON m.id = x.machine";

impl Read<'_> {
    /// The export `id`.
    pub fn export(&self, id: ExportId) -> Result<Export, StoreError> {
        let mut statement = self.tx.prepare_cached(&format!("{SELECT} WHERE x.id = ?1"))?;
        let found = codec::all(statement.query([id.0])?, export_from)?.pop();
        found.ok_or(StoreError::NoExport(id))
    }

    /// Exports, newest first, at most [`MOST_LISTED`]; of one environment or account, or of all.
    pub fn exports(
        &self,
        environment: Option<EnvironmentId>,
        account: Option<&AccountName>,
        which: Which,
    ) -> Result<Vec<Export>, StoreError> {
        let (filter, order) = match which {
            Which::All => ("1", "x.id DESC"),
            Which::Recent => (
                "(x.state IN ('submitted', 'screening', 'held', 'released')
                    OR x.changed_at >= ?3)",
                "x.id DESC",
            ),
            Which::Waiting => ("x.state = 'held'", "x.id"),
        };
        let sql = format!(
            "{SELECT} WHERE (?1 IS NULL OR x.environment = ?1) AND (?2 IS NULL OR a.name = ?2)
                 AND {filter} AND ?3 IS NOT NULL ORDER BY {order} LIMIT {MOST_LISTED}"
        );
        let newest: Option<i64> =
            self.tx.query_row("SELECT max(changed_at) FROM exports", [], |row| row.get(0))?;
        let mut statement = self.tx.prepare_cached(&sql)?;
        let since = newest.unwrap_or(0) - 7 * 86_400_000_000;
        let key = (environment.map(|e| e.0), account.map(AccountName::as_str), since);
        codec::all(statement.query(key)?, export_from)
    }

    /// How many exports wait for a person.
    pub fn exports_waiting(&self) -> Result<u64, StoreError> {
        let mut statement =
            self.tx.prepare_cached("SELECT count(*) FROM exports WHERE state = 'held'")?;
        Ok(statement.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// The oldest export of each environment that waits to be screened, the oldest first.
    pub fn exports_to_screen(&self) -> Result<Vec<Export>, StoreError> {
        let sql = format!(
            "{SELECT} WHERE x.id IN
                 (SELECT min(id) FROM exports WHERE state = 'submitted' GROUP BY environment)
             ORDER BY x.id"
        );
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query([])?, export_from)
    }

    /// What outside sees of `environment`: the newest version of each name that is released; what was
    /// released first comes first.
    pub fn released(&self, environment: EnvironmentId) -> Result<Vec<Export>, StoreError> {
        let sql = format!(
            "{SELECT} WHERE x.environment = ?1 AND x.state = 'released'
                 AND x.version = (SELECT max(o.version) FROM exports o
                     WHERE o.environment = x.environment AND o.path = x.path
                         AND o.state = 'released')
             ORDER BY x.released_at, x.id"
        );
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query([environment.0])?, export_from)
    }

    /// How many decisions there are on all exports. Each release and each revocation is one, and none
    /// is ever taken away: what is released is the same for as long as this is.
    pub fn decisions_made(&self) -> Result<u64, StoreError> {
        let mut statement =
            self.tx.prepare_cached("SELECT coalesce(max(rowid), 0) FROM export_decisions")?;
        Ok(statement.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// Decisions on the export `id`, in their order.
    pub fn decisions(&self, id: ExportId) -> Result<Vec<Decision>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT state, by, at, reason FROM export_decisions WHERE export = ?1
             ORDER BY at, rowid",
        )?;
        codec::all(statement.query([id.0])?, |row| {
            Ok(Decision {
                state: state_from(&row.get::<_, String>(0)?)?,
                by: row.get(1)?,
                at: codec::time(row.get(2)?)?,
                reason: row.get(3)?,
            })
        })
    }

    /// Bytes that `environment` has given since `since`, before the export `before`: without those
    /// that were withdrawn, blocked or refused.
    pub fn exported_bytes(
        &self,
        environment: EnvironmentId,
        since: Timestamp,
        before: ExportId,
    ) -> Result<u64, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT coalesce(sum(bytes), 0) FROM exports WHERE environment = ?1
                 AND submitted_at >= ?2 AND id < ?3
                 AND state IN ('submitted', 'screening', 'held', 'released', 'revoked')",
        )?;
        let key = (environment.0, codec::micros(since), before.0);
        Ok(statement.query_row(key, |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// Bytes that lie in the trace store or the quarantine for `environment` since `since`, whatever
    /// became of them.
    pub fn kept_bytes(
        &self,
        environment: EnvironmentId,
        since: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT coalesce(sum(bytes), 0) FROM exports
             WHERE environment = ?1 AND submitted_at >= ?2 AND kept IS NOT NULL",
        )?;
        let key = (environment.0, codec::micros(since));
        Ok(statement.query_row(key, |row| row.get::<_, i64>(0))?.unsigned_abs())
    }
}

pub(crate) fn state_from(text: &str) -> Result<ExportState, StoreError> {
    use ExportState::*;
    let all = [Submitted, Screening, Held, Blocked, Released, Refused, Withdrawn, Revoked];
    let found = all.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| codec::corrupt("an export's state", text))
}

fn screening_from(row: &Row<'_>) -> Result<Option<Screening>, StoreError> {
    let Some(at) = row.get::<_, Option<i64>>(16)? else { return Ok(None) };
    let verdict: String = row.get(20)?;
    Ok(Some(Screening {
        at: codec::time(at)?,
        ms: row.get::<_, Option<i64>>(17)?.unwrap_or(0).unsigned_abs(),
        sha256: row.get(18)?,
        content_type: row.get::<_, Option<String>>(19)?.unwrap_or_default(),
        verdict: codec::parsed("a verdict", &verdict)?,
        findings: codec::json("findings", &row.get::<_, String>(21)?)?,
        rules_digest: row.get(22)?,
    }))
}

fn export_from(row: &Row<'_>) -> Result<Export, StoreError> {
    let text = |column| row.get::<_, String>(column);
    let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    Ok(Export {
        id: ExportId(row.get(0)?),
        environment: EnvironmentId(row.get(1)?),
        template: codec::parsed("a template's name", &text(2)?)?,
        account: codec::parsed("an account's name", &text(3)?)?,
        machine: MachineId(row.get(4)?),
        role: codec::parsed("a role", &text(5)?)?,
        path: codec::parsed("a path", &text(6)?)?,
        version: row.get(7)?,
        entry: number(8)?,
        blob: codec::parsed("a blob", &text(9)?)?,
        bytes: number(10)?,
        state: state_from(&text(11)?)?,
        submitted_at: codec::time(row.get(12)?)?,
        changed_at: codec::time(row.get(13)?)?,
        released_at: row.get::<_, Option<i64>>(14)?.map(codec::time).transpose()?,
        note: text(15)?,
        screening: screening_from(row)?,
        kept: match row.get::<_, Option<String>>(23)?.as_deref() {
            None => None,
            Some("trace") => Some(ByHash::Trace),
            Some("quarantine") => Some(ByHash::Quarantine),
            Some(other) => return Err(codec::corrupt("where an export lies", other)),
        },
    })
}

//! Opening, migrating, and the two kinds of transaction.

use crate::{StoreError, codec, trace};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use rusqlite_migration::{M, Migrations};
use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Only ever added to; `tests/schema.rs` compares their sum with the reviewed schema.
fn migrations() -> Migrations<'static> {
    Migrations::new(vec![
        M::up(include_str!("../migrations/0001_lab.sql")),
        M::up(include_str!("../migrations/0002_pool.sql")),
        M::up(include_str!("../migrations/0003_desktops.sql")),
        M::up(include_str!("../migrations/0004_snapshots.sql")),
        M::up(include_str!("../migrations/0005_publications.sql")),
        M::up(include_str!("../migrations/0006_editions.sql")),
        M::up(include_str!("../migrations/0007_cards.sql")),
        M::up(include_str!("../migrations/0008_sessions.sql")),
        M::up(include_str!("../migrations/0009_bandwidth.sql")),
        M::up(include_str!("../migrations/0010_transfers.sql")),
        M::up(include_str!("../migrations/0011_heads.sql")),
        M::up(include_str!("../migrations/0012_samples.sql")),
        M::up(include_str!("../migrations/0013_injections.sql")),
        M::up(include_str!("../migrations/0014_publication_hashes.sql")),
        M::up(include_str!("../migrations/0015_injection_begin.sql")),
        M::up(include_str!("../migrations/0016_injection_reach.sql")),
    ])
}

/// The database. One connection writes, another reads, and one each reads for either side of the
/// airlock; each is serialised here.
#[derive(Debug)]
pub struct Db {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    machines: Mutex<Connection>,
    persons: Mutex<Connection>,
    lab: String,
}

/// Clients that ask as often as they like: they wait for each other, and nobody else for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clients {
    /// Inside.
    Machines,
    /// Outside.
    Persons,
}

impl Db {
    /// Opens the database at `path`, making or migrating it.
    ///
    /// A power cut during a migration leaves the version before or after it.
    pub fn open(path: &Path, now: Timestamp) -> Result<Db, StoreError> {
        let open = || -> Result<Connection, rusqlite::Error> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            // An acknowledged change survives a power cut.
            connection.pragma_update(None, "synchronous", "full")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            Ok(connection)
        };
        let failed = |source| StoreError::Open { path: path.into(), source };
        let mut writer = open().map_err(failed)?;
        migrations().to_latest(&mut writer)?;
        let lab = lab_uuid(&mut writer, now)?;
        let reader = || -> Result<Mutex<Connection>, StoreError> {
            let reader = open().map_err(failed)?;
            reader.pragma_update(None, "query_only", true)?;
            Ok(Mutex::new(reader))
        };
        let (machines, persons) = (reader()?, reader()?);
        Ok(Db { writer: Mutex::new(writer), reader: reader()?, machines, persons, lab })
    }

    /// The UUID of this lab, made with its database.
    pub fn lab_uuid(&self) -> &str {
        &self.lab
    }

    /// Holds on to the pool that segments are cut from. It may change only while no environment
    /// has a segment: addresses derive from it.
    pub fn keep_pool(&self, pool: ipnet::Ipv4Net, now: Timestamp) -> Result<(), StoreError> {
        self.write("nonstopd", now, |w| {
            let held: Option<String> =
                w.tx.query_row("SELECT pool FROM lab", [], |row| row.get(0))?;
            let pool = pool.to_string();
            if held.as_deref() == Some(&pool) {
                return Ok(());
            }
            let living: i64 = w.tx.query_row(
                "SELECT count(*) FROM environments WHERE state <> 'gone'",
                [],
                |row| row.get(0),
            )?;
            if let (Some(held), 1..) = (held, living) {
                return Err(StoreError::PoolMoved { held, wanted: pool });
            }
            w.tx.execute("UPDATE lab SET pool = ?1", [&pool])?;
            w.trace("lab.pool", &pool, serde_json::json!({}))
        })
    }

    /// Gives researchers without an edition the lab's only one. A lab with several leaves them to
    /// staff: nobody is let to data by a guess.
    pub fn keep_editions(&self, only: Option<&str>, now: Timestamp) -> Result<(), StoreError> {
        let Some(edition) = only else { return Ok(()) };
        self.write("nonstopd", now, |w| {
            let given = w.tx.execute(
                "UPDATE accounts SET edition = ?1
                 WHERE edition IS NULL AND role = 'researcher' AND state <> 'removed'",
                [edition],
            )?;
            if given == 0 {
                return Ok(());
            }
            w.trace(
                "account.edition",
                &"*",
                serde_json::json!({ "edition": edition, "given": given }),
            )
        })
    }

    /// Runs `f` on one consistent state.
    pub fn read<T, E: From<StoreError>>(
        &self,
        f: impl FnOnce(&Read<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        read_on(&self.reader, f)
    }

    /// The same for `clients`, who keep nobody waiting by it but others of their side.
    pub fn read_for<T, E: From<StoreError>>(
        &self,
        clients: Clients,
        f: impl FnOnce(&Read<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        match clients {
            Clients::Machines => read_on(&self.machines, f),
            Clients::Persons => read_on(&self.persons, f),
        }
    }

    /// Runs `f` and commits what it did together with the trace that it wrote; on an error
    /// nothing of it remains. A change without a row of trace is a bug and panics.
    pub fn write<T, E: From<StoreError>>(
        &self,
        actor: &str,
        now: Timestamp,
        f: impl FnOnce(&mut Write<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = lock(&self.writer);
        let tx = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StoreError::from)?;
        let before = tx.total_changes();
        let mut write = Write { read: Read { tx: &tx }, actor, now, traced: false };
        let result = f(&mut write)?;
        let unchanged = tx.total_changes() == before;
        assert!(write.traced || unchanged, "a change was made without a row of trace");
        tx.commit().map_err(StoreError::from)?;
        Ok(result)
    }
}

fn read_on<T, E: From<StoreError>>(
    connection: &Mutex<Connection>,
    f: impl FnOnce(&Read<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let mut connection = lock(connection);
    let tx = connection.transaction().map_err(StoreError::from)?;
    f(&Read { tx: &tx })
}

/// A panic while the lock was held has rolled its transaction back.
fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lab_uuid(writer: &mut Connection, now: Timestamp) -> Result<String, StoreError> {
    let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = tx.query_row("SELECT uuid FROM lab", [], |row| row.get(0)).optional()?;
    if let Some(uuid) = found {
        return Ok(uuid);
    }
    let uuid = uuid::Uuid::new_v4().to_string();
    tx.execute(
        "INSERT INTO lab (id, uuid, created_at) VALUES (1, ?1, ?2)",
        (&uuid, codec::micros(now)),
    )?;
    trace::append(&tx, "nonstopd", now, "lab.create", &uuid, &serde_json::json!({}))?;
    tx.commit()?;
    Ok(uuid)
}

/// One consistent state of the database.
#[derive(Debug)]
pub struct Read<'a> {
    pub(crate) tx: &'a Transaction<'a>,
}

/// A change in the making.
#[derive(Debug)]
pub struct Write<'a> {
    read: Read<'a>,
    actor: &'a str,
    now: Timestamp,
    traced: bool,
}

impl<'a> std::ops::Deref for Write<'a> {
    type Target = Read<'a>;

    fn deref(&self) -> &Read<'a> {
        &self.read
    }
}

impl Write<'_> {
    /// The time of this change.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Who makes it.
    pub fn actor(&self) -> &str {
        self.actor
    }

    /// This change follows from the trace alone and says nothing of its own: it has no row of it.
    pub(crate) fn derived(&mut self) {
        self.traced = true;
    }

    /// This change is one of names that nobody outside sees and that are no export yet: it has no row
    /// of trace of its own.
    pub(crate) fn names_only(&mut self) {
        self.traced = true;
    }

    /// Adds a row of trace by this change's actor.
    pub fn trace(
        &mut self,
        action: &str,
        subject: &dyn std::fmt::Display,
        detail: serde_json::Value,
    ) -> Result<(), StoreError> {
        self.trace_by(self.actor, action, subject, &detail)
    }

    /// Adds a row of trace by `actor`.
    pub(crate) fn trace_by(
        &mut self,
        actor: &str,
        action: &str,
        subject: &dyn std::fmt::Display,
        detail: &serde_json::Value,
    ) -> Result<(), StoreError> {
        self.traced = true;
        trace::append(self.read.tx, actor, self.now, action, &subject.to_string(), detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "without a row of trace")]
    fn a_change_without_trace_stops_the_daemon_instead_of_being_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let now = Timestamp::UNIX_EPOCH;
        let db = Db::open(&dir.path().join("nonstop.db"), now).expect("opens");
        let changed = db.write("x", now, |w| {
            w.tx.execute("UPDATE lab SET uuid = 'other'", [])?;
            Ok::<_, StoreError>(())
        });
        changed.expect("not reached");
    }
}

//! Properties that clients give to names: in a database of this side's own, by the id of the entry,
//! so that nothing of them is ever seen from the other side.
//!
//! They last over a power cut once they are told to be set. They are conveniences (times and flags
//! that a desktop keeps): a database that is broken is begun anew.

use crate::xml::Name;
use nonstop_model::EnvironmentId;
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Properties of one entry, and bytes of them.
const OF_ENTRY: (i64, i64) = (64, 64 << 10);
/// Bytes of all properties of an environment.
const OF_ENVIRONMENT: i64 = 8 << 20;
/// Bytes of the database, at most.
const TOTAL: i64 = 256 << 20;
const PAGE: i64 = 4096;
/// After so long without a client, those of an environment are forgotten.
const UNUSED: i64 = 400 * 86_400;

/// Properties that cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PropertyError {
    /// There are too many, or they are too long.
    #[error("these properties do not fit: an entry has room for 64 of them and 64 KiB")]
    Full,
    /// The database failed.
    #[error("the properties cannot be written")]
    Database(#[from] rusqlite::Error),
}

impl PropertyError {
    /// Whether it is for want of room.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            PropertyError::Full => true,
            PropertyError::Database(e) => {
                e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
        }
    }
}

/// The properties of a side.
#[derive(Debug)]
pub(crate) struct Properties(Mutex<Connection>);

/// A property to be set, to this XML, or to be removed.
pub(crate) type Change = (Name, Option<String>);

impl Properties {
    /// Those in the file `path`; begun anew if it is no database.
    pub(crate) fn open(path: &Path) -> Result<Properties, PropertyError> {
        match prepared(path) {
            Err(e)
                if matches!(
                    e.sqlite_error_code(),
                    Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
                ) =>
            {
                eprintln!("{}: {e}; properties are begun anew", path.display());
                for end in ["", "-wal", "-shm"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(end);
                    let _may_not_be_there = std::fs::remove_file(name);
                }
                Ok(Properties(Mutex::new(prepared(path)?)))
            }
            opened => Ok(Properties(Mutex::new(opened?))),
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of an entry, by name, with their XML.
    pub(crate) fn of(
        &self,
        environment: EnvironmentId,
        entry: &str,
    ) -> Result<Vec<(Name, String)>, PropertyError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT space, local, xml FROM properties WHERE environment = ?1 AND entry = ?2
             ORDER BY space, local",
        )?;
        let rows = statement.query_map(params![environment.0, entry], |row| {
            Ok((Name { space: row.get(0)?, local: row.get(1)? }, row.get(2)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whether an environment has any.
    pub(crate) fn has_any(&self, environment: EnvironmentId) -> Result<bool, PropertyError> {
        let connection = self.connection();
        let mut statement =
            connection.prepare_cached("SELECT 1 FROM properties WHERE environment = ?1 LIMIT 1")?;
        Ok(statement.exists([environment.0])?)
    }

    /// Does all `changes`, in their order, or none.
    pub(crate) fn change(
        &self,
        environment: EnvironmentId,
        entry: &str,
        changes: &[Change],
    ) -> Result<(), PropertyError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        for (name, xml) in changes {
            let key = params![environment.0, entry, name.space, name.local];
            match xml {
                None => transaction.execute(
                    "DELETE FROM properties
                     WHERE environment = ?1 AND entry = ?2 AND space = ?3 AND local = ?4",
                    key,
                )?,
                Some(xml) => transaction.execute(
                    "INSERT OR REPLACE INTO properties (environment, entry, space, local, xml)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![environment.0, entry, name.space, name.local, xml],
                )?,
            };
        }
        bounded(&transaction, environment, entry)?;
        transaction.commit()?;
        Ok(())
    }

    /// Gives `to` what `from` has, and nothing else.
    pub(crate) fn copy(
        &self,
        environment: EnvironmentId,
        from: &str,
        to: &str,
    ) -> Result<(), PropertyError> {
        if from == to || !self.has_any(environment)? {
            return Ok(());
        }
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        transaction.execute(
            "DELETE FROM properties WHERE environment = ?1 AND entry = ?2",
            params![environment.0, to],
        )?;
        transaction.execute(
            "INSERT INTO properties (environment, entry, space, local, xml)
             SELECT environment, ?3, space, local, xml FROM properties
             WHERE environment = ?1 AND entry = ?2",
            params![environment.0, from, to],
        )?;
        bounded(&transaction, environment, to)?;
        transaction.commit()?;
        Ok(())
    }

    /// Forgets those of an entry.
    pub(crate) fn forget(
        &self,
        environment: EnvironmentId,
        entry: &str,
    ) -> Result<(), PropertyError> {
        if self.has_any(environment)? {
            self.connection().execute(
                "DELETE FROM properties WHERE environment = ?1 AND entry = ?2",
                params![environment.0, entry],
            )?;
        }
        Ok(())
    }

    /// Forgets all of an environment but those of `entries`.
    pub(crate) fn keep(
        &self,
        environment: EnvironmentId,
        entries: &BTreeSet<String>,
    ) -> Result<(), PropertyError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let known: Vec<String> = {
            let mut statement = transaction
                .prepare_cached("SELECT DISTINCT entry FROM properties WHERE environment = ?1")?;
            let rows = statement.query_map([environment.0], |row| row.get(0))?;
            rows.collect::<Result<_, _>>()?
        };
        for entry in known.iter().filter(|entry| !entries.contains(*entry)) {
            transaction.execute(
                "DELETE FROM properties WHERE environment = ?1 AND entry = ?2",
                params![environment.0, entry],
            )?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// An environment has a client at `now`, in seconds since 1970; forgets those of environments
    /// that had none for long.
    pub(crate) fn seen(&self, environment: EnvironmentId, now: i64) -> Result<(), PropertyError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        transaction.execute(
            "INSERT OR REPLACE INTO environments (id, seen_at) VALUES (?1, ?2)",
            params![environment.0, now],
        )?;
        // One of the future, by a clock that was wrong, counts as seen now.
        transaction.execute("UPDATE environments SET seen_at = ?1 WHERE seen_at > ?1", [now])?;
        transaction.execute("DELETE FROM environments WHERE seen_at < ?1", [now - UNUSED])?;
        transaction.execute(
            "DELETE FROM properties WHERE environment NOT IN (SELECT id FROM environments)",
            [],
        )?;
        transaction.commit()?;
        Ok(())
    }
}

fn bounded(
    connection: &Connection,
    environment: EnvironmentId,
    entry: &str,
) -> Result<(), PropertyError> {
    let sum = "SELECT count(*), coalesce(sum(length(CAST(xml AS BLOB)) + length(local)
               + length(space) + 64), 0) FROM properties WHERE environment = ?1";
    let of_entry: Option<(i64, i64)> = connection
        .query_row(&format!("{sum} AND entry = ?2"), params![environment.0, entry], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let all: i64 = connection.query_row(sum, [environment.0], |row| row.get(1))?;
    let (count, bytes) = of_entry.unwrap_or_default();
    if count > OF_ENTRY.0 || bytes > OF_ENTRY.1 || all > OF_ENVIRONMENT {
        return Err(PropertyError::Full);
    }
    Ok(())
}

fn prepared(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    // Exclusive: no shared memory file, and nobody else has a reason to come.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -2048)?;
    connection.pragma_update(None, "max_page_count", TOTAL / PAGE)?;
    connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS properties (
           environment INTEGER NOT NULL,
           entry TEXT NOT NULL,
           space TEXT NOT NULL,
           local TEXT NOT NULL,
           xml TEXT NOT NULL,
           PRIMARY KEY (environment, entry, space, local)
         ) STRICT, WITHOUT ROWID;
         CREATE TABLE IF NOT EXISTS environments (
           id INTEGER PRIMARY KEY,
           seen_at INTEGER NOT NULL
         ) STRICT;",
    )?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    const E: EnvironmentId = EnvironmentId(1);

    fn name(local: &str) -> Name {
        Name { space: "urn:x".into(), local: local.into() }
    }

    fn set(local: &str, xml: &str) -> Change {
        (name(local), Some(xml.into()))
    }

    #[test]
    fn they_last_are_copied_and_go_with_their_entry() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("properties.db");
        {
            let properties = Properties::open(&path).expect("open");
            properties.change(E, "a", &[set("p", "<p/>"), set("q", "<q/>")]).expect("set");
            properties.change(E, "a", &[(name("q"), None), (name("r"), None)]).expect("removed");
        }
        let properties = Properties::open(&path).expect("open");
        assert_eq!(properties.of(E, "a").expect("read"), [(name("p"), "<p/>".into())]);
        assert_eq!(properties.of(EnvironmentId(2), "a").expect("read"), []);
        properties.copy(E, "a", "b").expect("copied");
        assert_eq!(properties.of(E, "b").expect("read").len(), 1);
        properties.keep(E, &BTreeSet::from(["b".into()])).expect("swept");
        assert_eq!(properties.of(E, "a").expect("read"), []);
        properties.seen(EnvironmentId(2), 1000).expect("seen");
        assert!(!properties.has_any(E).expect("read"), "nobody has been there for long");
    }

    #[test]
    fn what_is_too_much_is_refused_and_nothing_of_it_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let properties = Properties::open(&folder.path().join("p.db")).expect("open");
        let long = "x".repeat(64 << 10);
        let refused = properties.change(E, "a", &[set("p", "<p/>"), set("q", &long)]);
        assert!(refused.expect_err("too long").is_full());
        assert_eq!(properties.of(E, "a").expect("read"), []);
        let many: Vec<Change> = (0..65).map(|n| set(&format!("p{n}"), "")).collect();
        assert!(properties.change(E, "a", &many).expect_err("too many").is_full());
        let big = "x".repeat(60 << 10);
        let fit = (0..200)
            .take_while(|n| properties.change(E, &format!("e{n}"), &[set("p", &big)]).is_ok());
        assert!((100..150).contains(&fit.count()));
        properties.change(EnvironmentId(2), "a", &[set("p", &big)]).expect("another's room");
    }

    #[test]
    fn a_broken_database_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p.db");
        std::fs::write(&path, [7; 10_000]).expect("written");
        let properties = Properties::open(&path).expect("open");
        assert!(!properties.has_any(E).expect("read"));
    }
}

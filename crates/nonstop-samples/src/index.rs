//! The index of a day: one SQLite file, made in memory as the day is read, and never changed after.
//!
//! ```text
//! samples      what is known of each sample, by its number in this day and by its hash
//! tags         which samples have a tag
//! reports      which report lies where, and of which sample
//! report_text  words of the reports, by field (FTS5; the words alone, not the texts)
//! ```

mod build;
mod filter;

pub use build::{Builder, Known, MetadataError};
pub use filter::{Filter, FilterError};

use crate::{digest::Digest, pack::Place};
use jiff::civil::Date;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, ToSql, types::FromSqlError};
use std::{path::Path, time::Instant};

/// Tables, as every index has them.
///
/// Begins of words of up to six letters are found as words are: FTS5 has an index of those of two, four
/// and six, which serve for one less, too. Longer ones are gathered from all words that begin so.
const SCHEMA: &str = "
    CREATE TABLE samples (
        number INTEGER PRIMARY KEY,
        sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
        at INTEGER,
        bytes INTEGER,
        kind TEXT NOT NULL,
        family TEXT NOT NULL COLLATE NOCASE,
        tags TEXT NOT NULL,
        first_seen TEXT,
        last_seen TEXT,
        source TEXT NOT NULL,
        reports INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE tags (
        tag TEXT NOT NULL COLLATE NOCASE,
        number INTEGER NOT NULL,
        PRIMARY KEY (tag, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE reports (
        id INTEGER PRIMARY KEY,
        number INTEGER NOT NULL,
        run INTEGER NOT NULL,
        sha256 BLOB NOT NULL,
        at INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        sandbox TEXT NOT NULL,
        started TEXT NOT NULL
    ) STRICT;
    CREATE VIRTUAL TABLE report_text USING fts5 (
        processes, files, registry, mutexes, domains, addresses, signatures,
        content = '', columnsize = 0, prefix = '2 4 6'
    );";

/// Made last, over what is there.
const INDEXES: &str = "
    CREATE INDEX samples_family ON samples (family, number);
    CREATE INDEX samples_kind ON samples (kind, number);
    CREATE INDEX reports_number ON reports (number, run);";

/// The format that this program writes and reads, as SQLite's `user_version`.
const FORMAT: i64 = 1;

/// An index that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite says so.
    #[error("read the index of a day")]
    Sql(#[from] rusqlite::Error),
    /// It was written by another version.
    #[error("the index of a day has format {0}, and {FORMAT} is read here: publish the day again")]
    Format(i64),
}

impl IndexError {
    /// Whether it wants more memory than there is.
    pub fn is_too_large(&self) -> bool {
        use rusqlite::ErrorCode::{DiskFull, OutOfMemory, TooBig};
        matches!(self, IndexError::Sql(e)
            if matches!(e.sqlite_error_code(), Some(OutOfMemory | DiskFull | TooBig)))
    }

    /// Whether it only took too long.
    pub fn is_late(&self) -> bool {
        matches!(self, IndexError::Sql(e)
            if e.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted))
    }
}

/// What a day knows of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its number in this day.
    pub number: i64,
    /// Its hash.
    pub digest: Digest,
    /// Where its bytes lie in the day's pack of samples; none where the day has only words on it.
    pub place: Option<Place>,
    /// Its type by content.
    pub kind: String,
    /// Its family.
    pub family: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// When its source saw it first.
    pub first_seen: Option<Date>,
    /// When its source saw it last.
    pub last_seen: Option<Date>,
    /// Its source.
    pub source: String,
    /// How many reports of it the day has.
    pub reports: u32,
}

/// A report that a day has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReport {
    /// Which of the sample's reports of this day, from 1.
    pub run: u32,
    /// Where it lies in the day's pack of reports; its hash is the report's own.
    pub place: Place,
    /// `cape` or `cuckoo`.
    pub sandbox: String,
    /// When the run began, as it says.
    pub started: String,
}

/// The index of a day, open to read.
#[derive(Debug)]
pub struct Index {
    db: Connection,
}

const COLUMNS: &str = "s.number, s.sha256, s.at, s.bytes, s.kind, s.family, s.tags, s.first_seen, \
                       s.last_seen, s.source, s.reports";

impl Index {
    /// The one at `path`, which nobody changes while it is open.
    pub fn open(path: &Path) -> Result<Index, IndexError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let name: String = path.to_string_lossy().chars().flat_map(escaped).collect();
        let db = Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)?;
        Index::of(db)
    }

    fn of(db: Connection) -> Result<Index, IndexError> {
        db.set_prepared_statement_cache_capacity(32);
        // Years of days are open at once: what they keep of their files is the kernel's.
        db.execute_batch(
            "PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY; PRAGMA query_only = 1;",
        )?;
        // A file that somebody broke is an error, and no way into this process.
        db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        let format: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if format != FORMAT {
            return Err(IndexError::Format(format));
        }
        Ok(Index { db })
    }

    /// What the day knows of `digest`.
    pub fn sample(&self, digest: Digest) -> Result<Option<Sample>, IndexError> {
        let sql = format!("SELECT 0, {COLUMNS} FROM samples s WHERE s.sha256 = ?1");
        let mut statement = self.db.prepare_cached(&sql)?;
        Ok(statement.query_row([digest.0], read_sample).optional()?)
    }

    /// The hashes that begin as `low` and end before or as `high`, up to two of them.
    pub fn between(&self, low: Digest, high: Digest) -> Result<Vec<Digest>, IndexError> {
        let sql = "SELECT sha256 FROM samples WHERE sha256 BETWEEN ?1 AND ?2 LIMIT 2";
        let mut statement = self.db.prepare_cached(sql)?;
        let found = statement.query_map([low.0, high.0], |row| Ok(Digest(row.get(0)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The reports of `digest`, by their runs.
    pub fn reports(&self, digest: Digest) -> Result<Vec<KeptReport>, IndexError> {
        let sql = "SELECT r.run, r.sha256, r.at, r.bytes, r.sandbox, r.started FROM samples s \
                   JOIN reports r ON r.number = s.number WHERE s.sha256 = ?1 ORDER BY r.run LIMIT 10000";
        let mut statement = self.db.prepare_cached(sql)?;
        let found = statement.query_map([digest.0], |row| {
            let place = Place { digest: Digest(row.get(1)?), at: row.get(2)?, bytes: row.get(3)? };
            Ok(KeptReport { run: row.get(0)?, place, sandbox: row.get(4)?, started: row.get(5)? })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Up to `most` samples that `filter` lets through, from behind the place `after` on, each with its
    /// place. It is given up at `until`, with an error that [is late](IndexError::is_late).
    pub fn search(
        &self,
        filter: &Filter,
        after: i64,
        most: u32,
        until: Instant,
    ) -> Result<Vec<(i64, Sample)>, IndexError> {
        self.db.progress_handler(2000, Some(move || Instant::now() >= until))?;
        let found = self.found_behind(filter, after, most);
        self.db.progress_handler(0, None::<fn() -> bool>)?;
        found
    }

    fn found_behind(
        &self,
        filter: &Filter,
        after: i64,
        most: u32,
    ) -> Result<Vec<(i64, Sample)>, IndexError> {
        if let Some(rest) = filter.beside_words() {
            let (sql, values) = rest.sql(COLUMNS, -1, None, 1);
            if self.found(&sql, &values)?.is_empty() {
                return Ok(Vec::new());
            }
        }
        let (sql, values) = filter.sql(COLUMNS, after, None, most);
        self.found(&sql, &values)
    }

    /// Whether `filter` lets `digest` through here.
    pub fn lets_through(
        &self,
        filter: &Filter,
        digest: Digest,
        until: Instant,
    ) -> Result<bool, IndexError> {
        let (sql, values) = filter.sql(COLUMNS, -1, Some(digest), 1);
        self.db.progress_handler(2000, Some(move || Instant::now() >= until))?;
        let found = self.found(&sql, &values);
        self.db.progress_handler(0, None::<fn() -> bool>)?;
        Ok(!found?.is_empty())
    }

    fn found(
        &self,
        sql: &str,
        values: &[Box<dyn ToSql>],
    ) -> Result<Vec<(i64, Sample)>, IndexError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
        let found = statement.query_map(&values[..], |row| Ok((row.get(0)?, read_sample(row)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }
}

/// A letter of a path in a URI.
fn escaped(c: char) -> Vec<char> {
    match c {
        '%' | '?' | '#' => format!("%{:02x}", u32::from(c)).chars().collect(),
        c => vec![c],
    }
}

/// What stands in a row behind its place.
fn read_sample(row: &Row<'_>) -> rusqlite::Result<Sample> {
    let day = |column| -> rusqlite::Result<Option<Date>> {
        let text: Option<String> = row.get(column)?;
        let read = |text: String| text.parse().map_err(|_| FromSqlError::InvalidType);
        Ok(text.map(read).transpose()?)
    };
    let digest = Digest(row.get(2)?);
    let place: (Option<u64>, Option<u64>) = (row.get(3)?, row.get(4)?);
    let tags: String = row.get(7)?;
    Ok(Sample {
        number: row.get(1)?,
        digest,
        place: place.0.zip(place.1).map(|(at, bytes)| Place { digest, at, bytes }),
        kind: row.get(5)?,
        family: row.get(6)?,
        tags: tags.split('\n').filter(|tag| !tag.is_empty()).map(String::from).collect(),
        first_seen: day(8)?,
        last_seen: day(9)?,
        source: row.get(10)?,
        reports: row.get(11)?,
    })
}

//! Reading the trace from a copy of a lab's database, without changing a byte of it.
//!
//! The copy comes from a host that may be somebody else's by now: nothing in it is run (no view, no
//! trigger), and what is no row is told.

use crate::{
    head::Head,
    key::AuthorityKey,
    row::{Hash, Row},
};
use rusqlite::{Connection, OpenFlags, types::ValueRef};
use std::path::{Path, PathBuf};

/// A copy that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It is no database, or its name is none.
    #[error("open the database {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// It is a database of something else, or a broken one.
    #[error("read {what} from the database")]
    Read {
        /// What was wanted.
        what: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// A table of ours is something else there.
    #[error("`{0}` in the database is not the table that it is in a lab's")]
    NoTable(&'static str),
}

/// A copied database of a lab.
#[derive(Debug)]
pub struct Copy {
    connection: Connection,
    lab: String,
}

impl Copy {
    /// Opens `path` to be read. A write-ahead log beside it (`-wal`) counts; without one not even a
    /// lock is taken, so that it may lie on a medium that cannot be written.
    pub fn open(path: &Path) -> Result<Copy, CopyError> {
        let open = |source| CopyError::Open { path: path.into(), source };
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let alone = std::fs::metadata(log).map_or(0, |meta| meta.len()) == 0;
        let mut uri = String::from("file:");
        for byte in
            std::path::absolute(path).unwrap_or_else(|_| path.into()).as_os_str().as_encoded_bytes()
        {
            match byte {
                b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
                b if b.is_ascii_alphanumeric() => uri.push(char::from(*b)),
                b => uri += &format!("%{b:02x}"),
            }
        }
        uri += if alone { "?immutable=1" } else { "?mode=ro" };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(&uri, flags).map_err(open)?;
        connection.pragma_update(None, "trusted_schema", false).map_err(open)?;
        connection.pragma_update(None, "query_only", true).map_err(open)?;
        let read = |what| move |source| CopyError::Read { what, source };
        for table in ["lab", "trace", "heads"] {
            let query = "SELECT type FROM sqlite_schema WHERE name = ?1";
            let found: Option<String> = match connection.query_row(query, [table], |r| r.get(0)) {
                Err(rusqlite::Error::QueryReturnedNoRows) => None,
                found => Some(found.map_err(read("its tables"))?),
            };
            match found.as_deref() {
                Some("table") => {}
                None if table == "heads" => {}
                _ => return Err(CopyError::NoTable(table)),
            }
        }
        let lab = connection
            .query_row("SELECT uuid FROM lab", [], |row| row.get(0))
            .map_err(read("the lab's UUID"))?;
        Ok(Copy { connection, lab })
    }

    /// The UUID of the lab, as it says itself.
    pub fn lab(&self) -> &str {
        &self.lab
    }

    /// Hands each row to `f`, from the first to the last.
    pub fn rows(&self, mut f: impl FnMut(&Row)) -> Result<(), CopyError> {
        let read = |source| CopyError::Read { what: "the trace", source };
        let query = "SELECT seq, at, actor, action, subject, detail, hash FROM trace ORDER BY seq";
        let mut statement = self.connection.prepare(query).map_err(read)?;
        let mut rows = statement.query([]).map_err(read)?;
        while let Some(row) = rows.next().map_err(read)? {
            // What has another type than a row of ours has, has another hash, too.
            let text = |column| match row.get_ref(column) {
                Ok(ValueRef::Text(text)) => String::from_utf8_lossy(text).into_owned(),
                _ => String::new(),
            };
            let hash = match row.get_ref(6).map_err(read)? {
                ValueRef::Blob(bytes) => bytes.try_into().map_or(Hash::ZERO, Hash),
                _ => Hash::ZERO,
            };
            f(&Row {
                seq: row.get::<_, i64>(0).map_err(read)?.unsigned_abs(),
                at: row.get(1).unwrap_or(0),
                actor: text(2),
                action: text(3),
                subject: text(4),
                detail: text(5),
                hash,
            });
        }
        Ok(())
    }

    /// Its own heads, each as it can be read: one that is none says so.
    pub fn heads(&self, mut f: impl FnMut(u64, Result<Head, String>)) -> Result<(), CopyError> {
        let read = |source| CopyError::Read { what: "the heads", source };
        let query = "SELECT count(*) FROM sqlite_schema WHERE name = 'heads'";
        let there: i64 = self.connection.query_row(query, [], |row| row.get(0)).map_err(read)?;
        if there == 0 {
            return Ok(());
        }
        let query = "SELECT seq, hash, at, authority, signature FROM heads ORDER BY seq";
        let mut statement = self.connection.prepare(query).map_err(read)?;
        let mut rows = statement.query([]).map_err(read)?;
        while let Some(row) = rows.next().map_err(read)? {
            let seq = row.get::<_, i64>(0).map_err(read)?.unsigned_abs();
            let head = head(&self.lab, seq, row).map_err(|e| e.to_string());
            f(seq, head);
        }
        Ok(())
    }
}

fn head(lab: &str, seq: u64, row: &rusqlite::Row<'_>) -> Result<Head, Box<dyn std::error::Error>> {
    let key = AuthorityKey::from_der(row.get(3)?)?;
    let at = jiff::Timestamp::from_microsecond(row.get(2)?)?;
    Ok(Head::from_parts(lab, seq, Hash(row.get(1)?), at, &key, row.get(4)?)?)
}

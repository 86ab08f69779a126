//! Contents: which files hold what is there, and which are to go.

use crate::{Read, StoreError, Write, codec};
use nonstop_model::{BlobId, EnvironmentId, Root};
use std::collections::BTreeMap;

/// A content's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Which.
    pub id: BlobId,
    /// Of which tree: the folder that its file lies in.
    pub root: Root,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// How long it is.
    pub bytes: u64,
    /// Whether nothing needs it any more.
    pub going: bool,
}

const SELECT: &str = "SELECT id, root, environment, bytes, going FROM blobs";

impl Read<'_> {
    /// The content `id`.
    pub fn blob(&self, id: &BlobId) -> Result<Option<Blob>, StoreError> {
        let mut statement = self.tx.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
        Ok(codec::all(statement.query([id.as_str()])?, blob_from)?.pop())
    }

    /// All contents of the trees `root`, and whether nothing needs them any more.
    pub fn blobs_of(&self, root: Root) -> Result<BTreeMap<BlobId, bool>, StoreError> {
        let mut statement =
            self.tx.prepare_cached("SELECT id, going FROM blobs WHERE root = ?1")?;
        let rows = codec::all(statement.query([root.as_str()])?, |row| {
            Ok((codec::parsed("a blob", &row.get::<_, String>(0)?)?, row.get(1)?))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// Contents whose files are to be removed, at most `limit`.
    pub fn blobs_going(&self, limit: u32) -> Result<Vec<Blob>, StoreError> {
        let sql = format!("{SELECT} WHERE going = 1 LIMIT ?1");
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query([limit])?, blob_from)
    }
}

fn blob_from(row: &rusqlite::Row<'_>) -> Result<Blob, StoreError> {
    Ok(Blob {
        id: codec::parsed("a blob", &row.get::<_, String>(0)?)?,
        root: match row.get::<_, String>(1)?.as_str() {
            "import" => Root::Import,
            _ => Root::Export,
        },
        environment: EnvironmentId(row.get(2)?),
        bytes: row.get::<_, i64>(3)?.unsigned_abs(),
        going: row.get(4)?,
    })
}

impl Write<'_> {
    /// The files of `blobs` are removed.
    pub fn blobs_gone(&mut self, blobs: &[BlobId]) -> Result<(), StoreError> {
        for blob in blobs {
            self.tx
                .prepare_cached("DELETE FROM blobs WHERE id = ?1 AND going = 1")?
                .execute([blob.as_str()])?;
        }
        self.names_only();
        Ok(())
    }
}

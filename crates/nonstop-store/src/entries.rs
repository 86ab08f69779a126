//! The trees of names in which files lie on their way in and out, and how they are read.
//!
//! A name holds a blob or other names. What changes them is in `names`.

use crate::{Read, StoreError, codec};
use jiff::Timestamp;
use nonstop_model::{
    BlobId, EntryName, EntryPath, EnvironmentId, MachineId, Root, transfer::PathError,
};
use rusqlite::Row;

/// One name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRow {
    /// Handed out once.
    pub id: u64,
    /// What clients know it by.
    pub token: String,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// In which tree.
    pub root: Root,
    /// The folder that it lies in; 0 for the root itself.
    pub parent: u64,
    /// What it is called there.
    pub name: EntryName,
    /// What it holds; None for a folder.
    pub blob: Option<BlobId>,
    /// The bytes of that.
    pub bytes: u64,
    /// Which machine gave it.
    pub machine: Option<MachineId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When what it holds was changed last.
    pub modified_at: Timestamp,
}

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Names.
    pub names: u64,
    /// Bytes of all names together.
    pub bytes: u64,
}

/// Why a name was not changed; nothing of the change remains.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// Nothing is there.
    #[error("nothing is there")]
    Missing,
    /// Something is there already.
    #[error("something is there already")]
    Exists,
    /// What it is to lie in is not there, or is no folder.
    #[error("the folder it is to lie in is not there")]
    NoFolder,
    /// A folder stands where a file is meant, or the other way round.
    #[error("a folder stands where a file is meant, or a file where a folder is")]
    WrongKind,
    /// A folder cannot be put into itself.
    #[error("a folder cannot lie in itself")]
    IntoItself,
    /// The tree has all the names that it may have.
    #[error("no more than {0} files and folders are kept there")]
    TooMany(u64),
    /// It does not fit.
    #[error("{wanted} bytes do not fit: {used} of {bytes} are used")]
    Quota {
        /// What would come on top.
        wanted: u64,
        /// What is held.
        used: u64,
        /// What may be.
        bytes: u64,
    },
    /// Somewhere below, a path would become too long or too deep.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for NameError {
    fn from(error: rusqlite::Error) -> Self {
        NameError::Store(error.into())
    }
}

/// The name `?1` and all below it.
pub(crate) const DOWN: &str = "WITH RECURSIVE down (id) AS (
    SELECT ?1 UNION ALL SELECT e.id FROM entries e JOIN down ON e.parent = down.id)";

const SELECT: &str = "SELECT id, token, environment, root, parent, name, blob, bytes, machine,
    created_at, modified_at FROM entries";

impl Read<'_> {
    /// What is called `path` in the tree; None also for the root itself.
    pub fn name_at(
        &self,
        environment: EnvironmentId,
        root: Root,
        path: &EntryPath,
    ) -> Result<Option<NameRow>, StoreError> {
        let sql =
            format!("{SELECT} WHERE environment = ?1 AND root = ?2 AND parent = ?3 AND name = ?4");
        let mut statement = self.tx.prepare_cached(&sql)?;
        let mut found: Option<NameRow> = None;
        for name in path.names() {
            let parent = match &found {
                Some(NameRow { blob: Some(_), .. }) => return Ok(None),
                Some(folder) => folder.id,
                None => 0,
            };
            let key = (environment.0, root.as_str(), parent.cast_signed(), name);
            let rows = codec::all(statement.query(key)?, name_from)?;
            found = rows.into_iter().next();
            if found.is_none() {
                return Ok(None);
            }
        }
        Ok(found)
    }

    /// The name with the number `id`.
    pub(crate) fn name_by_id(&self, id: u64) -> Result<Option<NameRow>, StoreError> {
        let mut statement = self.tx.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
        Ok(codec::all(statement.query([id.cast_signed()])?, name_from)?.pop())
    }

    /// What lies in the folder `parent` of the tree, 0 for its root, by the bytes of its name: the
    /// first `limit` after `after`. With `visible` without files of `import/` that machines do not
    /// see.
    pub fn names_after(
        &self,
        (environment, root): (EnvironmentId, Root),
        parent: u64,
        after: Option<&EntryName>,
        limit: usize,
        visible: bool,
    ) -> Result<Vec<NameRow>, StoreError> {
        // No name is empty.
        let after = after.map_or("", EntryName::as_str);
        let sql = format!(
            "{SELECT} WHERE environment = ?1 AND root = ?2 AND parent = ?3 AND name > ?4
                 AND (NOT ?5 OR blob IS NULL OR EXISTS (SELECT 1 FROM imports i
                     WHERE i.blob = entries.blob AND i.state = 'visible'))
             ORDER BY name LIMIT ?6"
        );
        let mut statement = self.tx.prepare_cached(&sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (root, parent) = (root.as_str(), parent.cast_signed());
        codec::all(
            statement.query((environment.0, root, parent, after, visible, limit))?,
            name_from,
        )
    }

    /// The whole path of the name `id`.
    pub(crate) fn path_of(&self, id: u64) -> Result<EntryPath, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "WITH RECURSIVE up (id, parent, name, depth) AS (
                 SELECT id, parent, name, 0 FROM entries WHERE id = ?1
                 UNION ALL
                 SELECT e.id, e.parent, e.name, up.depth + 1 FROM entries e
                     JOIN up ON e.id = up.parent)
             SELECT name FROM up ORDER BY depth DESC",
        )?;
        let names =
            codec::all(statement.query([id.cast_signed()])?, |row| Ok(row.get::<_, String>(0)?))?;
        codec::parsed("a path", &names.join("/"))
    }

    /// The name `id` and all below it, each after what it lies in.
    pub(crate) fn tree_of(&self, id: u64) -> Result<Vec<NameRow>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "WITH RECURSIVE down (id, depth) AS (
                 SELECT ?1, 0
                 UNION ALL
                 SELECT e.id, down.depth + 1 FROM entries e JOIN down ON e.parent = down.id)
             SELECT e.id, e.token, e.environment, e.root, e.parent, e.name, e.blob, e.bytes,
                 e.machine, e.created_at, e.modified_at
             FROM down JOIN entries e ON e.id = down.id ORDER BY down.depth, e.id",
        )?;
        codec::all(statement.query([id.cast_signed()])?, name_from)
    }

    /// How many names lie in what is called `path`, at any depth; none in a file, or in nothing.
    pub fn names_below(
        &self,
        environment: EnvironmentId,
        root: Root,
        path: &EntryPath,
    ) -> Result<u64, StoreError> {
        let Some(NameRow { id, blob: None, .. }) = self.name_at(environment, root, path)? else {
            return Ok(0);
        };
        let mut statement =
            self.tx.prepare_cached(&format!("{DOWN} SELECT count(*) - 1 FROM down"))?;
        let below: i64 = statement.query_row([id.cast_signed()], |row| row.get(0))?;
        Ok(below.unsigned_abs())
    }

    /// What the tree holds.
    pub fn usage(&self, environment: EnvironmentId, root: Root) -> Result<Usage, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM entries
             WHERE environment = ?1 AND root = ?2",
        )?;
        Ok(statement.query_row((environment.0, root.as_str()), |row| {
            Ok(Usage {
                names: row.get::<_, i64>(0)?.unsigned_abs(),
                bytes: row.get::<_, i64>(1)?.unsigned_abs(),
            })
        })?)
    }
}

fn name_from(row: &Row<'_>) -> Result<NameRow, StoreError> {
    let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let root: String = row.get(3)?;
    let blob: Option<String> = row.get(6)?;
    Ok(NameRow {
        id: number(0)?,
        token: row.get(1)?,
        environment: EnvironmentId(row.get(2)?),
        root: match root.as_str() {
            "import" => Root::Import,
            "export" => Root::Export,
            other => return Err(codec::corrupt("a tree", other)),
        },
        parent: number(4)?,
        name: codec::parsed("a name", &row.get::<_, String>(5)?)?,
        blob: blob.map(|blob| codec::parsed("a blob", &blob)).transpose()?,
        bytes: number(7)?,
        machine: row.get::<_, Option<u32>>(8)?.map(MachineId),
        created_at: codec::time(row.get(9)?)?,
        modified_at: codec::time(row.get(10)?)?,
    })
}

//! Changes of the trees of names: files put, folders made, names moved, copied, removed.
//!
//! What holds new content under a name of `export/` is due to become an export; what was on its way
//! out under a name that changes is withdrawn, in the same transaction. A blob that no name and no
//! export needs any more is marked to go.

use crate::{
    StoreError, Write, codec,
    entries::{DOWN, NameError, NameRow},
};
use jiff::Timestamp;
use nonstop_model::{BlobId, EntryName, EntryPath, EnvironmentId, MachineId, Root};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// A tree of an environment, and how it may change.
#[derive(Debug, Clone, Copy)]
pub struct Tree {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which: `Import` or `Export`.
    pub root: Root,
    /// The most names.
    pub names: u64,
    /// The most bytes of all names together.
    pub bytes: u64,
    /// From when on content that is put under a name now is an export; None in `import/`.
    pub due_at: Option<Timestamp>,
}

/// Content that lies in its file, synced.
#[derive(Debug, Clone, Copy)]
pub struct NewContent<'a> {
    /// Its file.
    pub blob: &'a BlobId,
    /// How long that is.
    pub bytes: u64,
    /// Which machine gave it; None from outside.
    pub machine: Option<MachineId>,
}

impl Write<'_> {
    /// Lets the file `path` hold `new`. What it held before is withdrawn, if that was on its way out.
    ///
    /// Errors: `NoFolder`, `WrongKind`, `TooMany`, `Quota`.
    pub fn put_file(
        &mut self,
        tree: &Tree,
        path: &EntryPath,
        new: NewContent<'_>,
    ) -> Result<NameRow, NameError> {
        let (parent, name) = self.place_of(tree, path)?;
        let before = self.name_at(tree.environment, tree.root, path)?;
        if before.as_ref().is_some_and(|before| before.blob.is_none()) {
            return Err(NameError::WrongKind);
        }
        let freed = before.as_ref().map_or(0, |before| before.bytes);
        self.must_fit(tree, u64::from(before.is_none()), new.bytes, freed)?;
        let now = codec::micros(self.now());
        self.tx.execute(
            "INSERT INTO blobs (id, environment, root, bytes, made_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            (
                new.blob.as_str(),
                tree.environment.0,
                tree.root.as_str(),
                new.bytes.cast_signed(),
                now,
            ),
        )?;
        let id = match &before {
            Some(before) => {
                self.tx.execute(
                    "UPDATE entries SET blob = ?2, bytes = ?3, machine = ?4, modified_at = ?5,
                         due_at = ?6 WHERE id = ?1",
                    (
                        before.id.cast_signed(),
                        new.blob.as_str(),
                        new.bytes.cast_signed(),
                        new.machine.map(|m| m.0),
                        now,
                        tree.due_at.map(codec::micros),
                    ),
                )?;
                self.withdraw(&[before.id], "its name was written anew")?;
                before.id
            }
            None => self.add_name(tree, parent, &name, Some(new))?,
        };
        if tree.root == Root::Import {
            self.import_created(tree.environment, path, new.blob, new.bytes)?;
        }
        self.free_blobs(before.and_then(|before| before.blob))?;
        self.names_only();
        self.must_have(id)
    }

    /// Makes the folder `path`.
    ///
    /// Errors: `Exists`, `NoFolder`, `TooMany`.
    pub fn make_folder(&mut self, tree: &Tree, path: &EntryPath) -> Result<NameRow, NameError> {
        let (parent, name) = self.place_of(tree, path)?;
        if self.name_at(tree.environment, tree.root, path)?.is_some() {
            return Err(NameError::Exists);
        }
        self.must_fit(tree, 1, 0, 0)?;
        let id = self.add_name(tree, parent, &name, None)?;
        self.names_only();
        self.must_have(id)
    }

    /// Removes the file `path`, or the folder with all in it.
    ///
    /// Errors: `Missing`.
    pub fn remove_name(&mut self, tree: &Tree, path: &EntryPath) -> Result<(), NameError> {
        let found = self.name_at(tree.environment, tree.root, path)?.ok_or(NameError::Missing)?;
        self.remove_tree(found.id, "its name was removed")?;
        self.names_only();
        Ok(())
    }

    /// Calls `from`, with all in it, `to`. With `replace`, what is called so goes away first.
    ///
    /// Errors: `Missing`, `Exists`, `NoFolder`, `IntoItself`, `Path`.
    pub fn move_name(
        &mut self,
        tree: &Tree,
        from: &EntryPath,
        to: &EntryPath,
        replace: bool,
    ) -> Result<NameRow, NameError> {
        let found = self.name_at(tree.environment, tree.root, from)?.ok_or(NameError::Missing)?;
        let (parent, name) = self.make_way(tree, from, to, replace)?;
        let moved = self.tree_of(found.id)?;
        paths_below(&moved, to)?;
        self.tx.execute(
            "UPDATE entries SET parent = ?2, name = ?3 WHERE id = ?1",
            (found.id.cast_signed(), parent.cast_signed(), name.as_str()),
        )?;
        let files = || moved.iter().filter(|row| row.blob.is_some());
        if let Some(due_at) = tree.due_at {
            let ids: Vec<u64> = files().map(|row| row.id).collect();
            self.tx
                .prepare_cached(&format!(
                    "{DOWN} UPDATE entries SET due_at = ?2
                     WHERE id IN (SELECT id FROM down) AND blob IS NOT NULL"
                ))?
                .execute((found.id.cast_signed(), codec::micros(due_at)))?;
            self.withdraw(&ids, "its name was changed")?;
            self.names_only();
        } else if files().next().is_some() {
            let detail = json!({ "environment": tree.environment, "from": from, "to": to });
            self.trace("import.move", &tree.environment, detail)?;
        } else {
            self.names_only();
        }
        self.must_have(found.id)
    }

    /// Lets the file `to` hold what `from` does; makes the folder `to` where `from` is one. With
    /// `replace`, what is called so goes away first.
    ///
    /// Errors: `Missing`, `Exists`, `NoFolder`, `IntoItself`, `TooMany`, `Quota`.
    pub fn copy_name(
        &mut self,
        tree: &Tree,
        from: &EntryPath,
        to: &EntryPath,
        replace: bool,
    ) -> Result<NameRow, NameError> {
        let found = self.name_at(tree.environment, tree.root, from)?.ok_or(NameError::Missing)?;
        let (parent, name) = self.make_way(tree, from, to, replace)?;
        self.must_fit(tree, 1, found.bytes, 0)?;
        let content = found.blob.as_ref().map(|blob| NewContent {
            blob,
            bytes: found.bytes,
            machine: found.machine,
        });
        let id = self.add_name(tree, parent, &name, content)?;
        if tree.root == Root::Import && content.is_some() {
            let detail = json!({ "environment": tree.environment, "from": from, "to": to });
            self.trace("import.copy", &tree.environment, detail)?;
        }
        self.names_only();
        self.must_have(id)
    }

    /// Where `path` is going to lie, and its name there.
    fn place_of(&self, tree: &Tree, path: &EntryPath) -> Result<(u64, EntryName), NameError> {
        let (parent, name) = path.split().ok_or(NameError::Exists)?;
        if parent.is_root() {
            return Ok((0, name));
        }
        match self.name_at(tree.environment, tree.root, &parent)? {
            Some(folder) if folder.blob.is_none() => Ok((folder.id, name)),
            Some(_) | None => Err(NameError::NoFolder),
        }
    }

    /// Removes what is called `to`, if that may be.
    fn make_way(
        &mut self,
        tree: &Tree,
        from: &EntryPath,
        to: &EntryPath,
        replace: bool,
    ) -> Result<(u64, EntryName), NameError> {
        if to.is_within(from) || from.is_within(to) {
            return Err(NameError::IntoItself);
        }
        let place = self.place_of(tree, to)?;
        match self.name_at(tree.environment, tree.root, to)? {
            Some(_) if !replace => Err(NameError::Exists),
            Some(there) => {
                self.remove_tree(there.id, "its name was written anew")?;
                Ok(place)
            }
            None => Ok(place),
        }
    }

    fn add_name(
        &mut self,
        tree: &Tree,
        parent: u64,
        name: &EntryName,
        content: Option<NewContent<'_>>,
    ) -> Result<u64, NameError> {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let now = codec::micros(self.now());
        let due_at = content.and(tree.due_at).map(codec::micros);
        self.tx.execute(
            "INSERT INTO entries (token, environment, root, parent, name, blob, bytes, machine,
                 created_at, modified_at, due_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10)",
            (
                token,
                tree.environment.0,
                tree.root.as_str(),
                parent.cast_signed(),
                name.as_str(),
                content.map(|c| c.blob.as_str()),
                content.map_or(0, |c| c.bytes.cast_signed()),
                content.and_then(|c| c.machine).map(|m| m.0),
                now,
                due_at,
            ),
        )?;
        Ok(self.tx.last_insert_rowid().unsigned_abs())
    }

    fn must_have(&self, id: u64) -> Result<NameRow, NameError> {
        self.name_by_id(id)?.ok_or(NameError::Missing)
    }

    fn must_fit(&self, tree: &Tree, names: u64, bytes: u64, freed: u64) -> Result<(), NameError> {
        let usage = self.usage(tree.environment, tree.root)?;
        if names > 0 && usage.names + names > tree.names {
            return Err(NameError::TooMany(tree.names));
        }
        let used = usage.bytes.saturating_sub(freed);
        if bytes > 0 && used.saturating_add(bytes) > tree.bytes {
            return Err(NameError::Quota { wanted: bytes, used, bytes: tree.bytes });
        }
        Ok(())
    }

    /// Removes the name `id` and all below it.
    pub(crate) fn remove_tree(&mut self, id: u64, why: &str) -> Result<(), StoreError> {
        let rows = self.tree_of(id)?;
        let ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
        self.tx
            .prepare_cached(&format!(
                "{DOWN} DELETE FROM entries WHERE id IN (SELECT id FROM down)"
            ))?
            .execute([id.cast_signed()])?;
        self.withdraw(&ids, why)?;
        self.free_blobs(rows.into_iter().filter_map(|row| row.blob))
    }

    /// Marks those of `blobs` to go that nothing needs any more.
    pub(crate) fn free_blobs(
        &mut self,
        blobs: impl IntoIterator<Item = BlobId>,
    ) -> Result<(), StoreError> {
        let blobs: BTreeSet<BlobId> = blobs.into_iter().collect();
        for blob in blobs {
            let freed = self
                .tx
                .prepare_cached(
                    "UPDATE blobs SET going = 1 WHERE id = ?1 AND going = 0
                         AND NOT EXISTS (SELECT 1 FROM entries WHERE blob = ?1)
                         AND NOT EXISTS (SELECT 1 FROM exports WHERE blob = ?1
                             AND state IN ('submitted', 'screening', 'held', 'released'))",
                )?
                .execute([blob.as_str()])?;
            if freed > 0 {
                self.import_removed(&blob)?;
                self.names_only();
            }
        }
        Ok(())
    }
}

/// Errors if a path of `moved` would be none below `to`.
fn paths_below(moved: &[NameRow], to: &EntryPath) -> Result<(), NameError> {
    let mut paths: BTreeMap<u64, EntryPath> = BTreeMap::new();
    for row in moved {
        let path = match paths.get(&row.parent) {
            Some(parent) => parent.join(&row.name)?,
            None => to.clone(),
        };
        paths.insert(row.id, path);
    }
    Ok(())
}

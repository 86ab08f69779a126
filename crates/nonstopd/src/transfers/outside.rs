//! What outside sees of `export/`: the newest released version of each name, and the folders that
//! their names imply.
//!
//! Numbers, times and tags come from the releases alone; nothing that was done inside and not
//! released can be told from them.

use super::asks::Held;
use jiff::Timestamp;
use nonstop_api::airlock::{Entry, EntryKind};
use nonstop_model::EntryPath;
use nonstop_store::Export;
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

/// A tree of releases.
pub(super) struct Tree(BTreeMap<String, Node>);

enum Node {
    Folder { from: Timestamp, until: Timestamp },
    File(Box<Export>),
}

impl Tree {
    /// That of `released`, the oldest first. Where a name is a file in one release and a folder in
    /// another, the later one is seen.
    pub(super) fn of(released: Vec<Export>) -> Tree {
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        for export in released {
            let at = export.released_at.unwrap_or(export.changed_at);
            let path = export.path.as_str().to_string();
            let below = format!("{path}/");
            nodes.retain(|name, _| !name.starts_with(&below));
            for (end, _) in path.match_indices('/') {
                match nodes.get_mut(&path[..end]) {
                    Some(Node::Folder { until, .. }) => *until = (*until).max(at),
                    _ => {
                        nodes.insert(path[..end].into(), Node::Folder { from: at, until: at });
                    }
                }
            }
            nodes.insert(path, Node::File(Box::new(export)));
        }
        Tree(nodes)
    }

    /// What lies in the folder `path`, by name.
    pub(super) fn list(&self, path: &EntryPath) -> Vec<Entry> {
        let prefix = if path.is_root() { String::new() } else { format!("{path}/") };
        let below =
            self.0.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        let direct = below.filter(|(name, _)| !name[prefix.len()..].contains('/'));
        direct.filter_map(|(name, node)| entry(name, node)).collect()
    }

    /// What is called `path`.
    pub(super) fn look(mut self, path: &EntryPath) -> Option<(Entry, Held)> {
        let node = self.0.remove(path.as_str())?;
        let entry = entry(path.as_str(), &node)?;
        let held = match node {
            Node::Folder { .. } => Held::Folder,
            Node::File(export) => Held::Released(export),
        };
        Some((entry, held))
    }
}

fn entry(path: &str, node: &Node) -> Option<Entry> {
    let name = path.rsplit('/').next()?.parse().ok()?;
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let (what, created_at, modified_at) = match node {
        Node::Folder { from, until } => (EntryKind::Folder, *from, *until),
        Node::File(export) => {
            let tag = export.screening.as_ref()?.sha256.clone();
            let at = export.released_at?;
            (EntryKind::File { bytes: export.bytes, tag }, at, at)
        }
    };
    let kind = if matches!(what, EntryKind::Folder) { 'd' } else { 'f' };
    // Nothing can be written there, so nothing hangs on the number.
    let id = format!("x{kind}{:016x}", hasher.finish());
    Some(Entry { id, name: Some(name), what, created_at, modified_at })
}

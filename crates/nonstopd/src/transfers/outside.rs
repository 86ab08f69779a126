//! What outside sees of `export/`: the newest released version of each name, and the folders that
//! their names imply.
//!
//! Numbers, times and tags come from the releases alone; nothing that was done inside and not
//! released can be told from them.

use super::asks::Held;
use jiff::Timestamp;
use nonstop_api::airlock::{Entry, EntryKind};
use nonstop_model::{EntryName, EntryPath, EnvironmentId};
use nonstop_store::Export;
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Bound,
    sync::Arc,
};

/// Trees that are kept to be asked again.
const KEPT: usize = 8;

/// The trees that were asked for last, each with the number of decisions that it holds for.
#[derive(Default)]
pub(super) struct Trees(BTreeMap<EnvironmentId, (u64, Arc<Tree>)>);

impl Trees {
    /// That of `environment`, if nothing was decided since it was made.
    pub(super) fn get(&self, environment: EnvironmentId, decisions: u64) -> Option<Arc<Tree>> {
        let (of, tree) = self.0.get(&environment)?;
        (*of == decisions).then(|| Arc::clone(tree))
    }

    pub(super) fn keep(&mut self, environment: EnvironmentId, decisions: u64, tree: &Arc<Tree>) {
        while self.0.len() >= KEPT && !self.0.contains_key(&environment) {
            self.0.pop_first();
        }
        self.0.insert(environment, (decisions, Arc::clone(tree)));
    }
}

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
            // '0' is what comes after '/'.
            let below = nodes.range(format!("{path}/")..format!("{path}0"));
            let below: Vec<String> = below.map(|(name, _)| name.clone()).collect();
            for name in below {
                nodes.remove(&name);
            }
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

    /// What lies in the folder `path`, by name: the first `limit` after `after`.
    pub(super) fn list(
        &self,
        path: &EntryPath,
        after: Option<&EntryName>,
        limit: usize,
    ) -> Vec<Entry> {
        let prefix = if path.is_root() { String::new() } else { format!("{path}/") };
        let mut from = match after {
            Some(after) => Bound::Excluded(format!("{prefix}{after}")),
            None => Bound::Included(prefix.clone()),
        };
        let mut entries = Vec::new();
        while entries.len() < limit
            && let Some((name, node)) = self.0.range((from, Bound::Unbounded)).next()
            && let Some(rest) = name.strip_prefix(&prefix)
        {
            from = match rest.split_once('/') {
                // What lies in a folder is passed over.
                Some((folder, _)) => Bound::Included(format!("{prefix}{folder}0")),
                None => {
                    entries.extend(entry(name, node));
                    Bound::Excluded(name.clone())
                }
            };
        }
        entries
    }

    /// What is called `path`.
    pub(super) fn look(&self, path: &EntryPath) -> Option<(Entry, Held)> {
        let node = self.0.get(path.as_str())?;
        let entry = entry(path.as_str(), node)?;
        let held = match node {
            Node::Folder { .. } => Held::Folder,
            Node::File(export) => Held::Released(export.clone()),
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

//! What a client asks, and who may: each ask looks again at who that is and how the environment
//! stands.

use super::{
    Transfers, captures,
    denials::{denial, failed, gone, io, not_found, read_only, store},
    outside,
    peers::Who,
};
use crate::fitting::fitting;
use nonstop_api::airlock::{
    Answer, Answered, Ask, Denial, DenialKind, ENTRIES_AT_ONCE, Entry, EntryKind, EnvironmentName,
    ExportTold, FindingTold, Place,
};
use nonstop_model::{BlobId, EntryName, EntryPath, EnvironmentId, Root};
use nonstop_store::{Clients, Export, MOST_LISTED, NameRow, Read, Standing, StoreError, Which};
use std::{
    collections::BTreeSet,
    fs::File,
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The bytes that are told of exports, and of what was found in the newest of them: each connection of a
/// machine may have the airlock hold them.
const EXPORTS_TOLD: (usize, usize) = (384 << 10, 128 << 10);

/// One client's conversation.
pub struct Session {
    /// Which of those of this process.
    pub(super) id: u64,
    /// Who the client is.
    pub(super) who: Who,
    /// What the trace calls it.
    pub(super) actor: String,
    /// The client's connection.
    pub(super) connection: OwnedFd,
    /// The environments that it has had to do with: it ends with the first of them.
    pub(super) touched: Mutex<BTreeSet<EnvironmentId>>,
}

impl Session {
    /// The environments that it has had to do with.
    pub(super) fn touched(&self) -> MutexGuard<'_, BTreeSet<EnvironmentId>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of an ask, with an open file beside it where there is one.
pub(super) type Outcome = Result<(Answer, Option<OwnedFd>), Denial>;

/// What a name holds, as far as the side may know.
pub(super) enum Held {
    Folder,
    Content(BlobId),
    /// A release.
    Released(Box<Export>),
    /// A file that stands open already.
    Open(File),
}

impl Transfers {
    /// Answers `ask` of `session`.
    pub fn answer(&self, session: &Session, ask: Ask) -> (Answered, Option<OwnedFd>) {
        match self.outcome(session, ask) {
            Ok((answer, file)) => (Ok(answer), file),
            Err(denial) => (Err(denial), None),
        }
    }

    fn outcome(&self, session: &Session, ask: Ask) -> Outcome {
        if !self.peers.lives(session.connection.as_fd()) {
            return Err(denial(DenialKind::Gone, "the client's connection has ended"));
        }
        let plain = |answer| Ok((answer, None));
        match ask {
            Ask::Begin => Err(denial(DenialKind::Failed, "this conversation has begun already")),
            Ask::Environments => self.environments(session).and_then(plain),
            Ask::Look { place } => {
                let (entry, _) = self.look(session, &place)?;
                plain(Answer::Entry(entry))
            }
            Ask::List { place, after } => {
                self.list(session, &place, after.as_ref()).map(Answer::Entries).and_then(plain)
            }
            Ask::Open { place } => {
                let (entry, held) = self.look(session, &place)?;
                let file = match held {
                    Held::Folder => return Err(denial(DenialKind::WrongKind, "it is a folder")),
                    Held::Open(file) => file,
                    Held::Released(export) => {
                        self.open_export(&export).map_err(|e| io("open a released file", &e))?
                    }
                    Held::Content(blob) => {
                        self.contents.open(place.root, &blob).map_err(|e| io("open a file", &e))?
                    }
                };
                Ok((Answer::Entry(entry), Some(file.into())))
            }
            Ask::Create { place, bytes } => self.create(session, place, bytes),
            Ask::Commit { ticket } => {
                self.commit(session, ticket).map(Answer::Entry).and_then(plain)
            }
            Ask::Abandon { ticket } => {
                let mut state = self.state();
                if let Some(writing) = state.writings.take(session.id, ticket) {
                    state.writings.give_up(ticket, writing);
                }
                plain(Answer::Done)
            }
            Ask::MakeFolder { place } => {
                let tree = self.may_change(session, &place)?;
                let path = place.path;
                self.change(session, |w| w.make_folder(&tree, &path))
                    .map(|row| Answer::Entry(entry_of(session, &row)))
                    .and_then(plain)
            }
            Ask::Remove { place } => {
                let tree = self.may_change(session, &place)?;
                self.may_take_along(session, &tree, &[&place.path])?;
                self.change(session, |w| w.remove_name(&tree, &place.path))?;
                plain(Answer::Done)
            }
            Ask::Move { from, to, replace } => {
                let tree = self.may_name(session, &from, &to, &[&from.path, &to])?;
                self.change(session, |w| w.move_name(&tree, &from.path, &to, replace))
                    .map(|row| Answer::Entry(entry_of(session, &row)))
                    .and_then(plain)
            }
            Ask::Copy { from, to, replace } => {
                let tree = self.may_name(session, &from, &to, &[&to])?;
                self.change(session, |w| w.copy_name(&tree, &from.path, &to, replace))
                    .map(|row| Answer::Entry(entry_of(session, &row)))
                    .and_then(plain)
            }
            Ask::Quota { place } => self.quota(session, &place).and_then(plain),
            Ask::Exports => self.exports_told(session).and_then(plain),
        }
    }

    /// Reads for the client of `session`, whom nobody waits for but others of that side.
    pub(super) fn read<T>(
        &self,
        session: &Session,
        f: impl FnOnce(&Read<'_>) -> Result<T, StoreError>,
    ) -> Result<T, Denial> {
        self.db.read_for(clients(session), f).map_err(|e| store(&e))
    }

    /// How the environment stands, if it is one of the client's and lives.
    pub(super) fn standing(
        &self,
        session: &Session,
        environment: EnvironmentId,
    ) -> Result<Standing, Denial> {
        let found = self.read(session, |read| read.standing(environment))?;
        let own = |standing: &Standing| match &session.who {
            Who::Machine { environment, .. } => standing.environment == *environment,
            Who::Person(account) => standing.account == *account,
        };
        let found = found.filter(own).ok_or_else(not_found)?;
        if !found.holds(self.clock.now()) {
            return Err(gone());
        }
        session.touched().insert(environment);
        Ok(found)
    }

    fn environments(&self, session: &Session) -> Result<Answer, Denial> {
        let found = self.read(session, |read| match &session.who {
            Who::Machine { environment, .. } => {
                Ok(read.standing(*environment)?.into_iter().collect())
            }
            Who::Person(account) => read.standings_of(*account),
        })?;
        let now = self.clock.now();
        let living = found.into_iter().filter(|standing| standing.holds(now));
        let named = living.map(|standing| EnvironmentName {
            id: standing.environment,
            template: standing.template,
            since: standing.period.from(),
        });
        Ok(Answer::Environments(named.collect()))
    }

    /// The root of a tree, as a folder.
    fn root(&self, session: &Session, place: &Place, standing: &Standing) -> Entry {
        Entry {
            id: format!("{}{}-{}", side(session), place.root, place.environment),
            name: None,
            what: EntryKind::Folder,
            created_at: standing.period.from(),
            modified_at: standing.period.from(),
        }
    }

    /// What is at `place`.
    pub(super) fn look(&self, session: &Session, place: &Place) -> Result<(Entry, Held), Denial> {
        let standing = self.standing(session, place.environment)?;
        let inside = is_inside(session);
        if place.path.is_root() && (inside || place.root != Root::Capture) {
            return Ok((self.root(session, place, &standing), Held::Folder));
        }
        match (place.root, inside) {
            (Root::Capture, true) => {
                let folder = self.captures_of(place.environment);
                captures::look(&folder, &place.path).map_err(|e| capture("look at a capture", &e))
            }
            (Root::Capture, false) => Err(not_found()),
            (Root::Export, false) => self
                .released_tree(session, place.environment)?
                .look(&place.path)
                .ok_or_else(not_found),
            (Root::Import, _) | (Root::Export, true) => {
                let found = self.read(session, |read| {
                    let found = read.name_at(place.environment, place.root, &place.path)?;
                    let Some(row) = found else { return Ok(None) };
                    let hidden = inside
                        && place.root == Root::Import
                        && match &row.blob {
                            Some(blob) => !read.is_visible(blob)?,
                            None => false,
                        };
                    Ok((!hidden).then_some(row))
                })?;
                let row = found.ok_or_else(not_found)?;
                let held = row.blob.clone().map_or(Held::Folder, Held::Content);
                Ok((entry_of(session, &row), held))
            }
        }
    }

    /// One page of what lies in the folder `place`: what is read for it is one page, too, and counts.
    fn list(
        &self,
        session: &Session,
        place: &Place,
        after: Option<&EntryName>,
    ) -> Result<Vec<Entry>, Denial> {
        let (_, held) = self.look(session, place)?;
        if !matches!(held, Held::Folder) {
            return Err(denial(DenialKind::WrongKind, "it is a file"));
        }
        let inside = is_inside(session);
        match (place.root, inside) {
            (Root::Capture, true) => {
                let folder = self.captures_of(place.environment);
                let listed = captures::list(&folder, &place.path);
                listed.map(|all| page(all, after)).map_err(|e| capture("list captures", &e))
            }
            (Root::Capture, false) => Err(not_found()),
            (Root::Export, false) => {
                let tree = self.released_tree(session, place.environment)?;
                Ok(tree.list(&place.path, after, ENTRIES_AT_ONCE))
            }
            (Root::Import, _) | (Root::Export, true) => {
                let reader = (place.environment, clients(session));
                let rows = self.read(session, |read| {
                    // One reads after the other, so that nobody reads before it is seen who did.
                    if self.state().meters.owes_rows(reader, Instant::now()) {
                        return Ok(None);
                    }
                    let folder = match read.name_at(place.environment, place.root, &place.path)? {
                        Some(row) => row.id,
                        None => 0,
                    };
                    let (tree, visible) =
                        ((place.environment, place.root), inside && place.root == Root::Import);
                    let rows = read.names_after(tree, folder, after, ENTRIES_AT_ONCE, visible)?;
                    self.state().meters.listed(reader, rows.len(), Instant::now());
                    Ok(Some(rows))
                })?;
                let rows = rows.ok_or_else(too_much_read)?;
                Ok(rows.iter().map(|row| entry_of(session, row)).collect())
            }
        }
    }

    fn released_tree(
        &self,
        session: &Session,
        environment: EnvironmentId,
    ) -> Result<Arc<outside::Tree>, Denial> {
        self.read(session, |read| {
            // Of the same state of the database as the tree: nothing that was revoked is seen again.
            let decisions = read.decisions_made()?;
            if let Some(tree) = self.state().trees.get(environment, decisions) {
                return Ok(tree);
            }
            let tree = Arc::new(outside::Tree::of(read.released(environment)?));
            self.state().trees.keep(environment, decisions, &tree);
            Ok(tree)
        })
    }

    fn captures_of(&self, environment: EnvironmentId) -> std::path::PathBuf {
        self.lab.captures().join(environment.to_string())
    }

    fn quota(&self, session: &Session, place: &Place) -> Result<Answer, Denial> {
        self.standing(session, place.environment)?;
        if !writable(session, place.root) {
            return Err(read_only());
        }
        let usage = self.read(session, |read| read.usage(place.environment, place.root))?;
        let tree = self.tree(place.environment, place.root);
        let (promised, pending) = self.state().writings.promised(place.root, place.environment);
        let left = tree.bytes.saturating_sub(usage.bytes).saturating_sub(pending);
        let available = match place.root {
            // Nothing that is done inside may be told by it.
            Root::Import => left,
            Root::Export | Root::Capture => {
                let room = self.disk_room(place.root, promised);
                left.min(room.map_err(|e| io("look at the disk", &e))?)
            }
        };
        Ok(Answer::Quota { used: usage.bytes, available })
    }

    fn exports_told(&self, session: &Session) -> Result<Answer, Denial> {
        let Who::Machine { environment, .. } = &session.who else { return Err(not_found()) };
        self.standing(session, *environment)?;
        let told = self.read(session, |read| {
            let mut told = Vec::new();
            for export in read.exports(Some(*environment), None, Which::All)? {
                let reason = match export.state.is_under_way() {
                    true => None,
                    false => read.decisions(export.id)?.pop().map(|last| last.reason),
                };
                told.push((export, reason.filter(|reason| !reason.is_empty())));
            }
            Ok(told)
        })?;
        let told = told.into_iter().map(|(export, reason)| {
            let findings = export.screening.map(|s| serde_json::from_value(s.findings));
            let mut findings: Vec<FindingTold> = findings.transpose()?.unwrap_or_default();
            findings.truncate(RULES.0);
            Ok(ExportTold {
                id: export.id,
                path: export.path,
                version: export.version,
                state: export.state,
                bytes: export.bytes,
                submitted_at: export.submitted_at,
                changed_at: export.changed_at,
                findings,
                reason,
            })
        });
        let told: Result<Vec<_>, serde_json::Error> = told.collect();
        let told = told.map_err(|e| failed("read findings", &e))?;
        let thousand = told.len() >= MOST_LISTED;
        let (told, more) = fitting(told, EXPORTS_TOLD, |told| ExportTold {
            findings: in_short(&told.findings),
            ..told.clone()
        });
        Ok(Answer::Exports { told, more: more || thousand })
    }
}

/// Rules that are told of an export, and that are told of one in short.
const RULES: (usize, usize) = (20, 6);

/// Which rules had something to say, the gravest first, without their words.
pub(crate) fn in_short(findings: &[FindingTold]) -> Vec<FindingTold> {
    let of = |finding: &FindingTold| FindingTold {
        rule: finding.rule.clone(),
        verdict: finding.verdict.clone(),
        ..FindingTold::default()
    };
    findings.iter().take(RULES.1).map(of).collect()
}

/// Those of `entries` after the name `after` that fit into one answer.
fn page(mut entries: Vec<Entry>, after: Option<&EntryName>) -> Vec<Entry> {
    let begins = entries.partition_point(|entry| entry.name.as_ref() <= after);
    entries.drain(..begins);
    entries.truncate(ENTRIES_AT_ONCE);
    entries
}

fn capture(doing: &str, error: &std::io::Error) -> Denial {
    if error.kind() == ErrorKind::NotFound { not_found() } else { io(doing, error) }
}

fn too_much_read() -> Denial {
    let message = "too many names were listed in a short time: wait a second, then try again";
    denial(DenialKind::Busy, message)
}

/// With whom the client waits to read.
fn clients(session: &Session) -> Clients {
    if is_inside(session) { Clients::Machines } else { Clients::Persons }
}

/// Whether the client is a machine.
pub(super) fn is_inside(session: &Session) -> bool {
    matches!(session.who, Who::Machine { .. })
}

/// Whether a client of that side may write there.
pub(super) fn writable(session: &Session, root: Root) -> bool {
    match root {
        Root::Import => !is_inside(session),
        Root::Export => is_inside(session),
        Root::Capture => false,
    }
}

fn side(session: &Session) -> char {
    if is_inside(session) { 'i' } else { 'o' }
}

pub(super) fn entry_of(session: &Session, row: &NameRow) -> Entry {
    let what = match &row.blob {
        Some(blob) => EntryKind::File { bytes: row.bytes, tag: blob.to_string() },
        None => EntryKind::Folder,
    };
    Entry {
        id: format!("{}{}", side(session), row.token),
        name: Some(row.name.clone()),
        what,
        created_at: row.created_at,
        modified_at: row.modified_at,
    }
}

/// The folder that `path` lies in.
pub(super) fn parent_of(path: &EntryPath) -> Result<EntryPath, Denial> {
    let split = path.split().ok_or_else(|| denial(DenialKind::Exists, "it is the folder itself"));
    split.map(|(parent, _)| parent)
}

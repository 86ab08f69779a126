//! A daemon for these tests: names in memory, contents in files that it hands over. It checks none of
//! what the real one promises; what is shown with it is what the program makes of answers.

use jiff::Timestamp;
use nonstop_api::{
    airlock::{
        Answer, Answered, Ask, Denial, DenialKind, ENTRIES_AT_ONCE, Entry, EntryKind,
        EnvironmentName, ExportTold, Place, Welcome,
    },
    receive_with_fd, send, send_with_fd,
};
use nonstop_model::{EntryPath, EnvironmentId, Root};
use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    ops::Bound,
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// The environment that clients have.
pub(crate) const OWN: EnvironmentId = EnvironmentId(7);

#[derive(Debug, Clone)]
struct Held {
    id: u64,
    /// None for a folder.
    content: Option<u64>,
    at: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    names: BTreeMap<(Root, String), Held>,
    room: u64,
    exports: Vec<ExportTold>,
    writing: usize,
    uncopied: Option<String>,
    stuck: bool,
}

/// The daemon.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    state: Arc<Mutex<State>>,
    folder: PathBuf,
    conversations: Arc<Mutex<Vec<UnixStream>>>,
}

fn denied<T>(kind: DenialKind) -> Result<T, Denial> {
    Err(Denial { kind, message: format!("{kind:?}") })
}

impl Daemon {
    /// One that listens at `socket` and keeps contents in `folder`.
    pub(crate) fn start(socket: &Path, folder: &Path) -> Daemon {
        let mut state = State { room: 1 << 40, ..State::default() };
        for root in [Root::Import, Root::Export, Root::Capture] {
            state.next += 1;
            let held = Held { id: state.next, content: None, at: Timestamp::now() };
            state.names.insert((root, String::new()), held);
        }
        let daemon = Daemon {
            state: Arc::new(Mutex::new(state)),
            folder: folder.into(),
            conversations: Arc::default(),
        };
        let listener = UnixListener::bind(socket).expect("bind");
        std::fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .expect("chmod");
        let own = daemon.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = stream.try_clone().expect("a copy");
                own.conversations.lock().expect("whole").push(kept);
                let own = own.clone();
                thread::spawn(move || own.talk(&stream));
            }
        });
        daemon
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many files were begun to be written.
    pub(crate) fn writing(&self) -> usize {
        self.state().writing
    }

    /// Has no room for a copy of the file `path`.
    pub(crate) fn refuse_copies_of(&self, path: &str) {
        self.state().uncopied = Some(path.into());
    }

    /// Lists the begin of a folder from now on, whatever was told before.
    pub(crate) fn lists_begins_alone(&self) {
        self.state().stuck = true;
    }

    /// Makes a folder.
    pub(crate) fn make_folder(&self, root: Root, path: &str) {
        let mut state = self.state();
        state.next += 1;
        let held = Held { id: state.next, content: None, at: Timestamp::now() };
        state.names.insert((root, path.into()), held);
    }

    /// Ends all conversations, as a daemon does that is killed and started again.
    pub(crate) fn restart(&self) {
        for conversation in self.conversations.lock().expect("whole").drain(..) {
            let _ended_already = conversation.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Bytes that may still come.
    pub(crate) fn set_room(&self, bytes: u64) {
        self.state().room = bytes;
    }

    /// What machines are told of their exports.
    pub(crate) fn set_exports(&self, exports: Vec<ExportTold>) {
        self.state().exports = exports;
    }

    /// All names below a root.
    pub(crate) fn names(&self, root: Root) -> Vec<String> {
        let state = self.state();
        let own = state.names.keys().filter(|(of, path)| *of == root && !path.is_empty());
        own.map(|(_, path)| path.clone()).collect()
    }

    /// What a name holds.
    pub(crate) fn content(&self, root: Root, path: &str) -> Vec<u8> {
        let content = self.state().names[&(root, path.into())].content.expect("a file");
        std::fs::read(self.folder.join(content.to_string())).expect("read")
    }

    /// Puts a file there.
    pub(crate) fn put(&self, root: Root, path: &str, bytes: &[u8]) {
        let mut state = self.state();
        state.next += 2;
        let content = state.next;
        let mut file = File::create(self.folder.join(content.to_string())).expect("create");
        file.write_all(bytes).expect("write");
        let held = Held { id: content - 1, content: Some(content), at: Timestamp::now() };
        state.names.insert((root, path.into()), held);
    }

    fn talk(&self, stream: &UnixStream) {
        let mut tickets = BTreeMap::new();
        while let Ok((ask, _client)) = receive_with_fd::<Ask>(stream) {
            let sent = match self.answered(ask, &mut tickets) {
                Ok((answer, Some(file))) => {
                    send_with_fd(stream, &Answered::Ok(answer), file.as_fd())
                }
                Ok((answer, None)) => send(stream, &Answered::Ok(answer)),
                Err(denial) => send(stream, &Answered::Err(denial)),
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn answered(
        &self,
        ask: Ask,
        tickets: &mut BTreeMap<u64, Place>,
    ) -> Result<(Answer, Option<File>), Denial> {
        let mut state = self.state();
        let own = |place: &Place| match place.environment {
            OWN => Ok((place.root, place.path.as_str().to_string())),
            _ => denied(DenialKind::NotFound),
        };
        let answer = match ask {
            Ask::Begin => Answer::Welcome(Welcome { lab: "lab".into(), client: "x".into() }),
            Ask::Environments => Answer::Environments(vec![EnvironmentName {
                id: OWN,
                template: "macro".into(),
                since: Timestamp::UNIX_EPOCH,
            }]),
            Ask::Look { place } => Answer::Entry(state.entry(&own(&place)?, &self.folder)?),
            Ask::List { place, after } => {
                let key = own(&place)?;
                state.entry(&key, &self.folder)?;
                let after = after.filter(|_| !state.stuck).map(|name| match key.1.as_str() {
                    "" => name.to_string(),
                    folder => format!("{folder}/{name}"),
                });
                let after = (key.0, after.unwrap_or_default());
                let below = state.names.range((Bound::Excluded(after), Bound::Unbounded));
                let direct = below.map(|(key, _)| key).filter(|(root, path)| {
                    *root == key.0 && parent(path) == key.1 && *path != key.1
                });
                let page = direct.map(|key| state.entry(key, &self.folder)).take(ENTRIES_AT_ONCE);
                Answer::Entries(page.collect::<Result<_, _>>()?)
            }
            Ask::Open { place } => {
                let key = own(&place)?;
                let entry = state.entry(&key, &self.folder)?;
                let Some(content) = state.names[&key].content else {
                    return denied(DenialKind::WrongKind);
                };
                let file = File::open(self.folder.join(content.to_string())).expect("open");
                return Ok((Answer::Entry(entry), Some(file)));
            }
            Ask::Create { place, bytes } => {
                let key = own(&place)?;
                state.parent_of(&key)?;
                if bytes.is_some_and(|bytes| bytes > state.room) {
                    return denied(DenialKind::Quota);
                }
                state.next += 1;
                state.writing += 1;
                tickets.insert(state.next, place);
                let file = File::create(self.folder.join(state.next.to_string())).expect("create");
                let answer = Answer::Writing { ticket: state.next, bytes: state.room };
                return Ok((answer, Some(file)));
            }
            Ask::Commit { ticket } => {
                let Some(place) = tickets.remove(&ticket) else {
                    return denied(DenialKind::NotFound);
                };
                let key = own(&place)?;
                state.parent_of(&key)?;
                state.next += 1;
                let next = state.next;
                let id = state.names.get(&key).map_or(next, |held| held.id);
                let held = Held { id, content: Some(ticket), at: Timestamp::now() };
                state.names.insert(key.clone(), held);
                Answer::Entry(state.entry(&key, &self.folder)?)
            }
            Ask::Abandon { ticket } => {
                tickets.remove(&ticket);
                Answer::Done
            }
            Ask::MakeFolder { place } => {
                let key = own(&place)?;
                state.parent_of(&key)?;
                state.next += 1;
                let held = Held { id: state.next, content: None, at: Timestamp::now() };
                state.names.insert(key.clone(), held);
                Answer::Entry(state.entry(&key, &self.folder)?)
            }
            Ask::Remove { place } => {
                let key = own(&place)?;
                for gone in state.below(&key) {
                    state.names.remove(&gone);
                }
                Answer::Done
            }
            Ask::Move { from, to, replace } => {
                let (from, to) = (own(&from)?, (from.root, to.as_str().to_string()));
                state.replaced(&to, replace)?;
                for key in state.below(&from) {
                    let held = state.names.remove(&key).expect("listed");
                    let path = format!("{}{}", to.1, &key.1[from.1.len()..]);
                    state.names.insert((key.0, path), held);
                }
                Answer::Entry(state.entry(&to, &self.folder)?)
            }
            Ask::Copy { from, to, replace } => {
                let (from, to) = (own(&from)?, (from.root, to.as_str().to_string()));
                if state.uncopied.as_ref() == Some(&from.1) {
                    return denied(DenialKind::Quota);
                }
                state.replaced(&to, replace)?;
                let mut held = state.names[&from].clone();
                state.next += 1;
                held.id = state.next;
                state.names.insert(to.clone(), held);
                Answer::Entry(state.entry(&to, &self.folder)?)
            }
            Ask::Quota { .. } => Answer::Quota { used: 5, available: state.room },
            Ask::Exports => Answer::Exports { told: state.exports.clone(), more: false },
        };
        Ok((answer, None))
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

type Key = (Root, String);

impl State {
    /// `key` and all below it.
    fn below(&self, key: &Key) -> Vec<Key> {
        let folder: EntryPath = key.1.parse().expect("a path");
        let within = |(root, path): &&Key| {
            *root == key.0 && path.parse::<EntryPath>().expect("a path").is_within(&folder)
        };
        self.names.keys().filter(within).cloned().collect()
    }

    fn parent_of(&self, key: &Key) -> Result<(), Denial> {
        match self.names.get(&(key.0, parent(&key.1).into())) {
            Some(Held { content: None, .. }) => Ok(()),
            _ => denied(DenialKind::NoFolder),
        }
    }

    fn replaced(&mut self, key: &Key, replace: bool) -> Result<(), Denial> {
        self.parent_of(key)?;
        if self.names.contains_key(key) && !replace {
            return denied(DenialKind::Exists);
        }
        for gone in self.below(key) {
            self.names.remove(&gone);
        }
        Ok(())
    }

    fn entry(&self, key: &Key, folder: &Path) -> Result<Entry, Denial> {
        let Some(held) = self.names.get(key) else { return denied(DenialKind::NotFound) };
        let what = match held.content {
            None => EntryKind::Folder,
            Some(content) => {
                let path = folder.join(content.to_string());
                let bytes = std::fs::metadata(path).expect("kept").len();
                EntryKind::File { bytes, tag: format!("{content:x}") }
            }
        };
        let name = key.1.rsplit('/').next().filter(|name| !name.is_empty());
        Ok(Entry {
            id: held.id.to_string(),
            name: name.map(|name| name.parse().expect("a name")),
            what,
            created_at: held.at,
            modified_at: held.at,
        })
    }
}

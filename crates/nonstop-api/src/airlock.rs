//! What the airlock's programs ask of `nonstopd`, and what it answers.
//!
//! One unix connection stands for one connection of a client: the first message brings the
//! client's socket, from which the daemon takes who that is, and every later one is answered for
//! that machine or person alone, for as long as the client's connection lives. No message says who
//! asks. File contents never pass here: files are handed over open.

use jiff::Timestamp;
use nonstop_model::{EntryName, EntryPath, EnvironmentId, ExportId, ExportState, Root};
use serde::{Deserialize, Serialize};

/// Entries of one answer: a client that takes its time keeps no more of them in the airlock.
pub const ENTRIES_AT_ONCE: usize = 500;

/// What an airlock's program asks. The first is `Begin`, with the client's socket beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// A client has connected; its socket comes with this. Answered by `Welcome`.
    Begin,
    /// The environments that the client has: a machine's own one, a person's. `Environments`.
    Environments,
    /// What one name holds. `Entry`.
    Look {
        /// The name.
        place: Place,
    },
    /// What lies in a folder, by name: the first [`ENTRIES_AT_ONCE`] of those after `after`; fewer
    /// are the last. `Entries`.
    List {
        /// The folder.
        place: Place,
        /// The last name that was told before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<EntryName>,
    },
    /// A file to read. `Entry`, with the file beside it, open to read.
    Open {
        /// The file.
        place: Place,
    },
    /// A file to write, which is at `place` once it is committed. `Writing`, with a file of no name
    /// beside it, open to write.
    Create {
        /// Where it is to be.
        place: Place,
        /// How long it is going to be, in bytes, where the client has said so.
        bytes: Option<u64>,
    },
    /// The file of `ticket` is written, and closed here. `Entry`: from then on it is at its place,
    /// also after a power cut.
    Commit {
        /// From `Writing`.
        ticket: u64,
    },
    /// Forget what was written. `Done`, also if there is nothing.
    Abandon {
        /// From `Writing`.
        ticket: u64,
    },
    /// Make a folder. `Entry`.
    MakeFolder {
        /// Where; what it lies in is there.
        place: Place,
    },
    /// Remove a file, or a folder with all in it. `Done`.
    Remove {
        /// Which.
        place: Place,
    },
    /// Give a file or folder another name below the same root. `Entry`.
    Move {
        /// Which.
        from: Place,
        /// The new name; what it lies in is there.
        to: EntryPath,
        /// Whether what is there goes away for it.
        replace: bool,
    },
    /// Let a file be at another name, too; for a folder, make the folder alone. `Entry`.
    Copy {
        /// Which.
        from: Place,
        /// The other name below the same root; what it lies in is there.
        to: EntryPath,
        /// Whether what is there goes away for it.
        replace: bool,
    },
    /// How much a root may hold. `Quota`.
    Quota {
        /// The root, by any place in it.
        place: Place,
    },
    /// What became of the exports of the machine's environment, newest first; older ones without what
    /// was found, where there is no room for that. Machines only. `Exports`.
    Exports,
}

/// A name in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Which environment: one of those that the client has.
    pub environment: EnvironmentId,
    /// Which of its trees.
    pub root: Root,
    /// The path there.
    pub path: EntryPath,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "value", rename_all = "snake_case")]
pub enum Answer {
    /// To `Begin`.
    Welcome(Welcome),
    /// To `Environments`, newest first.
    Environments(Vec<EnvironmentName>),
    /// One name.
    Entry(Entry),
    /// Some of what lies in a folder, by name.
    Entries(Vec<Entry>),
    /// To `Create`.
    Writing {
        /// What to commit.
        ticket: u64,
        /// The most bytes that may be written.
        bytes: u64,
    },
    /// To `Quota`, in bytes.
    Quota {
        /// What is held.
        used: u64,
        /// What may come on top.
        available: u64,
    },
    /// To `Exports`.
    Exports {
        /// The newest ones, as many as there is room for.
        told: Vec<ExportTold>,
        /// Whether there are older ones.
        more: bool,
    },
    /// It is done, and stays so.
    Done,
}

/// Who the client is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The name of the lab.
    pub lab: String,
    /// The name of the account, or the machine's role.
    pub client: String,
}

/// An environment that a client has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentName {
    /// Which.
    pub id: EnvironmentId,
    /// Of which template.
    pub template: String,
    /// Since when.
    pub since: Timestamp,
}

/// One name, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Identifies it for as long as it is there, whatever it is called; the same side never sees the
    /// number again for another. What is outside and inside are never the same number's.
    pub id: String,
    /// Its name; empty for a root.
    pub name: Option<EntryName>,
    /// What it is.
    pub what: EntryKind,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub modified_at: Timestamp,
}

/// What a name holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EntryKind {
    /// Other names.
    Folder,
    /// Bytes.
    File {
        /// How many.
        bytes: u64,
        /// Another one for other bytes: an entity tag without its quotes.
        tag: String,
    },
}

/// What became of an export, as its machine is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportTold {
    /// Which.
    pub id: ExportId,
    /// Its name below `export/`.
    pub path: EntryPath,
    /// Which version of that name, from 1.
    pub version: u32,
    /// How far it is.
    pub state: ExportState,
    /// Its bytes.
    pub bytes: u64,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When its state came to be.
    pub changed_at: Timestamp,
    /// What was found; empty before it was screened, and if nothing was.
    pub findings: Vec<FindingTold>,
    /// What a person said to it.
    pub reason: Option<String>,
}

/// What a rule found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingTold {
    /// Which rule.
    pub rule: String,
    /// What it asks for: `pass`, `hold` or `block`.
    pub verdict: String,
    /// What was found, in English.
    pub says: String,
    /// How to mend it, in English; may be empty.
    pub mend: String,
    /// What was found, in Japanese; empty where there is no translation.
    #[serde(default)]
    pub says_ja: String,
    /// How to mend it, in Japanese.
    #[serde(default)]
    pub mend_ja: String,
}

/// Why something was not done. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Denial {
    /// What kind.
    pub kind: DenialKind,
    /// What is wrong, and how to mend it, in a sentence or two.
    pub message: String,
}

/// Kinds of denial; the status that WebDAV has for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenialKind {
    /// Nothing is there, or the client may not know of it (404).
    NotFound,
    /// Something is there already (405, 412).
    Exists,
    /// What it is to lie in is not there, or no folder (409).
    NoFolder,
    /// A folder stands where a file is meant, or the other way round (405, 409).
    WrongKind,
    /// It cannot be written to (403).
    ReadOnly,
    /// The name is not kept (403, with the reason).
    BadName,
    /// It would not fit into what the environment may hold (507).
    Quota,
    /// The lab's disk is nearly full (507).
    NoRoom,
    /// The environment has had more written to the trace than it may for now (507).
    Spent,
    /// Too much at once, or somebody can still write to the file (503).
    Busy,
    /// The client's connection has gone, or the environment has ended (403).
    Gone,
    /// The daemon failed; its log says more (500).
    Failed,
}

/// What came back to an [`Ask`].
pub type Answered = Result<Answer, Denial>;

/// An ask that got no answer, or a denial.
#[derive(Debug, thiserror::Error)]
pub enum AirlockError {
    /// The daemon is not there, or the conversation broke.
    #[error("the conversation with nonstopd broke")]
    Wire(#[from] crate::WireError),
    /// The daemon gave no file, or an answer that does not fit.
    #[error("nonstopd's answer does not fit (are both sides of one version?)")]
    Unfit,
    /// It was not done.
    #[error(transparent)]
    Denied(#[from] Denial),
}

/// The program's end of the conversation about one client.
#[derive(Debug)]
pub struct Session {
    socket: std::os::unix::net::UnixStream,
}

impl Session {
    /// Begins to speak for the client behind `connection`, at the daemon's `socket`.
    ///
    /// Errors: the daemon is not there, or takes nobody to be behind the connection.
    pub fn begin(
        socket: &std::path::Path,
        connection: std::os::fd::BorrowedFd<'_>,
    ) -> Result<(Session, Welcome), AirlockError> {
        let socket =
            std::os::unix::net::UnixStream::connect(socket).map_err(crate::WireError::Io)?;
        let patience = Some(std::time::Duration::from_secs(60));
        socket.set_read_timeout(patience).map_err(crate::WireError::Io)?;
        socket.set_write_timeout(patience).map_err(crate::WireError::Io)?;
        crate::send_with_fd(&socket, &Ask::Begin, connection)?;
        match crate::receive::<Answered>(&socket)?? {
            Answer::Welcome(welcome) => Ok((Session { socket }, welcome)),
            _ => Err(AirlockError::Unfit),
        }
    }

    /// Asks for something that comes without a file. After an error that is no denial the session
    /// is of no use any more.
    pub fn ask(&self, ask: &Ask) -> Result<Answer, AirlockError> {
        crate::send(&self.socket, ask)?;
        Ok(crate::receive::<Answered>(&self.socket)??)
    }

    /// Asks for something that comes with an open file.
    pub fn ask_for_file(&self, ask: &Ask) -> Result<(Answer, std::os::fd::OwnedFd), AirlockError> {
        crate::send(&self.socket, ask)?;
        let (answered, file) = crate::receive_with_fd::<Answered>(&self.socket)?;
        Ok((answered?, file.ok_or(AirlockError::Unfit)?))
    }
}

//! The days of the rdb: loaded beside the live ones, swapped in whole, removed, listed.
//!
//! Each is a short-lived child of `nonstopd` that connects to the writer as the loader, gives up
//! everything but that connection, does one thing and tells how it went. Whatever is killed at
//! whatever moment, a repeat leads on: a load is one transaction, and so is a swap.

mod list;
mod load;
mod part;
pub(crate) mod room;
mod row;
mod swap;

use crate::{
    rdb::{DATABASE, LOADER},
    say::confined,
    user::User,
    wire::{Session, WireError},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use list::{Args as DaysArgs, run as days};
pub use load::{Args as LoadArgs, run as load};
pub use row::Rows;
pub use swap::{DropArgs, SwapArgs, drop_day, swap};

/// Where the writer is, and who to be while speaking with it.
#[derive(Debug, Clone, clap::Args)]
pub struct Writer {
    /// The folder of the writer's socket: RUN/data/DOMAIN/rdb-load.
    #[arg(long, value_name = "DIR")]
    pub socket: PathBuf,
    /// The user to run as once it is connected; by default `nonstop-loader`, and its group.
    #[arg(long, requires = "gid", value_parser = clap::value_parser!(u32).range(1..))]
    pub uid: Option<u32>,
    /// Its group.
    #[arg(long, requires = "uid", value_parser = clap::value_parser!(u32).range(1..))]
    pub gid: Option<u32>,
}

/// A thing that could not be done now; the words say how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotNow(String);

impl From<WireError> for NotNow {
    fn from(e: WireError) -> NotNow {
        let mend = match &e {
            e if e.is_full_disk() => ": free some room on the disk of the state folder",
            WireError::Connect { .. } | WireError::Io(_) => ": is `nonstop-data serve` running?",
            _ => "",
        };
        let mut told = e.to_string();
        let mut source = std::error::Error::source(&e);
        while let Some(cause) = source {
            told = format!("{told}: {cause}");
            source = cause.source();
        }
        NotNow(told + mend)
    }
}

/// Memory of a child, in bytes.
const MEMORY_BYTES: u64 = 256 << 20;

/// System calls beside those that every process needs.
const CALLS: &[i64] = &[
    44,  // sendto: on the one socket that is open
    45,  // recvfrom
    72,  // fcntl: what a debug build asks before it closes a descriptor
    138, // fstatfs: how much room the disk has
    230, // clock_nanosleep: waiting for the reader
];

impl Writer {
    /// Connects as the loader, and is left with that connection; `patience` bounds each answer.
    fn connect(&self, patience: Option<Duration>) -> Result<Session, NotNow> {
        let session = Session::open(&self.socket, LOADER, DATABASE, patience)?;
        self.confine()?;
        Ok(session)
    }

    fn confine(&self) -> Result<(), NotNow> {
        let user = match (self.uid, self.gid) {
            (Some(uid), Some(gid)) => User { uid, gid },
            _ => User::named("nonstop-loader").map_err(|e| NotNow(format!("{e:#}")))?,
        };
        confined(user.uid, user.gid, MEMORY_BYTES, &[CALLS])
            .map_err(|e| NotNow(format!("the child was not let go of its rights: {e}")))
    }
}

/// Waits until machines see what was committed up to now: until the reader has replayed it.
fn await_reader(session: &mut Session) -> Result<(), NotNow> {
    let written = session.ask_one("select parts.written()")?.unwrap_or_default();
    let sql = format!("select parts.replayed() >= {}", crate::wire::quoted(&written));
    let since = std::time::Instant::now();
    while since.elapsed() < READER {
        if session.ask_one(&sql)?.as_deref() == Some("t") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(NotNow(
        "it is committed, but the server that machines read has not followed in a minute: is the \
         disk full? It is tried again"
            .into(),
    ))
}

/// How long the reader may take to follow.
const READER: Duration = Duration::from_secs(60);

/// The folder of the writer's files, asked of it as root.
fn data_folder(socket: &Path) -> Result<PathBuf, WireError> {
    let patience = Some(Duration::from_secs(30));
    let mut session = Session::open(socket, crate::rdb::KEEPER, "postgres", patience)?;
    let folder = session.ask_one("show data_directory")?;
    folder.map(PathBuf::from).ok_or(WireError::Nonsense("no data_directory"))
}

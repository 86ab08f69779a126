//! Which servers of data domains run, and why not: what `nonstop-data serve` writes down, and
//! whoever asks `nonstop check` reads.

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// All servers that are kept running on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Whether every one listens.
    pub ready: bool,
    /// Each of them.
    pub servers: Vec<Served>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The data domain.
    pub domain: String,
    /// Its name there.
    pub server: String,
    /// How far it is.
    pub state: ServedState,
    /// What it said last when it ended; at most 300 bytes, printable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How often it was started again.
    pub restarts: u64,
}

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServedState {
    /// The network of its data domain is not there yet: `nonstopd` makes it.
    Waiting,
    /// It runs, and nothing listens yet at its address and port.
    Starting,
    /// It listens.
    Listens,
    /// It ended, and is started again in a moment.
    Ended,
}

impl Serving {
    /// Where it is written, in the lab whose `run` folder this is.
    pub fn path(run: &Path) -> PathBuf {
        run.join("data/status.json")
    }

    /// The file that `nonstop-data serve` holds locked while it lives.
    pub fn lock(run: &Path) -> PathBuf {
        run.join("data/serve.lock")
    }

    /// What is written there; None unless `nonstop-data serve` runs.
    ///
    /// Errors: it cannot be read.
    pub fn read(run: &Path) -> io::Result<Option<Serving>> {
        const LONGEST: u64 = 1 << 20;
        let lock = match File::open(Serving::lock(run)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        if lock.try_lock_shared().is_ok() {
            return Ok(None);
        }
        let path = Serving::path(run);
        if fs::metadata(&path)?.len() > LONGEST {
            return Err(io::Error::other(format!("{} is too long", path.display())));
        }
        Ok(Some(serde_json::from_slice(&fs::read(path)?)?))
    }
}

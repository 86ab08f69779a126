//! Whether the bytes of each export that the trace speaks of lie in the trace store or in the
//! quarantine and have the hash of their name, or a record of their deletion stands in the trace.

use crate::{
    DELETED, RECEIPT,
    row::{Hash, Row},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Rows that say that an export's bytes are kept.
const KEEPS: [&str; 5] =
    ["export.screened", "export.hold", "export.block", "export.release", RECEIPT];

/// Something about the bytes that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// The trace speaks of an export, its bytes are not there, and no row says that they were deleted.
    Missing {
        /// The hash of its bytes.
        sha256: Hash,
        /// The last export with them.
        export: String,
        /// The row that says so.
        seq: u64,
    },
    /// A file has other bytes than its name says.
    Other {
        /// The file.
        file: PathBuf,
        /// The hash of what it holds.
        found: Hash,
    },
    /// No row of the trace speaks of this file.
    Unknown {
        /// The file.
        file: PathBuf,
    },
    /// A file cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
}

#[derive(Debug)]
struct Wanted {
    export: String,
    seq: u64,
    deleted: bool,
}

/// The bytes of exports, as the trace speaks of them and as they lie.
#[derive(Debug)]
pub struct Contents {
    folders: [PathBuf; 2],
    lying: Vec<PathBuf>,
    wanted: BTreeMap<Hash, Wanted>,
    faults: Vec<Fault>,
}

impl Contents {
    /// What lies in the state folder `state` of a lab: in `trace` and `quarantine/exports`. To be made
    /// before the trace is read: what is exported meanwhile is then no file without a row.
    pub fn list(state: &Path) -> Contents {
        let folders = [state.join("trace"), state.join("quarantine/exports")];
        let (mut lying, mut faults) = (Vec::new(), Vec::new());
        for folder in &folders {
            match fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
                Ok(entries) => lying.extend(entries.into_iter().map(|entry| entry.path())),
                // A lab without exports.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    faults.push(Fault::Unreadable { file: folder.clone(), why: e.to_string() });
                }
            }
        }
        lying.sort();
        Contents { folders, lying, wanted: BTreeMap::new(), faults }
    }

    /// Takes a row of the trace.
    pub fn row(&mut self, row: &Row) {
        let keeps = KEEPS.contains(&row.action.as_str());
        if !keeps && row.action != DELETED {
            return;
        }
        let detail = serde_json::from_str::<serde_json::Value>(&row.detail);
        let Some(sha256) = detail.ok().and_then(|d| d["sha256"].as_str()?.parse::<Hash>().ok())
        else {
            return;
        };
        if keeps {
            let (export, seq) = (row.subject.clone(), row.seq);
            self.wanted.insert(sha256, Wanted { export, seq, deleted: false });
        } else if let Some(wanted) = self.wanted.get_mut(&sha256) {
            wanted.deleted = true;
        }
    }

    /// How many different contents the trace speaks of.
    pub fn known(&self) -> usize {
        self.wanted.len()
    }

    /// Reads every file. `progress` is told of bytes as they are read.
    pub fn check(mut self, mut progress: impl FnMut(u64)) -> Vec<Fault> {
        let mut there = BTreeSet::new();
        for file in std::mem::take(&mut self.lying) {
            let name = file.file_name().and_then(|name| name.to_str());
            let named = name.and_then(|name| name.parse::<Hash>().ok());
            let Some(named) = named.filter(|named| self.wanted.contains_key(named)) else {
                self.faults.push(Fault::Unknown { file });
                continue;
            };
            there.insert(named);
            self.look(file, named, &mut progress);
        }
        let missing: Vec<_> = self.wanted.keys().filter(|h| !there.contains(h)).copied().collect();
        for sha256 in missing {
            // Linked after the folders were listed.
            let late = self.folders.iter().map(|f| f.join(sha256.to_string())).find(|f| f.exists());
            let wanted = &self.wanted[&sha256];
            match late {
                Some(file) => self.look(file, sha256, &mut progress),
                None if wanted.deleted => {}
                None => {
                    let (export, seq) = (wanted.export.clone(), wanted.seq);
                    self.faults.push(Fault::Missing { sha256, export, seq });
                }
            }
        }
        self.faults
    }

    fn look(&mut self, file: PathBuf, named: Hash, progress: &mut impl FnMut(u64)) {
        match hash_of(&file, progress) {
            Ok(found) if found == named => {}
            Ok(found) => self.faults.push(Fault::Other { file, found }),
            // Its deletion is on record, and happened just now.
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.wanted[&named].deleted => {}
            Err(e) => self.faults.push(Fault::Unreadable { file, why: e.to_string() }),
        }
    }
}

/// SHA-256 of a regular file; no link is followed.
pub fn hash_of(path: &Path, progress: &mut impl FnMut(u64)) -> io::Result<Hash> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut file = File::open(path)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Hash(hasher.finalize().into())),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                progress(n as u64);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

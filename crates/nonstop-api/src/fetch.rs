//! What the servers of data domains report of what machines took: lines of JSON to `RUN/data.sock`,
//! without an answer. `nonstopd` adds environment and person.

use serde::{Deserialize, Serialize};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// The longest line, its end included, in bytes.
pub const LONGEST: usize = 512;

/// Where `nonstopd` listens, in the lab whose `run` folder this is.
pub fn socket(run: &Path) -> PathBuf {
    run.join("data.sock")
}

/// One machine took something.
///
/// `bytes` and `requests` are what came on top since the last line with the same address, `what`
/// and hash. The first line of a download is sent before its first byte, others at most once a
/// minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The data domain.
    pub domain: String,
    /// Its server.
    pub server: String,
    /// Who took it: the kernel's word.
    pub address: Ipv4Addr,
    /// What: the name of a file or table; at most 100 bytes, printable.
    pub what: String,
    /// The SHA-256 of the file, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Bytes that were handed to the kernel for it.
    pub bytes: u64,
    /// Requests that were begun.
    pub requests: u64,
}

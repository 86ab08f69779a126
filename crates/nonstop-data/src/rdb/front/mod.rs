//! What machines speak with: it knows them by their address, puts their segment's role in place of
//! whatever name they give, counts their connections, and hands bytes on.
//!
//! It is one process, without rights, files or ways out: [`run`] confines it before it hears the
//! first byte. Descriptor 0 is the listening socket, 1 a socket to the keeper, which makes roles and
//! hands reports on.

mod link;
mod seats;
mod serve;
mod startup;

use ipnet::Ipv4Net;
use nonstop_api::fetch::Fetch;
use nonstop_confine::{ConfineError, Left, MESSAGES, confine};
use serde::{Deserialize, Serialize};
use std::{io, path::PathBuf};

/// What a front is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// The data domain, for reports.
    pub domain: String,
    /// The server's name, for reports.
    pub server: String,
    /// Where segments are: whoever comes from elsewhere gets no answer.
    pub pool: Ipv4Net,
    /// Connections at once of one segment.
    pub connections: u16,
    /// Connections at once of all.
    pub total: u16,
    /// The folder of the reader's socket.
    pub socket: PathBuf,
    /// Who it runs as.
    pub uid: u32,
    /// And its group.
    pub gid: u32,
}

/// What front and keeper say to each other: one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The front needs the role of the segment at this slot.
    Role(u32),
    /// The reader has that role.
    There(u32),
    /// What a machine got.
    Fetch(Fetch),
}

/// A front that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// It could not give up its rights.
    #[error("confine the front")]
    Confine(#[from] ConfineError),
    /// The kernel refused.
    #[error("wait for machines")]
    Io(#[from] io::Error),
}

/// Beside what every process needs: taking connections, and making them to the reader's socket;
/// the network that `connect` sees is an empty one.
const SOCKETS: &[i64] = &[
    41,  // socket
    42,  // connect
    44,  // sendto
    45,  // recvfrom
    48,  // shutdown
    54,  // setsockopt
    55,  // getsockopt
    72,  // fcntl
    16,  // ioctl: not to block
    288, // accept4
];

/// Serves until the keeper is gone.
pub fn run(setup: Setup) -> Result<(), FrontError> {
    confine(Left {
        uid: setup.uid,
        gid: setup.gid,
        memory_bytes: 512 << 20,
        file_bytes: 0,
        files: 4096,
        threads: 0,
        cpu_seconds: None,
        calls: &[MESSAGES, SOCKETS],
    })?;
    serve::serve(setup)
}

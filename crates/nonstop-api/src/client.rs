//! The caller's side of the API.

use crate::{
    request::{ApiError, Reply, Request},
    wire::{self, WireError},
};
use std::{
    os::{fd::BorrowedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

/// A request that got no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens.
    #[error("nonstopd does not answer at {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The conversation broke.
    #[error("the conversation with nonstopd broke")]
    Wire(#[from] WireError),
    /// The daemon said no.
    #[error("{}", .0.message)]
    Refused(ApiError),
}

/// Calls `nonstopd`. Each call opens a connection of its own, so that a daemon that was
/// restarted is found again.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

impl Client {
    /// A client of the daemon behind `socket`, which waits at most 30 s for an answer.
    pub fn new(socket: impl Into<PathBuf>) -> Client {
        Client { socket: socket.into(), timeout: Duration::from_secs(30) }
    }

    /// The same, waiting at most `timeout`.
    pub fn timeout(self, timeout: Duration) -> Client {
        Client { timeout, ..self }
    }

    /// Asks as the user that this process runs as.
    pub fn call(&self, request: &Request) -> Result<Reply, CallError> {
        let socket = self.connect()?;
        wire::send(&socket, request)?;
        answer(&socket)
    }

    /// Asks as the person behind `connection`, an accepted connection to an account's address.
    pub fn call_as(
        &self,
        request: &Request,
        connection: BorrowedFd<'_>,
    ) -> Result<Reply, CallError> {
        let socket = self.connect()?;
        wire::send_with_fd(&socket, request, connection)?;
        answer(&socket)
    }

    fn connect(&self) -> Result<UnixStream, CallError> {
        connect(&self.socket, self.timeout)
            .map_err(|source| CallError::Connect { path: self.socket.clone(), source })
    }
}

fn connect(path: &Path, timeout: Duration) -> std::io::Result<UnixStream> {
    let socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.set_write_timeout(Some(timeout))?;
    Ok(socket)
}

fn answer(socket: &UnixStream) -> Result<Reply, CallError> {
    match wire::receive::<Result<Reply, ApiError>>(socket)? {
        Ok(reply) => Ok(reply),
        Err(error) => Err(CallError::Refused(error)),
    }
}

//! The caller's side of the API.

use crate::{
    request::{ApiError, Reply, Request},
    wire::{self, WireError},
};
use std::{
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
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
    /// The daemon answered without the file that was asked for.
    #[error("nonstopd gave no file (are both sides of one version?)")]
    NoFile,
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

    /// Asks as the user that this process runs as for something that comes as an open file.
    pub fn call_for_file(&self, request: &Request) -> Result<(Reply, OwnedFd), CallError> {
        let socket = self.connect()?;
        wire::send(&socket, request)?;
        answer_with_file(&socket)
    }

    /// The same as the person behind `connection`.
    pub fn call_for_file_as(
        &self,
        request: &Request,
        connection: BorrowedFd<'_>,
    ) -> Result<(Reply, OwnedFd), CallError> {
        let socket = self.connect()?;
        wire::send_with_fd(&socket, request, connection)?;
        answer_with_file(&socket)
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

fn answer_with_file(socket: &UnixStream) -> Result<(Reply, OwnedFd), CallError> {
    match wire::receive_with_fd::<Result<Reply, ApiError>>(socket)? {
        (Ok(reply), Some(file)) => Ok((reply, file)),
        (Ok(_), None) => Err(CallError::NoFile),
        (Err(error), _) => Err(CallError::Refused(error)),
    }
}

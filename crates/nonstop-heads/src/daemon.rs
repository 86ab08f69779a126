//! What is asked of `nonstopd`, and told it: one question a connection.

use nonstop_api::heads::{Answer, Ask, Errand};
use std::{io, os::unix::net::UnixStream, path::PathBuf, time::Duration};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon behind a socket.
#[derive(Debug)]
pub(crate) struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    pub(crate) fn new(socket: PathBuf) -> Daemon {
        Daemon { socket }
    }

    /// What `place` lacks; None if it has all.
    pub(crate) fn errand(&self, place: &str) -> io::Result<Option<Errand>> {
        match self.ask(&Ask::Errands)? {
            Answer::Errands(all) => Ok(all.into_iter().find(|errand| errand.place == place)),
            Answer::Done | Answer::Failed => Err(io::Error::other("it could not say what is due")),
        }
    }

    pub(crate) fn sent(&self, place: &str, seq: u64) -> io::Result<()> {
        self.tell(&Ask::Sent { place: place.into(), seq })
    }

    pub(crate) fn failed(&self, place: &str, why: &str) -> io::Result<()> {
        self.tell(&Ask::Failed { place: place.into(), why: why.into() })
    }

    fn tell(&self, ask: &Ask) -> io::Result<()> {
        match self.ask(ask)? {
            Answer::Done => Ok(()),
            Answer::Errands(_) | Answer::Failed => Err(io::Error::other("it was not recorded")),
        }
    }

    fn ask(&self, ask: &Ask) -> io::Result<Answer> {
        let socket = UnixStream::connect(&self.socket).map_err(|e| {
            io::Error::new(e.kind(), format!("{} does not answer: {e}", self.socket.display()))
        })?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        nonstop_api::send(&socket, ask).map_err(io::Error::other)?;
        nonstop_api::receive(&socket).map_err(io::Error::other)
    }
}

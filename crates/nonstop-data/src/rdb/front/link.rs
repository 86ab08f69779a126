//! One connection of a machine, and the one to the reader behind it.

use super::startup::{Begin, KeyFinder};
use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    os::unix::net::UnixStream,
    time::Instant,
};

/// A machine at the front.
pub(super) struct Link {
    pub(super) client: TcpStream,
    pub(super) address: Ipv4Addr,
    pub(super) slot: u32,
    pub(super) stage: Stage,
    /// Whether it has a place at the reader.
    pub(super) seated: bool,
    pub(super) since: Instant,
    /// When a byte last moved.
    pub(super) moved: Instant,
    /// Bytes that the machine got.
    pub(super) bytes: u64,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    pub(super) server: Option<UnixStream>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) finder: KeyFinder,
}

/// How far it is.
pub(super) enum Stage {
    /// Its first words are being read.
    Greeting(Vec<u8>),
    /// Its role is being made.
    Waiting(Begin, Instant),
    /// Bytes go both ways.
    Open,
    /// What is left goes to the machine, then it ends.
    Closing,
    /// It is over.
    Over,
}

/// Bytes on their way from one side to the other.
#[derive(Default)]
pub(super) struct Pipe {
    bytes: Vec<u8>,
    from: usize,
}

/// Bytes that one side may be ahead of the other.
pub(super) const ROOM: usize = 128 << 10;

impl Pipe {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from == self.bytes.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.is_empty()
    }

    /// Reads what there is into `self`; false at the end. `seen` sees it first.
    pub(super) fn fill(
        &mut self,
        source: &mut impl io::Read,
        buffer: &mut [u8],
        mut seen: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        match source.read(buffer) {
            Ok(0) => Ok(false),
            Ok(n) => {
                seen(&buffer[..n]);
                self.put(&buffer[..n]);
                Ok(true)
            }
            Err(e) if is_later(&e) => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Writes what there is; the bytes that went.
    pub(super) fn drain(&mut self, sink: &mut impl io::Write) -> io::Result<usize> {
        let mut gone = 0;
        while !self.is_empty() {
            match sink.write(&self.bytes[self.from..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.from += n;
                    gone += n;
                }
                Err(e) if is_later(&e) => break,
                Err(e) => return Err(e),
            }
        }
        if self.is_empty() {
            // A connection at rest holds no buffer.
            *self = Pipe::default();
        }
        Ok(gone)
    }
}

fn is_later(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl Link {
    pub(super) fn new(client: TcpStream, address: Ipv4Addr, slot: u32) -> Link {
        let now = Instant::now();
        Link {
            client,
            address,
            slot,
            stage: Stage::Greeting(Vec::new()),
            seated: false,
            since: now,
            moved: now,
            bytes: 0,
            up: Pipe::default(),
            down: Pipe::default(),
            server: None,
            key: None,
            finder: KeyFinder::default(),
        }
    }

    /// Says `message` to the machine and ends.
    pub(super) fn close_with(&mut self, message: &[u8]) {
        self.down.put(message);
        self.server = None;
        self.stage = Stage::Closing;
        self.pump(&mut []);
    }

    /// Moves what can be moved, both ways, by way of `buffer`.
    pub(super) fn pump(&mut self, buffer: &mut [u8]) {
        if self.move_bytes(buffer).is_err() {
            self.stage = Stage::Over;
        }
    }

    fn move_bytes(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if let Stage::Open = self.stage
            && let Some(server) = &mut self.server
        {
            let moved = &mut self.moved;
            if self.up.has_room()
                && !self.up.fill(&mut self.client, buffer, |_| *moved = Instant::now())?
            {
                // Who hangs up wants no answer.
                self.stage = Stage::Over;
                return Ok(());
            }
            self.up.drain(server)?;
            let (finder, key) = (&mut self.finder, &mut self.key);
            let more = !self.down.has_room()
                || self.down.fill(server, buffer, |bytes| {
                    if let Some(found) = finder.look(bytes) {
                        *key = Some(found);
                    }
                })?;
            if !more {
                self.server = None;
                self.stage = Stage::Closing;
            }
        }
        let gone = self.down.drain(&mut self.client)?;
        if gone > 0 {
            self.bytes += gone as u64;
            self.moved = Instant::now();
        }
        if matches!(self.stage, Stage::Closing) && self.down.is_empty() {
            // An unread byte of the machine's would turn the end into a reset, and the words
            // before it might be lost.
            let _ = self.client.shutdown(std::net::Shutdown::Write);
            let mut rest = [0; 4096];
            while matches!(self.client.read(&mut rest), Ok(1..)) {}
            self.stage = Stage::Over;
        }
        Ok(())
    }

    /// Whether bytes are expected of the machine.
    pub(super) fn hears_client(&self) -> bool {
        match self.stage {
            Stage::Greeting(_) => true,
            Stage::Open => self.up.has_room(),
            Stage::Waiting(..) | Stage::Closing | Stage::Over => false,
        }
    }

    /// Whether bytes are expected of the reader.
    pub(super) fn hears_server(&self) -> bool {
        matches!(self.stage, Stage::Open) && self.down.has_room()
    }
}

/// Says `message`, the first, to a reader: it fits the socket's buffer.
pub(super) fn say(server: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    server.write_all(message)
}

//! The front as the keeper sees it: a confined child, and words on a socket between them.

use crate::rdb::{
    front::{Setup, Word},
    places::Places,
    process::Kept,
};
use anyhow::Context as _;
use nonstop_model::{Lab, Resource};
use rustix::process::{Pid, Signal};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddrV4, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::{Command, Stdio},
};

/// The listening socket outlives the front: who connects while it starts again waits.
pub(crate) struct FrontChild {
    setup: Setup,
    address: SocketAddrV4,
    listener: Option<TcpListener>,
    kept: Kept,
    words: Option<UnixStream>,
    heard: Vec<u8>,
}

/// The longest word of the front's, in bytes.
const LONGEST: usize = 1024;

impl FrontChild {
    pub(crate) fn new(lab: &Lab, domain: &str, places: &Places) -> anyhow::Result<FrontChild> {
        let data = &lab.data_domains[domain];
        let (name, server) = data
            .server_of(Resource::Rdb)
            .with_context(|| format!("data domain `{domain}` has no server that offers rdb"))?;
        let port = *server.tcp.first().expect("the lab was checked: one TCP port");
        Ok(FrontChild {
            setup: Setup {
                domain: domain.into(),
                server: name.into(),
                pool: lab.network.pool,
                connections: data.rdb.connections,
                total: 256,
                socket: places.read.clone(),
                uid: places.front.uid,
                gid: places.front.gid,
            },
            address: SocketAddrV4::new(server.address, port),
            listener: None,
            kept: Kept::new("front"),
            words: None,
            heard: Vec::new(),
        })
    }

    /// Starts it if it is due.
    pub(crate) fn keep(&mut self) {
        if !self.kept.is_due() {
            return;
        }
        if let Err(e) = self.start() {
            eprintln!("{e:#}");
            self.kept.failed();
        }
    }

    fn start(&mut self) -> anyhow::Result<()> {
        if self.listener.is_none() {
            let listener = TcpListener::bind(self.address)
                .with_context(|| format!("listen at {}", self.address))?;
            listener.set_nonblocking(true)?;
            self.listener = Some(listener);
        }
        let listener = self.listener.as_ref().expect("made above").try_clone()?;
        let (ours, theirs) = UnixStream::pair().context("make a pair of sockets")?;
        ours.set_nonblocking(true)?;
        let program: PathBuf = std::env::current_exe().context("find our own program")?;
        let mut command = Command::new(program);
        command
            .arg("rdb-front")
            .arg(serde_json::to_string(&self.setup).context("say what the front is to do")?)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::from(OwnedFd::from(theirs)));
        self.kept.start(command)?;
        self.words = Some(ours);
        self.heard.clear();
        Ok(())
    }

    /// Takes note of an end; whether it was this one's.
    pub(crate) fn ended(&mut self, pid: Pid) -> bool {
        let ours = self.kept.ended(pid);
        if ours {
            self.words = None;
        }
        ours
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.kept.signal(signal);
    }

    /// The socket of its words, to wait on.
    pub(crate) fn socket(&self) -> Option<&UnixStream> {
        self.words.as_ref()
    }

    /// What it has said.
    pub(crate) fn hear(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        let Some(socket) = &mut self.words else { return words };
        let mut buffer = [0; 4096];
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => self.heard.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => break,
            }
            while let Some(end) = self.heard.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                words.extend(serde_json::from_slice::<Word>(&line));
            }
            // It talks with machines: what it says is not believed.
            if self.heard.len() > LONGEST || words.len() > 1000 {
                self.heard.clear();
                break;
            }
        }
        words
    }

    /// Tells it something. One that does not listen misses it.
    pub(crate) fn tell(&mut self, word: &Word) {
        if let Some(socket) = &mut self.words
            && let Ok(mut line) = serde_json::to_vec(word)
        {
            line.push(b'\n');
            // A word fits the socket's buffer or is lost as a whole; the front asks again.
            let _ = socket.write(&line);
        }
    }
}

//! The loop: one thread waits for all machines at once.

use super::{
    FrontError, Setup, Word,
    link::{Link, ROOM, Stage, say},
    seats::Seats,
    startup::{self, First, cancel, refusal},
};
use crate::wire::SOCKET;
use nonstop_api::fetch::Fetch;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::{AsFd as _, OwnedFd},
    net::sockopt,
};
use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

/// How long a machine's first words may take.
const GREETING: Duration = Duration::from_secs(10);

/// How long it waits for its role.
const ROLE: Duration = Duration::from_secs(20);

/// How long a connection may be at rest, or what a machine does not fetch may wait.
const REST: Duration = Duration::from_secs(3600);

/// How often a machine's bytes are reported.
const REPORT: Duration = Duration::from_secs(60);

pub(super) fn serve(setup: Setup) -> Result<(), FrontError> {
    let listener = TcpListener::from(given(rustix::stdio::stdin())?);
    let keeper = UnixStream::from(given(rustix::stdio::stdout())?);
    listener.set_nonblocking(true)?;
    keeper.set_nonblocking(true)?;
    Front {
        seats: Seats::new(setup.connections, setup.total),
        setup,
        listener,
        keeper,
        heard: Vec::new(),
        links: Vec::new(),
        roles: BTreeMap::new(),
        taken: BTreeMap::new(),
        buffer: vec![0; ROOM],
    }
    .run()
}

fn given(fd: impl rustix::fd::AsFd) -> Result<OwnedFd, FrontError> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(std::io::Error::from)?)
}

struct Front {
    setup: Setup,
    listener: TcpListener,
    keeper: UnixStream,
    heard: Vec<u8>,
    links: Vec<Link>,
    seats: Seats,
    /// Roles that the reader has, or when they were last asked for.
    roles: BTreeMap<u32, Role>,
    /// What machines got, and when that was last reported.
    taken: BTreeMap<Ipv4Addr, Taken>,
    buffer: Vec<u8>,
}

enum Role {
    There,
    Asked(Instant),
}

struct Taken {
    bytes: u64,
    requests: u64,
    reported: Option<Instant>,
}

impl Front {
    fn run(mut self) -> Result<(), FrontError> {
        loop {
            self.wait()?;
            if !self.hear_keeper()? {
                return Ok(());
            }
            self.accept()?;
            for n in 0..self.links.len() {
                self.advance(n);
            }
            self.close();
            self.report();
        }
    }

    fn wait(&self) -> Result<(), FrontError> {
        let mut polled = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.keeper, PollFlags::IN),
        ];
        for link in &self.links {
            let mut client = PollFlags::empty();
            client.set(PollFlags::IN, link.hears_client());
            client.set(PollFlags::OUT, !link.down.is_empty());
            // With nothing to wait for, the kernel still tells of a hang-up, again and again:
            // only who can act on it is looked at.
            if !client.is_empty() {
                polled.push(PollFd::new(&link.client, client));
            }
            if let Some(server) = &link.server {
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::IN, link.hears_server());
                flags.set(PollFlags::OUT, !link.up.is_empty());
                if !flags.is_empty() {
                    polled.push(PollFd::new(server, flags));
                }
            }
        }
        match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 500_000_000 })) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(std::io::Error::from(e).into()),
        }
    }

    /// Whether the keeper is there.
    fn hear_keeper(&mut self) -> Result<bool, FrontError> {
        let mut bytes = [0; 4096];
        match self.keeper.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(n) => self.heard.extend_from_slice(&bytes[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
        while let Some(end) = self.heard.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            if let Ok(Word::There(slot)) = serde_json::from_slice(&line) {
                self.roles.insert(slot, Role::There);
            }
        }
        Ok(true)
    }

    /// Says a word to the keeper; whether it went.
    fn tell(&self, word: &Word) -> bool {
        let Ok(mut line) = serde_json::to_vec(word) else { return false };
        line.push(b'\n');
        // A short line fits the socket's buffer as a whole or not at all.
        matches!((&self.keeper).write(&line), Ok(n) if n == line.len())
    }

    fn accept(&mut self) -> Result<(), FrontError> {
        // In turns: who floods waits with the others.
        for _ in 0..64 {
            let (client, from) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                // It hung up, or there are no descriptors: others may have some in a moment.
                Err(_) => break,
            };
            let IpAddr::V4(address) = from.ip() else { continue };
            if !self.setup.pool.contains(&address) {
                continue;
            }
            let slot = (u32::from(address) - u32::from(self.setup.pool.network())) >> 4;
            if !self.seats.enter(slot) {
                continue;
            }
            match make_ready(&client) {
                Ok(()) => self.links.push(Link::new(client, address, slot)),
                Err(_) => self.seats.leave(slot, false),
            }
        }
        Ok(())
    }

    fn advance(&mut self, n: usize) {
        let link = &mut self.links[n];
        match &mut link.stage {
            Stage::Greeting(_) => self.greet(n),
            Stage::Waiting(..) => self.await_role(n),
            Stage::Open | Stage::Closing => link.pump(&mut self.buffer),
            Stage::Over => {}
        }
        let link = &mut self.links[n];
        let late = match &link.stage {
            Stage::Greeting(_) => link.since.elapsed() > GREETING,
            Stage::Waiting(_, since) => since.elapsed() > ROLE,
            Stage::Open => link.moved.elapsed() > REST,
            Stage::Closing => link.moved.elapsed() > GREETING,
            Stage::Over => false,
        };
        if late {
            match &link.stage {
                Stage::Waiting(..) => {
                    link.close_with(&refusal("57P03", "the server starts: try again in a minute"));
                }
                _ => link.stage = Stage::Over,
            }
        }
    }

    fn greet(&mut self, n: usize) {
        let link = &mut self.links[n];
        let Stage::Greeting(seen) = &mut link.stage else { return };
        let room = &mut self.buffer[..startup::LONGEST + 1 - seen.len()];
        match link.client.read(room) {
            Ok(0) => {
                link.stage = Stage::Over;
                return;
            }
            Ok(read) => seen.extend_from_slice(&room[..read]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            Err(_) => {
                link.stage = Stage::Over;
                return;
            }
        }
        match startup::first(seen) {
            First::Torn => {}
            First::Encryption(length) => {
                // Nothing is said before the answer, or it would be taken for encrypted.
                let whole = seen.len() == length;
                seen.clear();
                if !whole || !matches!(link.client.write(b"N"), Ok(1)) {
                    link.stage = Stage::Over;
                }
            }
            First::Nonsense => link.stage = Stage::Over,
            First::Refused(words) => link.close_with(&refusal("28000", &words)),
            First::Cancel(key) => self.cancel(n, &key),
            First::Begin(begin) => match self.seats.sit(link.slot) {
                Ok(()) => {
                    link.seated = true;
                    link.stage = Stage::Waiting(begin, Instant::now());
                    self.await_role(n);
                }
                Err(full) => link.close_with(&refusal("53300", &full.told())),
            },
        }
    }

    /// Ends the query of a connection, if it is one of the same segment.
    fn cancel(&mut self, n: usize, key: &[u8]) {
        let slot = self.links[n].slot;
        let own = self.links.iter().any(|l| l.slot == slot && l.key.as_deref() == Some(key));
        if own && let Ok(mut server) = connect(&self.setup.socket) {
            // Whether it was heard is told to no client of PostgreSQL's.
            let _ = say(&mut server, &cancel(key));
        }
        self.links[n].stage = Stage::Over;
    }

    fn await_role(&mut self, n: usize) {
        let slot = self.links[n].slot;
        match self.roles.get(&slot) {
            Some(Role::There) => self.open(n),
            Some(Role::Asked(at)) if at.elapsed() < Duration::from_millis(200) => {}
            _ => {
                if self.tell(&Word::Role(slot)) {
                    self.roles.insert(slot, Role::Asked(Instant::now()));
                }
            }
        }
    }

    fn open(&mut self, n: usize) {
        let link = &mut self.links[n];
        let Stage::Waiting(begin, _) = &link.stage else { return };
        let connected = connect(&self.setup.socket).and_then(|mut server| {
            say(&mut server, &begin.message(link.slot))?;
            Ok(server)
        });
        // Where it does not answer it starts again: tried until patience ends.
        if let Ok(server) = connected {
            link.server = Some(server);
            link.stage = Stage::Open;
            link.moved = Instant::now();
            let nothing = Taken { bytes: 0, requests: 0, reported: None };
            self.taken.entry(link.address).or_insert(nothing).requests += 1;
        }
    }

    fn close(&mut self) {
        for link in &mut self.links {
            let bytes = std::mem::take(&mut link.bytes);
            if bytes > 0
                && let Some(taken) = self.taken.get_mut(&link.address)
            {
                taken.bytes += bytes;
            }
        }
        let (seats, links) = (&mut self.seats, &mut self.links);
        links.retain(|link| {
            let over = matches!(link.stage, Stage::Over);
            if over {
                seats.leave(link.slot, link.seated);
            }
            !over
        });
    }

    /// Reports the first connection of a machine at once, and then at most once a minute.
    fn report(&mut self) {
        let due: Vec<Ipv4Addr> = self
            .taken
            .iter()
            .filter(|(_, t)| t.reported.is_none_or(|at| at.elapsed() > REPORT))
            .map(|(address, _)| *address)
            .collect();
        for address in due {
            let Some(taken) = self.taken.get_mut(&address) else { continue };
            if (taken.bytes, taken.requests) == (0, 0) {
                self.taken.remove(&address);
                continue;
            }
            let fetch = Fetch {
                domain: self.setup.domain.clone(),
                server: self.setup.server.clone(),
                address,
                what: "connection".into(),
                sha256: None,
                bytes: std::mem::take(&mut taken.bytes),
                requests: std::mem::take(&mut taken.requests),
            };
            taken.reported = Some(Instant::now());
            let (bytes, requests) = (fetch.bytes, fetch.requests);
            if !self.tell(&Word::Fetch(fetch))
                && let Some(taken) = self.taken.get_mut(&address)
            {
                // Told with the next one.
                taken.bytes += bytes;
                taken.requests += requests;
            }
        }
    }
}

/// Connects to the reader, or does not: with one that hangs, nobody else waits.
fn connect(folder: &Path) -> std::io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(folder.join(SOCKET))?)?;
    Ok(UnixStream::from(socket))
}

/// Not to block, not to wait for more bytes, and to notice a machine that is gone.
fn make_ready(client: &TcpStream) -> std::io::Result<()> {
    client.set_nonblocking(true)?;
    client.set_nodelay(true)?;
    let fd = client.as_fd();
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(fd, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(fd, 3)?;
    Ok(())
}

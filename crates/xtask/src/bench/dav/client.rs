//! What clients do: connections at once, each a thread that writes or reads files.

use super::{GOAL, servers::Servers};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddrV4, TcpStream},
    path::Path,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

const MIB: u64 = 1 << 20;
/// How long what was written may take to be screened.
const PATIENCE: Duration = Duration::from_secs(300);

/// One comparison.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    pub(super) goal: Option<f64>,
    /// What the names of its files begin with.
    name: &'static str,
    connections: usize,
    /// Of each connection.
    files: usize,
    bytes: u64,
    writes: bool,
}

impl Load {
    /// All, in the order in which they are measured: what is read was written before.
    pub(super) fn all() -> Vec<Load> {
        let of = |what, name, connections, files, bytes: u64, writes, goal| Load {
            what,
            unit: if bytes < MIB { "files/s" } else { "MB/s" },
            goal,
            name,
            connections,
            files,
            bytes,
            writes,
        };
        let (two, four) = (2_000_000_000, 4 * MIB);
        vec![
            of("PUT of 2 GB", "big", 1, 1, two, true, Some(GOAL)),
            of("GET of 2 GB, screened and released", "big", 1, 1, two, false, Some(GOAL)),
            of("PUT of 100 files of 4 KiB, 1 client", "small", 1, 100, 4096, true, None),
            of("PUT of 200 files of 4 KiB, 8 clients", "eight", 8, 25, 4096, true, None),
            of("PUT of 4 MiB each by 100 clients at once", "many", 100, 1, four, true, None),
            of("GET of 4 MiB each by 100 clients at once", "many", 100, 1, four, false, None),
        ]
    }

    /// Whether it reads.
    pub(super) fn gets(&self) -> bool {
        !self.writes
    }

    fn file(&self, connection: usize, number: usize) -> String {
        format!("{}-{connection}-{number}.csv", self.name)
    }
}

/// MB, or files, a second, of ours or of nginx.
pub(super) fn measure(load: &Load, servers: &Servers, ours: bool, round: usize) -> Result<f64> {
    let (server, folder) = match (ours, load.writes) {
        (true, true) => (servers.inside(), "/export/"),
        (true, false) => (servers.outside(), "/dav/e1/export/"),
        (false, _) => (servers.peer(), "/"),
    };
    let (start, files) = (Barrier::new(load.connections + 1), servers.peer_files());
    let client = |connection: usize| -> Result<()> {
        let mut talk = Talk::new(server);
        start.wait();
        let talk = talk.as_mut().map_err(|e| anyhow!("{e:#}"))?;
        for number in 0..load.files {
            let name = load.file(connection, number);
            if load.writes {
                // Other bytes each time, or it would be no other version.
                let first = format!("{ours},{round},{name}\n");
                talk.put(&format!("{folder}{name}"), load.bytes, first.as_bytes())?;
                if !ours {
                    synced(&files, &name)?;
                }
            } else {
                talk.get(&format!("{folder}{name}"), load.bytes)?;
            }
        }
        Ok(())
    };
    let client = &client;
    let took = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..load.connections).map(|number| scope.spawn(move || client(number))).collect();
        start.wait();
        let begun = Instant::now();
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        anyhow::Ok(begun.elapsed())
    })?;
    if ours && load.writes {
        settled(servers)?;
    }
    let files = (load.connections * load.files) as f64;
    let amount = if load.bytes < MIB { files } else { files * load.bytes as f64 / 1e6 };
    Ok(amount / took.as_secs_f64())
}

/// What nginx's client has to do for what ours promises before it answers.
fn synced(folder: &Path, name: &str) -> Result<()> {
    File::open(folder.join(name))?.sync_all().context("fsync the file")?;
    File::open(folder)?.sync_all().context("fsync the folder")
}

/// Waits until all that was written was screened.
fn settled(servers: &Servers) -> Result<()> {
    let begun = Instant::now();
    // A name is quiet for a second before it is an export.
    thread::sleep(Duration::from_millis(1600));
    loop {
        let told = Talk::new(servers.inside())?.text("/status.json")?;
        let busy = ["\"submitted\"", "\"screening\""].iter().any(|state| told.contains(state));
        if !busy {
            ensure!(!told.contains("\"held\""), "what was written is held: {told:.2000}");
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "what was written is still not screened");
        thread::sleep(Duration::from_millis(200));
    }
}

/// A connection.
struct Talk {
    stream: TcpStream,
    server: SocketAddrV4,
    buffer: Vec<u8>,
    text: Vec<u8>,
}

impl Talk {
    fn new(server: SocketAddrV4) -> Result<Talk> {
        let stream = TcpStream::connect(server).context("connect")?;
        stream.set_nodelay(true)?;
        let line =
            |n: u32| format!("{n},10.{}.{}.7,{}\n", n % 256, n / 256 % 256, n * 7919 % 65_536);
        let text: String = (0..40_000).map(line).collect();
        Ok(Talk { stream, server, buffer: vec![0; 256 << 10], text: text.into_bytes() })
    }

    /// Writes a text of `bytes`, which begins with `first`.
    fn put(&mut self, path: &str, bytes: u64, first: &[u8]) -> Result<()> {
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {bytes}\r\n\r\n",
            self.server
        );
        self.stream.write_all(head.as_bytes()).context("ask")?;
        self.stream.write_all(first).context("write")?;
        let mut left = usize::try_from(bytes)? - first.len();
        while left > 0 {
            let piece = left.min(self.text.len());
            self.stream.write_all(&self.text[..piece]).context("write")?;
            left -= piece;
        }
        let (head, _) = self.head()?;
        ensure!(head.starts_with("HTTP/1.1 20"), "PUT {path}: {head}");
        Ok(())
    }

    /// Reads a file of `bytes`, and throws it away.
    fn get(&mut self, path: &str, bytes: u64) -> Result<()> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.server);
        self.stream.write_all(head.as_bytes()).context("ask")?;
        let (head, had) = self.head()?;
        ensure!(head.starts_with("HTTP/1.1 200"), "GET {path}: {head}");
        let mut left = bytes - had.len() as u64;
        while left > 0 {
            match self.stream.read(&mut self.buffer).context("read")? {
                0 => bail!("GET {path} broke off"),
                got => left = left.checked_sub(got as u64).context("more than was asked for")?,
            }
        }
        Ok(())
    }

    /// Reads a short text, with the last request of the connection.
    fn text(mut self, path: &str) -> Result<String> {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.server);
        self.stream.write_all(head.as_bytes()).context("ask")?;
        let mut all = Vec::new();
        self.stream.read_to_end(&mut all).context("read")?;
        Ok(String::from_utf8_lossy(&all).into_owned())
    }

    /// The head of an answer, and what came with it.
    fn head(&mut self) -> Result<(String, Vec<u8>)> {
        let mut had = Vec::new();
        loop {
            match self.stream.read(&mut self.buffer).context("read a head")? {
                0 => bail!("the server ended the connection"),
                got => had.extend_from_slice(&self.buffer[..got]),
            }
            if let Some(at) = had.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = had.split_off(at + 4);
                return Ok((String::from_utf8_lossy(&had).into_owned(), rest));
            }
        }
    }
}

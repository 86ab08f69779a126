//! What a machine does: some connections at once, each a thread that reads and throws away.

use super::{
    super::{look::in_network, routed::Routed},
    BIG, GIB, SMALL, SPELL,
};
use anyhow::{Context, Result, anyhow, bail};
use std::{
    io::{Read, Write},
    net::{SocketAddrV4, TcpStream},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// What is asked for, again and again on the same connections.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    /// The big day, for a spell, each time on a new connection: how fast one is depends on the
    /// processors that the kernel has put its two ends on, and stays so.
    Whole,
    /// 1 MiB of the big day, from places all over it.
    Ranges,
    /// The head of the big day, for a spell.
    Head,
    /// The small day, for a spell.
    Small,
}

/// One comparison.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    pub(super) connections: usize,
    pub(super) ask: Ask,
    pub(super) goal: Option<f64>,
}

/// Ranges that each connection asks for.
const RANGES: u64 = 256;
const MIB: u64 = 1 << 20;
/// Requests of one connection: both servers end it after a thousand.
const OF_ONE: u64 = 900;

impl Load {
    /// MB, or requests, a second.
    pub(super) fn measure(&self, routed: &Routed, server: SocketAddrV4, ours: bool) -> Result<f64> {
        let start = Barrier::new(self.connections + 1);
        let client = &|number| {
            let asks = move |day: &str| match ours {
                true => format!("/{day}.pcap"),
                // nginx is asked for the file where it lies.
                false => format!("/{day}/{day}.pcap"),
            };
            let connection = Connection::new(routed.machine(), server);
            start.wait();
            self.run(connection?, number, asks)
        };
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..self.connections).map(|number| scope.spawn(move || client(number))).collect();
            start.wait();
            let begun = Instant::now();
            let mut sum = 0.0;
            for client in clients {
                sum += client.join().map_err(|_| anyhow!("a client panicked"))?? as f64;
            }
            Ok(sum / begun.elapsed().as_secs_f64())
        })
    }

    /// MB, or requests, in all.
    fn run(
        &self,
        mut connection: Connection,
        number: usize,
        path: impl Fn(&str) -> String,
    ) -> Result<u64> {
        let until = Instant::now() + SPELL;
        match self.ask {
            Ask::Whole => {
                let mut bytes = connection.ask("GET", &path(BIG), "")?;
                while Instant::now() < until {
                    connection.again()?;
                    bytes += connection.ask("GET", &path(BIG), "")?;
                }
                Ok(bytes / 1_000_000)
            }
            Ask::Ranges => {
                let mut bytes = 0;
                for n in 0..RANGES {
                    let at = (n * 131 + number as u64 * 517) * 7 % (GIB / MIB) * MIB;
                    let range = format!("Range: bytes={at}-{}\r\n", at + MIB - 1);
                    bytes += connection.ask("GET", &path(BIG), &range)?;
                }
                Ok(bytes / 1_000_000)
            }
            Ask::Head | Ask::Small => {
                let (method, day) = match self.ask {
                    Ask::Head => ("HEAD", BIG),
                    _ => ("GET", SMALL),
                };
                let (path, mut count) = (path(day), 0);
                while Instant::now() < until {
                    if count % OF_ONE == OF_ONE - 1 {
                        connection.again()?;
                    }
                    connection.ask(method, &path, "")?;
                    count += 1;
                }
                Ok(count)
            }
        }
    }
}

/// A connection to a server out of a machine's network.
struct Connection {
    machine: u32,
    server: SocketAddrV4,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn new(machine: u32, server: SocketAddrV4) -> Result<Connection> {
        let stream = open(machine, server)?;
        Ok(Connection { machine, server, stream, buffer: vec![0; 256 << 10] })
    }

    /// The same anew.
    fn again(&mut self) -> Result<()> {
        self.stream = open(self.machine, self.server)?;
        Ok(())
    }

    /// Asks, reads the answer to its end; gives the bytes of its body.
    fn ask(&mut self, method: &str, path: &str, fields: &str) -> Result<u64> {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: pcap\r\n{fields}\r\n");
        self.stream.write_all(head.as_bytes()).context("ask")?;
        let mut had = 0;
        let end = loop {
            match self.stream.read(&mut self.buffer[had..]).context("read a head")? {
                0 => bail!("the server ended the connection"),
                n => had += n,
            }
            if let Some(at) = self.buffer[..had].windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 20") {
            bail!("the server said {head}");
        }
        if method == "HEAD" {
            return Ok(0);
        }
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: u64 = length.context("a length")?.trim().parse()?;
        let mut left = length - (had - end) as u64;
        while left > 0 {
            match self.stream.read(&mut self.buffer).context("read a body")? {
                0 => bail!("the server ended the connection"),
                n => left -= n as u64,
            }
        }
        Ok(length)
    }
}

fn open(machine: u32, server: SocketAddrV4) -> Result<TcpStream> {
    let connect = || Ok(TcpStream::connect_timeout(&server.into(), Duration::from_secs(5))?);
    let stream = in_network(machine, connect).context("connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

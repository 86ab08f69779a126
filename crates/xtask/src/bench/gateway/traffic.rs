//! What goes through tunnels: bytes without end one way, or a key's way and back.

use super::ground::Through;
use crate::bench::look::in_network;
use anyhow::{Context, Result};
use std::{
    fmt,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Which way bulk goes, as seen by the researcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Down,
    Up,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Down => "down",
            Way::Up => "up",
        })
    }
}

/// Answers each connection by its first byte: `d` with bytes without end, `u` by counting, and
/// telling every 50 ms, what arrives, `e` with an echo.
pub(super) fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            // A client that ends is the usual end.
            let _ended = answer(stream);
        });
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut kind, mut bytes) = ([0], vec![0; 64 << 10]);
    stream.read_exact(&mut kind)?;
    let (mut arrived, mut told) = (0_u64, Instant::now());
    loop {
        if kind[0] == b'd' {
            stream.write_all(&bytes)?;
            continue;
        }
        let read = match stream.read(&mut bytes)? {
            0 => return Ok(()),
            read => read,
        };
        if kind[0] == b'e' {
            stream.write_all(&bytes[..read])?;
        } else {
            arrived += read as u64;
            if told.elapsed() > Duration::from_millis(50) {
                stream.write_all(&arrived.to_be_bytes())?;
                told = Instant::now();
            }
        }
    }
}

fn connect(tunnel: &Through, kind: u8) -> Result<TcpStream> {
    let to = (Ipv4Addr::LOCALHOST, tunnel.port);
    let mut stream = in_network(tunnel.place, || TcpStream::connect(to).context("connect"))?;
    stream.set_nodelay(true)?;
    stream.write_all(&[kind])?;
    Ok(stream)
}

/// A transfer under way; it ends when dropped. What counts is what has arrived.
pub(super) struct Bulk {
    stream: TcpStream,
    arrived: Arc<AtomicU64>,
}

impl Drop for Bulk {
    fn drop(&mut self) {
        let _ended_already = self.stream.shutdown(Shutdown::Both);
    }
}

impl Bulk {
    /// Begins one through `tunnel`.
    pub(super) fn start(tunnel: &Through, way: Way) -> Result<Bulk> {
        let stream = connect(tunnel, if way == Way::Down { b'd' } else { b'u' })?;
        let arrived = Arc::new(AtomicU64::new(0));
        let (mut reads, counted) = (stream.try_clone()?, Arc::clone(&arrived));
        thread::spawn(move || {
            let mut bytes = vec![0; 64 << 10];
            match way {
                Way::Down => {
                    while let Ok(read @ 1..) = reads.read(&mut bytes) {
                        counted.fetch_add(read as u64, Relaxed);
                    }
                }
                Way::Up => {
                    let mut count = [0; 8];
                    while reads.read_exact(&mut count).is_ok() {
                        counted.store(u64::from_be_bytes(count), Relaxed);
                    }
                }
            }
        });
        if way == Way::Up {
            let mut writes = stream.try_clone()?;
            thread::spawn(move || {
                let bytes = vec![0; 64 << 10];
                while writes.write_all(&bytes).is_ok() {}
            });
        }
        Ok(Bulk { stream, arrived })
    }
}

/// Mbit/s of each of `bulks` over `spell` from now.
pub(super) fn rates(bulks: &[Bulk], spell: Duration) -> Vec<f64> {
    let read = || bulks.iter().map(|bulk| bulk.arrived.load(Relaxed)).collect::<Vec<_>>();
    let (begun, before) = (Instant::now(), read());
    thread::sleep(spell);
    let after = read();
    let seconds = begun.elapsed().as_secs_f64();
    let rate = |(before, after): (&u64, &u64)| (after - before) as f64 * 8.0 / 1e6 / seconds;
    before.iter().zip(&after).map(rate).collect()
}

/// Times of echoes through `tunnel` for five seconds, beside a transfer that has been going for three.
pub(super) fn echoes(tunnel: &Through, beside: Option<Way>) -> Result<Vec<Duration>> {
    let _bulk = beside.map(|way| Bulk::start(tunnel, way)).transpose()?;
    let mut stream = connect(tunnel, b'e')?;
    if beside.is_some() {
        thread::sleep(Duration::from_secs(3));
    }
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(5) {
        let sent = Instant::now();
        stream.write_all(b"key").context("send a key")?;
        stream.read_exact(&mut [0; 3]).context("read its echo")?;
        times.push(sent.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(times)
}

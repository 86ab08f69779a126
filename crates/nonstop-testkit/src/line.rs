//! A line between two places: so many bytes a second each way, a delay, and a count. In user
//! space, since not every kernel can shape traffic (`netem`).

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    collections::VecDeque,
    fs::File,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// What a line is made of.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Bytes a second each way; None for as many as come.
    pub bytes_a_second: Option<u64>,
    /// From one end to the other.
    pub delay: Duration,
}

impl Kind {
    /// One that only counts.
    pub const COUNTING: Kind = Kind { bytes_a_second: None, delay: Duration::ZERO };

    /// The thin line of a home far away: 10 Mbit/s, and 50 ms each way.
    pub const THIN: Kind =
        Kind { bytes_a_second: Some(10_000_000 / 8), delay: Duration::from_millis(50) };
}

/// A port that leads to another. It stays until the process ends.
#[derive(Debug)]
pub struct Line {
    /// The near end.
    pub address: SocketAddr,
    /// Bytes that went from the far end to the near one.
    pub down: Arc<AtomicU64>,
    /// When the last client connected.
    connected: Arc<Mutex<Option<Instant>>>,
}

impl Line {
    /// A line to `to`, both ends in the network of the process `holder`; None for ours.
    pub fn new(holder: Option<u32>, to: SocketAddr, kind: Kind) -> Result<Line> {
        let (down, connected) = (Arc::<AtomicU64>::default(), Arc::default());
        let (counted, times) = (Arc::clone(&down), Arc::clone(&connected));
        let (laid, told) = mpsc::channel();
        thread::spawn(move || {
            let listener = lay(holder);
            let address = listener
                .as_ref()
                .map_err(|e| format!("{e:#}"))
                .and_then(|listener| listener.local_addr().map_err(|e| e.to_string()));
            let gone = laid.send(address).is_err();
            if let (Ok(listener), false) = (listener, gone) {
                serve(&listener, to, kind, &counted, &times);
            }
        });
        let address = told.recv().context("lay a line")?.map_err(anyhow::Error::msg)?;
        Ok(Line { address, down, connected })
    }

    /// When the last client connected.
    pub fn connected(&self) -> Option<Instant> {
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lay(holder: Option<u32>) -> Result<TcpListener> {
    if let Some(holder) = holder {
        let network = File::open(format!("/proc/{holder}/ns/net")).context("open a network")?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .context("enter a network")?;
    }
    TcpListener::bind("127.0.0.1:0").context("listen")
}

fn serve(
    listener: &TcpListener,
    to: SocketAddr,
    kind: Kind,
    down: &Arc<AtomicU64>,
    connected: &Mutex<Option<Instant>>,
) {
    for client in listener.incoming() {
        let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
        *connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        for (from, to, count) in
            [(&client, &server, Arc::default()), (&server, &client, Arc::clone(down))]
        {
            let _no_delay = to.set_nodelay(true);
            if kind.bytes_a_second.is_some() {
                // As little as the line itself holds, so that it is the line that delays.
                let _less = rustix::net::sockopt::set_socket_recv_buffer_size(from, 32 << 10);
                let _less = rustix::net::sockopt::set_socket_send_buffer_size(to, 32 << 10);
            }
            if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                carry(from, to, kind, count);
            }
        }
    }
}

/// What is on its way, each with the time at which it arrives.
type Parcels = Arc<(Mutex<VecDeque<(Instant, Vec<u8>)>>, Condvar)>;

fn carry(mut from: TcpStream, to: TcpStream, kind: Kind, count: Arc<AtomicU64>) {
    let parcels = Parcels::default();
    let arriving = Arc::clone(&parcels);
    thread::spawn(move || {
        let mut free_at = Instant::now();
        let mut buffer = [0; 1460];
        loop {
            let n = from.read(&mut buffer).unwrap_or(0);
            free_at = free_at.max(Instant::now());
            if let Some(rate) = kind.bytes_a_second {
                free_at += Duration::from_nanos(n as u64 * 1_000_000_000 / rate);
            }
            let (queue, rung) = &*parcels;
            let parcel = (free_at + kind.delay, buffer[..n].to_vec());
            queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(parcel);
            rung.notify_one();
            if n == 0 {
                return;
            }
            let ahead = free_at.saturating_duration_since(Instant::now());
            // Finer than the clock of a sleep; what was slept too long is caught up with.
            if ahead > Duration::from_millis(3) {
                thread::sleep(ahead);
            }
        }
    });
    thread::spawn(move || arrive(&arriving, to, &count));
}

fn arrive(parcels: &Parcels, mut to: TcpStream, count: &AtomicU64) {
    let (queue, rung) = &**parcels;
    loop {
        let mut waiting = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, bytes) = loop {
            match waiting.pop_front() {
                Some(parcel) => break parcel,
                None => waiting = rung.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(waiting);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            let _gone = to.shutdown(Shutdown::Both);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends so many bytes to whoever comes.
    fn source(bytes: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for client in listener.incoming() {
                let _gone = client.expect("a client").write_all(&vec![7; bytes]);
            }
        });
        address
    }

    fn fetch(line: &Line) -> (usize, Duration, Duration) {
        let start = Instant::now();
        let mut stream = TcpStream::connect(line.address).expect("connected");
        let mut first = [0];
        stream.read_exact(&mut first).expect("a byte");
        let begun = start.elapsed();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the rest");
        (rest.len() + 1, begun, start.elapsed())
    }

    #[test]
    fn a_thin_line_delays_and_passes_what_it_promises() {
        let line = Line::new(None, source(1_250_000), Kind::THIN).expect("a line");
        let (bytes, begun, whole) = fetch(&line);
        assert_eq!(bytes, 1_250_000);
        assert_eq!(line.down.load(Ordering::Relaxed), 1_250_000);
        assert!(begun >= Duration::from_millis(50), "{begun:?}");
        // A second by its rate. It may be late, on a machine that does much else, never early.
        assert!(whole >= Duration::from_millis(1_040), "{whole:?}");
    }
}

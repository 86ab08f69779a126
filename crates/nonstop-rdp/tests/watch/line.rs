//! A thin line between a client and a worker: so many bytes a second each way, and a delay.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A port that leads to another, slowly.
pub struct Line {
    pub address: SocketAddr,
    /// Bytes that went to the client.
    pub down: Arc<AtomicU64>,
    /// When the last client connected.
    pub connected: Arc<Mutex<Option<Instant>>>,
}

impl Line {
    /// A line to `to`. Without `bytes_a_second` it only counts and delays.
    pub fn new(to: SocketAddr, bytes_a_second: Option<u64>, delay: Duration) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let line = Line { address, down: Arc::default(), connected: Arc::default() };
        let (down, connected) = (Arc::clone(&line.down), Arc::clone(&line.connected));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
                *connected.lock().expect("a time") = Some(Instant::now());
                for (from, to, count) in
                    [(&client, &server, Arc::default()), (&server, &client, Arc::clone(&down))]
                {
                    let _no_delay = to.set_nodelay(true);
                    // As little as the line itself holds, so that it is the line that delays.
                    let _less = rustix::net::sockopt::set_socket_recv_buffer_size(from, 32 << 10);
                    let _less = rustix::net::sockopt::set_socket_send_buffer_size(to, 32 << 10);
                    let from = from.try_clone().expect("a socket");
                    let to = to.try_clone().expect("a socket");
                    carry(from, to, bytes_a_second, delay, count);
                }
            }
        });
        line
    }
}

type Parcels = Arc<(Mutex<VecDeque<(Instant, Vec<u8>)>>, Condvar)>;

fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    bytes_a_second: Option<u64>,
    delay: Duration,
    count: Arc<AtomicU64>,
) {
    let parcels = Parcels::default();
    let arrive = Arc::clone(&parcels);
    thread::spawn(move || {
        let mut free_at = Instant::now();
        let mut buffer = [0; 1460];
        loop {
            let n = from.read(&mut buffer).unwrap_or(0);
            free_at = free_at.max(Instant::now());
            if let Some(rate) = bytes_a_second {
                free_at += Duration::from_nanos(n as u64 * 1_000_000_000 / rate);
            }
            let (queue, rung) = &*parcels;
            queue.lock().expect("parcels").push_back((free_at + delay, buffer[..n].to_vec()));
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
    thread::spawn(move || {
        loop {
            let (queue, rung) = &*arrive;
            let mut queue = queue.lock().expect("parcels");
            let (due, bytes) = loop {
                match queue.pop_front() {
                    Some(parcel) => break parcel,
                    None => queue = rung.wait(queue).expect("parcels"),
                }
            };
            drop(queue);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                let _gone = to.shutdown(std::net::Shutdown::Both);
                return;
            }
        }
    });
}

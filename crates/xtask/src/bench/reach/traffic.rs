//! One connection, and one flow of small datagrams, from a machine to a server.

use super::{super::look::in_network, ground::Ground};
use anyhow::{Context, Result, anyhow};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long each goes on.
const TIME: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(5);

/// Gbit/s of one connection that the server reads.
pub(super) fn throughput(ground: &Ground) -> Result<f64> {
    let to = ground.card.tcp;
    let listener =
        in_network(ground.server(), || TcpListener::bind(to).context("listen at the server"))?;
    let connect = || TcpStream::connect_timeout(&to.into(), PATIENCE).context("connect");
    let mut client = in_network(ground.machine(), connect)?;
    let (mut served, _) = listener.accept().context("accept")?;
    let reader = thread::spawn(move || {
        let (mut buffer, mut bytes) = (vec![0; 1 << 18], 0_u64);
        let begun = Instant::now();
        while let Ok(n @ 1..) = served.read(&mut buffer) {
            bytes += n as u64;
        }
        bytes as f64 * 8.0 / begun.elapsed().as_secs_f64() / 1e9
    });
    let (buffer, begun) = (vec![0; 1 << 17], Instant::now());
    while begun.elapsed() < TIME {
        client.write_all(&buffer).context("send")?;
    }
    drop(client);
    reader.join().map_err(|_| anyhow!("the server's reader panicked"))
}

/// Datagrams of 64 bytes a second that arrive at the server.
pub(super) fn packets(ground: &Ground) -> Result<f64> {
    let to = ground.card.udp;
    let server = in_network(ground.server(), || Ok(UdpSocket::bind(to)?)).context("the server")?;
    let here = (Ipv4Addr::UNSPECIFIED, 0);
    let client = in_network(ground.machine(), || Ok(UdpSocket::bind(here)?)).context("a client")?;
    client.connect(to)?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    // Answered once: a flow that nobody answers is a new one at each packet.
    client.send(&[7; 64])?;
    let (_, back) = server.recv_from(&mut [0; 64]).context("the first datagram")?;
    server.send_to(&[7; 64], back)?;
    client.recv(&mut [0; 64]).context("the answer")?;
    server.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (over, heard) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    let took = thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 64];
            while !over.load(Ordering::Relaxed) {
                if server.recv(&mut buffer).is_ok() {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        while begun.elapsed() < TIME {
            for _ in 0..64 {
                let _refused_by_a_full_queue = client.send(&[7; 64]);
            }
        }
        over.store(true, Ordering::Relaxed);
        begun.elapsed()
    });
    Ok(heard.load(Ordering::Relaxed) as f64 / took.as_secs_f64())
}

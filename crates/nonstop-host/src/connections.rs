//! TCP connections of this host, with what went through each, as the kernel counts it.
//!
//! The kernel lists those that are open, and tells of each that is gone with its last figures
//! (`sock_diag`, group `SKNLGRP_INET_TCP_DESTROY`): so the shortest is counted, too. Bytes are those of the
//! streams, without headers and repetitions; the ends of a stream count one each.

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
        netlink::{self, SocketAddrNetlink},
        recv, send, socket_with, sockopt,
    },
};
use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
};

/// A connection, seen from the end that this socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Names the socket for as long as the host runs.
    pub cookie: u64,
    /// Who opened it; not known of one that is gone.
    pub uid: u32,
    /// The socket's number in `/proc/PID/fd`; 0 of one that is gone.
    pub inode: u32,
    /// The other end.
    pub remote: SocketAddrV4,
    /// Bytes that the other end has got.
    pub sent: u64,
    /// Bytes that came from there.
    pub received: u64,
}

/// Asks the kernel.
#[derive(Debug)]
pub struct Connections {
    gone: OwnedFd,
}

// linux/sock_diag.h, inet_diag.h, tcp.h.
const BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const DESTROYED_TCP: u32 = 1;
const INET: u8 = 2;
const TCP: u8 = 6;
const INFO: u16 = 2;
/// All states but those of listeners, of sockets that are closed, and of those that only wait.
const STATES: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
const MESSAGE_BYTES: usize = 72;
const ACKED_AT: usize = 120;
const RECEIVED_AT: usize = 128;

/// Room for what is gone and not yet read.
const ROOM_BYTES: usize = 8 << 20;

impl Connections {
    /// From here on, connections that end are told of.
    pub fn open() -> io::Result<Connections> {
        let gone = diag()?;
        // Without the right to more, what the kernel gives has to do.
        if sockopt::set_socket_recv_buffer_size_force(&gone, ROOM_BYTES).is_err() {
            sockopt::set_socket_recv_buffer_size(&gone, ROOM_BYTES)?;
        }
        bind(&gone, &SocketAddrNetlink::new(0, DESTROYED_TCP))?;
        Ok(Connections { gone })
    }

    /// Those that are open.
    pub fn list(&self) -> io::Result<Vec<Connection>> {
        let socket = diag()?;
        let mut request = vec![0; 16];
        // inet_diag_req_v2: family, protocol, extensions, a gap, states, and nobody in particular.
        request.extend([INET, TCP, 1 << (INFO - 1), 0]);
        request.extend(STATES.to_ne_bytes());
        request.extend([0; 48]);
        let length = u32::try_from(request.len()).unwrap_or_default();
        request[..4].copy_from_slice(&length.to_ne_bytes());
        request[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        request[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
        send(&socket, &request, SendFlags::empty())?;
        let (mut all, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
            for (kind, body) in messages(&buffer[..length]) {
                match kind {
                    DONE => return Ok(all),
                    ERROR => return Err(io::Error::other("the kernel lists no connections")),
                    _ => all.extend(connection(body)),
                }
            }
        }
    }

    /// Those that ended since the last time, and whether others were lost.
    pub fn gone(&self) -> io::Result<(Vec<Connection>, bool)> {
        let (mut all, mut lost, mut buffer) = (Vec::new(), false, vec![0; 64 << 10]);
        loop {
            match recv(&self.gone, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    all.extend(
                        messages(&buffer[..length]).filter_map(|(_, body)| connection(body)),
                    );
                }
                Err(Errno::AGAIN) => return Ok((all, lost)),
                Err(Errno::NOBUFS) => lost = true,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn diag() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let protocol = Some(netlink::SOCK_DIAG);
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?)
}

/// Kind and body of each message.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
        let body = bytes.get(16..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

fn connection(body: &[u8]) -> Option<Connection> {
    if *body.first()? != INET {
        return None;
    }
    let port = u16::from_be_bytes([*body.get(6)?, *body.get(7)?]);
    let address: [u8; 4] = body.get(24..28)?.try_into().ok()?;
    let info = attribute(body.get(MESSAGE_BYTES..)?, INFO)?;
    Some(Connection {
        cookie: u64::from(u32_at(body, 48)?) << 32 | u64::from(u32_at(body, 44)?),
        uid: u32_at(body, 64)?,
        inode: u32_at(body, 68)?,
        remote: SocketAddrV4::new(Ipv4Addr::from(address), port),
        sent: u64_at(info, ACKED_AT)?,
        received: u64_at(info, RECEIVED_AT)?,
    })
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
        let body = bytes.get(4..length)?;
        if kind == wanted {
            return Some(body);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::{Shutdown, SocketAddr, TcpListener, TcpStream},
        time::{Duration, Instant},
    };

    #[test]
    fn what_went_through_an_open_and_an_ended_connection_is_told() {
        let connections = Connections::open().expect("sock_diag");
        let listener = TcpListener::bind("127.0.0.1:0").expect("listening");
        let SocketAddr::V4(there) = listener.local_addr().expect("an address") else { panic!() };
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a caller");
            let mut got = Vec::new();
            stream.write_all(&vec![7; 300_000]).expect("sent");
            stream.read_to_end(&mut got).expect("received");
            got.len()
        });
        let mut client = TcpStream::connect(there).expect("connected");
        client.write_all(&vec![9; 1_000_000]).expect("sent");
        let mut got = vec![0; 300_000];
        client.read_exact(&mut got).expect("received");
        let begun = Instant::now();
        let seen = loop {
            let all = connections.list().expect("listed");
            let seen = all.into_iter().find(|c| c.remote == there).expect("it is open");
            if seen.sent >= 1_000_000 || begun.elapsed() > Duration::from_secs(5) {
                break seen;
            }
        };
        let near = |told: u64, true_: u64| (true_..=true_ + 2).contains(&told);
        assert!(near(seen.sent, 1_000_000) && near(seen.received, 300_000), "{seen:?}");
        assert_ne!(seen.inode, 0);
        client.shutdown(Shutdown::Write).expect("shut");
        assert_eq!(server.join().expect("no panic"), 1_000_000);
        drop(client);
        let begun = Instant::now();
        loop {
            let (gone, lost) = connections.gone().expect("told");
            assert!(!lost);
            if let Some(last) = gone.into_iter().find(|c| c.cookie == seen.cookie) {
                assert!(near(last.sent, 1_000_000) && near(last.received, 300_000), "{last:?}");
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "it is not told");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

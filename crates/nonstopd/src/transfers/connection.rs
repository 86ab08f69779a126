//! What the kernel says of a TCP connection that somebody hands over.
#![allow(unsafe_code)]

use rustix::net::{SocketType, ipproto, sockopt};
use std::{
    io,
    mem::MaybeUninit,
    net::{SocketAddr, SocketAddrV4, TcpStream},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

/// Of Linux's `asm-generic/socket.h` (Linux 5.14).
const SO_NETNS_COOKIE: libc::c_int = 71;
/// Of Linux's `net/tcp_states.h`.
const ESTABLISHED: u8 = 1;

/// The ends of an established TCP connection over IPv4 in the network namespace of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) ours: SocketAddrV4,
    pub(super) theirs: SocketAddrV4,
}

/// The ends of `connection`; None if it is none, or not of this process's network: in a network of
/// one's own anybody can have any address.
pub(super) fn ends(connection: BorrowedFd<'_>) -> io::Result<Option<Ends>> {
    let tcp = sockopt::socket_type(connection).is_ok_and(|kind| kind == SocketType::STREAM)
        && sockopt::socket_protocol(connection).is_ok_and(|p| p == Some(ipproto::TCP));
    if !tcp || !is_established(connection) || !is_of_our_network(connection)? {
        return Ok(None);
    }
    let stream = TcpStream::from(connection.try_clone_to_owned()?);
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(SocketAddr::V4(ours)), Ok(SocketAddr::V4(theirs))) => Ok(Some(Ends { ours, theirs })),
        _ => Ok(None),
    }
}

/// Whether both ends of `connection` still hold it.
pub(super) fn is_established(connection: BorrowedFd<'_>) -> bool {
    // The state is the first byte of `struct tcp_info`; the kernel gives as much as is asked for.
    option::<u8>(connection, libc::IPPROTO_TCP, libc::TCP_INFO).is_ok_and(|s| s == ESTABLISHED)
}

fn is_of_our_network(connection: BorrowedFd<'_>) -> io::Result<bool> {
    let ours = rustix::net::socket(rustix::net::AddressFamily::INET, SocketType::DGRAM, None)?;
    let cookie = |socket| option::<u64>(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE);
    Ok(cookie(ours.as_fd())? == cookie(connection)?)
}

/// A number that the kernel gives as the option `name` of `socket`.
fn option<T: Number>(socket: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let size = size_of::<T>() as libc::socklen_t;
    let mut length = size;
    // SAFETY: the descriptor is open while it is borrowed; `value` has room for `length` bytes, which
    // the kernel does not exceed, and any bytes, zeros too, are a number.
    let (result, value) = unsafe {
        let at = value.as_mut_ptr().cast();
        let result = libc::getsockopt(socket.as_raw_fd(), level, name, at, &raw mut length);
        (result, value.assume_init())
    };
    match result {
        0 if length == size => Ok(value),
        0 => Err(io::ErrorKind::InvalidData.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Any bytes are one.
trait Number: Copy {}
impl Number for u8 {}
impl Number for u64 {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, os::unix::net::UnixStream};

    #[test]
    fn a_connection_has_ends_while_both_hold_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (server, from) = listener.accept().expect("accepted");
        let found = ends(server.as_fd()).expect("asked").expect("established");
        assert_eq!(SocketAddr::V4(found.theirs), from);
        drop(client);
        while is_established(server.as_fd()) {
            std::thread::yield_now();
        }
        assert_eq!(ends(server.as_fd()).expect("asked"), None);
        assert_eq!(ends(listener.as_fd()).expect("asked"), None);
        let (unix, _other) = UnixStream::pair().expect("a pair");
        assert_eq!(ends(unix.as_fd()).expect("asked"), None);
    }
}

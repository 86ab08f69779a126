//! Connecting to sockets that somebody hostile may be at the other end of.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
};

/// Connects to the unix socket at `path` without waiting.
///
/// A QEMU that hangs accepts nobody, and once its queue is full the plain call waits for ever.
/// Errors: `WouldBlock` is that; `NotFound` and `ConnectionRefused` as usual.
pub(crate) fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rustix::net::{bind, listen};
    use std::io::ErrorKind;

    /// A socket at `path` that takes nobody, with a queue that is full.
    pub(crate) fn hung(path: &Path) -> (OwnedFd, Vec<UnixStream>) {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let socket = socket.expect("a socket");
        bind(&socket, &SocketAddrUnix::new(path).expect("a path")).expect("bound");
        listen(&socket, 1).expect("it listens");
        let mut waiting = Vec::new();
        while let Ok(stream) = connect_at_once(path) {
            waiting.push(stream);
            assert!(waiting.len() < 10, "the queue has no end");
        }
        (socket, waiting)
    }

    #[test]
    fn whoever_accepts_nobody_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let nobody = connect_at_once(&path).expect_err("nobody is there");
        assert_eq!(nobody.kind(), ErrorKind::NotFound);
        let _hung = hung(&path);
        let full = connect_at_once(&path).expect_err("the queue is full");
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
    }
}

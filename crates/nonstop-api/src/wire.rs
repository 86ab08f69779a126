//! Framing: four bytes of length, big-endian, and JSON. A file descriptor may travel with a
//! message; it lies at the length's first byte.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

/// The longest message that is read, in bytes.
pub const MAX_MESSAGE_BYTES: u32 = 4 << 20;

/// A message that could not be sent or read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection broke or timed out.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    /// The other side said more than is allowed.
    #[error("a message of {0} bytes is longer than the allowed {MAX_MESSAGE_BYTES}")]
    TooLong(u64),
    /// The other side said something that we do not know.
    #[error("a message could not be understood (are both sides of one version?)")]
    Json(#[from] serde_json::Error),
}

/// Sends `message`.
pub fn send<T: Serialize>(socket: &UnixStream, message: &T) -> Result<(), WireError> {
    let mut socket = socket;
    socket.write_all(&frame(message)?)?;
    Ok(())
}

/// Sends `message` together with `fd`.
pub fn send_with_fd<T: Serialize>(
    socket: &UnixStream,
    message: &T,
    fd: BorrowedFd<'_>,
) -> Result<(), WireError> {
    let frame = frame(message)?;
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = sendmsg(socket, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL)
        .map_err(std::io::Error::from)?;
    let mut socket = socket;
    socket.write_all(&frame[sent..])?;
    Ok(())
}

/// Reads one message.
pub fn receive<T: DeserializeOwned>(socket: &UnixStream) -> Result<T, WireError> {
    let mut length = [0; 4];
    let mut reader = socket;
    reader.read_exact(&mut length)?;
    body(socket, length)
}

/// Reads one message and the file descriptor that came with it, if any.
pub fn receive_with_fd<T: DeserializeOwned>(
    socket: &UnixStream,
) -> Result<(T, Option<OwnedFd>), WireError> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .map_err(std::io::Error::from)?;
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            fd = fds.next();
        }
    }
    if got.bytes == 0 {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    let mut reader = socket;
    reader.read_exact(&mut length[got.bytes..])?;
    Ok((body(socket, length)?, fd))
}

fn frame<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let json = serde_json::to_vec(message)?;
    match u32::try_from(json.len()) {
        Ok(length) if length <= MAX_MESSAGE_BYTES => {
            Ok([&length.to_be_bytes()[..], &json].concat())
        }
        _ => Err(WireError::TooLong(json.len() as u64)),
    }
}

fn body<T: DeserializeOwned>(socket: &UnixStream, length: [u8; 4]) -> Result<T, WireError> {
    let length = u32::from_be_bytes(length);
    if length > MAX_MESSAGE_BYTES {
        return Err(WireError::TooLong(length.into()));
    }
    let mut json = Vec::new();
    socket.take(length.into()).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_message_arrives_with_its_descriptor() {
        let (a, b) = UnixStream::pair().expect("a pair");
        let (mut left, right) = UnixStream::pair().expect("a pair");
        send_with_fd(&a, &"hello", right.as_fd()).expect("sent");
        let (text, fd): (String, _) = receive_with_fd(&b).expect("received");
        assert_eq!(text, "hello");
        left.write_all(b"x").expect("written");
        let mut other = UnixStream::from(fd.expect("a descriptor"));
        let mut byte = [0];
        other.read_exact(&mut byte).expect("the same socket");
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn a_message_longer_than_allowed_is_refused_before_it_is_read() {
        let (mut a, b) = UnixStream::pair().expect("a pair");
        a.write_all(&u32::MAX.to_be_bytes()).expect("written");
        assert!(matches!(receive::<String>(&b), Err(WireError::TooLong(_))));
    }

    #[test]
    fn half_a_message_is_an_error() {
        let (mut a, b) = UnixStream::pair().expect("a pair");
        a.write_all(&[0, 0, 0, 9, b'"']).expect("written");
        drop(a);
        assert!(receive::<String>(&b).is_err());
    }
}

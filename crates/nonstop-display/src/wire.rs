//! Messages over a `SOCK_SEQPACKET` pair: one packet each, at most one open file beside it.

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
        sendmsg, socketpair,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// The longest message in bytes; a sender that goes past it is not one of ours.
pub const LONGEST: usize = 64 * 1024;

/// A message that cannot be sent or received. The peer is lost after any but `Full` and `Empty`.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer has not taken what was sent before.
    #[error("the peer lags")]
    Full,
    /// Nothing has come.
    #[error("no message has come")]
    Empty,
    /// The peer is gone.
    #[error("the peer is gone")]
    Gone,
    /// Not one of the messages agreed upon.
    #[error("not a message of ours")]
    Nonsense,
    /// The kernel refused.
    #[error("exchange a message")]
    Kernel(#[source] Errno),
}

/// Two connected ends, both closed on exec. `send` and `receive` never wait when asked not to.
pub fn pair() -> Result<(OwnedFd, OwnedFd), WireError> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(WireError::Kernel)
}

/// Sends `message`, with `file` beside it. Never waits: a full queue is [`WireError::Full`].
pub fn send<M: Serialize>(
    to: impl AsFd,
    message: &M,
    file: Option<BorrowedFd<'_>>,
) -> Result<(), WireError> {
    let bytes = postcard::to_stdvec(message).map_err(|_| WireError::Nonsense)?;
    if bytes.len() > LONGEST {
        return Err(WireError::Nonsense);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
    if !files.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        return match sendmsg(to.as_fd(), &[IoSlice::new(&bytes)], &mut ancillary, flags) {
            Ok(_) => Ok(()),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN | Errno::NOBUFS) => Err(WireError::Full),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(WireError::Gone),
            Err(e) => Err(WireError::Kernel(e)),
        };
    }
}

/// The next message and the file beside it. Never waits: none is [`WireError::Empty`].
///
/// A second file, a cut message or one that does not parse is [`WireError::Nonsense`]; files that
/// came with it are closed.
pub fn receive<M: DeserializeOwned>(from: impl AsFd) -> Result<(M, Option<OwnedFd>), WireError> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = loop {
        match recvmsg(from.as_fd(), &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Ok(got) => break got,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(WireError::Empty),
            Err(Errno::CONNRESET) => return Err(WireError::Gone),
            Err(e) => return Err(WireError::Kernel(e)),
        }
    };
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(given) = message {
            files.extend(given);
        }
    }
    if got.bytes == 0 {
        return Err(WireError::Gone);
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || files.len() > 1 {
        return Err(WireError::Nonsense);
    }
    let message = postcard::from_bytes(&bytes[..got.bytes]).map_err(|_| WireError::Nonsense)?;
    Ok((message, files.pop()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Told;

    #[test]
    fn a_message_arrives_with_its_file_and_an_empty_queue_says_so() {
        let (a, b) = pair().expect("a pair");
        assert!(matches!(receive::<Told>(&b), Err(WireError::Empty)));
        send(&a, &Told::Resize { width: 640, height: 480 }, Some(a.as_fd())).expect("sent");
        let (told, file) = receive::<Told>(&b).expect("received");
        assert_eq!(told, Told::Resize { width: 640, height: 480 });
        assert!(file.is_some());
        drop((a, file));
        assert!(matches!(receive::<Told>(&b), Err(WireError::Gone)));
    }

    #[test]
    fn a_peer_that_takes_nothing_fills_its_queue_and_nothing_else() {
        let (a, _b) = pair().expect("a pair");
        let full = (0..100_000).find_map(|_| send(&a, &Told::Pointer { x: 1, y: 1 }, None).err());
        assert!(matches!(full, Some(WireError::Full)));
    }
}

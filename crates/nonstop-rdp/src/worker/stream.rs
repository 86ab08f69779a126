//! A client's connection. TLS begins where RDP wants it, what is typed is taken out on the way,
//! and what goes out is watched, so that no more waits in this process than a client takes.

use super::{confirm, guard::Guard, input::Typing};
use ironrdp_dvc::DrdynvcServer;
use ironrdp_pdu::{
    gcc::ClientEarlyCapabilityFlags,
    mcs::ConnectInitial,
    x224::{X224, X224Data},
};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};
use tokio_rustls::{Accept, TlsAcceptor};

/// The longest first word of a client: a cookie with a name, and which security it wants.
const LONGEST_REQUEST: usize = 512;

/// How much of what is to go out has gone, before encryption.
#[derive(Debug, Default)]
pub(super) struct Flow {
    handed: AtomicU64,
    due: AtomicU64,
    no_pipeline: AtomicBool,
    /// Rung when all that was owed has gone.
    pub(super) rung: Notify,
}

impl Flow {
    /// Another `bytes` have been put into the queue.
    pub(super) fn owe(&self, bytes: u64) {
        let from = self.due.load(Ordering::Relaxed).max(self.handed.load(Ordering::Relaxed));
        self.due.store(from + bytes, Ordering::Relaxed);
    }

    /// Whether nothing waits in a queue of this process.
    pub(super) fn is_clear(&self) -> bool {
        self.handed.load(Ordering::Relaxed) >= self.due.load(Ordering::Relaxed)
    }

    /// Whether the client has said that it does not know the graphics pipeline.
    pub(super) fn has_no_pipeline(&self) -> bool {
        self.no_pipeline.load(Ordering::Relaxed)
    }

    fn hand(&self, bytes: usize) {
        let clear = self.is_clear();
        self.handed.fetch_add(bytes as u64, Ordering::Relaxed);
        if !clear && self.is_clear() {
            self.rung.notify_waiters();
        }
    }
}

/// A connection as both ends understand it.
trait Clear: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Clear for T {}

enum State<T> {
    /// The client asks for TLS, and is told that it gets it.
    Asking {
        inner: T,
        tls: TlsAcceptor,
        request: Vec<u8>,
        /// Bytes of the answer still to be written; None before it.
        answer: Option<usize>,
    },
    Shaking(Accept<T>),
    Secure(Box<dyn Clear>),
    Ended,
}

/// A connection from its first byte on.
pub(super) struct Stream<T> {
    state: State<T>,
    typing: Arc<Mutex<Typing>>,
    flow: Arc<Flow>,
    /// What has come and is not cut into packets yet.
    incoming: Vec<u8>,
    /// A packet that is given on, and how much of it was.
    packet: Vec<u8>,
    given: usize,
    /// The client's settings have not come yet.
    first: bool,
    guard: Guard,
}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Stream<T> {
    pub(super) fn new(
        inner: T,
        tls: TlsAcceptor,
        typing: Arc<Mutex<Typing>>,
        flow: Arc<Flow>,
    ) -> Stream<T> {
        Stream::begin(State::Asking { inner, tls, request: Vec::new(), answer: None }, typing, flow)
    }

    /// One that does without TLS.
    #[cfg(any(test, feature = "harm"))]
    pub(super) fn open(inner: T, typing: Arc<Mutex<Typing>>, flow: Arc<Flow>) -> Stream<T> {
        Stream::begin(State::Secure(Box::new(inner)), typing, flow)
    }

    fn begin(state: State<T>, typing: Arc<Mutex<Typing>>, flow: Arc<Flow>) -> Stream<T> {
        Stream {
            state,
            typing,
            flow,
            incoming: Vec::new(),
            packet: Vec::new(),
            given: 0,
            first: true,
            guard: Guard::default(),
        }
    }

    /// Gives the next packet on, if one is whole; what is typed is no packet of that kind.
    fn cut(&mut self) -> io::Result<bool> {
        loop {
            let Some((length, typed)) = measure(&self.incoming)? else { return Ok(false) };
            if self.incoming.len() < length {
                return Ok(false);
            }
            if typed {
                let mut typing = self.typing.lock().unwrap_or_else(PoisonError::into_inner);
                typing.hear(&self.incoming[..length])?;
                drop(typing);
                self.incoming.drain(..length);
                continue;
            }
            let rest = self.incoming.split_off(length);
            self.packet = std::mem::replace(&mut self.incoming, rest);
            self.given = 0;
            self.guard.look(&self.packet, Instant::now())?;
            confirm::without_surfaces(&mut self.packet);
            if std::mem::take(&mut self.first)
                && let Some(settings) = settings(&self.packet)
            {
                self.flow.no_pipeline.store(!settings.pipeline, Ordering::Relaxed);
                self.guard.watch(settings.channel);
            }
            return Ok(true);
        }
    }

    fn poll_secure(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.given < self.packet.len() {
                let left = &self.packet[self.given..];
                let part = &left[..left.len().min(buf.remaining())];
                buf.put_slice(part);
                self.given += part.len();
                return Poll::Ready(Ok(()));
            }
            if self.cut()? {
                continue;
            }
            let State::Secure(tls) = &mut self.state else { return Poll::Ready(Ok(())) };
            let mut chunk = [0; 4096];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(tls).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.incoming.extend_from_slice(chunk.filled());
        }
    }
}

/// The length of the packet that `bytes` begins with, and whether it is typed input; None while
/// that cannot be told.
fn measure(bytes: &[u8]) -> io::Result<Option<(usize, bool)>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not a packet of RDP");
    let (length, typed, least) = match bytes {
        [3, _, high, low, ..] => (usize::from(u16::from_be_bytes([*high, *low])), false, 7),
        [3, ..] | [] | [_] => return Ok(None),
        [head, ..] if head & 3 != 0 => return Err(wrong()),
        [_, high, low, ..] if high & 0x80 != 0 => {
            (usize::from(u16::from_be_bytes([high & 0x7f, *low])), true, 4)
        }
        [_, high] if high & 0x80 != 0 => return Ok(None),
        [_, length, ..] => (usize::from(*length), true, 3),
    };
    if length < least { Err(wrong()) } else { Ok(Some((length, typed))) }
}

/// What a client says of itself at first.
struct Settings {
    /// It knows the graphics pipeline.
    pipeline: bool,
    /// The number that the channel of dynamic channels gets.
    channel: Option<u16>,
}

fn settings(packet: &[u8]) -> Option<Settings> {
    let data = ironrdp_core::decode::<X224<X224Data<'_>>>(packet).ok()?.0;
    let settings = ironrdp_core::decode::<ConnectInitial>(data.data.as_ref()).ok()?;
    let blocks = settings.conference_create_request.into_gcc_blocks();
    let early = blocks.core.optional_data.early_capability_flags;
    let known = ClientEarlyCapabilityFlags::SUPPORT_DYN_VC_GFX_PROTOCOL;
    let pipeline = early.is_some_and(|early| early.contains(known));
    // Channels are numbered as they are offered, after the session's own.
    let channels = blocks.network.map(|network| network.channels).unwrap_or_default();
    let at = channels.iter().position(|channel| channel.name == DrdynvcServer::NAME);
    Some(Settings { pipeline, channel: at.and_then(|at| u16::try_from(1004 + at).ok()) })
}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> AsyncRead for Stream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Asking { answer: Some(0), .. } => {
                    let asked = std::mem::replace(&mut this.state, State::Ended);
                    if let State::Asking { inner, tls, .. } = asked {
                        this.state = State::Shaking(tls.accept(inner));
                    }
                }
                State::Asking { inner, request, .. } => {
                    // No byte beyond the request: what follows the answer is TLS.
                    let wanted = match **request {
                        [_, _, high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
                        _ => 4,
                    };
                    let whole = request.len() >= 4 && request.len() >= wanted;
                    if whole || wanted > LONGEST_REQUEST {
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    }
                    let room = (wanted - request.len()).min(buf.remaining());
                    let mut part = [0; LONGEST_REQUEST];
                    let mut part = ReadBuf::new(&mut part[..room]);
                    ready!(Pin::new(inner).poll_read(cx, &mut part))?;
                    request.extend_from_slice(part.filled());
                    buf.put_slice(part.filled());
                    return Poll::Ready(Ok(()));
                }
                State::Shaking(accept) => {
                    let secure = ready!(Pin::new(accept).poll(cx));
                    this.state = State::Ended;
                    this.state = State::Secure(Box::new(secure?));
                }
                State::Secure(_) => return this.poll_secure(cx, buf),
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> AsyncWrite for Stream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match &mut this.state {
            State::Asking { inner, answer, .. } => {
                let written = ready!(Pin::new(inner).poll_write(cx, buf))?;
                *answer = Some(answer.unwrap_or(buf.len()).saturating_sub(written));
                Poll::Ready(Ok(written))
            }
            State::Secure(tls) => {
                let written = ready!(Pin::new(tls).poll_write(cx, buf))?;
                this.flow.hand(written);
                Poll::Ready(Ok(written))
            }
            State::Shaking(_) | State::Ended => {
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().state {
            State::Asking { inner, .. } => Pin::new(inner).poll_flush(cx),
            State::Secure(tls) => Pin::new(tls).poll_flush(cx),
            State::Shaking(_) | State::Ended => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().state {
            State::Asking { inner, .. } => Pin::new(inner).poll_shutdown(cx),
            State::Secure(tls) => Pin::new(tls).poll_shutdown(cx),
            State::Shaking(_) | State::Ended => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::measure;

    #[test]
    fn packets_are_measured_and_others_refused() {
        assert_eq!(measure(&[3, 0, 0, 19]).expect("a packet"), Some((19, false)));
        assert_eq!(measure(&[3, 0, 0]).expect("the begin of one"), None);
        assert_eq!(measure(&[4, 4, 0, 0x1e]).expect("a key"), Some((4, true)));
        assert_eq!(measure(&[4, 0x81, 2, 0]).expect("keys"), Some((258, true)));
        assert_eq!(measure(&[4, 0x81]).expect("the begin of keys"), None);
        for wrong in [[3, 0, 0, 6], [1, 9, 9, 9], [4, 2, 9, 9], [4, 0x80, 3, 9], [7, 9, 9, 9]] {
            assert!(measure(&wrong).is_err(), "{wrong:?}");
        }
    }
}

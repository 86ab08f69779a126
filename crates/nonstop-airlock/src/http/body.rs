//! The body of a request, taken from its connection piece by piece, within bounds of time.

use super::framing::{Framing, Length};
use nonstop_http::Incoming;
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// How long a client may send nothing of its body.
const STALLED: Duration = Duration::from_secs(60);
/// From when on a body must have come at [`SLOWEST`] since its beginning.
const GRACE: Duration = Duration::from_secs(120);
/// Bytes a second, in the mean: a tunnel shared by many is faster.
const SLOWEST: u64 = 128;
/// The longest line between two chunks, in bytes.
const LINE: usize = 256;
/// Bytes of fields behind the last chunk.
const TRAILER: usize = 4096;

/// Why a body did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client went away, or was too slow: whatever came is not whole.
    #[error("the upload broke off")]
    Broken(#[source] io::Error),
    /// It is not in the form that its head says.
    #[error("the body is not in chunks, as its head says")]
    Form,
    /// It is longer than it may be here.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
}

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    stream: &'a TcpStream,
    incoming: &'a mut Incoming,
    left: Left,
    expects: bool,
    begun: Instant,
    came: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// So many bytes, and then nothing.
    Bytes(u64),
    /// Of this chunk, and then another one.
    Chunk(u64),
    /// A line that tells the length of the next chunk; behind one there is the end of its line.
    NextChunk { first: bool },
    /// Nothing.
    Nothing,
    /// It cannot be told where it ends.
    Lost,
}

impl<'a> Body<'a> {
    /// The one that comes as `framing` has it, from `stream`.
    pub(crate) fn new(
        framing: Framing,
        stream: &'a TcpStream,
        incoming: &'a mut Incoming,
    ) -> Body<'a> {
        let left = match framing.length {
            Length::None => Left::Nothing,
            Length::Bytes(bytes) => Left::Bytes(bytes),
            Length::Chunked => Left::NextChunk { first: true },
        };
        Body { stream, incoming, left, expects: framing.expects, begun: Instant::now(), came: 0 }
    }

    /// Whether nothing of it is left to come.
    pub(crate) fn is_over(&self) -> bool {
        self.left == Left::Nothing
    }

    /// Whether the client still waits for leave to send it.
    pub(crate) fn is_unasked(&self) -> bool {
        self.expects && !self.is_over()
    }

    /// The bytes that are certain to come, at most.
    pub(crate) fn known(&self) -> Option<u64> {
        match self.left {
            Left::Bytes(bytes) => Some(bytes),
            Left::Nothing => Some(0),
            Left::Chunk(_) | Left::NextChunk { .. } | Left::Lost => None,
        }
    }

    /// Its next bytes, at the beginning of `buffer`; none when it is over.
    pub(crate) fn next(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        let result = self.piece(buffer);
        match &result {
            Ok(bytes) => self.came += *bytes as u64,
            Err(_) => self.left = Left::Lost,
        }
        result
    }

    fn piece(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        loop {
            match self.left {
                Left::Nothing => return Ok(0),
                Left::Lost => return Err(BodyError::Form),
                Left::NextChunk { first } => self.chunk(first)?,
                Left::Bytes(left) | Left::Chunk(left) => {
                    let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let got = self.raw(&mut buffer[..room])?;
                    let left = left - got as u64;
                    self.left = match (self.left, left) {
                        (Left::Bytes(_), 0) => Left::Nothing,
                        (Left::Bytes(_), left) => Left::Bytes(left),
                        (_, 0) => Left::NextChunk { first: false },
                        (_, left) => Left::Chunk(left),
                    };
                    return Ok(got);
                }
            }
        }
    }

    /// All of it, if that is at most `most` bytes.
    pub(crate) fn whole(&mut self, most: usize) -> Result<Vec<u8>, BodyError> {
        if self.known().is_some_and(|known| known > most as u64) {
            return Err(BodyError::TooLong(most));
        }
        let (mut all, mut buffer) = (Vec::new(), [0; 8192]);
        loop {
            match self.next(&mut buffer)? {
                0 => return Ok(all),
                n if all.len() + n > most => return Err(BodyError::TooLong(most)),
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// Reads and forgets what is left, if that is sure to be little. Says whether it is over.
    pub(crate) fn skip(&mut self) -> bool {
        const LITTLE: u64 = 256 << 10;
        if self.is_unasked() || self.known().is_none_or(|known| known > LITTLE) {
            return self.is_over();
        }
        let mut buffer = [0; 8192];
        while !self.is_over() {
            if self.next(&mut buffer).is_err() {
                return false;
            }
        }
        true
    }

    /// Reads the line before a chunk.
    fn chunk(&mut self, first: bool) -> Result<(), BodyError> {
        if !first && !self.line()?.is_empty() {
            return Err(BodyError::Form);
        }
        let line = self.line()?;
        // Behind `;` stand extensions that nobody uses.
        let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let digits = std::str::from_utf8(digits).map_err(|_| BodyError::Form)?;
        if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|b| b.is_ascii_hexdigit())
        {
            return Err(BodyError::Form);
        }
        let bytes = u64::from_str_radix(digits, 16).map_err(|_| BodyError::Form)?;
        if bytes > 0 {
            self.left = Left::Chunk(bytes);
            return Ok(());
        }
        let mut trailer = 0;
        loop {
            let line = self.line()?;
            trailer += line.len();
            match line.len() {
                0 => break,
                _ if trailer > TRAILER => return Err(BodyError::Form),
                _ => {}
            }
        }
        self.left = Left::Nothing;
        Ok(())
    }

    /// A line without its end.
    fn line(&mut self) -> Result<Vec<u8>, BodyError> {
        loop {
            let bytes = &self.incoming.bytes;
            if let Some(at) = bytes.iter().take(LINE).position(|b| *b == b'\n') {
                let line: Vec<u8> = self.incoming.bytes.drain(..=at).collect();
                return line.strip_suffix(b"\r\n").map(<[u8]>::to_vec).ok_or(BodyError::Form);
            }
            if bytes.len() >= LINE {
                return Err(BodyError::Form);
            }
            let mut buffer = [0; 4096];
            let got = self.receive(&mut buffer)?;
            self.incoming.bytes.extend_from_slice(&buffer[..got]);
        }
    }

    /// Bytes that came with the head first, then from the connection.
    fn raw(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        if self.incoming.bytes.is_empty() {
            return self.receive(buffer);
        }
        let got = self.incoming.bytes.len().min(buffer.len());
        buffer[..got].copy_from_slice(&self.incoming.bytes[..got]);
        self.incoming.bytes.drain(..got);
        Ok(got)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        let mut stream = self.stream;
        if std::mem::take(&mut self.expects) {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(BodyError::Broken)?;
        }
        let passed = self.begun.elapsed();
        if passed > GRACE && self.came < SLOWEST * passed.as_secs() {
            return Err(BodyError::Broken(io::ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(STALLED)).map_err(BodyError::Broken)?;
        loop {
            match stream.read(buffer) {
                Ok(0) => return Err(BodyError::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(got) => return Ok(got),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(BodyError::Broken(e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::LIMITS;
    use std::net::TcpListener;

    /// What is made of `sent`, behind a head that says `length`; and what is left over.
    fn taken(length: Length, sent: &[u8]) -> Result<(Vec<u8>, Vec<u8>), BodyError> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        let stream = listener.accept().expect("accept").0;
        near.write_all(sent).expect("sent");
        drop(near);
        let mut incoming = Incoming::new(LIMITS);
        let framing = Framing { length, expects: false };
        let mut body = Body::new(framing, &stream, &mut incoming);
        let whole = body.whole(1 << 20)?;
        assert!(body.is_over());
        Ok((whole, incoming.bytes))
    }

    #[test]
    fn a_body_ends_where_its_head_says() {
        let (body, rest) = taken(Length::Bytes(3), b"abc").expect("whole");
        assert_eq!((&body[..], &rest[..]), (&b"abc"[..], &b""[..]));
        assert!(matches!(taken(Length::Bytes(4), b"abc"), Err(BodyError::Broken(_))));
        assert!(matches!(taken(Length::Bytes(9 << 20), b"abc"), Err(BodyError::TooLong(_))));
    }

    #[test]
    fn chunks_are_put_together_and_what_comes_behind_them_is_kept() {
        let sent = b"3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET /";
        let (body, rest) = taken(Length::Chunked, sent).expect("whole");
        assert_eq!((&body[..], &rest[..]), (&b"abc0123456789"[..], &b"GET /"[..]));
    }

    #[test]
    fn chunks_that_break_off_or_are_none_are_no_body() {
        for sent in [
            &b"3\r\nabc\r\n"[..],
            b"3\r\nab",
            b"3\r\nabc0\r\n\r\n",
            b"3\nabc\n0\n\n",
            b"-3\r\nabc\r\n0\r\n\r\n",
            b"\r\n\r\n",
            b"ffffffffffffffff\r\na",
        ] {
            assert!(taken(Length::Chunked, sent).is_err(), "{sent:?}");
        }
    }
}

//! An answer, and how it is sent.

use crate::asker::{Asked, Asker};
use jiff::Timestamp;
use nonstop_http::{Head, Part, Portion, all, file, http_date, reason};
use rustix::net::SendFlags;
use std::{fs::File, io, net::TcpStream, time::Duration};

/// How long a client may take nothing.
pub(crate) const STALLED: Duration = Duration::from_secs(60);

/// An answer that is still to be sent.
pub(crate) struct Answer<'a> {
    /// Its status.
    pub(crate) status: u16,
    /// Header fields of its own.
    fields: Vec<(&'static str, String)>,
    /// Its body; left out where the request was HEAD.
    pub(crate) content: Content<'a>,
}

/// What a body is made of.
pub(crate) enum Content<'a> {
    /// Nothing.
    None,
    /// These bytes.
    Bytes(Vec<u8>),
    /// Parts of a file.
    Parts(File, Vec<Part>),
    /// A first piece, and those behind it, whose sum nobody knows yet.
    Pieces(Vec<u8>, Box<dyn Pieces + 'a>),
}

/// What is made piece by piece, each when the client has taken those before it: a client that takes
/// nothing keeps no more than one.
pub(crate) trait Pieces {
    /// Writes the next piece; it is about [`PIECE`] long. Says whether there is more.
    ///
    /// Errors: what is needed for it cannot be had. The client sees that the answer has no end.
    fn next(&mut self, out: &mut String, asker: &mut Asker<'_>) -> Asked<bool>;
}

/// Bytes of one piece, or a little more.
pub(crate) const PIECE: usize = 64 << 10;

impl<'a> Answer<'a> {
    /// One without a body.
    pub(crate) fn empty(status: u16) -> Answer<'a> {
        Answer { status, fields: vec![], content: Content::None }
    }

    /// `bytes` of the type `kind`.
    pub(crate) fn bytes(status: u16, kind: &str, bytes: impl Into<Vec<u8>>) -> Answer<'a> {
        let mut answer = Answer::empty(status).field("Content-Type", kind);
        answer.content = Content::Bytes(bytes.into());
        answer
    }

    /// With the body `pieces`: of a length that is told, where there is one alone.
    ///
    /// Errors: the first of them cannot be made.
    pub(crate) fn made_of(
        mut self,
        mut pieces: impl Pieces + 'a,
        asker: &mut Asker<'_>,
    ) -> Asked<Answer<'a>> {
        let mut first = String::new();
        let more = pieces.next(&mut first, asker)?;
        let first = first.into_bytes();
        self.content = match more {
            true => Content::Pieces(first, Box::new(pieces)),
            false => Content::Bytes(first),
        };
        Ok(self)
    }

    /// A short text.
    pub(crate) fn text(status: u16, text: &str) -> Answer<'a> {
        Answer::bytes(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }

    /// `portion` of `source`.
    pub(crate) fn portion(portion: Portion, source: File) -> Answer<'a> {
        let content = Content::Parts(source, portion.parts);
        Answer { status: portion.status, fields: portion.fields, content }
    }

    /// With a header field; `value` holds no control characters.
    pub(crate) fn field(mut self, name: &'static str, value: impl Into<String>) -> Answer<'a> {
        let value = value.into();
        debug_assert!(!value.contains(char::is_control), "{name}: {value:?}");
        self.fields.push((name, value));
        self
    }

    fn length(&self) -> Option<u64> {
        match &self.content {
            Content::None => Some(0),
            Content::Bytes(bytes) => Some(bytes.len() as u64),
            Content::Parts(_, parts) => Some(parts.iter().map(Part::length).sum()),
            Content::Pieces(..) => None,
        }
    }

    /// Sends it as the answer to `head`, and asks `asker` for what is made on the way. Says whether
    /// the connection can go on.
    pub(crate) fn send(
        self,
        stream: &TcpStream,
        head: &Head,
        keep: bool,
        asker: &mut Asker<'_>,
    ) -> io::Result<bool> {
        let length = self.length();
        // Without chunks only the end of the connection tells where the body ends.
        let keep = keep && (length.is_some() || !head.old);
        let first = self.first(head, length, keep);
        if head.method == "HEAD" {
            all(stream, &first, SendFlags::empty())?;
            return Ok(keep);
        }
        match self.content {
            Content::None => all(stream, &first, SendFlags::empty())?,
            Content::Bytes(bytes) => {
                all(stream, &first, SendFlags::MORE)?;
                all(stream, &bytes, SendFlags::empty())?;
            }
            Content::Parts(source, parts) => {
                all(stream, &first, SendFlags::MORE)?;
                for part in parts {
                    match part {
                        Part::Bytes(bytes) => all(stream, &bytes, SendFlags::empty())?,
                        Part::Of(range) => file(stream, &source, range, |_| {})?,
                    }
                }
            }
            Content::Pieces(mut piece, mut pieces) => {
                all(stream, &first, SendFlags::MORE)?;
                loop {
                    chunk(stream, head, &piece)?;
                    // It goes before the next comes.
                    drop(piece);
                    let mut next = String::new();
                    let more = pieces.next(&mut next, asker).map_err(io::Error::other)?;
                    piece = next.into_bytes();
                    if !more {
                        break chunk(stream, head, &piece)?;
                    }
                }
                if !head.old {
                    all(stream, b"0\r\n\r\n", SendFlags::empty())?;
                }
            }
        }
        Ok(keep)
    }

    /// Its head.
    fn first(&self, head: &Head, length: Option<u64>, keep: bool) -> Vec<u8> {
        let mut text = format!(
            "HTTP/1.1 {} {}\r\nDate: {}\r\nX-Content-Type-Options: nosniff\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\nReferrer-Policy: no-referrer\r\n",
            self.status,
            reason(self.status),
            http_date(Timestamp::now())
        );
        if !self.fields.iter().any(|(name, _)| *name == "Content-Security-Policy") {
            text.push_str("Content-Security-Policy: default-src 'none'; sandbox\r\n");
        }
        if !self.fields.iter().any(|(name, _)| *name == "Cache-Control") {
            text.push_str("Cache-Control: no-cache\r\n");
        }
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        match length {
            _ if [204, 304].contains(&self.status) => {}
            Some(length) => text.push_str(&format!("Content-Length: {length}\r\n")),
            None if head.old => {}
            None => text.push_str("Transfer-Encoding: chunked\r\n"),
        }
        match (keep, head.old) {
            (false, _) => text.push_str("Connection: close\r\n"),
            (true, true) => text.push_str("Connection: keep-alive\r\n"),
            (true, false) => {}
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// Sends a piece of an answer to `head` whose length was not told.
fn chunk(stream: &TcpStream, head: &Head, piece: &[u8]) -> io::Result<()> {
    if piece.is_empty() || head.old {
        return all(stream, piece, SendFlags::empty());
    }
    all(stream, format!("{:x}\r\n", piece.len()).as_bytes(), SendFlags::MORE)?;
    all(stream, piece, SendFlags::MORE)?;
    all(stream, b"\r\n", SendFlags::empty())
}

//! An answer, and how it is sent.

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
    /// Pieces, whose sum nobody knows yet.
    Pieces(Box<dyn Iterator<Item = Vec<u8>> + 'a>),
}

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
            Content::Pieces(_) => None,
        }
    }

    /// Sends it as the answer to `head`. Says whether the connection can go on.
    pub(crate) fn send(self, stream: &TcpStream, head: &Head, keep: bool) -> io::Result<bool> {
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
                all(stream, &[first, bytes].concat(), SendFlags::empty())?;
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
            Content::Pieces(pieces) => {
                all(stream, &first, SendFlags::MORE)?;
                for piece in pieces.filter(|piece| !piece.is_empty()) {
                    if head.old {
                        all(stream, &piece, SendFlags::empty())?;
                    } else {
                        let line = format!("{:x}\r\n", piece.len()).into_bytes();
                        let chunk = [&line, &piece[..], b"\r\n"].concat();
                        all(stream, &chunk, SendFlags::empty())?;
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

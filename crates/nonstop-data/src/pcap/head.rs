//! The head of a request, read from a connection within bounds of time and length.

use std::{
    io::{self, Read},
    net::TcpStream,
    time::{Duration, Instant},
};

/// The longest head, in bytes.
pub(super) const LONGEST: usize = 8192;
/// Header fields of one head.
const FIELDS: usize = 64;
/// How long a connection may say nothing between two requests.
const IDLE: Duration = Duration::from_secs(15);
/// How long a head may take from its first byte to its last.
const TIME: Duration = Duration::from_secs(10);

/// What a machine asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// As sent.
    pub(super) method: String,
    /// The target as sent.
    pub(super) target: String,
    /// Whether the connection goes on after the answer, as the client has it.
    pub(super) keep_alive: bool,
    /// Whether it is of HTTP/1.0.
    pub(super) old: bool,
    /// `Range`, where there is exactly one.
    pub(super) range: Option<String>,
    /// `If-Range`.
    pub(super) if_range: Option<String>,
    /// `If-Match`, all of them.
    pub(super) if_match: Option<String>,
    /// `If-None-Match`, all of them.
    pub(super) if_none_match: Option<String>,
    /// `If-Modified-Since`.
    pub(super) if_modified_since: Option<String>,
    /// `If-Unmodified-Since`.
    pub(super) if_unmodified_since: Option<String>,
    /// `Accept`, all of them.
    pub(super) accept: Option<String>,
    /// `Accept-Language`, all of them.
    pub(super) accept_language: Option<String>,
}

/// Why no head comes.
#[derive(Debug)]
pub(super) enum NoHead {
    /// The client is gone, or has said nothing for too long: nothing to answer.
    Over,
    /// It broke a rule: answered with this status, and the connection ends.
    Bad(u16, &'static str),
}

/// What came from a connection and was not used yet.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
}

impl Incoming {
    /// The next head from `stream`.
    pub(super) fn next(&mut self, mut stream: &TcpStream) -> Result<Head, NoHead> {
        let mut until = Instant::now() + if self.bytes.is_empty() { IDLE } else { TIME };
        loop {
            if let Some((head, used)) = parse(&self.bytes)? {
                self.bytes.drain(..used);
                return Ok(head);
            }
            if self.bytes.len() >= LONGEST {
                return Err(NoHead::Bad(431, "the request's head is too long"));
            }
            let left = until.saturating_duration_since(Instant::now());
            let late = if self.bytes.is_empty() { NoHead::Over } else { TOO_SLOW };
            if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
                return Err(late);
            }
            let (had, mut chunk) = (self.bytes.len(), [0; LONGEST]);
            match stream.read(&mut chunk[..LONGEST - had]) {
                Ok(0) => return Err(NoHead::Over),
                Ok(n) => self.bytes.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(late),
                Err(_) => return Err(NoHead::Over),
            }
            if had == 0 {
                until = Instant::now() + TIME;
            }
        }
    }
}

const TOO_SLOW: NoHead = NoHead::Bad(408, "the request's head took too long");

/// The head at the beginning of `bytes` and its length; None if it is not whole yet.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, NoHead> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let used = match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(used)) => used,
        Err(httparse::Error::TooManyHeaders) => {
            return Err(NoHead::Bad(431, "too many header fields"));
        }
        Err(_) => return Err(NoHead::Bad(400, "this is no request of HTTP")),
    };
    let old = request.version == Some(0);
    let mut head = Head {
        method: request.method.unwrap_or_default().into(),
        target: request.path.unwrap_or_default().into(),
        keep_alive: !old,
        old,
        ..Head::default()
    };
    let (mut hosts, mut ranges) = (0, 0);
    for field in request.headers.iter() {
        // What is not text says nothing here.
        let value = std::str::from_utf8(field.value).unwrap_or_default().trim();
        let name = field.name.to_ascii_lowercase();
        match name.as_str() {
            "host" => hosts += 1,
            "connection" => {
                for word in value.split(',').map(str::trim) {
                    if word.eq_ignore_ascii_case("close") {
                        head.keep_alive = false;
                    } else if word.eq_ignore_ascii_case("keep-alive") && old {
                        head.keep_alive = true;
                    }
                }
            }
            "range" => {
                ranges += 1;
                head.range = (ranges == 1).then(|| value.into());
            }
            "if-range" => head.if_range = Some(value.into()),
            "if-match" => also(&mut head.if_match, value),
            "if-none-match" => also(&mut head.if_none_match, value),
            "if-modified-since" => head.if_modified_since = Some(value.into()),
            "if-unmodified-since" => head.if_unmodified_since = Some(value.into()),
            "accept" => also(&mut head.accept, value),
            "accept-language" => also(&mut head.accept_language, value),
            "content-length" if value == "0" => {}
            // Nothing here takes a body, and to guess where one ends is how requests get smuggled.
            "content-length" | "transfer-encoding" => {
                return Err(NoHead::Bad(400, "no request has a body here"));
            }
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && !old) {
        return Err(NoHead::Bad(400, "name one Host"));
    }
    Ok(Some((head, used)))
}

/// Fields of the same name are one list.
fn also(list: &mut Option<String>, value: &str) {
    match list {
        Some(list) => {
            list.push_str(", ");
            list.push_str(value);
        }
        None => *list = Some(value.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        let (head, used) = parse(text.as_bytes()).expect("a head").expect("a whole one");
        assert_eq!(used, text.len());
        head
    }

    fn refused(bytes: &[u8]) -> u16 {
        match parse(bytes) {
            Err(NoHead::Bad(status, _)) => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connection_goes_on_as_its_version_and_client_say() {
        let keeps = |text: &str| head(text).keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: TE, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    }

    #[test]
    fn lists_over_several_fields_are_one_and_several_ranges_are_none() {
        let found = head(
            "GET /x HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\n\
             Range: bytes=0-1\r\nRange: bytes=2-3\r\nContent-Length: 0\r\n\r\n",
        );
        assert_eq!(found.if_none_match.as_deref(), Some("\"a\", \"b\""));
        assert_eq!(found.range, None);
    }

    #[test]
    fn what_breaks_a_rule_is_refused_by_its_number() {
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
            ("\x16\x03\x01\x02\0\x01\0", 400),
        ] {
            assert_eq!(refused(text.as_bytes()), status, "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(70));
        assert_eq!(refused(many.as_bytes()), 431);
    }

    #[test]
    fn a_head_cut_anywhere_is_waited_for() {
        let text = "GET /2026-11-27.pcap HTTP/1.1\r\nHost: pcap\r\nRange: bytes=5-\r\n\r\n";
        for cut in 0..text.len() {
            assert!(matches!(parse(&text.as_bytes()[..cut]), Ok(None)), "{cut}");
        }
    }
}

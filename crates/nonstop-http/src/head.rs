//! The head of a request, read from a connection within bounds of time and length.

use std::{
    io::{self, Read},
    net::TcpStream,
    time::{Duration, Instant},
};

/// What a head may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest one, in bytes.
    pub bytes: usize,
    /// Header fields.
    pub fields: usize,
    /// How long a connection may say nothing between two requests.
    pub idle: Duration,
    /// How long it may take from its first byte to its last.
    pub time: Duration,
}

/// What a client asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Head {
    /// As sent.
    pub method: String,
    /// The target as sent.
    pub target: String,
    /// Whether the connection goes on after the answer, as the client has it.
    pub keep_alive: bool,
    /// Whether it is of HTTP/1.0.
    pub old: bool,
    /// Names in lower case, and what stands behind them; nothing where that is not UTF-8.
    pub fields: Vec<(String, String)>,
    /// Whether some field was not UTF-8.
    pub is_odd: bool,
}

/// Why no head comes.
#[derive(Debug)]
pub enum NoHead {
    /// The client is gone, or has said nothing for too long: nothing to answer.
    Over,
    /// It broke a rule: answered with this status, and the connection ends.
    Bad(u16, &'static str),
}

impl Head {
    /// The fields `name`, in lower case, in their order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The field `name`; the first where there are several.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The fields `name` as one list; None if there is none.
    pub fn list(&self, name: &str) -> Option<String> {
        let all: Vec<&str> = self.all(name).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// The field `name`, if it is there exactly once.
    pub fn only(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(own, _)| own == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

/// What came from a connection and was not used yet.
#[derive(Debug)]
pub struct Incoming {
    /// In order: the beginning of a body, or of the next head.
    pub bytes: Vec<u8>,
    limits: Limits,
}

impl Incoming {
    /// Nothing yet; heads will keep to `limits`.
    pub fn new(limits: Limits) -> Incoming {
        Incoming { bytes: Vec::new(), limits }
    }

    /// The next head from `stream`, once the body before it is taken.
    ///
    /// Errors: there is none, or it breaks a rule; the connection has to end.
    pub fn next(&mut self, mut stream: &TcpStream) -> Result<Head, NoHead> {
        let Limits { bytes: longest, idle, time, .. } = self.limits;
        let mut until = Instant::now() + if self.bytes.is_empty() { idle } else { time };
        loop {
            if let Some((head, used)) = parse(&self.bytes, &self.limits)? {
                self.bytes.drain(..used);
                return Ok(head);
            }
            if self.bytes.len() >= longest {
                return Err(NoHead::Bad(431, "the request's head is too long"));
            }
            let left = until.saturating_duration_since(Instant::now());
            let late = if self.bytes.is_empty() { NoHead::Over } else { TOO_SLOW };
            if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
                return Err(late);
            }
            let (had, mut chunk) = (self.bytes.len(), [0; 8192]);
            let room = chunk.len().min(longest - had);
            match stream.read(&mut chunk[..room]) {
                Ok(0) => return Err(NoHead::Over),
                Ok(n) => self.bytes.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(late),
                Err(_) => return Err(NoHead::Over),
            }
            if had == 0 {
                until = Instant::now() + time;
            }
        }
    }
}

const TOO_SLOW: NoHead = NoHead::Bad(408, "the request's head took too long");

/// The head at the beginning of `bytes` and its length; None if it is not whole yet.
///
/// How long it is and takes is not judged here: see [`Incoming::next`].
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, NoHead> {
    let mut fields = vec![httparse::EMPTY_HEADER; limits.fields];
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
    for field in request.headers.iter() {
        let name = field.name.to_ascii_lowercase();
        let value = std::str::from_utf8(field.value);
        head.is_odd |= value.is_err();
        head.fields.push((name, value.unwrap_or_default().trim().into()));
    }
    let hosts = head.all("host").count();
    if hosts > 1 || (hosts == 0 && !old) {
        return Err(NoHead::Bad(400, "name one Host"));
    }
    let connection = head.list("connection").unwrap_or_default();
    for word in connection.split(',').map(str::trim) {
        if word.eq_ignore_ascii_case("close") {
            head.keep_alive = false;
        } else if word.eq_ignore_ascii_case("keep-alive") && old {
            head.keep_alive = true;
        }
    }
    Ok(Some((head, used)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, net::TcpListener};

    const LIMITS: Limits = Limits {
        bytes: 8192,
        fields: 64,
        idle: Duration::from_secs(5),
        time: Duration::from_millis(100),
    };

    fn head(text: &str) -> Head {
        let (head, used) = parse(text.as_bytes(), &LIMITS).expect("a head").expect("a whole one");
        assert_eq!(used, text.len());
        head
    }

    fn refused(bytes: &[u8]) -> u16 {
        match parse(bytes, &LIMITS) {
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
    fn lists_over_several_fields_are_one_and_several_of_the_others_are_none() {
        let found = head(
            "GET /x HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\n\
             Range: bytes=0-1\r\nRange: bytes=2-3\r\n\r\n",
        );
        assert_eq!(found.list("if-none-match").as_deref(), Some("\"a\", \"b\""));
        assert_eq!(found.only("range"), None);
        assert_eq!(found.field("range"), Some("bytes=0-1"));
        assert_eq!((found.only("host"), found.list("accept")), (Some("a"), None));
    }

    #[test]
    fn of_a_field_that_is_no_text_it_is_kept_that_it_was_there() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nIf-Match: \xff\r\nX: \xe3\x81\x82\r\n\r\n";
        let (odd, _) = parse(bytes, &LIMITS).expect("a head").expect("a whole one");
        assert!(odd.is_odd);
        assert_eq!((odd.field("if-match"), odd.field("x")), (Some(""), Some("あ")));
        assert!(!head("GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_odd);
    }

    #[test]
    fn a_head_that_is_too_long_or_too_slow_is_refused_and_silence_is_none() {
        let refused = |sent: &str, limits: Limits| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let mut near =
                TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
            let stream = listener.accept().expect("accept").0;
            near.write_all(sent.as_bytes()).expect("sent");
            match Incoming::new(limits).next(&stream) {
                Ok(head) => panic!("{head:?}"),
                Err(NoHead::Bad(status, _)) => status,
                Err(NoHead::Over) => 0,
            }
        };
        assert_eq!(refused("GET / HTTP/1.1\r\nHo", LIMITS), 408);
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(LIMITS.bytes));
        assert_eq!(refused(&long, LIMITS), 431);
        assert_eq!(refused("", Limits { idle: Duration::from_millis(50), ..LIMITS }), 0);
    }

    #[test]
    fn what_breaks_a_rule_is_refused_by_its_number() {
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
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
        let text = "MOVE /a HTTP/1.1\r\nHost: airlock\r\nDestination: /b\r\n\r\n";
        for cut in 0..text.len() {
            assert!(matches!(parse(&text.as_bytes()[..cut], &LIMITS), Ok(None)), "{cut}");
        }
    }
}

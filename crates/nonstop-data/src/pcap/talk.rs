//! One connection, from its first request to its last.

use super::{
    answer::{Answer, Part, Site},
    days::{Open, http_date},
    fetches::Fetches,
    head::{Head, Incoming, NoHead},
    log::{Entry, Log},
};
use jiff::Timestamp;
use rustix::{
    fs::sendfile,
    net::{SendFlags, send},
};
use std::{
    fs::File,
    io::{self, Read},
    net::{Ipv4Addr, Shutdown, TcpStream},
    ops::Range,
    time::{Duration, Instant},
};

/// Requests of one connection.
const REQUESTS: usize = 1000;
/// How long a client may take nothing.
const STALLED: Duration = Duration::from_secs(30);
/// The most of a file by one call, in bytes.
const PIECE: u64 = 4 << 20;
/// How long a connection that ends may take to hear of it.
const FAREWELL: Duration = Duration::from_millis(500);

/// What every connection of a server shares.
#[derive(Debug)]
pub(super) struct Shared {
    /// What is served.
    pub(super) site: Site,
    /// What is said of it to staff.
    pub(super) log: Log,
    /// What is said of it to `nonstopd`; `None` once nobody reads.
    pub(super) fetches: Fetches<File>,
}

impl Shared {
    /// Answers whatever `address` asks on `stream` until one of them ends it.
    pub(super) fn talk(&self, stream: &TcpStream, address: Ipv4Addr) {
        if stream.set_nodelay(true).is_err() || stream.set_write_timeout(Some(STALLED)).is_err() {
            return;
        }
        let mut incoming = Incoming::default();
        for number in 1..=REQUESTS {
            let head = match incoming.next(stream) {
                Ok(head) => head,
                Err(NoHead::Over) => return,
                Err(NoHead::Bad(status, why)) => {
                    let head = Head { method: "-".into(), ..Head::default() };
                    let _client_gone =
                        self.send(stream, address, &head, Answer::text(status, why), false);
                    break;
                }
            };
            let keep = head.keep_alive && number < REQUESTS;
            let answer = self.site.answer(&head);
            match self.send(stream, address, &head, answer, keep) {
                Ok(()) if keep => {}
                Ok(()) => break,
                Err(_) => return,
            }
        }
        farewell(stream);
    }

    /// Sends `answer` and tells of it.
    fn send(
        &self,
        stream: &TcpStream,
        address: Ipv4Addr,
        head: &Head,
        answer: Answer,
        keep: bool,
    ) -> io::Result<()> {
        let (begun, mut sent) = (Instant::now(), 0);
        let parts = if head.method == "HEAD" { &[][..] } else { &answer.parts };
        let open = answer.open.as_deref().filter(|_| !parts.is_empty());
        if let Some(open) = open {
            self.fetches.begin(address, &open.note.file, &open.note.sha256);
        }
        let mut text = first(&answer, head, keep);
        let mut done = Ok(());
        for part in parts {
            done = match (part, open) {
                (Part::Bytes(bytes), _) => {
                    sent += bytes.len() as u64;
                    text.extend_from_slice(bytes);
                    continue;
                }
                (Part::Of(range), Some(open)) => {
                    let begun = all(stream, &text, SendFlags::MORE);
                    text.clear();
                    begun.and_then(|()| self.file(stream, address, open, range.clone(), &mut sent))
                }
                (Part::Of(_), None) => Err(io::ErrorKind::NotFound.into()),
            };
            if done.is_err() {
                break;
            }
        }
        let done = done.and_then(|()| all(stream, &text, SendFlags::empty()));
        self.log.say(&Entry {
            address,
            method: &head.method,
            path: &head.target,
            status: answer.status,
            bytes: sent,
            took: begun.elapsed(),
            trouble: &answer.trouble,
        });
        done
    }

    fn file(
        &self,
        stream: &TcpStream,
        address: Ipv4Addr,
        open: &Open,
        range: Range<u64>,
        sent: &mut u64,
    ) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let piece = usize::try_from((range.end - at).min(PIECE)).unwrap_or(usize::MAX);
            match sendfile(stream, &open.file, Some(&mut at), piece) {
                // Shorter than when it was opened; the client sees that bytes are missing.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    let bytes = bytes as u64;
                    *sent += bytes;
                    self.fetches.more(address, &open.note.file, &open.note.sha256, bytes);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// The head of `answer`.
fn first(answer: &Answer, head: &Head, keep: bool) -> Vec<u8> {
    let length = match answer.status {
        304 => String::new(),
        _ => format!("Content-Length: {}\r\n", answer.length()),
    };
    let connection = match (keep, head.old) {
        (false, _) => "Connection: close\r\n",
        (true, true) => "Connection: keep-alive\r\n",
        (true, false) => "",
    };
    format!(
        "HTTP/1.1 {} {}\r\nDate: {}\r\n{length}{connection}X-Content-Type-Options: nosniff\r\n{}\r\n",
        answer.status,
        answer.reason(),
        http_date(Timestamp::now()),
        answer.fields
    )
    .into_bytes()
}

fn all(stream: &TcpStream, mut bytes: &[u8], flags: SendFlags) -> io::Result<()> {
    while !bytes.is_empty() {
        match send(stream, bytes, flags | SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Ends `stream` such that its client reads the answer: to close it while something that it sent
/// lies unread would take the answer from it.
fn farewell(mut stream: &TcpStream) {
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let until = Instant::now() + FAREWELL;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        if !matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
            return;
        }
    }
}

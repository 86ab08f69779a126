//! One connection, from its first request to its last.

use super::{
    Answer, Site, Source,
    door::output,
    fetches::Fetches,
    log::{Entry, Log},
};
use anyhow::Result;
use jiff::Timestamp;
use nonstop_http::{Head, Incoming, Limits, NoHead, Part, all, farewell, http_date, reason};
use rustix::net::SendFlags;
use std::{
    fs::File,
    io,
    net::{Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

/// Requests of one connection.
const REQUESTS: usize = 1000;
/// How long a client may take nothing.
const STALLED: Duration = Duration::from_secs(30);
/// How long a connection that ends may take to hear of it.
const FAREWELL: Duration = Duration::from_millis(500);
/// What a head may be.
const LIMITS: Limits = Limits {
    bytes: 8192,
    fields: 64,
    idle: Duration::from_secs(15),
    time: Duration::from_secs(10),
};

/// What every connection of a server shares.
#[derive(Debug)]
pub struct Shared<S> {
    site: S,
    /// What is said of it to staff.
    log: Log,
    /// What is said of it to `nonstopd`.
    fetches: Fetches<File>,
}

impl<S: Site> Shared<S> {
    /// What `server` of the data domain `domain` serves. Who takes what is told on standard output, for
    /// which nobody ever waits.
    pub fn new(domain: &str, server: &str, site: S) -> Result<Shared<S>> {
        let fetches = Fetches::new(domain, server, output()?);
        Ok(Shared { site, log: Log::default(), fetches })
    }

    /// Tells what is due at `now`, and lets go of what is no longer published; false where nothing can be
    /// any more.
    pub(super) fn tidy(&self, now: Instant) -> bool {
        self.fetches.tell_due(now);
        self.site.tidy()
    }

    /// Answers whatever `address` asks on `stream` until one of them ends it.
    pub(super) fn talk(&self, stream: &TcpStream, address: Ipv4Addr) {
        if stream.set_nodelay(true).is_err() || stream.set_write_timeout(Some(STALLED)).is_err() {
            return;
        }
        let mut incoming = Incoming::new(LIMITS);
        for number in 1..=REQUESTS {
            let head = match incoming.next(stream).and_then(bodiless) {
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
        farewell(stream, FAREWELL);
    }

    /// Sends `answer` and tells of it.
    fn send(
        &self,
        stream: &TcpStream,
        address: Ipv4Addr,
        head: &Head,
        mut answer: Answer<S::Open>,
        keep: bool,
    ) -> io::Result<()> {
        let (begun, mut sent) = (Instant::now(), 0);
        let mut text = first(&answer, head, keep);
        if head.method == "HEAD" {
            answer.parts.clear();
        }
        let open = answer.open.take().filter(|_| !answer.parts.is_empty());
        let open = open.map(|open| (open.sha256(), open));
        // Told before its first byte.
        if let Some((sha256, open)) = &open {
            self.fetches.begin(address, open.what(), sha256);
        }
        let mut done = Ok(());
        for part in &answer.parts {
            done = match (part, &open) {
                (Part::Bytes(bytes), _) => {
                    sent += bytes.len() as u64;
                    text.extend_from_slice(bytes);
                    continue;
                }
                (Part::Of(range), Some((sha256, open))) => {
                    let begun = all(stream, &text, SendFlags::MORE);
                    text.clear();
                    let mut went = |bytes| {
                        sent += bytes;
                        self.fetches.more(address, open.what(), sha256, bytes);
                    };
                    begun.and_then(|()| open.give(stream, range.clone(), &mut went))
                }
                (Part::Of(_), None) => Err(io::ErrorKind::NotFound.into()),
            };
            if done.is_err() {
                break;
            }
        }
        if let Err(e) = &done
            && e.kind() == io::ErrorKind::InvalidData
        {
            answer.trouble.push(e.to_string());
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
}

/// The head of `answer`.
fn first<O>(answer: &Answer<O>, head: &Head, keep: bool) -> Vec<u8> {
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
        reason(answer.status),
        http_date(Timestamp::now()),
        answer.fields
    )
    .into_bytes()
}

/// `head`, if its request has no body: nothing here takes one, and to guess where one ends is how
/// requests get smuggled.
fn bodiless(head: Head) -> Result<Head, NoHead> {
    let none = head.all("content-length").all(|length| length == "0")
        && head.all("transfer-encoding").next().is_none();
    if none { Ok(head) } else { Err(NoHead::Bad(400, "no request has a body here")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_http::parse;

    #[test]
    fn no_request_has_a_body() {
        for (fields, passes) in [
            ("", true),
            ("Content-Length: 0\r\n", true),
            ("Content-Length: 3\r\n", false),
            ("Content-Length: 0\r\nContent-Length: 3\r\n", false),
            ("Transfer-Encoding: chunked\r\n", false),
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let (head, _) = parse(text.as_bytes(), &LIMITS).expect("a head").expect("a whole one");
            assert_eq!(bodiless(head).is_ok(), passes, "{fields}");
        }
    }
}

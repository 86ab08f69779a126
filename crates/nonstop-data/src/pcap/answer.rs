//! What a request gets: decided here, without a byte of it sent.

use super::{
    days::{Days, Open, day_of},
    head::Head,
    listing::{Language, Place, json, page, sums},
    range::{Asked, asked},
};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use std::{fmt::Write as _, ops::Range, sync::Arc};

/// What is served, and under which name.
#[derive(Debug)]
pub(super) struct Site {
    /// The days.
    pub(super) days: Days,
    /// How it is reached.
    pub(super) place: Place,
}

/// An answer that is still to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// Header fields of its own, each with its line end.
    pub(super) fields: String,
    /// Its body, in order; left out where the request was HEAD.
    pub(super) parts: Vec<Part>,
    /// The day that is being taken, which `Part::Of` are parts of.
    pub(super) open: Option<Arc<Open>>,
    /// What staff should see to, though the machine is not to know it.
    pub(super) trouble: Vec<String>,
}

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These of the day's file.
    Of(Range<u64>),
}

impl Answer {
    /// A short text.
    pub(super) fn text(status: u16, text: &str) -> Answer {
        let mut answer = Answer::empty(status).field("Content-Type", "text/plain; charset=utf-8");
        answer.parts.push(Part::Bytes(format!("{text}\n").into_bytes()));
        answer
    }

    fn empty(status: u16) -> Answer {
        Answer { status, fields: String::new(), parts: vec![], open: None, trouble: vec![] }
    }

    /// What went wrong stays here.
    fn trouble(text: &str, trouble: impl Into<anyhow::Error>) -> Answer {
        let trouble = vec![format!("{:#}", trouble.into())];
        Answer { trouble, ..Answer::text(500, text) }
    }

    fn field(mut self, name: &str, value: &str) -> Answer {
        let _ = write!(self.fields, "{name}: {value}\r\n");
        self
    }

    /// Bytes of its body.
    pub(super) fn length(&self) -> u64 {
        let length = |part: &Part| match part {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Of(range) => range.end - range.start,
        };
        self.parts.iter().map(length).sum()
    }

    /// Its status in words.
    pub(super) fn reason(&self) -> &'static str {
        match self.status {
            200 => "OK",
            206 => "Partial Content",
            304 => "Not Modified",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            412 => "Precondition Failed",
            416 => "Range Not Satisfiable",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        }
    }
}

const NOT_FOUND: &str = "there is nothing of this name: see / for the days that there are";

impl Site {
    /// What `head` gets.
    pub(super) fn answer(&self, head: &Head) -> Answer {
        if !["GET", "HEAD"].contains(&head.method.as_str()) {
            return Answer::text(405, "there is GET and HEAD here").field("Allow", "GET, HEAD");
        }
        let Some(path) = path(&head.target) else {
            return Answer::text(400, "this is no path");
        };
        let json_wanted = || {
            let accept = head.accept.as_deref().unwrap_or_default();
            accept.contains("application/json") && !accept.contains("text/html")
        };
        match path.as_str() {
            "/" if json_wanted() => self.listed(json, "application/json"),
            "/" => {
                let language = Language::of(head.accept_language.as_deref());
                let page = |place: &Place, days: &[Arc<Open>]| page(language, place, days);
                let policy = "default-src 'none'; style-src 'unsafe-inline'";
                self.listed(page, "text/html; charset=utf-8")
                    .field("Content-Security-Policy", policy)
            }
            "/index.json" => self.listed(json, "application/json"),
            "/SHA256SUMS" => self.listed(|_, days| sums(days), "text/plain; charset=utf-8"),
            path => self.file(path.trim_start_matches('/'), head),
        }
    }

    fn listed(&self, render: impl FnOnce(&Place, &[Arc<Open>]) -> String, content: &str) -> Answer {
        let (days, wrong) = match self.days.all() {
            Ok(found) => found,
            Err(e) => {
                let text = "the days cannot be listed now: tell the lab's staff";
                return Answer::trouble(text, anyhow::Error::from(e).context("list the days"));
            }
        };
        let mut answer = Answer::empty(200).field("Content-Type", content);
        answer.parts.push(Part::Bytes(render(&self.place, &days).into_bytes()));
        answer.trouble =
            wrong.into_iter().map(|e| format!("{:#}", anyhow::Error::from(e))).collect();
        answer.field("Cache-Control", "no-cache").field("Vary", "Accept, Accept-Language")
    }

    /// `name` is a day's file, or the hash beside it.
    fn file(&self, name: &str, head: &Head) -> Answer {
        let (file, hash) = match name.strip_suffix(".sha256") {
            Some(file) => (file, true),
            None => (name, false),
        };
        let day = file.split_once('.').and_then(|(day, _)| day_of(day));
        let Some(day) = day.filter(|_| file.ends_with(".pcap") || file.ends_with(".pcapng")) else {
            return Answer::text(404, NOT_FOUND);
        };
        let open = match self.days.get(day) {
            Ok(Some(open)) => open,
            Ok(None) => return Answer::text(404, NOT_FOUND),
            Err(e) => {
                return Answer::trouble("this day cannot be served now: tell the lab's staff", e);
            }
        };
        if file != open.note.file {
            return Answer::text(404, &format!("the file of this day is {}", open.note.file));
        }
        if hash {
            let mut answer = Answer::text(200, "");
            answer.parts = vec![Part::Bytes(sums([&open]).into_bytes())];
            return answer.field("Cache-Control", "no-cache");
        }
        whole_or_parts(open, head)
    }
}

/// The day's file as `head` has its conditions and range.
fn whole_or_parts(open: Arc<Open>, head: &Head) -> Answer {
    let (length, etag) = (open.note.bytes, open.etag.clone());
    let version = |answer: Answer| {
        answer
            .field("ETag", &etag)
            .field("Last-Modified", &open.modified)
            .field("Accept-Ranges", "bytes")
    };
    match condition(head, &open) {
        Condition::Holds => {}
        Condition::Failed => {
            return version(Answer::text(
                412,
                "this day is another version than the one asked for",
            ));
        }
        Condition::Unchanged => return version(Answer::empty(304)),
    }
    // Ranges are for GET alone (RFC 9110, 14.2).
    let range = head.range.as_deref().filter(|_| head.method == "GET");
    let range = range.filter(|_| match head.if_range.as_deref() {
        None => true,
        Some(value) => value == etag || value == open.modified,
    });
    let content = match open.note.format.as_str() {
        "pcap" => "application/vnd.tcpdump.pcap",
        _ => "application/x-pcapng",
    };
    let mut answer = match range.map_or(Asked::Whole, |range| asked(range, length)) {
        Asked::Beyond => {
            let answer = Answer::text(416, "the file is shorter than that");
            return version(answer.field("Content-Range", &format!("bytes */{length}")));
        }
        Asked::Whole => {
            let mut answer = Answer::empty(200).field("Content-Type", content);
            answer.parts.push(Part::Of(0..length));
            answer
        }
        Asked::Parts(parts) if parts.len() == 1 => {
            let part = parts[0].clone();
            let is = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            let mut answer =
                Answer::empty(206).field("Content-Type", content).field("Content-Range", &is);
            answer.parts.push(Part::Of(part));
            answer
        }
        Asked::Parts(parts) => several(&parts, length, content, &open.note.sha256),
    };
    answer = version(answer);
    answer.open = Some(open);
    answer
}

/// Several ranges, each with a head of its own.
fn several(parts: &[Range<u64>], length: u64, content: &str, sha256: &str) -> Answer {
    // A file that holds its own hash is not to be found, so no file holds this line.
    let boundary = &sha256[..48];
    let mut body = Vec::new();
    for part in parts {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: {content}\r\nContent-Range: bytes {}-{}/{length}\r\n\r\n",
            part.start,
            part.end - 1
        );
        body.extend([Part::Bytes(head.into_bytes()), Part::Of(part.clone())]);
    }
    body.push(Part::Bytes(format!("\r\n--{boundary}--\r\n").into_bytes()));
    let kind = format!("multipart/byteranges; boundary={boundary}");
    Answer { parts: body, ..Answer::empty(206).field("Content-Type", &kind) }
}

enum Condition {
    Holds,
    Failed,
    Unchanged,
}

/// In the order of RFC 9110, 13.2.2.
fn condition(head: &Head, open: &Open) -> Condition {
    let date = |text: &Option<String>| {
        let text = text.as_deref()?;
        DateTimeParser::new().parse_timestamp(text).ok()
    };
    let named = |list: &str, weak: bool| {
        list.split(',').map(str::trim).any(|tag| {
            let tag = if weak { tag.trim_start_matches("W/") } else { tag };
            tag == "*" || tag == open.etag
        })
    };
    let at: Timestamp = open.modified_at;
    match (&head.if_match, date(&head.if_unmodified_since)) {
        (Some(list), _) if !named(list, false) => return Condition::Failed,
        (None, Some(since)) if at > since => return Condition::Failed,
        _ => {}
    }
    match (&head.if_none_match, date(&head.if_modified_since)) {
        (Some(list), _) if named(list, true) => Condition::Unchanged,
        (None, Some(since)) if at <= since => Condition::Unchanged,
        _ => Condition::Holds,
    }
}

/// The path of a request's target, without query and escapes; None if it is none.
fn path(target: &str) -> Option<String> {
    let path = match target.split_once("://") {
        // As sent to a proxy; whose name stands there makes no difference here.
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    let path = path.split('?').next()?;
    if !path.starts_with('/') {
        return None;
    }
    let (mut plain, mut rest) = (Vec::new(), path.as_bytes());
    while let [byte, more @ ..] = rest {
        rest = more;
        match (byte, more) {
            (b'%', [high, low, more @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let value = digit(high)? * 16 + digit(low)?;
                plain.push(u8::try_from(value).ok()?);
                rest = more;
            }
            (b'%', _) => return None,
            (byte, _) => plain.push(*byte),
        }
    }
    let plain = String::from_utf8(plain).ok()?;
    (!plain.contains(char::is_control)).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_stands_in_the_target() {
        for (target, is) in [
            ("/", Some("/")),
            ("/index.json?x=%zz", Some("/index.json")),
            ("/2026%2D11-27.pcap", Some("/2026-11-27.pcap")),
            ("http://pcap/2026-11-27.pcap", Some("/2026-11-27.pcap")),
            ("HTTP://pcap", Some("/")),
            ("*", None),
            ("index.json", None),
            ("/a%00b", None),
            ("/a%0d%0ab", None),
            ("/a%", None),
            ("/a%4", None),
            ("/a%+1", None),
            ("/%ff", None),
        ] {
            assert_eq!(path(target).as_deref(), is, "{target}");
        }
    }
}

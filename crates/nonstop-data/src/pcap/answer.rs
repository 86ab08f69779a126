//! What a request gets: decided here, without a byte of it sent.

use super::{
    days::{Days, Open, day_of},
    listing::{Place, json, page, sums},
};
use crate::web::{self, Language, Source};
use nonstop_http::{Condition, Head, condition, file, http_date, portion, range, unescaped};
use std::{io, net::TcpStream, ops::Range, sync::Arc};

/// What is served, and under which name.
#[derive(Debug)]
pub(super) struct Site {
    /// The days.
    pub(super) days: Days,
    /// How it is reached.
    pub(super) place: Place,
}

type Answer = web::Answer<Arc<Open>>;

/// The machine is told `text`; what went wrong stays here.
fn trouble(text: &str, trouble: impl Into<anyhow::Error>) -> Answer {
    Answer::trouble(text, format!("{:#}", trouble.into()))
}

const NOT_FOUND: &str = "there is nothing of this name: see / for the days that there are";

impl Source for Arc<Open> {
    fn what(&self) -> &str {
        &self.note.file
    }

    fn sha256(&self) -> String {
        self.note.sha256.clone()
    }

    fn give(
        &self,
        stream: &TcpStream,
        range: Range<u64>,
        went: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        file(stream, &self.file, range, went)
    }
}

impl web::Site for Site {
    type Open = Arc<Open>;

    fn tidy(&self) -> bool {
        self.days.forget();
        self.days.is_there()
    }

    fn answer(&self, head: &Head) -> Answer {
        if !["GET", "HEAD"].contains(&head.method.as_str()) {
            return Answer::text(405, "there is GET and HEAD here").field("Allow", "GET, HEAD");
        }
        let Some(path) = path(&head.target) else {
            return Answer::text(400, "this is no path");
        };
        let json_wanted = || {
            let accept = head.list("accept").unwrap_or_default();
            accept.contains("application/json") && !accept.contains("text/html")
        };
        match path.as_str() {
            "/" if json_wanted() => self.listed(json, "application/json"),
            "/" => {
                let language = Language::of(head.list("accept-language").as_deref());
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
}

impl Site {
    fn listed(&self, render: impl FnOnce(&Place, &[Arc<Open>]) -> String, content: &str) -> Answer {
        let (days, wrong) = match self.days.all() {
            Ok(found) => found,
            Err(e) => {
                let text = "the days cannot be listed now: tell the lab's staff";
                return trouble(text, anyhow::Error::from(e).context("list the days"));
            }
        };
        let text = render(&self.place, &days).into_bytes();
        let answer = Answer::empty(200).field("Content-Type", content).chosen().body(text);
        let trouble = wrong.into_iter().map(|e| format!("{:#}", anyhow::Error::from(e))).collect();
        Answer { trouble, ..answer }
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
                return trouble("this day cannot be served now: tell the lab's staff", e);
            }
        };
        if file != open.note.file {
            return Answer::text(404, &format!("the file of this day is {}", open.note.file));
        }
        if hash {
            let sum = sums([&open]);
            return Answer::text(200, sum.trim_end()).field("Cache-Control", "no-cache");
        }
        whole_or_parts(open, head)
    }
}

/// The day's file as `head` has its conditions and range.
fn whole_or_parts(open: Arc<Open>, head: &Head) -> Answer {
    let version = |answer: Answer| {
        answer
            .field("ETag", &open.version.etag)
            .field("Last-Modified", &http_date(open.version.modified))
            .field("Accept-Ranges", "bytes")
    };
    match condition(head, Some(&open.version)) {
        Condition::Holds => {}
        Condition::Failed => {
            return version(Answer::text(
                412,
                "this day is another version than the one asked for",
            ));
        }
        Condition::Unchanged => return version(Answer::empty(304)),
    }
    let content = match open.note.format.as_str() {
        "pcap" => "application/vnd.tcpdump.pcap",
        _ => "application/x-pcapng",
    };
    // A file that holds its own hash is not to be found, so no file holds this line.
    let boundary = || open.note.sha256[..48].to_string();
    let portion = match portion(range(head, &open.version), open.note.bytes, content, boundary) {
        Ok(portion) => portion,
        Err(beyond) => {
            let answer = Answer::text(416, "the file is shorter than that");
            return version(answer.field("Content-Range", &beyond));
        }
    };
    let mut answer = Answer::empty(portion.status);
    for (name, value) in &portion.fields {
        answer = answer.field(name, value);
    }
    answer = version(answer);
    answer.parts = portion.parts;
    answer.open = Some(open);
    answer
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
    let plain = String::from_utf8(unescaped(path)?).ok()?;
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

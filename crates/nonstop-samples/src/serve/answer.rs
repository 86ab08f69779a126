//! What a request gets: decided here, without a byte of it sent.

use super::{
    open::{self, Open, Way},
    page::{self, Words},
};
use crate::{
    child::chain,
    days::{Day, DayError, Days, day_of},
    digest::Digest,
    index::{Filter, KeptReport, Sample},
    pack::Place,
    search::{SearchError, search_readable, view},
};
use jiff::Timestamp;
use nonstop_api::samples::SampleQuery;
use nonstop_data::web::{self, Language};
use nonstop_http::{Condition, Head, Version, condition, portion, range, unescaped};
use serde_json::json;
use std::{collections::HashSet, fs, os::unix::fs::MetadataExt as _, sync::Arc, time::Duration};

/// How long a search may take.
const TIME: Duration = Duration::from_secs(2);
/// Digits of a hash that are enough to be led on.
const ENOUGH: usize = 8;

/// What a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// Samples and what is known of them.
    Samples,
    /// What is known of them alone.
    Words,
    /// Reports of them, and what is known.
    Reports,
}

/// What is served, and under which name.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) days: Days,
    pub(super) gives: Gives,
    pub(super) domain: String,
    pub(super) host: String,
}

type Answer = web::Answer<Open>;

/// The machine is told no more than that it cannot be; what went wrong stays here.
fn trouble(e: &dyn std::error::Error) -> Answer {
    Answer::trouble("this cannot be served now: tell the lab's staff", chain(e))
}

fn json_of(value: &impl serde::Serialize) -> Answer {
    let mut text = serde_json::to_vec(value).expect("strings and numbers");
    text.push(b'\n');
    Answer::empty(200).field("Content-Type", "application/json").chosen().body(text)
}

fn html(text: String) -> Answer {
    Answer::empty(200)
        .page(text, "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
}

const NOT_FOUND: &str = "there is nothing of this name: see / for what there is";

impl web::Site for Site {
    type Open = Open;

    fn tidy(&self) -> bool {
        self.days.forget();
        fs::metadata("/").is_ok_and(|found| found.nlink() > 0)
    }

    fn answer(&self, head: &Head) -> Answer {
        if !["GET", "HEAD"].contains(&head.method.as_str()) {
            return Answer::text(405, "there is GET and HEAD here").field("Allow", "GET, HEAD");
        }
        let Some((path, query)) = target(&head.target) else {
            return Answer::text(400, "this is no path");
        };
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let accept = head.list("accept").unwrap_or_default();
        let json = accept.contains("application/json") && !accept.contains("text/html");
        let (days, wrong) = match self.days.all() {
            Ok(found) => found,
            Err(e) => return trouble(&e),
        };
        let asked = Asked { site: self, head, days };
        let mut answer = match parts[..] {
            [""] | ["search"] => asked.search(&query, json),
            ["search.json" | "index.json"] => asked.search(&query, true),
            ["samples", hash] => match hash.strip_suffix(".json") {
                Some(hash) => asked.led(hash, "/samples/", ".json", |d| asked.sample(d, true)),
                None => asked.led(hash, "/samples/", "", |d| asked.sample(d, json)),
            },
            ["samples", hash, "plain"] => {
                asked.led(hash, "/samples/", "/plain", |d| asked.bytes(d, Way::Plain))
            }
            ["samples", hash, "zip"] => {
                asked.led(hash, "/samples/", "/zip", |d| asked.bytes(d, Way::Zip))
            }
            ["reports", hash] => match hash.strip_suffix(".json") {
                Some(hash) => asked.led(hash, "/reports/", ".json", |d| asked.reports(d, true)),
                None => asked.led(hash, "/reports/", "", |d| asked.reports(d, json)),
            },
            ["reports", hash, day] => asked.report(hash, day, "1"),
            ["reports", hash, day, run] => asked.report(hash, day, run),
            _ => Answer::text(404, NOT_FOUND),
        };
        answer.trouble.extend(wrong.iter().map(|e| chain(e)));
        answer
    }
}

/// One request.
struct Asked<'a> {
    site: &'a Site,
    head: &'a Head,
    days: Vec<Arc<Day>>,
}

impl Asked<'_> {
    fn language(&self) -> Language {
        Language::of(self.head.list("accept-language").as_deref())
    }

    fn words(&self) -> Words<'_> {
        let Site { gives, domain, host, .. } = self.site;
        Words { language: self.language(), gives: *gives, domain, host }
    }

    fn search(&self, fields: &[(String, String)], json: bool) -> Answer {
        let query = match query(fields) {
            Ok(query) => query,
            Err(why) => return Answer::text(400, &why),
        };
        let mut wrong = Vec::new();
        let mut answer = match search_readable(self.days.clone(), &query, TIME, &mut wrong) {
            Ok(page) if page.samples.is_empty() && !wrong.is_empty() => {
                trouble(&wrong.swap_remove(0))
            }
            Ok(page) if json => json_of(&page),
            Ok(page) => html(page::found(&self.words(), &query, &page)),
            Err(SearchError::Query(e)) => Answer::text(400, &e.to_string()),
            Err(e @ SearchError::Late(_)) => Answer::text(503, &e.to_string()),
            Err(SearchError::Day(e)) => trouble(&e),
        };
        answer.trouble.extend(wrong.iter().map(|e| chain(e)));
        answer
    }

    /// What `of` gives for the whole hash `hash`; for a begin of one, where that is.
    fn led(&self, hash: &str, before: &str, after: &str, of: impl Fn(Digest) -> Answer) -> Answer {
        if let Some(digest) = Digest::read(hash) {
            return of(digest);
        }
        let filter = Filter::new(&SampleQuery { hash: hash.into(), ..SampleQuery::default() });
        let Some((low, high)) = filter.ok().and_then(|filter| filter.hash) else {
            return Answer::text(404, NOT_FOUND);
        };
        if hash.len() < ENOUGH {
            return Answer::text(404, "give at least 8 digits of a hash");
        }
        let mut found = HashSet::new();
        for day in &self.days {
            match day.between(low, high) {
                Ok(some) => found.extend(some),
                Err(e) => return trouble(&e),
            }
        }
        match found.iter().next() {
            Some(one) if found.len() == 1 => {
                let to = format!("{before}{one}{after}");
                Answer::text(307, &to).field("Location", &to)
            }
            Some(_) => Answer::text(404, "several samples begin so: give more digits"),
            None => Answer::text(404, NOT_FOUND),
        }
    }

    fn sample(&self, digest: Digest, json: bool) -> Answer {
        match view(&self.days, digest) {
            Ok(view) if view.days.is_empty() => Answer::text(404, NOT_FOUND),
            Ok(view) if json => json_of(&view),
            Ok(view) => html(page::sample(&self.words(), &view)),
            Err(e) => trouble(&e),
        }
    }

    fn bytes(&self, digest: Digest, way: Way) -> Answer {
        if self.site.gives != Gives::Samples {
            let text = "this server tells of samples and has not their bytes";
            return Answer::text(403, text);
        }
        let (day, place) = match self.newest(digest) {
            Ok(Some(found)) => found,
            Ok(None) => return Answer::text(404, NOT_FOUND),
            Err(e) => return trouble(&e),
        };
        let etag = match way {
            Way::Zip => format!("\"{digest}.zip\""),
            Way::Plain | Way::Report => format!("\"{digest}\""),
        };
        let kind = match way {
            Way::Zip => "application/zip",
            Way::Plain | Way::Report => "application/octet-stream",
        };
        let file = match way {
            Way::Zip => format!("{digest}.zip"),
            Way::Plain | Way::Report => format!("{digest}.bin"),
        };
        let length = match way {
            Way::Zip => match open::zip_of(place, 0) {
                Ok(zip) => zip.bytes(),
                Err(e) => return trouble(&e),
            },
            Way::Plain | Way::Report => place.bytes,
        };
        let open = Open { day, place, way, what: format!("sample {digest}") };
        self.whole_or_parts(open, length, kind, &etag)
            .field("Content-Disposition", &format!("attachment; filename=\"{file}\""))
    }

    fn newest(&self, digest: Digest) -> Result<Option<(Arc<Day>, Place)>, DayError> {
        let mut wrong = None;
        for day in &self.days {
            match day.sample(digest) {
                Ok(Some(Sample { place: Some(place), .. })) => {
                    return Ok(Some((Arc::clone(day), place)));
                }
                Ok(_) => {}
                // Another day may have it, too.
                Err(e) => wrong = Some(e),
            }
        }
        wrong.map_or(Ok(None), Err)
    }

    fn reports(&self, digest: Digest, json: bool) -> Answer {
        if self.site.gives != Gives::Reports {
            return Answer::text(404, "the server `reports` has reports");
        }
        let mut all: Vec<(jiff::civil::Date, KeptReport)> = Vec::new();
        for day in &self.days {
            match day.reports(digest) {
                Ok(some) => all.extend(some.into_iter().map(|report| (day.day, report))),
                Err(e) => return trouble(&e),
            }
        }
        if all.is_empty() {
            return Answer::text(404, NOT_FOUND);
        }
        if !json {
            return html(page::reports(&self.words(), digest, &all));
        }
        let list: Vec<_> = all
            .iter()
            .map(|(day, report)| {
                json!({
                    "day": day.to_string(), "run": report.run, "sandbox": report.sandbox,
                    "started": report.started, "bytes": report.place.bytes,
                    "sha256": report.place.digest.to_string(),
                    "url": format!("http://{}/reports/{digest}/{day}/{}", self.site.host, report.run),
                })
            })
            .collect();
        json_of(&json!({ "sha256": digest.to_string(), "reports": list }))
    }

    fn report(&self, hash: &str, day: &str, run: &str) -> Answer {
        if self.site.gives != Gives::Reports {
            return Answer::text(404, "the server `reports` has reports");
        }
        let (Some(digest), Some(date), Ok(run)) =
            (Digest::read(hash), day_of(day), run.parse::<u32>())
        else {
            return Answer::text(404, NOT_FOUND);
        };
        let Some(day) = self.days.iter().find(|day| day.day == date) else {
            return Answer::text(404, NOT_FOUND);
        };
        let found = match day.reports(digest) {
            Ok(some) => some.into_iter().find(|report| report.run == run),
            Err(e) => return trouble(&e),
        };
        let Some(KeptReport { place, .. }) = found else { return Answer::text(404, NOT_FOUND) };
        let what = format!("report {digest} {date}");
        let open = Open { day: Arc::clone(day), place, way: Way::Report, what };
        let etag = format!("\"{}\"", place.digest);
        self.whole_or_parts(open, place.bytes, "application/json", &etag)
    }

    /// `open` as the request's conditions and range have it.
    fn whole_or_parts(&self, open: Open, length: u64, kind: &str, etag: &str) -> Answer {
        // A hash says all: nothing of this name changes, whenever it was published.
        let version = Version { etag: etag.into(), modified: Timestamp::UNIX_EPOCH };
        let ranges = open.way != Way::Zip;
        let told = |answer: Answer| {
            answer.field("ETag", etag).field("Accept-Ranges", if ranges { "bytes" } else { "none" })
        };
        match condition(self.head, Some(&version)) {
            Condition::Holds => {}
            Condition::Failed => return told(Answer::text(412, "it is another one")),
            Condition::Unchanged => return told(Answer::empty(304)),
        }
        let boundary = || open.place.digest.to_string()[..48].to_string();
        let wanted = range(self.head, &version).filter(|_| ranges);
        let portion = match portion(wanted, length, kind, boundary) {
            Ok(portion) => portion,
            Err(beyond) => {
                let answer = Answer::text(416, "it is shorter than that");
                return told(answer.field("Content-Range", &beyond));
            }
        };
        let mut answer = Answer::empty(portion.status);
        for (name, value) in &portion.fields {
            answer = answer.field(name, value);
        }
        answer = told(answer);
        answer.parts = portion.parts;
        answer.open = Some(open);
        answer
    }
}

/// What the fields of a form ask.
fn query(fields: &[(String, String)]) -> Result<SampleQuery, String> {
    let mut query = SampleQuery::default();
    for (name, value) in fields.iter().filter(|(_, value)| !value.trim().is_empty()) {
        let value = value.trim();
        let day =
            || day_of(value).map(Some).ok_or_else(|| format!("`{name}` is a day, as 2026-11-27"));
        match name.as_str() {
            "q" if is_hash(value) => query.hash = value.into(),
            "q" | "text" => query.text = value.into(),
            "hash" => query.hash = value.into(),
            "family" => query.family = value.into(),
            "tag" => query.tag = value.into(),
            "type" | "kind" => query.kind = value.into(),
            "from" => query.from = day()?,
            "until" => query.until = day()?,
            "after" => query.after = Some(value.into()),
            "limit" => query.limit = value.parse().map_err(|_| "`limit` is a number")?,
            // What browsers add, and what later versions ask.
            _ => {}
        }
    }
    Ok(query)
}

/// Whether what stands in the one field of the form is a begin of a hash.
fn is_hash(text: &str) -> bool {
    (ENOUGH..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The path of a request's target without escapes, and the fields behind it; None if it is none.
fn target(target: &str) -> Option<(String, Vec<(String, String)>)> {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if !path.starts_with('/') {
        return None;
    }
    let plain = |text: &str| {
        let text = String::from_utf8(unescaped(text)?).ok()?;
        (!text.contains(char::is_control)).then_some(text)
    };
    let fields = query.split('&').filter(|field| !field.is_empty()).map(|field| {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        Some((plain(&name.replace('+', " "))?, plain(&value.replace('+', " "))?))
    });
    Some((plain(path)?, fields.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_and_what_a_form_says() {
        let (path, fields) = target("/search?q=a+b%26&family=&x").expect("one");
        assert_eq!(path, "/search");
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(fields, [pair("q", "a b&"), pair("family", ""), pair("x", "")]);
        for none in ["*", "search", "/a%00", "/?q=%", "/?q=%ff"] {
            assert!(target(none).is_none(), "{none}");
        }
    }

    #[test]
    fn one_field_is_for_hashes_and_words() {
        let of = |q: &str| query(&[("q".into(), q.into())]).expect("a query");
        assert_eq!(of("DEADBEEF00").hash, "DEADBEEF00");
        assert_eq!(of("evil.dll").text, "evil.dll");
        assert!(query(&[("from".into(), "yesterday".into())]).is_err());
    }
}

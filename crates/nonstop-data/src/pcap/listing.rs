//! All days in a page for people, in JSON for programs, and as `sha256sum -c` reads them.

use super::days::Open;
use crate::web::Language;
use serde::Serialize;
use std::{fmt::Write as _, sync::Arc};

/// How the server is reached from a machine, for the examples.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The data domain.
    pub(super) domain: String,
    /// The name that machines resolve, with the port unless it is 80.
    pub(super) host: String,
}

#[derive(Serialize)]
struct Index<'a> {
    domain: &'a str,
    days: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    day: &'a nonstop_api::day::Day,
    url: String,
}

/// For programs; the newest day first.
pub(super) fn json(place: &Place, days: &[Arc<Open>]) -> String {
    let lines = days.iter().map(|open| Line {
        day: &open.note,
        url: format!("http://{}/{}", place.host, open.note.file),
    });
    let index = Index { domain: &place.domain, days: lines.collect() };
    let mut text = serde_json::to_string(&index).expect("strings and numbers");
    text.push('\n');
    text
}

/// As `sha256sum -c` reads it.
pub(super) fn sums<'a>(days: impl IntoIterator<Item = &'a Arc<Open>>) -> String {
    let lines = days.into_iter().map(|open| format!("{}  {}\n", open.note.sha256, open.note.file));
    lines.collect()
}

struct Words {
    code: &'static str,
    title: &'static str,
    none: &'static str,
    columns: [&'static str; 6],
    how: &'static str,
    get: &'static str,
    resume: &'static str,
    check: &'static str,
    look: &'static str,
    others: &'static str,
}

const ENGLISH: Words = Words {
    code: "en",
    title: "Darknet traffic, a file a day",
    none: "No day is published yet.",
    columns: ["Day", "Packets", "MiB", "First packet", "Last packet", "SHA-256"],
    how: "In a terminal of your machine",
    get: "download",
    resume: "download, going on after an interruption",
    check: "compare with what was published",
    look: "look at it without keeping it",
    others: "For programs",
};

const JAPANESE: Words = Words {
    code: "ja",
    title: "ダークネットトラフィック（1日1ファイル）",
    none: "公開された日はまだありません。",
    columns: ["日", "パケット数", "MiB", "最初のパケット", "最後のパケット", "SHA-256"],
    how: "お使いのマシンの端末で",
    get: "ダウンロード",
    resume: "中断したところからダウンロード",
    check: "公開されたものと照合",
    look: "保存せずに見る",
    others: "プログラム向け",
};

/// For people.
pub(super) fn page(language: Language, place: &Place, days: &[Arc<Open>]) -> String {
    let words = match language {
        Language::English => &ENGLISH,
        Language::Japanese => &JAPANESE,
    };
    let Words { code, title, none, columns, how, get, resume, check, look, others } = words;
    let Place { domain, host } = place;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"{code}\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}: {domain}</title>\n\
         <style>body{{font:1rem/1.5 sans-serif;margin:2rem;color:#1a1a1a;background:#fff}}\
         th,td{{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}}\
         .n{{text-align:right}}code{{overflow-wrap:anywhere}}pre{{background:#f2f2f2;padding:1rem;\
         overflow:auto}}</style>\n<h1>{title}: {domain}</h1>\n"
    );
    if days.is_empty() {
        let _ = writeln!(page, "<p>{none}</p>");
    } else {
        page.push_str("<table>\n<tr>");
        for column in columns {
            let _ = write!(page, "<th scope=\"col\">{column}</th>");
        }
        page.push_str("</tr>\n");
    }
    for open in days {
        let day = &open.note;
        let mib = day.bytes as f64 / f64::from(1 << 20);
        let _ = writeln!(
            page,
            "<tr><td><a href=\"/{0}\">{0}</a></td><td class=\"n\">{1}</td><td class=\"n\">{mib:.1}\
             </td><td>{2:.0}</td><td>{3:.0}</td><td><code>{4}</code></td></tr>",
            day.file, day.packets, day.first, day.last, day.sha256
        );
    }
    let file = days.first().map_or("2026-11-27.pcap", |open| &open.note.file);
    if !days.is_empty() {
        page.push_str("</table>\n");
    }
    let _ = write!(
        page,
        "<h2>{how}</h2>\n<pre># {get}\ncurl -O http://{host}/{file}\n# {resume}\n\
         wget -c http://{host}/{file}\n# {check}\n\
         curl -s http://{host}/{file}.sha256 | sha256sum -c\n# {look}\n\
         curl -s http://{host}/{file} | tshark -r - -c 20</pre>\n\
         <p>{others}: <a href=\"/index.json\">/index.json</a>, \
         <a href=\"/SHA256SUMS\">/SHA256SUMS</a></p>\n</html>\n"
    );
    page
}

//! What is read in a browser, or as a file, rather than by WebDAV: folders, and what became of
//! exports.

use crate::{
    asker::{Asked, Asker},
    dav::{Below, Resource},
    http::{Answer, Content, PIECE, Pieces},
    refusal::Lang,
    target::{Side, Spot},
    xml::escaped,
};
use jiff::Timestamp;
use nonstop_api::airlock::{ExportTold, FindingTold, Welcome};
use nonstop_model::ExportState;
use std::fmt::Write as _;

/// Verdicts that there are files of.
const VERDICTS: usize = 1000;
/// Exports on the page of states.
const SHOWN: usize = 200;

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;\
    padding:0 1rem;color:#1a1a1a;background:#fff}table{border-collapse:collapse;width:100%}\
    th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid \
    #ccc;overflow-wrap:anywhere}td.n,th.n{text-align:right;white-space:nowrap}a{color:#004a99}\
    .good{color:#0a6b2d}.bad{color:#a61b1b}.wait{color:#7a5200}ul{margin:.2rem 0;padding-left:1.2rem}\
    @media(prefers-color-scheme:dark){body{color:#eee;background:#181818}a{color:#8cc4ff}\
    .good{color:#6fd08f}.bad{color:#ff9b9b}.wait{color:#f0c060}th,td{border-color:#444}}";

/// The file of a verdict.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    /// Its name.
    pub(crate) name: String,
    /// What it says.
    pub(crate) text: String,
    /// When its export was submitted.
    pub(crate) created: Timestamp,
    /// When its state came to be.
    pub(crate) modified: Timestamp,
}

impl Verdict {
    /// Another one for another text.
    pub(crate) fn etag(&self) -> String {
        // FNV-1a: to tell versions apart, not to be safe from anybody.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in self.text.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        format!("\"{hash:016x}\"")
    }
}

/// The files of all exports that have not been released, newest first.
pub(crate) fn verdicts(exports: &[ExportTold]) -> Vec<Verdict> {
    let shown = exports
        .iter()
        .filter(|export| !matches!(export.state, ExportState::Released | ExportState::Withdrawn));
    let verdict = |export: &ExportTold| {
        let last = export.path.names().last().unwrap_or("export");
        // Room for the number within the longest name that there is.
        let end = last.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|at| *at <= 200);
        let last = &last[..end.last().unwrap_or(0)];
        Verdict {
            name: format!("{last}.{}.txt", export.id),
            text: [Lang::Ja, Lang::En].map(|lang| told(lang, export)).join("\n"),
            created: export.submitted_at,
            modified: export.changed_at,
        }
    };
    shown.take(VERDICTS).map(verdict).collect()
}

/// A state in words, and how it is to be taken.
fn state(lang: Lang, state: ExportState) -> (&'static str, &'static str) {
    let (class, en, ja) = match state {
        ExportState::Submitted => {
            ("wait", "submitted: waits to be screened", "提出済み（検査待ち）")
        }
        ExportState::Screening => ("wait", "is being screened", "検査中"),
        ExportState::Held => {
            ("wait", "held: a person of the lab decides", "保留（担当者が確認します）")
        }
        ExportState::Blocked => ("bad", "blocked: it does not leave", "ブロック（持ち出せません）"),
        ExportState::Released => ("good", "released", "持ち出し可"),
        ExportState::Refused => ("bad", "refused by a person of the lab", "担当者が却下"),
        ExportState::Withdrawn => ("", "withdrawn", "取り下げ"),
        ExportState::Revoked => ("bad", "revoked: it can be had no longer", "公開取り消し"),
    };
    (class, lang.pick(en, ja))
}

fn says(lang: Lang, finding: &FindingTold) -> (&str, &str) {
    (lang.pick(&finding.says, &finding.says_ja), lang.pick(&finding.mend, &finding.mend_ja))
}

/// What became of an export, as text.
fn told(lang: Lang, export: &ExportTold) -> String {
    let mut out = String::new();
    let of = |en, ja| lang.pick(en, ja);
    let colon = of(": ", "：");
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(out, "{label}{colon}{value}");
    };
    line(
        of("Export", "持ち出し"),
        &format!(
            "{} (export/{}, {} {})",
            export.id,
            export.path,
            of("version", "版"),
            export.version
        ),
    );
    line(of("State", "状態"), state(lang, export.state).1);
    line(of("Since", "日時"), &time(export.changed_at));
    for finding in &export.findings {
        let (says, mend) = says(lang, finding);
        line(of("Rule", "規則"), &format!("{} ({})", finding.rule, finding.verdict));
        line(of("Found", "理由"), says);
        if !mend.is_empty() {
            line(of("How to mend", "対処"), mend);
        }
    }
    if let Some(reason) = &export.reason {
        line(of("Said by the lab", "担当者より"), reason);
    }
    out
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Bytes in a unit that people read.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The begin of a page, up to what stands in it.
fn begin(lang: Lang, title: &str, refresh: Option<u32>) -> String {
    let again = refresh
        .map(|seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"))
        .unwrap_or_default();
    format!(
        "<!DOCTYPE html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">{again}<title>{}</title>\
         <style>{STYLE}</style></head><body><main>",
        lang.code(),
        escaped(title)
    )
}

/// Its end.
const END: &str = "</main></body></html>\n";

/// `answer`, as one whose body is a page.
pub(crate) fn as_page<'a>(lang: Lang, answer: Answer<'a>) -> Answer<'a> {
    answer
        .field("Content-Type", "text/html; charset=utf-8")
        .field("Content-Security-Policy", POLICY)
        .field("Content-Language", lang.code())
        .field("Vary", "Accept-Language")
}

fn page<'a>(lang: Lang, title: &str, refresh: Option<u32>, body: &str) -> Answer<'a> {
    let mut answer = Answer::empty(200);
    answer.content = Content::Bytes((begin(lang, title, refresh) + body + END).into_bytes());
    as_page(lang, answer)
}

/// The page of a folder with what lies in it, as far as it was not made yet.
pub(crate) struct Folder {
    lang: Lang,
    begin: String,
    below: Below,
    /// Whether it is empty, as far as is known.
    empty: bool,
}

impl Folder {
    /// The page of `spot`, which is `own`; `below` lies in it.
    pub(crate) fn new(lang: Lang, side: Side, spot: &Spot, own: Resource, below: Below) -> Folder {
        let of = |en, ja| lang.pick(en, ja);
        let title = match spot {
            Spot::Top => "/".to_string(),
            Spot::In(place) => match side {
                Side::Inside => format!("{}/{}", place.root, place.path),
                Side::Outside => format!("{}/{}/{}", place.environment, place.root, place.path),
            },
            _ => own.name,
        };
        let mut out = begin(lang, &title, None);
        let _ = write!(out, "<h1>{}</h1>", escaped(&title));
        if *spot == Spot::Top && side == Side::Inside {
            let _ = write!(
                out,
                "<p><a href=\"/status\">{}</a></p>",
                of("What became of exports", "持ち出しの状況")
            );
        }
        let _ = write!(
            out,
            "<table><thead><tr><th scope=\"col\">{}</th><th scope=\"col\" class=\"n\">{}</th>\
             <th scope=\"col\">{}</th></tr></thead><tbody>",
            of("Name", "名前"),
            of("Size", "サイズ"),
            of("Changed", "更新日時")
        );
        if let Some((parent, _)) = own.href.trim_end_matches('/').rsplit_once('/') {
            let _ = write!(out, "<tr><td><a href=\"{parent}/\">..</a></td><td></td><td></td></tr>");
        }
        Folder { lang, begin: out, below, empty: true }
    }
}

impl Pieces for Folder {
    fn next(&mut self, out: &mut String, asker: &mut Asker<'_>) -> Asked<bool> {
        out.push_str(&std::mem::take(&mut self.begin));
        while out.len() < PIECE {
            let Some(resource) = self.below.next(asker)? else {
                out.push_str("</tbody></table>");
                if self.empty {
                    let says = self.lang.pick("There is nothing here.", "何もありません。");
                    let _ = write!(out, "<p>{says}</p>");
                }
                out.push_str(END);
                return Ok(false);
            };
            self.empty = false;
            let (end, bytes) = match &resource.file {
                None => ("/", String::new()),
                Some((bytes, _)) => ("", size(*bytes)),
            };
            let _ = write!(
                out,
                "<tr><td><a href=\"{}\"><bdi>{}</bdi>{end}</a></td><td class=\"n\">{bytes}</td>\
                 <td>{}</td></tr>",
                resource.href,
                escaped(&resource.name),
                time(resource.modified)
            );
        }
        Ok(true)
    }
}

/// What became of the exports of a machine's environment, as a page that renews itself.
pub(crate) fn status<'a>(
    lang: Lang,
    welcome: &Welcome,
    quota: Option<(u64, u64)>,
    exports: &[ExportTold],
    more: bool,
) -> Answer<'a> {
    let of = |en, ja| lang.pick(en, ja);
    let title = format!("{} - {}", of("Exports", "持ち出し"), welcome.lab);
    let mut out = format!("<h1>{}</h1>", escaped(&title));
    if let Some((used, available)) = quota {
        let _ = write!(
            out,
            "<p>{}: {} / {}</p>",
            of("Room in export/", "export/ の使用量"),
            size(used),
            size(used.saturating_add(available))
        );
    }
    let _ = write!(
        out,
        "<table><thead><tr><th scope=\"col\">{}</th><th scope=\"col\">{}</th>\
         <th scope=\"col\">{}</th><th scope=\"col\">{}</th></tr></thead><tbody>",
        of("Number", "番号"),
        of("File", "ファイル"),
        of("State", "状態"),
        of("Changed", "更新日時")
    );
    for export in exports.iter().take(SHOWN) {
        let (class, words) = state(lang, export.state);
        let _ = write!(
            out,
            "<tr><td>{}</td><td><bdi>{}</bdi> ({} {}, {})</td><td><strong class=\"{class}\">{words}\
             </strong>",
            export.id,
            escaped(export.path.as_str()),
            of("version", "版"),
            export.version,
            size(export.bytes),
        );
        if !export.findings.is_empty() {
            out.push_str("<ul>");
            for finding in &export.findings {
                let (says, mend) = says(lang, finding);
                let _ = write!(
                    out,
                    "<li><code>{}</code>: {} {}</li>",
                    escaped(&finding.rule),
                    escaped(says),
                    escaped(mend)
                );
            }
            out.push_str("</ul>");
        }
        if let Some(reason) = &export.reason {
            let _ =
                write!(out, "<p>{}: {}</p>", of("Said by the lab", "担当者より"), escaped(reason));
        }
        let _ = write!(out, "</td><td>{}</td></tr>", time(export.changed_at));
    }
    out.push_str("</tbody></table>");
    if exports.is_empty() {
        let _ = write!(
            out,
            "<p>{}</p>",
            of(
                "Nothing was exported yet: write a file to export/.",
                "まだ持ち出しはありません。export/ にファイルを書き込んでください。"
            )
        );
    }
    if more || exports.len() > SHOWN {
        let says =
            of("There are older ones, which are not shown.", "これより古いものは表示されません。");
        let _ = write!(out, "<p>{says}</p>");
    }
    page(lang, &title, Some(5), &out)
}

/// The same for programs.
pub(crate) fn status_json<'a>(
    welcome: &Welcome,
    quota: Option<(u64, u64)>,
    exports: &[ExportTold],
    more: bool,
) -> Answer<'a> {
    let room = quota.map(
        |(used, available)| serde_json::json!({ "used_bytes": used, "available_bytes": available }),
    );
    let value = serde_json::json!({
        "lab": welcome.lab,
        "machine": welcome.client,
        "room": room,
        "exports": exports,
        "more": more,
    });
    Answer::bytes(200, "application/json", format!("{value}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(path: &str, state: ExportState) -> ExportTold {
        ExportTold {
            id: nonstop_model::ExportId(4),
            path: path.parse().expect("a path"),
            version: 1,
            state,
            bytes: 9,
            submitted_at: Timestamp::UNIX_EPOCH,
            changed_at: Timestamp::UNIX_EPOCH,
            findings: vec![FindingTold {
                rule: "encrypted".into(),
                verdict: "block".into(),
                says: "it is an encrypted zip".into(),
                mend: "pack it without a password".into(),
                says_ja: "暗号化された zip です".into(),
                mend_ja: "パスワードなしで作り直してください".into(),
            }],
            reason: None,
        }
    }

    #[test]
    fn what_was_not_released_has_a_file_that_says_why_in_both_languages() {
        let long = format!("a/{}", "あ".repeat(80));
        let exports = [
            export("a/b.zip", ExportState::Blocked),
            export("c", ExportState::Released),
            export("d", ExportState::Withdrawn),
            export(&long, ExportState::Held),
        ];
        let found = verdicts(&exports);
        assert_eq!(found[0].name, "b.zip.x4.txt");
        assert!(found[0].text.contains("対処：パスワードなしで作り直してください"));
        assert!(found[0].text.contains("How to mend: pack it without a password"));
        assert_eq!(found.len(), 2);
        assert!(found[1].name.parse::<nonstop_model::EntryName>().is_ok());
        assert_ne!(found[0].etag(), found[1].etag());
    }

    #[test]
    fn sizes_are_told_in_units() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(2 << 30), "2.0 GiB");
    }
}

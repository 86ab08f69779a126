//! Pages for people; whatever stands in them was written by others, and is text.

use super::answer::Gives;
use crate::{digest::Digest, index::KeptReport};
use jiff::civil::Date;
use nonstop_api::samples::{SamplePage, SampleQuery, SampleView};
use nonstop_data::web::Language;
use nonstop_model::text::revealed;
use std::fmt::Write as _;

/// In which words a page is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) language: Language,
    pub(super) gives: Gives,
    pub(super) domain: &'a str,
    pub(super) host: &'a str,
}

impl Words<'_> {
    fn say(&self, english: &'static str, japanese: &'static str) -> &'static str {
        match self.language {
            Language::English => english,
            Language::Japanese => japanese,
        }
    }

    fn title(&self) -> &'static str {
        match self.gives {
            Gives::Samples => self.say("Samples of malware", "マルウェア検体"),
            Gives::Words => self.say("Catalogue of malware samples", "マルウェア検体の目録"),
            Gives::Reports => self.say("Reports of dynamic analysis", "動的解析レポート"),
        }
    }

    fn begin(&self, title: &str) -> String {
        let code = self.say("en", "ja");
        format!(
            "<!doctype html>\n<html lang=\"{code}\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}: {domain}</title>\n\
             <style>body{{font:1rem/1.5 sans-serif;margin:2rem;color:#1a1a1a;background:#fff}}\
             th,td{{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}}\
             .n{{text-align:right}}code{{overflow-wrap:anywhere}}pre{{background:#f2f2f2;padding:1rem;\
             overflow:auto}}label{{margin-right:1rem}}</style>\n\
             <p><a href=\"/\">{all}: {domain}</a></p>\n<h1>{title}</h1>\n",
            domain = text(self.domain),
            title = text(title),
            all = self.title(),
        )
    }
}

/// `plain` as a person is to read it: nothing in it hides.
fn text(plain: &str) -> String {
    as_it_is(&revealed(plain))
}

/// `plain` in a field of a form, which asks for it again as it is.
fn as_it_is(plain: &str) -> String {
    let mut shown = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&quot;"),
            '\'' => shown.push_str("&#39;"),
            c => shown.push(c),
        }
    }
    shown
}

/// `plain` in a query of a URL.
fn escaped(plain: &str) -> String {
    let mut shown = String::new();
    for byte in plain.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                shown.push(char::from(byte));
            }
            byte => drop(write!(shown, "%{byte:02X}")),
        }
    }
    shown
}

/// What a search found, and the form for the next.
pub(super) fn found(words: &Words<'_>, query: &SampleQuery, found: &SamplePage) -> String {
    let mut page = words.begin(words.title());
    let day = |day: Option<Date>| day.map(|day| day.to_string()).unwrap_or_default();
    let fields = [
        ("hash", words.say("SHA-256 (begin)", "SHA-256（先頭）"), query.hash.clone()),
        ("text", words.say("Words in reports", "レポート中の語"), query.text.clone()),
        ("family", words.say("Family", "ファミリ"), query.family.clone()),
        ("tag", words.say("Tag", "タグ"), query.tag.clone()),
        ("type", words.say("Type", "種類"), query.kind.clone()),
        ("from", words.say("From day", "日（から）"), day(query.from)),
        ("until", words.say("Until day", "日（まで）"), day(query.until)),
    ];
    page.push_str("<form action=\"/search\">\n");
    for (name, label, value) in &fields {
        let value = as_it_is(value);
        let _ = writeln!(page, "<label>{label} <input name=\"{name}\" value=\"{value}\"></label>");
    }
    let _ = writeln!(page, "<button>{}</button>\n</form>", words.say("Search", "検索"));
    if found.samples.is_empty() {
        let none = words.say("Nothing was found.", "見つかりませんでした。");
        let _ = writeln!(page, "<p>{none}</p>");
    } else {
        page.push_str("<table>\n<tr>");
        for column in [
            "SHA-256",
            words.say("Bytes", "バイト"),
            words.say("Type", "種類"),
            words.say("Family", "ファミリ"),
            words.say("Tags", "タグ"),
            words.say("Days", "日"),
            words.say("Reports", "レポート"),
        ] {
            let _ = write!(page, "<th scope=\"col\">{column}</th>");
        }
        page.push_str("</tr>\n");
        for sample in &found.samples {
            let bytes = sample.bytes.map_or(String::from("-"), |bytes| bytes.to_string());
            let days: Vec<String> = sample.days.iter().take(3).map(Date::to_string).collect();
            let _ = writeln!(
                page,
                "<tr><td><a href=\"/samples/{0}\"><code>{0}</code></a></td><td class=\"n\">{bytes}</td>\
                 <td>{1}</td><td>{2}</td><td>{3}</td><td>{4}</td><td class=\"n\">{5}</td></tr>",
                sample.sha256,
                text(&sample.kind),
                text(&sample.family),
                text(&sample.tags.join(", ")),
                days.join(" "),
                sample.reports
            );
        }
        page.push_str("</table>\n");
    }
    if let Some(after) = &found.after {
        let mut link = format!("/search?after={}", escaped(after));
        for (name, _, value) in fields.iter().filter(|(_, _, value)| !value.is_empty()) {
            let _ = write!(link, "&amp;{name}={}", escaped(value));
        }
        let _ = writeln!(page, "<p><a href=\"{link}\">{}</a></p>", words.say("More", "続き"));
    }
    let host = words.host;
    let _ = write!(
        page,
        "<h2>{}</h2>\n<pre>curl -s 'http://{host}/search.json?family=NAME&amp;limit=200'\n\
         curl -s 'http://{host}/search.json?text=mutexes:NAME+c2.example.com'</pre>\n</html>\n",
        words.say("For programs", "プログラム向け")
    );
    page
}

/// What is known of one sample.
pub(super) fn sample(words: &Words<'_>, sample: &SampleView) -> String {
    let hash = &sample.sha256;
    let mut page = words.begin(hash);
    let days: Vec<String> = sample.days.iter().map(Date::to_string).collect();
    let day = |day: Option<Date>| day.map(|day| day.to_string()).unwrap_or_default();
    page.push_str("<table>\n");
    for (label, value) in [
        (words.say("Bytes", "バイト"), sample.bytes.map_or("-".into(), |n| n.to_string())),
        (words.say("Type", "種類"), sample.kind.clone()),
        (words.say("Family", "ファミリ"), sample.family.clone()),
        (words.say("Tags", "タグ"), sample.tags.join(", ")),
        (words.say("First seen", "初見"), day(sample.first_seen)),
        (words.say("Last seen", "最終"), day(sample.last_seen)),
        (words.say("Source", "提供元"), sample.source.clone()),
        (words.say("Days", "日"), days.join(" ")),
        (words.say("Reports", "レポート"), sample.reports.to_string()),
    ] {
        let _ = writeln!(page, "<tr><th scope=\"row\">{label}</th><td>{}</td></tr>", text(&value));
    }
    page.push_str("</table>\n");
    if words.gives == Gives::Samples && sample.bytes.is_some() {
        let (zip, plain) = (
            words.say("zip, password: infected", "zip（パスワード: infected）"),
            words.say("as it is", "そのまま"),
        );
        let host = words.host;
        let _ = writeln!(
            page,
            "<p><a href=\"/samples/{hash}/zip\">{zip}</a>, \
             <a href=\"/samples/{hash}/plain\">{plain}</a></p>\n\
             <pre>curl -so {hash}.bin http://{host}/samples/{hash}/plain\n\
             echo '{hash}  {hash}.bin' | sha256sum -c</pre>"
        );
    }
    if words.gives == Gives::Reports && sample.reports > 0 {
        let reports = words.say("Reports", "レポート");
        let _ = writeln!(page, "<p><a href=\"/reports/{hash}\">{reports}</a></p>");
    }
    page.push_str("</html>\n");
    page
}

/// The reports of one sample.
pub(super) fn reports(words: &Words<'_>, of: Digest, all: &[(Date, KeptReport)]) -> String {
    let mut page = words.begin(words.say("Reports of a sample", "検体のレポート"));
    let _ = writeln!(page, "<p><a href=\"/samples/{of}\"><code>{of}</code></a></p>\n<table>");
    for (day, KeptReport { run, place, sandbox, started }) in all {
        let _ = writeln!(
            page,
            "<tr><td><a href=\"/reports/{of}/{day}/{run}\">{day} ({run})</a></td><td>{sandbox}</td>\
             <td>{}</td><td class=\"n\">{}</td></tr>",
            text(started),
            place.bytes,
            sandbox = text(sandbox)
        );
    }
    page.push_str("</table>\n</html>\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const HIDES: [char; 7] =
        ['\u{202e}', '\u{2066}', '\u{200b}', '\u{2028}', '\u{ad}', '\u{feff}', '\u{1b}'];

    #[test]
    fn nothing_hides_in_what_others_wrote() {
        let words = |language| Words {
            language,
            gives: Gives::Reports,
            domain: "intermediate",
            host: "10.80.0.6",
        };
        for c in HIDES {
            let told = format!("a{c}<b>");
            let view = SampleView {
                sha256: "ab".repeat(32),
                bytes: Some(3),
                kind: told.clone(),
                family: told.clone(),
                tags: vec![told.clone(), "c".into()],
                first_seen: None,
                last_seen: None,
                days: vec![date(2026, 11, 27)],
                source: told.clone(),
                reports: 1,
            };
            let digest = Digest::read(&view.sha256).expect("a hash");
            let place = crate::pack::Place { digest, at: 0, bytes: 3 };
            let report = KeptReport { run: 1, place, sandbox: told.clone(), started: told };
            let one = SamplePage { samples: vec![view.clone()], after: None };
            for language in [Language::English, Language::Japanese] {
                let words = words(language);
                let reports = [(date(2026, 11, 27), report.clone())];
                for (page, times) in [
                    (found(&words, &SampleQuery::default(), &one), 3),
                    (sample(&words, &view), 4),
                    (self::reports(&words, digest, &reports), 2),
                ] {
                    let shown = format!("a&lt;U+{:04X}&gt;&lt;b&gt;", u32::from(c));
                    assert_eq!(page.matches(&shown).count(), times, "{page}");
                    assert!(!page.contains(c), "{page}");
                }
            }
        }
    }

    #[test]
    fn a_form_asks_again_for_what_was_asked() {
        let words = Words {
            language: Language::English,
            gives: Gives::Samples,
            domain: "intermediate",
            host: "10.80.0.5",
        };
        let query = SampleQuery { family: "a\u{ad}\"<b".into(), ..SampleQuery::default() };
        let page = found(&words, &query, &SamplePage::default());
        assert!(page.contains("name=\"family\" value=\"a\u{ad}&quot;&lt;b\""), "{page}");
    }
}

//! The trace, as `lab.yaml` describes it: how long bytes of exports are kept, where heads are put out
//! of the host's reach, and what receipts say of people.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The record of who did what, and the bytes of exports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Trace {
    /// How many days the bytes of an export are kept after its last change of state; null for ever.
    /// What was blocked lies in the quarantine and is not meant. A deletion leaves a signed record.
    pub keep_days: Option<u32>,
    /// Where signed heads of the trace go, so that root of this host cannot change what happened.
    pub heads: Heads,
    /// What receipts of releases say beside what was released.
    pub receipts: Receipts,
}

/// Second places for heads of the trace. Each gets every head and is tried until it has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Heads {
    /// A folder, absolute, such as a mount of another host; a file a head, none of which is ever
    /// written again. May be append-only, and unreadable to the user that writes.
    pub folder: Option<PathBuf>,
    /// An address that mails are sent to, by `sendmail`.
    pub mail: Option<String>,
    /// An `https:` or `http:` address that heads are posted to.
    pub url: Option<String>,
    /// The program that takes mails, as sendmail does.
    pub sendmail: PathBuf,
    /// The local user that puts them there, the only one of ours with a way out of this host.
    pub user: String,
}

impl Default for Heads {
    fn default() -> Self {
        Heads {
            folder: None,
            mail: None,
            url: None,
            sendmail: "/usr/sbin/sendmail".into(),
            user: "nonstop-heads".into(),
        }
    }
}

/// What receipts of releases say beside what was released: nothing, by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Receipts {
    /// Whether a receipt names the researcher, and the person who decided.
    pub people: bool,
    /// Whether a receipt names the file.
    pub files: bool,
}

impl Heads {
    /// The second places, each by a name that says what it is.
    pub fn places(&self) -> Vec<String> {
        let folder = self.folder.iter().map(|path| format!("folder:{}", path.display()));
        let mail = self.mail.iter().map(|address| format!("mail:{address}"));
        let url = self.url.iter().map(|url| format!("url:{url}"));
        folder.chain(mail).chain(url).collect()
    }
}

impl Trace {
    /// What makes no sense in it: where that stands, and why.
    pub(crate) fn fault(&self) -> Option<(String, String)> {
        let Heads { folder, mail, url, sendmail, .. } = &self.heads;
        if self.keep_days == Some(0) {
            return Some((
                "trace.keep_days".into(),
                "`keep_days` must be at least 1, or null for ever".into(),
            ));
        }
        for (key, path) in [("folder", folder.as_ref()), ("sendmail", Some(sendmail))] {
            let plain = |path: &PathBuf| {
                let text = path.to_str().filter(|text| !text.contains(char::is_control));
                path.is_absolute() && text.is_some()
            };
            if !path.is_none_or(plain) {
                return Some((
                    format!("trace.heads.{key}"),
                    format!("`{key}` must be an absolute path"),
                ));
            }
        }
        if let Some(mail) = mail
            && !is_address(mail)
        {
            let message = format!("`{mail}` is no address that mails are sent to");
            return Some(("trace.heads.mail".into(), message));
        }
        let web = |url: &String| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let plain = |rest: &str| {
                rest.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\<>{}[]`".contains(&b))
            };
            rest.is_some_and(|rest| !rest.is_empty() && plain(rest))
        };
        if let Some(url) = url.as_ref().filter(|url| !web(url)) {
            let message = format!("`{url}` is no address that begins with https:// or http://");
            return Some(("trace.heads.url".into(), message));
        }
        None
    }
}

fn is_address(mail: &str) -> bool {
    let word = |part: &str, more: &[u8]| {
        let good = |b: u8| b.is_ascii_alphanumeric() || more.contains(&b);
        part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && part.bytes().all(good)
    };
    let (name, host) = mail.split_once('@').unwrap_or((mail, "localhost"));
    word(name, b"._%+-") && word(host, b".-") && mail.len() <= 254
}

#[cfg(test)]
mod tests {
    use crate::Lab;

    #[test]
    fn places_that_cannot_be_are_refused_where_they_stand() {
        let lab = |line: &str| {
            let text = format!("version: 1\nname: lab\ntrace:\n  {line}\n");
            Lab::parse("lab.yaml", &text)
        };
        for (line, says) in [
            ("keep_days: 0", "at least 1"),
            ("heads: {folder: heads}", "absolute"),
            ("heads: {mail: -oQ/tmp}", "no address"),
            ("heads: {mail: 'a@b, c@d'}", "no address"),
            ("heads: {url: 'file:///etc/passwd'}", "https://"),
            ("heads: {url: 'https://a b'}", "https://"),
        ] {
            let e = lab(line).expect_err(line);
            assert!(e.message.contains(says), "{line}: {}", e.message);
            assert_eq!(e.line, 4, "{line}");
        }
        let good =
            "heads: {folder: /mnt/heads, mail: audit@lab.example, url: 'https://lab.example/h'}";
        let lab = lab(good).expect("good");
        let places = lab.trace.heads.places();
        let expected = ["folder:/mnt/heads", "mail:audit@lab.example", "url:https://lab.example/h"];
        assert_eq!(places, expected);
    }
}

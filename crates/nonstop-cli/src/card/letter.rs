//! The letter with the PIN: Japanese and English, as text or as a page to print.

use crate::error::CliError;
use nonstop_card::Pin;
use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// What a letter says.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) lab: String,
    pub(super) account: String,
    pub(super) full_name: String,
    pub(super) card: String,
    pub(super) pin: Pin,
    pub(super) gateway: String,
    pub(super) host_key: String,
    pub(super) authority: String,
    pub(super) expires: Option<String>,
}

/// Words of one language.
struct Words {
    title: &'static str,
    to: &'static str,
    card: &'static str,
    account: &'static str,
    pin: &'static str,
    expires: &'static str,
    gateway: &'static str,
    host_key: &'static str,
    authority: &'static str,
    steps: [&'static str; 5],
}

const JA: Words = Words {
    title: "PIN通知書",
    to: "宛先",
    card: "カード",
    account: "アカウント",
    pin: "PIN",
    expires: "有効期限",
    gateway: "ゲートウェイ(ホスト、ポート)",
    host_key: "ゲートウェイのホスト鍵",
    authority: "ラボの認証局",
    steps: [
        "PINはこの通知書にしか書かれていません。覚えたあとは破棄し、カードと一緒に持ち歩かないでください。",
        "PINを3回続けて間違えるとカードは使えなくなります。そのときは、または紛失したときは、すぐにラボの職員へ連絡してください。",
        "PCにカードリーダーとPKCS#11モジュール(OpenSC)、sshを用意し、職員から受け取ったプロファイルで nonstop-connect を起動します。",
        "最初に表示されるラボの認証局の指紋が、上のものと一致することを確かめてください。一致しなければ中止し、職員に連絡してください。",
        "秘密鍵はカードの外へ出ません。カードを抜いても開いている接続は切れませんが、新しい接続はできません。",
    ],
};

const EN: Words = Words {
    title: "Your PIN",
    to: "For",
    card: "Card",
    account: "Account",
    pin: "PIN",
    expires: "Good until",
    gateway: "Gateway (host, port)",
    host_key: "The gateway's host key",
    authority: "The lab's authority",
    steps: [
        "The PIN stands in this letter and nowhere else. Learn it, destroy the letter, and never keep it with the card.",
        "Three wrong PINs in a row block the card. Then, or if you lose it, tell the lab's staff at once.",
        "On your PC you need a card reader, a PKCS#11 module (OpenSC) and ssh. Start nonstop-connect with the profile that staff gave you.",
        "It first shows the fingerprint of the lab's authority: compare it with the one above. If they differ, stop and tell staff.",
        "The private key never leaves the card. Pulling the card out does not close what is open, but opens nothing new.",
    ],
};

impl Letter {
    fn rows<'a>(&'a self, words: &Words) -> Vec<(&'static str, &'a str)> {
        let mut rows = vec![
            (words.to, self.full_name.as_str()),
            (words.account, self.account.as_str()),
            (words.card, self.card.as_str()),
            (words.pin, self.pin.reveal()),
        ];
        rows.extend(self.expires.as_deref().map(|day| (words.expires, day)));
        rows.extend([
            (words.gateway, self.gateway.as_str()),
            (words.host_key, self.host_key.as_str()),
            (words.authority, self.authority.as_str()),
        ]);
        rows
    }

    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(4096));
        for words in [JA, EN] {
            let _fits = writeln!(text, "{} - {}\n", plain(&self.lab), words.title);
            for (name, value) in self.rows(&words) {
                let _fits = writeln!(text, "  {name}: {}", plain(value));
            }
            text.push('\n');
            for (n, step) in words.steps.iter().enumerate() {
                let _fits = writeln!(text, "{}. {step}", n + 1);
            }
            text.push('\n');
        }
        text
    }

    fn html(&self) -> Zeroizing<String> {
        let mut page = Zeroizing::new(String::with_capacity(8192));
        page.push_str(HEAD);
        for (language, words) in [("ja", JA), ("en", EN)] {
            let lab = escaped(&self.lab);
            let _fits = write!(
                page,
                "<section lang=\"{language}\"><h1>{lab}</h1><h2>{}</h2><dl>",
                words.title
            );
            for (name, value) in self.rows(&words) {
                let class = if name == words.pin { " class=\"pin\"" } else { "" };
                let _fits = write!(page, "<dt>{name}</dt><dd{class}>{}</dd>", escaped(value));
            }
            page.push_str("</dl><ol>");
            for step in words.steps {
                let _fits = write!(page, "<li>{step}</li>");
            }
            page.push_str("</ol></section>\n");
        }
        page.push_str("</body></html>\n");
        page
    }
}

const HEAD: &str = "<!doctype html>\n<html><head><meta charset=\"utf-8\"><title>PIN</title><style>\n\
    @page { size: A4; margin: 20mm }\n\
    body { font: 11pt/1.6 \"Noto Sans CJK JP\", \"Noto Sans\", sans-serif; color: #111; margin: 2em auto; \
    max-width: 42em }\n\
    section { break-after: page; margin-bottom: 3em }\n\
    section:last-child { break-after: auto }\n\
    h1 { font-size: 11pt; font-weight: normal; color: #555; margin: 0 }\n\
    h2 { font-size: 20pt; margin: 0 0 1em }\n\
    dl { display: grid; grid-template-columns: 12em 1fr; gap: .4em 1em; border-top: 1px solid #999; \
    border-bottom: 1px solid #999; padding: 1em 0 }\n\
    dt { color: #555 }\n\
    dd { margin: 0; overflow-wrap: anywhere }\n\
    dd.pin { font: bold 20pt monospace; letter-spacing: .25em }\n\
    </style></head><body>\n";

/// On one line, without anything that a terminal would obey.
fn plain(text: &str) -> String {
    crate::table::plain(text)
}

fn escaped(text: &str) -> String {
    plain(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Where a letter will go.
#[derive(Debug)]
pub(super) struct LetterFile {
    /// The name, and the part of it that is open already.
    file: Option<(PathBuf, PathBuf, fs::File)>,
}

impl LetterFile {
    /// Opens `path` before any card is touched: what cannot be written is known in time. Without
    /// one, the letter is shown at the end; scripts have to name one, so that no PIN is logged.
    pub(super) fn open(path: Option<&Path>, json: bool) -> Result<LetterFile, CliError> {
        let Some(path) = path else {
            if json {
                let why = "`--json` shows no PIN: name a file for the letter with `--letter FILE`";
                return Err(CliError::Misused(why.into()));
            }
            return Ok(LetterFile { file: None });
        };
        let failed = |source| CliError::Write { path: path.into(), source };
        let mut part = path.to_path_buf().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        match fs::remove_file(&part) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
        Ok(LetterFile { file: Some((path.into(), part, file)) })
    }

    /// Writes `letter` whole and durably beside its file, which is left as it is until the letter
    /// holds, or keeps it to be shown.
    pub(super) fn write(mut self, letter: Letter) -> Result<Written, CliError> {
        let Some((path, part, mut file)) = self.file.take() else {
            return Ok(Written { file: None, text: letter.text() });
        };
        let page = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("html"));
        let text = if page { letter.html() } else { letter.text() };
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| folder_of(&part)?.sync_all());
        match written {
            Ok(()) => Ok(Written { file: Some((path, part)), text }),
            Err(source) => {
                let _not_there = fs::remove_file(&part);
                Err(CliError::Write { path, source })
            }
        }
    }
}

fn folder_of(path: &Path) -> std::io::Result<fs::File> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder),
        _ => fs::File::open("."),
    }
}

impl Drop for LetterFile {
    fn drop(&mut self) {
        if let Some((_, part, _)) = &self.file {
            let _not_there = fs::remove_file(part);
        }
    }
}

/// A letter that is written, or will be shown, and holds once the card has its PIN.
#[derive(Debug)]
pub(super) struct Written {
    /// Its name, and the name it has until it holds.
    file: Option<(PathBuf, PathBuf)>,
    text: Zeroizing<String>,
}

impl Written {
    /// It holds: it takes its name, and the place of an earlier letter there.
    pub(super) fn keep(self) -> Result<Kept, CliError> {
        let Some((path, part)) = self.file else { return Ok(Kept { path: None, text: self.text }) };
        let kept = fs::rename(&part, &path).and_then(|()| folder_of(&path)?.sync_all());
        kept.map_err(|source| CliError::Write { path: part, source })?;
        Ok(Kept { path: Some(path), text: self.text })
    }

    /// The card does not have the PIN that it tells, or does not log in: it is worth nothing.
    pub(super) fn take_back(self) {
        if let Some((_, part)) = &self.file {
            let _gone_already = fs::remove_file(part);
        }
    }
}

/// A letter that holds.
#[derive(Debug)]
pub(super) struct Kept {
    path: Option<PathBuf>,
    text: Zeroizing<String>,
}

impl Kept {
    /// Its file.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Shows it once, or says where it lies.
    pub(super) fn show(&self) {
        match &self.path {
            Some(path) => eprintln!("the letter with the PIN lies in {}", path.display()),
            None => {
                crate::print("");
                crate::print(&self.text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn letter() -> Letter {
        Letter {
            lab: "our <lab>".into(),
            account: "alice".into(),
            full_name: "Alice \u{1b}[2J & \"Co\"".into(),
            card: "c7".into(),
            pin: Pin::parse("271828").expect("digits"),
            gateway: "192.0.2.10, 22".into(),
            host_key: "SHA256:host".into(),
            authority: "SHA256:authority".into(),
            expires: Some("2030-01-31".into()),
        }
    }

    #[test]
    fn a_letter_says_all_in_both_languages() {
        insta::assert_snapshot!(letter().text().as_str());
    }

    #[test]
    fn a_page_is_escaped() {
        let page = letter().html();
        assert!(page.contains("our &lt;lab&gt;") && page.contains("&amp; &quot;Co&quot;"));
        assert!(!page.contains('\u{1b}') && page.contains(r#"<dd class="pin">271828</dd>"#));
    }

    #[test]
    fn a_letter_is_for_its_owner_alone_and_whole_or_absent() {
        let dir = std::env::temp_dir().join(format!("nonstop-letter-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        let path = dir.join("letter.html");
        drop(LetterFile::open(Some(&path), true).expect("open"));
        assert_eq!(fs::read_dir(&dir).expect("a folder").count(), 0);
        let open = || LetterFile::open(Some(&path), true).expect("open");
        open().write(letter()).expect("written").keep().expect("kept");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(fs::read_to_string(&path).expect("text").contains("271828"));
        // One that does not come to hold takes nothing away from it.
        open().write(letter()).expect("written").take_back();
        assert_eq!(fs::read_dir(&dir).expect("a folder").count(), 1);
        assert!(fs::read_to_string(&path).expect("text").contains("271828"));
        fs::remove_file(&path).expect("there");
        fs::remove_dir(&dir).expect("empty");
        assert!(matches!(LetterFile::open(None, true), Err(CliError::Misused(_))));
    }

    #[test]
    fn a_letter_is_not_shown_by_debug() {
        assert!(!format!("{:?}", letter()).contains("271828"));
    }
}

//! What is asked for: the arguments.

use crate::Lang;
use lexopt::{Arg, Parser, ValueExt};
use std::{ffi::OsString, path::PathBuf};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Open the tunnel: by a file, a lab's name, or the only lab there is.
    Connect(Option<OsString>),
    /// Keep a profile.
    Add(PathBuf),
    /// Show the labs that are kept.
    List,
    /// Remove what is kept of a lab.
    Forget(String),
    /// Explain itself.
    Help,
    /// Say which it is.
    Version,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub verb: Verb,
    /// The fingerprint of the lab's authority, from the PIN letter.
    pub fingerprint: Option<String>,
    /// The PKCS#11 module, where it is not one that the system has.
    pub pkcs11: Option<PathBuf>,
    /// The serial number of the card, where there are several.
    pub card: Option<String>,
    /// A key file in place of a card, for a demo.
    pub key: Option<PathBuf>,
    /// Which desktop to open; None for the only one.
    pub desktop: Option<String>,
    /// Whether RDP clients are started.
    pub rdp: bool,
    /// Whether the browser is started.
    pub browser: bool,
    /// Whether the PIN is asked for at each login, and not kept.
    pub ask_each_time: bool,
    /// Whether the PIN comes as a line of the standard input.
    pub pin_stdin: bool,
    /// Only say what would be run.
    pub print: bool,
    /// Say everything as lines of JSON.
    pub json: bool,
    /// Say what ssh says.
    pub verbose: bool,
    /// The language.
    pub lang: Lang,
}

impl Request {
    /// Understands `args`; `lang` unless they name another.
    ///
    /// Errors: what is wrong, in one sentence.
    pub fn parse(
        args: impl IntoIterator<Item = impl Into<OsString>>,
        lang: Lang,
    ) -> Result<Request, String> {
        let mut request = Request {
            verb: Verb::Connect(None),
            fingerprint: None,
            pkcs11: None,
            card: None,
            key: None,
            desktop: None,
            rdp: true,
            browser: true,
            ask_each_time: false,
            pin_stdin: false,
            print: false,
            json: false,
            verbose: false,
            lang,
        };
        let mut parser = Parser::from_args(args);
        let words = request.options(&mut parser).map_err(|e| e.to_string())?;
        if matches!(request.verb, Verb::Connect(_)) {
            request.verb = verb(words)?;
        }
        Ok(request)
    }

    /// Takes the options; gives the other words.
    fn options(&mut self, parser: &mut Parser) -> Result<Vec<OsString>, lexopt::Error> {
        let mut words = Vec::new();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Value(word) => words.push(word),
                Arg::Short('h') | Arg::Long("help") => self.verb = Verb::Help,
                Arg::Short('V') | Arg::Long("version") => self.verb = Verb::Version,
                Arg::Long("fingerprint") => self.fingerprint = Some(parser.value()?.string()?),
                Arg::Long("pkcs11") => self.pkcs11 = Some(parser.value()?.into()),
                Arg::Long("card") => self.card = Some(parser.value()?.string()?),
                Arg::Long("key") => self.key = Some(parser.value()?.into()),
                Arg::Long("desktop") => self.desktop = Some(parser.value()?.string()?),
                Arg::Long("no-rdp") => self.rdp = false,
                Arg::Long("no-browser") => self.browser = false,
                Arg::Long("ask-each-time") => self.ask_each_time = true,
                Arg::Long("pin-stdin") => self.pin_stdin = true,
                Arg::Long("print") => self.print = true,
                Arg::Long("json") => self.json = true,
                Arg::Short('v') | Arg::Long("verbose") => self.verbose = true,
                Arg::Long("lang") => {
                    self.lang = match parser.value()?.string()?.as_str() {
                        "ja" => Lang::Ja,
                        "en" => Lang::En,
                        other => return Err(format!("--lang is ja or en, not {other:?}").into()),
                    }
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(words)
    }
}

fn verb(words: Vec<OsString>) -> Result<Verb, String> {
    let mut words = words.into_iter();
    let first = words.next();
    let verb = match first.as_deref().and_then(|word| word.to_str()) {
        Some("add") => Verb::Add(words.next().ok_or("add: which PROFILE?")?.into()),
        Some("list") => Verb::List,
        Some("forget") => {
            let lab = words.next().ok_or("forget: which LAB?")?;
            Verb::Forget(lab.into_string().map_err(|_| "forget: that is no lab's name")?)
        }
        Some("connect") => Verb::Connect(words.next()),
        _ => Verb::Connect(first),
    };
    match words.next() {
        None => Ok(verb),
        Some(more) => Err(format!("{more:?} is one word too many")),
    }
}

/// The text of `--help`.
pub(crate) fn help(lang: Lang) -> &'static str {
    lang.pick(HELP_EN, HELP_JA)
}

const HELP_EN: &str = "\
Takes you from this PC to your desktops in the lab.

  nonstop-connect [PROFILE | LAB]   open the tunnel, the portal and your desktop (Ctrl-C ends it)
  nonstop-connect add PROFILE       keep a profile that the lab gave you
  nonstop-connect list              show the labs that are kept
  nonstop-connect forget LAB        remove what is kept of a lab

  --fingerprint SHA256:...  the lab's authority, as your PIN letter has it (else you are asked)
  --pkcs11 FILE             the module for your card (else OpenSC's, where the system has it)
  --card SERIAL             which card, where several are inserted
  --key FILE                a key file in place of a card (labs that are a demo)
  --desktop NAME            which desktop to open: e3-analyst
  --no-rdp, --no-browser    start no RDP client, no browser
  --ask-each-time           ask for the PIN at each login; do not keep it while this runs
  --pin-stdin               read the PIN as a line of the standard input
  --print                   only say what would be run
  --json                    say everything as lines of JSON
  --lang ja|en, --verbose, --version
";

const HELP_JA: &str = "\
このPCから、ラボにあるあなたのデスクトップへ接続します。

  nonstop-connect [プロファイル | ラボ]   トンネル・ポータル・デスクトップを開く（Ctrl-C で終了）
  nonstop-connect add プロファイル        ラボから受け取ったプロファイルを登録する
  nonstop-connect list                    登録したラボを表示する
  nonstop-connect forget ラボ             ラボの登録を消す

  --fingerprint SHA256:...  PIN通知書にあるラボの認証局の指紋（省略時は確認を求めます）
  --pkcs11 FILE             カード用のモジュール（省略時はシステムの OpenSC）
  --card SERIAL             カードが複数あるとき、使うカードの番号
  --key FILE                カードの代わりの鍵ファイル（デモのラボのみ）
  --desktop NAME            開くデスクトップ: e3-analyst
  --no-rdp, --no-browser    RDPクライアント・ブラウザを起動しない
  --ask-each-time           ログインのたびにPINを尋ね、保持しない
  --pin-stdin               PINを標準入力の1行から読む
  --print                   実行する内容を表示するだけ
  --json                    すべてをJSONの行で出力する
  --lang ja|en, --verbose, --version
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Request, String> {
        Request::parse(words.split_whitespace(), Lang::En)
    }

    #[test]
    fn what_is_asked_for_is_understood() {
        assert_eq!(parse("").expect("fine").verb, Verb::Connect(None));
        assert_eq!(
            parse("my.profile").expect("fine").verb,
            Verb::Connect(Some("my.profile".into()))
        );
        let add = parse("add my.profile --fingerprint SHA256:x --lang ja").expect("fine");
        assert_eq!(add.verb, Verb::Add("my.profile".into()));
        assert_eq!((add.fingerprint.as_deref(), add.lang), (Some("SHA256:x"), Lang::Ja));
        assert_eq!(parse("forget lab").expect("fine").verb, Verb::Forget("lab".into()));
        for bad in ["add", "add a b", "list x", "--pin 1234", "--lang fr", "forget"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

//! Why a request is not done: a status, and a sentence that says how to mend it.

use crate::{
    http::{Answer, BodyError},
    target::TargetError,
    xml::{XmlError, escaped},
};
use nonstop_api::airlock::{Denial, DenialKind};

/// A language of the sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lang {
    /// English.
    En,
    /// Japanese.
    Ja,
}

impl Lang {
    /// The one of the two that a client would rather read.
    pub(crate) fn of(accept: Option<&str>) -> Lang {
        let weight = |code: &str| {
            let all = accept.unwrap_or_default().split(',').filter_map(|range| {
                let mut parts = range.trim().split(';');
                let lang = parts.next()?.split('-').next()?;
                let q = parts.find_map(|p| p.trim().strip_prefix("q=")).map_or(Ok(1.0), str::parse);
                lang.eq_ignore_ascii_case(code).then(|| q.unwrap_or(0.0))
            });
            all.fold(0.0_f32, f32::max)
        };
        let (ja, en) = (weight("ja"), weight("en"));
        if ja > 0.0 && ja >= en { Lang::Ja } else { Lang::En }
    }

    /// Its code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Lang::En => "en",
            Lang::Ja => "ja",
        }
    }

    /// The one of two texts.
    pub(crate) fn pick<'a>(self, en: &'a str, ja: &'a str) -> &'a str {
        if self == Lang::Ja && !ja.is_empty() { ja } else { en }
    }
}

/// A request that is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status.
    pub(crate) status: u16,
    en: String,
    ja: String,
    /// The name of a condition of WebDAV's, and the path that it is about.
    condition: Option<(&'static str, Option<String>)>,
}

/// What a request comes to.
pub(crate) type Outcome<T> = Result<T, Refusal>;

impl Refusal {
    /// With a sentence in English and one in Japanese.
    pub(crate) fn new(status: u16, en: impl Into<String>, ja: impl Into<String>) -> Refusal {
        Refusal { status, en: en.into(), ja: ja.into(), condition: None }
    }

    /// Because WebDAV's `condition` does not hold.
    pub(crate) fn because(mut self, condition: &'static str, path: Option<String>) -> Refusal {
        self.condition = Some((condition, path));
        self
    }

    /// Nothing is there.
    pub(crate) fn not_found() -> Refusal {
        Refusal::new(404, "there is nothing of this name", "この名前のものはありません。")
    }

    /// It is only read here.
    pub(crate) fn read_only() -> Refusal {
        Refusal::new(
            403,
            "nothing can be changed here: from outside write to import/, in a machine to export/",
            "ここは読み取り専用です。外部からは import/ に、マシン内では export/ に書き込んでください。",
        )
    }

    /// The method is not for this.
    pub(crate) fn method(method: &str) -> Refusal {
        let shown: String = method.chars().take(20).collect();
        Refusal::new(
            405,
            format!("{shown} cannot be done with this"),
            format!("ここでは {shown} を使えません。"),
        )
    }

    /// What was asked for cannot be understood.
    pub(crate) fn bad(en: impl Into<String>) -> Refusal {
        Refusal::new(400, en, "")
    }

    /// A condition of the client's does not hold.
    pub(crate) fn precondition() -> Refusal {
        Refusal::new(
            412,
            "it is another version than the one that was asked for: look again, then try again",
            "指定された版と異なります。最新の内容を確認してから、もう一度お試しください。",
        )
    }

    /// Somebody holds a lock.
    pub(crate) fn locked(path: String) -> Refusal {
        Refusal::new(
            423,
            "another program has locked it: close it there, or wait ten minutes",
            "ほかのプログラムがロックしています。そのプログラムで閉じるか、10 分ほどお待ちください。",
        )
        .because("lock-token-submitted", Some(path))
    }

    /// What an answer would say, in a language.
    pub(crate) fn text(&self, lang: Lang) -> &str {
        lang.pick(&self.en, &self.ja)
    }

    /// As an answer.
    pub(crate) fn answer<'a>(&self, lang: Lang) -> Answer<'a> {
        let answer = match &self.condition {
            None => Answer::text(self.status, self.text(lang)),
            Some((condition, path)) => {
                let inner = match path {
                    Some(path) => {
                        format!("<D:{condition}><D:href>{}</D:href></D:{condition}>", escaped(path))
                    }
                    None => format!("<D:{condition}/>"),
                };
                let text = format!(
                    "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:error xmlns:D=\"DAV:\" \
                     xmlns:N=\"urn:nonstop\">{inner}<N:says>{}</N:says></D:error>\n",
                    escaped(self.text(lang))
                );
                Answer::bytes(self.status, "application/xml; charset=utf-8", text)
            }
        };
        match self.status {
            503 => answer.field("Retry-After", "5"),
            // The version of the page or XML depends on who reads it.
            _ => answer.field("Content-Language", lang.code()),
        }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Refusal {
        let (status, ja) = match denial.kind {
            DenialKind::NotFound => return Refusal::not_found(),
            DenialKind::Exists => (412, "同じ名前のものがすでにあります。"),
            DenialKind::NoFolder => (409, "先にフォルダーを作成してください。"),
            DenialKind::WrongKind => (409, "ファイルとフォルダーを取り違えています。"),
            DenialKind::ReadOnly => (403, "ここは読み取り専用です。"),
            DenialKind::BadName => (403, "この名前は使えません。別の名前にしてください。"),
            DenialKind::Quota => (
                507,
                "割り当て容量を超えます。不要なファイルを削除してから、もう一度お試しください。",
            ),
            DenialKind::NoRoom => {
                (507, "ラボのディスクに空きがほとんどありません。担当者に連絡してください。")
            }
            DenialKind::Spent => {
                (507, "この環境への変更が多すぎます。時間をおいてから、もう一度お試しください。")
            }
            DenialKind::Busy => (503, "混み合っています。しばらくしてからもう一度お試しください。"),
            DenialKind::Gone => (403, "接続が切れたか、環境の利用期間が終わりました。"),
            DenialKind::Failed => (500, "ラボ側で問題が起きました。担当者に連絡してください。"),
        };
        Refusal::new(status, denial.message, ja)
    }
}

impl From<TargetError> for Refusal {
    fn from(error: TargetError) -> Refusal {
        let says = error.to_string();
        match error {
            TargetError::Nothing => Refusal::not_found(),
            TargetError::NoPath => Refusal::bad(says),
            TargetError::Elsewhere => Refusal::new(502, says, "別のサーバーを指しています。"),
            TargetError::Name(_) | TargetError::NotUtf8 => Refusal::new(
                403,
                format!("{says}: give it another name"),
                "この名前は使えません（空、「.」「..」、制御文字、長すぎる名前など）。別の名前にしてください。",
            ),
        }
    }
}

impl From<XmlError> for Refusal {
    fn from(error: XmlError) -> Refusal {
        match error {
            XmlError::TooMuch => Refusal::new(413, error.to_string(), ""),
            XmlError::Form | XmlError::DocType | XmlError::Prefix => {
                Refusal::bad(error.to_string())
            }
        }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Refusal {
        match error {
            BodyError::TooLong(_) => Refusal::new(413, error.to_string(), ""),
            BodyError::Broken(_) => Refusal::new(
                400,
                "the upload broke off, and nothing of it is kept: try again",
                "アップロードが途中で切れました。何も保存されていません。もう一度お試しください。",
            ),
            BodyError::Form => Refusal::bad(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_come_in_the_language_that_is_asked_for() {
        assert_eq!(Lang::of(Some("ja,en-US;q=0.9,en;q=0.8")), Lang::Ja);
        assert_eq!(Lang::of(Some("de, ja;q=0.3, en-GB;q=0.8")), Lang::En);
        assert_eq!(Lang::of(Some("ja;q=0")), Lang::En);
        assert_eq!(Lang::of(None), Lang::En);
        assert!(Refusal::read_only().text(Lang::Ja).contains("読み取り専用"));
        assert_eq!(Refusal::bad("x").text(Lang::Ja), "x");
    }
}

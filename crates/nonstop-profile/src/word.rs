//! Words: names that go into arguments and file names, and text that is only shown.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A text that cannot be the word it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {kind}: {rule}")]
pub struct WordError {
    text: String,
    kind: &'static str,
    rule: &'static str,
}

impl WordError {
    pub(crate) fn new(text: &str, kind: &'static str, rule: &'static str) -> WordError {
        WordError { text: text.chars().take(60).collect(), kind, rule }
    }
}

/// A word of ASCII letters, with its rule.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $test:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl FromStr for $name {
            type Err = WordError;

            fn from_str(text: &str) -> Result<$name, WordError> {
                let test: fn(&str) -> bool = $test;
                match test(text) {
                    true => Ok($name(text.into())),
                    false => Err(WordError::new(text, $kind, $rule)),
                }
            }
        }

        impl $name {
            /// The word as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = WordError;

            fn try_from(text: String) -> Result<$name, WordError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> String {
                word.0
            }
        }
    };
}

word! {
    /// An account of the lab: the user name that `ssh` logs in with.
    Account, "account", "a lower-case letter, then up to 23 lower-case letters, digits or `-`",
    |text| lower(text, 24)
}

word! {
    /// An environment as the portal calls it: `e3`.
    EnvironmentName, "environment", "`e` and up to 18 digits",
    |text| {
        let digits = text.strip_prefix('e').unwrap_or("");
        (1..=18).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    }
}

word! {
    /// The role of a machine in its environment: `analyst`.
    RoleName, "role", "a lower-case letter, then up to 23 lower-case letters, digits or `-`",
    |text| lower(text, 24)
}

word! {
    /// A user of a guest.
    UserName, "user", "a letter, then up to 31 letters, digits, `_` or `-`",
    |text| {
        let rest = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        text.len() <= 32 && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(rest)
    }
}

word! {
    /// A text of one line that is only shown: letters and digits of any script, blanks, and a few
    /// marks that mean nothing to a shell, a terminal or a page.
    Plain, "text", "1 to 80 letters, digits, single blanks and plain marks, beginning with a letter or digit",
    |text| {
        let first = text.chars().next().is_some_and(is_letter);
        let blanks = !text.ends_with(' ') && !text.contains("  ");
        first && blanks && text.chars().count() <= 80 && text.chars().all(is_plain)
    }
}

fn lower(text: &str, most: usize) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= most
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(letter)
}

/// Letters and digits that can be seen: what Unicode fills gaps of Hangul with cannot.
fn is_letter(c: char) -> bool {
    c.is_alphanumeric() && !matches!(c, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}')
}

fn is_plain(c: char) -> bool {
    is_letter(c) || " .,_-()+/:・、。（）「」".contains(c)
}

impl Plain {
    /// What of `text` can be shown; `instead` where nothing is left.
    pub fn from_any(text: &str, instead: &Plain) -> Plain {
        let kept = text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect::<String>();
        let words = kept.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let from = words.find(is_letter).unwrap_or(words.len());
        let short = words[from..].chars().take(80).collect::<String>();
        short.trim_end().parse().unwrap_or_else(|_| instead.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lab_calls_itself_is_shown_without_what_could_harm() {
        let instead: Plain = "lab".parse().expect("plain");
        let shown = |text: &str| Plain::from_any(text, &instead).to_string();
        assert_eq!(shown("ダークネット解析（macro）"), "ダークネット解析（macro）");
        assert_eq!(
            shown("--help; `id` $(x) \"a\"%s\u{202e}\n\x1b[31mred"),
            "help id (x) a s 31mred"
        );
        assert_eq!(shown("\u{202e}$%`"), "lab");
        assert_eq!(shown(&"a".repeat(200)).len(), 80);
    }
}

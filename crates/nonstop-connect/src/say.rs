//! What is said, in the language of the terminal.

use serde_json::Value;
use std::io::Write;

/// The language of what is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    /// English.
    En,
    /// Japanese.
    Ja,
}

impl Lang {
    /// The language that the environment names, as POSIX has it.
    pub fn here() -> Lang {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let named = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set);
        match named.is_some_and(|value| value.starts_with("ja")) {
            true => Lang::Ja,
            false => Lang::En,
        }
    }

    /// The one of two texts.
    pub fn pick<'a>(self, en: &'a str, ja: &'a str) -> &'a str {
        match self {
            Lang::En => en,
            Lang::Ja => ja,
        }
    }
}

/// Prints a line of JSON; whoever reads it may have gone.
pub(crate) fn event(value: &Value) {
    let mut out = std::io::stdout().lock();
    let _reader_gone = writeln!(out, "{value}").and_then(|()| out.flush());
}

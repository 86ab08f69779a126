//! Reading our YAML files, with errors that show the line and how to mend it.

use miette::{Diagnostic, NamedSource, SourceSpan};
use serde::de::DeserializeOwned;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{file}:{line}:{column}: {message}")]
pub struct ConfigError {
    /// The file, as it was named to us.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// What is wrong, without its place.
    pub message: String,
    /// How to mend it.
    #[help]
    pub help: Option<String>,
    #[source_code]
    source_code: NamedSource<String>,
    #[label("here")]
    span: SourceSpan,
}

/// Parses `text`, which stands in `file`, as a `T`. Errors point into the text.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ConfigError> {
    serde_yaml::from_str(text).map_err(|e| {
        let (line, column) = e.location().map_or((1, 1), |at| (at.line(), at.column()));
        let raw = e.to_string();
        let message = raw.split(" at line ").next().unwrap_or(&raw).to_string();
        error_at(file, text, line, column, message)
    })
}

/// An error at `line` and `column` (from 1) of `text`.
fn error_at(file: &str, text: &str, line: usize, column: usize, message: String) -> ConfigError {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(start..).unwrap_or("");
    let row = rest.lines().next().unwrap_or("");
    let skip = row.char_indices().nth(column.saturating_sub(1)).map_or(0, |(at, _)| at);
    let word = row[skip..].split([':', ' ']).next().unwrap_or("").len();
    ConfigError {
        file: file.into(),
        line,
        column,
        help: suggestion(&message),
        message,
        source_code: NamedSource::new(file, text.to_string()),
        span: (start + skip, word).into(),
    }
}

/// An error about the value of `key`, which stands at the start of a line of `text`
/// (at its first line where the key is absent).
pub fn error_at_key(file: &str, text: &str, key: &str, message: String) -> ConfigError {
    let found = text.lines().enumerate().find_map(|(row, line)| {
        let at = line.find(|c: char| c != ' ' && c != '-')?;
        line[at..].strip_prefix(key)?.trim_start().starts_with(':').then_some((row + 1, at + 1))
    });
    let (line, column) = found.unwrap_or((1, 1));
    error_at(file, text, line, column, message)
}

/// The nearest of the names that serde lists in "unknown field `x`, expected one of …".
fn suggestion(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.contains("unknown field") && !message.contains("unknown variant") {
        return None;
    }
    let wrong = quoted.next()?;
    let known: Vec<&str> = quoted.collect();
    let near = known
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(wrong, a).total_cmp(&strsim::jaro_winkler(wrong, b)))?;
    if strsim::jaro_winkler(wrong, near) > 0.75 {
        Some(format!("did you mean `{near}`?"))
    } else {
        Some(format!("remove it, or use one of: {}", known.join(", ")))
    }
}

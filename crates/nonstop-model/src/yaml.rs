//! Reading our YAML files, with errors that show the line and how to mend it.

use miette::{Diagnostic, NamedSource, SourceSpan};
use saphyr_parser::{Event, Parser, Span, StrInput};
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

/// An error about what stands at `path` of `text`, such as `machines.1.reach.0`: keys, and the
/// numbers of elements from 0. Where a part of it is absent, the last one that is there counts.
pub fn error_at_path(file: &str, text: &str, path: &str, message: String) -> ConfigError {
    let (line, column) = locate(text, path);
    error_at(file, text, line, column, message)
}

/// Line and column, from 1, of what stands at `path` of `text`.
fn locate(text: &str, path: &str) -> (usize, usize) {
    let steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
    let mut walk = Walk { parser: Parser::new_from_str(text), found: (1, 1) };
    while let Some((event, _)) = walk.next() {
        if !matches!(event, Event::StreamStart | Event::DocumentStart(_)) {
            walk.node(event, Some(&steps));
            break;
        }
    }
    walk.found
}

/// A walk through a document's events, towards one place.
struct Walk<'a> {
    parser: Parser<'a, StrInput<'a>>,
    found: (usize, usize),
}

impl<'a> Walk<'a> {
    fn next(&mut self) -> Option<(Event<'a>, Span)> {
        self.parser.next_event()?.ok()
    }

    fn here(&mut self, span: Span) {
        self.found = (span.start.line(), span.start.col() + 1);
    }

    /// Reads one node, whose first event is `event`, looking for `steps` in it; None passes it
    /// over.
    fn node(&mut self, event: Event<'a>, steps: Option<&[&str]>) {
        match event {
            Event::MappingStart(..) => {
                while let Some((key, span)) = self.next() {
                    if key == Event::MappingEnd {
                        return;
                    }
                    let name = if let Event::Scalar(name, ..) = &key { &**name } else { "" };
                    let inner = steps.and_then(|s| s.split_first()).filter(|s| *s.0 == name);
                    let inner = inner.map(|(_, rest)| rest);
                    if inner.is_some() {
                        self.here(span);
                    }
                    self.node(key, None);
                    let Some((value, _)) = self.next() else { return };
                    self.node(value, inner);
                }
            }
            Event::SequenceStart(..) => {
                let mut index = 0_usize;
                while let Some((element, span)) = self.next() {
                    if element == Event::SequenceEnd {
                        return;
                    }
                    let inner = steps.and_then(|s| s.split_first());
                    let inner = inner.filter(|s| *s.0 == index.to_string()).map(|(_, rest)| rest);
                    if inner.is_some() {
                        self.here(span);
                    }
                    self.node(element, inner);
                    index += 1;
                }
            }
            _ => {}
        }
    }
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

#[cfg(test)]
mod tests {
    use super::locate;

    #[test]
    fn a_place_is_found_in_blocks_and_in_flows() {
        let text = "# a note\na: 1\nlist:\n  - {x: 1, y: [p, q]}\n  - x: 2\n    y:\n      - r\n      - s\n";
        for (path, place) in [
            ("a", (2, 1)),
            ("list.0", (4, 5)),
            ("list.0.y.1", (4, 19)),
            ("list.1.x", (5, 5)),
            ("list.1.y.1", (8, 9)),
            // What is not written stands where its owner does.
            ("list.1.z.0", (5, 5)),
            ("nowhere", (1, 1)),
        ] {
            assert_eq!(locate(text, path), place, "{path}");
        }
    }
}

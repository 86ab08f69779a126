//! Conditions of a request on the version of what it names: RFC 9110, 13.

use crate::{head::Head, http_date};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

/// What a name holds, as conditions see it.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its entity tag, with quotes.
    pub etag: String,
    /// When it changed.
    pub modified: Timestamp,
}

/// What a request's conditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It is done.
    Holds,
    /// It is not done: 412.
    Failed,
    /// The client has this version: 304.
    Unchanged,
}

/// Those of `head` on what is there, in the order of RFC 9110, 13.2.2.
pub fn condition(head: &Head, there: Option<&Version>) -> Condition {
    let date = |name| {
        let at = DateTimeParser::new().parse_timestamp(head.field(name)?).ok()?;
        // HTTP's dates have whole seconds.
        Some(at.as_second())
    };
    let named = |list: &str, weak: bool| {
        list.split(',').map(str::trim).any(|tag| {
            let tag = if weak { tag.trim_start_matches("W/") } else { tag };
            there.is_some_and(|there| tag == "*" || tag == there.etag)
        })
    };
    let at = there.map(|there| there.modified.as_second());
    match (head.list("if-match"), date("if-unmodified-since")) {
        (Some(list), _) if !named(&list, false) => return Condition::Failed,
        (None, Some(since)) if at.is_some_and(|at| at > since) => return Condition::Failed,
        _ => {}
    }
    let reads = ["GET", "HEAD"].contains(&head.method.as_str());
    match (head.list("if-none-match"), date("if-modified-since")) {
        (Some(list), _) if named(&list, true) && reads => Condition::Unchanged,
        (Some(list), _) if named(&list, true) => Condition::Failed,
        (None, Some(since)) if reads && at.is_some_and(|at| at <= since) => Condition::Unchanged,
        _ => Condition::Holds,
    }
}

/// The `Range` of `head`, where it holds for the version that is there: it stands once, the method
/// is GET (RFC 9110, 14.2), and `If-Range` names no other version.
pub fn range<'a>(head: &'a Head, there: &Version) -> Option<&'a str> {
    let range = head.only("range").filter(|_| head.method == "GET");
    range.filter(|_| match head.field("if-range") {
        None => true,
        Some(value) => value == there.etag || value == http_date(there.modified),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version() -> Version {
        let modified = Timestamp::from_second(1_000_000).expect("a time");
        Version { etag: "\"a\"".into(), modified }
    }

    fn head(method: &str, fields: &[(&str, &str)]) -> Head {
        let fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Head { method: method.into(), fields: fields.collect(), ..Head::default() }
    }

    #[test]
    fn conditions_are_on_what_is_there_or_is_not() {
        let version = version();
        let is = |method: &str, name: &str, value: &str, there: bool| {
            condition(&head(method, &[(name, value)]), there.then_some(&version))
        };
        use Condition::{Failed, Holds, Unchanged};
        for (method, name, value, there, comes) in [
            ("PUT", "if-match", "\"a\"", true, Holds),
            ("PUT", "if-match", "\"b\", \"a\"", true, Holds),
            ("PUT", "if-match", "\"b\"", true, Failed),
            ("PUT", "if-match", "W/\"a\"", true, Failed),
            ("PUT", "if-match", "*", true, Holds),
            ("PUT", "if-match", "*", false, Failed),
            ("PUT", "if-none-match", "*", false, Holds),
            ("PUT", "if-none-match", "*", true, Failed),
            ("GET", "if-none-match", "W/\"a\"", true, Unchanged),
            ("GET", "if-none-match", "\"b\"", true, Holds),
            ("GET", "if-modified-since", "Mon, 12 Jan 1970 13:46:40 GMT", true, Unchanged),
            ("GET", "if-modified-since", "Mon, 12 Jan 1970 13:46:39 GMT", true, Holds),
            ("GET", "if-modified-since", "nonsense", true, Holds),
            ("PUT", "if-modified-since", "Mon, 12 Jan 1970 13:46:40 GMT", true, Holds),
            ("PUT", "if-unmodified-since", "Mon, 12 Jan 1970 13:46:39 GMT", true, Failed),
            ("PUT", "if-unmodified-since", "Mon, 12 Jan 1970 13:46:40 GMT", true, Holds),
        ] {
            assert_eq!(is(method, name, value, there), comes, "{method} {name}: {value} ({there})");
        }
    }

    #[test]
    fn a_range_holds_for_the_version_that_it_was_begun_with() {
        let bytes = ("range", "bytes=0-0");
        for (method, fields, holds) in [
            ("GET", &[bytes][..], true),
            ("GET", &[bytes, ("if-range", "\"a\"")], true),
            ("GET", &[bytes, ("if-range", "Mon, 12 Jan 1970 13:46:40 GMT")], true),
            ("GET", &[bytes, ("if-range", "\"b\"")], false),
            ("GET", &[bytes, ("if-range", "Mon, 12 Jan 1970 13:46:41 GMT")], false),
            ("GET", &[bytes, bytes], false),
            ("HEAD", &[bytes], false),
        ] {
            let head = head(method, fields);
            assert_eq!(range(&head, &version()).is_some(), holds, "{method} {fields:?}");
        }
    }
}

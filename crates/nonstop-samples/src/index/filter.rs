//! What is searched for, as SQL.

use crate::digest::Digest;
use nonstop_api::samples::SampleQuery;
use rusqlite::ToSql;

/// The fields of a report that words may be asked for in.
const FIELDS: [&str; 7] =
    ["processes", "files", "registry", "mutexes", "domains", "addresses", "signatures"];
/// Terms of one question, and the longest of all of them, in bytes.
const TERMS: usize = 16;
const TEXT: usize = 1000;

/// A question that cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No begin of a hash.
    #[error("a hash is up to 64 hexadecimal digits: {0}")]
    Hash(String),
    /// Words that say nothing, or too many.
    #[error("{0}")]
    Text(String),
    /// A field that is too long to be anything.
    #[error("{0} is longer than anything that is kept")]
    Long(&'static str),
    /// A field with characters that nobody writes.
    #[error("{0} has a character that cannot be printed")]
    Control(&'static str),
    /// A place that is none of ours.
    #[error("`after` is not what the page before ended with")]
    After,
}

/// What is asked of one sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The hashes that begin as asked: the first and the last of them.
    pub hash: Option<(Digest, Digest)>,
    family: String,
    tag: String,
    kind: String,
    /// As FTS5 reads it.
    text: String,
}

impl Filter {
    /// What `query` asks of a sample.
    pub fn new(query: &SampleQuery) -> Result<Filter, FilterError> {
        let trimmed = |what, text: &str| match text.trim() {
            text if text.len() > 256 => Err(FilterError::Long(what)),
            text if text.contains(char::is_control) => Err(FilterError::Control(what)),
            text => Ok(text.to_string()),
        };
        Ok(Filter {
            hash: hashes(query.hash.trim())?,
            family: trimmed("the family", &query.family)?,
            tag: trimmed("the tag", &query.tag)?,
            kind: trimmed("the type", &query.kind)?.to_ascii_lowercase(),
            text: words(&query.text)?,
        })
    }

    /// What is asked of a sample beside words; none where words are all, or where there are no words.
    ///
    /// To see that a day has nothing of it takes a moment; to look at each report that has a common
    /// word takes as long as there are such reports.
    pub(super) fn beside_words(&self) -> Option<Filter> {
        let rest = Filter { text: String::new(), ..self.clone() };
        (!self.text.is_empty() && rest != Filter::default()).then_some(rest)
    }

    /// The statement that finds up to `most` samples behind the place `after`, of `digest` alone where
    /// it is given, and its values. A row is a place and `columns` of the sample `s`.
    ///
    /// Places are numbers of samples; with words they are those of reports, in whose order FTS5 finds
    /// them without sorting. A sample is found by its first report that has the words.
    pub(super) fn sql(
        &self,
        columns: &str,
        after: i64,
        digest: Option<Digest>,
        most: u32,
    ) -> (String, Vec<Box<dyn ToSql>>) {
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        let mut value = |value: Box<dyn ToSql>| {
            values.push(value);
            format!("?{}", values.len())
        };
        let mut from = String::from("samples s");
        let place = if self.text.is_empty() { "s.number" } else { "f.rowid" };
        let mut all = vec![format!("{place} > {}", value(Box::new(after)))];
        if !self.text.is_empty() {
            let text = value(Box::new(self.text.clone()));
            from = "report_text f JOIN reports r ON r.id = f.rowid JOIN samples s ON s.number = r.number"
                .into();
            all.push(format!("f.report_text MATCH {text}"));
            all.push(format!(
                "(r.run = 1 OR NOT EXISTS (SELECT 1 FROM reports o CROSS JOIN report_text g WHERE \
                 o.number = r.number AND o.id < r.id AND g.rowid = o.id AND \
                 g.report_text MATCH {text}))"
            ));
        }
        if !self.tag.is_empty() {
            from.push_str(" JOIN tags t ON t.number = s.number");
            all.push(format!("t.tag = {}", value(Box::new(self.tag.clone()))));
        }
        if let Some((low, high)) = self.hash {
            let (low, high) = (value(Box::new(low.0)), value(Box::new(high.0)));
            all.push(format!("s.sha256 BETWEEN {low} AND {high}"));
        }
        if let Some(digest) = digest {
            all.push(format!("s.sha256 = {}", value(Box::new(digest.0))));
        }
        if !self.family.is_empty() {
            all.push(format!("s.family = {}", value(Box::new(self.family.clone()))));
        }
        if !self.kind.is_empty() {
            all.push(format!("s.kind = {}", value(Box::new(self.kind.clone()))));
        }
        let most = value(Box::new(most));
        let all = all.join(" AND ");
        let sql = format!(
            "SELECT {place}, {columns} FROM {from} WHERE {all} ORDER BY {place} LIMIT {most}"
        );
        (sql, values)
    }
}

/// The first and the last hash that begin with `begin`; none where nothing is asked.
fn hashes(begin: &str) -> Result<Option<(Digest, Digest)>, FilterError> {
    if begin.is_empty() {
        return Ok(None);
    }
    let shown: String = begin.chars().take(80).flat_map(char::escape_debug).collect();
    let digits = begin.bytes().all(|b| b.is_ascii_hexdigit()) && begin.len() <= 64;
    let begin = begin.to_ascii_lowercase();
    let filled = |with: &str| Digest::read(&format!("{begin}{}", with.repeat(64 - begin.len())));
    let both = digits.then(|| filled("0").zip(filled("f"))).flatten();
    both.map(Some).ok_or(FilterError::Hash(shown))
}

/// `text` as FTS5 reads it: every term in quotes, so that nothing of it is a word of its language.
fn words(text: &str) -> Result<String, FilterError> {
    if text.len() > TEXT {
        return Err(FilterError::Text(format!("ask for at most {TEXT} bytes of words")));
    }
    // SQLite ends a text at a NUL, in the midst of a quote.
    if text.contains(|c: char| c.is_control() && !c.is_whitespace()) {
        return Err(FilterError::Control("what is searched for"));
    }
    let mut terms = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let field = FIELDS.iter().find_map(|field| {
            let (begin, more) = rest.split_at_checked(field.len())?;
            Some((*field, more.strip_prefix(':').filter(|_| begin == *field)?))
        });
        let (field, term) = field.map_or((None, rest), |(field, term)| (Some(field), term));
        let (term, begins, more) = match term.strip_prefix('"') {
            Some(quoted) => {
                let (inside, more) = quoted.split_once('"').unwrap_or((quoted, ""));
                match more.strip_prefix('*') {
                    Some(more) => (inside, true, more),
                    None => (inside, false, more),
                }
            }
            None => {
                let end = term.find(char::is_whitespace).unwrap_or(term.len());
                let (word, more) = term.split_at(end);
                match word.strip_suffix('*') {
                    Some(word) => (word, true, more),
                    None => (word, false, more),
                }
            }
        };
        rest = more.trim_start();
        // Signs alone are no words to FTS5, and would find nothing.
        if term.chars().any(char::is_alphanumeric) {
            let field = field.map(|field| format!("{field} : ")).unwrap_or_default();
            let begins = if begins { " *" } else { "" };
            terms.push(format!("{field}\"{}\"{begins}", term.replace('"', "\"\"")));
        }
    }
    match terms.len() {
        0 if !text.trim().is_empty() => {
            Err(FilterError::Text("ask for words: there are only signs".into()))
        }
        0..=TERMS => Ok(terms.join(" AND ")),
        _ => Err(FilterError::Text(format!("ask for at most {TERMS} words at once"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begin_of_a_hash_is_all_that_begin_so() {
        let (low, high) = hashes("AB0").expect("digits").expect("asked");
        assert_eq!(low.to_string(), format!("ab0{}", "0".repeat(61)));
        assert_eq!(high.to_string(), format!("ab0{}", "f".repeat(61)));
        assert_eq!(hashes(""), Ok(None));
        for wrong in ["xyz", "ab ab", &"a".repeat(65)] {
            assert!(hashes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_asked_beside_words_is_looked_at_first() {
        let of = |text: &str, family: &str| {
            let (text, family) = (text.into(), family.into());
            let query = SampleQuery { text, family, ..SampleQuery::default() };
            Filter::new(&query).expect("a question").beside_words()
        };
        assert_eq!(of("word", "Elm"), Some(Filter { family: "Elm".into(), ..Filter::default() }));
        assert_eq!((of("word", ""), of("", "Elm"), of("", "")), (None, None, None));
    }

    #[test]
    fn words_are_never_a_language() {
        for (text, is) in [
            ("", ""),
            ("  evil.dll  ", "\"evil.dll\""),
            ("svc* run", "\"svc\" * AND \"run\""),
            ("mutexes:Global\\one", "mutexes : \"Global\\one\""),
            ("C:\\Windows", "\"C:\\Windows\""),
            ("\"in a row\" files:\"two words\"*", "\"in a row\" AND files : \"two words\" *"),
            ("a OR b", "\"a\" AND \"OR\" AND \"b\""),
            ("x\"y NEAR(", "\"x\"\"y\" AND \"NEAR(\""),
            ("\"never closed", "\"never closed\""),
            ("- a", "\"a\""),
        ] {
            assert_eq!(words(text).as_deref(), Ok(is), "{text}");
        }
        assert!(words("- * \"\"").is_err());
        assert!(words("a\0b").is_err() && words("\"a\u{1b}").is_err() && words("a\tb\n").is_ok());
        assert!(words(&"a ".repeat(17)).is_err());
        assert!(words(&"a".repeat(1001)).is_err());
    }
}

//! The record of a run as lines that a page shows: whatever is in the file, nothing left out.
//!
//! The file is made and signed elsewhere. Here it is read as any JSON: a field that is not known yet
//! is shown under its own name.

use crate::{preview::Pieces, texts::samples::Texts};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};
use std::fmt;

/// Lines of a page at most; a record has some dozens.
const MOST: usize = 2000;

/// The deepest that a field may lie.
const DEEPEST: usize = 12;

/// The field of a record that has what it says; the others vouch for that.
const SAID: &str = "record";

/// One field of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    /// Where in the file: the names that lead to it, as the reader calls them.
    pub(crate) path: String,
    /// What it says, in pieces so that nothing hides.
    pub(crate) says: Pieces,
}

/// A record, ready for a page.
#[derive(Debug)]
pub(crate) struct Record {
    /// What it says, in the order of the file; None where it cannot be read as such.
    pub(crate) facts: Option<Vec<Fact>>,
    /// What vouches for that: the row of the trace, and the signed head.
    pub(crate) signed: Vec<Fact>,
    /// SHA-256 of the file, in hex.
    pub(crate) sha256: String,
}

impl Record {
    /// Reads `file`.
    pub(crate) fn of(s: &'static Texts, file: &str) -> Record {
        let (mut facts, mut signed) = (Vec::new(), Vec::new());
        let tree = serde_json::from_str::<Tree>(file).ok();
        let whole = tree.is_some_and(|tree| match tree.parted(SAID) {
            (Some(said), rest) => {
                walk(s, &said, String::new(), 0, &mut facts)
                    && walk(s, &rest, String::new(), 0, &mut signed)
            }
            (None, all) => walk(s, &all, String::new(), 0, &mut facts),
        });
        let sha256 = hex::encode(Sha256::digest(file));
        match whole {
            true => Record { facts: Some(facts), signed, sha256 },
            false => Record { facts: None, signed: Vec::new(), sha256 },
        }
    }
}

/// Any JSON, its fields in the order of the file.
enum Tree {
    Nothing,
    Flag(bool),
    Text(String),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Tree, D::Error> {
        // serde_json itself ends at a depth of 128.
        from.deserialize_any(Reader)
    }
}

impl Tree {
    /// The field `name`, if it has fields itself, and what else there is.
    fn parted(self, name: &str) -> (Option<Tree>, Tree) {
        let Tree::Fields(mut fields) = self else { return (None, self) };
        let at = fields.iter().position(|(n, of)| n == name && matches!(of, Tree::Fields(_)));
        let said = at.map(|at| fields.remove(at).1);
        (said, Tree::Fields(fields))
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nothing)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Tree, E> {
        Ok(Tree::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Text(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Text(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = from.next_element()? {
            all.push(one);
        }
        Ok(Tree::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = from.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Fields(fields))
    }
}

/// What a field is called in the reader's language; one that is not known, as it is in the file.
fn called<'a>(s: &'static Texts, name: &'a str) -> &'a str {
    match name {
        "lab" => s.of_lab,
        "environment" => s.of_environment,
        "template" => s.of_template,
        "machine" => s.of_machine,
        "machines" => s.of_machines,
        "role" => s.of_role,
        "generation" => s.of_generation,
        "image" => s.of_image,
        "image_digest" => s.of_image_digest,
        "domain" => s.of_domain,
        "samples" => s.of_samples,
        "name" => s.of_name,
        "bytes" => s.of_bytes,
        "by" => s.of_by,
        "zip" => s.of_zip,
        "from" => s.of_from,
        "until" => s.of_until,
        "ended_by" => s.of_ended_by,
        "guest_says" => s.of_guest_says,
        "containment" => s.of_containment,
        "there" => s.of_there,
        "begin" => s.of_begin,
        "failure" => s.of_failure,
        "counted_at" => s.of_counted_at,
        "end" => s.of_end,
        "counts" => s.of_counts,
        "between" => s.of_between,
        "left" => s.of_left,
        "refused" => s.of_refused,
        "proof" => s.of_proof,
        "colour" => s.of_colour,
        "rights" => s.of_rights,
        "rules" => s.of_rules,
        "current" => s.of_current,
        "at" => s.of_at,
        "version" => s.of_version,
        "unknown" => s.of_unknown,
        other => other,
    }
}

/// Puts the fields of `tree`, which is at `path`, into `facts`; false where that is too much.
fn walk(s: &'static Texts, tree: &Tree, path: String, depth: usize, facts: &mut Vec<Fact>) -> bool {
    if facts.len() >= MOST || depth > DEEPEST {
        return false;
    }
    let below = |name: &str| match path.as_str() {
        "" => called(s, name).to_string(),
        path => format!("{path} · {}", called(s, name)),
    };
    let mut say = |text: &str| {
        facts.push(Fact { path: path.clone(), says: Pieces::of(text) });
        true
    };
    match tree {
        Tree::Nothing => say(s.record_nothing),
        Tree::Flag(true) => say(s.record_yes),
        Tree::Flag(false) => say(s.record_no),
        Tree::Text(text) => say(text),
        Tree::List(all) if all.is_empty() => say(s.record_nothing),
        Tree::List(all) => all.iter().enumerate().all(|(at, one)| {
            let path = if all.len() == 1 { path.clone() } else { below(&(at + 1).to_string()) };
            walk(s, one, path, depth + 1, facts)
        }),
        Tree::Fields(fields) if fields.is_empty() => say(s.record_nothing),
        Tree::Fields(fields) => {
            fields.iter().all(|(name, one)| walk(s, one, below(name), depth + 1, facts))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::texts::samples::ENGLISH;

    #[test]
    fn every_field_is_shown_and_what_is_too_deep_is_left_to_the_file() {
        let file = r#"{"z":{"b":[1,{"c":null}],"a":["x\u202e"]},"e":true,"f":[],"d":{}}"#;
        let facts = Record::of(&ENGLISH, file).facts.expect("a record");
        let paths: Vec<_> = facts.iter().map(|fact| fact.path.as_str()).collect();
        assert_eq!(paths, ["z · b · 1", "z · b · 2 · c", "z · a", "e", "f", "d"], "as in the file");
        assert_eq!(facts[2].says.hidden(), 1);
        let file = r#"{"seq":7,"record":{"guest_says":1,"q":2},"head":{"hash":"ff"}}"#;
        let Record { facts, signed, .. } = Record::of(&ENGLISH, file);
        let paths = |facts: &[Fact]| facts.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&facts.expect("a record")), ["The guest says (no proof)", "q"]);
        assert_eq!(paths(&signed), ["seq", "head · hash"]);
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(Record::of(&ENGLISH, &deep).facts.is_none());
        let long = format!("[{}1]", "1,".repeat(3000));
        assert!(Record::of(&ENGLISH, &long).facts.is_none());
        assert!(Record::of(&ENGLISH, "no JSON").facts.is_none());
    }
}

//! Texts out of JSON of any shape: what is no text where one is expected is passed over.

use crate::limits;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::fmt;

/// The names under which objects of a report hold what is searched for.
const NAMES: [&str; 18] = [
    "process_name",
    "module_path",
    "command_line",
    "process_path",
    "name",
    "family",
    "description",
    "ip",
    "dst",
    "domain",
    "hostname",
    "request",
    "host",
    "uri",
    "answers",
    "data",
    "children",
    "environ",
];

/// Texts of a value: itself, the elements of a list, what an object has under [`NAMES`].
#[derive(Debug, Default)]
pub(super) struct Texts {
    texts: Vec<String>,
    bytes: usize,
}

impl Texts {
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    pub(super) fn first(&self) -> Option<&str> {
        self.texts.first().map(String::as_str)
    }

    pub(super) fn into_vec(self) -> Vec<String> {
        self.texts
    }

    fn push(&mut self, text: &str) {
        let text = text.trim();
        let cut = &text[..text.floor_char_boundary(limits::TERM_BYTES)];
        if !cut.is_empty() && self.bytes + cut.len() <= limits::FIELD_BYTES {
            self.bytes += cut.len();
            self.texts.push(cut.into());
        }
    }

    pub(super) fn add(&mut self, other: Texts) {
        for text in other.texts {
            self.push(&text);
        }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Texts, D::Error> {
        from.deserialize_any(Gather)
    }
}

struct Gather;

impl<'de> Visitor<'de> for Gather {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
        let mut texts = Texts::default();
        texts.push(text);
        Ok(texts)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Texts::default();
        while let Some(more) = list.next_element::<Texts>()? {
            texts.add(more);
        }
        Ok(texts)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut texts = Texts::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Known => texts.add(map.next_value::<Texts>()?),
                Key::Other => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(texts)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_unit<E>(self) -> Result<Texts, E> {
        Ok(Texts::default())
    }
}

/// A key of an object: one of [`NAMES`] or not, without keeping it.
enum Key {
    Known,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
        struct Is;
        impl Visitor<'_> for Is {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(if NAMES.contains(&key) { Key::Known } else { Key::Other })
            }
        }
        from.deserialize_str(Is)
    }
}

/// `behavior.summary`: lists by what was done to what, under many names.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) processes: Texts,
    pub(super) files: Texts,
    pub(super) registry: Texts,
    pub(super) mutexes: Texts,
    pub(super) network: Texts,
}

impl Summary {
    pub(super) fn add(&mut self, other: Summary) {
        self.processes.add(other.processes);
        self.files.add(other.files);
        self.registry.add(other.registry);
        self.mutexes.add(other.mutexes);
        self.network.add(other.network);
    }

    /// Where the list `key` belongs; None for what nobody searches for.
    fn place(&mut self, key: &str) -> Option<&mut Texts> {
        let has = |words: &[&str]| words.iter().any(|word| key.contains(word));
        if has(&["mutex"]) {
            Some(&mut self.mutexes)
        } else if has(&["reg", "keys"]) {
            Some(&mut self.registry)
        } else if has(&["host", "connects", "url", "dns"]) {
            Some(&mut self.network)
        } else if has(&["file", "director", "dll"]) {
            Some(&mut self.files)
        } else if has(&["command", "process", "service"]) {
            Some(&mut self.processes)
        } else {
            None
        }
    }
}

impl<'de> Deserialize<'de> for Summary {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Summary, D::Error> {
        struct Lists;
        impl<'de> Visitor<'de> for Lists {
            type Value = Summary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("lists of what was done")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Summary, A::Error> {
                let mut summary = Summary::default();
                while let Some(key) = map.next_key::<String>()? {
                    match summary.place(&key) {
                        Some(place) => place.add(map.next_value()?),
                        None => _ = map.next_value::<IgnoredAny>()?,
                    }
                }
                Ok(summary)
            }
        }
        from.deserialize_map(Lists)
    }
}

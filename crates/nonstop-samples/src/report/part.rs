//! Parts of a report that may have any shape: one that is not as expected has nothing in it.

use super::gather::Summary;
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer,
    },
};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// What an object says; of any other value, the same as of an empty one.
pub(super) fn part<'de, D: Deserializer<'de>, T: Shape<'de>>(from: D) -> Result<T, D::Error> {
    Of(PhantomData).deserialize(from)
}

/// The same for a part whose being there is told.
pub(super) fn some_part<'de, D: Deserializer<'de>, T: Shape<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    part(from).map(Some)
}

/// The `summary` of each object of a list, together.
pub(super) fn merged<'de, D: Deserializer<'de>>(from: D) -> Result<Summary, D::Error> {
    from.deserialize_any(Merge).map(|Merged(summary)| summary)
}

/// A text or a number, as a text; None for anything else.
pub(super) fn word<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    from.deserialize_any(Word).map(|Said(word)| word)
}

/// What an object is read as.
pub(super) trait Shape<'de>: Default + Deserialize<'de> {}

impl<'de, T: Default + Deserialize<'de>> Shape<'de> for T {}

struct Of<T>(PhantomData<T>);

impl<'de, T: Shape<'de>> DeserializeSeed<'de> for Of<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        from.deserialize_any(self)
    }
}

/// The visits of values that say nothing, in which nothing is kept.
macro_rules! nothing_in {
    ($value:ty, $nothing:expr; $($visit:ident($of:ty)),*) => {
        $(fn $visit<E>(self, _: $of) -> Result<$value, E> {
            Ok($nothing)
        })*

        fn visit_unit<E>(self) -> Result<$value, E> {
            Ok($nothing)
        }

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }
    };
}

fn passed_over<'de, A: SeqAccess<'de>>(mut list: A) -> Result<(), A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn passed_over_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

impl<'de, T: Shape<'de>> Visitor<'de> for Of<T> {
    type Value = T;

    nothing_in!(T, T::default();
        visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        passed_over(list)?;
        Ok(T::default())
    }
}

/// What the objects of a list have under `summary`.
#[derive(Default)]
struct Merged(Summary);

struct Merge;

impl<'de> Visitor<'de> for Merge {
    type Value = Merged;

    nothing_in!(Merged, Merged::default();
        visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merged, A::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct OfProcess {
            #[serde(deserialize_with = "part")]
            summary: Summary,
        }
        let mut all = Summary::default();
        while let Some(process) = list.next_element_seed(Of::<OfProcess>(PhantomData))? {
            all.add(process.summary);
        }
        Ok(Merged(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Merged, A::Error> {
        passed_over_map(map)?;
        Ok(Merged::default())
    }
}

/// One text, borrowed where that can be.
struct Said<'a>(Option<Cow<'a, str>>);

struct Word;

impl<'de> Visitor<'de> for Word {
    type Value = Said<'de>;

    nothing_in!(Said<'de>, Said(None); visit_bool(bool));

    fn visit_str<E>(self, text: &str) -> Result<Said<'de>, E> {
        Ok(Said(Some(text.to_string().into())))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Said<'de>, E> {
        Ok(Said(Some(text.into())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Said<'de>, E> {
        Ok(Said(Some(number.to_string().into())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Said<'de>, E> {
        Ok(Said(Some(number.to_string().into())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Said<'de>, E> {
        Ok(Said(Some(number.to_string().into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Said<'de>, A::Error> {
        passed_over(list)?;
        Ok(Said(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Said<'de>, A::Error> {
        passed_over_map(map)?;
        Ok(Said(None))
    }
}

//! Sets of values of one field of a packet: sorted ranges of numbers.
//!
//! Everything a rule can look at is a number here: a port, an address, a MAC, and the name of
//! an interface too (its bytes), so that `nsb*` is a range like any other.

use list::{List, Operation};
use std::sync::Arc;

mod list;

/// First and last value of one range.
pub(crate) type Part = (u128, u128);

/// A set of numbers as ranges, both ends included; sorted, apart from each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    // Nearly all are one range: those cost no allocation.
    One([(u128, u128); 1]),
    // Empty, or more than one.
    Many(Arc<List>),
}

impl Ranges {
    /// Nothing.
    pub fn empty() -> Ranges {
        Ranges(Kind::Many(Arc::default()))
    }

    /// One value.
    pub const fn one(value: u128) -> Ranges {
        Ranges(Kind::One([(value, value)]))
    }

    /// All values from `first` to `last`; nothing if they are the wrong way round.
    pub fn between(first: u128, last: u128) -> Ranges {
        if first > last { Ranges::empty() } else { Ranges(Kind::One([(first, last)])) }
    }

    /// What is in any of `ranges`.
    pub fn of(ranges: impl IntoIterator<Item = (u128, u128)>) -> Ranges {
        Ranges::from_sorted(joined(ranges))
    }

    /// The values listed.
    pub fn values(values: impl IntoIterator<Item = u128>) -> Ranges {
        Ranges::of(values.into_iter().map(|value| (value, value)))
    }

    fn from_sorted(ranges: Vec<(u128, u128)>) -> Ranges {
        match ranges[..] {
            [(first, last)] => Ranges(Kind::One([(first, last)])),
            _ => Ranges(Kind::Many(Arc::new(List::new(ranges)))),
        }
    }

    /// The ranges.
    pub fn parts(&self) -> &[(u128, u128)] {
        match &self.0 {
            Kind::One(one) => one,
            Kind::Many(list) => list.parts(),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.parts().is_empty()
    }

    /// The value, if it is exactly one.
    pub fn single(&self) -> Option<u128> {
        match self.0 {
            Kind::One([(first, last)]) if first == last => Some(first),
            _ => None,
        }
    }

    /// The least value.
    pub fn first(&self) -> Option<u128> {
        self.parts().first().map(|(first, _)| *first)
    }

    /// The values one by one, if they are at most `limit`.
    pub fn each(&self, limit: usize) -> Option<Vec<u128>> {
        let mut values = Vec::new();
        for (first, last) in self.parts() {
            if last - first >= (limit - values.len().min(limit)) as u128 {
                return None;
            }
            values.extend(*first..=*last);
        }
        Some(values)
    }

    /// Whether `value` is in it.
    pub fn contains(&self, value: u128) -> bool {
        let parts = self.parts();
        let at = parts.partition_point(|(_, last)| *last < value);
        parts.get(at).is_some_and(|(first, _)| *first <= value)
    }

    /// Whether all of `other` is in it.
    pub fn covers(&self, other: &Ranges) -> bool {
        let parts = self.parts();
        // One range: no need to go through what lies between the first and the last of the other.
        if let ([(start, end)], [(first, ..), .., (.., last)]) = (parts, other.parts()) {
            return start <= first && last <= end;
        }
        other.parts().iter().all(|(first, last)| {
            let at = parts.partition_point(|(_, end)| end < first);
            parts.get(at).is_some_and(|(start, end)| start <= first && last <= end)
        })
    }

    /// Whether any value is in both.
    pub fn meets(&self, other: &Ranges) -> bool {
        let (few, many) = by_length(self, other);
        few.iter().any(|(first, last)| {
            let at = many.partition_point(|(_, end)| end < first);
            many.get(at).is_some_and(|(start, _)| start <= last)
        })
    }

    /// What is in both.
    pub fn and(&self, other: &Ranges) -> Ranges {
        let (few, many) = by_length(self, other);
        // One range against another, nearly always.
        if let ([(a, b)], [(c, d)]) = (few, many) {
            return Ranges::between(*a.max(c), *b.min(d));
        }
        // All of the longer one: shared, not copied.
        if let ([(first, last)], [(a, _), .., (_, z)]) = (few, many)
            && first <= a
            && z <= last
        {
            return if self.parts().len() > 1 { self.clone() } else { other.clone() };
        }
        list::kept(Operation::And, self, other, || {
            let mut both = Vec::new();
            for (first, last) in few {
                let at = many.partition_point(|(_, end)| end < first);
                let near = many[at..].iter().take_while(|(start, _)| start <= last);
                both.extend(near.map(|(start, end)| (*start.max(first), *end.min(last))));
            }
            both
        })
    }

    /// What is in either.
    pub fn or(&self, other: &Ranges) -> Ranges {
        if self.covers(other) {
            return self.clone();
        }
        list::kept(Operation::Or, self, other, || {
            joined(self.parts().iter().chain(other.parts()).copied())
        })
    }

    /// What is in it and not in `other`.
    pub fn minus(&self, other: &Ranges) -> Ranges {
        list::kept(Operation::Minus, self, other, || {
            let holes = other.parts();
            let mut left = Vec::new();
            for &(first, last) in self.parts() {
                let mut from = Some(first);
                let at = holes.partition_point(|(_, end)| *end < first);
                for &(start, end) in holes[at..].iter().take_while(|(start, _)| *start <= last) {
                    if let Some(begin) = from
                        && begin < start
                    {
                        left.push((begin, start - 1));
                    }
                    from = end.checked_add(1).filter(|next| *next <= last);
                }
                if let Some(begin) = from {
                    left.push((begin, last));
                }
            }
            left
        })
    }
}

/// `ranges` sorted, apart from each other.
fn joined(ranges: impl IntoIterator<Item = Part>) -> Vec<Part> {
    let mut all: Vec<Part> = ranges.into_iter().filter(|(a, b)| a <= b).collect();
    all.sort_unstable();
    let mut joined: Vec<Part> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn by_length<'a>(a: &'a Ranges, b: &'a Ranges) -> (&'a [Part], &'a [Part]) {
    let (a, b) = (a.parts(), b.parts());
    if a.len() <= b.len() { (a, b) } else { (b, a) }
}

/// The number of an interface's name; names are at most 15 bytes.
pub fn name(name: &str) -> u128 {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    u128::from_be_bytes(bytes)
}

/// The names that begin with `prefix`.
pub fn names_beginning(prefix: &str) -> Ranges {
    let behind = u128::MAX.checked_shr(8 * prefix.len().min(16) as u32).unwrap_or(0);
    Ranges::between(name(prefix), name(prefix) | behind)
}

/// The name of an interface again.
pub fn name_text(value: u128) -> String {
    let bytes = value.to_be_bytes();
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The number of a MAC as text.
pub fn mac(text: &str) -> Option<u128> {
    let mut value = 0;
    let mut bytes = 0;
    for part in text.split(':') {
        value = value << 8 | u128::from(u8::from_str_radix(part, 16).ok()?);
        bytes += 1;
    }
    (bytes == 6).then_some(value)
}

/// A MAC as text.
pub fn mac_text(value: u128) -> String {
    let bytes = value.to_be_bytes();
    let parts: Vec<String> = bytes[10..].iter().map(|b| format!("{b:02x}")).collect();
    parts.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_ranges() {
        let ours = names_beginning("nsb");
        assert!(ours.contains(name("nsb00001")) && ours.contains(name("nsb")));
        assert!(!ours.contains(name("nsc")) && !ours.contains(name("ns")));
        assert_eq!(name_text(name("nst00001")), "nst00001");
        assert_eq!(mac_text(mac("52:54:00:00:00:ff").expect("a MAC")), "52:54:00:00:00:ff");
    }

    fn all_of(left: &Ranges, right: &Ranges) -> [Ranges; 4] {
        [left.and(right), left.or(right), left.minus(right), right.minus(left)]
    }

    #[test]
    fn a_long_list_that_is_asked_again_answers_as_a_new_one() {
        // Long beside long, and long beside more short ones than it remembers.
        let every = |step: u128, from: u128| Ranges::values((0..300).map(move |n| from + n * step));
        let long = every(4, 0);
        let mut others = vec![every(6, 0), every(4, 2), every(4, 400), Ranges::empty()];
        others.extend((0..40).map(|n| Ranges::between(n * 30, n * 31 + 3)));
        for _ in 0..3 {
            for other in &others {
                let new = |of: &Ranges| Ranges::of(of.parts().iter().copied());
                assert_eq!(all_of(&long, other), all_of(&new(&long), &new(other)));
                for value in 0..1700 {
                    let (here, there) = (long.contains(value), other.contains(value));
                    let are = all_of(&long, other).map(|of| of.contains(value));
                    let should = [here && there, here || there, here && !there, there && !here];
                    assert_eq!(are, should, "{value}");
                }
            }
        }
    }

    fn some() -> impl Strategy<Value = Vec<(u128, u128)>> {
        prop::collection::vec((0u128..40, 0u128..9).prop_map(|(a, n)| (a, a + n)), 0..5)
    }

    proptest! {
        #[test]
        fn they_are_sets(a in some(), b in some()) {
            let (left, right) = (Ranges::of(a.clone()), Ranges::of(b.clone()));
            let is_in = |of: &[(u128, u128)], v| of.iter().any(|(x, y)| *x <= v && v <= *y);
            for v in 0..60 {
                let (l, r) = (is_in(&a, v), is_in(&b, v));
                prop_assert_eq!(left.contains(v), l);
                prop_assert_eq!(left.and(&right).contains(v), l && r);
                prop_assert_eq!(left.or(&right).contains(v), l || r);
                prop_assert_eq!(left.minus(&right).contains(v), l && !r);
            }
            prop_assert_eq!(left.meets(&right), !left.and(&right).is_empty());
            prop_assert_eq!(left.covers(&right), right.minus(&left).is_empty());
        }
    }
}

//! Sets of the ruleset: elements with values for every operand, found without going through all of
//! them where that can be helped.

use crate::value::{Part, Ranges};
use std::{borrow::Cow, collections::HashMap, sync::OnceLock};

/// A set of elements; each has values for every operand.
#[derive(Debug, Default)]
pub struct Set {
    /// Its name; empty for one written inside a rule.
    pub name: String,
    /// Its elements.
    pub elements: Vec<Vec<Ranges>>,
    /// Why what it holds is not known for certain.
    pub strange: Option<String>,
    index: OnceLock<Vec<Index>>,
    covers: OnceLock<Vec<Ranges>>,
    /// All elements, joined.
    joined: OnceLock<Vec<Vec<Ranges>>>,
}

#[derive(Debug, Default)]
struct Index {
    single: HashMap<u128, Vec<u32>>,
    wide: Vec<u32>,
}

impl Set {
    /// A set with these elements, which are all as wide.
    pub fn new(name: String, elements: Vec<Vec<Ranges>>, strange: Option<String>) -> Set {
        Set { name, elements, strange, ..Set::default() }
    }

    /// The elements that could agree with `values`; those that differ in one field only are one.
    pub fn cases(&self, values: &[&Ranges]) -> Cow<'_, [Vec<Ranges>]> {
        // Most who look are open for all of it or for none: a fleet's elements are not gone through
        // for each of them.
        let covers = self.covers(values.len());
        if covers.iter().zip(values).any(|(all, values)| !values.meets(all)) {
            return Cow::Borrowed(&[]);
        }
        if covers.iter().zip(values).all(|(all, values)| values.covers(all)) {
            return Cow::Borrowed(self.joined.get_or_init(|| join(self.elements.clone())));
        }
        Cow::Owned(join(self.near(values).into_iter().cloned().collect()))
    }

    /// The elements that could agree with `values`: a look-up where one of them is few.
    fn near<'a>(&'a self, values: &[&Ranges]) -> Vec<&'a Vec<Ranges>> {
        const FEW: usize = 16;
        let index = self.index.get_or_init(|| self.build(values.len()));
        let mut best: Option<(usize, Vec<u128>)> = None;
        for (at, values) in values.iter().enumerate() {
            let Some(each) = values.each(FEW) else { continue };
            let Some(of) = index.get(at) else { continue };
            let count = |each: &[u128]| -> usize {
                each.iter().map(|v| of.single.get(v).map_or(0, Vec::len)).sum::<usize>()
                    + of.wide.len()
            };
            let better = match &best {
                Some((other, theirs)) => {
                    let of = &index[*other];
                    let them: usize =
                        theirs.iter().map(|v| of.single.get(v).map_or(0, Vec::len)).sum();
                    count(&each) < them + of.wide.len()
                }
                None => true,
            };
            if better {
                best = Some((at, each));
            }
        }
        let candidates: Vec<&Vec<Ranges>> = match best {
            None => self.elements.iter().collect(),
            Some((at, each)) => {
                let of = &index[at];
                let single = each.iter().filter_map(|v| of.single.get(v)).flatten();
                single.chain(&of.wide).map(|n| &self.elements[*n as usize]).collect()
            }
        };
        let agrees = |element: &&Vec<Ranges>| {
            element.len() == values.len() && element.iter().zip(values).all(|(a, b)| a.meets(b))
        };
        candidates.into_iter().filter(agrees).collect()
    }

    fn build(&self, width: usize) -> Vec<Index> {
        let mut index: Vec<Index> = (0..width).map(|_| Index::default()).collect();
        for (number, element) in self.elements.iter().enumerate() {
            let number = u32::try_from(number).expect("the kernel holds fewer elements");
            for (field, index) in element.iter().zip(&mut index) {
                match field.single() {
                    Some(value) => index.single.entry(value).or_default().push(number),
                    None => index.wide.push(number),
                }
            }
        }
        index
    }

    /// For each operand, the values that any element has.
    pub fn covers(&self, width: usize) -> &[Ranges] {
        self.covers.get_or_init(|| {
            let of = |at: usize| {
                let all = self.elements.iter().filter_map(|element| element.get(at));
                Ranges::of(all.flat_map(|ranges| ranges.parts().iter().copied()))
            };
            (0..width).map(of).collect()
        })
    }
}

/// Joins elements that differ in one field only, field by field: a thousand machines that
/// reach one server are one case.
fn join(mut elements: Vec<Vec<Ranges>>) -> Vec<Vec<Ranges>> {
    let width = elements.first().map_or(0, Vec::len);
    for at in 0..width {
        if elements.len() < 2 {
            break;
        }
        let mut groups: Vec<(Vec<Ranges>, Vec<Part>)> = Vec::new();
        let mut found = HashMap::new();
        for element in elements {
            let others: Vec<Part> = element
                .iter()
                .enumerate()
                .filter(|(n, _)| *n != at)
                .flat_map(|(_, ranges)| {
                    // A length in front, so that two lists side by side read one way only.
                    let count = ranges.parts().len() as u128;
                    std::iter::once((count, count)).chain(ranges.parts().iter().copied())
                })
                .collect();
            let parts = element[at].parts().to_vec();
            let next = groups.len();
            let group = *found.entry(others).or_insert(next);
            match groups.get_mut(group) {
                Some((_, values)) => values.extend(parts),
                None => groups.push((element, parts)),
            }
        }
        elements = groups
            .into_iter()
            .map(|(mut element, values)| {
                element[at] = Ranges::of(values);
                element
            })
            .collect();
    }
    elements
}

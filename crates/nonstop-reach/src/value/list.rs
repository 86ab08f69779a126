//! The many ranges of a set, with what came out when they were last asked about.
//!
//! A fleet's addresses are thousands of ranges, and every machine's walk asks the same of them: which
//! targets are the host's own, which are not, which of those are routed. Each answer is as long as the
//! question, so that without this the proof of a fleet would take as long as the square of it.

use super::{Kind, Part, Ranges};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Sorted ranges, apart from each other.
#[derive(Default)]
pub(super) struct List {
    parts: Vec<Part>,
    /// What was asked last comes last. Answers are always younger than what they are kept with, and
    /// what was asked about is held weakly: nothing keeps itself alive.
    answers: Mutex<Vec<Answer>>,
}

struct Answer {
    operation: Operation,
    other: Other,
    result: Ranges,
}

/// The operand that the answers are not kept with.
enum Other {
    /// So few that they are compared.
    Few(Vec<Part>),
    /// The very same list.
    Same(Weak<List>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    And,
    Or,
    /// The list without the other.
    Minus,
    /// The other without the list.
    From,
}

/// Fewer ranges are gone through again.
const LONG: usize = 64;
/// So many others are compared, not recognised.
const FEW: usize = 16;
/// Answers that a list keeps.
const KEPT: usize = 16;

/// What `operation` makes of `a` and `b`: as it was found last, or as `find` finds it.
pub(super) fn kept(
    operation: Operation,
    a: &Ranges,
    b: &Ranges,
    find: impl FnOnce() -> Vec<Part>,
) -> Ranges {
    let find = || Ranges::from_sorted(find());
    match (long(a), long(b)) {
        (None, None) => find(),
        (Some(list), _) => list.answer(operation, b, find),
        (None, Some(list)) => {
            let turned = match operation {
                Operation::Minus => Operation::From,
                same => same,
            };
            list.answer(turned, a, find)
        }
    }
}

fn long(ranges: &Ranges) -> Option<&Arc<List>> {
    match &ranges.0 {
        Kind::Many(list) if list.parts.len() >= LONG => Some(list),
        _ => None,
    }
}

impl List {
    pub(super) fn new(parts: Vec<Part>) -> List {
        List { parts, answers: Mutex::default() }
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn answer(
        &self,
        operation: Operation,
        other: &Ranges,
        find: impl FnOnce() -> Ranges,
    ) -> Ranges {
        let key = match &other.0 {
            _ if other.parts().len() <= FEW => Other::Few(other.parts().to_vec()),
            Kind::Many(list) => Other::Same(Arc::downgrade(list)),
            Kind::One(one) => Other::Few(one.to_vec()),
        };
        let lock = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = lock();
        let known = answers.iter().rposition(|a| a.operation == operation && a.other == key);
        if let Some(at) = known {
            answers[at..].rotate_left(1);
            return answers[answers.len() - 1].result.clone();
        }
        drop(answers);
        let result = find();
        let mut answers = lock();
        if answers.len() >= KEPT {
            answers.remove(0);
        }
        answers.push(Answer { operation, other: key, result: result.clone() });
        result
    }
}

impl PartialEq for Other {
    fn eq(&self, other: &Other) -> bool {
        match (self, other) {
            (Other::Few(a), Other::Few(b)) => a == b,
            // What is held weakly keeps its address to itself.
            (Other::Same(a), Other::Same(b)) => a.ptr_eq(b),
            (Other::Few(_), Other::Same(_)) | (Other::Same(_), Other::Few(_)) => false,
        }
    }
}

impl PartialEq for List {
    fn eq(&self, other: &List) -> bool {
        std::ptr::eq(self, other) || self.parts == other.parts
    }
}

impl Eq for List {}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.fmt(f)
    }
}

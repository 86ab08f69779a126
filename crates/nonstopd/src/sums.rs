//! What strangers can do as often as they like, summed up: one row a minute for what is alike, and so
//! many rows a minute.

use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// One row for what is alike in this time.
const ROW_EVERY: Duration = Duration::from_secs(60);

/// Sums by `K`: equal keys are alike.
#[derive(Debug)]
pub struct Sums<K>(BTreeMap<K, Sum>);

#[derive(Debug)]
struct Sum {
    first: Timestamp,
    last: Timestamp,
    count: u64,
    written: Option<Instant>,
}

/// A row that is due.
#[derive(Debug, PartialEq, Eq)]
pub struct Row<K> {
    /// What.
    pub key: K,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
}

impl<K> Default for Sums<K> {
    fn default() -> Sums<K> {
        Sums(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Sums<K> {
    /// How many rows it may come to.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `key` has one.
    pub fn has(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Adds `count` times `key`. Where there are `most` that stand together with it already, the one
    /// that `instead` makes of it takes its place.
    pub fn add(
        &mut self,
        key: K,
        count: u64,
        now: Timestamp,
        bound: impl Fn(&K, &K) -> bool,
        most: usize,
        instead: impl FnOnce(K) -> K,
    ) {
        let key = if !self.0.contains_key(&key)
            && self.0.keys().filter(|other| bound(other, &key)).count() >= most
        {
            instead(key)
        } else {
            key
        };
        let new = Sum { first: now, last: now, count: 0, written: None };
        let sum = self.0.entry(key).or_insert(new);
        if sum.count == 0 {
            sum.first = now;
        }
        sum.last = now;
        sum.count = sum.count.saturating_add(count);
    }

    /// What is to be written at `now`; it is then written.
    pub fn due(&mut self, now: Instant) -> Vec<Row<K>> {
        let mut rows = Vec::new();
        self.0.retain(|key, sum| {
            if sum.written.is_some_and(|at| now.duration_since(at) < ROW_EVERY) {
                return true;
            }
            if sum.count == 0 {
                // Nothing for a minute: it is forgotten.
                return false;
            }
            let count = std::mem::take(&mut sum.count);
            rows.push(Row { key: key.clone(), first: sum.first, last: sum.last, count });
            sum.written = Some(now);
            true
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_one_row_a_minute_and_rows_are_bounded() {
        let (now, begin) = (Timestamp::UNIX_EPOCH, Instant::now());
        let mut sums = Sums::default();
        let add = |sums: &mut Sums<u32>, key| sums.add(key, 1, now, |_, _| true, 3, |_| u32::MAX);
        add(&mut sums, 1);
        assert_eq!(sums.due(begin).len(), 1);
        for key in 0..1000 {
            add(&mut sums, key);
            add(&mut sums, 1);
        }
        let rows = sums.due(begin + Duration::from_secs(59));
        assert_eq!(
            rows.iter().map(|row| (row.key, row.count)).collect::<Vec<_>>(),
            [(0, 1), (2, 1), (u32::MAX, 997)]
        );
        let rows = sums.due(begin + Duration::from_secs(60));
        assert_eq!(rows.iter().map(|row| (row.key, row.count)).collect::<Vec<_>>(), [(1, 1001)]);
        assert_eq!(sums.due(begin + Duration::from_secs(600)), []);
        assert!(sums.0.is_empty());
    }
}

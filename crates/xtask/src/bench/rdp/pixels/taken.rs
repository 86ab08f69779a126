//! What was read off the screen, over time.

use std::time::Duration;

/// Pictures come apart by at least this if they are held back.
const APART: Duration = Duration::from_millis(500);

/// What had been read at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Duration,
    /// Bytes found on the screen so far.
    pub(super) bytes: u64,
}

/// Moments in order, each with more bytes than the one before.
#[derive(Debug, Default)]
pub(super) struct Taken(Vec<Moment>);

impl Taken {
    /// Notes what had been read `at` then.
    pub(super) fn note(&mut self, at: Duration, bytes: u64) {
        if bytes > self.0.last().map_or(0, |last| last.bytes) {
            self.0.push(Moment { at, bytes });
        }
    }

    /// Bytes a second while pictures come one by one: of what came from the second (of the first, a
    /// part may have come before) to before the last, in the time between these. None where fewer
    /// than three came.
    pub(super) fn one_by_one(&self) -> Option<f64> {
        let mut begins: Vec<(Duration, u64)> = Vec::new();
        let mut last: Option<Moment> = None;
        for moment in &self.0 {
            if last.is_none_or(|last| moment.at - last.at >= APART) {
                begins.push((moment.at, last.map_or(0, |last| last.bytes)));
            }
            last = Some(*moment);
        }
        let (first, last) = (begins.get(1)?, begins.last()?);
        let time = last.0.checked_sub(first.0).filter(|time| !time.is_zero())?;
        Some((last.1 - first.1) as f64 / time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_pictures_that_come_one_by_one_only_whole_spans_count() {
        let mut taken = Taken::default();
        for (second, bytes) in [(1.0, 5), (6.0, 15), (6.1, 35), (6.1, 35), (11.0, 55), (11.2, 65)] {
            taken.note(Duration::from_secs_f64(second), bytes);
        }
        assert_eq!(taken.one_by_one(), Some(6.0));
        // Nobody knows how long that would have lasted.
        taken.note(Duration::from_secs(16), 70);
        assert_eq!(taken.one_by_one(), Some(6.0));
    }

    #[test]
    fn few_pictures_have_no_rate() {
        let mut taken = Taken::default();
        assert_eq!(taken.one_by_one(), None);
        taken.note(Duration::from_secs(1), 10);
        taken.note(Duration::from_secs(2), 20);
        assert_eq!(taken.one_by_one(), None);
    }
}

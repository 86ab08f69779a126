//! How many bytes a session may get in an hour, and what happens above that.
//!
//! A program on the researcher's side can read pixels that a program in the machine paints: the
//! budget bounds that rate. It is a bucket that holds `an_hour` bytes, starts full, and refills
//! evenly, `an_hour / 3600` a second. Thus in any hour at most twice `an_hour` flows freely (a full
//! bucket and what refills), and in the long run `an_hour` an hour. A person's work (a few
//! gigabytes at the very most) never meets it; a program that paints data does.
//!
//! When the bucket is empty the viewer is *slow* until it holds a sixtieth again (a minute's
//! worth). A slow viewer gets at most one update a second, and only while the bucket is not in
//! debt; but one every ten seconds in any case, so that the desktop remains a desktop. A debt
//! never exceeds `an_hour`, so a slow session is free again within about an hour of rest.
//!
//! The bytes are what the worker says that it has sent (encrypted, as they went out). A worker
//! that lies about them is one that was taken over by its client; what the broker shows to it is
//! still paced by the clock, about thirty updates a second.

use std::time::{Duration, Instant};

/// A slow viewer gets no more than one update in this time.
const SLOW_PACE: Duration = Duration::from_secs(1);

/// A viewer in debt gets one update in this time.
const DEBT_PACE: Duration = Duration::from_secs(10);

/// Staff are told once in this time.
const TOLD_EVERY: Duration = Duration::from_secs(3600);

/// A slow viewer is free again when the bucket holds this part.
const FREE_AGAIN: i128 = 60;

/// Parts of a byte that the bucket counts, so that the refill of one nanosecond is whole for every
/// budget: a byte an hour is this many parts in as many nanoseconds.
const PARTS: i128 = 3600 * 1_000_000_000;

/// A viewer's bytes.
#[derive(Debug, Clone)]
pub struct Budget {
    an_hour: Option<u64>,
    /// In parts.
    level: i128,
    at: Instant,
    slow: bool,
    told: Option<Instant>,
}

impl Budget {
    /// A full bucket of `an_hour` bytes; None for no bound.
    pub fn new(an_hour: Option<u64>, now: Instant) -> Self {
        let level = i128::from(an_hour.unwrap_or(0)) * PARTS;
        Self { an_hour, level, at: now, slow: false, told: None }
    }

    /// Counts `bytes` that went out. True if staff are to be told: the session has just become
    /// slow, and it has not been told in the last hour.
    pub fn spend(&mut self, bytes: u64, now: Instant) -> bool {
        let Some(an_hour) = self.an_hour else { return false };
        self.refill(now);
        let debt = -i128::from(an_hour) * PARTS;
        self.level = self.level.saturating_sub(i128::from(bytes).saturating_mul(PARTS)).max(debt);
        if self.level > 0 || self.slow {
            return false;
        }
        self.slow = true;
        let due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY);
        if due {
            self.told = Some(now);
        }
        due
    }

    /// When the next update may be shown, if the last was at `last`; None: at once.
    pub fn next(&mut self, last: Option<Instant>, now: Instant) -> Option<Instant> {
        let an_hour = self.an_hour?;
        self.refill(now);
        if !self.slow {
            return None;
        }
        let last = last?;
        let paid = if self.level >= 0 {
            now
        } else {
            // Nanoseconds until the debt is paid: the bucket gains `an_hour` parts in each.
            let wait = (-self.level) / i128::from(an_hour.max(1)) + 1;
            now + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)).min(DEBT_PACE)
        };
        let next = (last + SLOW_PACE).max(paid.min(last + DEBT_PACE));
        (next > now).then_some(next)
    }

    /// Whether the session is slowed down.
    pub fn is_slow(&self) -> bool {
        self.slow
    }

    fn refill(&mut self, now: Instant) {
        let Some(an_hour) = self.an_hour else { return };
        let passed = now.saturating_duration_since(self.at).as_nanos().min(PARTS as u128) as i128;
        self.at = self.at.max(now);
        let full = i128::from(an_hour) * PARTS;
        self.level = (self.level + passed * i128::from(an_hour)).min(full);
        if self.level * FREE_AGAIN >= full && self.level > 0 {
            self.slow = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MEGA: u64 = 1_000_000;

    #[test]
    fn a_session_above_its_budget_is_slow_told_once_and_free_after_a_rest() {
        let start = Instant::now();
        let mut budget = Budget::new(Some(3600 * MEGA), start);
        assert!(!budget.spend(3599 * MEGA, start));
        assert_eq!(budget.next(Some(start), start), None);
        assert!(budget.spend(11 * MEGA, start), "told");
        assert!(!budget.spend(1, start), "told once");
        let next = budget.next(Some(start), start).expect("slow");
        assert!(next - start >= SLOW_PACE && next - start <= DEBT_PACE);
        // Ten seconds pay the debt, a minute more makes it free.
        let later = start + Duration::from_secs(30);
        assert_eq!(budget.next(Some(later), later), Some(later + SLOW_PACE));
        let free = start + Duration::from_secs(75);
        assert_eq!(budget.next(Some(free), free), None);
        assert!(!budget.spend(3700 * MEGA, free), "not told twice in an hour");
        assert!(budget.is_slow());
    }

    #[test]
    fn no_budget_is_no_bound() {
        let start = Instant::now();
        let mut budget = Budget::new(None, start);
        assert!(!budget.spend(u64::MAX, start));
        assert_eq!(budget.next(Some(start), start), None);
    }

    proptest! {
        /// A program that takes as much as it is given: each update costs `cost` bytes, thirty a
        /// second. In an hour it gets two budgets and what the forced updates cost.
        #[test]
        fn a_greedy_session_gets_at_most_twice_its_budget_and_the_forced_updates(
            an_hour in 1u64..10_000_000_000, cost in 1u64..20_000_000, step_ms in 33u64..200
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(Some(an_hour), start);
            let (mut now, mut last, mut sent, mut forced) = (start, None, 0u64, 0u64);
            while now < start + Duration::from_secs(3600) {
                match budget.next(last, now) {
                    None => {
                        forced += u64::from(budget.is_slow());
                        last = Some(now);
                        sent += cost;
                        budget.spend(cost, now);
                        now += Duration::from_millis(step_ms);
                    }
                    Some(next) => {
                        prop_assert!(next - now <= DEBT_PACE);
                        now = next;
                    }
                }
            }
            prop_assert!(forced <= 3600);
            // One update may overdraw before it is known what it cost.
            prop_assert!(sent <= 2 * an_hour + 362 * cost, "{sent} of {an_hour} in {forced}");
        }

        /// Whatever comes, in whatever order of time: an answer, and an update within ten seconds.
        #[test]
        fn an_update_comes_within_ten_seconds(
            an_hour: Option<u64>,
            acts in proptest::collection::vec((any::<u64>(), 0u64..10_000_000), 0..50)
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(an_hour, start);
            let mut now = start;
            for (bytes, ms) in acts {
                now += Duration::from_millis(ms);
                budget.spend(bytes, now);
                if let Some(next) = budget.next(Some(now), now) {
                    prop_assert!(next > now && next - now <= DEBT_PACE);
                }
            }
        }
    }
}

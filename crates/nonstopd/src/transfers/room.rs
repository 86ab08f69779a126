//! How much may come: bytes on the disk, changes of each environment, and what they leave in the trace.

use super::{Transfers, denials::denial};
use nonstop_api::airlock::{Denial, DenialKind};
use nonstop_model::{EnvironmentId, Root};
use nonstop_store::Clients;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Changes that an environment may make at once, from each side.
const BURST: f64 = 2000.0;
/// Changes a second that come back.
const RATE: f64 = 100.0;
/// Names that go along with a change, as with a folder that is moved, that cost as much as one.
const ALONG: f64 = 10.0;
/// Names that may be listed for one side of an environment at once: its largest folder some times.
const ROWS_BURST: f64 = 100_000.0;
/// Of those a second that come back.
const ROWS_RATE: f64 = 20_000.0;

/// What the owner of an environment may have the trace keep for ever, at once: as many imports, moves,
/// copies and notes. Long names and notes count more than once.
const TRACED: f64 = 20_000.0;
/// How many of them come back in a day.
const TRACED_A_DAY: f64 = 5000.0;
/// Bytes of names and notes that count as one more.
const TRACED_BYTES: usize = 128;

/// Changes that environments may make, by the tree that they make them in.
#[derive(Debug, Default)]
pub(super) struct Buckets(BTreeMap<(EnvironmentId, Root), Bucket>);

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Buckets {
    /// Whether one more change may be made at `now`; it then is.
    pub(super) fn take(&mut self, environment: EnvironmentId, root: Root, now: Instant) -> bool {
        let bucket = self.0.entry((environment, root)).or_insert(Bucket { left: BURST, at: now });
        bucket.fill((BURST, RATE), now);
        bucket.take(1.0)
    }

    /// Whether `names` may go along with a change that was taken; they then do. A folder may be
    /// larger than what is left: the next changes wait until that came back.
    pub(super) fn take_along(
        &mut self,
        environment: EnvironmentId,
        root: Root,
        names: u64,
        now: Instant,
    ) -> bool {
        let bucket = self.0.entry((environment, root)).or_insert(Bucket { left: BURST, at: now });
        bucket.fill((BURST, RATE), now);
        if bucket.left < 0.0 {
            return false;
        }
        bucket.left -= names as f64 / ALONG;
        true
    }

    /// Forgets those that are full again.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.0.retain(|_, bucket| {
            bucket.fill((BURST, RATE), now);
            bucket.left < BURST
        });
    }
}

impl Bucket {
    fn fill(&mut self, (most, rate): (f64, f64), now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * rate).min(most);
        self.at = now;
    }

    /// Takes `cost`, if there is as much.
    fn take(&mut self, cost: f64) -> bool {
        if self.left < cost {
            return false;
        }
        self.left -= cost;
        true
    }
}

/// What the trace still keeps of environments. It is never deleted, so that what fills it by somebody's
/// will has a bound that is wide for work and narrow for a loop.
#[derive(Debug, Default)]
pub(super) struct Traced(BTreeMap<EnvironmentId, Bucket>);

impl Traced {
    const FILLS: (f64, f64) = (TRACED, TRACED_A_DAY / 86_400.0);

    /// Takes what a row with `bytes` of somebody's words costs.
    ///
    /// Errors: there is not as much; how long it takes until there is.
    fn take(
        &mut self,
        environment: EnvironmentId,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Duration> {
        let full = Bucket { left: TRACED, at: now };
        let bucket = self.0.entry(environment).or_insert(full);
        bucket.fill(Traced::FILLS, now);
        let cost = 1.0 + (bytes / TRACED_BYTES) as f64;
        match bucket.take(cost) {
            true => Ok(()),
            false => Err(Duration::from_secs_f64((cost - bucket.left) / Traced::FILLS.1)),
        }
    }

    /// Forgets those that are full again.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.0.retain(|_, bucket| {
            bucket.fill(Traced::FILLS, now);
            bucket.left < TRACED
        });
    }
}

/// Names that were listed for environments, by the side that they were listed for.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeMap<(EnvironmentId, Clients), Bucket>);

impl Rows {
    /// Whether more was listed for `reader` by `now` than comes back so fast.
    pub(super) fn in_debt(&mut self, reader: (EnvironmentId, Clients), now: Instant) -> bool {
        self.at(reader, now).left <= 0.0
    }

    /// `rows` names were listed for it; that may be more than there was left.
    pub(super) fn charge(&mut self, reader: (EnvironmentId, Clients), rows: usize, now: Instant) {
        self.at(reader, now).left -= rows as f64;
    }

    fn at(&mut self, reader: (EnvironmentId, Clients), now: Instant) -> &mut Bucket {
        let bucket = self.0.entry(reader).or_insert(Bucket { left: ROWS_BURST, at: now });
        bucket.fill((ROWS_BURST, ROWS_RATE), now);
        bucket
    }

    /// Forgets those that are full again.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.0.retain(|_, bucket| {
            bucket.fill((ROWS_BURST, ROWS_RATE), now);
            bucket.left < ROWS_BURST
        });
    }
}

impl Transfers {
    /// Lets the owner of `environment` write a row with `bytes` of their words to the trace.
    ///
    /// Errors: `Spent`, with when there is room for it again.
    pub(crate) fn may_trace(&self, environment: EnvironmentId, bytes: usize) -> Result<(), Denial> {
        let taken = self.state().traced.take(environment, bytes, Instant::now());
        taken.map_err(|wait| {
            let message = format!(
                "the lab keeps a record of each file that is brought, moved or copied and of each \
                 note for ever, and {environment} has had too many: {TRACED_A_DAY} more come in a day, \
                 the next in {} s",
                wait.as_secs() + 1
            );
            denial(DenialKind::Spent, message)
        })
    }

    /// Bytes that may come on the disk for `root`, beyond what was promised already. What machines
    /// give leaves the lab's reserve alone; of that, three quarters are for what is brought.
    pub(super) fn disk_room(&self, root: Root, promised: u64) -> std::io::Result<u64> {
        let free = self.contents.free_bytes()?;
        Ok(free.saturating_sub(self.floor(root)).saturating_sub(promised))
    }

    /// Free bytes below which nothing of `root` comes any more.
    pub(super) fn floor(&self, root: Root) -> u64 {
        let reserve = self.lab.capacity.reserve_mib << 20;
        match root {
            Root::Import => reserve / 4,
            Root::Export | Root::Capture => reserve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_ever_comes_back_by_the_day_and_long_words_cost_more() {
        let (mut traced, begun) = (Traced::default(), Instant::now());
        let [one, other] = [EnvironmentId(1), EnvironmentId(2)];
        let taken = (0..100_000).take_while(|_| traced.take(one, 60, begun).is_ok()).count();
        assert_eq!(taken, 20_000, "a whole tree at once");
        let wait = traced.take(one, 60, begun).expect_err("no more").as_secs();
        assert!((16..=18).contains(&wait), "{wait}");
        assert!(traced.take(other, 60, begun).is_ok());
        let day = begun + Duration::from_secs(86_400);
        let notes = (0..100_000).take_while(|_| traced.take(one, 4000, day).is_ok()).count();
        assert_eq!(notes, 5000 / 32);
        traced.tidy(day + Duration::from_secs(5 * 86_400));
        assert!(traced.0.is_empty());
    }

    #[test]
    fn one_environment_runs_dry_and_others_do_not() {
        let (mut buckets, begun) = (Buckets::default(), Instant::now());
        let [one, other] = [EnvironmentId(1), EnvironmentId(2)];
        let taken = (0..10_000).filter(|_| buckets.take(one, Root::Export, begun)).count();
        assert_eq!(taken, 2000);
        assert!(buckets.take(other, Root::Export, begun));
        assert!(buckets.take(one, Root::Import, begun), "what is done outside is not touched");
        let later = begun + Duration::from_secs(1);
        let again = (0..1000).filter(|_| buckets.take(one, Root::Export, later)).count();
        assert_eq!(again, 100);
        buckets.tidy(begun + Duration::from_secs(60));
        assert!(buckets.0.is_empty());
    }

    #[test]
    fn the_largest_folder_is_moved_once_and_then_waited_for() {
        let (mut buckets, begun) = (Buckets::default(), Instant::now());
        let mut moved = |at| {
            buckets.take(EnvironmentId(1), Root::Export, at)
                && buckets.take_along(EnvironmentId(1), Root::Export, 19_999, at)
        };
        assert!(moved(begun));
        assert!(!moved(begun), "it owes");
        assert!(!moved(begun + Duration::from_millis(5)), "it still does");
        assert!(moved(begun + Duration::from_secs(1)), "nothing is refused for ever");
        assert!(!moved(begun + Duration::from_secs(2)));
        assert!(moved(begun + Duration::from_secs(60)));
    }

    #[test]
    fn what_is_listed_for_one_side_of_one_environment_keeps_no_other_waiting() {
        let (mut rows, begun) = (Rows::default(), Instant::now());
        let reader = (EnvironmentId(1), Clients::Machines);
        let pages = (0..1000).take_while(|_| {
            let listed = !rows.in_debt(reader, begun);
            rows.charge(reader, 4000, begun);
            listed
        });
        assert_eq!(pages.count(), 25);
        for other in [(EnvironmentId(1), Clients::Persons), (EnvironmentId(2), Clients::Machines)] {
            assert!(!rows.in_debt(other, begun));
        }
        assert!(!rows.in_debt(reader, begun + Duration::from_secs(1)));
        rows.tidy(begun + Duration::from_secs(60));
        assert!(rows.0.is_empty());
    }
}

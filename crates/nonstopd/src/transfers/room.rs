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

/// What each of many may use of something that comes back with time.
#[derive(Debug)]
struct Meter<K> {
    /// As much at once.
    most: f64,
    /// As much comes back in a second.
    rate: f64,
    /// What was left, and when; who is not in it has all.
    left: BTreeMap<K, (f64, Instant)>,
}

impl<K: Ord> Meter<K> {
    fn new(most: f64, rate: f64) -> Meter<K> {
        Meter { most, rate, left: BTreeMap::new() }
    }

    /// What is left for `whom` at `now`; less than nothing for one who owes.
    fn left(&mut self, whom: K, now: Instant) -> &mut f64 {
        let (left, at) = self.left.entry(whom).or_insert((self.most, now));
        let passed = now.saturating_duration_since(*at).as_secs_f64();
        *left = (*left + passed * self.rate).min(self.most);
        *at = now;
        left
    }

    /// Takes `cost`, if there is as much.
    ///
    /// Errors: there is not; how long it takes until there is.
    fn take(&mut self, whom: K, cost: f64, now: Instant) -> Result<(), Duration> {
        let rate = self.rate;
        let left = self.left(whom, now);
        if *left < cost {
            return Err(Duration::from_secs_f64((cost - *left) / rate));
        }
        *left -= cost;
        Ok(())
    }

    /// Forgets those who have all again.
    fn tidy(&mut self, now: Instant) {
        let (most, rate) = (self.most, self.rate);
        self.left.retain(|_, (left, at)| {
            *left + now.saturating_duration_since(*at).as_secs_f64() * rate < most
        });
    }
}

/// What environments may still do, and have the lab do for them.
#[derive(Debug)]
pub(super) struct Meters {
    /// Changes, by the tree that they are made in.
    changes: Meter<(EnvironmentId, Root)>,
    /// What the trace still keeps. It is never deleted, so that what fills it by somebody's will has a
    /// bound that is wide for work and narrow for a loop.
    traced: Meter<EnvironmentId>,
    /// Names that are listed, by the side that they are listed for.
    rows: Meter<(EnvironmentId, Clients)>,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters {
            changes: Meter::new(BURST, RATE),
            traced: Meter::new(TRACED, TRACED_A_DAY / 86_400.0),
            rows: Meter::new(ROWS_BURST, ROWS_RATE),
        }
    }
}

impl Meters {
    /// Whether one more change may be made at `now`; it then is.
    pub(super) fn change(&mut self, environment: EnvironmentId, root: Root, now: Instant) -> bool {
        self.changes.take((environment, root), 1.0, now).is_ok()
    }

    /// Whether `names` may go along with a change that was taken; they then do. A folder may be
    /// larger than what is left: the next changes wait until that came back.
    pub(super) fn along(
        &mut self,
        environment: EnvironmentId,
        root: Root,
        names: u64,
        now: Instant,
    ) -> bool {
        let left = self.changes.left((environment, root), now);
        if *left < 0.0 {
            return false;
        }
        *left -= names as f64 / ALONG;
        true
    }

    /// Takes what a row with `bytes` of the words of whoever owns `environment` costs.
    ///
    /// Errors: `Spent`, with when there is room for it again.
    pub(super) fn trace(
        &mut self,
        environment: EnvironmentId,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Denial> {
        self.spend(environment, bytes, now).map_err(|wait| {
            let message = format!(
                "the lab keeps a record of each file that is brought, moved or copied and of each \
                 note for ever, and {environment} has had too many: {TRACED_A_DAY} more come in a day, \
                 the next in {} s",
                wait.as_secs() + 1
            );
            denial(DenialKind::Spent, message)
        })
    }

    fn spend(
        &mut self,
        environment: EnvironmentId,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Duration> {
        let cost = 1.0 + (bytes / TRACED_BYTES) as f64;
        self.traced.take(environment, cost, now)
    }

    /// Whether more was listed for `reader` by `now` than comes back so fast.
    pub(super) fn owes_rows(&mut self, reader: (EnvironmentId, Clients), now: Instant) -> bool {
        *self.rows.left(reader, now) <= 0.0
    }

    /// `rows` names were listed for it; that may be more than there was left.
    pub(super) fn listed(&mut self, reader: (EnvironmentId, Clients), rows: usize, now: Instant) {
        *self.rows.left(reader, now) -= rows as f64;
    }

    /// Forgets those who have all again.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.changes.tidy(now);
        self.traced.tidy(now);
        self.rows.tidy(now);
    }
}

impl Transfers {
    /// Lets the owner of `environment` write a row with `bytes` of their words to the trace.
    ///
    /// Errors: `Spent`, with when there is room for it again.
    pub(crate) fn may_trace(&self, environment: EnvironmentId, bytes: usize) -> Result<(), Denial> {
        self.state().meters.trace(environment, bytes, Instant::now())
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
        let (mut meters, begun) = (Meters::default(), Instant::now());
        let [one, other] = [EnvironmentId(1), EnvironmentId(2)];
        let taken = (0..100_000).take_while(|_| meters.spend(one, 60, begun).is_ok()).count();
        assert_eq!(taken, 20_000, "a whole tree at once");
        let wait = meters.spend(one, 60, begun).expect_err("no more").as_secs();
        assert!((16..=18).contains(&wait), "{wait}");
        assert!(meters.spend(other, 60, begun).is_ok());
        let day = begun + Duration::from_secs(86_400);
        let notes = (0..100_000).take_while(|_| meters.spend(one, 4000, day).is_ok()).count();
        assert_eq!(notes, 5000 / 32);
        meters.tidy(day + Duration::from_secs(5 * 86_400));
        assert!(meters.traced.left.is_empty());
    }

    #[test]
    fn one_environment_runs_dry_and_others_do_not() {
        let (mut meters, begun) = (Meters::default(), Instant::now());
        let [one, other] = [EnvironmentId(1), EnvironmentId(2)];
        let taken = (0..10_000).filter(|_| meters.change(one, Root::Export, begun)).count();
        assert_eq!(taken, 2000);
        assert!(meters.change(other, Root::Export, begun));
        assert!(meters.change(one, Root::Import, begun), "what is done outside is not touched");
        let later = begun + Duration::from_secs(1);
        let again = (0..1000).filter(|_| meters.change(one, Root::Export, later)).count();
        assert_eq!(again, 100);
        meters.tidy(begun + Duration::from_secs(60));
        assert!(meters.changes.left.is_empty());
    }

    #[test]
    fn the_largest_folder_is_moved_once_and_then_waited_for() {
        let (mut meters, begun) = (Meters::default(), Instant::now());
        let mut moved = |at| {
            meters.change(EnvironmentId(1), Root::Export, at)
                && meters.along(EnvironmentId(1), Root::Export, 19_999, at)
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
        let (mut meters, begun) = (Meters::default(), Instant::now());
        let reader = (EnvironmentId(1), Clients::Machines);
        let pages = (0..1000).take_while(|_| {
            let listed = !meters.owes_rows(reader, begun);
            meters.listed(reader, 4000, begun);
            listed
        });
        assert_eq!(pages.count(), 25);
        for other in [(EnvironmentId(1), Clients::Persons), (EnvironmentId(2), Clients::Machines)] {
            assert!(!meters.owes_rows(other, begun));
        }
        assert!(!meters.owes_rows(reader, begun + Duration::from_secs(1)));
        meters.tidy(begun + Duration::from_secs(60));
        assert!(meters.rows.left.is_empty());
    }
}

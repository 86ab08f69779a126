//! How much may come: bytes on the disk, and changes of each environment.

use super::Transfers;
use nonstop_model::{EnvironmentId, Root};
use std::{collections::BTreeMap, time::Instant};

/// Changes that an environment may make at once, from each side.
const BURST: f64 = 2000.0;
/// Changes a second that come back.
const RATE: f64 = 100.0;

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
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * RATE).min(BURST);
        bucket.at = now;
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }

    /// Forgets those that are full again.
    pub(super) fn tidy(&mut self, now: Instant) {
        let full = |bucket: &Bucket| {
            bucket.left + now.saturating_duration_since(bucket.at).as_secs_f64() * RATE >= BURST
        };
        self.0.retain(|_, bucket| !full(bucket));
    }
}

impl Transfers {
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
    use std::time::Duration;

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
}

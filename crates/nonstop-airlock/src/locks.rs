//! Locks of names. They lie in memory, and end with the program: a client that finds its lock gone
//! takes it again.

use nonstop_api::airlock::Place;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Locks of one environment at once.
const OF_ENVIRONMENT: usize = 2048;
/// Shared locks that one name is held by: whoever looks at it is told of each.
const TOGETHER: usize = 64;
/// Locks of all.
const TOTAL: usize = 65_536;
/// How long a lock lasts that is not taken anew, at most, and if the client does not say.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);
pub(crate) const USUAL: Duration = Duration::from_secs(600);

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lock {
    /// Its token: a URI that no other lock ever had.
    pub(crate) token: String,
    /// What is locked.
    pub(crate) place: Place,
    /// With everything in it.
    pub(crate) deep: bool,
    /// Whether there can be no other.
    pub(crate) exclusive: bool,
    /// What the client says of its owner: XML.
    pub(crate) owner: String,
    /// How long it lasts from when it was taken last.
    pub(crate) timeout: Duration,
    until: Instant,
}

impl Lock {
    /// Whether it holds `place`.
    pub(crate) fn holds(&self, place: &Place) -> bool {
        self.place == *place || (self.deep && within(place, &self.place))
    }

    /// How long it lasts still.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// Whether `place` is `folder` or lies in it.
fn within(place: &Place, folder: &Place) -> bool {
    place.environment == folder.environment
        && place.root == folder.root
        && place.path.is_within(&folder.path)
}

/// A lock that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) place: Place,
    pub(crate) deep: bool,
    pub(crate) exclusive: bool,
    pub(crate) owner: String,
    pub(crate) timeout: Duration,
}

/// Why there is no lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another one is in its way, there.
    Conflict(Place),
    /// There are too many.
    TooMany,
}

/// All locks of a side.
#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<Vec<Lock>>);

impl Locks {
    /// Those that last still.
    fn live(&self) -> MutexGuard<'_, Vec<Lock>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        locks.retain(|lock| lock.until > now);
        locks
    }

    /// Takes a lock.
    pub(crate) fn take(&self, wanted: Wanted) -> Result<Lock, Refused> {
        let mut locks = self.live();
        let meet = |lock: &&Lock| {
            lock.holds(&wanted.place) || (wanted.deep && within(&lock.place, &wanted.place))
        };
        let mut met = locks.iter().filter(meet);
        if let Some(lock) = met.clone().find(|lock| lock.exclusive || wanted.exclusive) {
            return Err(Refused::Conflict(lock.place.clone()));
        }
        // Of the locks that hold a name, the one that was taken last met all others.
        if met.nth(TOGETHER - 1).is_some() {
            return Err(Refused::TooMany);
        }
        let environment = wanted.place.environment;
        let own = locks.iter().filter(|lock| lock.place.environment == environment).count();
        if own >= OF_ENVIRONMENT || locks.len() >= TOTAL {
            return Err(Refused::TooMany);
        }
        let lock = Lock {
            token: format!("urn:uuid:{}", Uuid::new_v4()),
            place: wanted.place,
            deep: wanted.deep,
            exclusive: wanted.exclusive,
            owner: wanted.owner,
            timeout: wanted.timeout,
            until: Instant::now() + wanted.timeout,
        };
        locks.push(lock.clone());
        Ok(lock)
    }

    /// Lets the lock of one of `tokens` that holds `place` last anew.
    pub(crate) fn refresh(
        &self,
        place: &Place,
        tokens: &[String],
        timeout: Duration,
    ) -> Option<Lock> {
        let mut locks = self.live();
        let lock =
            locks.iter_mut().find(|lock| lock.holds(place) && tokens.contains(&lock.token))?;
        lock.timeout = timeout;
        lock.until = Instant::now() + timeout;
        Some(lock.clone())
    }

    /// Ends the lock `token` that holds `place`. Says whether there was one.
    pub(crate) fn release(&self, place: &Place, token: &str) -> bool {
        let mut locks = self.live();
        let before = locks.len();
        locks.retain(|lock| !(lock.token == token && lock.holds(place)));
        locks.len() < before
    }

    /// Those that hold `place`.
    pub(crate) fn on(&self, place: &Place) -> Vec<Lock> {
        self.live().iter().filter(|lock| lock.holds(place)).cloned().collect()
    }

    /// Those of names in `folder`, itself left out.
    pub(crate) fn below(&self, folder: &Place) -> Vec<Lock> {
        let meets = |lock: &&Lock| within(&lock.place, folder) && lock.place != *folder;
        self.live().iter().filter(meets).cloned().collect()
    }

    /// Ends those of `place` and in it: it is gone.
    pub(crate) fn gone(&self, place: &Place) {
        self.live().retain(|lock| !within(&lock.place, place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_model::{EnvironmentId, Root};

    fn place(path: &str) -> Place {
        let path = path.parse().expect("a path");
        Place { environment: EnvironmentId(1), root: Root::Export, path }
    }

    fn wanted(path: &str, deep: bool, exclusive: bool) -> Wanted {
        let (owner, timeout) = (String::new(), Duration::from_secs(60));
        Wanted { place: place(path), deep, exclusive, owner, timeout }
    }

    #[test]
    fn exclusive_locks_meet_no_other_above_or_below_them() {
        let locks = Locks::default();
        let lock = locks.take(wanted("a/b", false, true)).expect("free");
        let against = |path, deep, exclusive| locks.take(wanted(path, deep, exclusive)).is_err();
        assert!(against("a/b", false, false));
        assert!(against("a", true, true));
        assert!(!against("a/bc", true, true));
        assert!(!against("a", false, true));
        assert!(!locks.release(&place("a/bc"), &lock.token));
        assert!(locks.release(&place("a/b"), &lock.token));
        assert!(!against("a/b", false, false));
        assert!(!against("a/b", false, false), "shared ones go together");
    }

    #[test]
    fn a_deep_lock_holds_what_comes_below_it_and_ends_with_its_name_or_its_time() {
        let locks = Locks::default();
        let deep = locks.take(wanted("a", true, true)).expect("free");
        assert_eq!(locks.on(&place("a/x/y")).len(), 1);
        let token = [deep.token];
        assert!(locks.refresh(&place("a/x"), &token, Duration::from_secs(9)).is_some());
        assert!(locks.refresh(&place("b"), &token, Duration::from_secs(9)).is_none());
        locks.gone(&place("a"));
        assert!(locks.on(&place("a/x/y")).is_empty());
        let mut short = wanted("b", false, true);
        short.timeout = Duration::ZERO;
        locks.take(short).expect("free");
        assert!(locks.on(&place("b")).is_empty());
    }

    #[test]
    fn an_environment_has_so_many_locks_and_no_more() {
        let locks = Locks::default();
        for n in 0..OF_ENVIRONMENT {
            locks.take(wanted(&format!("a{}", n / TOGETHER), false, false)).expect("shared");
        }
        assert_eq!(locks.take(wanted("b", false, false)), Err(Refused::TooMany));
        let mut other = wanted("a", false, true);
        other.place.environment = EnvironmentId(2);
        assert!(locks.take(other).is_ok());
    }
    #[test]
    fn a_name_is_held_by_so_many_locks_and_no_more() {
        let locks = Locks::default();
        for n in 0..TOGETHER {
            let (path, deep) = (["a/b", "a"][n % 2], n % 2 == 1);
            locks.take(wanted(path, deep, false)).expect("shared");
        }
        for (path, deep) in [("a/b", false), ("a", true), ("a/c/d", false), ("", true)] {
            let more = locks.take(wanted(path, deep, false)).map(|lock| lock.place);
            match path {
                "a/c/d" => assert_eq!(more, Ok(place(path))),
                _ => assert_eq!(more, Err(Refused::TooMany), "{path}"),
            }
        }
        assert!(locks.take(wanted("b", false, false)).is_ok());
    }
}

//! What happens to samples beside the reconciler's passes: those that go by a guest's agent are given
//! to it, and of each injection is written down what held before anything of it was before the guest
//! and when nothing of it was any more. Nothing goes before a guest of which the first is not written
//! down. A guest that hangs delays its own injection, and nothing else.

mod giving;
mod record;

pub(crate) use record::ends;

use crate::{
    Clock,
    prover::Prover,
    reconciler::Wake,
    samples::Samples,
    status::{Status, chain},
};
use jiff::Timestamp;
use nonstop_host::{Host, firewall::Firewall};
use nonstop_model::{Environment, EnvironmentId, Injection, InjectionId, Lab, MachineId};
use nonstop_store::{Db, StoreError};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tracing::error;

/// How often to look for what is to be done: what is asked for waits as long before it begins.
const EVERY: Duration = Duration::from_millis(100);

/// Packets of a link, since our tables were loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Which loading of our tables counts: two counts of another cannot be compared.
    pub tables: String,
    /// Between its machines.
    pub between: u64,
    /// Refused on it.
    pub refused: u64,
    /// That left it.
    pub left: u64,
}

/// Counts packets of an environment's link; None where it has none, or nobody counts.
pub type CountLink =
    Box<dyn Fn(EnvironmentId, &[MachineId]) -> Result<Option<Counted>, String> + Send + Sync>;

/// What it is made of.
pub struct Parts {
    /// The lab.
    pub lab: Lab,
    /// What is wanted.
    pub db: Arc<Db>,
    /// What guests are spoken with by.
    pub host: Arc<dyn Host>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What was seen.
    pub status: Arc<Status>,
    /// The last proof of what may talk to what; None in tests without one.
    pub prover: Option<Arc<Prover>>,
    /// Counts packets.
    pub count: CountLink,
    /// Whose rules are in force.
    pub rules: Option<Arc<Firewall>>,
    /// Where samples come from.
    pub samples: Samples,
    /// Asked for a pass when something has changed.
    pub wake: Arc<Wake>,
}

/// Leads injections on.
pub struct Injector {
    parts: Parts,
    busy: Mutex<BTreeSet<InjectionId>>,
    /// What was found last of injections that are about to be gone: where the link goes with the
    /// environment, nobody can count its packets afterwards.
    going: Mutex<BTreeMap<InjectionId, (Instant, Value)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Injector {
    /// One for a lab.
    pub fn new(parts: Parts) -> Injector {
        Injector { parts, busy: Mutex::default(), going: Mutex::default() }
    }

    /// Looks again and again for as long as the process lives.
    pub fn run(self: Arc<Self>) -> ! {
        loop {
            if let Err(e) = self.look() {
                error!("lead injections on: {}", chain(&e));
                thread::sleep(Duration::from_secs(2));
            }
            thread::sleep(EVERY);
        }
    }

    /// Does once what is to be done; agents are spoken with by threads of their own.
    pub fn look(self: &Arc<Self>) -> Result<(), StoreError> {
        self.witness_begins()?;
        for injection in self.parts.db.read(|read| read.injections_to_give())? {
            if lock(&self.busy).insert(injection.id) {
                let this = Arc::clone(self);
                let id = injection.id;
                let work = move || {
                    let _busy = Busy { injector: &this, id };
                    this.give_and_tell(&injection);
                };
                if let Err(e) = thread::Builder::new().name(id.to_string()).spawn(work) {
                    lock(&self.busy).remove(&id);
                    error!("start a thread for {id}: {e}");
                }
            }
        }
        self.witness_ends()
    }

    fn environment(&self, injection: &Injection) -> Result<Environment, StoreError> {
        let pool = self.parts.lab.network.pool;
        self.parts.db.read(|read| read.environment(pool, injection.environment))
    }
}

/// Marks an injection as worked on, also when its thread panics.
struct Busy<'a> {
    injector: &'a Injector,
    id: InjectionId,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock(&self.injector.busy).remove(&self.id);
    }
}

/// A time as records have it: in UTC, to the microsecond.
pub(crate) fn whole(at: Timestamp) -> String {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at).to_string()
}

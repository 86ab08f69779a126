//! What the last pass saw and what stands in its way; lost with the daemon and seen again by the
//! next one.

use jiff::Timestamp;
use nonstop_api::{DriftView, Problem};
use nonstop_host::HostError;
use nonstop_model::{EnvironmentId, InjectionId, MachineId};
use nonstop_plan::{Desired, Grant, Observed, Plan};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Shared between the reconciler, which writes, and requests, which read.
#[derive(Debug, Default)]
pub struct Status {
    inner: Mutex<Inner>,
    passed: Condvar,
}

/// What a pass was about, once all of it that does not wait for an environment was applied: what
/// was wanted and what was seen belong together.
#[derive(Debug)]
pub struct Pass {
    /// When it began: everything that it saw is not older.
    pub began: Instant,
    /// The same by the lab's clock.
    pub at: Timestamp,
    /// What was wanted.
    pub desired: Desired,
    /// What was seen before it.
    pub observed: Observed,
    /// What the kernel lets through after it.
    pub grants: BTreeSet<Grant>,
    /// Environments that were being built, changed or torn down.
    pub changing: BTreeSet<EnvironmentId>,
    /// Machines whose guest, or the disc in its drive, was being changed.
    pub guests: BTreeSet<MachineId>,
}

impl Pass {
    /// Whether what may talk to what is the same as after `other`.
    fn same_reach(&self, other: &Pass) -> bool {
        self.grants == other.grants
            && self.changing == other.changing
            && self.observed.machines.keys().eq(other.observed.machines.keys())
            && self.observed.segments == other.observed.segments
    }
}

#[derive(Debug, Default)]
struct Inner {
    observed: Observed,
    plan: Plan,
    pass: Option<Arc<Pass>>,
    /// Counts what the proof of reach depends on.
    changes: u64,
    drifts: VecDeque<DriftView>,
    /// What is just being given to the agents of machines.
    giving: BTreeSet<(MachineId, InjectionId)>,
    lab: Option<Problem>,
    environments: BTreeMap<EnvironmentId, Trouble>,
}

/// What keeps an environment from going on.
#[derive(Debug, Clone)]
struct Trouble {
    problem: Problem,
    tries: u32,
    again_at: Timestamp,
}

/// So many changes by somebody else are remembered here; the trace keeps all.
const DRIFTS: usize = 20;

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

impl Status {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last pass observed.
    pub fn observed(&self) -> Observed {
        self.lock().observed.clone()
    }

    /// What the last pass planned.
    pub fn plan(&self) -> Plan {
        self.lock().plan.clone()
    }

    /// What keeps `environment` from going on.
    pub fn problem(&self, environment: EnvironmentId) -> Option<Problem> {
        let inner = self.lock();
        let own = inner.environments.get(&environment).map(|t| t.problem.clone());
        own.or_else(|| inner.lab.clone())
    }

    /// Everything that stands in the way.
    pub fn problems(&self) -> Vec<Problem> {
        let inner = self.lock();
        let environments = inner.environments.iter().map(|(id, t)| Problem {
            message: format!("{id}: {}", t.problem.message),
            help: t.problem.help.clone(),
        });
        inner.lab.iter().cloned().chain(environments).collect()
    }

    /// The last pass that was applied.
    pub fn pass(&self) -> Option<Arc<Pass>> {
        self.lock().pass.clone()
    }

    /// The first pass to be applied that begins after `instant`; None if there is none within
    /// `patience`.
    pub fn pass_after(&self, instant: Instant, patience: Duration) -> Option<Arc<Pass>> {
        let later = |inner: &Inner| inner.pass.as_ref().is_some_and(|pass| pass.began >= instant);
        let waited = self.passed.wait_timeout_while(self.lock(), patience, |inner| !later(inner));
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.pass.clone().filter(|_| later(&inner))
    }

    /// Waits until the number of changes is another than `known`, at most `patience`; gives it.
    pub fn changes_from(&self, known: u64, patience: Duration) -> u64 {
        let same = |inner: &mut Inner| inner.changes == known;
        let waited = self.passed.wait_timeout_while(self.lock(), patience, same);
        waited.unwrap_or_else(PoisonError::into_inner).0.changes
    }

    /// What is just being given to the agent of `machine`, wanted or not any more.
    pub fn given(&self, machine: MachineId) -> Option<InjectionId> {
        let inner = self.lock();
        inner.giving.iter().find(|(id, _)| *id == machine).map(|(_, injection)| *injection)
    }

    /// The same, of whatever machine.
    pub(crate) fn is_being_given(&self, injection: InjectionId) -> bool {
        self.lock().giving.iter().any(|(_, id)| *id == injection)
    }

    pub(crate) fn gives(&self, machine: MachineId, injection: InjectionId) {
        self.lock().giving.insert((machine, injection));
    }

    pub(crate) fn gave(&self, machine: MachineId, injection: InjectionId) {
        self.lock().giving.remove(&(machine, injection));
    }

    /// What somebody else changed lately and was put right, newest first.
    pub fn drifts(&self) -> Vec<DriftView> {
        self.lock().drifts.iter().rev().cloned().collect()
    }

    pub(crate) fn applied(&self, pass: Pass) {
        let mut inner = self.lock();
        let same = inner.pass.as_ref().is_some_and(|before| before.same_reach(&pass));
        inner.changes += u64::from(!same);
        inner.pass = Some(Arc::new(pass));
        drop(inner);
        self.passed.notify_all();
    }

    pub(crate) fn drifted(&self, at: Timestamp, what: &str) {
        let mut inner = self.lock();
        inner.changes += 1;
        if inner.drifts.len() == DRIFTS {
            inner.drifts.pop_front();
        }
        inner.drifts.push_back(DriftView { at, what: what.into() });
        drop(inner);
        self.passed.notify_all();
    }

    pub(crate) fn saw(&self, observed: Observed, plan: Plan) {
        let mut inner = self.lock();
        (inner.observed, inner.plan, inner.lab) = (observed, plan, None);
    }

    /// Notes what keeps the whole lab from going on; true if it is new.
    pub(crate) fn lab_failed(&self, error: &HostError) -> bool {
        let problem = problem(error);
        let mut inner = self.lock();
        let new = inner.lab.as_ref() != Some(&problem);
        inner.lab = Some(problem);
        new
    }

    /// Notes what keeps an environment from going on; true if it is new.
    pub(crate) fn failed(&self, id: EnvironmentId, error: &HostError, now: Timestamp) -> bool {
        let problem = problem(error);
        let mut inner = self.lock();
        let before = inner.environments.get(&id);
        let new = before.is_none_or(|t| t.problem != problem);
        let tries = before.map_or(0, |t| t.tries) + 1;
        let wait = Duration::from_millis(500 << tries.min(8)).min(LONGEST_WAIT);
        let again_at = now.checked_add(wait).unwrap_or(Timestamp::MAX);
        inner.environments.insert(id, Trouble { problem, tries, again_at });
        new
    }

    pub(crate) fn went_well(&self, id: EnvironmentId) {
        self.lock().environments.remove(&id);
    }

    /// When `id` may be tried again; None if nothing stands in its way.
    pub(crate) fn again_at(&self, id: EnvironmentId) -> Option<Timestamp> {
        self.lock().environments.get(&id).map(|t| t.again_at)
    }

    /// Lets everything be tried at once, as after a request that may have mended it.
    pub fn forgive(&self, id: EnvironmentId) {
        if let Some(trouble) = self.lock().environments.get_mut(&id) {
            trouble.again_at = Timestamp::UNIX_EPOCH;
        }
    }
}

/// An error with its causes, as one line.
fn problem(error: &HostError) -> Problem {
    Problem { message: chain(error), help: error.help.clone() }
}

/// An error and its causes, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

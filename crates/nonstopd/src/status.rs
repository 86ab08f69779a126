//! What the last pass saw and what stands in its way; lost with the daemon and seen again by the
//! next one.

use jiff::Timestamp;
use nonstop_api::Problem;
use nonstop_host::HostError;
use nonstop_model::EnvironmentId;
use nonstop_plan::{Observed, Plan};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Shared between the reconciler, which writes, and requests, which read.
#[derive(Debug, Default)]
pub struct Status(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    observed: Observed,
    plan: Plan,
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

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

impl Status {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

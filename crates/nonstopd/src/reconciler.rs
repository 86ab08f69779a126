//! Passes: observe, absorb, plan, apply. The only thing that changes the host.
//!
//! A pass takes no input: it is woken by a request, an event of the host or the time, and does
//! whatever is to be done. What takes access away is applied in the pass itself; each environment
//! has a queue of its own that runs beside the others, so that a stuck guest delays nobody.

use crate::{
    Clock, Standing,
    desired::desired,
    status::{Pass, Status, chain},
};
use jiff::{SignedDuration, Timestamp};
use nonstop_host::{Host, HostError, Outcome};
use nonstop_model::{
    AccountState, EnvironmentId, EnvironmentState, InjectionId, Lab, MachineId, Memory, SnapshotId,
};
use nonstop_plan::{
    Desired, EndReason, Fact, Grant, Observed, Plan, Step, absorb, plan, wanted_grants,
};
use nonstop_store::{Db, StoreError};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// How many environments are worked on at once; QEMU and libvirt gain nothing from more.
const WORKERS: usize = 8;

/// How soon to look again at something that was begun.
const SOON: Duration = Duration::from_millis(250);

/// How long the host goes unobserved when nothing happens.
const IDLE: Duration = Duration::from_secs(1);

/// Wakes the reconciler, from any thread.
#[derive(Debug, Default)]
pub struct Wake {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    /// Asks for a pass.
    pub fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    fn wait(&self, at_most: Duration) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.changed.wait_timeout_while(woken, at_most, |woken| !*woken);
        let (mut woken, _) = result.unwrap_or_else(PoisonError::into_inner);
        *woken = false;
    }
}

/// A pass that could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The database refused.
    #[error("record what is wanted")]
    Store(#[from] StoreError),
    /// The host could not be observed, or access could not be taken away.
    #[error("{}", chain(.0))]
    Host(#[from] HostError),
}

/// Brings the host to what is wanted.
pub struct Reconciler {
    lab: Lab,
    db: Arc<Db>,
    host: Arc<dyn Host>,
    clock: Arc<dyn Clock>,
    status: Arc<Status>,
    wake: Arc<Wake>,
    /// Environments that are worked on, with the machines whose guests that changes.
    busy: Mutex<BTreeMap<EnvironmentId, BTreeSet<MachineId>>>,
    ended: Mutex<BTreeMap<MachineId, EndReason>>,
    /// What the kernel let through after the last pass, and until when; None where that is not
    /// known.
    left: Mutex<Option<Left>>,
    drift_told: Mutex<BTreeSet<String>>,
    /// Snapshots that could not be taken, and why: given up by the next pass.
    not_taken: Mutex<BTreeMap<SnapshotId, String>>,
    /// Discs that could not be made, and why: told by the next pass.
    not_made: Mutex<BTreeMap<InjectionId, String>>,
}

/// Grants in the kernel, and when each ends by itself.
type Left = BTreeMap<Grant, Option<Timestamp>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reconciler {
    /// A reconciler of `lab`. There is one a lab; the daemon's lock sees to that.
    pub fn new(
        lab: Lab,
        db: Arc<Db>,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
        status: Arc<Status>,
        wake: Arc<Wake>,
    ) -> Reconciler {
        Reconciler {
            lab,
            db,
            host,
            clock,
            status,
            wake,
            busy: Mutex::default(),
            ended: Mutex::default(),
            left: Mutex::default(),
            drift_told: Mutex::default(),
            not_taken: Mutex::default(),
            not_made: Mutex::default(),
        }
    }

    /// Runs passes for as long as the process lives.
    pub fn run(self: Arc<Self>) -> ! {
        loop {
            let wait = match self.pass(&mut |id, queue| self.start_queue(id, queue)) {
                Ok(plan) => self.until_next(&plan),
                Err(PassError::Host(e)) => {
                    if self.status.lab_failed(&e) {
                        error!(help = %e.help, "{}", chain(&e));
                    }
                    Duration::from_secs(1)
                }
                Err(e) => {
                    error!("{}", chain(&e));
                    Duration::from_secs(1)
                }
            };
            self.wake.wait(wait);
        }
    }

    /// One pass. Queues of environments are handed to `start`, which may run them at once
    /// ([`Reconciler::run_queue`]) or beside this thread.
    pub fn pass(&self, start: &mut dyn FnMut(EnvironmentId, Vec<Step>)) -> Result<Plan, PassError> {
        let (now, began) = (self.clock.now(), Instant::now());
        // What is seen of an environment that was worked on meanwhile fits no single time.
        let working = lock(&self.busy).clone();
        let busy: BTreeSet<EnvironmentId> = working.keys().copied().collect();
        let observed = self.host.observe()?;
        self.absorb(&observed, &busy, now)?;
        let mut desired = self.db.read(|read| desired(read, &self.lab, now))?;
        shift_keys(&mut desired, &self.clock.standing());
        let plan = plan(&desired, &observed, now);
        self.status.saw(observed.clone(), plan.clone());
        self.tell_of_drift(&observed, now)?;
        let grants = wanted_grants(&desired, &observed, now).into_keys().collect();
        // One thing that cannot be cut must not keep the others open.
        let mut failed = None;
        for step in &plan.cut {
            info!("{step}");
            // Access is taken away whether or not that can be written down.
            if let Err(e) = self.tell_sessions(step, now) {
                error!("record why sessions end: {}", chain(&e));
            }
            if let Err(e) = self.host.apply(step) {
                failed.get_or_insert(e);
            }
        }
        for (id, queue) in &plan.environments {
            if !busy.contains(id) && self.status.again_at(*id).is_none_or(|at| at <= now) {
                start(*id, queue.clone());
            }
        }
        if let Some(e) = failed {
            return Err(e.into());
        }
        for step in &plan.grant {
            if matches!(step, Step::Grant { lease: Some(_), .. }) {
                tracing::debug!("{step}");
            } else {
                info!("{step}");
            }
            self.host.apply(step)?;
        }
        for id in &plan.gone {
            self.db.write("nonstopd", now, |w| w.environment_gone(*id))?;
            info!("{id} is gone");
        }
        if !plan.cut.is_empty() || !plan.grant.is_empty() {
            self.wake.wake();
        }
        *lock(&self.left) = Some(left(&observed, &plan, now));
        // What is planned brings nothing back that is not wanted; what was begun earlier may.
        let planned = plan.environments.values().flatten().filter(|step| match step {
            Step::StartMachine { machine } => machine.disc.is_some(),
            _ => true,
        });
        let now_busy = lock(&self.busy).clone();
        let worked_on = working.values().chain(now_busy.values()).flatten().copied();
        let guests = planned.filter_map(Step::changes_guest).chain(worked_on).collect();
        let changing = plan.environments.keys().copied().chain(busy);
        let changing = changing.chain(now_busy.into_keys()).collect();
        self.status.applied(Pass { began, at: now, desired, observed, grants, changing, guests });
        Ok(plan)
    }

    /// Records why sessions end that `step` is going to end.
    fn tell_sessions(&self, step: &Step, now: Timestamp) -> Result<(), StoreError> {
        let (uid, name, why) = match step {
            Step::EndSession { session } => {
                return self
                    .db
                    .write("nonstopd", now, |w| w.session_ends(session.id, &session.why));
            }
            Step::CloseGate { account } => (None, Some(account), "the account may not log in"),
            Step::EndSessions { uid } => (Some(*uid), None, "the account may not log in"),
            Step::Revoke { grant } if grant.ends_sessions() => {
                let own = matches!(grant, Grant::Portal { .. } | Grant::Transfer { .. });
                let why = if own { "the account may not log in" } else { "a reservation is over" };
                (grant.uid(), None, why)
            }
            _ => return Ok(()),
        };
        let open = self.db.read(|read| read.sessions(false))?;
        for session in open.iter().filter(|session| session.ended.is_empty()) {
            let account = self.db.read(|read| read.account(&session.account))?;
            if uid == Some(account.uid) || name == Some(&account.name) {
                let why = match account.state {
                    AccountState::Active if account.keys.is_empty() => {
                        "its card is not valid any more".to_string()
                    }
                    AccountState::Active => why.to_string(),
                    state => format!("the account is {}", state.as_str()),
                };
                self.db.write("nonstopd", now, |w| w.session_ends(session.id, &why))?;
            }
        }
        Ok(())
    }

    /// What somebody changed by hand: interfaces and switches, rules, and rights that are not as
    /// the last pass left them.
    fn tell_of_drift(&self, observed: &Observed, now: Timestamp) -> Result<(), StoreError> {
        let mut told = lock(&self.drift_told);
        // What cannot be put right is found at every pass, and told once.
        for what in observed.drift.iter().filter(|what| !told.contains(*what)) {
            warn!("somebody changed the network: {what}");
            self.record_drift("network.drift", &"network", what, now)?;
        }
        *told = observed.drift.iter().cloned().collect();
        drop(told);
        // Unknown again until this pass has been applied.
        let Some(left) = lock(&self.left).take() else { return Ok(()) };
        for what in changed_rights(&left, observed, now) {
            warn!("somebody changed our nft tables: {what}");
            self.record_drift("firewall.drift", &"nft", &what, now)?;
        }
        Ok(())
    }

    fn record_drift(
        &self,
        action: &str,
        subject: &dyn std::fmt::Display,
        what: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.status.drifted(now, what);
        self.db.write("nonstopd", now, |w| {
            w.trace(action, subject, serde_json::json!({ "found": what }))
        })
    }

    /// Commits what an observation and the time teach about intent.
    fn absorb(
        &self,
        observed: &Observed,
        busy_before: &BTreeSet<EnvironmentId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let pool = self.lab.network.pool;
        let environments = self.db.read(|read| read.environments(pool, false))?;
        let over = environments
            .iter()
            .filter(|e| e.state == EnvironmentState::Granted && e.period.until() <= now);
        for environment in over {
            let destroy_at = self.destroy_at(now);
            self.db.write("nonstopd", now, |w| w.end_environment(environment.id, destroy_at))?;
            info!("the period of {} is over", environment.id);
        }
        self.end_looks(now)?;
        self.give_up_snapshots(now)?;
        self.give_up_discs(now)?;
        let mut desired = self.db.read(|read| desired(read, &self.lab, now))?;
        let observed = {
            // A machine that is being worked on says nothing about its guest's will, but how it
            // ended is told once and must not be forgotten.
            let busy = lock(&self.busy);
            let idle = |id: &EnvironmentId| !busy.contains_key(id) && !busy_before.contains(id);
            desired.environments.retain(|id, _| idle(id));
            let mut ended = lock(&self.ended);
            ended.extend(&observed.ended);
            ended.retain(|id, _| !observed.machines.contains_key(id));
            let observed = Observed { ended: ended.clone(), ..observed.clone() };
            for machine in desired.environments.values().flat_map(|e| &e.machines) {
                ended.remove(&machine.id);
            }
            observed
        };
        for fact in absorb(&desired, &observed) {
            self.db.write("nonstopd", now, |w| match fact {
                Fact::SeenRunning(id) => w.machine_seen(id, &observed.run.0),
                Fact::PoweredOff(id) => w.machine_powered_off(id),
                Fact::Crashed(id) => w.machine_crashed(id),
                Fact::Taken(id) => w.snapshot_taken(id),
                Fact::NotTaken(id, why) => w.snapshot_failed(id, why),
                Fact::NothingToResume(id) => w.nothing_to_resume(id),
                Fact::DiscThere(id) => w.injection_there(id, None),
            })?;
            match fact {
                Fact::SeenRunning(id) => info!("{id} runs"),
                Fact::PoweredOff(id) => info!("the guest of {id} powered itself off"),
                Fact::Crashed(id) => warn!("the QEMU of {id} died; it is started again"),
                Fact::Taken(id) => info!("the snapshot {id} is taken"),
                Fact::NotTaken(id, why) => warn!("the snapshot {id} is not taken: {why}"),
                Fact::DiscThere(id) => info!("the disc {id} is in its drive"),
                Fact::NothingToResume(id) => {
                    warn!("the memory of {id} is not there any more; it boots")
                }
            }
        }
        Ok(())
    }

    /// Gives up snapshots that could not be taken; their machines go on.
    fn give_up_snapshots(&self, now: Timestamp) -> Result<(), StoreError> {
        let given_up = lock(&self.not_taken).clone();
        for (id, why) in given_up {
            self.db.write("nonstopd", now, |w| w.snapshot_failed(id, &why))?;
            warn!("the snapshot {id} is not taken: {why}");
            lock(&self.not_taken).remove(&id);
        }
        Ok(())
    }

    /// Tells of discs that could not be made; they are not wanted any more then.
    fn give_up_discs(&self, now: Timestamp) -> Result<(), StoreError> {
        let given_up = lock(&self.not_made).clone();
        for (id, why) in given_up {
            self.db.write("nonstopd", now, |w| w.injection_failed(id, &why, None))?;
            warn!("the disc {id} is not made: {why}");
            lock(&self.not_made).remove(&id);
        }
        Ok(())
    }

    /// Ends permissions to see and recordings whose time is over.
    fn end_looks(&self, now: Timestamp) -> Result<(), StoreError> {
        let (views, recordings) = self
            .db
            .read(|read| Ok::<_, StoreError>((read.stale_views(now)?, read.stale_recordings()?)))?;
        if views.is_empty() && recordings.is_empty() {
            return Ok(());
        }
        self.db.write("nonstopd", now, |w| {
            for id in &views {
                w.end_view(*id, "its time is over")?;
            }
            for id in &recordings {
                let file = self.lab.recordings().join(format!("{id}.age"));
                let bytes = std::fs::metadata(file).map_or(0, |file| file.len());
                w.end_recording(*id, bytes, "its environment ended")?;
            }
            Ok(())
        })
    }

    /// When the disks of an environment that ends now are destroyed.
    pub fn destroy_at(&self, now: Timestamp) -> Timestamp {
        let grace = Duration::from_secs(self.lab.grace_seconds.into());
        now.checked_add(grace).unwrap_or(Timestamp::MAX)
    }

    fn until_next(&self, plan: &Plan) -> Duration {
        let now = self.clock.now();
        let retries = plan.environments.keys().filter_map(|id| self.status.again_at(*id));
        let next = retries.chain(plan.wake_at).min();
        let until = next.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        until.map_or(IDLE, |wait| wait.clamp(SOON, IDLE))
    }

    fn start_queue(self: &Arc<Self>, id: EnvironmentId, queue: Vec<Step>) {
        {
            let mut busy = lock(&self.busy);
            if busy.len() >= WORKERS || busy.contains_key(&id) {
                return;
            }
            busy.insert(id, queue.iter().filter_map(Step::changes_guest).collect());
        }
        let this = Arc::clone(self);
        let work = move || {
            let _busy = Busy { reconciler: &this, id };
            this.run_queue(id, &queue);
        };
        let thread = std::thread::Builder::new().name(id.to_string());
        if let Err(e) = thread.spawn(work) {
            lock(&self.busy).remove(&id);
            error!("start a thread for {id}: {e}");
        }
    }

    /// Applies the steps of one environment until one of them fails or has to wait.
    pub fn run_queue(&self, id: EnvironmentId, queue: &[Step]) {
        for step in queue {
            let started = std::time::Instant::now();
            match self.apply(step) {
                Ok(Outcome::Done) => {
                    let duration_ms = started.elapsed().as_millis() as u64;
                    info!(environment.id = %id, duration_ms, "{step}");
                }
                Ok(Outcome::NotYet) => {
                    self.status.went_well(id);
                    self.clock.pause(SOON);
                    return;
                }
                Err(e) => {
                    // Nobody wants a desktop that stands still until there is room for it.
                    if let Step::PauseMachine { snapshot, .. }
                    | Step::SaveMachine { memory: Memory { snapshot, .. }, .. } = step
                    {
                        lock(&self.not_taken).insert(*snapshot, chain(&e));
                        return;
                    }
                    if let Step::MakeDisc { disc, .. } = step {
                        lock(&self.not_made).insert(disc.injection, chain(&e));
                        return;
                    }
                    if self.status.failed(id, &e, self.clock.now()) {
                        error!(environment.id = %id, help = %e.help, "{}", chain(&e));
                    }
                    return;
                }
            }
        }
        self.status.went_well(id);
    }

    fn apply(&self, step: &Step) -> Result<Outcome, HostError> {
        // Committed before the effect: a machine that we stop has not powered itself off, and one
        // that we start owes nothing to what its guest did before.
        let now = self.clock.now();
        let before = match step {
            Step::StopMachine { machine } | Step::SaveMachine { machine, .. } => {
                self.db.write("nonstopd", now, |w| w.machine_stopped(*machine))
            }
            Step::StartMachine { machine } | Step::RestoreMachine { machine, .. } => {
                self.db.write("nonstopd", now, |w| w.machine_starting(machine.id))
            }
            _ => Ok(()),
        };
        before.map_err(|e| HostError::new(format!("record: {step}"), e))?;
        let outcome = self.host.apply(step)?;
        if outcome == Outcome::NotYet {
            return Ok(outcome);
        }
        let now = self.clock.now();
        let recorded = match step {
            Step::HoldMachine { machine } => self.db.write("nonstopd", now, |w| {
                let why = "it wrote while the disk had hardly room for database and trace";
                w.trace("machine.hold", machine, serde_json::json!({ "reason": why }))
            }),
            Step::PrepareMachine { machine } => self
                .db
                .write("nonstopd", now, |w| w.machine_prepared(machine.id, machine.generation)),
            // Before its processors run: from there on what it writes is not the snapshot's.
            Step::RestoreMachine { machine, memory } => {
                self.db.write("nonstopd", now, |w| w.machine_resumed(machine.id, *memory))
            }
            Step::ResetMachine { machine } => {
                self.db.write("nonstopd", now, |w| w.machine_was_reset(*machine))
            }
            _ => Ok(()),
        };
        recorded.map_err(|e| HostError::new(format!("record: {step}"), e))?;
        Ok(outcome)
    }
}

/// What the kernel lets through once `plan` was applied to what was observed.
fn left(observed: &Observed, plan: &Plan, now: Timestamp) -> Left {
    let end = |left: Option<Duration>| left.map(|left| now.saturating_add(left).unwrap_or(now));
    let held = observed.firewall.grants.iter().filter(|_| observed.firewall.current);
    let mut grants: Left = held.map(|(grant, left)| (grant.clone(), end(*left))).collect();
    for step in plan.cut.iter().chain(&plan.grant) {
        match step {
            Step::Revoke { grant } => _ = grants.remove(grant),
            Step::Grant { grant, lease } => _ = grants.insert(grant.clone(), end(*lease)),
            _ => {}
        }
    }
    grants
}

/// How far leases and what is written of them may lie apart.
const SLACK: Duration = Duration::from_secs(2);

/// What differs between the rights that a pass left and those that are there now.
fn changed_rights(left: &Left, observed: &Observed, now: Timestamp) -> Vec<String> {
    if !observed.firewall.current {
        return vec!["rules or elements that are not ours; they are loaded again".into()];
    }
    let held = &observed.firewall.grants;
    let lasts = |until: &Option<Timestamp>| {
        until.is_none_or(|until| until > now.saturating_add(SLACK).unwrap_or(now))
    };
    let added = held.keys().filter(|grant| !left.contains_key(grant));
    let added = added.map(|grant| format!("a right was put in: {grant}; taken out"));
    let gone = left.iter().filter(|(grant, until)| !held.contains_key(grant) && lasts(until));
    let gone = gone.map(|(grant, _)| format!("a right was taken out: {grant}; put back"));
    added.chain(gone).collect()
}

/// sshd judges the end of a key by the wall clock: while that is not believed, key lines say the end
/// as the wall clock will say it.
fn shift_keys(desired: &mut Desired, standing: &Standing) {
    if standing.held.is_none() {
        return;
    }
    // Rounded, so that they are not written anew at each pass.
    let ahead = SignedDuration::from_secs(standing.ahead().as_secs() / 60 * 60);
    let ends = desired.accounts.values_mut().flat_map(|gate| &mut gate.keys);
    for end in ends.filter_map(|key| key.until.as_mut()) {
        *end = end.checked_add(ahead).unwrap_or(*end);
    }
}

/// Marks an environment as worked on, and looks again when that ends, also by a panic.
struct Busy<'a> {
    reconciler: &'a Reconciler,
    id: EnvironmentId,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock(&self.reconciler.busy).remove(&self.id);
        self.reconciler.wake.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_plan::FirewallState;

    fn portal(uid: u32) -> Grant {
        Grant::Portal { uid, address: "127.64.0.1".parse().expect("an address"), port: 8080 }
    }

    fn seen(grants: &[(Grant, Option<u64>)]) -> Observed {
        let grants = grants.iter().map(|(g, left)| (g.clone(), left.map(Duration::from_secs)));
        let firewall = FirewallState { current: true, grants: grants.collect() };
        Observed { firewall, ..Observed::default() }
    }

    #[test]
    fn rights_that_are_not_as_a_pass_left_them_were_changed_by_somebody_else() {
        let now = Timestamp::UNIX_EPOCH;
        let later = |seconds| now + Duration::from_secs(seconds);
        let lease = Some(Duration::from_secs(60));
        let plan = Plan {
            cut: vec![Step::Revoke { grant: portal(1) }],
            grant: vec![Step::Grant { grant: portal(3), lease }],
            ..Plan::default()
        };
        let left = left(&seen(&[(portal(1), None), (portal(2), Some(30))]), &plan, now);
        let told = |seen: &Observed, at| changed_rights(&left, seen, later(at)).join("\n");

        // As it was left; and a lease that ran out is nobody's doing.
        assert_eq!(told(&seen(&[(portal(2), Some(25)), (portal(3), Some(55))]), 5), "");
        assert_eq!(told(&seen(&[(portal(3), Some(31))]), 29), "");
        let gone = told(&seen(&[(portal(2), Some(25))]), 5);
        assert_eq!(gone, format!("a right was taken out: {}; put back", portal(3)));
        let all = [(portal(2), Some(25)), (portal(3), Some(55)), (portal(4), None)];
        let added = told(&seen(&all), 5);
        assert_eq!(added, format!("a right was put in: {}; taken out", portal(4)));
        let other = told(&Observed::default(), 5);
        assert!(other.contains("not ours"), "{other}");
    }
}

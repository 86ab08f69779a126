//! From (desired, observed, now) to ordered steps.
//!
//! What takes access away comes first and does not wait for any environment; each environment
//! then has a queue of its own, torn down before it is built; what gives access comes last, and
//! only once an observation shows the thing that it gives access to.

use crate::{
    desired::{
        AccountGate, Desired, DesiredEnvironment, DesiredMachine, Phase, Viewer, ViewerKind,
    },
    discs,
    observed::{Disk, DiskRoom, Observed},
    shaping::wanted_shaping,
    snapshots,
    step::{Grant, SegmentHost, Step},
};
use jiff::Timestamp;
use nonstop_model::{EnvironmentId, MachineId, Power, ReachTarget, SegmentKind, SegmentName};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

/// Ordered steps: `cut`, then the environments beside each other, then `grant`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Plan {
    /// Takes access away, and what nobody owns.
    pub cut: Vec<Step>,
    /// Teardown and building, a queue for each environment.
    pub environments: BTreeMap<EnvironmentId, Vec<Step>>,
    /// Gives access.
    pub grant: Vec<Step>,
    /// Environments of which nothing is left.
    pub gone: Vec<EnvironmentId>,
    /// When to plan again even if nothing happens.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    /// All steps in an order in which they may be applied one after another.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.cut.iter().chain(self.environments.values().flatten()).chain(&self.grant)
    }

    /// Whether nothing has to be done.
    pub fn is_empty(&self) -> bool {
        self.steps().next().is_none() && self.gone.is_empty()
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// The steps that bring what was observed to what is desired at `now`.
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for until in desired.accounts.values().flat_map(|gate| &gate.keys).filter_map(|key| key.until) {
        plan.wake(until);
    }
    let granted = wanted_grants(desired, observed, now);
    let gates = wanted_gates(desired, &granted);
    let (displays, viewers) = ended_displays(desired, observed, now);
    // Viewers before their rights: the kernel lets through how their connections end, so that
    // clients are told. An owner's session is ended with sshd's, and says its last figures.
    plan.cut.extend(viewers);
    plan_cut(&mut plan, desired, observed, &granted, &gates);
    plan.cut.extend(displays);
    plan_orphans(&mut plan, desired, observed);
    for environment in desired.environments.values() {
        plan_environment(&mut plan, desired, environment, observed, now);
    }
    plan_grants(&mut plan, desired, observed, &granted, &gates, now);
    plan
}

/// Grants that are wanted, each with when it ends by itself; None for one that the tables carry.
pub type Grants = BTreeMap<Grant, Option<Timestamp>>;

/// What the kernel must let through, given what there is to give access to.
pub fn wanted_grants(desired: &Desired, observed: &Observed, now: Timestamp) -> Grants {
    let mut grants = Grants::new();
    for gate in desired.accounts.values() {
        let (uid, address) = (gate.uid, gate.address);
        for grant in [
            Grant::Portal { uid, address, port: desired.portal_port },
            Grant::Transfer { uid, address, port: desired.transfer_port },
        ] {
            grants.insert(grant, Some(Timestamp::MAX));
        }
        // The same network of two accounts is one right: it goes with the last of them.
        let sources = gate.networks().into_iter().map(|net| Grant::Source { net });
        grants.extend(sources.map(|grant| (grant, Some(Timestamp::MAX))));
    }
    for environment in desired.environments.values().filter(|e| e.phase == Phase::Live) {
        for machine in &environment.machines {
            if !machine.segments().all(|name| is_whole(observed, &name)) {
                continue;
            }
            if let Some(address) = machine.address {
                grants.insert(port_grant(machine, address), None);
            }
            if machine.networks.contains(&SegmentKind::Link) {
                grants.insert(link_grant(machine), None);
            }
            // What follows is the person's: it goes with the account.
            let Some(gate) = desired.accounts.get(&environment.account) else { continue };
            for target in &machine.reach {
                let Some(source) = machine.address else { continue };
                grants.insert(reach_grant(machine, source, target), Some(environment.until));
            }
            let Some(desktop) = machine.desktop else { continue };
            let grant =
                Grant::Desktop { uid: gate.uid, address: desktop.address, port: desktop.port };
            // A power cycle keeps the grant; the first one waits for a display, or for a guest
            // that is ready.
            let ready = match desktop.console {
                true => observed.displays.contains_key(&machine.id),
                false => {
                    machine.preparation.is_none() && observed.machines.contains_key(&machine.id)
                }
            };
            for viewer in viewers(desired, environment, machine, now) {
                let ViewerKind::Person { uid, until } = viewer.kind else { continue };
                let port = desktop.port + u16::from(viewer.id);
                let open = observed.displays.get(&machine.id);
                if open.is_some_and(|open| open.viewers.get(&viewer.id) == Some(&viewer.kind)) {
                    let grant = Grant::Desktop { uid, address: desktop.address, port };
                    grants.insert(grant, Some(until.min(environment.until)));
                }
            }
            if ready || observed.firewall.grants.contains_key(&grant) {
                grants.insert(grant, Some(environment.until));
            }
        }
    }
    grants
}

/// The right of `machine` to speak as `address` on its access segment.
pub fn port_grant(machine: &DesiredMachine, address: Ipv4Addr) -> Grant {
    Grant::Port { machine: machine.id, address, limits: (&machine.limits).into() }
}

/// The right of `machine` to speak on its link segment.
pub fn link_grant(machine: &DesiredMachine) -> Grant {
    let broadcasts_a_second = machine.limits.broadcasts_a_second;
    Grant::Link { machine: machine.id, broadcasts_a_second }
}

/// The right of `machine`, at its address `source`, to connect to `target`.
pub fn reach_grant(machine: &DesiredMachine, source: Ipv4Addr, target: &ReachTarget) -> Grant {
    Grant::Reach {
        machine: machine.id,
        environment: machine.environment,
        source,
        address: target.address,
        protocol: target.protocol,
        port: target.port,
    }
}

fn is_whole(observed: &Observed, segment: &SegmentName) -> bool {
    observed.segments.get(segment).is_some_and(|seen| seen.whole)
}

fn wanted_gates(desired: &Desired, grants: &Grants) -> BTreeMap<String, AccountGate> {
    let with_targets = |gate: &AccountGate| {
        let mut gate = gate.clone();
        gate.targets = grants
            .keys()
            .filter_map(|grant| match grant {
                Grant::Portal { uid, address, port }
                | Grant::Transfer { uid, address, port }
                | Grant::Desktop { uid, address, port }
                    if *uid == gate.uid =>
                {
                    Some((*address, *port))
                }
                _ => None,
            })
            .collect();
        gate.targets.sort();
        (gate.name.to_string(), gate)
    };
    desired.accounts.values().filter(|gate| !gate.keys.is_empty()).map(with_targets).collect()
}

fn plan_cut(
    plan: &mut Plan,
    desired: &Desired,
    observed: &Observed,
    granted: &Grants,
    gates: &BTreeMap<String, AccountGate>,
) {
    let seen = &observed.gate;
    for account in seen.accounts.keys().chain(&seen.broken) {
        match (gates.get(account.as_str()), seen.accounts.get(account)) {
            // Nobody more comes in by what was taken away; sessions that did end one by one below,
            // and those of the person's other cards and places go on.
            (Some(wanted), Some(gate)) if gate.lets_in_more_than(wanted) => {
                let mut narrower = wanted.clone();
                narrower.targets.retain(|target| gate.targets.contains(target));
                plan.cut.push(Step::OpenGate { gate: narrower });
            }
            (Some(_), _) => {}
            (None, _) => plan.cut.push(Step::CloseGate { account: account.clone() }),
        }
    }
    if !observed.firewall.current {
        plan.cut.push(Step::LoadFirewall);
    } else {
        for grant in observed.firewall.grants.keys().filter(|g| !granted.contains_key(g)) {
            plan.cut.push(Step::Revoke { grant: grant.clone() });
        }
    }
    let may_log_in: BTreeSet<u32> = gates.values().map(|gate| gate.uid).collect();
    let open: BTreeSet<u32> = observed.gate.sessions.values().copied().collect();
    for uid in open.difference(&may_log_in) {
        plan.cut.push(Step::EndSessions { uid: *uid });
    }
    for session in desired.sessions_to_end.iter().filter(|s| may_log_in.contains(&s.uid)) {
        let there = observed.gate.sessions.get(&session.pid) == Some(&session.uid);
        if there && session.run == observed.run.0 {
            plan.cut.push(Step::EndSession { session: session.clone() });
        }
    }
}

/// How displays, and viewers of others, end whose right has ended.
fn ended_displays(
    desired: &Desired,
    observed: &Observed,
    now: Timestamp,
) -> (Vec<Step>, Vec<Step>) {
    let (mut ended, mut ended_viewers) = (Vec::new(), Vec::new());
    for (id, seen) in &observed.displays {
        let wanted = desired.environments.values().find_map(|environment| {
            let machine = environment.machines.iter().find(|m| m.id == *id)?;
            serves_display(desired, environment, machine).then_some((environment, machine))
        });
        let Some((environment, machine)) = wanted else {
            ended.push(Step::CloseDisplay { machine: *id });
            continue;
        };
        for (viewer, kind) in &seen.viewers {
            let still = viewers(desired, environment, machine, now);
            if !still.into_iter().any(|v| v.id == *viewer && v.kind == *kind) {
                ended_viewers.push(Step::CloseViewer { machine: *id, viewer: *viewer });
            }
        }
    }
    (ended, ended_viewers)
}

/// A display is served for as long as its owner may look at it.
fn serves_display(
    desired: &Desired,
    environment: &DesiredEnvironment,
    machine: &DesiredMachine,
) -> bool {
    environment.phase == Phase::Live
        && desired.accounts.contains_key(&environment.account)
        && machine.desktop.is_some_and(|desktop| desktop.console)
}

/// Viewers of `machine` whose right has not ended.
fn viewers<'a>(
    desired: &Desired,
    environment: &DesiredEnvironment,
    machine: &'a DesiredMachine,
    now: Timestamp,
) -> Vec<&'a Viewer> {
    if !serves_display(desired, environment, machine) {
        return Vec::new();
    }
    let in_time = |viewer: &&Viewer| match viewer.kind {
        ViewerKind::Person { until, .. } => now < until,
        ViewerKind::Recorder { .. } => true,
    };
    machine.viewers.iter().filter(in_time).collect()
}

/// What is on the host and belongs to no environment that we know.
fn plan_orphans(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    let known: BTreeSet<MachineId> =
        desired.environments.values().flat_map(|e| &e.machines).map(|m| m.id).collect();
    for (id, machine) in observed.machines.iter().filter(|(id, _)| !known.contains(id)) {
        let queue = plan.environments.entry(machine.environment).or_default();
        queue.push(Step::StopMachine { machine: *id });
    }
    for segment in observed.segments.keys() {
        if !desired.environments.contains_key(&segment.environment()) {
            let queue = plan.environments.entry(segment.environment()).or_default();
            queue.push(Step::RemoveSegment { segment: segment.clone() });
        }
    }
    for ((machine, generation), disk) in &observed.disks {
        // A disk is moved only once nothing runs on it.
        if known.contains(machine) || observed.machines.contains_key(machine) {
            continue;
        }
        let (machine, generation) = (*machine, *generation);
        plan.cut.push(match disk {
            Disk::Whole => Step::QuarantineDisk { machine, generation },
            Disk::Partial => Step::DestroyDisk { machine, generation },
        });
    }
}

fn plan_environment(
    plan: &mut Plan,
    desired: &Desired,
    environment: &DesiredEnvironment,
    observed: &Observed,
    now: Timestamp,
) {
    let mut queue = Vec::new();
    match environment.phase {
        Phase::Waiting => plan.wake(environment.from),
        Phase::Live => {
            plan.wake(environment.until);
            build(plan, &mut queue, environment, observed, now);
            show(plan, &mut queue, desired, environment, observed, now);
        }
        Phase::Grace => {
            environment.destroy_at.into_iter().for_each(|at| plan.wake(at));
            stop(plan, &mut queue, environment, observed, now);
            remove_segments(&mut queue, environment, observed);
            discs::drop_all(&mut queue, environment, observed);
        }
        Phase::Destroy => {
            for machine in running(environment, observed) {
                queue.push(Step::StopMachine { machine: machine.id });
            }
            remove_segments(&mut queue, environment, observed);
            for ((machine, generation), _) in disks_of(environment, observed) {
                queue.push(Step::DestroyDisk { machine, generation });
            }
            if queue.is_empty() {
                plan.gone.push(environment.id);
            }
        }
    }
    if !queue.is_empty() {
        plan.environments.insert(environment.id, queue);
    }
}

fn build(
    plan: &mut Plan,
    queue: &mut Vec<Step>,
    environment: &DesiredEnvironment,
    observed: &Observed,
    now: Timestamp,
) {
    let wanted = environment.segments();
    let mut stopped = BTreeSet::new();
    for machine in &environment.machines {
        let runs = observed.machines.get(&machine.id);
        let whole = machine.segments().all(|name| is_whole(observed, &name));
        if environment.taking(machine.id).is_some() && whole {
            continue;
        } else if machine.power == Power::Off && runs.is_some() {
            plan.wake(machine.force_off_at.max(now));
            queue.push(power_off(machine, now));
        } else if runs.is_some_and(|seen| !whole || seen.generation != machine.generation) {
            // A guest whose bridge went away has lost its network for good: it starts anew.
            queue.push(Step::StopMachine { machine: machine.id });
            stopped.insert(machine.id);
        }
    }
    for name in segments_of(environment, observed) {
        if !(is_whole(observed, name) && wanted.contains(name)) {
            queue.push(Step::RemoveSegment { segment: name.clone() });
        }
    }
    for ((machine, generation), disk) in disks_of(environment, observed) {
        let of = |m: &&DesiredMachine| m.id == machine;
        let owner = environment.machines.iter().find(of);
        let current = owner.is_some_and(|m| m.generation == generation);
        let frozen = owner.is_some_and(|m| m.frozen.iter().any(|f| f.generation == generation));
        // One that is frozen cannot be made again. One younger than the current is of a time that
        // the database knows nothing of: an old backup of it was restored.
        let younger = owner.is_some_and(|m| m.generation < generation);
        if younger && disk == Disk::Whole {
            queue.push(Step::QuarantineDisk { machine, generation });
        } else if !frozen && (!current || disk == Disk::Partial) {
            queue.push(Step::DestroyDisk { machine, generation });
        }
    }
    for segment in wanted.into_iter().filter(|name| !is_whole(observed, name)) {
        queue.push(match segment.kind() {
            SegmentKind::Access => Step::CreateSegment {
                segment: environment.segment.clone(),
                hosts: hosts(environment),
                names: names(&environment.machines),
            },
            SegmentKind::Link => Step::CreateLink { segment },
        });
    }
    for machine in &environment.machines {
        if observed.disks.get(&(machine.id, machine.generation)) != Some(&Disk::Whole) {
            queue.push(Step::CreateDisk { machine: machine.clone() });
        }
    }
    snapshots::drop_memory(queue, environment, observed);
    snapshots::take(queue, environment, observed);
    discs::make(queue, environment, observed);
    let mut paused = Vec::new();
    let on = |m: &&DesiredMachine| m.power == Power::On && environment.taking(m.id).is_none();
    for machine in environment.machines.iter().filter(on) {
        match observed.machines.get(&machine.id) {
            Some(_) if !stopped.contains(&machine.id) => {
                if let Some(memory) = machine.resume {
                    // An interruption left it so; what is to be known of it is not recorded yet.
                    queue.push(Step::RestoreMachine { machine: machine.clone(), memory });
                    paused.push(machine.id);
                } else if observed.paused.contains(&machine.id) {
                    if observed.room == DiskRoom::Plenty {
                        paused.push(machine.id);
                    }
                } else if observed.room == DiskRoom::Low && observed.writing.contains(&machine.id) {
                    queue.push(Step::HoldMachine { machine: machine.id });
                } else if machine.reset_pending {
                    queue.push(Step::ResetMachine { machine: machine.id });
                } else if machine.preparation.is_some() {
                    queue.push(Step::PrepareMachine { machine: machine.clone() });
                }
            }
            _ => match machine.resume {
                // One that is not there is known as such by the next pass.
                Some(memory) if !snapshots::is_there(machine, memory, observed) => {}
                Some(memory) => {
                    queue.push(Step::RestoreMachine { machine: machine.clone(), memory });
                    paused.push(machine.id);
                }
                None => queue.push(Step::StartMachine { machine: machine.clone() }),
            },
        }
    }
    discs::change(queue, environment, observed);
    // After all have been started, so that what they had open between them goes on.
    queue.extend(paused.into_iter().map(|machine| Step::ResumeMachine { machine }));
}

/// Serves the displays, before the guests start, so that a client sees them from the firmware on.
fn show(
    plan: &mut Plan,
    queue: &mut Vec<Step>,
    desired: &Desired,
    environment: &DesiredEnvironment,
    observed: &Observed,
    now: Timestamp,
) {
    let mut first = Vec::new();
    for machine in environment.machines.iter().filter(|m| serves_display(desired, environment, m)) {
        let id = machine.id;
        let seen = observed.displays.get(&id);
        if seen.is_none() {
            first.push(Step::OpenDisplay { machine: id });
        }
        let starts = queue.iter().position(|step| match step {
            Step::StartMachine { machine } | Step::RestoreMachine { machine, .. } => {
                machine.id == id
            }
            _ => false,
        });
        let stops = queue.contains(&Step::StopMachine { machine: id });
        let runs = observed.machines.contains_key(&id) && !stops;
        match starts {
            Some(at) => queue.insert(at + 1, Step::AttachDisplay { machine: id }),
            None if runs && !seen.is_some_and(|seen| seen.attached) => {
                queue.insert(0, Step::AttachDisplay { machine: id });
            }
            None => {}
        }
        for viewer in viewers(desired, environment, machine, now) {
            if let ViewerKind::Person { until, .. } = viewer.kind {
                plan.wake(until);
            }
            if seen.is_some_and(|seen| !seen.viewers.contains_key(&viewer.id)) {
                queue.push(Step::OpenViewer { machine: id, viewer: viewer.clone() });
            }
        }
    }
    queue.splice(0..0, first);
}

fn hosts(environment: &DesiredEnvironment) -> Vec<SegmentHost> {
    let machines = environment.machines.iter();
    machines.filter_map(|m| Some(SegmentHost { machine: m.id, address: m.address? })).collect()
}

/// The names that `machines` resolve: of what they reach.
pub fn names(machines: &[DesiredMachine]) -> BTreeMap<String, Ipv4Addr> {
    let targets = machines.iter().flat_map(|machine| &machine.reach);
    targets.map(|target| (target.server.clone(), target.address)).collect()
}

fn power_off(machine: &DesiredMachine, now: Timestamp) -> Step {
    if now < machine.force_off_at {
        Step::ShutdownMachine { machine: machine.id }
    } else {
        Step::StopMachine { machine: machine.id }
    }
}

fn stop(
    plan: &mut Plan,
    queue: &mut Vec<Step>,
    environment: &DesiredEnvironment,
    observed: &Observed,
    now: Timestamp,
) {
    for machine in running(environment, observed) {
        plan.wake(machine.force_off_at.max(now));
        queue.push(power_off(machine, now));
    }
}

/// Removes the bridges once nothing stands on them.
fn remove_segments(queue: &mut Vec<Step>, environment: &DesiredEnvironment, observed: &Observed) {
    if queue.iter().any(|step| matches!(step, Step::ShutdownMachine { .. })) {
        return;
    }
    for segment in segments_of(environment, observed) {
        queue.push(Step::RemoveSegment { segment: segment.clone() });
    }
}

/// The segments of `environment` that are there, wanted or not.
fn segments_of<'a>(
    environment: &'a DesiredEnvironment,
    observed: &'a Observed,
) -> impl Iterator<Item = &'a SegmentName> {
    observed.segments.keys().filter(|name| name.environment() == environment.id)
}

fn running<'a>(
    environment: &'a DesiredEnvironment,
    observed: &'a Observed,
) -> impl Iterator<Item = &'a DesiredMachine> {
    environment.machines.iter().filter(|m| observed.machines.contains_key(&m.id))
}

fn disks_of<'a>(
    environment: &'a DesiredEnvironment,
    observed: &'a Observed,
) -> impl Iterator<Item = ((MachineId, u32), Disk)> + 'a {
    let ours = |id: MachineId| environment.machines.iter().any(|m| m.id == id);
    observed.disks.iter().filter(move |((id, _), _)| ours(*id)).map(|(key, disk)| (*key, *disk))
}

fn plan_grants(
    plan: &mut Plan,
    desired: &Desired,
    observed: &Observed,
    granted: &Grants,
    gates: &BTreeMap<String, AccountGate>,
    now: Timestamp,
) {
    for (grant, until) in granted {
        let seen = observed.firewall.grants.get(grant);
        let Some(until) = until else {
            if seen.is_none() {
                plan.grant.push(Step::Grant { grant: grant.clone(), lease: None });
            }
            continue;
        };
        let lease = remaining(now, *until).min(desired.lease);
        // One that lasts longer than it may was changed by somebody else.
        let most = lease + Duration::from_secs(5);
        let fresh = matches!(seen, Some(Some(left)) if *left * 2 > lease && *left <= most);
        if !fresh && !lease.is_zero() {
            plan.grant.push(Step::Grant { grant: grant.clone(), lease: Some(lease) });
        }
        if let Ok(half) = jiff::SignedDuration::try_from(desired.lease / 3) {
            plan.wake(now.checked_add(half).unwrap_or(Timestamp::MAX));
        }
    }
    // Nobody gets in, or to another desktop, before the limit holds. Leases that are renewed do not
    // wait for it.
    let shaping = wanted_shaping(desired, granted);
    if observed.shaping != shaping {
        plan.grant.push(Step::Shape { shaping });
    }
    for gate in gates.values() {
        for end in gate.keys.iter().filter_map(|key| key.until) {
            plan.wake(end);
        }
        let seen = observed.gate.accounts.get(&gate.name);
        if seen != Some(gate) {
            plan.grant.push(Step::OpenGate { gate: gate.clone() });
        }
    }
}

/// The time from `now` to `until`; zero if that is past.
fn remaining(now: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default()
}

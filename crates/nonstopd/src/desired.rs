//! From the database to what is wanted on the host at a time.

use jiff::Timestamp;
use nonstop_model::{
    Account, AccountState, Disc, Environment, EnvironmentId, EnvironmentState, EnvironmentTemplate,
    Lab, Limits, Machine, MachineId, MachineProfile, MachineRole, RdpPolicy, ReachTarget, Segment,
    Snapshot, SnapshotState, network::display_address, snapshot::frozen, template::MachineTemplate,
};
use nonstop_plan::{
    AccountGate, Desired, DesiredEnvironment, DesiredMachine, Desktop, GateKey, Phase,
    SessionToEnd, Take, Viewer, ViewerKind,
};
use nonstop_store::{Read, StoreError};
use std::collections::BTreeMap;

/// Everything that `lab` wants at `now`.
pub fn desired(read: &Read<'_>, lab: &Lab, now: Timestamp) -> Result<Desired, StoreError> {
    let accounts = read.accounts()?.into_iter().filter(|a| a.state == AccountState::Active);
    let accounts: Vec<_> = accounts.collect();
    let bandwidth_kbit = bandwidth(read, lab, &accounts)?;
    let accounts = accounts.into_iter().map(|account| {
        let gate = AccountGate {
            name: account.name.clone(),
            uid: account.uid,
            address: account.address,
            keys: keys(&account, lab, now),
            sources: account.sources,
            targets: Vec::new(),
        };
        (account.name, gate)
    });
    let environments = read.environments(lab.network.pool, false)?;
    let mut viewers = viewers(read, now)?;
    let snapshots = snapshots(read)?;
    let mut discs: Discs = read.discs()?.into_iter().collect();
    let none = Vec::new();
    Ok(Desired {
        accounts: accounts.collect(),
        environments: environments
            .into_iter()
            .map(|e| {
                let of_it = snapshots.get(&e.id).unwrap_or(&none);
                (e.id, environment(e, lab, &mut viewers, &mut discs, of_it, now))
            })
            .collect(),
        lease: lab.lease(),
        bandwidth_kbit,
        portal_port: lab.portal.port,
        transfer_port: lab.airlock.outside_port,
        sessions_to_end: sessions_to_end(read, lab, now)?,
    })
}

/// The keys that log in to `account` at `now`.
fn keys(account: &Account, lab: &Lab, now: Timestamp) -> Vec<GateKey> {
    let opening = account.keys.iter().filter(|key| key.opens(now, lab.software_keys));
    opening.map(|key| GateKey { key: key.key.clone(), until: key.expires_at }).collect()
}

/// The limits of `accounts` in kbit/s, by uid.
fn bandwidth(
    read: &Read<'_>,
    lab: &Lab,
    accounts: &[Account],
) -> Result<BTreeMap<u32, u32>, StoreError> {
    let own = read.bandwidths()?;
    let limit = |account: &Account| {
        let own = own.get(&account.id).copied().unwrap_or_default();
        Some((account.uid, own.kbit(account.role, lab.gateway.bandwidth_kbit)?))
    };
    Ok(accounts.iter().filter_map(limit).collect())
}

/// Open sessions of active accounts that have lost what let them in: their card, or the address that
/// they come from; or that somebody wants to end.
fn sessions_to_end(
    read: &Read<'_>,
    lab: &Lab,
    now: Timestamp,
) -> Result<Vec<SessionToEnd>, StoreError> {
    let mut ending = Vec::new();
    for session in read.sessions(false)? {
        let account = read.account(&session.account)?;
        let why = if session.ending {
            session.ended.clone()
        } else if !holds(&account, &session.fingerprint, now, lab.software_keys) {
            "its card is not valid any more".into()
        } else if !may_come_from(&account, &session.source) {
            "its source address is not registered any more".into()
        } else {
            continue;
        };
        let (id, pid, run) = (session.id, session.pid, session.run);
        ending.push(SessionToEnd { id, pid, uid: account.uid, run, why });
    }
    Ok(ending)
}

/// Whether the key with this fingerprint logs in to `account` at `now`.
pub(crate) fn holds(
    account: &Account,
    fingerprint: &str,
    now: Timestamp,
    software_keys: bool,
) -> bool {
    let mut keys = account.keys.iter();
    keys.any(|key| key.fingerprint == fingerprint && key.opens(now, software_keys))
}

/// Whether `account` may come from `source`.
pub(crate) fn may_come_from(account: &Account, source: &str) -> bool {
    let from = source.parse::<std::net::Ipv4Addr>();
    account.sources.is_empty()
        || from.is_ok_and(|from| account.sources.iter().any(|net| net.contains(&from)))
}

/// Snapshots by environment.
fn snapshots(read: &Read<'_>) -> Result<BTreeMap<EnvironmentId, Vec<Snapshot>>, StoreError> {
    let mut by_environment = BTreeMap::<_, Vec<_>>::new();
    for snapshot in read.snapshots(None)? {
        by_environment.entry(snapshot.environment).or_default().push(snapshot);
    }
    Ok(by_environment)
}

/// The discs that are wanted in drives, by machine.
type Discs = BTreeMap<MachineId, Disc>;

/// Who looks at displays beside their owners, by machine.
type Viewers = BTreeMap<MachineId, Vec<Viewer>>;

fn viewers(read: &Read<'_>, now: Timestamp) -> Result<Viewers, StoreError> {
    let mut viewers = Viewers::new();
    for grant in read.view_grants(None, now)? {
        let uid = read.account(&grant.account)?.uid;
        let kind = ViewerKind::Person { uid, until: grant.until };
        viewers.entry(grant.machine).or_default().push(Viewer { id: grant.viewer, kind });
    }
    for recording in read.recordings(false)? {
        let kind = ViewerKind::Recorder { recording: recording.id, max_bytes: recording.max_bytes };
        viewers.entry(recording.machine).or_default().push(Viewer { id: recording.viewer, kind });
    }
    Ok(viewers)
}

fn environment(
    environment: Environment,
    lab: &Lab,
    viewers: &mut Viewers,
    discs: &mut Discs,
    snapshots: &[Snapshot],
    now: Timestamp,
) -> DesiredEnvironment {
    let (phase, destroy_at) = match environment.state {
        EnvironmentState::Granted if now < environment.period.from() => (Phase::Waiting, None),
        // Past its end it is `Ended` by the same pass, before the plan is made.
        EnvironmentState::Granted => (Phase::Live, None),
        EnvironmentState::Ended { destroy_at } if now < destroy_at => {
            (Phase::Grace, Some(destroy_at))
        }
        EnvironmentState::Ended { destroy_at } => (Phase::Destroy, Some(destroy_at)),
        EnvironmentState::Gone => (Phase::Destroy, None),
    };
    let machines = environment.machines.iter();
    let machines =
        machines.map(|m| machine(m, &environment, lab, viewers, discs, snapshots)).collect();
    let taking = snapshots.iter().find(|s| s.state == SnapshotState::Taking).map(|s| Take {
        snapshot: s.id,
        machines: s.machines.iter().map(|m| (m.machine, m.memory)).collect(),
    });
    DesiredEnvironment {
        id: environment.id,
        account: environment.account.clone(),
        segment: environment.segment.clone(),
        phase,
        from: environment.period.from(),
        until: environment.period.until(),
        destroy_at,
        taking,
        edition: environment.template.domain.clone(),
        machines,
    }
}

/// Whether the agent of a machine of `template` may be spoken with: a debuggee has no port for that
/// unless its template lets samples in by it.
pub fn speaks(template: &MachineTemplate) -> bool {
    template.role != MachineRole::Debuggee || template.agent
}

/// Whether the machine of `role` has a drive for discs with samples.
pub fn has_drive(template: &EnvironmentTemplate, role: MachineRole) -> bool {
    template.takes_samples().is_some_and(|takes| takes.role == role)
}

/// Where the desktop of `machine` is; None where it has none.
pub fn desktop(machine: &Machine, environment: &Environment) -> Option<Desktop> {
    let port = machine.desktop_port?;
    let template = environment.template.machine(machine.role)?;
    let console = environment.template.desktop_of(template) == RdpPolicy::Console;
    let address = if console { display_address(machine.id) } else { machine.address? };
    Some(Desktop { console, address, port })
}

/// What a machine of `template` on `segment` may connect to. A server that `lab.yaml` does not
/// name any more is left out: nothing of it can be reached.
pub fn reach(
    lab: &Lab,
    domain: Option<&str>,
    template: &MachineTemplate,
    segment: &Segment,
) -> Vec<ReachTarget> {
    let targets = template.reach.iter().filter_map(|name| lab.targets(domain, name, segment));
    targets.flatten().collect()
}

fn machine(
    machine: &Machine,
    environment: &Environment,
    lab: &Lab,
    viewers: &mut Viewers,
    discs: &mut Discs,
    snapshots: &[Snapshot],
) -> DesiredMachine {
    let preparation = match &machine.guest_user {
        Some(user) if !machine.prepared => Some((user.clone(), machine.password.clone())),
        _ => None,
    };
    // As its template said when it was granted.
    let template = environment.template.machine(machine.role);
    DesiredMachine {
        id: machine.id,
        environment: environment.id,
        role: machine.role,
        image: machine.image.clone(),
        image_digest: machine.image_digest.clone(),
        profile: template.map_or_else(MachineProfile::default, |t| t.profile),
        uid: machine.uid(),
        address: machine.address,
        networks: template.map_or_else(Vec::new, |t| t.networks.clone()),
        reach: template.map_or_else(Vec::new, |t| {
            reach(lab, environment.template.domain.as_deref(), t, &environment.segment)
        }),
        limits: template.map_or_else(Limits::default, |t| t.limits.clone()),
        memory_mib: machine.memory_mib,
        vcpus: machine.vcpus,
        generation: machine.generation,
        origin: machine.origin,
        resume: machine.resume,
        frozen: frozen(machine.id, machine.origin, snapshots),
        power: machine.power,
        force_off_at: machine.force_off_at,
        reset_pending: machine.reset_pending,
        preparation,
        desktop: desktop(machine, environment),
        viewers: viewers.remove(&machine.id).unwrap_or_default(),
        agent: template.is_none_or(speaks),
        drive: has_drive(&environment.template, machine.role),
        disc: discs.remove(&machine.id),
        seen_in: machine.seen_in.clone(),
    }
}

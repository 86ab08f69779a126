//! Named snapshots: taken, listed, returned to and deleted by whoever may revert.

use super::{
    Service,
    environments::{known_role, may_go_back, roles},
    refusal,
};
use crate::caller::Caller;
use nonstop_api::{ApiError, ErrorCode, Reply, SnapshotMachineView, SnapshotView};
use nonstop_model::{
    Environment, EnvironmentId, Machine, MachineRole, Power, Snapshot, SnapshotName, SnapshotState,
};
use nonstop_plan::Observed;
use nonstop_store::StoreError;

impl Service {
    pub(super) fn snapshot_list(
        &self,
        caller: &Caller,
        id: EnvironmentId,
    ) -> Result<Reply, ApiError> {
        self.own_environment(caller, id)?;
        let mut all = self.db.read(|read| read.snapshots(Some(id))).map_err(refusal)?;
        all.retain(|snapshot| snapshot.state != SnapshotState::Deleted);
        let observed = self.status.observed();
        Ok(Reply::Snapshots(all.into_iter().map(|s| view(s, &observed)).collect()))
    }

    pub(super) fn snapshot_take(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        name: &SnapshotName,
        role: Option<MachineRole>,
    ) -> Result<Reply, ApiError> {
        let environment = self.granted(caller, id)?;
        may_keep(&environment)?;
        known_role(&environment, role).map_err(refusal)?;
        let wanted: Vec<MachineRole> = roles(&environment, role).collect();
        let machines = environment.machines.iter().filter(|m| wanted.contains(&m.role));
        let machines: Vec<Machine> = machines.cloned().collect();
        let observed = self.status.observed();
        if let Some(machine) = machines.iter().find(|m| !is_settled(m, &observed)) {
            let message = format!("the {} is just being started or stopped", machine.role);
            return Err(ApiError::new(ErrorCode::Conflict, message)
                .help("take the snapshot once it runs or is off"));
        }
        let at_most = environment.template.snapshots;
        self.commit(caller, |w| {
            // A child may still be at one that was ended.
            if let Some(given) = machines.iter().find_map(|m| self.status.given(m.id)) {
                return Err(StoreError::BeingInjected(given));
            }
            w.take_snapshot(id, name, &machines, at_most)
        })?;
        self.status.forgive(id);
        Ok(Reply::Done)
    }

    pub(super) fn snapshot_return(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        name: &SnapshotName,
        role: Option<MachineRole>,
    ) -> Result<Reply, ApiError> {
        let environment = self.granted(caller, id)?;
        may_go_back(&environment)?;
        let snapshot = self.db.read(|read| read.snapshot(id, name)).map_err(refusal)?;
        if snapshot.state != SnapshotState::Whole {
            let message = format!("the snapshot `{name}` is not there to return to");
            return Err(ApiError::new(ErrorCode::Conflict, message)
                .help(format!("see `nonstop environment snapshot list {id}`")));
        }
        let has = snapshot.machines.iter().map(|m| m.role);
        let roles: Vec<MachineRole> = has.filter(|r| role.is_none_or(|one| one == *r)).collect();
        if roles.is_empty() {
            let message = format!("the snapshot `{name}` has no such machine");
            return Err(ApiError::new(ErrorCode::NotFound, message));
        }
        self.commit(caller, |w| w.return_to_snapshot(&snapshot, &roles))?;
        self.status.forgive(id);
        Ok(Reply::Done)
    }

    pub(super) fn snapshot_delete(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        name: &SnapshotName,
    ) -> Result<Reply, ApiError> {
        self.granted(caller, id)?;
        let snapshot = self.db.read(|read| read.snapshot(id, name)).map_err(refusal)?;
        self.commit(caller, |w| w.delete_snapshot(&snapshot))?;
        self.status.forgive(id);
        Ok(Reply::Done)
    }
}

/// Errors: the template lets nothing be kept, or nothing be returned to.
fn may_keep(environment: &Environment) -> Result<(), ApiError> {
    may_go_back(environment)?;
    if environment.template.snapshots > 0 {
        return Ok(());
    }
    let template = &environment.template_name;
    let message = format!("the template `{template}` allows no snapshots");
    Err(ApiError::new(ErrorCode::Forbidden, message)
        .help("an admin sets `snapshots` in the template, for environments granted after that"))
}

/// Whether a machine is where it is wanted, so that it is clear what would be kept.
fn is_settled(machine: &Machine, observed: &Observed) -> bool {
    let seen = observed.machines.get(&machine.id);
    match machine.power {
        Power::Off => seen.is_none(),
        Power::On => {
            let runs = seen.is_some_and(|seen| seen.generation == machine.generation);
            runs && !observed.paused.contains(&machine.id)
        }
    }
}

fn view(snapshot: Snapshot, observed: &Observed) -> SnapshotView {
    let whole = snapshot.state == SnapshotState::Whole;
    let machines: Vec<SnapshotMachineView> = snapshot
        .machines
        .iter()
        .map(|m| SnapshotMachineView {
            machine: m.machine,
            role: m.role,
            memory: m.memory,
            bytes: match observed.bytes.get(&(m.machine, m.generation)) {
                Some(bytes) if whole => *bytes,
                Some(_) | None => 0,
            },
        })
        .collect();
    SnapshotView {
        id: snapshot.id,
        environment: snapshot.environment,
        name: snapshot.name,
        asked_at: snapshot.asked_at,
        state: snapshot.state,
        bytes: machines.iter().map(|m| m.bytes).sum(),
        machines,
    }
}

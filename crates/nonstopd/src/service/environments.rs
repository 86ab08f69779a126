//! Environments: how far they are, and switching, reverting, extending and ending them.

use super::{Service, refusal, requests::fresh_password};
use crate::{caller::Caller, desired::desktop};
use jiff::Timestamp;
use nonstop_api::{
    ApiError, DesktopView, EnvironmentStateView, EnvironmentView, ErrorCode, MachineStateView,
    MachineView, PowerAction, Problem, Reply,
};
use nonstop_model::{
    AccountName, Environment, EnvironmentId, EnvironmentState, Machine, MachineRole, Period, Power,
    RevertPolicy, lab::ACCOUNT_UIDS,
};
use nonstop_plan::{Desktop, DiskRoom, Grant, Observed};
use std::time::Duration;

/// How long a guest may take to shut down before it is stopped.
const SHUTDOWN: Duration = Duration::from_secs(30);

impl Service {
    pub(super) fn environment_list(&self, caller: &Caller, all: bool) -> Result<Reply, ApiError> {
        let pool = self.lab.network.pool;
        let mut environments =
            self.db.read(|read| read.environments(pool, all)).map_err(refusal)?;
        if !caller.is_staff() {
            let own = caller.account().map(|account| &account.name);
            environments.retain(|environment| Some(&environment.account) == own);
        }
        let observed = self.status.observed();
        let views = environments.iter().map(|e| self.environment_view(caller, e, &observed));
        Ok(Reply::Environments(views.collect()))
    }

    /// What `name` has that is not gone.
    pub(super) fn environments_of(
        &self,
        caller: &Caller,
        name: &AccountName,
    ) -> Result<Vec<EnvironmentView>, ApiError> {
        let pool = self.lab.network.pool;
        let environments = self.db.read(|read| read.environments(pool, false)).map_err(refusal)?;
        let observed = self.status.observed();
        let own = environments.iter().filter(|environment| environment.account == *name);
        Ok(own.map(|e| self.environment_view(caller, e, &observed)).collect())
    }

    pub(super) fn environment_show(
        &self,
        caller: &Caller,
        id: EnvironmentId,
    ) -> Result<Reply, ApiError> {
        let environment = self.own_environment(caller, id)?;
        let view = self.environment_view(caller, &environment, &self.status.observed());
        Ok(Reply::Environment(view))
    }

    pub(super) fn environment_power(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        role: Option<MachineRole>,
        action: PowerAction,
    ) -> Result<Reply, ApiError> {
        let environment = self.granted(caller, id)?;
        let now = self.now();
        self.commit(caller, |w| {
            for role in roles(&environment, role) {
                match action {
                    PowerAction::On => w.set_power(id, role, Power::On, now)?,
                    PowerAction::Off => {
                        let force = now.checked_add(SHUTDOWN).unwrap_or(Timestamp::MAX);
                        w.set_power(id, role, Power::Off, force)?;
                    }
                    PowerAction::Kill => w.set_power(id, role, Power::Off, now)?,
                    PowerAction::Reset => w.ask_reset(id, role)?,
                }
            }
            known_role(&environment, role)
        })?;
        self.status.forgive(id);
        Ok(Reply::Done)
    }

    pub(super) fn environment_revert(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        role: Option<MachineRole>,
    ) -> Result<Reply, ApiError> {
        let environment = self.granted(caller, id)?;
        may_go_back(&environment)?;
        self.commit(caller, |w| {
            for role in roles(&environment, role) {
                w.revert(id, role, &fresh_password())?;
            }
            known_role(&environment, role)
        })?;
        self.status.forgive(id);
        Ok(Reply::Done)
    }

    pub(super) fn environment_end(
        &self,
        caller: &Caller,
        id: EnvironmentId,
    ) -> Result<Reply, ApiError> {
        self.granted(caller, id)?;
        let destroy_at = self.grace_end();
        self.commit(caller, |w| w.end_environment(id, destroy_at))?;
        Ok(Reply::Done)
    }

    pub(super) fn environment_extend(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        until: Timestamp,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let environment = self.granted(caller, id)?;
        if until <= self.now() {
            return Err(ApiError::new(ErrorCode::Invalid, "the new end lies in the past")
                .help("use `environment end` to end it now"));
        }
        let period = Period::new(environment.period.from(), until)
            .map_err(|e| ApiError::new(ErrorCode::Invalid, e.to_string()))?;
        self.check_period(period)?;
        self.commit(caller, |w| w.extend_environment(id, until, self.room))?;
        Ok(Reply::Done)
    }

    /// When disks of something that ends now are destroyed.
    pub(super) fn grace_end(&self) -> Timestamp {
        let grace = Duration::from_secs(self.lab.grace_seconds.into());
        self.now().checked_add(grace).unwrap_or(Timestamp::MAX)
    }

    pub(super) fn own_environment(
        &self,
        caller: &Caller,
        id: EnvironmentId,
    ) -> Result<Environment, ApiError> {
        let pool = self.lab.network.pool;
        let environment = self.db.read(|read| read.environment(pool, id)).map_err(refusal)?;
        caller.must_own(&environment.account, &format!("environment {id}"))?;
        Ok(environment)
    }

    pub(super) fn granted(
        &self,
        caller: &Caller,
        id: EnvironmentId,
    ) -> Result<Environment, ApiError> {
        let environment = self.own_environment(caller, id)?;
        match environment.state {
            EnvironmentState::Granted => Ok(environment),
            EnvironmentState::Ended { .. } | EnvironmentState::Gone => {
                Err(ApiError::new(ErrorCode::Conflict, format!("environment {id} has ended")))
            }
        }
    }

    fn environment_view(
        &self,
        caller: &Caller,
        environment: &Environment,
        observed: &Observed,
    ) -> EnvironmentView {
        let account = self.db.read(|read| read.account(&environment.account));
        let uid = account.map_or(ACCOUNT_UIDS, |account| account.uid);
        let may_see_password = match caller.account() {
            Some(own) => own.name == environment.account,
            None => true,
        };
        let machines: Vec<MachineView> = environment
            .machines
            .iter()
            .map(|machine| machine_view(machine, environment, uid, observed, may_see_password))
            .collect();
        let (state, destroy_at) = match environment.state {
            EnvironmentState::Gone => (EnvironmentStateView::Gone, None),
            EnvironmentState::Ended { destroy_at } => {
                (EnvironmentStateView::Ended, Some(destroy_at))
            }
            EnvironmentState::Granted if self.now() < environment.period.from() => {
                (EnvironmentStateView::Waiting, None)
            }
            EnvironmentState::Granted if machines.iter().all(settled) => {
                (EnvironmentStateView::Ready, None)
            }
            EnvironmentState::Granted => (EnvironmentStateView::Preparing, None),
        };
        let gone = state == EnvironmentStateView::Gone;
        EnvironmentView {
            id: environment.id,
            account: environment.account.clone(),
            template: environment.template_name.clone(),
            title: environment.template.title.clone(),
            title_ja: environment.template.title_ja.clone(),
            period: environment.period,
            state,
            destroy_at,
            rdp: environment.template.rdp,
            rdp_reason: match caller.is_staff() {
                true => environment.template.rdp_reason.clone(),
                false => String::new(),
            },
            revert: environment.template.revert,
            snapshots: environment.template.snapshots,
            problem: if gone {
                None
            } else {
                self.status.problem(environment.id).or_else(|| held(environment, observed))
            },
            machines,
        }
    }
}

/// Whether a machine is where it is wanted.
fn settled(machine: &MachineView) -> bool {
    match machine.power {
        Power::On => machine.state == MachineStateView::Ready,
        Power::Off => machine.state == MachineStateView::Off,
    }
}

/// That machines stand still because the disk is nearly full, for who wonders.
fn held(environment: &Environment, observed: &Observed) -> Option<Problem> {
    let stands = |machine: &&Machine| observed.paused.contains(&machine.id);
    let standing: Vec<String> = environment
        .machines
        .iter()
        .filter(stands)
        .map(|machine| machine.role.to_string())
        .collect();
    let held = observed.room != DiskRoom::Plenty && !standing.is_empty();
    held.then(|| Problem {
        message: format!(
            "stands still: {}: it wrote while the lab's disk was nearly full",
            standing.join(", ")
        ),
        help: "staff: end environments or empty the quarantine; it runs on when there is room"
            .into(),
    })
}

fn machine_view(
    machine: &Machine,
    environment: &Environment,
    uid: u32,
    observed: &Observed,
    may_see_password: bool,
) -> MachineView {
    let stands = observed.paused.contains(&machine.id);
    let runs = observed
        .machines
        .get(&machine.id)
        .map(|seen| seen.generation == machine.generation && !stands);
    let served = desktop(machine, environment);
    let display = observed.displays.get(&machine.id);
    let desktop = served.map(|served| DesktopView {
        address: served.address,
        port: served.port,
        fingerprint: display.map(|display| display.fingerprint.clone()),
        user: machine.guest_user.clone().filter(|_| !served.console),
        password: (may_see_password && !served.console).then(|| machine.password.0.clone()),
    });
    let reachable = served.is_none_or(|Desktop { console, address, port }| {
        let granted = observed.firewall.grants.contains_key(&Grant::Desktop { uid, address, port });
        granted && (!console || display.is_some_and(|display| display.attached))
    });
    let prepared = machine.prepared || machine.guest_user.is_none();
    let state = match (machine.power, runs) {
        (Power::On, Some(true)) if reachable && prepared => MachineStateView::Ready,
        (Power::On, Some(true)) => MachineStateView::Running,
        (Power::On, Some(false) | None) => MachineStateView::Starting,
        (Power::Off, Some(_)) => MachineStateView::Stopping,
        (Power::Off, None) => MachineStateView::Off,
    };
    let template = environment.template.machine(machine.role);
    MachineView {
        id: machine.id,
        role: machine.role,
        power: machine.power,
        state,
        address: machine.address,
        networks: template.map_or_else(Vec::new, |t| t.networks.clone()),
        reach: template.map_or_else(Vec::new, |t| t.reach.clone()),
        import: template.and_then(|t| t.import.clone()),
        agent: template.is_some_and(|t| t.agent),
        generation: machine.generation,
        rdp: template.map_or_else(Default::default, |t| environment.template.desktop_of(t)),
        desktop,
    }
}

/// Errors: the template keeps what its machines have written.
pub(super) fn may_go_back(environment: &Environment) -> Result<(), ApiError> {
    match environment.template.revert {
        RevertPolicy::Anytime => Ok(()),
        RevertPolicy::Never => {
            let template = &environment.template_name;
            let message = format!("the template `{template}` keeps what its machines write");
            Err(ApiError::new(ErrorCode::Forbidden, message)
                .help("end the environment and apply for a new one"))
        }
    }
}

/// The machine of `role`, or all.
pub(super) fn roles(
    environment: &Environment,
    role: Option<MachineRole>,
) -> impl Iterator<Item = MachineRole> + '_ {
    let all = environment.machines.iter().map(|m| m.role);
    all.filter(move |r| role.is_none_or(|wanted| wanted == *r))
}

pub(super) fn known_role(
    environment: &Environment,
    role: Option<MachineRole>,
) -> Result<(), nonstop_store::StoreError> {
    if roles(environment, role).next().is_some() {
        Ok(())
    } else {
        Err(nonstop_store::StoreError::NoMachine(environment.id))
    }
}

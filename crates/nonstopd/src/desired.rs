//! From the database to what is wanted on the host at a time.

use jiff::Timestamp;
use nonstop_model::{
    AccountState, Environment, EnvironmentState, Lab, Machine, RdpPolicy, network::display_address,
};
use nonstop_plan::{AccountGate, Desired, DesiredEnvironment, DesiredMachine, Desktop, Phase};
use nonstop_store::{Read, StoreError};

/// Everything that `lab` wants at `now`.
pub fn desired(read: &Read<'_>, lab: &Lab, now: Timestamp) -> Result<Desired, StoreError> {
    let accounts = read.accounts()?.into_iter().filter(|a| a.state == AccountState::Active);
    let accounts = accounts.map(|account| {
        let gate = AccountGate {
            name: account.name.clone(),
            uid: account.uid,
            address: account.address,
            keys: account.keys,
            sources: account.sources,
            targets: Vec::new(),
        };
        (account.name, gate)
    });
    let environments = read.environments(lab.network.pool, false)?;
    Ok(Desired {
        accounts: accounts.collect(),
        environments: environments.into_iter().map(|e| (e.id, environment(e, now))).collect(),
        lease: lab.lease(),
        portal_port: lab.portal.port,
    })
}

fn environment(environment: Environment, now: Timestamp) -> DesiredEnvironment {
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
    let machines = environment.machines.iter().map(|m| machine(m, &environment)).collect();
    DesiredEnvironment {
        id: environment.id,
        account: environment.account.clone(),
        segment: environment.segment.clone(),
        phase,
        from: environment.period.from(),
        until: environment.period.until(),
        destroy_at,
        machines,
    }
}

/// Where the desktop of `machine` is; None where it has none.
pub fn desktop(machine: &Machine, environment: &Environment) -> Option<Desktop> {
    let port = machine.desktop_port?;
    let console = environment.template.rdp == RdpPolicy::Console;
    let address = if console { display_address(machine.id) } else { machine.address };
    Some(Desktop { console, address, port })
}

fn machine(machine: &Machine, environment: &Environment) -> DesiredMachine {
    let preparation = match &machine.guest_user {
        Some(user) if !machine.prepared => Some((user.clone(), machine.password.clone())),
        _ => None,
    };
    DesiredMachine {
        id: machine.id,
        environment: environment.id,
        image: machine.image.clone(),
        image_digest: machine.image_digest.clone(),
        uid: machine.uid(),
        address: machine.address,
        memory_mib: machine.memory_mib,
        vcpus: machine.vcpus,
        generation: machine.generation,
        power: machine.power,
        force_off_at: machine.force_off_at,
        reset_pending: machine.reset_pending,
        preparation,
        desktop: desktop(machine, environment),
        viewers: Vec::new(),
        seen_in: machine.seen_in.clone(),
    }
}

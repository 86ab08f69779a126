//! The environments of canaries: granted, waited for, told to the prober, and ended.

use super::{Canaries, NAME, ProbeError, STARTING};
use crate::{service::requests::fresh_password, status::Pass, templates, wanted::machine_name};
use jiff::Timestamp;
use nonstop_host::{domain::card_socket, network::namespace};
use nonstop_model::{
    AccountName, EnvironmentId, EnvironmentState, EnvironmentTemplate, ImageName, MachineProfile,
    Period, RdpPolicy, Role, TemplateName,
};
use nonstop_reach::probe::{Canary, Domain, Order};
use nonstop_store::{Grant, GrantedMachine, NewAccount, StoreError};
use serde_json::json;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::info;

/// How the canaries' account is told from a person of that name.
const FULL_NAME: &str = "Canaries that probe the isolation";
/// The least memory with which the image starts, in MiB.
const MEMORY_MIB: u32 = 128;
/// How long canaries may live, whatever becomes of the daemon.
const PERIOD: Duration = Duration::from_secs(20 * 60);

impl Canaries {
    /// Grants one environment of each template, and a second of the first that reaches a data domain,
    /// so that two of a kind are there.
    pub(super) fn make(&self, by: &str) -> Result<Vec<EnvironmentId>, ProbeError> {
        let image: ImageName = NAME.parse().map_err(|_| ProbeError::Image)?;
        let (digest, manifest) = self.images.current(&image).map_err(|_| ProbeError::Image)?;
        if !manifest.card_ports {
            return Err(ProbeError::Image);
        }
        let templates = templates::list(&self.lab)?;
        let reaches = |t: &EnvironmentTemplate| t.domain.is_some() && !t.has_link();
        let second = templates.iter().find(|(_, template)| reaches(template));
        let wanted: Vec<(TemplateName, EnvironmentTemplate)> = templates
            .iter()
            .chain(second)
            .map(|(n, t)| (n.clone(), canary_of(t, &image)))
            .collect();
        if wanted.is_empty() {
            return Err(ProbeError::NoTemplate);
        }
        let account: AccountName = NAME.parse().map_err(|_| ProbeError::Name)?;
        let now = self.clock.now();
        let until = now.checked_add(PERIOD).unwrap_or(Timestamp::MAX);
        let known = self.db.read(|read| read.accounts())?;
        let known = known.into_iter().find(|known| known.name == account);
        if known.as_ref().is_some_and(|known| known.full_name != FULL_NAME) {
            return Err(ProbeError::Name);
        }
        let ids = self.db.write(by, now, |w| {
            if known.is_none() {
                w.add_account(&NewAccount {
                    name: account.clone(),
                    full_name: FULL_NAME.into(),
                    affiliation: self.lab.name.clone(),
                    role: Role::Researcher,
                    edition: None,
                    sources: Vec::new(),
                    keys: Vec::new(),
                })?;
            }
            let mut ids = Vec::new();
            for (template_name, template) in wanted {
                let machine = || GrantedMachine {
                    image: image.clone(),
                    image_digest: digest.clone(),
                    guest_user: None,
                    password: fresh_password(),
                    desktop_port: None,
                };
                let Ok(period) = Period::new(now, until) else { continue };
                ids.push(w.grant_canary(&Grant {
                    account: account.clone(),
                    template_name,
                    machines: template.machines.iter().map(|_| machine()).collect(),
                    template,
                    period,
                    pool: self.lab.network.pool,
                    room: self.room,
                })?);
            }
            w.trace("reach.probe", &"network", json!({ "begins": ids }))?;
            Ok::<_, StoreError>(ids)
        })?;
        info!("{} canary environments are granted", ids.len());
        Ok(ids)
    }

    /// Waits until all machines of `ids` run with all their rights.
    pub(super) fn until_ready(&self, ids: &[EnvironmentId]) -> Result<Arc<Pass>, ProbeError> {
        let end = Instant::now() + STARTING;
        loop {
            let pass = self.status.pass_after(Instant::now(), Duration::from_secs(2));
            let (mut running, mut all, mut settled) = (0, 0, true);
            for id in ids {
                let environment = pass.as_ref().and_then(|pass| pass.desired.environments.get(id));
                let Some((pass, environment)) = pass.as_ref().zip(environment) else {
                    settled = false;
                    continue;
                };
                all += environment.machines.len();
                let runs = |id| pass.observed.machines.contains_key(&id);
                running += environment.machines.iter().filter(|m| runs(m.id)).count();
                settled &= !pass.changing.contains(id);
            }
            self.how_far(format!("{running} of {all} canaries run"));
            match pass {
                Some(pass)
                    if settled && all > 0 && running == all && self.may_speak(ids, &pass) =>
                {
                    return Ok(pass);
                }
                _ if Instant::now() > end => return Err(ProbeError::Start { running, all }),
                _ => {}
            }
        }
    }

    fn may_speak(&self, ids: &[EnvironmentId], pass: &Pass) -> bool {
        let Ok(wanted) = self.prover.ground().wanted(pass) else { return false };
        let names = names(ids, pass);
        let ours = wanted.machines.iter().filter(|machine| names.contains(&machine.name));
        ours.filter(|machine| !machine.mute).count() == names.len()
    }

    pub(super) fn order(&self, ids: &[EnvironmentId], pass: &Pass) -> Result<Order, ProbeError> {
        let wanted = self.prover.ground().wanted(pass)?;
        let agent_dir = self.lab.run.join("agent");
        let mut canaries = Vec::new();
        for environment in ids.iter().filter_map(|id| pass.desired.environments.get(id)) {
            for machine in &environment.machines {
                let cards = 0..machine.networks.len();
                canaries.push(Canary {
                    machine: machine_name(environment, machine),
                    guns: cards.map(|card| card_socket(&agent_dir, machine.id, card)).collect(),
                });
            }
        }
        let here = self.lab.data_domains.iter().filter(|(_, domain)| domain.here);
        let domains = here.map(|(name, domain)| Domain {
            interface: domain.interface.clone(),
            namespace: namespace(name),
        });
        Ok(Order { wanted, canaries, domains: domains.collect() })
    }

    /// Ends all canaries that there are; nothing of them is kept.
    pub(super) fn end_all(&self) -> Result<(), StoreError> {
        let pool = self.lab.network.pool;
        let all = self.db.read(|read| read.environments(pool, false))?;
        let left: Vec<EnvironmentId> = all
            .into_iter()
            .filter(|e| e.account.as_str() == NAME && e.state == EnvironmentState::Granted)
            .filter(|e| e.machines.iter().all(|machine| machine.image.as_str() == NAME))
            .map(|e| e.id)
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        self.db
            .write("nonstopd", now, |w| left.iter().try_for_each(|id| w.end_environment(*id, now)))
    }
}

/// The names of the machines of `ids` in the matrix.
fn names(ids: &[EnvironmentId], pass: &Pass) -> BTreeSet<String> {
    let environments = ids.iter().filter_map(|id| pass.desired.environments.get(id));
    environments
        .flat_map(|environment| {
            environment.machines.iter().map(move |m| machine_name(environment, m))
        })
        .collect()
}

/// The canary of a template: the same machines, cards, reach and limits, with another guest inside and
/// without a desktop.
fn canary_of(template: &EnvironmentTemplate, image: &ImageName) -> EnvironmentTemplate {
    let mut canary = template.clone();
    canary.rdp = RdpPolicy::None;
    for machine in &mut canary.machines {
        machine.image = image.clone();
        machine.profile = MachineProfile::default();
        machine.memory_mib = MEMORY_MIB;
        machine.vcpus = 1;
        machine.rdp = None;
        machine.import = None;
    }
    canary
}

//! What is written down of a run: what held before anything of it was before the guest, and when
//! nothing of it was any more.

use super::{Injector, lock, whole};
use nonstop_model::{Environment, EnvironmentState, InjectBy, Injection, InjectionId, MachineId};
use nonstop_plan::Grant;
use nonstop_store::{FactsAt, StoreError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};
use tracing::info;

/// How often to look at what holds of an injection that is about to be gone: counting takes programs.
const AGAIN: Duration = Duration::from_secs(1);

impl Injector {
    /// Writes down what holds before injections that are wanted, which are let go on by that.
    pub(super) fn witness_begins(&self) -> Result<(), StoreError> {
        for injection in self.parts.db.read(|read| read.unbegun_injections())? {
            let facts = self.facts(&self.environment(&injection)?);
            self.witnessed(injection.id, FactsAt::Begin, &facts)?;
            self.parts.wake.wake();
        }
        Ok(())
    }

    /// Writes down what holds once nothing of an injection is before its guest any more.
    pub(super) fn witness_ends(&self) -> Result<(), StoreError> {
        for injection in self.parts.db.read(|read| read.unended_injections())? {
            let (id, environment) = (injection.id, self.environment(&injection)?);
            let Some(by) = ends(&injection, &environment) else { continue };
            // What its guest took is told before.
            if self.parts.status.is_being_given(id) {
                continue;
            }
            if !self.is_gone(&injection) {
                self.is_going(id, &environment);
                continue;
            }
            let mut facts = self.facts(&environment);
            if let Some((_, before)) = lock(&self.going).remove(&id)
                && !is_counted(&facts)
                && is_counted(&before)
            {
                facts["counts"] = before["counts"].clone();
                facts["counted_at"] = before["at"].clone();
            }
            facts["by"] = by.into();
            self.witnessed(id, FactsAt::End, &facts)?;
            info!("what held while {id} was there is written down");
        }
        Ok(())
    }

    /// Keeps what holds of `id`, which is about to be gone, now and then.
    fn is_going(&self, id: InjectionId, environment: &Environment) {
        let fresh = |(at, _): &(Instant, Value)| at.elapsed() < AGAIN;
        if lock(&self.going).get(&id).is_some_and(fresh) {
            return;
        }
        let facts = self.facts(environment);
        let mut going = lock(&self.going);
        let kept = going.remove(&id).map(|(_, before)| before);
        let kept = kept.filter(|before| is_counted(before) && !is_counted(&facts));
        going.insert(id, (Instant::now(), kept.unwrap_or(facts)));
    }

    /// Whether a pass of the reconciler that began after `injection` had ended saw that neither drive
    /// nor guest has anything of it, and that nobody is about to change that.
    fn is_gone(&self, injection: &Injection) -> bool {
        let Some(pass) = self.parts.status.pass() else { return false };
        let later = injection.ended_at.is_some_and(|ended_at| pass.at >= ended_at);
        if !later || pass.guests.contains(&injection.machine) {
            return false;
        }
        let runs = pass.observed.machines.get(&injection.machine);
        let same = runs.is_some_and(|seen| seen.generation == injection.generation);
        match injection.by {
            InjectBy::Disc => {
                let shown = pass.observed.drives.get(&injection.machine);
                !same || shown != Some(&Some(injection.id))
            }
            InjectBy::Agent => !same,
        }
    }

    fn witnessed(&self, id: InjectionId, at: FactsAt, facts: &Value) -> Result<(), StoreError> {
        let now = self.parts.clock.now();
        self.parts.db.write("nonstopd", now, |w| w.injection_witnessed(id, at, facts))
    }

    fn facts(&self, environment: &Environment) -> Value {
        let machines: Vec<MachineId> = environment.machines.iter().map(|m| m.id).collect();
        let counted = (self.parts.count)(environment.id, &machines);
        let counts = match counted {
            Ok(Some(counts)) => json!({
                "between": counts.between, "left": counts.left, "refused": counts.refused,
                "tables": counts.tables,
            }),
            Ok(None) => Value::Null,
            Err(why) => json!({ "unknown": why }),
        };
        let observed = self.parts.status.observed();
        let grants = observed.firewall.grants.keys();
        let rights = grants.filter(|grant| is_of(grant, &machines)).map(ToString::to_string);
        let rules =
            self.parts.rules.as_ref().map(|rules| hex::encode(Sha256::digest(rules.rules())));
        json!({
            "at": whole(self.parts.clock.now()),
            "counts": counts,
            "proof": self.proof(),
            "rights": rights.collect::<Vec<_>>(),
            "rules": { "current": observed.firewall.current, "sha256": rules },
        })
    }

    fn proof(&self) -> Value {
        let last = self.parts.prover.as_ref().and_then(|prover| prover.last());
        last.map_or(Value::Null, |proved| {
            json!({
                "at": whole(proved.at), "colour": proved.colour(), "machines": proved.machines,
            })
        })
    }
}

/// What ends the run that `injection` of `environment` began; None while it lasts. What an agent was
/// given stays until its guest is another, also where not all of it was given, or wanted to the end: a
/// guest that was kept in a snapshot and goes on is the same.
pub(crate) fn ends(injection: &Injection, environment: &Environment) -> Option<String> {
    let asked = injection.ended_by.as_deref();
    if injection.by == InjectBy::Disc {
        return asked.map(String::from);
    }
    if environment.state != EnvironmentState::Granted {
        return Some("environment end".into());
    }
    let machine = environment.machines.iter().find(|m| m.id == injection.machine);
    if machine.is_some_and(|machine| machine.generation == injection.generation) {
        return None;
    }
    // What had failed, or was taken back, was not ended by that.
    let from_snapshot = machine.is_some_and(|machine| machine.origin.is_some());
    Some(match asked {
        Some(by @ ("return" | "revert")) => by.into(),
        _ if from_snapshot => "return".into(),
        _ => "revert".into(),
    })
}

/// Whether packets were counted in what was found.
fn is_counted(facts: &Value) -> bool {
    facts["counts"]["left"].is_u64()
}

/// Whether `grant` is a right of one of `machines`.
fn is_of(grant: &Grant, machines: &[MachineId]) -> bool {
    match grant {
        Grant::Port { machine, .. }
        | Grant::Reach { machine, .. }
        | Grant::Link { machine, .. } => machines.contains(machine),
        Grant::Portal { .. }
        | Grant::Transfer { .. }
        | Grant::Desktop { .. }
        | Grant::Source { .. } => false,
    }
}

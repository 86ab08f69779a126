//! Samples: what there is, putting some before a guest, and the records of that.

use super::{Service, environments::known_role, refusal};
use crate::{
    caller::Caller,
    heads::Key,
    injector::{ends, whole},
    samples::NoAnswer,
};
use nonstop_api::{
    ApiError, ErrorCode, Reply,
    samples::{InjectItem, InjectionView, SampleQuery, SampleView},
};
use nonstop_model::{
    DataDomain, Environment, EnvironmentId, EnvironmentState, InjectBy, InjectedItem, Injection,
    InjectionId, InjectionState, Machine, Power, Resource, injection,
};
use nonstop_store::{InjectionFacts, NewInjection, StoreError};
use nonstop_trace::Record;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{cmp::Reverse, sync::Arc};

/// The most injections that are listed at once.
const LISTED: u32 = 500;

impl Service {
    pub(super) fn sample_list(
        &self,
        caller: &Caller,
        domain: Option<&str>,
        query: SampleQuery,
    ) -> Result<Reply, ApiError> {
        let text = serde_json::to_vec(&query).unwrap_or_default();
        if text.len() > SampleQuery::LONGEST || query.limit > SampleQuery::MOST {
            return Err(ApiError::new(ErrorCode::Invalid, "the search is too long"));
        }
        let domain = self.searchable(caller, domain)?;
        let page = self.samples.find(&domain, &query);
        page.map(Reply::Samples).map_err(|no| match no {
            NoAnswer::Refused(why) => ApiError::new(ErrorCode::Invalid, why),
            NoAnswer::Failed(why) => {
                let message = format!("search the samples of `{domain}`: {why}");
                ApiError::new(ErrorCode::Internal, message)
            }
        })
    }

    /// The data domain whose samples `caller` may see, by its name or as the only one.
    fn searchable(&self, caller: &Caller, domain: Option<&str>) -> Result<String, ApiError> {
        let has = |domain: &DataDomain| {
            [Resource::Samples, Resource::Reports].iter().any(|of| domain.server_of(*of).is_some())
        };
        let with = self.lab.data_domains.iter().filter(|(_, domain)| has(domain));
        let mut may: Vec<String> = with.map(|(name, _)| name.clone()).collect();
        if !caller.is_staff() {
            let own = self.domains_of(caller)?;
            may.retain(|name| own.contains(name));
        }
        match domain {
            Some(name) if may.iter().any(|one| one == name) => Ok(name.into()),
            Some(name) => {
                let message = format!("there is no data domain `{name}` with samples for you");
                Err(ApiError::new(ErrorCode::NotFound, message)
                    .help("it is that of an environment of yours: `nonstop environment list`"))
            }
            None => match may.as_slice() {
                [only] => Ok(only.clone()),
                [] => Err(ApiError::new(ErrorCode::NotFound, "no data domain has samples for you")
                    .help("apply for an environment whose template names one")),
                several => {
                    let message = format!("say which data domain: {}", several.join(", "));
                    Err(ApiError::new(ErrorCode::Invalid, message))
                }
            },
        }
    }

    /// The data domains whose samples environments of `caller` reach or are put before.
    fn domains_of(&self, caller: &Caller) -> Result<Vec<String>, ApiError> {
        let pool = self.lab.network.pool;
        let all = self.db.read(|read| read.environments(pool, false)).map_err(refusal)?;
        let own = all.into_iter().filter(|e| {
            let theirs = caller.account().is_some_and(|account| account.name == e.account);
            theirs && e.state == EnvironmentState::Granted && self.sees_samples(e)
        });
        Ok(own.filter_map(|e| e.template.domain).collect())
    }

    /// Whether samples are put before a machine of `environment`, or one reaches their server.
    fn sees_samples(&self, environment: &Environment) -> bool {
        let domain = environment.template.domain.as_deref();
        let Some(domain) = domain.and_then(|name| self.lab.data_domains.get(name)) else {
            return false;
        };
        let serves = |name: &String| {
            matches!(domain.offered_by(name), Some(Resource::Samples | Resource::Reports))
        };
        let mut reached = environment.template.machines.iter().flat_map(|m| &m.reach);
        environment.template.takes_samples().is_some() || reached.any(serves)
    }

    pub(super) fn sample_inject(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        samples: &[InjectItem],
        by: InjectBy,
        zip: bool,
    ) -> Result<Reply, ApiError> {
        let environment = self.own_granted(caller, id)?;
        let (machine, domain) = self.may_take(&environment, by)?;
        let items = named(samples)?;
        let items = self.known(&domain, items, by)?;
        let new = NewInjection {
            environment: id,
            machine: machine.id,
            generation: machine.generation,
            domain,
            by,
            zip,
            items,
        };
        let injection = self.commit(caller, |w| {
            known_role(&environment, Some(machine.role))?;
            // A child may still be at one that was ended.
            if let Some(given) = self.status.given(machine.id) {
                return Err(StoreError::BeingInjected(given));
            }
            w.inject(&new)
        })?;
        self.status.forgive(id);
        let injection = self.db.read(|read| read.injection(injection)).map_err(refusal)?;
        Ok(Reply::Injection(view(injection, machine)))
    }

    pub(super) fn sample_eject(
        &self,
        caller: &Caller,
        id: EnvironmentId,
    ) -> Result<Reply, ApiError> {
        self.own_granted(caller, id)?;
        self.commit(caller, |w| w.eject(id))?;
        self.status.forgive(id);
        Ok(Reply::Done)
    }

    /// The environment `id`, if it runs and is the caller's, or the caller an admin.
    fn own_granted(&self, caller: &Caller, id: EnvironmentId) -> Result<Environment, ApiError> {
        let environment = self.granted(caller, id)?;
        let other = caller.account().is_some_and(|account| account.name != environment.account);
        if other {
            let message = format!("environment {id} is of `{}`", environment.account);
            return Err(ApiError::new(ErrorCode::Forbidden, message)
                .help("whose it is puts samples before its guest, or an admin of the host"));
        }
        Ok(environment)
    }

    /// The machine of `environment` that takes samples, and the data domain that has them.
    fn may_take<'a>(
        &self,
        environment: &'a Environment,
        by: InjectBy,
    ) -> Result<(&'a Machine, String), ApiError> {
        let name = &environment.template_name;
        let conflict = |message: String| ApiError::new(ErrorCode::Conflict, message);
        let template = environment.template.takes_samples().ok_or_else(|| {
            conflict(format!("the template `{name}` has no machine that samples are put before"))
                .help("apply for one with a debuggee, such as `dynamic-micro`")
        })?;
        if by == InjectBy::Agent && !template.agent {
            let message = format!("the template `{name}` lets no samples in by the guest's agent");
            return Err(conflict(message).help("put them before it by disc: leave `--agent` out"));
        }
        let domain = environment.template.domain.clone().ok_or_else(|| {
            conflict(format!("the template `{name}` belongs to no data domain that has samples"))
        })?;
        if !self.lab.data_domains.contains_key(&domain) {
            return Err(conflict(format!("the lab has no data domain `{domain}` any more")));
        }
        let machine = environment.machines.iter().find(|m| m.role == template.role);
        let machine = machine.ok_or_else(|| conflict("its machine is gone".into()))?;
        let (role, observed) = (machine.role, self.status.observed());
        let runs = observed.machines.get(&machine.id);
        if machine.power == Power::Off
            || runs.is_none_or(|seen| seen.generation != machine.generation)
        {
            let id = environment.id;
            return Err(conflict(format!("the {role} is off, or just being started"))
                .help(format!("start it with `nonstop environment power {id} on`, and wait")));
        }
        if by == InjectBy::Disc && !observed.drives.contains_key(&machine.id) {
            return Err(conflict(format!("the {role} was started without a drive for discs"))
                .help("switch it off and on, or revert it"));
        }
        Ok((machine, domain))
    }

    /// `items` with their lengths, if `domain` has them all and they are not too much.
    fn known(
        &self,
        domain: &str,
        items: Vec<InjectedItem>,
        by: InjectBy,
    ) -> Result<Vec<InjectedItem>, ApiError> {
        let mut known = Vec::new();
        for item in items {
            let found = self.samples.one(domain, &item.sha256).map_err(|why| {
                let message = format!("look for {} in `{domain}`: {why}", item.sha256);
                ApiError::new(ErrorCode::Internal, message)
            })?;
            let missing = |what: &str| {
                let message = format!("{what} {} in the data domain `{domain}`", item.sha256);
                ApiError::new(ErrorCode::NotFound, message).help(
                    "samples come from the data domain of the environment's template: \
                     `nonstop sample list`",
                )
            };
            let found = found.ok_or_else(|| missing("there is no sample"))?;
            let SampleView { bytes, .. } = found;
            let bytes = bytes.ok_or_else(|| missing("there are only reports of the sample"))?;
            known.push(InjectedItem { bytes, ..item });
        }
        // A child says how long they are.
        let bytes = known.iter().fold(0, |all: u64, item| all.saturating_add(item.bytes));
        let most = by.most_bytes();
        if bytes > most {
            let message = format!(
                "these samples have {} MiB together, and by {by} go {} MiB at once",
                bytes.div_ceil(1 << 20),
                most >> 20
            );
            return Err(ApiError::new(ErrorCode::Invalid, message));
        }
        Ok(known)
    }

    pub(super) fn injection_list(
        &self,
        caller: &Caller,
        environment: Option<EnvironmentId>,
    ) -> Result<Reply, ApiError> {
        let pool = self.lab.network.pool;
        let mut own = match environment {
            Some(id) => vec![self.own_environment(caller, id)?],
            None => self.db.read(|read| read.environments(pool, true)).map_err(refusal)?,
        };
        own.retain(|of| caller.must_own(&of.account, "injection").is_ok());
        // Of each, lest those of others stand in place of one's own.
        let of = match environment {
            None if caller.is_staff() => vec![None],
            _ => own.iter().map(|of| Some(of.id)).collect(),
        };
        let of_each = self.db.read(|read| {
            of.into_iter().map(|of| read.injections(of, LISTED)).collect::<Result<Vec<_>, _>>()
        });
        let mut injections = of_each.map_err(refusal)?.concat();
        injections.sort_by_key(|injection| Reverse(injection.id));
        injections.truncate(LISTED as usize);
        let views = injections.into_iter().filter_map(|injection| {
            let of = own.iter().find(|e| e.id == injection.environment)?;
            let machine = of.machines.iter().find(|m| m.id == injection.machine)?;
            Some(view(injection, machine))
        });
        Ok(Reply::Injections(views.collect()))
    }

    pub(super) fn injection_record(
        &self,
        caller: &Caller,
        id: InjectionId,
    ) -> Result<Reply, ApiError> {
        let injection = self.db.read(|read| read.injection(id)).map_err(refusal)?;
        let pool = self.lab.network.pool;
        let environment = self.db.read(|read| read.environment(pool, injection.environment));
        let environment = environment.map_err(refusal)?;
        caller.must_own(&environment.account, &format!("injection {id}"))?;
        let facts = self.db.read(|read| read.injection_facts(id)).map_err(refusal)?;
        let conflict = |message: String| ApiError::new(ErrorCode::Conflict, message);
        let never = injection.by == InjectBy::Disc && injection.state == InjectionState::Failed;
        match facts.begin {
            Some(_) if !never => {}
            None if injection.lives() => {
                let message = format!("{id} is not on its way yet");
                return Err(conflict(message).help("try again in a second"));
            }
            Some(_) | None => {
                let message = format!("{id} was before no guest: there is no record of it");
                return Err(conflict(message));
            }
        }
        if facts.end.is_none() && !injection.lives() && ends(&injection, &environment).is_some() {
            let message = format!("what held while {id} was there is just being written down");
            return Err(conflict(message).help("try again in a second"));
        }
        let said = self.said(&injection, &environment, facts);
        // What is over says the same for ever, also by a daemon of another version: it is signed once.
        let before = self.db.read(|read| read.injection_record(id)).map_err(refusal)?;
        let over = |record: &Record| !record.said()["until"].is_null();
        let record = match before.filter(|record| over(record) || *record.said() == said) {
            Some(record) => record,
            None => {
                let key = Key(Arc::clone(&self.authority));
                self.commit(caller, |w| w.sign_record(id, said, &key))?
            }
        };
        Ok(Reply::Record(record.text()))
    }

    /// What the record of `injection` says.
    fn said(
        &self,
        injection: &Injection,
        environment: &Environment,
        facts: InjectionFacts,
    ) -> Value {
        let template = serde_json::to_vec(&environment.template).unwrap_or_default();
        let machines = environment.machines.iter().map(|m| {
            let takes = m.id == injection.machine;
            json!({
                "generation": takes.then_some(injection.generation), "image": m.image,
                "image_digest": m.image_digest, "machine": m.id, "role": m.role,
            })
        });
        let end = |what: &str| facts.end.as_ref().map(|end| end[what].clone());
        json!({
            "by": injection.by,
            "containment": {
                "begin": facts.begin, "end": facts.end, "left": left(&facts),
            },
            "domain": injection.domain,
            "ended_by": end("by"),
            "environment": injection.environment,
            "failure": injection.failure,
            "from": facts.begin.as_ref().map(|begin| begin["at"].clone()),
            "generation": injection.generation,
            "guest_says": injection.guest_says,
            "lab": { "name": self.lab.name, "uuid": self.db.lab_uuid() },
            "machine": injection.machine,
            "machines": machines.collect::<Vec<_>>(),
            "samples": injection.items,
            "template": {
                "name": environment.template_name, "sha256": hex::encode(Sha256::digest(&template)),
            },
            "there": injection.there_at.map(whole),
            "until": end("at"),
            "version": env!("CARGO_PKG_VERSION"),
            "zip": injection.zip,
        })
    }
}

/// Packets that left the link from one end to the other, where the same tables counted both, and from
/// the beginning; else why that is not known.
fn left(facts: &InjectionFacts) -> Value {
    let of = |facts: &Option<Value>, what: &str| {
        facts.as_ref().map(|facts| facts["counts"][what].clone()).unwrap_or_default()
    };
    let (before, after) = (of(&facts.begin, "left"), of(&facts.end, "left"));
    let (Some(before), Some(after)) = (before.as_u64(), after.as_u64()) else {
        return match facts.end {
            None => json!({ "known": false, "why": "it is still there" }),
            Some(_) => json!({ "known": false, "why": "nobody counted" }),
        };
    };
    if of(&facts.begin, "tables") != of(&facts.end, "tables") {
        return json!({
            "known": false, "packets": after,
            "why": "the rules were loaded anew meanwhile: the count is of the time since then",
        });
    }
    json!({ "known": true, "packets": after.saturating_sub(before) })
}

/// The samples with a name each. Errors: too many, none, twice one, or a name that not every guest
/// takes.
fn named(samples: &[InjectItem]) -> Result<Vec<InjectedItem>, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::Invalid, message);
    if samples.is_empty() || samples.len() > injection::MOST_ITEMS {
        let most = injection::MOST_ITEMS;
        return Err(invalid(format!("1 to {most} samples go at once, not {}", samples.len())));
    }
    let mut items = Vec::new();
    for sample in samples {
        injection::check_sha256(&sample.sha256).map_err(invalid)?;
        let usual = || injection::usual_name(&sample.sha256);
        let name = sample.name.clone().unwrap_or_else(usual);
        injection::check_name(&name).map_err(invalid)?;
        items.push(InjectedItem { sha256: sample.sha256.clone(), name, bytes: 0 });
    }
    injection::check_distinct(items.iter().map(|item| item.name.as_str())).map_err(invalid)?;
    Ok(items)
}

fn view(injection: Injection, machine: &Machine) -> InjectionView {
    InjectionView {
        id: injection.id,
        environment: injection.environment,
        machine: machine.role,
        generation: injection.generation,
        domain: injection.domain,
        by_person: injection.by_person,
        by: injection.by,
        zip: injection.zip,
        state: injection.state,
        items: injection.items,
        at: injection.at,
        there_at: injection.there_at,
        ended_at: injection.ended_at,
        ended_by: injection.ended_by,
        failure: injection.failure,
        guest_says: injection.guest_says,
    }
}

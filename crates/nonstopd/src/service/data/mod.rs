//! Data domains: publishing what arrived, what there is of it, and what researchers may have.

mod views;

use super::{Service, refusal};
use crate::{
    caller::Caller,
    publisher::{Arrived, Ground, plain, publishes},
};
use jiff::civil::Date;
use nonstop_api::{
    ApiError, BegunView, ErrorCode, InboxView, OfferView, OfferedDay, OfferedSamples,
    OfferedServer, PublicationView, Reply,
};
use nonstop_model::{
    DataDomain, Environment, EnvironmentState, Holds, Publication, PublicationId, PublicationState,
    Resource,
};
use nonstop_store::StoreError;
use std::{collections::BTreeSet, io};
use views::inbox_view;

/// Publications that are asked for at once.
const AT_ONCE: usize = 1000;

impl Service {
    pub(super) fn data_list(
        &self,
        caller: &Caller,
        domain: Option<&str>,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        if let Some(name) = domain {
            self.data_domain(name)?;
        }
        let all = self.lab.data_domains.iter();
        let wanted = all.filter(|(name, _)| domain.is_none_or(|domain| domain == *name));
        let views = wanted.map(|(name, domain)| self.domain_view(name, domain));
        Ok(Reply::DataDomains(views.collect::<Result<_, _>>()?))
    }

    pub(super) fn data_publish(
        &self,
        caller: &Caller,
        domain: Option<&str>,
        file: Option<&str>,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let mut begun = BegunView { publications: Vec::new(), left: Vec::new() };
        match file {
            Some(file) => {
                let (name, ground) = self.one_ground(domain)?;
                begun.publications.push(self.begin_one(caller, name, ground, file)?);
            }
            None => {
                for (name, ground) in self.grounds(domain)? {
                    self.begin_all(caller, name, ground, &mut begun)?;
                }
            }
        }
        self.publisher.hurry();
        Ok(Reply::Begun(begun))
    }

    pub(super) fn data_publications(
        &self,
        caller: &Caller,
        ids: &[PublicationId],
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let mut views = Vec::new();
        for id in ids.iter().take(AT_ONCE) {
            let found = self.db.read(|read| read.publication(*id)).map_err(refusal)?;
            let found = found.ok_or_else(|| refusal(StoreError::NoPublication(*id)))?;
            views.push(self.publication_view(&found));
        }
        Ok(Reply::Publications(views))
    }

    pub(super) fn data_load(
        &self,
        caller: &Caller,
        domain: Option<&str>,
        days: &[Date],
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let mut views = Vec::new();
        let mut grounds = self.grounds(domain)?;
        grounds.retain(|(_, ground)| ground.has_rdb());
        if grounds.is_empty() {
            let message = "no data domain has a PostgreSQL (`rdb`) that is loaded here";
            return Err(
                ApiError::new(ErrorCode::Conflict, message).help("see `data_domains` of lab.yaml")
            );
        }
        if !days.is_empty() && grounds.len() > 1 {
            let names: Vec<_> = grounds.iter().map(|(name, _)| *name).collect();
            return Err(which(&names));
        }
        for (name, ground) in grounds {
            let mut published = self.db.read(|read| read.published(name)).map_err(refusal)?;
            published.retain(|row| row.kind == Resource::Pcap);
            let wanted = match days {
                [] => self.lacking(name, ground, &published)?,
                days => chosen(name, days, &published)?,
            };
            for id in wanted {
                self.commit(caller, |w| w.want_load(id))?;
                let row = self.db.read(|read| read.publication(id)).map_err(refusal)?;
                views.extend(row.map(|row| self.publication_view(&row)));
            }
        }
        self.publisher.hurry();
        Ok(Reply::Publications(views))
    }

    pub(super) fn data_offers(&self, caller: &Caller) -> Result<Reply, ApiError> {
        let pool = self.lab.network.pool;
        let mut environments =
            self.db.read(|read| read.environments(pool, false)).map_err(refusal)?;
        environments.retain(|e| {
            let own = caller.account().is_some_and(|account| account.name == e.account);
            e.state == EnvironmentState::Granted && (own || caller.is_staff())
        });
        let mut offers = Vec::new();
        for (name, domain) in &self.lab.data_domains {
            let of_it: Vec<&Environment> = environments
                .iter()
                .filter(|e| e.template.domain.as_deref() == Some(name))
                .collect();
            if !of_it.is_empty() {
                offers.push(self.offer(name, domain, &of_it)?);
            }
        }
        Ok(Reply::Offers(offers))
    }

    fn offer(
        &self,
        name: &str,
        domain: &DataDomain,
        environments: &[&Environment],
    ) -> Result<OfferView, ApiError> {
        let reached: BTreeSet<&str> = environments
            .iter()
            .flat_map(|e| e.template.machines.iter())
            .flat_map(|machine| machine.reach.iter().map(String::as_str))
            .collect();
        let servers = domain.servers.iter().filter(|(server, _)| reached.contains(server.as_str()));
        let servers: Vec<_> = servers
            .map(|(server, at)| OfferedServer {
                name: server.clone(),
                offers: at.resource(server),
                bytes: at.bytes,
                port: at.tcp.first().copied().unwrap_or_default(),
            })
            .collect();
        // Who reaches no server of a kind of days has no use for them.
        let reaches = |kinds: [Resource; 2]| {
            servers.iter().any(|server| server.offers.is_some_and(|offer| kinds.contains(&offer)))
        };
        let packets = reaches([Resource::Pcap, Resource::Rdb]);
        let samples = reaches([Resource::Samples, Resource::Reports]);
        let published = match packets || samples {
            true => self.db.read(|read| read.published(name)).map_err(refusal)?,
            false => Vec::new(),
        };
        let days = published.iter().rev().filter(|_| packets).filter_map(|row| {
            let (day, content) = (row.day?, row.state.content()?);
            Some(OfferedDay {
                day,
                file: content.published_name(day),
                bytes: content.bytes,
                packets: content.packets()?.packets,
                sha256: content.sha256.clone(),
            })
        });
        let sample_days = published.iter().rev().filter(|_| samples).filter_map(|row| {
            let (day, content) = (row.day?, row.state.content()?);
            let Holds::Samples { samples, reports } = content.holds else { return None };
            Some(OfferedSamples { day, samples, reports })
        });
        Ok(OfferView {
            domain: name.into(),
            environments: environments.iter().map(|e| e.id).collect(),
            servers,
            known: publishes(domain),
            utc_offset_minutes: domain.utc_offset_minutes,
            days: days.collect(),
            sample_days: sample_days.collect(),
        })
    }

    /// The data domain `name`.
    fn data_domain(&self, name: &str) -> Result<&DataDomain, ApiError> {
        self.lab.data_domains.get(name).ok_or_else(|| {
            let names: Vec<_> = self.lab.data_domains.keys().map(String::as_str).collect();
            let help = match names.is_empty() {
                true => "lab.yaml has no `data_domains`".into(),
                false => format!("this lab has {}", names.join(", ")),
            };
            let message = format!("there is no data domain `{name}`");
            ApiError::new(ErrorCode::NotFound, message).help(help)
        })
    }

    /// The data domain `name`, or all that are published here.
    fn grounds(&self, name: Option<&str>) -> Result<Vec<(&str, &Ground)>, ApiError> {
        let Some(name) = name else {
            let all: Vec<_> = self.publisher.grounds().collect();
            if all.is_empty() {
                let message = "no data domain is published here";
                return Err(ApiError::new(ErrorCode::Conflict, message).help(
                    "describe one with a server of `pcap`, `rdb`, `samples` or `reports` in \
                     `data_domains` of lab.yaml",
                ));
            }
            return Ok(all);
        };
        let domain = self.data_domain(name)?;
        let found = self.publisher.grounds().find(|(known, _)| *known == name);
        found.map(|ground| vec![ground]).ok_or_else(|| {
            let (message, help) = match domain.here {
                false => (
                    format!("data domain `{name}` is not published here: its servers are the lab's own (`here: false`)"),
                    "give the files to those servers",
                ),
                true => (
                    format!(
                        "data domain `{name}` has no server of `pcap`, `rdb`, `samples` or `reports`"
                    ),
                    "add one to `data_domains` of lab.yaml",
                ),
            };
            ApiError::new(ErrorCode::Conflict, message).help(help)
        })
    }

    /// The data domain `name`, or the only one that is published here.
    fn one_ground(&self, name: Option<&str>) -> Result<(&str, &Ground), ApiError> {
        let all = self.grounds(name)?;
        match all[..] {
            [one] => Ok(one),
            _ => Err(which(&all.iter().map(|(name, _)| *name).collect::<Vec<_>>())),
        }
    }

    fn begin_one(
        &self,
        caller: &Caller,
        name: &str,
        ground: &Ground,
        file: &str,
    ) -> Result<PublicationView, ApiError> {
        let not_there = || {
            let message = format!("there is no file `{}` in the inbox of `{name}`", plain(file));
            let folder = ground.folders.inbox();
            ApiError::new(ErrorCode::NotFound, message)
                .help(format!("put it into {}", folder.display()))
        };
        let cannot = |why: &str| {
            let message = format!("`{}` in the inbox of `{name}` is {why}", plain(file));
            Err(ApiError::new(ErrorCode::Invalid, message))
        };
        let id = match ground.folders.arrival(file).map_err(folders_failed)? {
            None => return Err(not_there()),
            Some(Arrived::Unfit(why)) => return cannot(why),
            Some(Arrived::File { written: true, .. }) => {
                return cannot("being written by somebody; it is taken once that is over");
            }
            Some(Arrived::File { .. }) => self.begin(caller, name, file).map_err(refusal)?,
        };
        let row = self.db.read(|read| read.publication(id)).map_err(refusal)?;
        let row = row.ok_or_else(|| refusal(StoreError::NoPublication(id)))?;
        Ok(self.publication_view(&row))
    }

    /// Begins the publication of `file`, or finds the one that was begun for it a moment ago.
    fn begin(&self, caller: &Caller, name: &str, file: &str) -> Result<PublicationId, StoreError> {
        match self.publisher.begin(name, file, &caller.actor()) {
            Err(StoreError::DayUnderWay { id, file: other }) if other == file => {
                // Its own, as long as it was not moved out of the inbox.
                let row = self.db.read(|read| read.publication(id))?;
                let taken = row.is_some_and(|row| row.state == PublicationState::Taken);
                if taken { Ok(id) } else { Err(StoreError::DayUnderWay { id, file: other }) }
            }
            begun => begun,
        }
    }

    fn begin_all(
        &self,
        caller: &Caller,
        name: &str,
        ground: &Ground,
        begun: &mut BegunView,
    ) -> Result<(), ApiError> {
        for arrival in ground.folders.arrivals().map_err(folders_failed)? {
            let view = inbox_view(name, &arrival.name.to_string_lossy(), &arrival.what);
            let Arrived::File { name: file, written: false, .. } = &arrival.what else {
                begun.left.push(view);
                continue;
            };
            match self.begin(caller, name, file) {
                Ok(id) => {
                    let row = self.db.read(|read| read.publication(id)).map_err(refusal)?;
                    begun.publications.extend(row.map(|row| self.publication_view(&row)));
                }
                Err(StoreError::DayUnderWay { id, .. }) => {
                    let note = format!("it is taken after {id}, which is of the same day");
                    begun.left.push(InboxView { note, ..view });
                }
                Err(e) => return Err(refusal(e)),
            }
        }
        Ok(())
    }

    /// Published days that PostgreSQL does not have as they were published.
    fn lacking(
        &self,
        name: &str,
        ground: &Ground,
        published: &[Publication],
    ) -> Result<Vec<PublicationId>, ApiError> {
        let loaded = self.publisher.ask_days(ground, name).map_err(|trouble| {
            let message =
                format!("the `rdb` of data domain `{name}` does not say what it has: {trouble}");
            ApiError::new(ErrorCode::Conflict, message)
                .help("see `nonstop check` and the log of the service `data`")
        })?;
        let has = |row: &Publication| {
            let sha256 = row.state.content().map(|content| content.sha256.as_str());
            loaded.iter().any(|day| Some(day.day) == row.day && Some(day.sha256.as_str()) == sha256)
        };
        Ok(published.iter().filter(|row| !has(row)).map(|row| row.id).collect())
    }
}

fn which(names: &[&str]) -> ApiError {
    let message = "there is more than one data domain";
    ApiError::new(ErrorCode::Invalid, message)
        .help(format!("say which: `--domain {}`", names.join("` or `--domain ")))
}

fn folders_failed(error: io::Error) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("look at the folders of a data domain: {error}"))
        .help("look at `data` under the lab's `state`")
}

fn chosen(
    name: &str,
    days: &[Date],
    published: &[Publication],
) -> Result<Vec<PublicationId>, ApiError> {
    let find = |day: &Date| {
        let row = published.iter().find(|row| row.day == Some(*day));
        row.map(|row| row.id).ok_or_else(|| {
            let message = format!("{day} is no published day of data domain `{name}`");
            ApiError::new(ErrorCode::NotFound, message).help("see `nonstop data list`")
        })
    };
    days.iter().map(find).collect()
}

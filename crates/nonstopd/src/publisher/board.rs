//! How far publications are and what stands in their way: lost with the daemon, and found again by
//! the next one.

use super::Trouble;
use jiff::{Timestamp, civil::Date};
use nonstop_api::told::LoadedDay;
use nonstop_model::{PublicationId, Resource};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What is being done for a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// `check`, `load` or `show`.
    pub doing: &'static str,
    /// Bytes that were read.
    pub bytes: u64,
    /// Of how many; 0 where that says nothing.
    pub of: u64,
    /// Since when.
    pub since: Timestamp,
}

/// A published day that is not as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayFault {
    /// What it is offered as.
    pub kind: Resource,
    /// Which.
    pub day: Date,
    /// What is wrong, and how to mend it.
    pub what: String,
}

/// What is known of a data domain.
#[derive(Debug, Clone, Default)]
pub struct DomainBoard {
    /// Why nothing goes on in it.
    pub stands_still: Option<String>,
    /// Days in PostgreSQL; None before it was asked, and where there is none.
    pub loaded: Option<Result<Vec<LoadedDay>, Trouble>>,
    /// When it was asked last.
    pub(super) asked_at: Option<Timestamp>,
    /// Published days that are not as they were published.
    pub faults: Vec<DayFault>,
    /// What was told to the log already.
    told: BTreeSet<String>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) progress: BTreeMap<PublicationId, Progress>,
    troubles: BTreeMap<PublicationId, Held>,
    /// How often a program died over the file of a publication.
    deaths: BTreeMap<PublicationId, u32>,
    pub(super) domains: BTreeMap<String, DomainBoard>,
}

#[derive(Debug)]
struct Held {
    trouble: Trouble,
    tries: u32,
    again_at: Timestamp,
}

impl Board {
    pub(super) fn trouble(&self, id: PublicationId) -> Option<Trouble> {
        self.troubles.get(&id).map(|held| held.trouble.clone())
    }

    /// Whether `id` may be tried at `now`.
    pub(super) fn may_try(&self, id: PublicationId, now: Timestamp) -> bool {
        self.troubles.get(&id).is_none_or(|held| held.again_at <= now)
    }

    /// Notes what keeps `id` from going on; true if it is new.
    pub(super) fn held(&mut self, id: PublicationId, trouble: Trouble, now: Timestamp) -> bool {
        self.progress.remove(&id);
        let before = self.troubles.get(&id);
        let new = before.is_none_or(|held| held.trouble != trouble);
        let tries = before.map_or(0, |held| held.tries) + 1;
        let wait = Duration::from_millis(500 << tries.min(8)).min(LONGEST_WAIT);
        let again_at = now.checked_add(wait).unwrap_or(Timestamp::MAX);
        self.troubles.insert(id, Held { trouble, tries, again_at });
        new
    }

    /// Notes that a program died over the file of `id`; gives how often that was.
    pub(super) fn died(&mut self, id: PublicationId) -> u32 {
        let deaths = self.deaths.entry(id).or_default();
        *deaths += 1;
        *deaths
    }

    pub(super) fn went_on(&mut self, id: PublicationId) {
        self.troubles.remove(&id);
    }

    pub(super) fn arrived(&mut self, id: PublicationId) {
        self.progress.remove(&id);
        self.troubles.remove(&id);
        self.deaths.remove(&id);
    }

    pub(super) fn forgive(&mut self) {
        for held in self.troubles.values_mut() {
            held.again_at = Timestamp::MIN;
        }
        for domain in self.domains.values_mut() {
            domain.asked_at = None;
        }
    }

    pub(super) fn domain(&mut self, name: &str) -> &mut DomainBoard {
        self.domains.entry(name.into()).or_default()
    }

    /// Notes why nothing goes on in a data domain; true if it is new.
    pub(super) fn stands_still(&mut self, domain: &str, why: &str) -> bool {
        let board = self.domain(domain);
        let new = board.stands_still.as_deref() != Some(why);
        board.stands_still = Some(why.into());
        new
    }

    /// Of `all` that could be told of a data domain now, what was not there before.
    pub(super) fn new_of(&mut self, domain: &str, all: BTreeSet<String>) -> Vec<String> {
        let board = self.domain(domain);
        let new = all.difference(&board.told).cloned().collect();
        board.told = all;
        new
    }
}

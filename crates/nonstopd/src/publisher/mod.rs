//! Publishes what arrives for data domains: a day at once, whole or not at all.
//!
//! The watcher looks into inboxes and takes what is complete; a thread for each data domain leads
//! what was taken on, one file after the other. What is wanted stands in the database before
//! anything is moved; what is next follows from the row and from what lies in the folders (`plan`).
//! The bytes are read by programs of their own (`children`), never here.

mod board;
mod children;
mod folders;
mod inbox;
mod keep;
mod lease;
mod made;
mod plan;
mod steps;
mod work;

pub use board::{DayFault, DomainBoard, Progress};
pub(crate) use children::plain;
pub use children::{Children, Heard, Job, PATIENCE, Programs, Trouble, Verdict};
pub use folders::{Folders, Hand, Readers, Shown, Steady};
pub use inbox::{Arrival, Arrived};
pub(crate) use lease::is_written;
pub use made::Made;
pub use plan::{Seen, Step, TakenFile, next};

use crate::{Clock, status::chain};
use board::Board;
use jiff::civil::Date;
use nonstop_api::told::LoadedDay;
use nonstop_model::{
    DataDomain, Lab, PublicationId, Resource,
    publication::{day_of, kind_of},
};
use nonstop_store::{Db, StoreError};
use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use tracing::error;

/// How often inboxes and folders are looked at when nobody asks.
const LOOK: Duration = Duration::from_secs(3);
/// A file that was changed less than this ago may still be written to.
const SETTLED: Duration = Duration::from_secs(10);
/// Who takes files that nobody asked to be taken.
pub const WATCHER: &str = "watcher";

/// Publishes what arrives for the data domains whose servers run here.
pub struct Publisher {
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    hand: Arc<dyn Hand>,
    children: Arc<dyn Children>,
    reserve_bytes: u64,
    domains: BTreeMap<String, Ground>,
    board: Mutex<Board>,
    wakes: Mutex<u64>,
    woken: Condvar,
}

/// One data domain.
pub(crate) struct Ground {
    pub(crate) domain: DataDomain,
    pub(crate) folders: Folders,
    /// Held while files are taken out of the inbox.
    taking: Mutex<()>,
}

impl Ground {
    /// Whether days of `kind` are published here.
    pub(crate) fn takes(&self, kind: Resource) -> bool {
        takes(&self.domain, kind)
    }

    /// Whether its days of packets are loaded into PostgreSQL here.
    pub(crate) fn has_rdb(&self) -> bool {
        self.domain.server_of(Resource::Rdb).is_some()
    }
}

impl Publisher {
    /// A publisher for `lab`, whose published files members of the groups `readers` may read.
    pub fn new(
        lab: &Lab,
        readers: Readers,
        hand: &Arc<dyn Hand>,
        children: Arc<dyn Children>,
        db: Arc<Db>,
        clock: Arc<dyn Clock>,
    ) -> Publisher {
        let here = lab.data_domains.iter().filter(|(_, domain)| publishes(domain));
        let domains = here.map(|(name, domain)| {
            let folders = Folders::new(lab.data(name), readers, Arc::clone(hand));
            let (domain, taking) = (domain.clone(), Mutex::default());
            (name.clone(), Ground { domain, folders, taking })
        });
        Publisher {
            db,
            clock,
            hand: Arc::clone(hand),
            children,
            reserve_bytes: lab.capacity.reserve_mib << 20,
            domains: domains.collect(),
            board: Mutex::default(),
            wakes: Mutex::default(),
            woken: Condvar::new(),
        }
    }

    /// Starts the threads, which go on for as long as the process lives.
    pub fn run(self: &Arc<Publisher>) -> std::io::Result<()> {
        if self.domains.is_empty() {
            return Ok(());
        }
        // Before the watcher takes anything: a number of a restored backup is not given out again
        // while something lies there under it.
        self.domains.keys().for_each(|name| self.begin_work(name));
        let publisher = Arc::clone(self);
        thread::Builder::new().name("inboxes".into()).spawn(move || {
            publisher.again_and_again(|publisher| {
                publisher.domains.keys().for_each(|name| publisher.watch(name));
            });
        })?;
        let names: Vec<String> = self.domains.keys().cloned().collect();
        for name in names {
            let publisher = Arc::clone(self);
            let thread = thread::Builder::new().name("publisher".into());
            thread.spawn(move || publisher.again_and_again(|publisher| publisher.work(&name)))?;
        }
        Ok(())
    }

    fn again_and_again(&self, work: impl Fn(&Publisher)) -> ! {
        loop {
            let seen = *lock(&self.wakes);
            work(self);
            let wakes = lock(&self.wakes);
            let waited = self.woken.wait_timeout_while(wakes, LOOK, |wakes| *wakes == seen);
            drop(waited);
        }
    }

    /// Has everything looked at now.
    pub fn wake(&self) {
        *lock(&self.wakes) += 1;
        self.woken.notify_all();
    }

    /// The same, and what could not be done is tried again without waiting.
    pub fn hurry(&self) {
        lock(&self.board).forgive();
        self.wake();
    }

    /// The data domains that are published here.
    pub(crate) fn grounds(&self) -> impl Iterator<Item = (&str, &Ground)> {
        self.domains.iter().map(|(name, ground)| (name.as_str(), ground))
    }

    /// The days that PostgreSQL has of `name` now.
    pub(crate) fn ask_days(&self, ground: &Ground, name: &str) -> Result<Vec<LoadedDay>, Trouble> {
        match ground.has_rdb() {
            true => self.children.days(name),
            false => Ok(Vec::new()),
        }
    }

    /// Wants `file` of the inbox of `domain` published, for `actor`.
    pub fn begin(
        &self,
        domain: &str,
        file: &str,
        actor: &str,
    ) -> Result<PublicationId, StoreError> {
        let day: Option<Date> = day_of(file);
        self.db.write(actor, self.clock.now(), |w| {
            let before = w.publication_of(domain, file)?;
            match before.filter(|p| p.state.is_under_way() && p.day == day) {
                // Asked for a second time before it was moved.
                Some(same) if day.is_none() => Ok(same.id),
                _ => w.take_publication(domain, kind_of(file), day, file),
            }
        })
    }

    /// How far the publication `id` is.
    pub fn progress(&self, id: PublicationId) -> Option<Progress> {
        lock(&self.board).progress.get(&id).cloned()
    }

    /// What keeps the publication `id` from going on.
    pub fn trouble(&self, id: PublicationId) -> Option<Trouble> {
        lock(&self.board).trouble(id)
    }

    /// What is known of `domain` beside the database.
    pub fn domain_board(&self, domain: &str) -> DomainBoard {
        lock(&self.board).domains.get(domain).cloned().unwrap_or_default()
    }

    /// Notes that `domain` stands still because of `error`.
    fn stands_still(&self, domain: &str, error: &dyn std::error::Error) {
        let message = chain(error);
        if lock(&self.board).stands_still(domain, &message) {
            error!("data domain `{domain}`: {message}");
        }
    }
}

/// Whether days of `domain` are published here.
pub(crate) fn publishes(domain: &DataDomain) -> bool {
    takes(domain, Resource::Pcap) || takes(domain, Resource::Samples)
}

/// Whether days of `kind` of `domain` are published here: a server gives them to machines.
pub fn takes(domain: &DataDomain, kind: Resource) -> bool {
    let servers = match kind {
        Resource::Samples | Resource::Reports => [Resource::Samples, Resource::Reports],
        _ => [Resource::Pcap, Resource::Rdb],
    };
    domain.here && servers.iter().any(|resource| domain.server_of(*resource).is_some())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

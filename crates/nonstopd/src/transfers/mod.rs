//! Files on their way into environments and out of them: their names, contents and states.
//!
//! `doors` hears the airlock's programs, `asks` answers them, `writing` watches what is being
//! written, `contents` are the files. What a machine has left alone becomes an export (`settling`),
//! is screened (`screening`), and outside then sees it or not (`outside`). Nothing here needs
//! libvirt; nothing reads a byte of a file but to compare two that should be one.

mod asks;
mod captures;
mod changes;
mod connection;
mod contents;
mod denials;
pub mod doors;
mod outside;
pub mod peers;
mod repair;
mod room;
mod screening;
mod settling;
mod writing;

pub use asks::Session;
pub(crate) use asks::in_short;
pub use peers::{ByKernel, Nobody, Peers, Who};

use crate::{Clock, publisher::Hand, screening::Screener};
use contents::Contents;
use nonstop_model::{BlobId, EnvironmentId, ExportId, ImportId, Lab, Root, screening::Verdict};
use nonstop_store::{ByHash, Db, Export, StoreError, Tree, Write};
use room::Meters;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use writing::Writings;

/// The most names of one tree.
pub const MOST_NAMES: u64 = 20_000;

/// What transfers work with.
pub struct Parts {
    /// The lab.
    pub lab: Lab,
    /// What is wanted, and the trace.
    pub db: Arc<Db>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Looks into files.
    pub screener: Arc<dyn Screener>,
    /// Tells who is behind connections.
    pub peers: Arc<dyn Peers>,
    /// Does effects on the disk.
    pub hand: Arc<dyn Hand>,
    /// What commits with each release: its receipt, and the head of the trace that it is in.
    pub seal: Seal,
}

/// What is written in the transaction of a release, before anybody outside can see it.
pub type Seal =
    Box<dyn Fn(&mut Write<'_>, &Export) -> Result<(), StoreError> + Send + Sync + 'static>;

/// Holds names, contents and states of one lab.
pub struct Transfers {
    lab: Lab,
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    screener: Arc<dyn Screener>,
    peers: Arc<dyn Peers>,
    hand: Arc<dyn Hand>,
    seal: Seal,
    contents: Contents,
    state: Mutex<State>,
    woken: Condvar,
}

/// What is not kept over a restart.
#[derive(Default)]
struct State {
    writings: Writings,
    meters: Meters,
    trees: outside::Trees,
    /// Exports and imports that are being looked at, by environment.
    exports: BTreeMap<ExportId, (EnvironmentId, BlobId)>,
    imports: BTreeSet<ImportId>,
    /// When each environment's turn was last, counted.
    turns: BTreeMap<EnvironmentId, u64>,
    turn: u64,
    wakes: u64,
}

impl Transfers {
    /// Makes the folders, and heals what a power cut left: what was being screened is going to be
    /// screened again, an upload that was not acknowledged goes, a file whose row a restored backup
    /// does not know is put aside.
    pub fn open(parts: Parts) -> anyhow::Result<Arc<Transfers>> {
        let Parts { lab, db, clock, screener, peers, hand, seal } = parts;
        let contents = Contents::new(&lab, Arc::clone(&hand));
        let (state, woken) = (Mutex::default(), Condvar::new());
        let transfers =
            Transfers { lab, db, clock, screener, peers, hand, seal, contents, state, woken };
        transfers.contents.make()?;
        transfers.repair()?;
        Ok(Arc::new(transfers))
    }

    /// Starts the threads, which go on for as long as the process lives.
    pub fn run(self: &Arc<Transfers>) -> io::Result<()> {
        let start = |name: &str, work: fn(&Transfers) -> bool, pause: Duration| {
            let transfers = Arc::clone(self);
            let thread = thread::Builder::new().name(name.into());
            thread.spawn(move || transfers.again_and_again(work, pause)).map(drop)
        };
        let cores = thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        for _ in 0..cores {
            start("screening", Transfers::screen_one, Duration::from_secs(1))?;
        }
        start("imports", Transfers::look_at_one, Duration::from_secs(1))?;
        start("settling", Transfers::settle, Duration::from_millis(250))?;
        start("endings", Transfers::end_environments, Duration::from_secs(5))?;
        let watcher = Arc::clone(self);
        let thread = thread::Builder::new().name("writings".into());
        thread.spawn(move || watcher.watch_writings()).map(drop)
    }

    /// Does once what the threads of [`Transfers::run`] do again and again, and comes back when
    /// nothing is left to do at the moment.
    pub fn work_off(&self) {
        self.watch_writings_once();
        self.end_environments();
        // What is screened lets more be submitted.
        while self.settle() || self.look_at_one() || self.screen_one() {}
    }

    /// Does `work` for as long as there is some, then waits until it is woken, or for `pause`.
    fn again_and_again(&self, work: fn(&Transfers) -> bool, pause: Duration) -> ! {
        loop {
            let seen = self.state().wakes;
            while work(self) {}
            let state = self.state();
            drop(self.woken.wait_timeout_while(state, pause, |state| state.wakes == seen));
        }
    }

    /// Has everything looked at now.
    pub fn wake(&self) {
        self.state().wakes += 1;
        self.woken.notify_all();
    }

    /// Opens the bytes of `export` to read: as they came, or by their hash once those are gone.
    pub fn open_export(&self, export: &Export) -> io::Result<File> {
        let as_they_came = self.contents.open(Root::Export, &export.blob);
        match (&export.screening, export.kept) {
            (Some(screening), Some(kept)) => {
                as_they_came.or_else(|_| self.contents.open_by_hash(kept, &screening.sha256))
            }
            _ => as_they_came,
        }
    }

    /// How many files were put aside because the database did not know them, and where they are.
    pub fn aside(&self) -> io::Result<(usize, PathBuf)> {
        self.contents.aside()
    }

    /// Lets the held export `id` out, or keeps it in, by the word of `actor`, who may; the release,
    /// its receipt and the head of the trace commit together.
    pub fn decide(
        &self,
        actor: &str,
        id: ExportId,
        release: bool,
        reason: &str,
    ) -> Result<Export, StoreError> {
        let decided = self.db.write(actor, self.clock.now(), |w| {
            let export = w.decide_export(id, release, reason)?;
            if release {
                (self.seal)(w, &export)?;
            }
            Ok::<_, StoreError>(export)
        });
        self.wake();
        decided
    }

    /// Takes the released export `id` back, by the word of `actor`, who may.
    pub fn revoke(&self, actor: &str, id: ExportId, reason: &str) -> Result<Export, StoreError> {
        let revoked = self.db.write(actor, self.clock.now(), |w| w.revoke_export(id, reason));
        self.wake();
        revoked
    }

    /// How a tree of `environment` may change.
    fn tree(&self, environment: EnvironmentId, root: Root) -> Tree {
        let airlock = &self.lab.airlock;
        let mib = match root {
            Root::Import => airlock.import_mib,
            Root::Export | Root::Capture => airlock.export_mib,
        };
        let quiet = Duration::from_secs(airlock.quiet_seconds.into());
        Tree {
            environment,
            root,
            names: MOST_NAMES,
            bytes: mib << 20,
            due_at: (root == Root::Export).then(|| self.clock.now() + quiet),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the bytes of an export with that verdict are kept.
fn kept(verdict: Verdict) -> ByHash {
    match verdict {
        Verdict::Block => ByHash::Quarantine,
        Verdict::Pass | Verdict::Hold => ByHash::Trace,
    }
}

//! Files that airlock programs are writing: tickets, bounds, and what becomes of those that nobody
//! commits.

use super::{Transfers, contents::Contents};
use nonstop_api::airlock::Place;
use nonstop_model::{EnvironmentId, Root};
use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::MetadataExt,
    thread,
    time::{Duration, Instant},
};
use tracing::{error, warn};

/// How often files are looked at while there are any.
const LOOK: Duration = Duration::from_millis(100);
/// How long one may take.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Room on the disk that a file may have taken beyond its length, for what file systems set aside.
const SLACK: u64 = 64 << 20;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    /// The session that may commit it.
    pub(super) session: u64,
    /// Where it is to be.
    pub(super) place: Place,
    /// It, open to read.
    pub(super) file: File,
    /// The most bytes that it may have.
    pub(super) most: u64,
    /// How long it was said to become.
    pub(super) stated: Option<u64>,
    begun: Instant,
    /// Whether nobody can commit it any more; it is kept empty while somebody can write to it.
    dead: bool,
}

/// All of them, by ticket.
#[derive(Debug, Default)]
pub(super) struct Writings(BTreeMap<u64, Writing>);

impl Writings {
    pub(super) fn add(
        &mut self,
        session: u64,
        place: Place,
        file: File,
        most: u64,
        stated: Option<u64>,
    ) -> u64 {
        let begun = Instant::now();
        let mut ticket = rand::random();
        while self.0.contains_key(&ticket) {
            ticket = rand::random();
        }
        let new = Writing { session, place, file, most, stated, begun, dead: false };
        self.0.insert(ticket, new);
        ticket
    }

    /// Takes the file of `ticket` out, if `session` may commit it.
    pub(super) fn take(&mut self, session: u64, ticket: u64) -> Option<Writing> {
        let found = self.0.get(&ticket)?;
        if found.session != session || found.dead {
            return None;
        }
        self.0.remove(&ticket)
    }

    /// Puts it back, as it could not be committed.
    pub(super) fn put_back(&mut self, ticket: u64, writing: Writing) {
        self.0.insert(ticket, writing);
    }

    /// Nobody commits `writing` any more.
    pub(super) fn give_up(&mut self, ticket: u64, mut writing: Writing) {
        writing.dead = true;
        self.0.insert(ticket, writing);
    }

    /// Nobody commits any more what `session` was writing.
    pub(super) fn end_session(&mut self, session: u64) {
        for writing in self.0.values_mut().filter(|w| w.session == session) {
            writing.dead = true;
        }
    }

    /// How many `session`, and all that write in that tree, are writing; the dead ones, too. Each
    /// tree is one side's to write: nothing that one side does may keep the other from writing.
    pub(super) fn count(
        &self,
        session: u64,
        environment: EnvironmentId,
        root: Root,
    ) -> (usize, usize) {
        let of_session = self.0.values().filter(|w| w.session == session).count();
        let in_tree = |w: &&Writing| w.place.environment == environment && w.place.root == root;
        (of_session, self.0.values().filter(in_tree).count())
    }

    /// Bytes that are promised and not on the disk yet, in all trees `root`; and those that the tree
    /// of `environment` is going to hold.
    pub(super) fn promised(&self, root: Root, environment: EnvironmentId) -> (u64, u64) {
        let (mut on_disk, mut in_tree) = (0_u64, 0_u64);
        for writing in self.0.values().filter(|w| !w.dead && w.place.root == root) {
            let has = writing.file.metadata().map_or(0, |m| m.len());
            let going_to = writing.stated.unwrap_or(has).max(has);
            on_disk = on_disk.saturating_add(going_to - has);
            if writing.place.environment == environment {
                in_tree = in_tree.saturating_add(going_to);
            }
        }
        (on_disk, in_tree)
    }

    /// Looks at each: what grew over its bound, or takes too long, is dead; what is dead is emptied,
    /// and forgotten once nobody can write to it. With `full`, what machines write is dead, too.
    fn watch(&mut self, full: bool, trees: impl Fn(Root) -> u64) {
        let mut sums: BTreeMap<(EnvironmentId, Root), u64> = BTreeMap::new();
        self.0.retain(|_, writing| {
            let Ok(found) = writing.file.metadata() else { return false };
            let (length, taken) = (found.len(), found.blocks().saturating_mul(512));
            let tree = (writing.place.environment, writing.place.root);
            let sum = sums.entry(tree).or_default();
            if !writing.dead {
                *sum = sum.saturating_add(length);
                let most = writing.most;
                let over = length > most || taken > most.saturating_add(most / 4 + SLACK);
                let late = writing.begun.elapsed() > LONGEST;
                if over || late || *sum > trees(tree.1) {
                    warn!("a file on its way into {}/{} grew over its bound", tree.0, tree.1);
                    writing.dead = true;
                } else if full && tree.1 == Root::Export && length > 0 {
                    warn!("a file on its way into {}/{}: the disk is nearly full", tree.0, tree.1);
                    writing.dead = true;
                }
            }
            if !writing.dead {
                return true;
            }
            if (length, taken) != (0, 0)
                && let Err(e) = Contents::empty(&writing.file)
            {
                error!("empty a file that nobody commits: {e}");
            }
            !matches!(Contents::is_written(&writing.file), Ok(false))
        });
    }
}

impl Transfers {
    /// Watches what is being written for as long as the process lives.
    pub(super) fn watch_writings(&self) -> ! {
        loop {
            thread::sleep(LOOK);
            self.watch_writings_once();
        }
    }

    pub(super) fn watch_writings_once(&self) {
        let mut state = self.state();
        state.meters.tidy(Instant::now());
        if state.writings.0.is_empty() {
            return;
        }
        // Below three quarters of it what was promised already does not count any more.
        let floor = self.floor(Root::Export) / 4 * 3;
        let full = self.contents.free_bytes().is_ok_and(|free| free < floor);
        let airlock = &self.lab.airlock;
        state.writings.watch(full, |root| match root {
            Root::Import => airlock.import_mib << 20,
            Root::Export | Root::Capture => airlock.export_mib << 20,
        });
    }
}

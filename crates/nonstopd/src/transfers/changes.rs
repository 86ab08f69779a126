//! Changes that clients make: files written and committed, names changed.

use super::{
    Transfers,
    asks::{Outcome, Session, entry_of, parent_of, writable},
    contents::KeepError,
    denials::{self, denial, io, no_room, read_only},
    peers::Who,
    writing::Writing,
};
use crate::status::chain;
use jiff::Timestamp;
use nonstop_api::airlock::{Answer, Denial, DenialKind, Entry, Place};
use nonstop_model::{BlobId, EntryPath, Root};
use nonstop_store::{NameError, NewContent, Tree, Write};
use std::{
    thread,
    time::{Duration, Instant},
};
use tracing::error;

/// Files that one session may be writing at once, and all of one tree.
const AT_ONCE: (usize, usize) = (16, 128);
/// How long a committed file may still be open for writing: programs close in other threads.
const CLOSING: Duration = Duration::from_secs(1);
/// Seconds of a day in UTC.
const DAY: i64 = 86_400;

impl Transfers {
    /// The tree of `place`, if `session` may make one more change there.
    pub(super) fn may_change(&self, session: &Session, place: &Place) -> Result<Tree, Denial> {
        self.standing(session, place.environment)?;
        if !writable(session, place.root) {
            return Err(read_only());
        }
        if place.path.is_root() {
            return Err(denial(DenialKind::ReadOnly, "the folder itself stays as it is"));
        }
        if !self.state().meters.change(place.environment, place.root, Instant::now()) {
            return Err(too_many_changes());
        }
        Ok(self.tree(place.environment, place.root))
    }

    /// The same for a change that gives what is at `place` the name `to`: of imports, a record of that
    /// is kept for ever. What lies in `along` changes, too.
    pub(super) fn may_name(
        &self,
        session: &Session,
        place: &Place,
        to: &EntryPath,
        along: &[&EntryPath],
    ) -> Result<Tree, Denial> {
        let tree = self.may_change(session, place)?;
        self.may_take_along(session, &tree, along)?;
        if place.root == Root::Import {
            self.may_trace(place.environment, place.path.as_str().len() + to.as_str().len())?;
        }
        Ok(tree)
    }

    /// Whether all that lies in those of `paths` that are folders may be changed, too: it takes the
    /// database as long as that is much.
    pub(super) fn may_take_along(
        &self,
        session: &Session,
        tree: &Tree,
        paths: &[&EntryPath],
    ) -> Result<(), Denial> {
        let along = self.read(session, |read| {
            let mut along = 0;
            for path in paths {
                along += read.names_below(tree.environment, tree.root, path)?;
            }
            Ok(along)
        })?;
        let now = Instant::now();
        let may = along == 0 || self.state().meters.along(tree.environment, tree.root, along, now);
        if may { Ok(()) } else { Err(too_many_changes()) }
    }

    /// Commits a change of names.
    pub(super) fn change<T>(
        &self,
        session: &Session,
        change: impl FnOnce(&mut Write<'_>) -> Result<T, NameError>,
    ) -> Result<T, Denial> {
        self.hand.about_to("commit names").map_err(|e| io("commit names", &e))?;
        let changed = self.db.write(&session.actor, self.clock.now(), change);
        self.wake();
        changed.map_err(|e| denials::name(&e))
    }

    /// A file to write for `place`, and its ticket.
    pub(super) fn create(&self, session: &Session, place: Place, bytes: Option<u64>) -> Outcome {
        let tree = self.may_change(session, &place)?;
        let parent = parent_of(&place.path)?;
        let (usage, before, folder) = self.read(session, |read| {
            let before = read.name_at(place.environment, place.root, &place.path)?;
            let folder = match parent.is_root() {
                true => true,
                false => read
                    .name_at(place.environment, place.root, &parent)?
                    .is_some_and(|row| row.blob.is_none()),
            };
            Ok((read.usage(place.environment, place.root)?, before, folder))
        })?;
        if !folder {
            return Err(denials::name(&NameError::NoFolder));
        }
        if before.as_ref().is_some_and(|row| row.blob.is_none()) {
            return Err(denials::name(&NameError::WrongKind));
        }
        if before.is_none() && usage.names >= tree.names {
            return Err(denials::name(&NameError::TooMany(tree.names)));
        }
        self.must_not_flood(session, &place)?;
        let (file, theirs) = self.contents.blank(place.root).map_err(|e| io("make a file", &e))?;
        let mut state = self.state();
        let (of_session, in_tree) = state.writings.count(session.id, place.environment, place.root);
        if of_session >= AT_ONCE.0 || in_tree >= AT_ONCE.1 {
            let message = "too many files are being written at once: wait until some are done";
            return Err(denial(DenialKind::Busy, message));
        }
        let (promised, pending) = state.writings.promised(place.root, place.environment);
        let used = usage.bytes - before.map_or(0, |row| row.bytes).min(usage.bytes);
        let left = tree.bytes.saturating_sub(used).saturating_sub(pending);
        let room = self.disk_room(place.root, promised).map_err(|e| io("look at the disk", &e))?;
        let wanted = bytes.unwrap_or(1);
        if wanted > left {
            let full = NameError::Quota { wanted, used: used + pending, bytes: tree.bytes };
            return Err(denials::name(&full));
        }
        if wanted > room {
            return Err(no_room());
        }
        let most = bytes.unwrap_or_else(|| left.min(room));
        if place.root == Root::Import {
            // Last: whoever waits for any of the above asks again and again.
            state.meters.trace(place.environment, place.path.as_str().len(), Instant::now())?;
        }
        let ticket = state.writings.add(session.id, place, file, most, bytes);
        Ok((Answer::Writing { ticket, bytes: most }, Some(theirs)))
    }

    /// What an environment gives in a day is kept whatever becomes of it, so it is bounded.
    fn must_not_flood(&self, session: &Session, place: &Place) -> Result<(), Denial> {
        if place.root != Root::Export {
            return Ok(());
        }
        let day = start_of_day(self.clock.now());
        let kept = self.read(session, |read| read.kept_bytes(place.environment, day))?;
        let most = (self.lab.airlock.day_mib << 20).saturating_mul(2);
        if kept > most {
            let message = "the environment has given more than twice what it may export in a day: \
                           go on tomorrow, or ask the staff";
            return Err(denial(DenialKind::Quota, message));
        }
        Ok(())
    }

    /// The file of `ticket` is written: it is at its place afterwards, also after a power cut.
    pub(super) fn commit(&self, session: &Session, ticket: u64) -> Result<Entry, Denial> {
        let taken = self.state().writings.take(session.id, ticket);
        let unknown = "there is no such file to commit: it grew over its bound, or was given up";
        let writing = taken.ok_or_else(|| denial(DenialKind::NotFound, unknown))?;
        match self.commit_file(session, &writing) {
            Err((denial, true)) => {
                self.state().writings.put_back(ticket, writing);
                Err(denial)
            }
            Err((denial, false)) => {
                self.state().writings.give_up(ticket, writing);
                Err(denial)
            }
            Ok(entry) => Ok(entry),
        }
    }

    /// Commits `writing`, or says why not, and whether that may be tried again.
    fn commit_file(&self, session: &Session, writing: &Writing) -> Result<Entry, (Denial, bool)> {
        let place = &writing.place;
        let not = |denial| (denial, false);
        self.standing(session, place.environment).map_err(not)?;
        self.wait_until_closed(writing).map_err(|e| {
            let again = matches!(e, KeepError::Written);
            (denials::kept(&e), again)
        })?;
        let length = writing.file.metadata().map_err(|e| not(io("look at a file", &e)))?.len();
        if length > writing.most {
            let quota = NameError::Quota { wanted: length, used: 0, bytes: writing.most };
            return Err(not(denials::name(&quota)));
        }
        let machine = match &session.who {
            Who::Machine { machine, .. } => Some(*machine),
            Who::Person(_) => None,
        };
        let blob = BlobId::from_bits(rand::random());
        let kept = self.contents.keep(place.root, &blob, &writing.file);
        let row = kept.map_err(|e| denials::kept(&e)).and_then(|()| {
            let new = NewContent { blob: &blob, bytes: length, machine };
            // Quiet begins with the commit, however long the upload took.
            let tree = self.tree(place.environment, place.root);
            self.change(session, |w| w.put_file(&tree, &place.path, new))
        });
        match row {
            Ok(row) => {
                if let Err(e) = self.contents.settle(place.root, &blob) {
                    error!("name the content {blob}, which is done at the next start: {e}");
                }
                Ok(entry_of(session, &row))
            }
            Err(denial) => {
                if let Err(e) = self.contents.remove(place.root, &blob) {
                    error!("remove the content {blob}, which nobody knows: {}", chain(&e));
                }
                Err(not(denial))
            }
        }
    }

    fn wait_until_closed(&self, writing: &Writing) -> Result<(), KeepError> {
        let begun = Instant::now();
        while super::contents::Contents::is_written(&writing.file)? {
            if begun.elapsed() > CLOSING {
                return Err(KeepError::Written);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

fn too_many_changes() -> Denial {
    let message = "too many changes in a short time: wait some seconds, then try again";
    denial(DenialKind::Busy, message)
}

/// When the day of `now` began, in UTC.
pub(super) fn start_of_day(now: Timestamp) -> Timestamp {
    let day = now.as_second().div_euclid(DAY) * DAY;
    Timestamp::from_second(day).unwrap_or(Timestamp::UNIX_EPOCH)
}

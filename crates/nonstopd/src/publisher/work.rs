//! One look at a data domain: what is taken, led on, kept no longer, and found changed.

use super::{
    Arrived, Ground, Job, Progress, Publisher, SETTLED, Shown, Step, Trouble, Verdict, WATCHER,
    board::DayFault, children::plain, lock, next,
};
use jiff::{Timestamp, civil::Date};
use nonstop_model::{Content, Publication, PublicationId, PublicationState, publication::too_old};
use nonstop_store::{StoreError, Write};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
};
use tracing::{info, warn};

/// Who leads publications on.
const NONSTOPD: &str = "nonstopd";
/// Steps of one publication in one look: more than there are.
const MOST_STEPS: u32 = 32;
/// PostgreSQL is asked for its days after a change, and after so many seconds.
const ASK_SECONDS: i64 = 60;
/// The same while it does not answer.
const ASK_AGAIN_SECONDS: i64 = 5;

/// What kept a look from its end.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("the database")]
    Store(#[from] StoreError),
    #[error("the folders of the data domain")]
    Folders(#[from] io::Error),
}

/// What kept a publication where it is.
enum Kept {
    /// This; it is tried again.
    Trouble(Trouble),
    /// What keeps all of the data domain.
    All(LookError),
}

impl From<io::Error> for Kept {
    fn from(error: io::Error) -> Kept {
        let help = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "make room on the disk of the lab's `state`; it goes on by itself"
            }
            _ => "look at the folders of the data domain under the lab's `state`",
        };
        Kept::Trouble(Trouble::new(error.to_string(), help))
    }
}

impl From<StoreError> for Kept {
    fn from(error: StoreError) -> Kept {
        Kept::All(error.into())
    }
}

impl From<Trouble> for Kept {
    fn from(trouble: Trouble) -> Kept {
        Kept::Trouble(trouble)
    }
}

type Led<T = ()> = Result<T, Kept>;

impl Publisher {
    /// Before the first look at `name`: makes its folders, and gives back what the database does not
    /// know.
    pub fn begin_work(&self, name: &str) {
        let Some(ground) = self.domains.get(name) else { return };
        if let Err(e) = self.make_and_give_back(name, ground) {
            self.stands_still(name, &e);
        }
    }

    fn make_and_give_back(&self, name: &str, ground: &Ground) -> Result<(), LookError> {
        ground.folders.make()?;
        let _taking = lock(&ground.taking);
        for id in ground.folders.begun()? {
            if self.db.read(|r| r.publication(id))?.is_some_and(|p| p.domain == name) {
                continue;
            }
            let given = ground.folders.give_back(id)?;
            warn!(
                "data domain `{name}`: the database does not know {id} (is it a restored backup?); \
                 back in the inbox: {given:?}"
            );
        }
        Ok(())
    }

    /// Takes what has arrived for `name` and is complete.
    pub fn watch(&self, name: &str) {
        let Some(ground) = self.domains.get(name) else { return };
        if let Err(e) = self.take_arrived(name, ground) {
            self.stands_still(name, &e);
        }
    }

    fn take_arrived(&self, name: &str, ground: &Ground) -> Result<(), LookError> {
        let _taking = lock(&ground.taking);
        let now = std::time::SystemTime::now();
        let mut unfit = BTreeSet::new();
        for arrival in ground.folders.arrivals()? {
            match arrival.what {
                Arrived::Unfit(why) => {
                    let shown = plain(&arrival.name.to_string_lossy());
                    unfit.insert(format!("`{shown}` in the inbox is {why}"));
                }
                Arrived::File { written: true, .. } => {}
                Arrived::File { name: file, modified, .. } => {
                    // A time in the future says nothing: it is no reason to wait for ever.
                    let settled = now.duration_since(modified).map_or(true, |age| age >= SETTLED);
                    if !settled {
                        continue;
                    }
                    match self.begin(name, &file, WATCHER) {
                        Ok(_) => {}
                        // It is taken after the other.
                        Err(StoreError::DayUnderWay { .. }) => {}
                        Err(e) => return Err(e.into()),
                    }
                }
            }
        }
        let mut moved = false;
        for publication in self.db.read(|r| r.publications_under_way(name))? {
            if publication.state != PublicationState::Taken {
                continue;
            }
            let seen = ground.folders.see(&publication)?;
            if next(&publication, &seen) == Some(Step::Take) {
                match ground.folders.take(&publication) {
                    Ok(()) => moved = true,
                    Err(e) => self.hold(&publication, e.into())?,
                }
            }
        }
        if moved {
            self.wake();
        }
        for what in lock(&self.board).new_of(name, unfit) {
            warn!("data domain `{name}`: {what}");
        }
        Ok(())
    }

    /// Leads on what is under way in `name`, and looks after what is published.
    pub fn work(&self, name: &str) {
        let Some(ground) = self.domains.get(name) else { return };
        match self.look(name, ground) {
            Ok(()) => lock(&self.board).domain(name).stands_still = None,
            Err(e) => self.stands_still(name, &e),
        }
    }

    fn look(&self, name: &str, ground: &Ground) -> Result<(), LookError> {
        ground.folders.make()?;
        ground.folders.sweep()?;
        let mut ids: BTreeSet<PublicationId> = ground.folders.begun()?.into_iter().collect();
        let (under_way, published) = self
            .db
            .read(|r| Ok::<_, StoreError>((r.publications_under_way(name)?, r.published(name)?)))?;
        ids.extend(under_way.iter().map(|p| p.id));
        let again =
            |p: &&Publication| matches!(p.state, PublicationState::Published { load: true, .. });
        ids.extend(published.iter().filter(again).map(|p| p.id));
        for id in ids {
            self.lead(name, ground, id)?;
        }
        self.keep_no_longer(name, ground)?;
        self.ask_rdb(name, ground)?;
        self.compare(name, ground)
    }

    /// Leads one publication on as far as it goes.
    fn lead(&self, name: &str, ground: &Ground, id: PublicationId) -> Result<(), LookError> {
        if !lock(&self.board).may_try(id, self.clock.now()) {
            return Ok(());
        }
        for _ in 0..MOST_STEPS {
            let Some(publication) = self.db.read(|r| r.publication(id))? else { return Ok(()) };
            if publication.domain != name {
                return Ok(());
            }
            let step = match ground.folders.see(&publication) {
                Ok(seen) => next(&publication, &seen),
                Err(e) => return self.hold(&publication, e.into()),
            };
            let Some(step) = step else {
                lock(&self.board).arrived(id);
                return Ok(());
            };
            if let Err(kept) = self.apply(ground, &publication, &step) {
                return self.hold(&publication, kept);
            }
            lock(&self.board).went_on(id);
        }
        let trouble = Trouble::new("it comes to no end", "look at the log of nonstopd");
        let publication = self.db.read(|r| r.publication(id))?;
        publication.map_or(Ok(()), |p| self.hold(&p, trouble.into()))
    }

    /// Notes why `publication` stays where it is.
    fn hold(&self, publication: &Publication, kept: Kept) -> Result<(), LookError> {
        match kept {
            Kept::All(e) => Err(e),
            Kept::Trouble(trouble) => {
                let message = trouble.message.clone();
                if lock(&self.board).held(publication.id, trouble, self.clock.now()) {
                    warn!("{} of {} waits: {message}", publication.file, publication.domain);
                }
                Ok(())
            }
        }
    }

    fn apply(&self, ground: &Ground, publication: &Publication, step: &Step) -> Led {
        let (id, folders) = (publication.id, &ground.folders);
        match step {
            Step::Take => {
                let _taking = lock(&ground.taking);
                // The watcher may have been faster.
                if next(publication, &folders.see(publication)?) == Some(Step::Take) {
                    folders.take(publication)?;
                }
                Ok(())
            }
            Step::Wait(why) => {
                Err(Trouble::new(*why, "it goes on by itself once that is over").into())
            }
            Step::Check => self.check(ground, publication),
            Step::Load => {
                let content = known(publication)?;
                let rows = match ground.has_rdb() {
                    true => Some(self.load(
                        ground,
                        publication,
                        content,
                        &folders.open_taken(publication)?,
                    )?),
                    false => None,
                };
                self.record(|w| w.publication_loaded(id, rows))
            }
            Step::Prepare => {
                self.enough_room(ground)?;
                let day = day_of(publication)?;
                folders.prepare(publication, day, known(publication)?, self.clock.now())?;
                Ok(())
            }
            Step::Show => {
                let day = day_of(publication)?;
                self.begins(id, "show", 0);
                if ground.has_rdb() {
                    // What failed once may have lost what was loaded; what is there still is left.
                    if self.trouble(id).is_some() && folders.see(publication)?.taken.is_some() {
                        let file = folders.open_taken(publication)?;
                        self.load(ground, publication, known(publication)?, &file)?;
                    }
                    self.children.swap(&job(ground, publication, day))?;
                }
                let is_ours = |shown: &Shown| shown.day.publication == id.to_string();
                if !folders.shown(day)?.as_ref().is_some_and(is_ours) {
                    folders.exchange(publication, day)?;
                }
                let shown = folders.shown(day)?.filter(is_ours).ok_or_else(gone)?;
                self.record(|w| w.publication_published(id, shown.modified_ns))?;
                self.ask_rdb_soon(&publication.domain);
                info!("{day} of {} is published", publication.domain);
                Ok(())
            }
            Step::Recover => self.recover(ground, publication),
            Step::Reject(reason) => self.reject(publication, reason),
            Step::PutAside => {
                let PublicationState::Rejected { reason } = &publication.state else {
                    return Ok(());
                };
                Ok(folders.put_aside(publication, reason)?)
            }
            Step::Clean => Ok(folders.clean(id)?),
            Step::LoadAgain => {
                let day = day_of(publication)?;
                let content = known(publication)?;
                let shown = folders.shown(day)?.filter(|shown| shown.day.sha256 == content.sha256);
                let shown = shown.ok_or_else(gone)?;
                let file = folders.open_shown(&shown)?;
                self.load(ground, publication, content, &file)?;
                let rows = self.children.swap(&job(ground, publication, day))?;
                self.record(|w| w.publication_reloaded(id, rows))?;
                self.ask_rdb_soon(&publication.domain);
                info!("{day} of {} is loaded again", publication.domain);
                Ok(())
            }
        }
    }

    /// Commits a change of what is known of a publication.
    fn record(&self, change: impl FnOnce(&mut Write<'_>) -> Result<(), StoreError>) -> Led {
        self.hand.about_to("record it")?;
        Ok(self.db.write(NONSTOPD, self.clock.now(), change)?)
    }

    fn check(&self, ground: &Ground, publication: &Publication) -> Led {
        let (id, day) = (publication.id, day_of(publication)?);
        // Days are kept as counted from the newest: one of a wrong clock would take all others away.
        if ground.domain.bounds(day).0 > self.clock.now() {
            let reason = "the day has not begun by the clock of this host: mend the clock of whatever \
                          recorded it, or this one's";
            return self.reject(publication, reason);
        }
        let file = ground.folders.open_taken(publication)?;
        self.begins(id, "check", file.metadata()?.len());
        let heard = |bytes, of| self.heard(id, bytes, of);
        match self.children.check(&job(ground, publication, day), &file, &heard)? {
            Verdict::Good(content) => self.record(|w| w.publication_checked(id, &content)),
            Verdict::Refused(reason) => self.reject(publication, &reason),
        }
    }

    fn reject(&self, publication: &Publication, reason: &str) -> Led {
        self.record(|w| w.reject_publication(publication.id, reason))?;
        warn!("{} of {} is rejected: {reason}", publication.file, publication.domain);
        Ok(())
    }

    fn load(
        &self,
        ground: &Ground,
        publication: &Publication,
        content: &Content,
        file: &std::fs::File,
    ) -> Led<u64> {
        self.enough_room(ground)?;
        let id = publication.id;
        self.begins(id, "load", content.bytes);
        let heard = |bytes, of| self.heard(id, bytes, of);
        let job = job(ground, publication, day_of(publication)?);
        Ok(self.children.load(&job, &content.sha256, file, &heard)?)
    }

    /// The row of a restored backup comes to know what its publication became.
    fn recover(&self, ground: &Ground, publication: &Publication) -> Led {
        let (id, day) = (publication.id, day_of(publication)?);
        let shown = ground.folders.shown(day)?.ok_or_else(gone)?;
        let content = Content {
            format: shown.day.format.parse().map_err(|e: String| Trouble::new(e, ""))?,
            bytes: shown.day.bytes,
            packets: shown.day.packets,
            first: shown.day.first,
            last: shown.day.last,
            sha256: shown.day.sha256,
        };
        let checked = matches!(publication.state, PublicationState::Checked(_));
        self.record(|w| {
            if !checked {
                w.publication_checked(id, &content)?;
            }
            w.publication_loaded(id, None)?;
            w.publication_published(id, shown.modified_ns)
        })?;
        warn!("{day} of {} was published already: the database knows it again", publication.domain);
        Ok(())
    }

    fn enough_room(&self, ground: &Ground) -> Led {
        let free = ground.folders.free_bytes()?;
        if free >= self.reserve_bytes {
            return Ok(());
        }
        let (free, reserve) = (free >> 20, self.reserve_bytes >> 20);
        let message = format!(
            "the disk of the lab's `state` is full: {free} MiB are free, {reserve} MiB are kept in \
             reserve"
        );
        Err(Trouble::new(message, "make room; it goes on by itself").into())
    }

    fn begins(&self, id: PublicationId, doing: &'static str, of: u64) {
        let progress = Progress { doing, bytes: 0, of, since: self.clock.now() };
        lock(&self.board).progress.insert(id, progress);
    }

    fn heard(&self, id: PublicationId, bytes: u64, of: u64) {
        if let Some(progress) = lock(&self.board).progress.get_mut(&id) {
            (progress.bytes, progress.of) = (bytes, of);
        }
    }

    /// Days that are older than data are kept are published no longer.
    fn keep_no_longer(&self, name: &str, ground: &Ground) -> Result<(), LookError> {
        let published = self.db.read(|r| r.published(name))?;
        let by_day: BTreeMap<Date, PublicationId> =
            published.iter().filter_map(|p| Some((p.day?, p.id))).collect();
        let days: Vec<Date> = by_day.keys().copied().collect();
        for day in too_old(&days, ground.domain.keep_days) {
            let id = by_day[&day];
            self.hand.about_to("record it")?;
            self.db.write(NONSTOPD, self.clock.now(), |w| w.expire_publication(id))?;
            self.ask_rdb_soon(name);
            info!("{day} of {name} is older than {:?} days: it goes", ground.domain.keep_days);
        }
        for day in ground.folders.shown_days()? {
            if self.is_expired(name, &ground.folders, day)? {
                ground.folders.unpublish(day)?;
            }
        }
        Ok(())
    }

    /// Whether the folder of `day` shows a publication that has expired.
    fn is_expired(
        &self,
        name: &str,
        folders: &super::Folders,
        day: Date,
    ) -> Result<bool, LookError> {
        let Some(shown) = folders.shown(day)? else { return Ok(false) };
        let Ok(id) = shown.day.publication.parse() else { return Ok(false) };
        let row = self.db.read(|r| r.publication(id))?;
        Ok(row.is_some_and(|row| {
            let same = row.state.content().is_some_and(|c| c.sha256 == shown.day.sha256);
            row.domain == name && same && matches!(row.state, PublicationState::Expired(_))
        }))
    }

    fn ask_rdb_soon(&self, name: &str) {
        lock(&self.board).domain(name).asked_at = None;
    }

    /// Asks PostgreSQL for its days, and drops those that have expired.
    fn ask_rdb(&self, name: &str, ground: &Ground) -> Result<(), LookError> {
        let now = self.clock.now();
        if !ground.has_rdb() || !self.is_time_to_ask(name, now) {
            return Ok(());
        }
        let mut loaded = self.children.days(name);
        let mut dropped = false;
        for day in loaded.iter().flatten() {
            let row = self.db.read(|r| r.publication(day.publication))?;
            let expired = row.is_some_and(|row| {
                let same = row.state.content().is_some_and(|c| c.sha256 == day.sha256);
                row.domain == name
                    && row.day == Some(day.day)
                    && same
                    && matches!(row.state, PublicationState::Expired(_))
            });
            if expired {
                match self.children.drop_day(name, day.day) {
                    Ok(()) => dropped = true,
                    Err(trouble) => warn!("drop {} of {name}: {trouble}", day.day),
                }
            }
        }
        if dropped {
            loaded = self.children.days(name);
        }
        let mut board = lock(&self.board);
        let board = board.domain(name);
        (board.loaded, board.asked_at) = (Some(loaded), Some(now));
        Ok(())
    }

    fn is_time_to_ask(&self, name: &str, now: Timestamp) -> bool {
        let mut board = lock(&self.board);
        let board = board.domain(name);
        let wait = match &board.loaded {
            Some(Ok(_)) => ASK_SECONDS,
            Some(Err(_)) | None => ASK_AGAIN_SECONDS,
        };
        board
            .asked_at
            .is_none_or(|at| (now.as_second() - at.as_second()).unsigned_abs() >= wait as u64)
    }

    /// Holds what lies there against what was published.
    fn compare(&self, name: &str, ground: &Ground) -> Result<(), LookError> {
        let published = self.db.read(|r| r.published(name))?;
        let mut faults = Vec::new();
        let mut known = BTreeSet::new();
        for row in &published {
            let (Some(day), Some(content)) = (row.day, row.state.content()) else { continue };
            known.insert(day);
            let PublicationState::Published { modified_ns, .. } = row.state else { continue };
            let what = match ground.folders.shown(day)? {
                None => "its folder was removed or changed by hand: publish the day again",
                Some(shown) if shown.day.publication != row.id.to_string() => {
                    "its folder shows another publication than the database knows: publish the day \
                     again"
                }
                Some(shown) if (shown.bytes, shown.modified_ns) != (content.bytes, modified_ns) => {
                    "its file was changed by hand: publish the day again"
                }
                Some(_) => continue,
            };
            faults.push(DayFault { day, what: what.into() });
        }
        for day in ground.folders.shown_days()? {
            if !known.contains(&day) {
                let what = "it lies among the published days, but the database does not know it (is \
                            it a restored backup?): publish the day again, or remove its folder";
                faults.push(DayFault { day, what: what.into() });
            }
        }
        let mut board = lock(&self.board);
        let board = board.domain(name);
        for fault in faults.iter().filter(|fault| !board.faults.contains(fault)) {
            warn!("{} of {name}: {}", fault.day, fault.what);
        }
        board.faults = faults;
        Ok(())
    }
}

fn job(ground: &Ground, publication: &Publication, day: Date) -> Job {
    let (from, until) = ground.domain.bounds(day);
    Job { domain: publication.domain.clone(), day, from, until, id: publication.id }
}

fn day_of(publication: &Publication) -> Led<Date> {
    publication.day.ok_or_else(|| Trouble::new("its name is no day", "").into())
}

fn known(publication: &Publication) -> Led<&Content> {
    publication.state.content().ok_or_else(|| Trouble::new("it was not checked yet", "").into())
}

fn gone() -> Kept {
    Trouble::new(
        "the published folder of the day was removed or changed by hand",
        "publish the day again",
    )
    .into()
}

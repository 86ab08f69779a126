//! The steps of a publication: what each does, and the row that says it is done.

use super::{
    Ground, Job, Progress, Publisher, Shown, Step, Trouble, Verdict, lock, made, next,
    work::{Kept, Led, NONSTOPD},
};
use jiff::civil::Date;
use nonstop_model::{
    Content, Holds, Publication, PublicationId, PublicationState, Resource, publication::too_old,
};
use nonstop_store::{StoreError, Write};
use std::cell::RefCell;
use tracing::{info, warn};

/// How often a program may die over one file before that is not published.
const DEATHS: u32 = 3;

impl Publisher {
    pub(super) fn apply(&self, ground: &Ground, publication: &Publication, step: &Step) -> Led {
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
                let rows = match loads(ground, publication) {
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
                if loads(ground, publication) {
                    // What failed once may have lost what was loaded; what is there still is left.
                    if self.trouble(id).is_some() && folders.see(publication)?.taken.is_some() {
                        let file = folders.open_taken(publication)?;
                        self.load(ground, publication, known(publication)?, &file)?;
                    }
                    self.children.swap(&job(ground, publication, day))?;
                }
                let is_ours = |shown: &Shown| shown.publication == Some(id);
                let kind = publication.kind;
                if !folders.shown(kind, day)?.as_ref().is_some_and(is_ours) {
                    folders.exchange(publication, day)?;
                }
                let shown = folders.shown(kind, day)?.filter(is_ours).ok_or_else(gone)?;
                self.record(|w| w.publication_published(id, shown.modified_ns))?;
                self.ask_rdb_soon(&publication.domain);
                info!("{day} of {}/{kind} is published", publication.domain);
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
                let shown = folders.shown(publication.kind, day)?;
                let shown = shown.filter(|shown| shown.content.sha256 == content.sha256);
                let shown = shown.ok_or_else(gone)?;
                let file = folders.open_shown(day, &shown)?;
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
        if let Some(keep) = ground.domain.keep_days {
            let published = self.db.read(|read| read.published(&publication.domain))?;
            let published = published.iter().filter(|p| p.kind == publication.kind);
            let days: Vec<Date> = published.filter_map(|p| p.day).chain([day]).collect();
            if too_old(&days, Some(keep)).contains(&day) {
                let reason = format!(
                    "the day is older than the {keep} days that are kept, as counted from the newest: \
                     raise `keep_days` in lab.yaml to have it"
                );
                return self.reject(publication, &reason);
            }
        }
        if !ground.takes(publication.kind) {
            let reason = format!(
                "no server of this data domain gives {} to machines: add one to its `servers` in \
                 lab.yaml, and bring the file again",
                match publication.kind {
                    Resource::Samples => "samples or reports",
                    _ => "packets",
                }
            );
            return self.reject(publication, &reason);
        }
        let file = ground.folders.open_taken(publication)?;
        let job = job(ground, publication, day);
        self.begins(id, "check", file.metadata()?.len());
        let heard = |bytes, of| self.heard(id, bytes, of);
        let mut hashes = Vec::new();
        let verdict = match publication.kind {
            Resource::Samples => {
                // Beside the file lies as much again, and the index.
                self.enough_room(ground)?;
                let made = ground.folders.new_made(id)?;
                let synced = RefCell::new(Ok(()));
                let heard = |bytes, of| {
                    heard(bytes, of);
                    if synced.borrow().is_ok() {
                        *synced.borrow_mut() = made.sync_so_far();
                    }
                };
                let verdict = self.children.check_samples(&job, &file, &made, &heard);
                let verdict = self.refused_if_deadly(id, verdict)?;
                if let Verdict::Good(content) = &verdict {
                    synced.replace(Ok(()))?;
                    hashes = made::hashes(&made.hashes, members(content))?;
                    ground.folders.keep_made(id, &made)?;
                }
                verdict
            }
            _ => self.refused_if_deadly(id, self.children.check(&job, &file, &heard))?,
        };
        match verdict {
            Verdict::Good(content) => self.record(|w| {
                w.publication_checked(id, &content)?;
                w.publication_holds(id, &hashes)
            }),
            Verdict::Refused(reason) => self.reject(publication, &reason),
        }
    }

    /// A file over which its program dies again and again is none to be tried for ever: the days behind
    /// it wait meanwhile.
    fn refused_if_deadly(
        &self,
        id: PublicationId,
        verdict: Result<Verdict, Trouble>,
    ) -> Result<Verdict, Trouble> {
        match verdict {
            Err(trouble) if trouble.died && lock(&self.board).died(id) >= DEATHS => {
                let reason = format!(
                    "{}, {DEATHS} times with this file: if the host had memory enough meanwhile, \
                     something in the file is more than can be read: mend it, and bring it again",
                    trouble.message
                );
                Ok(Verdict::Refused(reason))
            }
            verdict => verdict,
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
        let folders = &ground.folders;
        let shown = folders.shown(publication.kind, day)?.ok_or_else(gone)?;
        let content = shown.content;
        let checked = matches!(publication.state, PublicationState::Checked(_));
        let hashes = match publication.kind {
            Resource::Samples if !checked => folders.shown_hashes(day, members(&content))?,
            _ => Vec::new(),
        };
        self.record(|w| {
            if !checked {
                w.publication_checked(id, &content)?;
                w.publication_holds(id, &hashes)?;
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
}

/// Whether `publication` is loaded into PostgreSQL.
fn loads(ground: &Ground, publication: &Publication) -> bool {
    publication.kind == Resource::Pcap && ground.has_rdb()
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

/// How many samples and reports `content` has.
fn members(content: &Content) -> u64 {
    match content.holds {
        Holds::Samples { samples, reports } => samples.saturating_add(reports),
        Holds::Packets(_) => 0,
    }
}

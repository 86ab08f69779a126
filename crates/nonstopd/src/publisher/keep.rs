//! What is published: kept no longer than the lab wants, and held against what lies there.

use super::{
    Folders, Ground, Publisher,
    board::DayFault,
    folders::KINDS,
    lock,
    work::{LookError, NONSTOPD},
};
use jiff::{Timestamp, civil::Date};
use nonstop_model::{PublicationId, PublicationState, Resource, publication::too_old};
use std::collections::{BTreeMap, BTreeSet};
use tracing::{info, warn};

/// PostgreSQL is asked for its days after a change, and after so many seconds.
const ASK_SECONDS: i64 = 60;
/// The same while it does not answer.
const ASK_AGAIN_SECONDS: i64 = 5;

impl Publisher {
    /// Days that are older than data are kept are published no longer.
    pub(super) fn keep_no_longer(&self, name: &str, ground: &Ground) -> Result<(), LookError> {
        let published = self.db.read(|r| r.published(name))?;
        for kind in KINDS {
            let of_kind = published.iter().filter(|p| p.kind == kind);
            let by_day: BTreeMap<Date, PublicationId> =
                of_kind.filter_map(|p| Some((p.day?, p.id))).collect();
            let days: Vec<Date> = by_day.keys().copied().collect();
            for day in too_old(&days, ground.domain.keep_days) {
                let id = by_day[&day];
                self.hand.about_to("record it")?;
                self.db.write(NONSTOPD, self.clock.now(), |w| w.expire_publication(id))?;
                self.ask_rdb_soon(name);
                let kept = ground.domain.keep_days;
                info!("{day} of {name}/{kind} is older than {kept:?} days: it goes");
            }
            for day in ground.folders.shown_days(kind)? {
                if self.is_expired(name, &ground.folders, kind, day)? {
                    ground.folders.unpublish(kind, day)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the folder of `day` shows a publication that has expired.
    fn is_expired(
        &self,
        name: &str,
        folders: &Folders,
        kind: Resource,
        day: Date,
    ) -> Result<bool, LookError> {
        let Some(shown) = folders.shown(kind, day)? else { return Ok(false) };
        let Some(id) = shown.publication else { return Ok(false) };
        let row = self.db.read(|r| r.publication(id))?;
        Ok(row.is_some_and(|row| {
            let same = row.state.content().is_some_and(|c| c.sha256 == shown.content.sha256);
            row.domain == name && same && matches!(row.state, PublicationState::Expired(_))
        }))
    }

    pub(super) fn ask_rdb_soon(&self, name: &str) {
        lock(&self.board).domain(name).asked_at = None;
    }

    /// Asks PostgreSQL for its days, and drops those that have expired.
    pub(super) fn ask_rdb(&self, name: &str, ground: &Ground) -> Result<(), LookError> {
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
    pub(super) fn compare(&self, name: &str, ground: &Ground) -> Result<(), LookError> {
        let published = self.db.read(|r| r.published(name))?;
        let mut faults = Vec::new();
        let mut known = BTreeSet::new();
        for row in &published {
            let (Some(day), Some(content)) = (row.day, row.state.content()) else { continue };
            known.insert((row.kind, day));
            let PublicationState::Published { modified_ns, .. } = row.state else { continue };
            let what = match ground.folders.shown(row.kind, day)? {
                None => "its folder was removed or changed by hand: publish the day again",
                Some(shown) if shown.publication != Some(row.id) => {
                    "its folder shows another publication than the database knows: publish the day \
                     again"
                }
                Some(shown)
                    if !shown.whole
                        || (shown.content.bytes, shown.modified_ns)
                            != (content.bytes, modified_ns) =>
                {
                    "its file was changed by hand: publish the day again"
                }
                Some(_) => continue,
            };
            faults.push(DayFault { kind: row.kind, day, what: what.into() });
        }
        for kind in KINDS {
            for day in ground.folders.shown_days(kind)? {
                if !known.contains(&(kind, day)) {
                    let what = "it lies among the published days, but the database does not know it \
                                (is it a restored backup?): publish the day again, or remove its \
                                folder";
                    faults.push(DayFault { kind, day, what: what.into() });
                }
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

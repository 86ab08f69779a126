//! Heads of the trace: signed hourly when there is something new, and with every release; asked for,
//! by the program that puts them out of this host's reach, at a socket of its own.
//!
//! The database holds heads and how far each second place is; a power cut, or the death of that
//! program, loses nothing of it. What is signed at a release is signed in its transaction
//! (`nonstop_store::Write::release_receipt`). `retention` deletes bytes of exports by policy, with a
//! signed record.

mod retention;
mod stream;

pub use retention::{Retention, store_lock};
pub use stream::stream;

use crate::{Clock, status::chain};
use jiff::{SignedDuration, Timestamp};
use nonstop_api::{
    CheckItem, HeadView,
    heads::{Answer, Ask, Errand, Parcel},
};
use nonstop_host::authority::Authority;
use nonstop_model::Lab;
use nonstop_store::{Db, HEADS_AT_ONCE, Place, Read, StoreError};
use nonstop_trace::{Head, Sign};
use serde_json::json;
use std::{error::Error, sync::Arc, time::Duration};
use tracing::{error, info, warn};

/// How old the last head may be while there is something new.
const SIGN_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// How long a second place may lack a head before staff are told.
pub const LATE: SignedDuration = SignedDuration::from_hours(2);
/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// The key of the lab's authority, as it signs heads.
#[derive(Debug, Clone)]
pub struct Key(pub Arc<Authority>);

impl Sign for Key {
    fn public_key(&self) -> Vec<u8> {
        self.0.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        self.0.sign(message).map_err(Into::into)
    }
}

/// Signs what is due, and answers `nonstop-heads`.
pub struct Heads {
    lab: String,
    places: Vec<String>,
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    key: Key,
    retention: Retention,
}

impl Heads {
    /// For `lab`; its second places are those of `lab.yaml` from now on.
    pub fn new(
        lab: &Lab,
        db: Arc<Db>,
        clock: Arc<dyn Clock>,
        authority: Arc<Authority>,
    ) -> Result<Heads, StoreError> {
        let (key, places) = (Key(authority), lab.trace.heads.places());
        db.write("nonstopd", clock.now(), |w| w.keep_places(&places))?;
        let retention = Retention::new(lab, Arc::clone(&db), Arc::clone(&clock), key.clone());
        Ok(Heads { lab: lab.name.clone(), places, db, clock, key, retention })
    }

    /// Looks for as long as the process lives.
    pub fn run(&self) -> ! {
        let mut said = String::new();
        loop {
            let failed = self.pass().err().map_or(String::new(), |e| chain(&e));
            if !failed.is_empty() && failed != said {
                error!("look after heads of the trace: {failed}");
            }
            said = failed;
            self.clock.pause(LOOK_EVERY);
        }
    }

    /// Does what is due: signs, tells of places that are late, deletes what policy lets go.
    pub fn pass(&self) -> Result<(), StoreError> {
        if let Some(head) = self.sign_if_due()? {
            info!("signed row {} of the trace", head.seq());
        }
        self.tell_of_late_places()?;
        self.retention.pass()
    }

    /// Signs the last row if the last head is an hour old and there is something new.
    pub fn sign_if_due(&self) -> Result<Option<Head>, StoreError> {
        let now = self.clock.now();
        let (last, rows) =
            self.db.read(|read| Ok::<_, StoreError>((read.last_head()?, read.trace_len()?)))?;
        let due = last.is_none_or(|last| {
            let age = now.duration_since(last.at());
            rows > last.seq() && (age >= SIGN_EVERY || age.is_negative())
        });
        if !due {
            return Ok(None);
        }
        self.db.write("nonstopd", now, |w| w.sign_head(&self.key))
    }

    /// Writes into the trace, once, that a place lacks heads for too long, and that it has them again.
    fn tell_of_late_places(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let places = self.db.read(|read| read.places())?;
        for place in places {
            let late = late(&place, now);
            let told = self.db.read(|read| told_late(read, &place.place))?;
            if late.is_some() == told {
                continue;
            }
            let action = if late.is_some() { "heads.late" } else { "heads.there" };
            match &late {
                Some(why) => warn!("{} lacks heads of the trace: {why}", place.place),
                None => info!("{} has all heads of the trace again", place.place),
            }
            self.db.write("nonstopd", now, |w| {
                w.trace(action, &place.place, json!({ "why": late }))
            })?;
        }
        Ok(())
    }

    /// Answers `nonstop-heads`.
    pub fn answer(&self, ask: &Ask) -> Answer {
        let now = self.clock.now();
        let answered = match ask {
            Ask::Errands => self.errands().map(Answer::Errands),
            Ask::Sent { place, seq } => {
                self.db.write("nonstopd", now, |w| w.head_sent(place, *seq)).map(|()| Answer::Done)
            }
            Ask::Failed { place, why } => {
                self.db.write("nonstopd", now, |w| w.head_failed(place, why)).map(|()| Answer::Done)
            }
        };
        answered.unwrap_or_else(|e| {
            error!("put heads out of reach: {}", chain(&e));
            Answer::Failed
        })
    }

    fn errands(&self) -> Result<Vec<Errand>, StoreError> {
        self.db.read(|read| {
            let mut errands = Vec::new();
            for place in read.places()?.into_iter().filter(|p| self.places.contains(&p.place)) {
                let heads = read.heads_after(place.sent, HEADS_AT_ONCE)?;
                let parcel = |head: &Head| Parcel {
                    seq: head.seq(),
                    file: head.file_name(),
                    line: head.line(),
                };
                let heads: Vec<_> = heads.iter().map(parcel).collect();
                if !heads.is_empty() {
                    errands.push(Errand { place: place.place, lab: self.lab.clone(), heads });
                }
            }
            Ok(errands)
        })
    }
}

/// Why `place` is late, if it is.
fn late(place: &Place, now: Timestamp) -> Option<String> {
    // A place that was named today has nothing to answer for from yesterday.
    let since = place.lacks_since?.max(place.since);
    (now.duration_since(since) > LATE).then(|| {
        let why =
            place.failed.as_ref().map_or("nobody has tried: does nonstop-heads run?", |f| &f.1);
        format!("since {since}: {why}")
    })
}

/// The second places that are late at the time `now`, and why.
pub fn late_places(read: &Read<'_>, now: Timestamp) -> Result<Vec<String>, StoreError> {
    let places = read.places()?;
    let line = |place: &Place| late(place, now).map(|why| format!("{} {why}", place.place));
    Ok(places.iter().filter_map(line).collect())
}

/// Whether the last that the trace says of `place` is that it is late.
fn told_late(read: &Read<'_>, place: &str) -> Result<bool, StoreError> {
    Ok(read.last_action_on(place)?.is_some_and(|action| action == "heads.late"))
}

/// What `nonstop check` says of heads, at the time `now`.
pub fn check(read: &Read<'_>, now: Timestamp) -> Result<Vec<CheckItem>, StoreError> {
    let (last, rows) = (read.last_head()?, read.trace_len()?);
    let signed = last
        .as_ref()
        .is_none_or(|last| rows == last.seq() || now.duration_since(last.at()) <= LATE);
    let found = last.as_ref().map_or("none is signed yet".into(), |last| {
        format!("row {} of {rows} was signed at {}", last.seq(), last.at())
    });
    let mut items = vec![CheckItem {
        what: "heads of the trace".into(),
        good: signed,
        found,
        help: "look at the log of nonstopd: the lab's authority must be able to sign".into(),
    }];
    let places = read.places()?;
    if places.is_empty() {
        items.push(CheckItem {
            what: "second place".into(),
            good: true,
            found: "none: only who has a receipt can hold root of this host to the trace".into(),
            help: "name one in `trace.heads` of lab.yaml".into(),
        });
    }
    items.extend(places.into_iter().map(|place| {
        let late = late(&place, now);
        let standing = match (&place.lacks_since, place.sent_at) {
            (None, Some(at)) => format!("has all heads, the last since {at}"),
            (None, None) => "nothing was to be brought yet".into(),
            (Some(since), _) => match &place.failed {
                Some((at, why)) => format!("lacks heads since {since}; tried at {at}: {why}"),
                None => format!("lacks heads since {since}"),
            },
        };
        CheckItem {
            what: format!("second place {}", place.place),
            good: late.is_none(),
            found: standing,
            help: "mend the place, or `systemctl start nonstop-heads` and look at its log".into(),
        }
    }));
    Ok(items)
}

/// Heads as callers see them, newest first.
pub fn views(read: &Read<'_>, limit: u32) -> Result<Vec<HeadView>, StoreError> {
    let places = read.places()?;
    let view = |head: Head| {
        let (sent, unsent): (Vec<&Place>, Vec<&Place>) =
            places.iter().partition(|place| place.sent >= head.seq());
        let lacking = |place: &&Place| match &place.failed {
            Some((_, why)) => format!("{}: {why}", place.place),
            None => place.place.clone(),
        };
        HeadView {
            seq: head.seq(),
            hash: head.hash().to_string(),
            at: head.at(),
            sent: sent.iter().map(|place| place.place.clone()).collect(),
            unsent: unsent.iter().map(lacking).collect(),
            document: head.line(),
        }
    };
    Ok(read.heads_newest(limit)?.into_iter().map(view).collect())
}

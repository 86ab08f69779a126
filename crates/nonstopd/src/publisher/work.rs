//! One look at a data domain: what is taken, and how far it is led on.

use super::{
    Arrived, Ground, Publisher, SETTLED, Step, Trouble, WATCHER, children::plain, lock, next,
};
use nonstop_model::{Publication, PublicationId, PublicationState};
use nonstop_store::StoreError;
use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
};
use tracing::warn;

/// Who leads publications on.
pub(super) const NONSTOPD: &str = "nonstopd";
/// Steps of one publication in one look: more than there are.
const MOST_STEPS: u32 = 32;

/// What kept a look from its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error("the database")]
    Store(#[from] StoreError),
    #[error("the folders of the data domain")]
    Folders(#[from] io::Error),
}

/// What kept a publication where it is.
pub(super) enum Kept {
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

pub(super) type Led<T = ()> = Result<T, Kept>;

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
}

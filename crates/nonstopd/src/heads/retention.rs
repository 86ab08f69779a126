//! How long bytes of exports are kept: `trace.keep_days` of `lab.yaml`, once a day.
//!
//! What is to go is first recorded, signed, and then removed; a power cut in between is gone on with.

use super::Key;
use crate::{Clock, status::chain};
use jiff::{SignedDuration, Timestamp};
use nonstop_model::Lab;
use nonstop_store::{Db, StoreError};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::{error, info};

/// How often it is looked for what is to go.
const EVERY: SignedDuration = SignedDuration::from_hours(24);
/// How many are recorded between two looks at anything else.
const AT_ONCE: u32 = 100;

/// Held by whoever gives a file of the trace store its name until the row that says so is committed,
/// and by whoever takes it away: what is just exported anew is not deleted.
pub fn store_lock() -> MutexGuard<'static, ()> {
    static STORE: Mutex<()> = Mutex::new(());
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Deletes what policy lets go.
pub struct Retention {
    store: PathBuf,
    keep_days: Option<u32>,
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    key: Key,
    looked_at: Mutex<Option<Timestamp>>,
}

impl Retention {
    pub(super) fn new(lab: &Lab, db: Arc<Db>, clock: Arc<dyn Clock>, key: Key) -> Retention {
        let (store, keep_days) = (lab.trace_store(), lab.trace.keep_days);
        Retention { store, keep_days, db, clock, key, looked_at: Mutex::new(None) }
    }

    /// Goes on with deletions that were decided, and decides others once a day.
    pub fn pass(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for sha256 in self.db.read(|read| read.deletions_under_way())? {
            self.remove(&sha256)?;
        }
        let Some(days) = self.keep_days else { return Ok(()) };
        {
            let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
            if looked_at.is_some_and(|at| now.duration_since(at) < EVERY) {
                return Ok(());
            }
            *looked_at = Some(now);
        }
        let age = SignedDuration::from_hours(i64::from(days) * 24);
        let Ok(cutoff) = now.checked_sub(age) else { return Ok(()) };
        let rule = format!("trace.keep_days of lab.yaml is {days}");
        loop {
            let all = self.db.read(|read| read.deletable(cutoff, AT_ONCE))?;
            if all.is_empty() {
                return Ok(());
            }
            for bytes in all {
                // Since they were listed somebody may have said that they are kept.
                let decided = self.db.write("nonstopd", now, |w| {
                    w.delete_bytes(&bytes.sha256, cutoff, &rule, &self.key)
                })?;
                if decided {
                    info!("the bytes {} go: {rule}", bytes.sha256);
                    self.remove(&bytes.sha256)?;
                }
            }
        }
    }

    /// Removes the file, unless it is another export's by now; what cannot be removed is tried again.
    fn remove(&self, sha256: &str) -> Result<(), StoreError> {
        let _lock = store_lock();
        if !self.db.read(|read| read.wanted_again(sha256))?
            && let Err(e) = remove(&self.store, sha256)
        {
            error!("remove {sha256} from {}: {}", self.store.display(), chain(&e));
            return Ok(());
        }
        self.db.write("nonstopd", self.clock.now(), |w| w.bytes_deleted(sha256))
    }
}

/// Removes a file for good: after a power cut it is not there again.
fn remove(store: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(store.join(name)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    match File::open(store) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        folder => folder?.sync_all(),
    }
}

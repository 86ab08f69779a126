//! What happens by itself: names that were left alone become exports, files that nothing needs go,
//! and with an environment all of its own.

use super::Transfers;
use crate::status::chain;
use nonstop_store::StoreError;
use std::{collections::BTreeSet, io, time::Duration};
use tracing::{error, info};

/// Names that are submitted, and files that are removed, in one transaction.
const AT_ONCE: u32 = 100;
/// How long to wait after a failure of the disk or the database.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum SettlingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("look after the files")]
    Io(#[from] io::Error),
}

impl Transfers {
    /// Submits what is due, and removes files that nothing needs. Returns whether there may be more.
    pub(super) fn settle(&self) -> bool {
        let done = self.submit_due().and_then(|more| Ok(self.sweep()? || more));
        done.unwrap_or_else(|e| {
            error!("look after exports: {}", chain(&e));
            self.clock.pause(AGAIN);
            false
        })
    }

    fn submit_due(&self) -> Result<bool, SettlingError> {
        let now = self.clock.now();
        if self.db.read(|read| read.due(now, 1))?.is_empty() {
            return Ok(false);
        }
        self.hand.about_to("commit new exports")?;
        let submitted = self.db.write("nonstopd", now, |w| w.submit_due(AT_ONCE.into()))?;
        if !submitted.is_empty() {
            self.wake();
        }
        Ok(true)
    }

    /// Removes files of contents that nothing needs any more.
    fn sweep(&self) -> Result<bool, SettlingError> {
        let going = self.db.read(|read| read.blobs_going(AT_ONCE))?;
        let more = going.len() == AT_ONCE as usize;
        let (mut gone, mut touched) = (Vec::new(), BTreeSet::new());
        for blob in going {
            // A look at it ends with a name by its hash, made from this one.
            if self.is_looked_at(&blob.id) {
                continue;
            }
            self.contents.remove(blob.root, &blob.id)?;
            gone.push(blob.id);
            touched.insert(blob.root);
        }
        if gone.is_empty() {
            return Ok(false);
        }
        // A file that a power cut brings back has a row that says it is to go.
        for root in touched {
            self.contents.sync(root)?;
        }
        self.hand.about_to("commit that contents are gone")?;
        self.db.write("nonstopd", self.clock.now(), |w| w.blobs_gone(&gone))?;
        Ok(more)
    }

    /// Ends the transfers of environments that are gone, and puts back what is said to be under
    /// screening and is not.
    pub(super) fn end_environments(&self) -> bool {
        self.screen_again();
        let ended = self.end_gone();
        if let Err(e) = ended {
            error!("end the transfers of environments that are gone: {}", chain(&e));
        }
        false
    }

    fn end_gone(&self) -> Result<(), SettlingError> {
        for id in self.db.read(|read| read.gone_with_transfers())? {
            self.hand.about_to("commit the end of an environment's transfers")?;
            let contents = self.db.write("nonstopd", self.clock.now(), |w| w.end_transfers(id))?;
            info!("{contents} files of environment {id} go with it");
            self.wake();
        }
        Ok(())
    }
}

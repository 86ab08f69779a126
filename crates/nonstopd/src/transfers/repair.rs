//! What a power cut left is healed before anybody is answered.

use super::Transfers;
use nonstop_model::{BlobId, Root};
use std::collections::BTreeMap;
use tracing::warn;

impl Transfers {
    /// Screens again what was being screened; names contents whose row was committed; removes those
    /// whose row was not, which nobody was told of; puts files aside that the database does not know.
    pub(super) fn repair(&self) -> anyhow::Result<()> {
        self.db.write("nonstopd", self.clock.now(), |w| w.screen_again(&Default::default()))?;
        for root in [Root::Import, Root::Export] {
            let known: BTreeMap<BlobId, bool> = self.db.read(|read| read.blobs_of(root))?;
            let (settled, new) = self.contents.there(root)?;
            for id in new {
                match known.get(&id) {
                    Some(false) => self.contents.settle(root, &id)?,
                    Some(true) | None => self.contents.remove(root, &id)?,
                }
            }
            for id in settled {
                if !known.contains_key(&id) {
                    warn!("a file of {root} that the database does not know is put aside: {id}");
                    self.contents.put_aside(root, &id)?;
                }
            }
        }
        Ok(())
    }
}

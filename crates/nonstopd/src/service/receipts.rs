//! Receipts of releases, heads of the trace, and exports whose bytes are kept longer.

use super::{Service, one_line, refusal};
use crate::{caller::Caller, heads};
use nonstop_api::{ApiError, CheckItem, ErrorCode, Reply};
use nonstop_model::ExportId;
use std::os::fd::OwnedFd;

/// The most heads that are listed at once.
const HEADS: u32 = 1000;

impl Service {
    pub(super) fn export_receipt(&self, caller: &Caller, id: ExportId) -> Result<Reply, ApiError> {
        self.must_own_export(caller, id)?;
        let receipt = self.db.read(|read| read.receipt(id)).map_err(refusal)?;
        let receipt = receipt.ok_or_else(|| {
            let message = format!("{id} was not released: there is no receipt of it");
            ApiError::new(ErrorCode::Conflict, message)
        })?;
        Ok(Reply::Receipt(receipt.text()))
    }

    pub(super) fn export_keep(
        &self,
        caller: &Caller,
        id: ExportId,
        keep: bool,
        reason: &str,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        self.must_own_export(caller, id)?;
        let reason = one_line("reason", reason, 500)?;
        if keep {
            self.commit(caller, |w| w.keep_export(id, &reason))?;
        } else if !self.commit(caller, |w| w.unkeep_export(id, &reason))? {
            let message = format!("{id} is not kept beyond what the lab's policy says");
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        Ok(Reply::Done)
    }

    pub(super) fn trace_heads(&self, caller: &Caller, limit: u32) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let views = self.db.read(|read| heads::views(read, limit.min(HEADS)));
        views.map(Reply::Heads).map_err(refusal)
    }

    pub(super) fn trace_stream(&self, caller: &Caller) -> Result<(Reply, OwnedFd), ApiError> {
        caller.must_be_admin()?;
        match heads::stream(&self.db) {
            Ok(Some(stream)) => Ok((Reply::Done, stream)),
            Ok(None) => {
                let message = "the trace is being read by too many already";
                Err(ApiError::new(ErrorCode::Capacity, message).help("try again in a minute"))
            }
            Err(e) => Err(ApiError::new(ErrorCode::Internal, format!("stream the trace: {e}"))),
        }
    }

    /// Which second places lack heads for too long, for whoever answers for the lab.
    pub(super) fn heads_late(&self, caller: &Caller) -> Result<Vec<String>, ApiError> {
        if !caller.is_staff() {
            return Ok(Vec::new());
        }
        let now = self.now();
        self.db.read(|read| heads::late_places(read, now)).map_err(refusal)
    }

    /// What `check` says of heads.
    pub(super) fn check_heads(&self) -> Vec<CheckItem> {
        let now = self.now();
        self.db.read(|read| heads::check(read, now)).unwrap_or_else(|e| {
            vec![CheckItem {
                what: "heads of the trace".into(),
                good: false,
                found: crate::status::chain(&e),
                help: "look at the log of nonstopd".into(),
            }]
        })
    }

    fn must_own_export(&self, caller: &Caller, id: ExportId) -> Result<(), ApiError> {
        let owner = self.db.read(|read| read.owner_of_export(id)).map_err(refusal)?;
        let missing = || ApiError::new(ErrorCode::NotFound, format!("there is no export {id}"));
        caller.must_own(&owner.ok_or_else(missing)?, &format!("export {id}"))
    }
}

//! What commits with each release: its receipt, and the signed head of the trace that it is in.

use crate::{heads::Key, transfers::Seal};
use nonstop_host::authority::Authority;
use nonstop_model::{Lab, trace::Receipts};
use nonstop_store::{Export, StoreError};
use nonstop_trace::{Decided, Released};
use std::sync::Arc;

/// Seals releases of `lab` with the key of its `authority`. A receipt names people and files only
/// where `lab.yaml` has it so.
pub fn seal(lab: &Lab, authority: Arc<Authority>) -> Seal {
    let (lab, says, key) = (lab.name.clone(), lab.trace.receipts.clone(), Key(authority));
    Box::new(move |w, export| {
        let by = w.actor().to_string();
        let released = released(&lab, &says, export, &by)?;
        w.release_receipt(&released, &key).map(drop)
    })
}

/// What the receipt of `export` says, which `by` let out.
fn released(lab: &str, says: &Receipts, export: &Export, by: &str) -> Result<Released, StoreError> {
    // What was not screened, or has no hash, is kept nowhere, and so never released.
    let screening = export.screening.as_ref().ok_or(StoreError::NotKept(export.id))?;
    let rules = screening.rules_digest.as_deref().unwrap_or_default();
    let decided = match by {
        "nonstopd" => Decided::Policy,
        admin if admin.starts_with("admin:") => Decided::Admin,
        _ => Decided::Staff,
    };
    Ok(Released {
        account: says.people.then(|| export.account.to_string()),
        bytes: export.bytes,
        decided,
        decided_by: (says.people && by != "nonstopd").then(|| by.into()),
        export: export.id,
        lab: lab.into(),
        name: says.files.then(|| export.path.to_string()),
        released_at: export.changed_at,
        rules: rules.parse().unwrap_or(nonstop_trace::Hash::ZERO),
        sha256: screening.sha256.parse().map_err(|_| StoreError::NotKept(export.id))?,
        submitted_at: export.submitted_at,
        template: export.template.to_string(),
        content_type: screening.content_type.clone(),
        verdict: screening.verdict.word().into(),
    })
}

//! Why something is not done, in the words of the airlock.

use super::contents::{KeepError, is_full};
use crate::status::chain;
use nonstop_api::airlock::{Denial, DenialKind};
use nonstop_store::{NameError, StoreError};
use tracing::error;

pub(super) fn denial(kind: DenialKind, message: impl Into<String>) -> Denial {
    Denial { kind, message: message.into() }
}

pub(super) fn not_found() -> Denial {
    denial(DenialKind::NotFound, "there is no such file or folder")
}

pub(super) fn read_only() -> Denial {
    denial(DenialKind::ReadOnly, "nothing can be written there")
}

pub(super) fn gone() -> Denial {
    denial(DenialKind::Gone, "the environment has ended, or its account is suspended")
}

pub(super) fn no_room() -> Denial {
    denial(DenialKind::NoRoom, "the lab's disk is nearly full: try again later, or tell the staff")
}

/// A failure of the daemon: `doing` what.
pub(super) fn failed(doing: &str, error: &dyn std::error::Error) -> Denial {
    error!("{doing}: {}", chain(error));
    denial(DenialKind::Failed, "the lab could not do it; its staff find the reason in the log")
}

/// `error` while `doing` something on the disk.
pub(super) fn io(doing: &str, error: &std::io::Error) -> Denial {
    if is_full(error) { no_room() } else { failed(doing, error) }
}

pub(super) fn store(error: &StoreError) -> Denial {
    let full = matches!(error, StoreError::Sql(rusqlite) if disk_full(rusqlite));
    if full { no_room() } else { failed("keep a transfer in the database", error) }
}

/// The crate's own error is not in reach here; its words are SQLite's.
fn disk_full(error: &dyn std::error::Error) -> bool {
    error.to_string().contains("disk is full")
}

pub(super) fn kept(error: &KeepError) -> Denial {
    match error {
        KeepError::Written => denial(
            DenialKind::Busy,
            "somebody can still write to the file: close it, then commit again",
        ),
        KeepError::Io(e) => io("keep a content", e),
        KeepError::NoLeases | KeepError::Another => failed("keep a content", error),
    }
}

pub(super) fn name(error: &NameError) -> Denial {
    let kind = match error {
        NameError::Missing => return not_found(),
        NameError::Store(e) => return store(e),
        NameError::Exists => DenialKind::Exists,
        NameError::NoFolder => DenialKind::NoFolder,
        NameError::WrongKind => DenialKind::WrongKind,
        NameError::IntoItself | NameError::Path(_) => DenialKind::BadName,
        NameError::TooMany(_) | NameError::Quota { .. } => DenialKind::Quota,
    };
    denial(kind, error.to_string())
}

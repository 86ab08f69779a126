//! The database: what is wanted, and the trace of who did what.
//!
//! Only `nonstopd` opens it. A change is one transaction with at least one row of trace, synced
//! to disk before the caller hears of it; a power cut leaves all of it or nothing.

mod accounts;
mod bandwidth;
mod cards;
mod codec;
mod db;
mod desktops;
mod environments;
mod error;
mod machines;
mod publications;
mod recordings;
mod refusals;
mod requests;
mod sessions;
mod snapshots;
mod trace;

pub use accounts::NewAccount;
pub use cards::{BeginCard, NewKey};
pub use db::{Db, Read, Write};
pub use desktops::{DesktopSession, DesktopSessionId, LookerKind, MOST_VIEWERS, ViewGrant};
pub use environments::{Grant, GrantedMachine, of_one_edition};
pub use error::StoreError;
pub use recordings::Recording;
pub use refusals::LoginRefusal;
pub use requests::NewRequest;
pub use sessions::{Flow, Flows, NewSession, Session};
pub use snapshots::MOST_FROZEN;
pub use trace::{TraceRow, Verification};

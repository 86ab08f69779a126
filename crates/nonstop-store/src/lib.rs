//! The database: what is wanted, and the trace of who did what.
//!
//! Only `nonstopd` opens it. A change is one transaction with at least one row of trace, synced
//! to disk before the caller hears of it; a power cut leaves all of it or nothing.

mod accounts;
mod bandwidth;
mod blobs;
mod cards;
mod codec;
mod db;
mod desktops;
mod entries;
mod environments;
mod error;
mod exporting;
mod exports;
mod heads;
mod imports;
mod injections;
mod machines;
mod names;
mod publications;
mod recordings;
mod refusals;
mod requests;
mod retention;
mod sessions;
mod snapshots;
mod standing;
mod trace;

pub use accounts::NewAccount;
pub use blobs::Blob;
pub use cards::{BeginCard, NewKey};
pub use db::{Clients, Db, Read, Write};
pub use desktops::{DesktopSession, DesktopSessionId, LookerKind, MOST_VIEWERS, ViewGrant};
pub use entries::{NameError, NameRow, Usage};
pub use environments::{Grant, GrantedMachine, of_one_edition};
pub use error::StoreError;
pub use exports::{ByHash, Decision, Export, MOST_LISTED, Screening, Which};
pub use heads::{HEADS_AT_ONCE, Place};
pub use imports::{Import, ImportStage};
pub use injections::{FactsAt, InjectionFacts, NewInjection};
pub use names::{NewContent, Tree};
pub use recordings::Recording;
pub use refusals::LoginRefusal;
pub use requests::NewRequest;
pub use retention::{Deletable, Kept};
pub use sessions::{Flow, Flows, NewSession, Session};
pub use snapshots::MOST_FROZEN;
pub use standing::Standing;
pub use trace::{TraceFilter, TraceRow, Verification};

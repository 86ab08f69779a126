//! The trace as an auditor sees it: rows, the chain of their hashes, heads that the lab's authority
//! signed, receipts of releases, and whether a trace is still the one that they were made of.
//!
//! Everything here works from files alone, without the lab: `nonstop trace verify` reads a copied
//! database with it, `nonstopd` writes with it what will be checked one day.
//!
//! A *row* has a hash over the hash before and its own fields ([`row`]). A *head* ([`Head`]) is the
//! hash of one row, signed: it vouches for that row and all before. A *receipt* ([`Receipt`]) is one
//! row as it stands in the trace, the hash before it, and the head of just that row: whoever holds
//! one can recompute the hash, and holds the lab to everything that came before, too.
//! A *record* ([`Record`]) is the same of what was put before a guest.
//! [`Evidence`] are heads and receipts that were kept elsewhere; a [`Verifier`] holds a trace, row by
//! row, against them. [`copy`] reads rows from a copied database, [`contents`] looks whether the bytes
//! of exports are there that the trace speaks of.

pub mod contents;
pub mod copy;
mod evidence;
mod head;
mod key;
mod once;
mod receipt;
mod record;
pub mod row;
pub mod stream;
mod verify;

pub use contents::{Contents, Fault};
pub use copy::{Copy, CopyError};
pub use evidence::{Evidence, EvidenceError, Source};
pub use head::{Head, HeadError, LONGEST_HEAD, NotSigned};
pub use key::{AuthorityKey, KeyError, Sign};
pub use receipt::{Decided, LONGEST_RECEIPT, Receipt, ReceiptError, Released};
pub use record::{LONGEST_RECORD, Record, RecordError};
pub use row::{Hash, Row};
pub use verify::{Agreed, Differs, Report, Truncated, Verifier};

/// What stands in the trace as the action of a receipt's row.
pub const RECEIPT: &str = "export.receipt";

/// What stands in the trace as the action of the row of a run's record.
pub const RECORD: &str = "sample.record";

/// What stands in the trace as the action of the row that says bytes were deleted by the lab's policy.
pub const DELETED: &str = "trace.delete";

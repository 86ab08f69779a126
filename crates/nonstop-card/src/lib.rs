//! IC cards over PC/SC: generic PIV (NIST SP 800-73-4), not one vendor's.
//!
//! [`desk`] finds readers and the card in one of them, [`piv`] speaks with it, [`issue`] makes a
//! card the lab's own. A card is hostile input like any other: what it says is parsed in [`tlv`]
//! and [`apdu`] with limits, and nothing of it becomes more than bytes, numbers or an error.
//!
//! PINs, PUKs and management keys are wiped when they are dropped, and no `Debug` shows them.

pub mod apdu;
pub mod chuid;
pub mod der;
pub mod desk;
pub mod error;
pub mod issue;
pub mod key;
pub mod management;
pub mod pin;
pub mod piv;
pub mod tlv;

pub use error::CardError;
pub use pin::Pin;

//! The isolation tried out: canary machines send, and what is captured at the targets is judged.
//!
//! An [`Order`] says what the lab wants and which of its machines are canaries. Every frame that is
//! tried ([`attempts`]) bears a [`marker`](marker::Marker); the canary puts it on its card byte for byte
//! ([`gun`]), and whatever bears the marker, or answers it, is looked for on every interface of the
//! host, behind the data domains and in the host's own sockets ([`watch`], [`local`]). What the
//! canary says counts nowhere.
//!
//! That a frame which arrives nowhere would have been seen is shown by a control: the same bytes are
//! sent in a [`copy`] of the network without our rules and without the switches that close the
//! host, and where there is no path even then, on one bridge that joins all; they must arrive there.

pub mod attempts;
pub mod cards;
pub mod copy;
pub mod frame;
pub mod ground;
pub mod gun;
pub mod judge;
pub mod local;
pub mod marker;
pub mod run;
pub mod talk;
pub mod watch;

pub use run::run;

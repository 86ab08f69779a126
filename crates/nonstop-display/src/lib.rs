//! The words between `nonstopd`, the broker of a display and its viewers.
//!
//! Apart from the crate `nonstop-rdp`, whose programs speak D-Bus and RDP, so that `nonstopd`
//! links neither.

pub mod control;
pub mod link;
pub mod recording;
pub mod setup;
pub mod wire;

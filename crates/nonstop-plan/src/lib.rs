//! What has to be done: a pure function from what is wanted and what was seen to ordered steps.
//!
//! No I/O, clock or randomness. A pass of the daemon is observe, [`absorb`], [`plan`], apply;
//! every step can be repeated, so a crash at any instant is healed by the next pass.

mod absorb;
mod desired;
mod discs;
mod observed;
mod planner;
mod shaping;
mod snapshots;
mod step;

pub use absorb::{ASKED_OFF, Fact, absorb};
pub use desired::{
    AccountGate, Desired, DesiredEnvironment, DesiredMachine, Desktop, GateKey, Phase,
    SessionToEnd, Take, Viewer, ViewerKind,
};
pub use observed::{
    Disk, DiskRoom, EndReason, FirewallState, GateState, HostRun, Observed, ObservedDisplay,
    ObservedMachine, ObservedSegment, Saved,
};
pub use planner::{Grants, Plan, link_grant, names, plan, port_grant, reach_grant, wanted_grants};
pub use shaping::{Desk, Shaping, wanted_shaping};
pub use step::{Grant, SegmentHost, Step};

//! What an observation teaches about intent: a guest that powered itself off should stay off,
//! one that a power cut of the host or a dead QEMU took away should come back. And whether a
//! snapshot is whole.

use crate::{
    desired::{Desired, Phase},
    observed::{EndReason, Observed},
    snapshots,
};
use nonstop_model::{InjectionId, MachineId, Power, SnapshotId};

/// Something to record before planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The machine runs, in the observed run of the host.
    SeenRunning(MachineId),
    /// The guest powered itself off.
    PoweredOff(MachineId),
    /// Its QEMU died; it will be started again.
    Crashed(MachineId),
    /// Everything that the snapshot names is at rest: it can be returned to.
    Taken(SnapshotId),
    /// The snapshot cannot be taken any more.
    NotTaken(SnapshotId, &'static str),
    /// The disc lies in its drive.
    DiscThere(InjectionId),
    /// The memory that the machine was to go on with is not there: it boots.
    NothingToResume(MachineId),
}

/// What stands for the host's run once a machine was asked to power off: whatever its guest does
/// until it is started again was our doing, even if it is wanted again before the guest ends.
pub const ASKED_OFF: &str = "asked-off";

/// The facts that `observed` adds to `desired`.
///
/// A machine that is wanted, was seen in this run of the host and is absent now went away in
/// the guest, unless we heard that its QEMU died. One last seen in an earlier run was cut off
/// with the host.
pub fn absorb(desired: &Desired, observed: &Observed) -> Vec<Fact> {
    // What has ended is stopped by us, whatever its machines were wanted to do.
    let live = desired.environments.values().filter(|e| e.phase == Phase::Live);
    let of_discs = live.clone().flat_map(|e| &e.machines).filter_map(|m| {
        let disc = m.disc.as_ref().filter(|disc| !disc.there)?;
        let runs = observed.machines.get(&m.id)?.generation == m.generation;
        let seen = observed.drives.get(&m.id).copied().flatten();
        (runs && seen == Some(disc.injection)).then_some(Fact::DiscThere(disc.injection))
    });
    let of_snapshots = live.clone().flat_map(|e| snapshots::facts(e, observed));
    // One whose memory we keep was ended by us, though the daemon may have died over it.
    let machines =
        live.flat_map(|e| e.machines.iter().filter(|m| !snapshots::is_kept(e, m, observed)));
    let of_machines =
        machines.filter(|m| m.seen_in.as_deref() != Some(ASKED_OFF)).filter_map(|m| {
            let seen_in_this_run = m.seen_in.as_deref() == Some(observed.run.0.as_str());
            let runs = observed.machines.get(&m.id).map(|seen| seen.generation == m.generation);
            match (runs, observed.ended.get(&m.id)) {
                // A guest of an earlier generation says nothing about this one.
                (Some(false), _) => None,
                (Some(true), _) if !seen_in_this_run => Some(Fact::SeenRunning(m.id)),
                (Some(true), _) => None,
                (None, _) if m.power == Power::Off => None,
                (None, Some(EndReason::Crashed)) => Some(Fact::Crashed(m.id)),
                (None, Some(EndReason::Shutdown)) => Some(Fact::PoweredOff(m.id)),
                (None, None) => seen_in_this_run.then_some(Fact::PoweredOff(m.id)),
            }
        });
    of_machines.chain(of_snapshots).chain(of_discs).collect()
}

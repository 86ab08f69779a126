//! What an observation of the host found. Only things marked ours are listed.

use crate::{
    desired::{AccountGate, ViewerKind},
    shaping::Shaping,
    step::Grant,
};
use nonstop_model::{AccountName, EnvironmentId, InjectionId, MachineId, Memory, SegmentName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Identifies one run of the host: what was running in an earlier one was ended by a power cut.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostRun(pub String);

/// A listing of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The run of the host it was made in.
    pub run: HostRun,
    /// Bridges with DHCP and DNS.
    pub segments: BTreeMap<SegmentName, ObservedSegment>,
    /// Running guests.
    pub machines: BTreeMap<MachineId, ObservedMachine>,
    /// Those of them whose processors stand still, but for a full disk.
    pub paused: BTreeSet<MachineId>,
    /// What lies in the drives of running guests; a guest without a drive is not in it.
    pub drives: BTreeMap<MachineId, Option<InjectionId>>,
    /// Images of discs on the host, by the machine and generation that they belong to.
    pub discs: BTreeSet<(MachineId, u32, InjectionId)>,
    /// How guests ended that we heard of since the last observation.
    pub ended: BTreeMap<MachineId, EndReason>,
    /// Displays that are served.
    pub displays: BTreeMap<MachineId, ObservedDisplay>,
    /// What guests have written, by machine and generation.
    pub disks: BTreeMap<(MachineId, u32), Disk>,
    /// Memory of guests that is kept beside them.
    pub memory: BTreeMap<(MachineId, Memory), Saved>,
    /// How much room the disk has beside the reserve for database and trace.
    pub room: DiskRoom,
    /// Machines that wrote more to the disk since the observation before.
    pub writing: BTreeSet<MachineId>,
    /// Bytes that each generation takes on the disk, its memory included.
    pub bytes: BTreeMap<(MachineId, u32), u64>,
    /// nft tables and what they let through.
    pub firewall: FirewallState,
    /// The limits of accounts' bandwidth; empty where what the kernel holds is not known to be whole.
    pub shaping: Shaping,
    /// What sshd sees.
    pub gate: GateState,
    /// What somebody had changed by hand, each in a sentence; it is put right already.
    pub drift: Vec<String>,
}

/// How much room the disk has beside the reserve that is kept for database and trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskRoom {
    /// Enough.
    #[default]
    Plenty,
    /// Less than three quarters of the reserve are free: who stands still stays so.
    Scarce,
    /// Less than half of it is free: who writes is made to stand still.
    Low,
}

impl DiskRoom {
    /// The room where `free` bytes are left and `reserve` are to be kept.
    pub fn of(free: u64, reserve: u64) -> DiskRoom {
        if free < reserve / 2 {
            DiskRoom::Low
        } else if free < reserve / 4 * 3 {
            DiskRoom::Scarce
        } else {
            DiskRoom::Plenty
        }
    }
}

/// A bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedSegment {
    /// Whether it is whole: the network is active and the bridge up.
    pub whole: bool,
}

/// A guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedMachine {
    /// The environment written into its mark.
    pub environment: EnvironmentId,
    /// The generation it runs on.
    pub generation: u32,
}

/// A display that is served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedDisplay {
    /// Whether the guest's picture is shown, or asked for; else one that says it is off.
    pub attached: bool,
    /// Viewers beside the owner's.
    pub viewers: BTreeMap<u8, ViewerKind>,
    /// SHA-256 of its certificate, in hex.
    pub fingerprint: String,
}

/// Why a guest stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// It powered itself off.
    Shutdown,
    /// QEMU died, or was stopped by somebody else.
    Crashed,
}

/// A generation's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Whole and usable.
    Whole,
    /// Left by an interrupted creation or removal.
    Partial,
}

/// The memory of a guest on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Being written, or left by an interruption of that.
    Begun,
    /// Whole.
    Whole,
}

/// What nft holds of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FirewallState {
    /// Whether our tables are loaded with the rules of this version.
    pub current: bool,
    /// Elements and the time until each ends by itself; None for one that does not.
    pub grants: BTreeMap<Grant, Option<Duration>>,
}

/// What sshd sees of accounts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GateState {
    /// Accounts with a user record and a key file, as these say.
    pub accounts: BTreeMap<AccountName, AccountGate>,
    /// Files of ours there that could not be read as one.
    pub broken: BTreeSet<AccountName>,
    /// Open sessions and logins in progress: the uid, by the process of sshd that leads each.
    pub sessions: BTreeMap<u32, u32>,
}

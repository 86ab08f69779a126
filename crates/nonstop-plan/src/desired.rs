//! What is wanted on the host, read from the database in one transaction.

use ipnet::Ipv4Net;
use jiff::Timestamp;
use nonstop_model::{
    AccountName, Disc, EnvironmentId, Frozen, ImageName, Limits, MachineId, MachineProfile,
    MachineRole, Memory, Password, Power, PublicKey, ReachTarget, Segment, SegmentKind,
    SegmentName, SnapshotId,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

/// Everything that is wanted. What stands in neither list is not wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Accounts that may log in, by name; their targets are added by the planner.
    pub accounts: BTreeMap<AccountName, AccountGate>,
    /// Environments that are not gone.
    pub environments: BTreeMap<EnvironmentId, DesiredEnvironment>,
    /// How long a right in the kernel outlives a dead daemon.
    pub lease: Duration,
    /// Limits of what accounts move through the gateway, each way, in kbit/s by uid; who is not in it
    /// has none.
    pub bandwidth_kbit: BTreeMap<u32, u32>,
    /// The portal's port on each account's address.
    pub portal_port: u16,
    /// The file transfer's port there.
    pub transfer_port: u16,
    /// Sessions whose right has ended while their account's has not.
    pub sessions_to_end: Vec<SessionToEnd>,
}

/// A session that has to end by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionToEnd {
    /// Its number.
    pub id: u64,
    /// sshd's process that leads it.
    pub pid: u32,
    /// The uid of its account.
    pub uid: u32,
    /// The host's run that it belongs to.
    pub run: String,
    /// Why.
    pub why: String,
}

/// What the gateway holds about one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountGate {
    /// The login name.
    pub name: AccountName,
    /// The uid of its forwarded connections; the group has the same number.
    pub uid: u32,
    /// The loopback address on which the portal knows it.
    pub address: Ipv4Addr,
    /// Keys that log in.
    pub keys: Vec<GateKey>,
    /// Where it may come from; empty means anywhere.
    pub sources: Vec<Ipv4Net>,
    /// What its tunnel may reach, sorted.
    pub targets: Vec<(Ipv4Addr, u16)>,
}

impl AccountGate {
    /// The networks from which the gateway is reached for it: none where nothing logs in.
    pub fn networks(&self) -> Vec<Ipv4Net> {
        match (self.keys.is_empty(), self.sources.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => vec![Ipv4Net::default()],
            (false, false) => self.sources.iter().map(Ipv4Net::trunc).collect(),
        }
    }
}

/// A key that logs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateKey {
    /// The line of OpenSSH.
    pub key: PublicKey,
    /// From when on sshd takes it no more, also without the daemon; None for never.
    pub until: Option<Timestamp>,
}

/// Where in its life an environment is, at the time of planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its period has not begun: nothing of it exists.
    Waiting,
    /// It is in its period.
    Live,
    /// It has ended; its disks are kept.
    Grace,
    /// Its disks go, and then it is gone.
    Destroy,
}

/// An environment that is not gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredEnvironment {
    /// Its id.
    pub id: EnvironmentId,
    /// Whose it is.
    pub account: AccountName,
    /// Its bridge and addresses.
    pub segment: Segment,
    /// Where in its life it is.
    pub phase: Phase,
    /// When its period begins.
    pub from: Timestamp,
    /// When its access ends.
    pub until: Timestamp,
    /// When its disks go; None before its end.
    pub destroy_at: Option<Timestamp>,
    /// The snapshot that is being taken.
    pub taking: Option<Take>,
    /// The data domain whose servers its machines may reach; None for none.
    pub edition: Option<String>,
    /// Its machines.
    pub machines: Vec<DesiredMachine>,
}

/// A snapshot that is being taken: of all its machines at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// Which.
    pub snapshot: SnapshotId,
    /// Its machines, and of each whether its guest ran when it was asked for.
    pub machines: BTreeMap<MachineId, bool>,
}

impl Take {
    /// Whether the memory of `machine` belongs to it.
    pub fn saves(&self, machine: MachineId) -> bool {
        self.machines.get(&machine) == Some(&true)
    }
}

impl AccountGate {
    /// Whether somebody may have come in by `self` whom `wanted` keeps out: a key is not in it any
    /// more, or a network.
    pub(crate) fn lets_in_more_than(&self, wanted: &AccountGate) -> bool {
        let key = |key: &GateKey| wanted.keys.iter().any(|other| other.key == key.key);
        let from_anywhere = |gate: &AccountGate| gate.sources.is_empty();
        let network = |net: &Ipv4Net| wanted.sources.iter().any(|other| other.contains(net));
        let sources =
            from_anywhere(wanted) || (!from_anywhere(self) && self.sources.iter().all(network));
        !(self.keys.iter().all(key) && sources)
    }
}

impl DesiredEnvironment {
    /// The snapshot that is being taken of `machine`.
    pub fn taking(&self, machine: MachineId) -> Option<&Take> {
        self.taking.as_ref().filter(|take| take.machines.contains_key(&machine))
    }

    /// The segments that its machines have cards on.
    pub fn segments(&self) -> BTreeSet<SegmentName> {
        self.machines.iter().flat_map(DesiredMachine::segments).collect()
    }
}

/// Where a machine's desktop is served: the target of the researcher's tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desktop {
    /// Whether it comes from the hypervisor's display; else from the guest's own server.
    pub console: bool,
    /// Address that the tunnel connects to.
    pub address: Ipv4Addr,
    /// TCP port.
    pub port: u16,
}

/// Somebody or something that looks at a display beside its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    /// From 1, one for each at a time: its port is this above the desktop's.
    pub id: u8,
    /// What it is.
    pub kind: ViewerKind,
}

/// What looks at a display beside its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ViewerKind {
    /// A person, who sees and cannot type.
    Person {
        /// The uid of the person's tunnel.
        uid: u32,
        /// When the right ends by itself.
        until: Timestamp,
    },
    /// A recording.
    Recorder {
        /// Its number.
        recording: u64,
        /// The most bytes it may take.
        max_bytes: u64,
    },
}

/// A machine as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DesiredMachine {
    /// Its id.
    pub id: MachineId,
    /// The environment it belongs to.
    pub environment: EnvironmentId,
    /// What it is for; no other machine of its environment has the same role.
    pub role: MachineRole,
    /// The image it starts from.
    pub image: ImageName,
    /// Digest of the image's manifest.
    pub image_digest: String,
    /// Its hardware.
    pub profile: MachineProfile,
    /// The uid of its QEMU.
    pub uid: u32,
    /// Its address on the access segment; None for a machine that is not on it.
    pub address: Option<Ipv4Addr>,
    /// Its network cards, in order.
    pub networks: Vec<SegmentKind>,
    /// What it may connect to.
    pub reach: Vec<ReachTarget>,
    /// What it may use up.
    pub limits: Limits,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub vcpus: u8,
    /// The generation of what it can write.
    pub generation: u32,
    /// The frozen generation that it was made from; None where that is the image.
    pub origin: Option<u32>,
    /// The memory that the guest goes on with, instead of booting; None once it does.
    pub resume: Option<Memory>,
    /// Earlier generations that are kept.
    pub frozen: Vec<Frozen>,
    /// Whether it should run.
    pub power: Power,
    /// Until when the guest may shut down by itself once `power` is off.
    pub force_off_at: Timestamp,
    /// Whether a reset was asked for and not yet done.
    pub reset_pending: bool,
    /// The user and password to set through the agent; None once it is done or not needed.
    pub preparation: Option<(String, Password)>,
    /// Where its desktop is; None for a machine without.
    pub desktop: Option<Desktop>,
    /// Who else looks at its display.
    pub viewers: Vec<Viewer>,
    /// Whether its guest's agent may be spoken with: it has a port for that.
    pub agent: bool,
    /// Whether it has a drive in which discs with samples are shown.
    pub drive: bool,
    /// The disc that is wanted in it.
    pub disc: Option<Disc>,
    /// The host's run in which it was last seen running.
    pub seen_in: Option<String>,
}

impl DesiredMachine {
    /// The segments that it has a card on, in the order of its cards.
    pub fn segments(&self) -> impl Iterator<Item = SegmentName> + '_ {
        self.networks.iter().map(|kind| SegmentName::of_kind(*kind, self.environment))
    }
}

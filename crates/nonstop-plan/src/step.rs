//! One effect on the host. Each can be repeated, and says what it does in one line.

use crate::{
    desired::{AccountGate, DesiredMachine, SessionToEnd, Viewer},
    shaping::Shaping,
};
use ipnet::Ipv4Net;
use nonstop_model::{
    AccountName, Disc, EnvironmentId, InjectionId, MachineId, Memory, NetworkLimits, Protocol,
    Segment, SegmentName, SnapshotId,
    network::{DESKTOP_NET, RDP_PORT},
};
use serde::Serialize;
use std::{collections::BTreeMap, fmt, net::Ipv4Addr, time::Duration};

/// Something that the kernel lets through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Grant {
    /// The account's own connections to the portal on its address.
    Portal {
        /// The account's uid.
        uid: u32,
        /// The account's address.
        address: Ipv4Addr,
        /// The portal's port.
        port: u16,
    },
    /// The account's own connections to the file transfer on its address.
    Transfer {
        /// The account's uid.
        uid: u32,
        /// The account's address.
        address: Ipv4Addr,
        /// The outside airlock's port.
        port: u16,
    },
    /// The account's tunnel to a desktop.
    Desktop {
        /// The account's uid.
        uid: u32,
        /// Where the desktop is served.
        address: Ipv4Addr,
        /// TCP port.
        port: u16,
    },
    /// Frames of a machine's own address on its own port of the segment.
    Port {
        /// The machine; its tap and MAC derive from it.
        machine: MachineId,
        /// Its address.
        address: Ipv4Addr,
        /// How many of them.
        limits: NetworkLimits,
    },
    /// A machine's connections to one port of one server, or of a service of the lab at the
    /// host's address of its segment.
    Reach {
        /// The machine; its tap derives from it.
        machine: MachineId,
        /// Its environment; the bridge derives from it.
        environment: EnvironmentId,
        /// The machine's address.
        source: Ipv4Addr,
        /// Where the server answers.
        address: Ipv4Addr,
        /// What it speaks.
        protocol: Protocol,
        /// At which port.
        port: u16,
    },
    /// Frames of a machine's own link card on the link segment.
    Link {
        /// The machine; its link tap and MAC derive from it.
        machine: MachineId,
        /// How many broadcasts a second.
        broadcasts_a_second: u32,
    },
    /// New connections to the gateway from a network that somebody is registered to come from.
    /// Those of several accounts may overlap: each is a right of its own.
    Source {
        /// The network, with nothing behind its prefix.
        net: Ipv4Net,
    },
}

impl Grant {
    /// Whether taking it away also ends every session of its account. A right to look at
    /// somebody else's display does not: its viewer is ended instead.
    pub fn ends_sessions(&self) -> bool {
        let Grant::Desktop { address, port, .. } = self else { return self.uid().is_some() };
        !(DESKTOP_NET.contains(address) && *port != RDP_PORT)
    }

    /// The account it belongs to; None for one of a machine.
    pub fn uid(&self) -> Option<u32> {
        match self {
            Grant::Portal { uid, .. }
            | Grant::Transfer { uid, .. }
            | Grant::Desktop { uid, .. } => Some(*uid),
            Grant::Port { .. }
            | Grant::Reach { .. }
            | Grant::Link { .. }
            | Grant::Source { .. } => None,
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Portal { uid, address, port } => {
                write!(f, "uid {uid} to the portal at {address}:{port}")
            }
            Grant::Transfer { uid, address, port } => {
                write!(f, "uid {uid} to the file transfer at {address}:{port}")
            }
            Grant::Desktop { uid, address, port } => {
                write!(f, "uid {uid} to the desktop at {address}:{port}")
            }
            Grant::Port { machine, address, .. } => write!(f, "{machine} as {address}"),
            Grant::Reach { machine, source, address, protocol, port, .. } => {
                write!(f, "{machine} at {source} to {address}:{port}/{protocol}")
            }
            Grant::Link { machine, .. } => write!(f, "{machine} on its link"),
            Grant::Source { net } => write!(f, "{net} to the gateway"),
        }
    }
}

/// A machine's fixed address, for DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentHost {
    /// The machine; its MAC derives from it.
    pub machine: MachineId,
    /// Its address.
    pub address: Ipv4Addr,
}

/// One effect on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Replace our nft tables by those of this version, keeping no grant.
    LoadFirewall,
    /// Take a grant out of the kernel, and end the open sessions of its account.
    Revoke {
        /// What.
        grant: Grant,
    },
    /// Remove an account's keys and user record, and end its sessions.
    CloseGate {
        /// Whose.
        account: AccountName,
    },
    /// End every session of a uid.
    EndSessions {
        /// Whose.
        uid: u32,
    },
    /// End one session, and none of the same person's others.
    EndSession {
        /// Which.
        session: SessionToEnd,
    },
    /// Ask the guest to power off.
    ShutdownMachine {
        /// Which.
        machine: MachineId,
    },
    /// Stop the guest at once.
    StopMachine {
        /// Which.
        machine: MachineId,
    },
    /// Remove a bridge.
    RemoveSegment {
        /// Which.
        segment: SegmentName,
    },
    /// Move what a guest of an unknown machine wrote to the quarantine.
    QuarantineDisk {
        /// Whose.
        machine: MachineId,
        /// Which generation.
        generation: u32,
    },
    /// Delete what a guest wrote.
    DestroyDisk {
        /// Whose.
        machine: MachineId,
        /// Which generation.
        generation: u32,
    },
    /// Make a bridge that joins machines with each other and has nothing of the host on it.
    CreateLink {
        /// Which.
        segment: SegmentName,
    },
    /// Make a bridge with DHCP and DNS for its machines.
    CreateSegment {
        /// Bridge and addresses.
        segment: Segment,
        /// Its machines.
        hosts: Vec<SegmentHost>,
        /// What its DNS answers: the servers that they reach, and nothing else.
        names: BTreeMap<String, Ipv4Addr>,
    },
    /// Make the overlay of a machine's generation, backed by its image or by a generation that is
    /// frozen with it.
    CreateDisk {
        /// Of which machine.
        machine: DesiredMachine,
    },
    /// Start the guest.
    StartMachine {
        /// Which.
        machine: DesiredMachine,
    },
    /// Make the image of a disc with samples, beside what its machine writes.
    MakeDisc {
        /// Of which machine.
        machine: MachineId,
        /// In the folder of which generation.
        generation: u32,
        /// The uid that may read it.
        uid: u32,
        /// What is on it.
        disc: Disc,
    },
    /// Put a disc into the drive of a guest that runs, whatever is in it; or take it out.
    ChangeDisc {
        /// Of which machine.
        machine: MachineId,
        /// In the folder of which generation it lies.
        generation: u32,
        /// Which; None for none.
        disc: Option<InjectionId>,
    },
    /// Delete the image of a disc.
    DropDisc {
        /// Of which machine.
        machine: MachineId,
        /// In the folder of which generation.
        generation: u32,
        /// Which.
        disc: InjectionId,
    },
    /// Stop the guest's processors, if the disk has room for its memory.
    PauseMachine {
        /// Which.
        machine: MachineId,
        /// For which snapshot.
        snapshot: SnapshotId,
        /// How much memory is going to be kept, of all guests that are paused with it.
        room_mib: u64,
    },
    /// Stop the processors of a guest that writes while the disk has hardly room for the trace.
    HoldMachine {
        /// Which.
        machine: MachineId,
    },
    /// Keep the memory of a paused guest, and end it.
    SaveMachine {
        /// Which.
        machine: MachineId,
        /// Where.
        memory: Memory,
    },
    /// Start the guest where its memory was kept, its processors standing still.
    RestoreMachine {
        /// Which.
        machine: DesiredMachine,
        /// Where.
        memory: Memory,
    },
    /// Let the guest's processors run on.
    ResumeMachine {
        /// Which.
        machine: MachineId,
    },
    /// Delete kept memory.
    DropMemory {
        /// Whose.
        machine: MachineId,
        /// Which.
        memory: Memory,
    },
    /// Reset the guest as by its button.
    ResetMachine {
        /// Which.
        machine: MachineId,
    },
    /// Set the guest's fresh password through its agent.
    PrepareMachine {
        /// Which.
        machine: DesiredMachine,
    },
    /// Serve a machine's display to its owner; it says that the machine is off.
    OpenDisplay {
        /// Which.
        machine: MachineId,
    },
    /// Show the picture of the guest that runs.
    AttachDisplay {
        /// Which.
        machine: MachineId,
    },
    /// Serve a machine's display no longer: whoever looked gets no further frame.
    CloseDisplay {
        /// Which.
        machine: MachineId,
    },
    /// Let somebody else look, or record.
    OpenViewer {
        /// At which machine.
        machine: MachineId,
        /// Who.
        viewer: Viewer,
    },
    /// End that: it gets no further frame.
    CloseViewer {
        /// At which machine.
        machine: MachineId,
        /// Which.
        viewer: u8,
    },
    /// Limit what each account moves through the gateway.
    Shape {
        /// All limits; what is not in it goes.
        shaping: Shaping,
    },
    /// Write an account's user record and keys.
    OpenGate {
        /// What the files say.
        gate: AccountGate,
    },
    /// Let something through, or renew its lease.
    Grant {
        /// What.
        grant: Grant,
        /// For how long unless renewed; None for as long as the tables stand.
        lease: Option<Duration>,
    },
}

impl Step {
    /// The machine whose guest comes or goes by it, or has another disc in its drive.
    pub fn changes_guest(&self) -> Option<MachineId> {
        match self {
            Step::ShutdownMachine { machine }
            | Step::StopMachine { machine }
            | Step::SaveMachine { machine, .. }
            | Step::ChangeDisc { machine, .. } => Some(*machine),
            Step::StartMachine { machine } | Step::RestoreMachine { machine, .. } => {
                Some(machine.id)
            }
            Step::LoadFirewall
            | Step::Revoke { .. }
            | Step::CloseGate { .. }
            | Step::EndSessions { .. }
            | Step::EndSession { .. }
            | Step::RemoveSegment { .. }
            | Step::QuarantineDisk { .. }
            | Step::DestroyDisk { .. }
            | Step::CreateLink { .. }
            | Step::CreateSegment { .. }
            | Step::CreateDisk { .. }
            | Step::MakeDisc { .. }
            | Step::DropDisc { .. }
            | Step::PauseMachine { .. }
            | Step::HoldMachine { .. }
            | Step::ResumeMachine { .. }
            | Step::DropMemory { .. }
            | Step::ResetMachine { .. }
            | Step::PrepareMachine { .. }
            | Step::OpenDisplay { .. }
            | Step::AttachDisplay { .. }
            | Step::CloseDisplay { .. }
            | Step::OpenViewer { .. }
            | Step::CloseViewer { .. }
            | Step::Shape { .. }
            | Step::OpenGate { .. }
            | Step::Grant { .. } => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::LoadFirewall => f.write_str("load the firewall"),
            Step::Revoke { grant } => write!(f, "revoke {grant}"),
            Step::CloseGate { account } => write!(f, "close the gate to {account}"),
            Step::EndSessions { uid } => write!(f, "end the sessions of uid {uid}"),
            Step::EndSession { session } => {
                write!(f, "end session {} of uid {}: {}", session.id, session.uid, session.why)
            }
            Step::ShutdownMachine { machine } => write!(f, "ask {machine} to power off"),
            Step::StopMachine { machine } => write!(f, "stop {machine}"),
            Step::RemoveSegment { segment } => write!(f, "remove segment {segment}"),
            Step::QuarantineDisk { machine, generation } => {
                write!(f, "quarantine unknown generation {generation} of {machine}")
            }
            Step::DestroyDisk { machine, generation } => {
                write!(f, "destroy generation {generation} of {machine}")
            }
            Step::CreateLink { segment } => write!(f, "create link {segment}"),
            Step::CreateSegment { segment, .. } => {
                write!(f, "create segment {} ({})", segment.name, segment.net)
            }
            Step::CreateDisk { machine: m } => match m.origin {
                None => {
                    write!(
                        f,
                        "create generation {} of {} from image {}",
                        m.generation, m.id, m.image
                    )
                }
                Some(origin) => {
                    write!(f, "create generation {} of {} from {origin}", m.generation, m.id)
                }
            },
            Step::StartMachine { machine: m } => {
                let segments: Vec<String> = m.segments().map(Into::into).collect();
                write!(f, "start {} on {}", m.id, segments.join(", "))
            }
            Step::MakeDisc { machine, disc, .. } => {
                write!(f, "make the disc {} of {machine}", disc.injection)
            }
            Step::ChangeDisc { machine, disc: Some(disc), .. } => {
                write!(f, "put the disc {disc} into the drive of {machine}")
            }
            Step::ChangeDisc { machine, disc: None, .. } => {
                write!(f, "take the disc out of the drive of {machine}")
            }
            Step::DropDisc { machine, disc, .. } => {
                write!(f, "delete the disc {disc} of {machine}")
            }
            Step::PauseMachine { machine, .. } => write!(f, "pause {machine}"),
            Step::HoldMachine { machine } => {
                write!(f, "pause {machine}, which writes while the disk is nearly full")
            }
            Step::SaveMachine { machine, memory } => {
                write!(f, "keep the memory of {machine} for {}", memory.snapshot)
            }
            Step::RestoreMachine { machine: m, memory } => {
                write!(f, "start {} from its memory of {}", m.id, memory.snapshot)
            }
            Step::ResumeMachine { machine } => write!(f, "let {machine} run on"),
            Step::DropMemory { machine, memory } => {
                write!(f, "drop the memory of {machine} that was kept for {}", memory.snapshot)
            }
            Step::ResetMachine { machine } => write!(f, "reset {machine}"),
            Step::PrepareMachine { machine: m } => write!(f, "set the password of {}", m.id),
            Step::OpenDisplay { machine } => write!(f, "serve the display of {machine}"),
            Step::AttachDisplay { machine } => write!(f, "show the picture of {machine}"),
            Step::CloseDisplay { machine } => write!(f, "serve the display of {machine} no longer"),
            Step::OpenViewer { machine, viewer } => {
                write!(f, "open viewer {} of {machine}", viewer.id)
            }
            Step::CloseViewer { machine, viewer } => write!(f, "end viewer {viewer} of {machine}"),
            Step::Shape { shaping } => shaping.fmt(f),
            Step::OpenGate { gate } => {
                write!(f, "open the gate to {} ({} targets)", gate.name, gate.targets.len())
            }
            Step::Grant { grant, .. } => write!(f, "grant {grant}"),
        }
    }
}

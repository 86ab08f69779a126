//! The host that this program runs on: each step handed to the part that does it.

use crate::{
    Host, HostError, Outcome, Put,
    accelerator::probe_accelerator,
    agent::AgentRunner,
    authority::Authority,
    disks::{Disks, WriteDiscs},
    displays::{DisplayConfig, Displays, Told},
    domain::{Accelerator, Uefi},
    firewall::{Firewall, FirewallConfig},
    firmware::Firmware,
    gate::{Gate, GateConfig},
    images::Images,
    libvirt::{Kept, LabMark, Libvirt, Wake},
    network::{Beside, Network},
    shaping::Shaper,
    tpm::Tpms,
};
use nonstop_model::{ImageName, Lab, MachineId, Memory};
use nonstop_plan::{DesiredMachine, HostRun, Observed, ObservedMachine, Step};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::info;

/// The host that this program runs on.
pub struct RealHost {
    run: HostRun,
    images: Arc<Images>,
    libvirt: Libvirt,
    disks: Disks,
    tpms: Tpms,
    firewall: Firewall,
    network: Network,
    gate: Gate,
    shaper: Shaper,
    agent: AgentRunner,
    displays: Displays,
    discs: Arc<dyn WriteDiscs>,
    /// What each generation took on the disk at the last observation.
    bytes: Mutex<BTreeMap<(MachineId, u32), u64>>,
}

/// Local users of ours, by number.
#[derive(Debug, Clone, Copy)]
pub struct LocalUsers {
    /// The portal's.
    pub portal: u32,
    /// That of the child which speaks with a guest's agent; its group has the same number.
    pub agent: u32,
    /// That of the airlock's program which machines talk to.
    pub inside: u32,
    /// That of the airlock's program which researchers talk to.
    pub outside: u32,
    /// That of the children which look into exports; its group has the same number.
    pub screen: u32,
}

impl LocalUsers {
    /// Those whose programs answer or are given what they need, and open no connection.
    pub fn opening_nothing(&self) -> Vec<u32> {
        vec![self.portal, self.agent, self.inside, self.outside, self.screen]
    }
}

/// What is called when something happens; neither waits.
pub struct Bells {
    /// Something happened to a guest.
    pub wake: Wake,
    /// Something happened at a display.
    pub told: Told,
}

/// Where what machines are made of comes from.
pub struct Sources {
    /// Base images.
    pub images: Arc<Images>,
    /// Discs with samples.
    pub discs: Arc<dyn WriteDiscs>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources")
    }
}

impl std::fmt::Debug for Bells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bells")
    }
}

impl RealHost {
    /// Makes the parts ready for the lab marked `lab_uuid`, in the host's run `run`.
    ///
    /// Errors: the gateway's files cannot be made, or its PAM service is missing.
    pub fn start(
        lab: &Lab,
        lab_uuid: &str,
        users: LocalUsers,
        run: String,
        Sources { images, discs }: Sources,
        authority: Arc<Authority>,
        Bells { wake, told }: Bells,
    ) -> Result<RealHost, HostError> {
        let accelerator = accelerator(&images);
        let wake = Arc::new(wake);
        let wake_displays = Arc::clone(&wake);
        let wake: Wake = Box::new(move || wake());
        let agent_dir = lab.run.join("agent");
        let gate = Gate::new(GateConfig::of(lab));
        gate.prepare()?;
        Ok(RealHost {
            run: HostRun(run),
            images,
            libvirt: Libvirt::connect(LabMark::of(lab_uuid), agent_dir.clone(), accelerator, wake)?,
            disks: Disks::new(lab.machines(), lab.quarantine(), lab.capacity.reserve_mib << 20),
            tpms: Tpms::new(lab.run.join("tpm")),
            firewall: Firewall::new(FirewallConfig::of(lab, users.opening_nothing())),
            network: Network::of(lab),
            gate,
            shaper: Shaper::default(),
            displays: Displays::start(DisplayConfig::of(lab), authority, wake_displays, told)?,
            discs,
            bytes: Mutex::default(),
            agent: AgentRunner::new(&lab.programs, &agent_dir, users.agent, users.agent),
        })
    }

    fn create_disk(&self, machine: &DesiredMachine) -> Result<(), HostError> {
        let (folder, manifest) = self.images.verified(&machine.image, &machine.image_digest)?;
        self.disks.create(machine, &manifest, &folder)
    }

    fn start_machine(&self, machine: &DesiredMachine) -> Result<(), HostError> {
        let (folder, manifest) = self.images.verified(&machine.image, &machine.image_digest)?;
        let (id, generation) = (machine.id, machine.generation);
        let disk = self.disks.overlay(id, generation);
        let disc = machine.disc.as_ref().map(|d| self.disks.disc(id, generation, d.injection));
        let start = |uefi: Option<Uefi<'_>>| {
            let disc = disc.as_deref();
            self.libvirt.start_machine(machine, &manifest, &folder, &disk, disc, uefi)
        };
        if !machine.profile.boots_from_disk() {
            return start(None);
        }
        let firmware = Firmware::of_host().map_err(|e| HostError::new(format!("start {id}"), e))?;
        let (nvram, tpm) = (self.disks.nvram(id, generation), self.tpms.socket(id));
        let uefi = Uefi { code: &firmware.code, nvram: &nvram, tpm: &tpm };
        // One that runs has its TPM, which must not be told to end.
        if !self.libvirt.runs(id)? {
            self.tpms.start(id, machine.uid, &self.disks.tpm(id, generation))?;
        }
        start(Some(uefi)).inspect_err(|_| {
            if matches!(self.libvirt.runs(id), Ok(false))
                && let Err(e) = self.tpms.end(id)
            {
                tracing::warn!("{}: {:?}", e.doing, e.source);
            }
        })
    }

    /// Keeps the memory of a paused guest, and ends it; its TPM ends with it.
    fn save_machine(&self, machine: MachineId, memory: Memory) -> Result<(), HostError> {
        // Waits for a try that an earlier daemon began.
        self.libvirt.pause_machine(machine)?;
        if self.libvirt.runs(machine)? {
            let file = self.disks.begin_memory(machine, memory)?;
            self.libvirt.save_machine(machine, &file)?;
        }
        self.tpms.end(machine)?;
        self.disks.finish_memory(machine, memory)
    }

    fn restore_machine(&self, machine: &DesiredMachine, memory: Memory) -> Result<(), HostError> {
        let (folder, manifest) = self.images.verified(&machine.image, &machine.image_digest)?;
        let (id, generation) = (machine.id, machine.generation);
        if machine.profile.has_tpm() && !self.libvirt.runs(id)? {
            self.tpms.start(id, machine.uid, &self.disks.tpm(id, generation))?;
        }
        let kept = Kept {
            file: &self.disks.memory(id, memory),
            from: &self.disks.generation(id, memory.generation),
            to: &self.disks.generation(id, generation),
        };
        self.libvirt.restore_machine(machine, &manifest, &folder, &kept).inspect_err(|_| {
            if matches!(self.libvirt.runs(id), Ok(false))
                && let Err(e) = self.tpms.end(id)
            {
                tracing::warn!("{}: {:?}", e.doing, e.source);
            }
        })
    }

    /// Ends a TPM that a crash left without its guest, before what it keeps goes.
    fn end_tpm_of(&self, machine: MachineId) -> Result<(), HostError> {
        // An older generation goes while the guest runs on the next.
        if self.tpms.known(machine) && !self.libvirt.runs(machine)? {
            self.tpms.end(machine)?;
        }
        Ok(())
    }

    /// The running machines that wrote more to the disk since the last time.
    fn writing(
        &self,
        machines: &BTreeMap<MachineId, ObservedMachine>,
        bytes: &BTreeMap<(MachineId, u32), u64>,
    ) -> BTreeSet<MachineId> {
        let mut before = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let more = |id: MachineId, generation: u32| {
            let of = |all: &BTreeMap<(MachineId, u32), u64>| all.get(&(id, generation)).copied();
            of(bytes) > of(&before) && of(&before).is_some()
        };
        let writing = machines.iter().filter(|(id, seen)| more(**id, seen.generation));
        let writing = writing.map(|(id, _)| *id).collect();
        *before = bytes.clone();
        writing
    }

    /// Stops the guest of `machine`; its TPM ends with it.
    fn stop_machine(&self, machine: MachineId) -> Result<(), HostError> {
        self.libvirt.stop_machine(machine)?;
        self.tpms.end(machine)
    }
}

/// What guests run on here, said aloud.
fn accelerator(images: &Images) -> Accelerator {
    let micro: ImageName = "micro".parse().expect("a name of ours");
    let found = images
        .current(&micro)
        .and_then(|(digest, _)| images.verified(&micro, &digest))
        .map(|(folder, manifest)| probe_accelerator(&folder, &manifest));
    let accelerator = found.unwrap_or_else(|_| Accelerator::Tcg {
        why: "the image `micro`, with which KVM is tried, is not built".into(),
    });
    match &accelerator {
        Accelerator::Kvm => info!("guests run under KVM"),
        Accelerator::Tcg { why } => info!("guests run under TCG (in software): {why}"),
    }
    accelerator
}

impl Host for RealHost {
    fn observe(&self) -> Result<Observed, HostError> {
        let gate = self.gate.observe()?;
        let firewall = self.firewall.observe()?;
        let disks = self.disks.observe()?;
        let kept = self.disks.kept()?;
        let listing = self.libvirt.observe()?;
        let mut drift = self.network.look(Beside {
            segments: &listing.segments.keys().cloned().collect(),
            machines: &listing.machines,
            firewall: &firewall,
        })?;
        let writing = self.writing(&listing.machines, &kept.bytes);
        let shaper = self.shaper.observe()?;
        drift.extend(shaper.drift);
        Ok(Observed {
            drift,
            room: self.disks.room()?,
            writing,
            run: self.run.clone(),
            segments: listing.segments,
            machines: listing.machines,
            paused: listing.paused,
            drives: listing.drives,
            discs: kept.discs,
            ended: listing.ended,
            displays: self.displays.observe(),
            disks,
            memory: kept.memory,
            bytes: kept.bytes,
            firewall,
            shaping: shaper.shaping,
            gate,
        })
    }

    fn apply(&self, step: &Step) -> Result<Outcome, HostError> {
        match step {
            Step::LoadFirewall => self.firewall.load()?,
            Step::Revoke { grant } => {
                self.firewall.revoke(grant)?;
                if let Some(uid) = grant.uid().filter(|_| grant.ends_sessions()) {
                    self.gate.end_sessions(uid)?;
                }
            }
            Step::CloseGate { account } => self.gate.close(account)?,
            Step::EndSessions { uid } => self.gate.end_sessions(*uid)?,
            Step::EndSession { session } => self.gate.end_session(session.pid, session.uid)?,
            Step::ShutdownMachine { machine } => {
                self.libvirt.shutdown_machine(*machine)?;
                return Ok(Outcome::NotYet);
            }
            Step::StopMachine { machine } => self.stop_machine(*machine)?,
            Step::RemoveSegment { segment } => self.libvirt.remove_segment(segment)?,
            Step::QuarantineDisk { machine, generation } => {
                self.end_tpm_of(*machine)?;
                self.disks.quarantine(*machine, *generation)?;
            }
            Step::DestroyDisk { machine, generation } => {
                self.end_tpm_of(*machine)?;
                self.disks.destroy(*machine, *generation)?;
            }
            Step::CreateLink { segment } => self.libvirt.create_link(segment)?,
            Step::CreateSegment { segment, hosts, names } => {
                self.libvirt.create_segment(segment, hosts, names)?;
                let routed = names.values().any(|address| *address != segment.host());
                self.network.made(segment, routed);
            }
            Step::CreateDisk { machine } => self.create_disk(machine)?,
            Step::StartMachine { machine } => self.start_machine(machine)?,
            Step::MakeDisc { machine, generation, uid, disc } => {
                self.disks.make_disc(*machine, *generation, *uid, disc, &*self.discs)?;
            }
            Step::ChangeDisc { machine, generation, disc } => {
                let disc = disc.map(|disc| self.disks.disc(*machine, *generation, disc));
                self.libvirt.change_disc(*machine, disc.as_deref())?;
            }
            Step::DropDisc { machine, generation, disc } => {
                self.disks.drop_disc(*machine, *generation, *disc)?;
            }
            Step::PauseMachine { machine, room_mib, .. } => {
                self.disks.room_for(*machine, *room_mib)?;
                self.libvirt.pause_machine(*machine)?;
            }
            Step::HoldMachine { machine } => self.libvirt.pause_machine(*machine)?,
            Step::SaveMachine { machine, memory } => self.save_machine(*machine, *memory)?,
            Step::RestoreMachine { machine, memory } => self.restore_machine(machine, *memory)?,
            Step::ResumeMachine { machine } => self.libvirt.resume_machine(*machine)?,
            Step::DropMemory { machine, memory } => self.disks.drop_memory(*machine, *memory)?,
            Step::ResetMachine { machine } => self.libvirt.reset_machine(*machine)?,
            Step::PrepareMachine { machine } => {
                let Some((user, password)) = &machine.preparation else {
                    return Ok(Outcome::Done);
                };
                return self.agent.set_password(machine.id, user, password);
            }
            Step::OpenDisplay { machine } => self.displays.open(*machine)?,
            Step::AttachDisplay { machine } => {
                let Some(connection) = self.libvirt.open_display(*machine)? else {
                    return Ok(Outcome::NotYet);
                };
                self.displays.attach(*machine, connection)?;
            }
            Step::CloseDisplay { machine } => self.displays.close(*machine)?,
            Step::OpenViewer { machine, viewer } => self.displays.open_viewer(*machine, viewer)?,
            Step::CloseViewer { machine, viewer } => {
                self.displays.close_viewer(*machine, *viewer)?;
            }
            Step::Shape { shaping } => self.shaper.apply(shaping)?,
            Step::OpenGate { gate } => self.gate.open(gate)?,
            Step::Grant { grant, lease } => self.firewall.grant(grant, *lease)?,
        }
        Ok(Outcome::Done)
    }

    fn play_recording(&self, id: u64) -> Result<OwnedFd, HostError> {
        self.displays.play(id)
    }

    fn put_file(
        &self,
        machine: MachineId,
        path: &str,
        file: &File,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Put, HostError> {
        self.agent.put_file(machine, path, file, wanted)
    }
}

//! A simulated host whose power can be cut before and after every effect.
//!
//! What a real host loses by a power cut (guests, bridges, rules, gate files) is lost here, and
//! what it keeps (disks) is kept, also half made. Steps are made of the same effects, in the same
//! order, as those of [`crate::RealHost`].

use crate::{Host, HostError, Outcome, Put, PutVerdict};
use nonstop_model::{InjectionId, MachineId, Memory, Segment, SegmentName};
use nonstop_plan::{
    DesiredMachine, Disk, DiskRoom, EndReason, FirewallState, GateState, HostRun, Observed,
    ObservedDisplay, ObservedMachine, ObservedSegment, Saved, Shaping, Step,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Where the power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Before the effect with this number, counted from 0.
    Before(u64),
    /// After it.
    After(u64),
}

/// The power is off: nothing works until [`SimHost::boot`].
#[derive(Debug, thiserror::Error)]
#[error("the power was cut")]
struct PowerCut;

/// What a step does not do, and says so.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Dark(#[from] PowerCut),
    #[error("{0}")]
    Refused(&'static str),
}

/// A simulated host.
#[derive(Debug, Default)]
pub struct SimHost(Mutex<World>);

#[derive(Debug, Default)]
struct World {
    run: u64,
    effects: u64,
    cut: Option<Cut>,
    dark: bool,
    volatile: Volatile,
    disks: BTreeMap<(MachineId, u32), SimDisk>,
    memory: BTreeMap<(MachineId, Memory), SimMemory>,
    /// Disks that nothing may write to any more, because others were made from them.
    bearing: BTreeSet<(MachineId, u32)>,
    /// Images of discs, by machine and generation.
    discs: BTreeSet<(MachineId, u32, InjectionId)>,
    no_samples: bool,
    no_room: bool,
    made: u64,
    quarantined: Vec<(MachineId, u32)>,
}

/// What a power cut takes away.
#[derive(Debug, Default)]
struct Volatile {
    segments: BTreeSet<SegmentName>,
    machines: BTreeMap<MachineId, ObservedMachine>,
    /// What each guest has in its memory: a number that differs for each that boots.
    minds: BTreeMap<MachineId, u64>,
    paused: BTreeSet<MachineId>,
    /// What is in the drives of guests; those that were started without have none.
    drives: BTreeMap<MachineId, Option<InjectionId>>,
    /// Files that agents were given, and how long each is.
    put: BTreeMap<(MachineId, String), u64>,
    answering: BTreeSet<MachineId>,
    ended: BTreeMap<MachineId, EndReason>,
    firewall: FirewallState,
    shaping: Shaping,
    gate: GateState,
    displays: BTreeMap<MachineId, ObservedDisplay>,
}

/// Memory that is kept: of which guest, and how far its file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SimMemory {
    mind: u64,
    /// What was in the guest's drive.
    disc: Option<InjectionId>,
    state: Saved,
    written: bool,
}

/// What a guest has written: `serial` differs for each disk that was ever made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SimDisk {
    state: Disk,
    serial: u64,
}

impl World {
    /// A display whose guest has ended shows that it is off.
    fn displays(&self) -> BTreeMap<MachineId, ObservedDisplay> {
        let mut displays = self.volatile.displays.clone();
        for (machine, display) in &mut displays {
            display.attached &= self.volatile.machines.contains_key(machine);
        }
        displays
    }

    /// A guest that has ended has nothing in its drive.
    fn drives(&self) -> BTreeMap<MachineId, Option<InjectionId>> {
        let mut drives = self.volatile.drives.clone();
        drives.retain(|machine, _| self.volatile.machines.contains_key(machine));
        drives
    }

    fn start(&mut self, id: MachineId, seen: ObservedMachine, mind: u64, paused: bool) {
        let (volatile, key) = (&mut self.volatile, (id, seen.generation));
        assert!(!self.bearing.contains(&key), "{id} writes to what others were made from");
        volatile.machines.insert(id, seen);
        volatile.minds.insert(id, mind);
        if paused {
            volatile.paused.insert(id);
        }
    }

    /// What a guest that was just started has in its drive, if it has one.
    fn show(&mut self, machine: &DesiredMachine, disc: Option<InjectionId>) {
        if machine.drive {
            self.volatile.drives.insert(machine.id, disc);
        }
    }

    /// The guest is not there any more.
    fn end(&mut self, id: MachineId) {
        self.volatile.machines.remove(&id);
        self.volatile.minds.remove(&id);
        self.volatile.paused.remove(&id);
        self.volatile.answering.remove(&id);
    }

    /// One effect: does `f` unless the power is cut before it, and fails if it is cut after it.
    fn effect(&mut self, f: impl FnOnce(&mut World)) -> Result<(), PowerCut> {
        let number = self.effects;
        self.effects += 1;
        if self.dark || self.cut == Some(Cut::Before(number)) {
            self.dark = true;
            return Err(PowerCut);
        }
        f(self);
        if self.cut == Some(Cut::After(number)) {
            self.dark = true;
            return Err(PowerCut);
        }
        Ok(())
    }
}

impl SimHost {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans to cut the power; None never does.
    pub fn cut_at(&self, cut: Option<Cut>) {
        self.world().cut = cut;
    }

    /// Whether the power was cut.
    pub fn is_dark(&self) -> bool {
        self.world().dark
    }

    /// How many effects there were.
    pub fn effects(&self) -> u64 {
        self.world().effects
    }

    /// Power again after a cut of the whole host: a new run with what the disk kept.
    pub fn boot(&self) {
        let mut world = self.world();
        world.run += 1;
        world.volatile = Volatile::default();
        (world.dark, world.cut) = (false, None);
    }

    /// Goes on after the daemon alone was killed: guests, rules and bridges are still there.
    pub fn daemon_died(&self) {
        let mut world = self.world();
        // Displays are served by its children, which end with it.
        world.volatile.displays.clear();
        (world.dark, world.cut) = (false, None);
    }

    /// The guest powers itself off.
    pub fn guest_powers_off(&self, machine: MachineId) {
        let mut world = self.world();
        world.end(machine);
        world.volatile.ended.insert(machine, EndReason::Shutdown);
    }

    /// The machine's QEMU is killed.
    pub fn qemu_dies(&self, machine: MachineId) {
        let mut world = self.world();
        world.end(machine);
        world.volatile.ended.insert(machine, EndReason::Crashed);
    }

    /// Somebody deletes a bridge of ours.
    pub fn bridge_vanishes(&self, segment: &SegmentName) {
        self.world().volatile.segments.remove(segment);
    }

    /// Somebody flushes our nft tables.
    pub fn rules_are_flushed(&self) {
        self.world().volatile.firewall = FirewallState::default();
    }

    /// Somebody takes away what limits the bandwidth of accounts.
    pub fn limits_are_flushed(&self) {
        self.world().volatile.shaping = Shaping::default();
    }

    /// The limits of accounts' bandwidth in kbit/s, by uid.
    pub fn limits(&self) -> BTreeMap<u32, u32> {
        self.world().volatile.shaping.limited().collect()
    }

    /// A person opens a session at the gateway, led by the process `pid`.
    pub fn logs_in(&self, uid: u32, pid: u32) {
        self.world().volatile.gate.sessions.insert(pid, uid);
    }

    /// What is in the memory of `machine`'s guest while it runs on: another number for each boot.
    pub fn mind(&self, machine: MachineId) -> Option<u64> {
        let world = self.world();
        let stands = world.volatile.paused.contains(&machine);
        world.volatile.minds.get(&machine).copied().filter(|_| !stands)
    }

    /// Memory that is kept, whole or not.
    pub fn kept(&self) -> BTreeMap<(MachineId, Memory), Saved> {
        self.world().memory.iter().map(|(key, memory)| (*key, memory.state)).collect()
    }

    /// What is in the drives of guests.
    pub fn drives(&self) -> BTreeMap<MachineId, Option<InjectionId>> {
        self.world().drives()
    }

    /// Images of discs, by machine and generation.
    pub fn discs(&self) -> BTreeSet<(MachineId, u32, InjectionId)> {
        self.world().discs.clone()
    }

    /// What the agent in the guest of `machine` was given, and how long each file is.
    pub fn put(&self, machine: MachineId) -> BTreeMap<String, u64> {
        let world = self.world();
        let of_it = world.volatile.put.iter().filter(|((id, _), _)| *id == machine);
        of_it.map(|((_, path), bytes)| (path.clone(), *bytes)).collect()
    }

    /// Whether no disc can be made.
    pub fn has_no_samples(&self, none: bool) {
        self.world().no_samples = none;
    }

    /// Whether the disk has no room for anybody's memory.
    pub fn has_no_room(&self, none: bool) {
        self.world().no_room = none;
    }

    /// Serial numbers of the disks that are whole: a disk that is made anew has another.
    pub fn disks(&self) -> BTreeMap<(MachineId, u32), u64> {
        let world = self.world();
        let whole = world.disks.iter().filter(|(_, disk)| disk.state == Disk::Whole);
        whole.map(|(key, disk)| (*key, disk.serial)).collect()
    }

    /// What lies in the quarantine.
    pub fn quarantined(&self) -> Vec<(MachineId, u32)> {
        self.world().quarantined.clone()
    }
}

impl Host for SimHost {
    fn observe(&self) -> Result<Observed, HostError> {
        let mut world = self.world();
        if world.dark {
            return Err(HostError::new("observe the host", PowerCut));
        }
        let ended = std::mem::take(&mut world.volatile.ended);
        let whole = |name: &SegmentName| (name.clone(), ObservedSegment { whole: true });
        Ok(Observed {
            drift: Vec::new(),
            run: HostRun(world.run.to_string()),
            segments: world.volatile.segments.iter().map(whole).collect(),
            machines: world.volatile.machines.clone(),
            paused: world.volatile.paused.clone(),
            drives: world.drives(),
            discs: world.discs.clone(),
            ended,
            displays: world.displays(),
            disks: world.disks.iter().map(|(key, disk)| (*key, disk.state)).collect(),
            memory: world.memory.iter().map(|(key, memory)| (*key, memory.state)).collect(),
            room: DiskRoom::default(),
            writing: BTreeSet::new(),
            bytes: world.disks.keys().map(|key| (*key, 1 << 20)).collect(),
            firewall: world.volatile.firewall.clone(),
            shaping: world.volatile.shaping.clone(),
            gate: world.volatile.gate.clone(),
        })
    }

    fn put_file(
        &self,
        machine: MachineId,
        path: &str,
        file: &File,
        _wanted: &dyn Fn() -> bool,
    ) -> Result<Put, HostError> {
        let mut world = self.world();
        let bytes = file.metadata().map_or(0, |file| file.len());
        if !world.volatile.machines.contains_key(&machine) {
            return Ok(Put::new(PutVerdict::Silent, 0));
        }
        let put = world.effect(|w| {
            w.volatile.put.insert((machine, path.into()), bytes);
        });
        put.map_err(|e| HostError::new(format!("put {path} into {machine}"), e))?;
        Ok(Put::new(PutVerdict::Done, bytes))
    }

    fn apply(&self, step: &Step) -> Result<Outcome, HostError> {
        let mut world = self.world();
        apply(&mut world, step).map_err(|e| HostError::new(step.to_string(), e))
    }

    fn play_recording(&self, id: u64) -> Result<OwnedFd, HostError> {
        Err(HostError::new(format!("play recording {id}"), "a simulated host records nothing"))
    }
}

fn apply(world: &mut World, step: &Step) -> Result<Outcome, Failed> {
    match step {
        Step::LoadFirewall => world.effect(|w| {
            w.volatile.firewall = FirewallState { current: true, grants: BTreeMap::new() };
        })?,
        Step::Revoke { grant } => {
            world.effect(|w| {
                w.volatile.firewall.grants.remove(grant);
            })?;
            if let Some(uid) = grant.uid().filter(|_| grant.ends_sessions()) {
                world.effect(|w| {
                    w.volatile.gate.sessions.retain(|_, of| *of != uid);
                })?;
            }
        }
        Step::CloseGate { account } => {
            let uid = world.volatile.gate.accounts.get(account).map(|gate| gate.uid);
            world.effect(|w| {
                w.volatile.gate.accounts.remove(account);
            })?;
            if let Some(uid) = uid {
                world.effect(|w| {
                    w.volatile.gate.sessions.retain(|_, of| *of != uid);
                })?;
            }
        }
        Step::EndSessions { uid } => {
            world.effect(|w| {
                w.volatile.gate.sessions.retain(|_, of| of != uid);
            })?;
        }
        Step::EndSession { session } => {
            world.effect(|w| {
                w.volatile.gate.sessions.remove(&session.pid);
            })?;
        }
        Step::ShutdownMachine { machine } => {
            // This guest obeys, but takes until the next observation.
            world.effect(|w| {
                if w.volatile.machines.contains_key(machine) {
                    w.end(*machine);
                    w.volatile.ended.insert(*machine, EndReason::Shutdown);
                }
            })?;
            return Ok(Outcome::NotYet);
        }
        Step::StopMachine { machine } => {
            world.effect(|w| w.end(*machine))?;
        }
        Step::RemoveSegment { segment } => {
            world.effect(|w| {
                w.volatile.segments.remove(segment);
            })?;
        }
        Step::QuarantineDisk { machine, generation } => {
            let key = (*machine, *generation);
            world.effect(|w| {
                if w.disks.remove(&key).is_some() {
                    w.quarantined.push(key);
                }
            })?;
        }
        Step::DestroyDisk { machine, generation } => {
            let key = (*machine, *generation);
            world.effect(|w| {
                w.disks.entry(key).and_modify(|disk| disk.state = Disk::Partial);
            })?;
            world.effect(|w| {
                w.disks.remove(&key);
                w.discs.retain(|(m, generation, _)| (*m, *generation) != key);
                w.bearing.remove(&key);
                w.memory.retain(|(m, memory), _| (*m, memory.generation) != key);
            })?;
        }
        Step::CreateSegment { segment: Segment { name: segment, .. }, .. }
        | Step::CreateLink { segment } => {
            world.effect(|w| {
                w.volatile.segments.insert(segment.clone());
            })?;
        }
        Step::CreateDisk { machine } => {
            let key = (machine.id, machine.generation);
            if !world.disks.get(&key).is_some_and(|disk| disk.state == Disk::Whole) {
                let mut shown = Vec::new();
                if let Some(origin) = machine.origin.map(|origin| (machine.id, origin)) {
                    let of_it = world.discs.iter().filter(|(m, g, _)| (*m, *g) == origin);
                    shown.extend(of_it.map(|(_, _, disc)| *disc));
                    let below = world.disks.get(&origin);
                    assert!(
                        below.is_some_and(|d| d.state == Disk::Whole),
                        "nothing to make it from"
                    );
                    world.effect(|w| {
                        w.bearing.insert(origin);
                    })?;
                }
                world.effect(|w| {
                    w.made += 1;
                    let serial = w.made;
                    w.disks.insert(key, SimDisk { state: Disk::Partial, serial });
                })?;
                world.effect(|w| {
                    w.disks.entry(key).and_modify(|disk| disk.state = Disk::Whole);
                    w.discs.extend(shown.into_iter().map(|disc| (key.0, key.1, disc)));
                })?;
            }
        }
        Step::StartMachine { machine } => {
            let key = (machine.id, machine.generation);
            assert!(
                world.disks.get(&key).is_some_and(|disk| disk.state == Disk::Whole),
                "{} was started on a disk that is not whole",
                machine.id
            );
            let segments = &world.volatile.segments;
            assert!(machine.segments().all(|s| segments.contains(&s)), "started without a bridge");
            let started = ObservedMachine {
                environment: machine.environment,
                generation: machine.generation,
            };
            world.effect(|w| {
                w.made += 1;
                let mind = w.made;
                w.start(machine.id, started, mind, false);
                w.show(machine, machine.disc.as_ref().map(|disc| disc.injection));
            })?;
        }
        Step::MakeDisc { .. } if world.no_samples => {
            return Err(Failed::Refused("no sample with this hash"));
        }
        Step::MakeDisc { machine, generation, disc, .. } => {
            let disk = world.disks.get(&(*machine, *generation));
            assert!(disk.is_some_and(|disk| disk.state == Disk::Whole), "no folder for the disc");
            let disc = (*machine, *generation, disc.injection);
            if !world.discs.contains(&disc) {
                world.effect(|w| {
                    w.discs.insert(disc);
                })?;
            }
        }
        Step::ChangeDisc { machine, generation, disc } => {
            let there = |disc| world.discs.contains(&(*machine, *generation, disc));
            assert!(disc.is_none_or(there), "a disc that is not made");
            world.effect(|w| {
                if let Some(drive) = w.volatile.drives.get_mut(machine) {
                    *drive = *disc;
                }
            })?;
        }
        Step::DropDisc { machine, generation, disc } => world.effect(|w| {
            assert_ne!(w.drives().get(machine), Some(&Some(*disc)), "it lies in the drive");
            w.discs.remove(&(*machine, *generation, *disc));
        })?,
        Step::PauseMachine { .. } if world.no_room => return Err(Failed::Refused("no space")),
        Step::PauseMachine { machine, .. } => world.effect(|w| {
            if w.volatile.machines.contains_key(machine) {
                w.volatile.paused.insert(*machine);
            }
        })?,
        Step::HoldMachine { machine } => world.effect(|w| {
            if w.volatile.machines.contains_key(machine) {
                w.volatile.paused.insert(*machine);
            }
        })?,
        Step::SaveMachine { machine, memory } => save(world, *machine, *memory)?,
        Step::RestoreMachine { machine, memory } => {
            if world.volatile.machines.contains_key(&machine.id) {
                world.effect(|w| {
                    w.volatile.paused.insert(machine.id);
                })?;
                return Ok(Outcome::Done);
            }
            let key = (machine.id, machine.generation);
            let kept = world.memory.get(&(machine.id, *memory)).copied();
            let kept = kept.filter(|kept| kept.state == Saved::Whole);
            let kept = kept.ok_or(Failed::Refused("its memory is not there"))?;
            let whole = world.disks.get(&key).is_some_and(|disk| disk.state == Disk::Whole);
            assert!(whole, "restored on a disk that is not whole");
            let on = |s| world.volatile.segments.contains(&s);
            assert!(machine.segments().all(on), "restored without a bridge");
            let seen = ObservedMachine {
                environment: machine.environment,
                generation: machine.generation,
            };
            let disc = kept.disc;
            let at = |disc| world.discs.contains(&(machine.id, machine.generation, disc));
            assert!(disc.is_none_or(at), "restored without the disc in its drive");
            world.effect(|w| {
                w.start(machine.id, seen, kept.mind, true);
                w.show(machine, disc);
            })?;
        }
        Step::ResumeMachine { machine } => world.effect(|w| {
            w.volatile.paused.remove(machine);
        })?,
        Step::DropMemory { machine, memory } => world.effect(|w| {
            w.memory.remove(&(*machine, *memory));
        })?,
        Step::ResetMachine { .. } => world.effect(|_| ())?,
        Step::PrepareMachine { machine } => {
            // A guest answers at the second try.
            if world.volatile.answering.insert(machine.id) {
                return Ok(Outcome::NotYet);
            }
            world.effect(|_| ())?;
        }
        Step::OpenDisplay { machine } => world.effect(|w| {
            w.volatile.displays.entry(*machine).or_default();
        })?,
        Step::AttachDisplay { machine } => world.effect(|w| {
            let runs = w.volatile.machines.contains_key(machine);
            w.volatile.displays.entry(*machine).and_modify(|display| display.attached = runs);
        })?,
        Step::CloseDisplay { machine } => world.effect(|w| {
            w.volatile.displays.remove(machine);
        })?,
        Step::OpenViewer { machine, viewer } => world.effect(|w| {
            w.volatile.displays.entry(*machine).and_modify(|display| {
                display.viewers.insert(viewer.id, viewer.kind.clone());
            });
        })?,
        Step::CloseViewer { machine, viewer } => world.effect(|w| {
            w.volatile.displays.entry(*machine).and_modify(|display| {
                display.viewers.remove(viewer);
            });
        })?,
        Step::Shape { shaping } => world.effect(|w| w.volatile.shaping = shaping.clone())?,
        Step::OpenGate { gate } => world.effect(|w| {
            let limits = &w.volatile.shaping.limits;
            assert!(limits.contains_key(&gate.uid), "{} gets in without its limit", gate.name);
            w.volatile.gate.accounts.insert(gate.name.clone(), gate.clone());
        })?,
        Step::Grant { grant, lease } => {
            let lease: Option<Duration> = *lease;
            world.effect(|w| {
                w.volatile.firewall.grants.insert(grant.clone(), lease);
            })?;
        }
    }
    Ok(Outcome::Done)
}

/// Written, ended and made known as whole: three effects, as on a real host.
fn save(world: &mut World, machine: MachineId, memory: Memory) -> Result<(), Failed> {
    let key = (machine, memory);
    if world.volatile.machines.contains_key(&machine) {
        assert!(world.volatile.paused.contains(&machine), "{machine} is kept while it runs");
        let mind = world.volatile.minds[&machine];
        let disc = world.drives().get(&machine).copied().flatten();
        let begun = SimMemory { mind, disc, state: Saved::Begun, written: false };
        world.effect(|w| {
            w.memory.insert(key, begun);
        })?;
        world.effect(|w| {
            w.end(machine);
            w.memory.insert(key, SimMemory { written: true, ..begun });
        })?;
    }
    match world.memory.get(&key).copied() {
        Some(kept) if kept.state == Saved::Whole || kept.written => world.effect(|w| {
            w.memory.insert(key, SimMemory { state: Saved::Whole, ..kept });
        })?,
        Some(_) => {
            world.effect(|w| {
                w.memory.remove(&key);
            })?;
            return Err(Failed::Refused("it was interrupted"));
        }
        None => return Err(Failed::Refused("its guest ended before")),
    }
    Ok(())
}

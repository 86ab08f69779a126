//! Taking snapshots: all guests of one stand still before the first is kept, so that what they
//! had open between them is the same in both; each is kept and ended, and once all are at rest
//! the snapshot is whole. The machines then go on as after a return to it.

use crate::{
    absorb::Fact,
    desired::{DesiredEnvironment, DesiredMachine},
    observed::{Disk, Observed, Saved},
    step::Step,
};
use nonstop_model::{MachineId, Memory};

/// What an observation says of the snapshot that is being taken, and of memory that guests are
/// to go on with.
pub(crate) fn facts(environment: &DesiredEnvironment, observed: &Observed) -> Vec<Fact> {
    let mut facts: Vec<Fact> = taken(environment, observed).into_iter().collect();
    if let (Some(Fact::NotTaken(snapshot, _)), Some(take)) = (facts.first(), &environment.taking) {
        // The others go on with what was kept of them.
        let snapshot = *snapshot;
        let lost = environment.machines.iter().filter(|m| {
            let memory = Memory { generation: m.generation, snapshot };
            let runs = observed.machines.contains_key(&m.id);
            take.saves(m.id) && !runs && !is_there(m, memory, observed)
        });
        facts.extend(lost.map(|m| Fact::NothingToResume(m.id)));
    }
    for machine in &environment.machines {
        let Some(memory) = machine.resume else { continue };
        let runs = observed.machines.contains_key(&machine.id);
        if !runs && !is_there(machine, memory, observed) {
            facts.push(Fact::NothingToResume(machine.id));
        }
    }
    facts
}

fn taken(environment: &DesiredEnvironment, observed: &Observed) -> Option<Fact> {
    let take = environment.taking.as_ref()?;
    let mut at_rest = true;
    for machine in environment.machines.iter().filter(|m| take.machines.contains_key(&m.id)) {
        let (id, generation) = (machine.id, machine.generation);
        let runs = observed.machines.contains_key(&id);
        let memory = Memory { generation, snapshot: take.snapshot };
        let why = match (take.saves(id), runs, observed.memory.get(&(id, memory))) {
            (_, false, _) if observed.disks.get(&(id, generation)) != Some(&Disk::Whole) => {
                "its disk is not there"
            }
            (true, false, None) => "a machine ended while it was taken",
            (false, true, _) => "a machine was started while it was taken",
            (true, false, Some(Saved::Whole)) | (false, false, _) => continue,
            (true, true, _) | (true, false, Some(Saved::Begun)) => {
                at_rest = false;
                continue;
            }
        };
        return Some(Fact::NotTaken(take.snapshot, why));
    }
    at_rest.then_some(Fact::Taken(take.snapshot))
}

/// Whether `memory` of `machine` is whole.
pub(crate) fn is_there(machine: &DesiredMachine, memory: Memory, observed: &Observed) -> bool {
    observed.memory.get(&(machine.id, memory)) == Some(&Saved::Whole)
}

/// Whether the memory of `machine` is being kept, or is, for the snapshot that is being taken.
pub(crate) fn is_kept(
    environment: &DesiredEnvironment,
    machine: &DesiredMachine,
    observed: &Observed,
) -> bool {
    environment.taking(machine.id).is_some_and(|take| {
        let memory = Memory { generation: machine.generation, snapshot: take.snapshot };
        observed.memory.contains_key(&(machine.id, memory))
    })
}

/// Keeps the memory of the guests that run, none before all stand still.
pub(crate) fn take(queue: &mut Vec<Step>, environment: &DesiredEnvironment, observed: &Observed) {
    let Some(take) = &environment.taking else { return };
    let stops = |id| queue.contains(&Step::StopMachine { machine: id });
    let unsaved: Vec<_> = environment
        .machines
        .iter()
        .map(|m| (m, Memory { generation: m.generation, snapshot: take.snapshot }))
        .filter(|(m, memory)| {
            let saved = observed.memory.get(&(m.id, *memory));
            let runs = observed.machines.contains_key(&m.id);
            take.saves(m.id) && !stops(m.id) && (runs || saved == Some(&Saved::Begun))
        })
        .collect();
    let room_mib = unsaved.iter().map(|(m, _)| u64::from(m.memory_mib)).sum();
    let pause = unsaved.iter().filter(|(m, _)| !observed.paused.contains(&m.id));
    let pause: Vec<Step> = pause
        .map(|(m, _)| Step::PauseMachine { machine: m.id, snapshot: take.snapshot, room_mib })
        .collect();
    queue.extend(pause);
    queue.extend(
        unsaved.iter().map(|(m, memory)| Step::SaveMachine { machine: m.id, memory: *memory }),
    );
}

/// Drops memory that no snapshot has and no guest is to go on with.
pub(crate) fn drop_memory(
    queue: &mut Vec<Step>,
    environment: &DesiredEnvironment,
    observed: &Observed,
) {
    for (machine, memory) in observed.memory.keys() {
        let owner = environment.machines.iter().find(|m| m.id == *machine);
        let Some(owner) = owner else { continue };
        let goes = Step::DestroyDisk { machine: *machine, generation: memory.generation };
        let frozen = owner
            .frozen
            .iter()
            .any(|f| f.generation == memory.generation && f.memory == Some(memory.snapshot));
        let wanted =
            frozen || owner.resume == Some(*memory) || is_taken(environment, *machine, memory);
        if !wanted && !queue.contains(&goes) {
            queue.push(Step::DropMemory { machine: *machine, memory: *memory });
        }
    }
}

fn is_taken(environment: &DesiredEnvironment, machine: MachineId, memory: &Memory) -> bool {
    environment.taking(machine).is_some_and(|take| take.snapshot == memory.snapshot)
}

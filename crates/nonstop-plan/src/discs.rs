//! Discs with samples: made, put into drives and taken out, and deleted once nobody wants them.
//!
//! A disc's image lies in the folder of its machine's generation, so that it goes with what the guest
//! has written. One that a frozen generation has stays for as long as that: a guest that goes on with
//! memory of then has it in its drive.

use crate::{
    desired::{DesiredEnvironment, DesiredMachine},
    observed::Observed,
    step::Step,
};
use nonstop_model::{MachineId, Power};

/// The steps of `environment`, before its guests are started.
pub(crate) fn make(queue: &mut Vec<Step>, environment: &DesiredEnvironment, observed: &Observed) {
    for machine in wanted_on(environment).filter(|m| m.drive) {
        let Some(disc) = &machine.disc else { continue };
        let (id, generation) = (machine.id, machine.generation);
        if !observed.discs.contains(&(id, generation, disc.injection)) {
            let (disc, uid) = (disc.clone(), machine.uid);
            queue.push(Step::MakeDisc { machine: id, generation, uid, disc });
        }
    }
}

/// The steps of `environment` with guests that run and go on running, or that go on with their memory:
/// these stand still yet, and never read what is not theirs any more.
pub(crate) fn change(queue: &mut Vec<Step>, environment: &DesiredEnvironment, observed: &Observed) {
    for machine in wanted_on(environment) {
        let (id, generation) = (machine.id, machine.generation);
        let wanted = machine.disc.as_ref().map(|disc| disc.injection);
        let stops = queue.contains(&Step::StopMachine { machine: id });
        let same = observed.machines.get(&id).is_some_and(|seen| seen.generation == generation);
        let other = match same && !stops {
            true => observed.drives.get(&id).is_some_and(|seen| *seen != wanted),
            false => wanted.is_none() && is_restored(queue, id) && may_show(machine, observed),
        };
        if other {
            queue.push(Step::ChangeDisc { machine: id, generation, disc: wanted });
        }
    }
    for (id, generation, disc) in &observed.discs {
        let of_it = |m: &&DesiredMachine| m.id == *id && m.generation == *generation;
        let Some(machine) = environment.machines.iter().find(of_it) else { continue };
        let wanted = machine.disc.as_ref().is_some_and(|wanted| wanted.injection == *disc);
        let shown = observed.drives.get(id) == Some(&Some(*disc));
        let taking = environment.taking(*id).is_some();
        if !wanted && !shown && !taking && is_let(machine) {
            queue.push(Step::DropDisc { machine: *id, generation: *generation, disc: *disc });
        }
    }
}

/// The steps of `environment` once it is over, behind those that stop its guests.
pub(crate) fn drop_all(
    queue: &mut Vec<Step>,
    environment: &DesiredEnvironment,
    observed: &Observed,
) {
    let own = |id| environment.machines.iter().any(|machine| machine.id == id);
    for (machine, generation, disc) in observed.discs.iter().copied() {
        if own(machine) && !observed.machines.contains_key(&machine) {
            queue.push(Step::DropDisc { machine, generation, disc });
        }
    }
}

/// Machines that should run and are not at rest for a snapshot.
fn wanted_on(environment: &DesiredEnvironment) -> impl Iterator<Item = &DesiredMachine> {
    let on = |m: &&DesiredMachine| m.power == Power::On && environment.taking(m.id).is_none();
    environment.machines.iter().filter(on)
}

fn is_restored(queue: &[Step], id: MachineId) -> bool {
    queue
        .iter()
        .any(|step| matches!(step, Step::RestoreMachine { machine, .. } if machine.id == id))
}

/// Whether a disc may lie in the drive of a guest that goes on with its memory: in which drive one lay
/// has its image beside that.
fn may_show(machine: &DesiredMachine, observed: &Observed) -> bool {
    let beside = machine.resume.map(|memory| (machine.id, memory.generation));
    observed.discs.iter().any(|(id, generation, _)| beside == Some((*id, *generation)))
}

/// Memory that a guest is to go on with says what is in its drive: no image goes before.
fn is_let(machine: &DesiredMachine) -> bool {
    machine.resume.is_none()
}

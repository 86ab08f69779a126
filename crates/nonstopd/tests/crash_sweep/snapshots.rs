//! Snapshots: taken, returned to and deleted, with every cut.

use crate::lab::*;
use nonstop_host::Host;
use nonstop_model::{
    Machine, MachineId, MachineRole, Memory, Password, Power, SnapshotId, SnapshotState,
};
use nonstop_plan::Step;

impl TestLab {
    fn machines(&self, roles: &[MachineRole]) -> Vec<Machine> {
        let environment = self.db.read(|r| r.environment(self.lab.network.pool, E1)).expect("read");
        environment.machines.into_iter().filter(|m| roles.contains(&m.role)).collect()
    }

    pub(crate) fn take(&self, name: &str, roles: &[MachineRole]) {
        let machines = self.machines(roles);
        let name = name.parse().expect("a name");
        self.want(|w| w.take_snapshot(E1, &name, &machines, 4).map(drop));
    }

    fn snapshot(&self, name: &str) -> nonstop_model::Snapshot {
        let name = name.parse().expect("a name");
        self.db.read(|r| r.snapshot(E1, &name)).expect("there")
    }

    /// Whether it was taken, in spite of a cut.
    pub(crate) fn was_taken(&self, name: &str) -> bool {
        self.snapshot(name).state == SnapshotState::Whole
    }

    pub(crate) fn go_back(&self, name: &str, roles: &[MachineRole]) {
        let snapshot = self.snapshot(name);
        self.want(|w| w.return_to_snapshot(&snapshot, roles));
    }

    fn delete(&self, name: &str) {
        let snapshot = self.snapshot(name);
        self.want(|w| w.delete_snapshot(&snapshot));
    }

    fn minds(&self) -> [Option<u64>; 2] {
        [M1, M2].map(|id| self.host.mind(id))
    }
}

const M2: MachineId = MachineId(2);
const PAIR: [MachineRole; 2] = [MachineRole::Debugger, MachineRole::Debuggee];
const DEBUGGEE: [MachineRole; 1] = [MachineRole::Debuggee];

#[test]
fn a_pair_is_taken_at_one_time_and_goes_on_with_its_memory() {
    let taken = crash_sweep_or(
        |lab| {
            ready(lab);
            let minds = lab.minds();
            lab.take("one", &PAIR);
            lab.settle();
            if !lab.host_was_cut {
                assert_eq!(lab.minds(), minds, "their guests never notice");
            }
        },
        &outcomes_of_a_cut_take(),
    );
    insta::assert_snapshot!(taken);
}

/// How it ends when the power of the host goes before both machines are at rest: the snapshot is
/// not there, which is said, and its machines come back where they were.
fn outcomes_of_a_cut_take() -> Vec<String> {
    let outcome = |why: &str| {
        let mut lab = TestLab::new(None);
        ready(&mut lab);
        lab.take("one", &PAIR);
        lab.want(|w| w.snapshot_failed(SnapshotId(1), why));
        lab.settle();
        lab.outcome()
    };
    WHYS_OF_A_CUT_TAKE.into_iter().map(outcome).collect()
}

/// What is told of a snapshot that such a cut has ended.
pub(crate) const WHYS_OF_A_CUT_TAKE: [&str; 3] = [
    "a machine ended while it was taken",
    "keep the memory of m1 for s1: it was interrupted",
    "keep the memory of m2 for s1: it was interrupted",
];

#[test]
fn a_return_brings_back_memory_and_disk_and_a_deleted_snapshot_goes() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        let minds = lab.minds();
        let cut = lab.host_was_cut;
        undisturbed(lab, |lab| {
            lab.take("one", &PAIR);
            lab.settle();
        });
        // Something happens that is to be undone: their guests boot anew.
        lab.host.qemu_dies(M1);
        lab.host.qemu_dies(M2);
        lab.settle();
        assert!(lab.minds() != minds);
        lab.go_back("one", &PAIR);
        lab.settle();
        if !lab.host_was_cut && !cut {
            assert_eq!(lab.minds(), minds, "as it was taken");
        }
        lab.host.qemu_dies(M2);
        lab.settle();
        let debugger = (lab.minds()[0], lab.host.disks().get(&(M1, 3)).copied());
        lab.go_back("one", &DEBUGGEE);
        let queues = lab.reconciler_plan().environments;
        let touched = |step: &Step| format!("{step} ").contains("m1 ");
        assert!(!queues.values().flatten().any(touched), "{queues:?}");
        lab.settle();
        if !lab.host_was_cut {
            assert_eq!(lab.minds(), minds);
            assert_eq!((lab.minds()[0], lab.host.disks().get(&(M1, 3)).copied()), debugger);
        }
        lab.delete("one");
        lab.settle();
        assert!(lab.host.kept().is_empty(), "its memory goes at once");
        lab.want(|w| w.revert(E1, MachineRole::Debugger, &Password("q".into())));
        lab.want(|w| w.revert(E1, MachineRole::Debuggee, &Password("q".into())));
        lab.settle();
        assert_eq!(lab.host.disks().len(), 2, "and what bore the others with them");
    }));
}

/// Does `what` without a cut, which falls later if it would have fallen here.
fn undisturbed(lab: &mut TestLab, what: impl FnOnce(&mut TestLab)) {
    lab.host.cut_at(None);
    what(lab);
    let cut = lab.cut.map(|(cut, _)| cut);
    lab.host.cut_at(cut);
}

#[test]
fn a_machine_that_is_off_is_kept_without_memory_and_comes_back_off() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.host.guest_powers_off(M2);
        lab.settle();
        lab.take("off", &DEBUGGEE);
        lab.settle();
        lab.want(|w| w.set_power(E1, MachineRole::Debuggee, Power::On, w.now()));
        lab.settle();
        lab.go_back("off", &DEBUGGEE);
        lab.settle();
        assert_eq!(lab.host.mind(M2), None);
    }));
}

#[test]
fn a_revert_keeps_snapshots_and_the_end_destroys_them() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        undisturbed(lab, |lab| {
            lab.take("one", &PAIR);
            lab.settle();
        });
        lab.want(|w| w.revert(E1, MachineRole::Debuggee, &Password("q".into())));
        lab.settle();
        assert_eq!(lab.host.disks().len(), 4);
        lab.go_back("one", &DEBUGGEE);
        lab.settle();
        lab.later(1001);
        lab.settle();
        assert_eq!(lab.host.disks().len(), 4, "grace keeps them too");
        lab.later(101);
        lab.settle();
        assert!(lab.host.disks().is_empty() && lab.host.kept().is_empty());
    }));
}

#[test]
fn without_room_nothing_is_taken_and_the_machines_go_on_at_once() {
    insta::assert_snapshot!(crash_sweep_or(
        |lab| {
            ready(lab);
            let minds = lab.minds();
            lab.host.has_no_room(true);
            lab.take("one", &PAIR);
            lab.settle();
            if !lab.host_was_cut {
                assert_eq!(lab.minds(), minds);
            }
            assert!(!lab.was_taken("one"));
        },
        &outcomes_of_a_cut_take(),
    ));
}

#[test]
fn one_that_is_given_up_in_the_middle_leaves_its_machines_where_they_were() {
    // One guest's memory is kept already, the other still runs.
    let mut lab = TestLab::new(None);
    ready(&mut lab);
    let minds = lab.minds();
    lab.take("one", &PAIR);
    let queue = lab.reconciler_plan().environments.remove(&E1).expect("something to do");
    let until = queue.iter().position(|s| matches!(s, Step::SaveMachine { .. })).expect("kept");
    lab.reconciler.run_queue(E1, &queue[..=until]);
    assert_eq!(lab.minds(), [None, None], "both stand still");
    lab.delete("one");
    lab.settle();
    assert_eq!(lab.minds(), minds);
    assert!(lab.host.kept().is_empty());
}

#[test]
fn one_deleted_in_the_middle_bears_the_others_and_goes_with_them() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        undisturbed(lab, |lab| {
            for name in ["one", "two", "three"] {
                lab.take(name, &DEBUGGEE);
                lab.settle();
            }
        });
        lab.delete("two");
        lab.settle();
        assert!(lab.host.disks().contains_key(&(M2, 2)), "three stands on it");
        lab.go_back("one", &DEBUGGEE);
        lab.settle();
        lab.delete("three");
        lab.settle();
        assert!(!lab.host.disks().contains_key(&(M2, 2)), "nothing stands on it any more");
    }));
}

#[test]
fn memory_that_is_not_there_any_more_is_booted_without() {
    let mut lab = TestLab::new(None);
    ready(&mut lab);
    lab.take("one", &DEBUGGEE);
    lab.settle();
    let memory = Memory { generation: 1, snapshot: SnapshotId(1) };
    lab.host.apply(&Step::DropMemory { machine: M2, memory }).expect("light");
    lab.go_back("one", &DEBUGGEE);
    for _ in 0..20 {
        let pass = lab.reconciler.pass(&mut |id, queue| lab.reconciler.run_queue(id, &queue));
        pass.expect("a pass");
    }
    assert!(lab.host.mind(M2).is_some(), "it runs");
    assert_eq!(lab.machines(&DEBUGGEE)[0].resume, None);
}

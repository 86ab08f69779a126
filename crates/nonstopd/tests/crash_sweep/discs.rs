//! Discs with samples: put before a guest, replaced, taken out and gone with a revert, with every cut.

use crate::{lab::*, snapshots::WHYS_OF_A_CUT_TAKE};
use nonstop_host::Host;
use nonstop_model::{
    InjectBy, InjectedItem, InjectionId, InjectionState, MachineId, MachineRole, Password, Power,
    SnapshotId,
};
use nonstop_store::{FactsAt, NewInjection, StoreError};
use serde_json::json;

const M2: MachineId = MachineId(2);
const J1: InjectionId = InjectionId(1);
const J2: InjectionId = InjectionId(2);

impl TestLab {
    fn new_disc(&self, by: InjectBy) -> NewInjection {
        let environment = self.db.read(|r| r.environment(self.lab.network.pool, E1)).expect("read");
        let generation = environment.machines[1].generation;
        let item = InjectedItem { sha256: "a".repeat(64), name: "a.bin".into(), bytes: 68 };
        NewInjection {
            environment: E1,
            machine: M2,
            generation,
            domain: "lab".into(),
            by,
            zip: false,
            items: vec![item],
        }
    }

    fn inject(&self) {
        let new = self.new_disc(InjectBy::Disc);
        self.want(|w| {
            let id = w.inject(&new)?;
            w.injection_witnessed(id, FactsAt::Begin, &json!({ "n": 1 }))
        });
    }

    fn revert_debuggee(&self) {
        self.want(|w| w.revert(E1, MachineRole::Debuggee, &Password("q".into())));
    }

    fn state(&self, id: InjectionId) -> InjectionState {
        self.db.read(|r| r.injection(id)).expect("there").state
    }

    fn in_drive(&self) -> Option<InjectionId> {
        self.host.drives().get(&M2).copied().flatten()
    }
}

#[test]
fn a_disc_is_put_before_the_debuggee_and_a_revert_takes_it() {
    let outcome = crash_sweep(|lab| {
        ready(lab);
        lab.inject();
        lab.settle();
        assert_eq!(lab.state(J1), InjectionState::There);
        assert_eq!(lab.in_drive(), Some(J1));
        lab.revert_debuggee();
        lab.settle();
        assert_eq!(lab.in_drive(), None, "a clean guest has nothing in its drive");
        assert!(lab.host.discs().is_empty(), "its image went with the generation");
    });
    assert!(outcome.contains("j1 ended revert"), "{outcome}");
}

#[test]
fn a_disc_is_replaced_by_the_next_and_taken_out() {
    let outcome = crash_sweep(|lab| {
        ready(lab);
        lab.inject();
        lab.settle();
        lab.inject();
        lab.settle();
        assert_eq!((lab.in_drive(), lab.state(J1)), (Some(J2), InjectionState::Ended));
        lab.want(|w| w.eject(E1));
        lab.settle();
        assert_eq!(lab.in_drive(), None);
        assert!(lab.host.discs().is_empty(), "no image is left");
    });
    assert!(outcome.contains("j1 ended replaced") && outcome.contains("j2 ended eject"));
}

#[test]
fn a_disc_stays_with_a_machine_that_is_switched_off_and_on_and_ends_with_its_environment() {
    let outcome = crash_sweep(|lab| {
        ready(lab);
        lab.inject();
        lab.settle();
        let now = lab.now();
        lab.want(|w| w.set_power(E1, MachineRole::Debuggee, Power::Off, now));
        lab.settle();
        let now = lab.now();
        lab.want(|w| w.set_power(E1, MachineRole::Debuggee, Power::On, now));
        lab.settle();
        assert_eq!((lab.in_drive(), lab.state(J1)), (Some(J1), InjectionState::There));
        lab.later(2000);
        lab.settle();
        assert_eq!(lab.state(J1), InjectionState::Ended);
    });
    assert!(outcome.contains("j1 ended environment end"), "{outcome}");
}

#[test]
fn a_snapshot_with_a_disc_in_the_drive_is_returned_to_and_the_disc_taken_out_then() {
    let scenario = |lab: &mut TestLab| {
        ready(lab);
        lab.inject();
        lab.settle();
        lab.take("one", &[MachineRole::Debuggee]);
        lab.settle();
        assert_eq!(lab.in_drive(), Some(J1), "the guest goes on with it");
        for _ in 0..2 {
            // A cut of the host's power in the middle leaves no snapshot to return to.
            if lab.was_taken("one") {
                lab.go_back("one", &[MachineRole::Debuggee]);
                lab.settle();
                assert_eq!((lab.in_drive(), lab.state(J1)), (None, InjectionState::Ended));
            }
        }
    };
    let not_taken = WHYS_OF_A_CUT_TAKE.map(|why| {
        let mut lab = TestLab::new(None);
        ready(&mut lab);
        lab.inject();
        lab.settle();
        lab.take("one", &[MachineRole::Debuggee]);
        lab.want(|w| w.snapshot_failed(SnapshotId(1), why));
        lab.settle();
        lab.outcome()
    });
    let outcome = crash_sweep_or(scenario, &not_taken);
    assert!(outcome.contains("j1 ended return"), "{outcome}");
}

#[test]
fn a_disc_that_cannot_be_made_fails_with_the_reason_and_holds_up_nothing() {
    let mut lab = TestLab::new(None);
    ready(&mut lab);
    lab.host.has_no_samples(true);
    lab.inject();
    lab.settle();
    let injection = lab.db.read(|r| r.injection(J1)).expect("there");
    assert_eq!(injection.state, InjectionState::Failed);
    let why = injection.failure.expect("a reason");
    assert!(why.contains("no sample with this hash"), "{why}");
    assert!(lab.host.mind(M2).is_some(), "the guest runs on");
    lab.host.has_no_samples(false);
    lab.inject();
    lab.settle();
    assert_eq!(lab.in_drive(), Some(J2), "the next one comes");
}

#[test]
fn somebody_elses_disc_in_the_drive_is_put_right() {
    use nonstop_plan::Step;
    let mut lab = TestLab::new(None);
    ready(&mut lab);
    lab.inject();
    lab.settle();
    let empty = Step::ChangeDisc { machine: M2, generation: 1, disc: None };
    lab.host.apply(&empty).expect("light");
    lab.settle();
    assert_eq!(lab.in_drive(), Some(J1));
}

#[test]
fn two_at_once_are_refused_and_one_that_was_ended_meanwhile_is_not_there_after_all() {
    let mut lab = TestLab::new(None);
    ready(&mut lab);
    lab.inject();
    let second = lab.new_disc(InjectBy::Agent);
    let refused = lab.db.write("test", lab.now(), |w| w.inject(&second));
    assert!(matches!(refused, Err(StoreError::BeingInjected(J1))), "{refused:?}");
    lab.revert_debuggee();
    lab.want(|w| w.injection_there(J1, None));
    assert_eq!(lab.state(J1), InjectionState::Ended);
    lab.settle();
    assert_eq!(lab.in_drive(), None);
}

#[test]
fn a_disc_that_is_ejected_twice_is_ejected() {
    let mut lab = TestLab::new(None);
    ready(&mut lab);
    lab.want(|w| w.eject(E1));
    lab.want(|w| w.eject(E1));
    lab.settle();
    assert_eq!(lab.in_drive(), None);
}

#[test]
fn what_held_at_both_ends_is_written_down_once() {
    let mut lab = TestLab::new(None);
    ready(&mut lab);
    let new = lab.new_disc(InjectBy::Disc);
    lab.want(|w| w.inject(&new).map(drop));
    let missing = |lab: &TestLab| {
        let both = lab
            .db
            .read(|r| Ok::<_, StoreError>([r.unbegun_injections()?, r.unended_injections()?]));
        both.expect("read").map(|all| all.iter().map(|one| one.id).collect::<Vec<_>>())
    };
    assert_eq!(missing(&lab), [vec![J1], vec![]]);
    lab.settle();
    assert_eq!(
        lab.in_drive(),
        None,
        "nothing goes before a guest of which that is not written down"
    );
    lab.want(|w| w.injection_witnessed(J1, FactsAt::Begin, &json!({ "n": 1 })));
    assert_eq!(missing(&lab), [vec![], vec![]]);
    lab.settle();
    assert_eq!(lab.in_drive(), Some(J1));
    lab.revert_debuggee();
    assert_eq!(missing(&lab), [vec![], vec![J1]]);
    lab.want(|w| w.injection_witnessed(J1, FactsAt::End, &json!({ "n": 2 })));
    lab.want(|w| w.injection_witnessed(J1, FactsAt::End, &json!({ "n": 3 })));
    let facts = lab.db.read(|r| r.injection_facts(J1)).expect("read");
    assert_eq!((facts.begin, facts.end), (Some(json!({ "n": 1 })), Some(json!({ "n": 2 }))));
}

//! Snapshots as the database knows them: what freezes, what is refused, what goes with what.

use jiff::Timestamp;
use nonstop_model::{
    Environment, EnvironmentId, EnvironmentTemplate, InjectBy, KeyAlgorithm, Machine, MachineRole,
    Memory, Password, Period, Power, PublicKey, Role, SnapshotId, SnapshotName, SnapshotState,
    capacity::Room,
};
use nonstop_store::{
    Db, Grant, GrantedMachine, NewAccount, NewInjection, NewKey, StoreError, Write,
};

const E1: EnvironmentId = EnvironmentId(1);
const S1: SnapshotId = SnapshotId(1);

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().expect("a time")
}

fn pool() -> ipnet::Ipv4Net {
    "10.77.0.0/27".parse().expect("a network")
}

struct Place {
    db: Db,
    _dir: tempfile::TempDir,
}

impl Place {
    /// Alice's pair, both machines on.
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("a folder");
        let db = Db::open(&dir.path().join("nonstop.db"), now()).expect("opens");
        let place = Place { db, _dir: dir };
        let text = "version: 1\ntitle: t\nmachines:\n\
            - {role: debugger, image: a, memory_mib: 96, networks: [access, link]}\n\
            - {role: debuggee, image: a, memory_mib: 96, networks: [link]}\n";
        let machine = GrantedMachine {
            image: "a".parse().expect("a name"),
            image_digest: "d".into(),
            guest_user: Some("user".into()),
            password: Password("p".into()),
            desktop_port: None,
        };
        let until = "2030-01-02T00:00:00Z".parse().expect("a time");
        let grant = Grant {
            account: "alice".parse().expect("a name"),
            template_name: "t".parse().expect("a name"),
            template: EnvironmentTemplate::parse("t", text, None).expect("valid"),
            period: Period::new(now(), until).expect("ordered"),
            machines: vec![machine.clone(), machine],
            pool: pool(),
            room: Room { memory_mib: 1000, machines: 10 },
        };
        let alice = NewAccount {
            name: "alice".parse().expect("a name"),
            full_name: "n".into(),
            affiliation: "a".into(),
            role: Role::Researcher,
            edition: None,
            sources: Vec::new(),
            keys: vec![NewKey {
                key: PublicKey("k".into()),
                fingerprint: "f".into(),
                algorithm: KeyAlgorithm::Ed25519,
            }],
        };
        place.want(|w| w.add_account(&alice).map(drop));
        place.want(|w| w.grant_environment(&grant).map(drop));
        place
    }

    fn try_to<T>(
        &self,
        change: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.db.write("alice", now(), change)
    }

    fn want<T>(&self, change: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError>) -> T {
        self.try_to(change).expect("committed")
    }

    fn environment(&self) -> Environment {
        self.db.read(|r| r.environment(pool(), E1)).expect("read")
    }

    fn machine(&self, role: MachineRole) -> Machine {
        let found = self.environment().machines.into_iter().find(|m| m.role == role);
        found.expect("a machine")
    }

    fn take(&self, named: &str, roles: &[MachineRole]) -> Result<SnapshotId, StoreError> {
        let machines: Vec<Machine> = roles.iter().map(|role| self.machine(*role)).collect();
        self.try_to(|w| w.take_snapshot(E1, &name(named), &machines, 2))
    }

    /// Generation, origin and what to go on with, of one machine.
    fn at(&self, role: MachineRole) -> (u32, Option<u32>, Option<Memory>) {
        let machine = self.machine(role);
        (machine.generation, machine.origin, machine.resume)
    }
}

fn name(text: &str) -> SnapshotName {
    text.parse().expect("a name")
}

const DEBUGGER: MachineRole = MachineRole::Debugger;
const DEBUGGEE: MachineRole = MachineRole::Debuggee;
const PAIR: [MachineRole; 2] = [DEBUGGER, DEBUGGEE];

fn memory(generation: u32, snapshot: SnapshotId) -> Option<Memory> {
    Some(Memory { generation, snapshot })
}

#[test]
fn taken_machines_go_on_in_generations_made_from_the_snapshot_with_their_passwords() {
    let place = Place::new();
    let id = place.machine(DEBUGGER).id;
    place.want(|w| w.machine_prepared(id, 1));
    place.want(|w| w.set_power(E1, DEBUGGEE, Power::Off, now()));
    place.take("before", &PAIR).expect("asked for");
    assert_eq!(place.at(DEBUGGER), (1, None, None), "nothing has moved yet");
    place.want(|w| w.snapshot_taken(S1));
    assert_eq!(place.at(DEBUGGER), (2, Some(1), memory(1, S1)));
    assert_eq!(place.at(DEBUGGEE), (2, Some(1), None), "it was off: no memory");
    assert!(place.machine(DEBUGGER).prepared && !place.machine(DEBUGGEE).prepared);
    place.want(|w| w.snapshot_taken(S1));
    assert_eq!(place.machine(DEBUGGER).generation, 2, "repeatable");
    place.want(|w| w.machine_resumed(id, Memory { generation: 1, snapshot: S1 }));
    assert_eq!(place.at(DEBUGGER), (2, Some(1), None));
}

#[test]
fn while_one_is_taken_its_machines_wait_and_nothing_else_is_begun() {
    let place = Place::new();
    place.take("one", &PAIR).expect("asked for");
    let busy = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::BeingTaken(_))), "{result:?}");
    };
    busy(place.take("two", &[DEBUGGEE]).map(drop));
    busy(place.try_to(|w| w.set_power(E1, DEBUGGEE, Power::Off, now())));
    busy(place.try_to(|w| w.ask_reset(E1, DEBUGGEE)));
    busy(place.try_to(|w| w.revert(E1, DEBUGGEE, &Password("q".into()))));
    let one = place.db.read(|r| r.snapshot(E1, &name("one"))).expect("there");
    busy(place.try_to(|w| w.return_to_snapshot(&one, &PAIR)));
    place.want(|w| w.end_environment(E1, now()));
    let one = place.db.read(|r| r.snapshot(E1, &name("one"))).expect("there");
    assert_eq!(one.state, SnapshotState::Failed { why: "the environment ended".into() });
}

#[test]
fn a_return_takes_the_machines_that_are_asked_for_and_forgets_what_they_are() {
    let place = Place::new();
    place.take("one", &PAIR).expect("asked for");
    place.want(|w| w.snapshot_taken(S1));
    let one = place.db.read(|r| r.snapshot(E1, &name("one"))).expect("there");
    place.want(|w| w.set_power(E1, DEBUGGEE, Power::Off, now()));
    assert_eq!(place.at(DEBUGGEE).2, None, "switched off, it will boot");
    let before = place.at(DEBUGGER);
    place.want(|w| w.return_to_snapshot(&one, &[DEBUGGEE]));
    assert_eq!(place.at(DEBUGGEE), (3, Some(1), memory(1, S1)));
    assert_eq!(place.machine(DEBUGGEE).power, Power::On, "as it was taken");
    assert_eq!(place.at(DEBUGGER), before, "the debugger is not touched");
    place.want(|w| w.revert(E1, DEBUGGEE, &Password("q".into())));
    assert_eq!(place.at(DEBUGGEE), (4, None, None), "clean stands on the image alone");
    let kept = place.db.read(|r| r.snapshot(E1, &name("one"))).expect("kept over a revert");
    assert_eq!(kept.machines.len(), 2);
}

#[test]
fn a_take_that_fails_or_is_given_up_leaves_the_memory_to_go_on_with() {
    let place = Place::new();
    place.take("one", &[DEBUGGER]).expect("asked for");
    place.want(|w| w.snapshot_failed(S1, "no space"));
    assert_eq!(place.at(DEBUGGER), (1, None, memory(1, S1)));
    assert!(matches!(place.take("two", &[DEBUGGER]), Err(StoreError::Returning(_))));
    place.want(|w| w.nothing_to_resume(place_id(1)));
    let failed = place.db.read(|r| r.snapshot(E1, &name("one"))).expect("there");
    assert_eq!(failed.state, SnapshotState::Failed { why: "no space".into() });
    let again = place.take("one", &[DEBUGGER]).expect("the next try takes its name");
    assert_eq!(again, SnapshotId(2), "and no number twice");
    let taking = place.db.read(|r| r.snapshot(E1, &name("one"))).expect("there");
    place.want(|w| w.delete_snapshot(&taking));
    assert_eq!(place.at(DEBUGGER), (1, None, memory(1, again)));
}

fn place_id(number: u32) -> nonstop_model::MachineId {
    nonstop_model::MachineId(number)
}

#[test]
fn a_machine_keeps_as_many_as_its_template_says_and_a_deleted_one_makes_room() {
    let place = Place::new();
    let done = |id: SnapshotId| {
        place.want(|w| w.snapshot_taken(id));
        let machine = place.machine(DEBUGGER);
        let memory = machine.resume.expect("memory");
        place.want(|w| w.machine_resumed(machine.id, memory));
    };
    done(place.take("one", &[DEBUGGER]).expect("the first"));
    done(place.take("two", &[DEBUGGER]).expect("the second"));
    let refused = place.take("three", &PAIR);
    assert!(matches!(refused, Err(StoreError::TooManySnapshots { at_most: 2, .. })), "{refused:?}");
    place.want(|w| w.snapshot_taken(S1));
    let one = place.db.read(|r| r.snapshot(E1, &name("one"))).expect("there");
    place.want(|w| w.delete_snapshot(&one));
    assert!(place.db.read(|r| r.snapshot(E1, &name("one"))).is_err());
    let taken = place.take("three", &[DEBUGGER]).expect("there is room again");
    assert_eq!(taken, SnapshotId(3));
}

#[test]
fn what_was_deleted_is_forgotten_once_nothing_stands_on_it() {
    let place = Place::new();
    let numbers = || -> Vec<u32> {
        let all = place.db.read(|r| r.snapshots(Some(E1))).expect("read");
        all.iter().map(|s| s.id.0).collect()
    };
    for named in ["one", "two", "three"] {
        let id = place.take(named, &[DEBUGGER]).expect("asked for");
        place.want(|w| w.snapshot_taken(id));
        let machine = place.machine(DEBUGGER);
        place.want(|w| w.machine_resumed(machine.id, machine.resume.expect("memory")));
        let snapshot = place.db.read(|r| r.snapshot(E1, &name(named))).expect("there");
        place.want(|w| w.delete_snapshot(&snapshot));
    }
    assert_eq!(numbers(), [1, 2, 3], "each stands on the one before");
    place.want(|w| w.revert(E1, DEBUGGER, &Password("q".into())));
    place.take("four", &[DEBUGGER]).expect("asked for");
    assert_eq!(numbers(), [4]);
}

fn disc(place: &Place, generation: u32) -> NewInjection {
    NewInjection {
        environment: E1,
        machine: place.machine(DEBUGGEE).id,
        generation,
        domain: "lab".into(),
        by: InjectBy::Disc,
        zip: false,
        items: Vec::new(),
    }
}

#[test]
fn samples_go_before_the_guest_that_was_looked_at_and_before_nothing_once_its_time_is_over() {
    let place = Place::new();
    let looked_at = disc(&place, 1);
    place.want(|w| w.revert(E1, DEBUGGEE, &Password("q".into())));
    let refused = place.try_to(|w| w.inject(&looked_at));
    assert!(matches!(refused, Err(StoreError::OtherGuest(_))), "{refused:?}");
    let clean = disc(&place, 2);
    place.want(|w| w.inject(&clean));
    place.want(|w| w.end_environment(E1, now()));
    let refused = place.try_to(|w| w.inject(&clean));
    assert!(matches!(refused, Err(StoreError::Ended(E1))), "{refused:?}");
    let elsewhere = NewInjection { environment: EnvironmentId(2), ..clean };
    assert!(place.try_to(|w| w.inject(&elsewhere)).is_err(), "not its machine");
    let all = place.db.read(|r| r.injections(None, 9)).expect("read");
    assert_eq!(all.iter().map(|one| one.lives()).collect::<Vec<_>>(), [false]);
}

#[test]
fn nothing_is_kept_of_a_machine_that_samples_are_just_on_their_way_to() {
    let place = Place::new();
    let new = disc(&place, 1);
    let id = place.want(|w| w.inject(&new));
    let refused = place.take("one", &PAIR);
    assert!(matches!(&refused, Err(StoreError::BeingInjected(of)) if *of == id), "{refused:?}");
    place.take("other", &[DEBUGGER]).expect("another machine's do not matter");
    place.want(|w| w.snapshot_taken(S1));
    place.want(|w| w.injection_there(id, None));
    place.take("one", &[DEBUGGEE]).expect("it is there");
}

//! Every scenario with a power cut before and after each effect on the host: afterwards nothing
//! is lost and nothing is left over, and the scenario ends as it would have without the cut.
//!
//! Both kinds of cut are swept: of the host (guests, bridges and rules are gone) and of the
//! daemon alone (they are still there). Database and reconciler are the real ones.

use jiff::Timestamp;
use nonstop_host::{
    Host,
    sim::{Cut, SimHost},
};
use nonstop_model::{
    AccountName, AccountState, EnvironmentId, EnvironmentState, EnvironmentTemplate, Lab, Machine,
    MachineId, MachineRole, Memory, Password, Period, Power, PublicKey, Role, SegmentKind,
    SegmentName, SnapshotId, SnapshotState, capacity::Room,
};
use nonstop_plan::{Disk, Phase, Saved, Step, plan};
use nonstop_store::{Db, Grant, GrantedMachine, NewAccount, NewKey, StoreError, Write};
use nonstopd::{
    Clock,
    desired::desired,
    reconciler::{Reconciler, Wake},
    status::Status,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct StillClock(AtomicI64);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).expect("a small number")
    }

    fn pause(&self, _: std::time::Duration) {}
}

/// A lab over a simulated host; the daemon in it can be killed and started again.
struct TestLab {
    lab: Lab,
    db: Arc<Db>,
    host: Arc<SimHost>,
    clock: Arc<StillClock>,
    reconciler: Reconciler,
    _dir: tempfile::TempDir,
    /// Which cut the scenario suffers; taken by the first settle that meets it.
    cut: Option<(Cut, Kind)>,
    /// Whether the power of the host was cut.
    host_was_cut: bool,
    /// Disks that had been whole before the cut, by serial number.
    before: BTreeMap<(MachineId, u32), u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Host,
    Daemon,
}

const E1: EnvironmentId = EnvironmentId(1);
const M1: MachineId = MachineId(1);

impl TestLab {
    fn new(cut: Option<(Cut, Kind)>) -> TestLab {
        // Thousands of durable commits are made here; what they survive is not what is tried.
        let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let mut lab = Lab::parse("lab", "version: 1\nname: sweep\n").expect("valid");
        lab.state = dir.path().into();
        lab.grace_seconds = 100;
        let clock = Arc::new(StillClock(AtomicI64::new(1_000_000)));
        let db = Arc::new(Db::open(&lab.database(), clock.now()).expect("opens"));
        let host = Arc::new(SimHost::default());
        host.cut_at(cut.map(|(cut, _)| cut));
        let reconciler = daemon(&lab, &db, &host, &clock);
        let (host_was_cut, before) = (false, BTreeMap::new());
        TestLab { lab, db, host, clock, reconciler, _dir: dir, cut, host_was_cut, before }
    }

    fn want(&self, change: impl FnOnce(&mut Write<'_>) -> Result<(), StoreError>) {
        self.db.write("test", self.clock.now(), change).expect("committed");
    }

    fn account(&self, name: &str) {
        let new = NewAccount {
            name: name.parse().expect("a name"),
            full_name: "n".into(),
            affiliation: "a".into(),
            role: Role::Researcher,
            sources: Vec::new(),
            keys: vec![NewKey { key: PublicKey(name.into()), fingerprint: name.into() }],
        };
        self.want(|w| w.add_account(&new).map(drop));
    }

    fn grant(&self, account: &str, seconds: i64) {
        // Bob's desktops come from the hypervisor's display, those of others from the guest.
        let rdp = if account == "bob" { "console" } else { "guest\nrdp_reason: a test" };
        // A debuggee has no server of its own that anybody could reach.
        let pair = if account == "bob" { "console" } else { "none" };
        let user = Some("user").filter(|_| account != "bob");
        let text = format!(
            "version: 1\ntitle: t\nrdp: {rdp}\nmachines:\n\
            - {{role: debugger, image: a, memory_mib: 96, networks: [access, link]}}\n\
            - {{role: debuggee, image: b, memory_mib: 96, networks: [link], rdp: {pair}}}\n"
        );
        let machine = |user: Option<&str>, port| GrantedMachine {
            image: "a".parse().expect("a name"),
            image_digest: "d".into(),
            guest_user: user.map(Into::into),
            password: Password("p".into()),
            desktop_port: port,
        };
        let bobs_port = Some(3389).filter(|_| account == "bob");
        let now = self.clock.now();
        let until = Timestamp::from_second(now.as_second() + seconds).expect("small");
        let grant = Grant {
            account: account.parse().expect("a name"),
            template_name: "t".parse().expect("a name"),
            template: EnvironmentTemplate::parse("t", &text, None).expect("valid"),
            period: Period::new(now, until).expect("ordered"),
            machines: vec![machine(user, Some(3389)), machine(None, bobs_port)],
            pool: self.lab.network.pool,
            room: Room { memory_mib: 1000, machines: 10 },
        };
        self.want(|w| w.grant_environment(&grant).map(drop));
    }

    fn later(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Passes until nothing is to be done, with the cut where it falls.
    fn settle(&mut self) {
        for _ in 0..60 {
            let wanted = self.host.disks();
            let result = self.reconciler.pass(&mut |id, queue| {
                self.reconciler.run_queue(id, &queue);
            });
            if self.host.is_dark() {
                let (_, kind) = self.cut.take().expect("a cut was planned");
                self.before = wanted;
                match kind {
                    Kind::Host => {
                        self.host_was_cut = true;
                        self.host.boot();
                    }
                    Kind::Daemon => self.host.daemon_died(),
                }
                self.reconciler = daemon(&self.lab, &self.db, &self.host, &self.clock);
                continue;
            }
            let plan = result.expect("a pass without a cut succeeds");
            if plan.is_empty() {
                self.check();
                return;
            }
        }
        panic!("the lab does not settle: {:#?}", self.reconciler_plan());
    }

    fn reconciler_plan(&self) -> nonstop_plan::Plan {
        let now = self.clock.now();
        let wanted = self.db.read(|r| desired(r, &self.lab, now)).expect("read");
        plan(&wanted, &self.host.observe().expect("light"), now)
    }

    /// Nothing lost, nothing left over.
    fn check(&self) {
        let now = self.clock.now();
        let wanted = self.db.read(|r| desired(r, &self.lab, now)).expect("read");
        let seen = self.host.observe().expect("light");
        let (mut disks, mut memory) = (BTreeMap::new(), BTreeMap::new());
        for environment in wanted.environments.values() {
            let live = environment.phase == Phase::Live;
            for segment in environment.segments() {
                assert_eq!(seen.segments.contains_key(&segment), live, "{segment}");
            }
            for machine in &environment.machines {
                let on = live && machine.power == Power::On;
                assert_eq!(seen.machines.contains_key(&machine.id), on, "{}", machine.id);
                let may_look = wanted.accounts.contains_key(&environment.account);
                let console = machine.desktop.is_some_and(|desktop| desktop.console);
                let display = seen.displays.get(&machine.id);
                assert_eq!(display.is_some(), live && console && may_look, "display");
                assert!(display.is_none_or(|display| display.attached == on), "what it shows");
                let kept = matches!(environment.phase, Phase::Live | Phase::Grace);
                if kept {
                    disks.insert((machine.id, machine.generation), Disk::Whole);
                    for frozen in &machine.frozen {
                        disks.insert((machine.id, frozen.generation), Disk::Whole);
                        if let Some(snapshot) = frozen.memory {
                            let of = Memory { generation: frozen.generation, snapshot };
                            memory.insert((machine.id, of), Saved::Whole);
                        }
                    }
                }
                assert!(!on || self.host.mind(machine.id).is_some(), "it stands still");
                if live && machine.power == Power::On {
                    assert_eq!(machine.resume, None, "{} is not there yet", machine.id);
                }
            }
        }
        let known = |id: &MachineId| {
            wanted.environments.values().flat_map(|e| &e.machines).any(|m| m.id == *id)
        };
        assert!(seen.machines.keys().all(known), "a guest is left over");
        assert!(seen.displays.keys().all(known), "a display is left over");
        assert!(
            seen.segments.keys().all(|s| wanted.environments.contains_key(&s.environment())),
            "a segment is left over"
        );
        assert_eq!(seen.disks, disks, "disks");
        if wanted.environments.values().all(|e| e.phase == Phase::Live) {
            assert_eq!(self.host.kept(), memory, "memory");
            assert!(wanted.environments.values().all(|e| e.taking.is_none()), "being taken");
        }
        assert!(seen.firewall.current);
        let active: Vec<&AccountName> = wanted.accounts.keys().collect();
        assert_eq!(seen.gate.accounts.keys().collect::<Vec<_>>(), active, "gate");
        // What a guest had written is still there: the disk was not made a second time.
        let after = self.host.disks();
        for (key, serial) in &self.before {
            if let Some(now) = after.get(key) {
                assert_eq!(now, serial, "the disk of {} was made anew", key.0);
            }
        }
    }

    /// How it ended, for comparison with the run without a cut.
    fn outcome(&self) -> String {
        let environments =
            self.db.read(|r| r.environments(self.lab.network.pool, true)).expect("read");
        let mut lines = Vec::new();
        for environment in environments {
            let state = match environment.state {
                EnvironmentState::Granted => "granted",
                EnvironmentState::Ended { .. } => "ended",
                EnvironmentState::Gone => "gone",
            };
            let machines = environment.machines.iter().map(|m| {
                let power = if m.power == Power::On { "on" } else { "off" };
                let origin = m.origin.map_or(String::new(), |origin| format!(" of g{origin}"));
                format!("{} {power} g{}{origin} prepared={}", m.role, m.generation, m.prepared)
            });
            let machines: Vec<_> = machines.collect();
            lines.push(format!("{} {state}: {}", environment.id, machines.join(", ")));
        }
        for snapshot in self.db.read(|r| r.snapshots(None)).expect("read") {
            let (name, state) = (snapshot.name, snapshot.state);
            lines.push(format!("snapshot {name}: {state:?}"));
        }
        let seen = self.host.observe().expect("light");
        lines.push(format!("grants: {:?}", seen.firewall.grants.keys().collect::<Vec<_>>()));
        lines.push(format!("quarantine: {:?}", self.host.quarantined()));
        lines.push(format!("sessions: {:?}", seen.gate.sessions));
        let verified = self.db.read(|r| r.verify_trace()).expect("read");
        assert_eq!(verified.broken_at, None, "the trace verifies");
        lines.join("\n")
    }
}

fn daemon(lab: &Lab, db: &Arc<Db>, host: &Arc<SimHost>, clock: &Arc<StillClock>) -> Reconciler {
    Reconciler::new(
        lab.clone(),
        Arc::clone(db),
        Arc::clone(host) as Arc<dyn Host>,
        Arc::clone(clock) as Arc<dyn Clock>,
        Arc::new(Status::default()),
        Arc::new(Wake::default()),
    )
}

/// Runs `scenario` without a cut, then with each cut that it can suffer.
fn crash_sweep(scenario: impl Fn(&mut TestLab)) -> String {
    crash_sweep_or(scenario, &[])
}

/// The same, where a cut of the host's power may also end in one of `others`.
fn crash_sweep_or(scenario: impl Fn(&mut TestLab), others: &[String]) -> String {
    let run = |cut| {
        let mut lab = TestLab::new(cut);
        scenario(&mut lab);
        (lab.outcome(), lab.host.effects())
    };
    let (expected, effects) = run(None);
    assert!(effects > 3, "the scenario does nothing");
    for number in 0..effects {
        for cut in [Cut::Before(number), Cut::After(number)] {
            for kind in [Kind::Host, Kind::Daemon] {
                let (outcome, _) = run(Some((cut, kind)));
                let other = kind == Kind::Host && others.contains(&outcome);
                assert!(other || outcome == expected, "{cut:?} of the {kind:?}: {outcome}");
            }
        }
    }
    expected
}

fn ready(lab: &mut TestLab) {
    lab.account("alice");
    lab.grant("alice", 1000);
    lab.settle();
}

#[test]
fn an_environment_arrives() {
    insta::assert_snapshot!(crash_sweep(ready));
}

#[test]
fn two_environments_arrive_beside_each_other() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        lab.account("alice");
        lab.account("bob");
        lab.grant("alice", 1000);
        lab.grant("bob", 1000);
        lab.settle();
    }));
}

#[test]
fn an_ended_environment_keeps_its_disks_for_the_grace_time_and_is_then_gone() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.later(1001);
        lab.settle();
        assert_eq!(lab.host.disks().len(), 2, "grace keeps the disks");
        lab.later(101);
        lab.settle();
        assert!(lab.host.disks().is_empty());
    }));
}

#[test]
fn a_guest_that_shuts_down_stays_off_and_can_be_switched_on() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.host.guest_powers_off(M1);
        lab.settle();
        lab.want(|w| w.set_power(E1, MachineRole::Debugger, Power::On, w.now()));
        lab.settle();
        lab.want(|w| w.set_power(E1, MachineRole::Debuggee, Power::Off, w.now()));
        lab.settle();
    }));
}

#[test]
fn a_guest_whose_qemu_dies_comes_back_with_what_it_had_written() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        let disks = lab.host.disks();
        lab.host.qemu_dies(M1);
        lab.settle();
        assert_eq!(lab.host.disks(), disks);
    }));
}

#[test]
fn a_reverted_machine_starts_clean_and_its_pair_is_not_touched() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        let other = lab.host.disks()[&(MachineId(2), 1)];
        lab.want(|w| w.revert(E1, MachineRole::Debugger, &Password("q".into())));
        lab.settle();
        assert_eq!(lab.host.disks()[&(MachineId(2), 1)], other);
    }));
}

#[test]
fn a_debuggee_put_back_to_clean_never_touches_its_debugger() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        let debugger = lab.host.disks()[&(M1, 1)];
        lab.want(|w| w.revert(E1, MachineRole::Debuggee, &Password("q".into())));
        let queues = lab.reconciler_plan().environments;
        let touched = |step: &Step| format!("{step} ").contains("m1 ");
        assert!(!queues.values().flatten().any(touched), "{queues:?}");
        lab.settle();
        assert_eq!(lab.host.disks()[&(M1, 1)], debugger);
    }));
}

#[test]
fn a_suspended_account_is_cut_and_its_machines_go_on() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.host.logs_in(70_001);
        let alice: AccountName = "alice".parse().expect("a name");
        lab.want(|w| w.set_account_state(&alice, AccountState::Suspended, "lost card"));
        lab.settle();
    }));
}

#[test]
fn a_bridge_deleted_and_rules_flushed_by_hand_are_put_right() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.host.bridge_vanishes(&SegmentName::of(E1));
        lab.settle();
        lab.host.bridge_vanishes(&SegmentName::of_kind(SegmentKind::Link, E1));
        lab.settle();
        lab.host.rules_are_flushed();
        lab.settle();
    }));
}

fn bob_is_ready(lab: &mut TestLab) {
    lab.account("bob");
    lab.grant("bob", 1000);
    lab.settle();
}

#[test]
fn a_display_outlives_its_guest_and_ends_with_the_period() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        bob_is_ready(lab);
        lab.host.qemu_dies(M1);
        lab.settle();
        lab.want(|w| w.set_power(E1, MachineRole::Debugger, Power::Off, w.now()));
        lab.settle();
        lab.want(|w| w.set_power(E1, MachineRole::Debugger, Power::On, w.now()));
        lab.settle();
        lab.later(1001);
        lab.settle();
    }));
}

#[test]
fn nobody_looks_at_the_display_of_a_suspended_account() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        bob_is_ready(lab);
        let bob: AccountName = "bob".parse().expect("a name");
        lab.want(|w| w.set_account_state(&bob, AccountState::Suspended, "lost card"));
        lab.settle();
    }));
}

#[test]
fn a_reset_is_done_and_forgotten() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.want(|w| w.ask_reset(E1, MachineRole::Debugger));
        lab.settle();
    }));
}

#[test]
fn a_restored_old_backup_quarantines_what_it_does_not_know() {
    let mut lab = TestLab::new(None);
    ready(&mut lab);
    // The backup is of before the grant.
    let old = TestLab::new(None);
    old.account("alice");
    let reconciler = daemon(&old.lab, &old.db, &lab.host, &lab.clock);
    for _ in 0..10 {
        reconciler.pass(&mut |id, queue| reconciler.run_queue(id, &queue)).expect("a pass");
    }
    let seen = lab.host.observe().expect("light");
    assert!(seen.machines.is_empty() && seen.segments.is_empty() && seen.disks.is_empty());
    assert_eq!(lab.host.quarantined(), [(M1, 1), (MachineId(2), 1)]);
}

#[test]
fn a_machine_wanted_again_before_its_guest_has_shut_down_comes_back() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        let force = lab.clock.now().checked_add(std::time::Duration::from_secs(30));
        let force = force.expect("small");
        lab.want(|w| w.set_power(E1, MachineRole::Debugger, Power::Off, force));
        // The guest goes, and before anybody looks it is wanted again.
        lab.host.guest_powers_off(M1);
        lab.want(|w| w.set_power(E1, MachineRole::Debugger, Power::On, w.now()));
        lab.settle();
        lab.host.guest_powers_off(M1);
        lab.settle();
    }));
}

impl TestLab {
    fn machines(&self, roles: &[MachineRole]) -> Vec<Machine> {
        let environment = self.db.read(|r| r.environment(self.lab.network.pool, E1)).expect("read");
        environment.machines.into_iter().filter(|m| roles.contains(&m.role)).collect()
    }

    fn take(&self, name: &str, roles: &[MachineRole]) {
        let machines = self.machines(roles);
        let name = name.parse().expect("a name");
        self.want(|w| w.take_snapshot(E1, &name, &machines, 4).map(drop));
    }

    fn snapshot(&self, name: &str) -> nonstop_model::Snapshot {
        let name = name.parse().expect("a name");
        self.db.read(|r| r.snapshot(E1, &name)).expect("there")
    }

    /// Whether it was taken, in spite of a cut.
    fn was_taken(&self, name: &str) -> bool {
        self.snapshot(name).state == SnapshotState::Whole
    }

    fn go_back(&self, name: &str, roles: &[MachineRole]) {
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
    let interrupted = |machine| format!("keep the memory of {machine} for s1: it was interrupted");
    let whys = ["a machine ended while it was taken", &interrupted("m1"), &interrupted("m2")];
    whys.into_iter().map(outcome).collect()
}

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

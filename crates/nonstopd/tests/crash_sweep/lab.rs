//! A lab whose power, or whose daemon, is cut.

use jiff::Timestamp;
use nonstop_host::{
    Host,
    sim::{Cut, SimHost},
};
use nonstop_model::{
    AccountName, EnvironmentId, EnvironmentState, EnvironmentTemplate, InjectionId, KeyAlgorithm,
    Lab, MachineId, Memory, Password, Period, Power, PublicKey, Role, capacity::Room,
};
use nonstop_plan::{Desired, Disk, Observed, Phase, Saved, plan};
use nonstop_store::{Db, Grant, GrantedMachine, NewAccount, NewKey, NewSession, StoreError, Write};
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
pub(crate) struct StillClock(pub(crate) AtomicI64);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).expect("a small number")
    }

    fn pause(&self, _: std::time::Duration) {}
}

/// A lab over a simulated host; the daemon in it can be killed and started again.
pub(crate) struct TestLab {
    pub(crate) lab: Lab,
    pub(crate) db: Arc<Db>,
    pub(crate) host: Arc<SimHost>,
    pub(crate) clock: Arc<StillClock>,
    pub(crate) reconciler: Reconciler,
    _dir: tempfile::TempDir,
    /// Which cut the scenario suffers; taken by the first settle that meets it.
    pub(crate) cut: Option<(Cut, Kind)>,
    /// Whether the power of the host was cut.
    pub(crate) host_was_cut: bool,
    /// Disks that had been whole before the cut, by serial number.
    pub(crate) before: BTreeMap<(MachineId, u32), u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Host,
    Daemon,
}

pub(crate) const E1: EnvironmentId = EnvironmentId(1);
pub(crate) const M1: MachineId = MachineId(1);

impl TestLab {
    pub(crate) fn new(cut: Option<(Cut, Kind)>) -> TestLab {
        // Thousands of durable commits are made here; what they survive is not what is tried.
        let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let mut lab =
            Lab::parse("lab", "version: 1\nname: sweep\nsoftware_keys: true\n").expect("valid");
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

    pub(crate) fn want(&self, change: impl FnOnce(&mut Write<'_>) -> Result<(), StoreError>) {
        self.db.write("test", self.clock.now(), change).expect("committed");
    }

    pub(crate) fn account(&self, name: &str) {
        let new = NewAccount {
            name: name.parse().expect("a name"),
            full_name: "n".into(),
            affiliation: "a".into(),
            role: Role::Researcher,
            edition: None,
            sources: Vec::new(),
            keys: vec![NewKey {
                key: PublicKey(name.into()),
                fingerprint: name.into(),
                algorithm: KeyAlgorithm::Ed25519,
            }],
        };
        self.want(|w| w.add_account(&new).map(drop));
    }

    /// A session of `account` with this key, led by the process `pid`.
    pub(crate) fn session(&self, account: &str, key: &str, source: &str, pid: u32) -> u64 {
        let run = self.host.observe().map_or_else(|_| String::new(), |seen| seen.run.0);
        let new = NewSession {
            account: account.parse().expect("a name"),
            source: source.into(),
            port: 40_000,
            fingerprint: key.into(),
            client: String::new(),
            pid,
            run,
        };
        self.db.write("sshd", self.clock.now(), |w| w.open_session(&new)).expect("committed")
    }

    /// Why the session `id` ended.
    pub(crate) fn ended(&self, id: u64) -> String {
        self.db.read(|read| read.session(id)).expect("read").ended
    }

    /// The processes that lead sessions.
    pub(crate) fn leaders(&self) -> Vec<u32> {
        self.host.observe().expect("light").gate.sessions.into_keys().collect()
    }

    /// Whether the host's power was cut: no session outlives that.
    pub(crate) fn host_was_cut(&self) -> bool {
        self.host_was_cut
    }

    pub(crate) fn grant(&self, account: &str, seconds: i64) {
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

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn later(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Passes until nothing is to be done, with the cut where it falls.
    pub(crate) fn settle(&mut self) {
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

    pub(crate) fn reconciler_plan(&self) -> nonstop_plan::Plan {
        let now = self.clock.now();
        let wanted = self.db.read(|r| desired(r, &self.lab, now)).expect("read");
        plan(&wanted, &self.host.observe().expect("light"), now)
    }

    /// Nothing lost, nothing left over.
    pub(crate) fn check(&self) {
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
        self.check_discs(&wanted, &seen);
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

    /// Every drive shows what is wanted in it, and no image is left over.
    fn check_discs(&self, wanted: &Desired, seen: &Observed) {
        let mut shown = BTreeMap::new();
        let live = wanted.environments.values().filter(|e| e.phase == Phase::Live);
        for machine in live.flat_map(|e| &e.machines) {
            let disc = machine.disc.as_ref().map(|disc| disc.injection);
            assert!(
                machine.disc.as_ref().is_none_or(|disc| disc.there),
                "it is not known as there"
            );
            if machine.drive && machine.power == Power::On {
                shown.insert(machine.id, disc);
            }
            let current = seen.discs.iter().filter(|(id, generation, _)| {
                (*id, *generation) == (machine.id, machine.generation)
            });
            let current: Vec<_> = current.map(|(_, _, disc)| *disc).collect();
            assert_eq!(current, disc.into_iter().collect::<Vec<_>>(), "images of {}", machine.id);
        }
        assert_eq!(seen.drives, shown, "drives");
        let bearing = |(id, generation, _): &(MachineId, u32, InjectionId)| {
            seen.disks.contains_key(&(*id, *generation))
        };
        assert!(seen.discs.iter().all(bearing), "an image is left over: {:?}", seen.discs);
    }

    /// How it ended, for comparison with the run without a cut.
    pub(crate) fn outcome(&self) -> String {
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
        for injection in self.db.read(|r| r.injections(None, 100)).expect("read") {
            let (state, by) = (injection.state.as_str(), injection.ended_by.unwrap_or_default());
            lines.push(format!("{} {state} {by}", injection.id));
        }
        for snapshot in self.db.read(|r| r.snapshots(None)).expect("read") {
            let (name, state) = (snapshot.name, snapshot.state);
            lines.push(format!("snapshot {name}: {state:?}"));
        }
        let seen = self.host.observe().expect("light");
        lines.push(format!("grants: {:?}", seen.firewall.grants.keys().collect::<Vec<_>>()));
        lines.push(format!("quarantine: {:?}", self.host.quarantined()));
        let uids: std::collections::BTreeSet<_> = seen.gate.sessions.values().collect();
        lines.push(format!("sessions: {uids:?}"));
        let verified = self.db.read(|r| r.verify_trace()).expect("read");
        assert_eq!(verified.broken_at, None, "the trace verifies");
        lines.join("\n")
    }
}

pub(crate) fn daemon(
    lab: &Lab,
    db: &Arc<Db>,
    host: &Arc<SimHost>,
    clock: &Arc<StillClock>,
) -> Reconciler {
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
pub(crate) fn crash_sweep(scenario: impl Fn(&mut TestLab)) -> String {
    crash_sweep_or(scenario, &[])
}

/// The same, where a cut of the host's power may also end in one of `others`.
pub(crate) fn crash_sweep_or(scenario: impl Fn(&mut TestLab), others: &[String]) -> String {
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

pub(crate) fn ready(lab: &mut TestLab) {
    lab.account("alice");
    lab.grant("alice", 1000);
    lab.settle();
}

//! A debugger and its debuggee: what is done for the pair, in which order, and with what rights.

use jiff::Timestamp;
use nonstop_model::{
    AccountName, Disc, EnvironmentId, Frozen, InjectionId, Limits, MachineId, MachineProfile,
    MachineRole, Memory, Power, Protocol, ReachTarget, Segment, SegmentKind, SegmentName, Slot,
    SnapshotId,
};
use nonstop_plan::{
    AccountGate, Desired, DesiredEnvironment, DesiredMachine, Desk, Desktop, Disk, DiskRoom, Fact,
    FirewallState, Grant, Observed, ObservedMachine, ObservedSegment, Phase, Plan, Saved, Shaping,
    Step, Take, absorb, plan,
};
use std::time::Duration;

const E1: EnvironmentId = EnvironmentId(1);
const DEBUGGER: MachineId = MachineId(1);
const DEBUGGEE: MachineId = MachineId(2);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a small number")
}

fn segment() -> Segment {
    Segment::new(E1, "10.77.0.0/16".parse().expect("a network"), Slot(0)).expect("in the pool")
}

fn machine(id: MachineId, networks: &[SegmentKind]) -> DesiredMachine {
    let access = networks.contains(&SegmentKind::Access);
    let reports = ReachTarget {
        server: "reports".into(),
        address: "10.80.0.2".parse().expect("an address"),
        protocol: Protocol::Tcp,
        port: 80,
    };
    DesiredMachine {
        id,
        environment: E1,
        role: if access { MachineRole::Debugger } else { MachineRole::Debuggee },
        image: "micro".parse().expect("a name"),
        image_digest: "d".into(),
        profile: MachineProfile::Linux,
        uid: 80_000 + id.0,
        address: access.then(|| segment().machine(0)),
        networks: networks.into(),
        reach: if access { vec![reports] } else { Vec::new() },
        limits: Limits::default(),
        memory_mib: 96,
        vcpus: 1,
        generation: 1,
        power: Power::On,
        force_off_at: at(0),
        reset_pending: false,
        preparation: None,
        desktop: None,
        viewers: Vec::new(),
        origin: None,
        resume: None,
        frozen: Vec::new(),
        agent: true,
        drive: false,
        disc: None,
        seen_in: None,
    }
}

fn wanted() -> Desired {
    let alice: AccountName = "alice".parse().expect("a name");
    let gate = AccountGate {
        name: alice.clone(),
        uid: 70_001,
        address: "127.64.0.1".parse().expect("an address"),
        keys: Vec::new(),
        sources: Vec::new(),
        targets: Vec::new(),
    };
    let environment = DesiredEnvironment {
        id: E1,
        account: alice.clone(),
        segment: segment(),
        phase: Phase::Live,
        from: at(0),
        until: at(1000),
        destroy_at: None,
        taking: None,
        edition: None,
        machines: vec![
            machine(DEBUGGER, &[SegmentKind::Access, SegmentKind::Link]),
            machine(DEBUGGEE, &[SegmentKind::Link]),
        ],
    };
    Desired {
        accounts: [(alice, gate)].into(),
        environments: [(E1, environment)].into(),
        lease: Duration::from_secs(3600),
        bandwidth_kbit: Default::default(),
        portal_port: 8080,
        transfer_port: 8081,
        sessions_to_end: Vec::new(),
    }
}

fn link() -> SegmentName {
    SegmentName::of_kind(SegmentKind::Link, E1)
}

/// The pair as it runs, with these rights in the kernel.
fn running(grants: impl IntoIterator<Item = Grant>) -> Observed {
    let whole = ObservedSegment { whole: true };
    let runs = ObservedMachine { environment: E1, generation: 1 };
    // A reach ends with the period, a portal with its lease.
    let lasting = |grant: Grant| {
        let left = match grant {
            Grant::Reach { .. } => Some(Duration::from_secs(990)),
            Grant::Portal { .. } | Grant::Transfer { .. } | Grant::Source { .. } => {
                Some(Duration::from_secs(3600))
            }
            Grant::Desktop { .. } | Grant::Port { .. } | Grant::Link { .. } => None,
        };
        (grant, left)
    };
    Observed {
        segments: [(segment().name, whole), (link(), whole)].into(),
        machines: [(DEBUGGER, runs), (DEBUGGEE, runs)].into(),
        disks: [((DEBUGGER, 1), Disk::Whole), ((DEBUGGEE, 1), Disk::Whole)].into(),
        firewall: FirewallState {
            current: true,
            grants: grants.into_iter().map(lasting).collect(),
        },
        shaping: unlimited(),
        ..Observed::default()
    }
}

/// Alice is known to the limits of bandwidth, and has none.
fn unlimited() -> Shaping {
    Shaping { limits: [(70_001, None)].into(), ..Shaping::default() }
}

fn granted(plan: &Plan) -> Vec<Grant> {
    let grants = plan.grant.iter().filter_map(|step| match step {
        Step::Grant { grant, .. } => Some(grant.clone()),
        _ => None,
    });
    grants.collect()
}

fn told(plan: &Plan) -> String {
    plan.steps().map(|step| format!("{step}\n")).collect()
}

#[test]
fn bridges_come_before_guests_and_rights_after_both() {
    insta::assert_snapshot!(told(&plan(&wanted(), &Observed::default(), at(10))), @r"
    load the firewall
    create segment nsb00001 (10.77.0.0/28)
    create link nsl00001
    create generation 1 of m1 from image micro
    create generation 1 of m2 from image micro
    start m1 on nsb00001, nsl00001
    start m2 on nsl00001
    grant uid 70001 to the portal at 127.64.0.1:8080
    grant uid 70001 to the file transfer at 127.64.0.1:8081
    limit the bandwidth of 0 of 1 accounts
    ");
    insta::assert_snapshot!(told(&plan(&wanted(), &running([]), at(10))), @r"
    grant uid 70001 to the portal at 127.64.0.1:8080
    grant uid 70001 to the file transfer at 127.64.0.1:8081
    grant m1 as 10.77.0.2
    grant m1 at 10.77.0.2 to 10.80.0.2:80/tcp
    grant m1 on its link
    grant m2 on its link
    ");
}

#[test]
fn a_debuggee_has_the_right_to_its_link_and_no_other() {
    let all = granted(&plan(&wanted(), &running([]), at(10)));
    let of_debuggee: Vec<&Grant> = all
        .iter()
        .filter(|grant| match grant {
            Grant::Port { machine, .. }
            | Grant::Reach { machine, .. }
            | Grant::Link { machine, .. } => *machine == DEBUGGEE,
            Grant::Portal { .. }
            | Grant::Transfer { .. }
            | Grant::Desktop { .. }
            | Grant::Source { .. } => false,
        })
        .collect();
    assert!(matches!(of_debuggee[..], [Grant::Link { .. }]), "{of_debuggee:?}");
}

#[test]
fn reach_is_a_lease_that_ends_with_the_period_and_with_the_account() {
    let mut wanted = wanted();
    let mut settled = running(granted(&plan(&wanted, &running([]), at(10))));
    assert!(plan(&wanted, &settled, at(10)).is_empty());
    let lease =
        plan(&wanted, &running([]), at(900)).grant.into_iter().find_map(|step| match step {
            Step::Grant { grant: Grant::Reach { .. }, lease } => lease,
            _ => None,
        });
    assert_eq!(lease, Some(Duration::from_secs(100)), "never past the period's end");

    // The person is suspended: what was theirs goes, and the guests go on.
    wanted.accounts.clear();
    insta::assert_snapshot!(told(&plan(&wanted, &settled, at(10))), @r"
    revoke uid 70001 to the portal at 127.64.0.1:8080
    revoke uid 70001 to the file transfer at 127.64.0.1:8081
    revoke m1 at 10.77.0.2 to 10.80.0.2:80/tcp
    limit the bandwidth of 0 of 0 accounts
    ");
    settled.shaping = Shaping::default();

    // A server that the lab has no longer is cut, also while the guest runs.
    let machines = &mut wanted.environments.get_mut(&E1).expect("there").machines;
    machines[0].reach.clear();
    settled.firewall.grants.retain(|grant, _| grant.uid().is_none());
    insta::assert_snapshot!(told(&plan(&wanted, &settled, at(10))), @"revoke m1 at 10.77.0.2 to 10.80.0.2:80/tcp");
}

#[test]
fn the_end_takes_rights_before_guests_and_bridges_last() {
    let mut wanted = wanted();
    let settled = running(granted(&plan(&wanted, &running([]), at(10))));
    let environment = wanted.environments.get_mut(&E1).expect("there");
    (environment.phase, environment.destroy_at) = (Phase::Grace, Some(at(2000)));
    insta::assert_snapshot!(told(&plan(&wanted, &settled, at(1000))), @r"
    revoke m1 as 10.77.0.2
    revoke m1 at 10.77.0.2 to 10.80.0.2:80/tcp
    revoke m1 on its link
    revoke m2 on its link
    stop m1
    stop m2
    remove segment nsb00001
    remove segment nsl00001
    ");
}

#[test]
fn a_bridge_that_went_away_restarts_whoever_stood_on_it_and_nobody_else() {
    let wanted = wanted();
    let mut seen = running(granted(&plan(&wanted, &running([]), at(10))));
    seen.segments.remove(&segment().name);
    let steps = told(&plan(&wanted, &seen, at(10)));
    assert!(steps.contains("stop m1") && !steps.contains("stop m2"), "{steps}");
    assert!(steps.contains("create segment nsb00001") && !steps.contains("create link"), "{steps}");

    let mut seen = running(granted(&plan(&wanted, &running([]), at(10))));
    seen.segments.remove(&link());
    let steps = told(&plan(&wanted, &seen, at(10)));
    assert!(steps.contains("stop m1") && steps.contains("stop m2"), "{steps}");
    assert!(steps.contains("create link nsl00001"), "{steps}");
}

#[test]
fn a_link_that_nobody_wants_any_more_goes() {
    let mut wanted = wanted();
    let machines = &mut wanted.environments.get_mut(&E1).expect("there").machines;
    machines.truncate(1);
    machines[0].networks = vec![SegmentKind::Access];
    let mut seen = running([]);
    seen.machines.clear();
    let steps = told(&plan(&wanted, &seen, at(10)));
    assert!(steps.contains("remove segment nsl00001"), "{steps}");
}

/// What is done to the machines of the environment.
fn done(plan: &Plan) -> String {
    plan.environments[&E1].iter().map(|step| format!("{step}\n")).collect()
}

const S1: SnapshotId = SnapshotId(1);

#[test]
fn both_stand_still_before_either_is_kept_and_none_is_started_until_both_are() {
    let mut wanted = wanted();
    let take = Take { snapshot: S1, machines: [(DEBUGGER, true), (DEBUGGEE, true)].into() };
    wanted.environments.get_mut(&E1).expect("there").taking = Some(take);
    let mut seen = running([]);
    insta::assert_snapshot!(done(&plan(&wanted, &seen, at(10))), @r"
    pause m1
    pause m2
    keep the memory of m1 for s1
    keep the memory of m2 for s1
    ");
    // An interruption: one is kept already, the other stands still.
    let memory = Memory { generation: 1, snapshot: S1 };
    seen.machines.remove(&DEBUGGER);
    seen.memory.insert((DEBUGGER, memory), Saved::Whole);
    seen.paused.insert(DEBUGGEE);
    insta::assert_snapshot!(done(&plan(&wanted, &seen, at(10))), @"keep the memory of m2 for s1");
}

#[test]
fn both_are_there_before_either_runs_on() {
    let mut wanted = wanted();
    let memory = Memory { generation: 1, snapshot: S1 };
    let mut seen = running([]);
    for machine in &mut wanted.environments.get_mut(&E1).expect("there").machines {
        (machine.generation, machine.origin, machine.resume) = (2, Some(1), Some(memory));
        machine.frozen = vec![Frozen { generation: 1, memory: Some(S1) }];
        seen.memory.insert((machine.id, memory), Saved::Whole);
    }
    insta::assert_snapshot!(done(&plan(&wanted, &seen, at(10))), @r"
    stop m1
    stop m2
    create generation 2 of m1 from 1
    create generation 2 of m2 from 1
    start m1 from its memory of s1
    start m2 from its memory of s1
    let m1 run on
    let m2 run on
    ");
}

#[test]
fn a_generation_younger_than_the_database_is_set_aside_and_not_destroyed() {
    let wanted = wanted();
    let mut seen = running([]);
    seen.machines.insert(DEBUGGEE, ObservedMachine { environment: E1, generation: 2 });
    seen.disks.insert((DEBUGGEE, 2), Disk::Whole);
    let steps = done(&plan(&wanted, &seen, at(10)));
    assert!(steps.starts_with("stop m2\nquarantine unknown generation 2 of m2\n"), "{steps}");
}

#[test]
fn who_writes_while_the_disk_is_nearly_full_stands_still_until_there_is_room() {
    let queue = |observed: Observed| {
        let plan = plan(&wanted(), &observed, at(10));
        plan.environments.values().flatten().map(|step| format!("{step}\n")).collect::<String>()
    };
    let writes = Observed { writing: [DEBUGGEE].into(), ..running([]) };
    assert_eq!(queue(writes.clone()), "");
    assert_eq!(queue(Observed { room: DiskRoom::Scarce, ..writes.clone() }), "");
    insta::assert_snapshot!(
        queue(Observed { room: DiskRoom::Low, ..writes }),
        @"pause m2, which writes while the disk is nearly full"
    );
    let stands = Observed { paused: [DEBUGGEE].into(), ..running([]) };
    for room in [DiskRoom::Low, DiskRoom::Scarce] {
        assert_eq!(queue(Observed { room, ..stands.clone() }), "");
    }
    insta::assert_snapshot!(queue(stands), @"let m2 run on");
}

#[test]
fn the_room_is_measured_by_the_reserve() {
    let rooms = [1023, 512, 511, 384, 383, 256, 255, 0].map(|free| DiskRoom::of(free, 512));
    use DiskRoom::{Low, Plenty, Scarce};
    assert_eq!(rooms, [Plenty, Plenty, Plenty, Plenty, Scarce, Scarce, Low, Low]);
}

#[test]
fn a_right_that_somebody_made_longer_is_given_anew() {
    let mut settled = running(granted(&plan(&wanted(), &running([]), at(10))));
    for (grant, left) in &mut settled.firewall.grants {
        match grant {
            Grant::Reach { .. } => *left = Some(Duration::from_secs(8_640_000)),
            Grant::Portal { .. } | Grant::Transfer { .. } => *left = None,
            Grant::Source { .. }
            | Grant::Desktop { .. }
            | Grant::Port { .. }
            | Grant::Link { .. } => {}
        }
    }
    insta::assert_snapshot!(told(&plan(&wanted(), &settled, at(10))), @r"
    grant uid 70001 to the portal at 127.64.0.1:8080
    grant uid 70001 to the file transfer at 127.64.0.1:8081
    grant m1 at 10.77.0.2 to 10.80.0.2:80/tcp
    ");
}

#[test]
fn nobody_gets_in_before_their_limit_holds_and_a_new_limit_is_one_step() {
    let mut wanted = wanted();
    wanted.bandwidth_kbit.insert(70_001, 10_000);
    let steps = told(&plan(&wanted, &Observed::default(), at(10)));
    let line = |text: &str| steps.find(text).unwrap_or_else(|| panic!("{text} in {steps}"));
    assert!(line("limit the bandwidth of 1 of 1 accounts") > line("grant uid 70001"));
    let gate = steps.find("open the gate").unwrap_or(usize::MAX);
    assert!(line("limit the bandwidth") < gate, "{steps}");

    let settled = running(granted(&plan(&wanted, &running([]), at(10))));
    insta::assert_snapshot!(told(&plan(&wanted, &settled, at(10))), @"limit the bandwidth of 1 of 1 accounts");
}

#[test]
fn a_desktop_that_a_guest_serves_is_limited_as_soon_as_it_may_be_reached() {
    let mut wanted = wanted();
    let address = "10.77.0.2".parse().expect("an address");
    let desktop = Desktop { console: false, address, port: 3389 };
    wanted.environments.get_mut(&E1).expect("there").machines[0].desktop = Some(desktop);
    let desks = |wanted: &Desired| {
        let steps = plan(wanted, &running([]), at(10)).grant;
        steps.into_iter().find_map(|step| match step {
            Step::Shape { shaping } => Some(shaping.desks),
            _ => None,
        })
    };
    assert_eq!(desks(&wanted), None, "nothing to be done for who has no limit");
    wanted.bandwidth_kbit.insert(70_001, 10_000);
    let desk = Desk { segment: segment().name, address, port: 3389, uid: 70_001 };
    assert_eq!(desks(&wanted), Some([desk].into()));
}

fn of_injection(id: u32, there: bool) -> Disc {
    Disc { injection: InjectionId(id), domain: "lab".into(), items: Vec::new(), zip: false, there }
}

/// What is done in the pair where `disc` is wanted in the debuggee's drive.
fn with_disc(disc: Option<u32>, observed: &Observed) -> String {
    let mut wanted = wanted();
    let environment = wanted.environments.get_mut(&E1).expect("there");
    let debuggee = &mut environment.machines[1];
    debuggee.drive = true;
    debuggee.disc = disc.map(|id| of_injection(id, false));
    let plan = plan(&wanted, observed, at(10));
    plan.environments.values().flatten().map(|step| format!("{step}\n")).collect()
}

#[test]
fn a_disc_is_made_put_in_and_replaced_and_its_image_goes_only_once_the_drive_has_let_go() {
    let drive = |disc: Option<u32>, images: &[u32]| Observed {
        drives: [(DEBUGGEE, disc.map(InjectionId))].into(),
        discs: images.iter().map(|id| (DEBUGGEE, 1, InjectionId(*id))).collect(),
        ..running([])
    };
    assert_eq!(with_disc(None, &drive(None, &[])), "");
    let put_in = "make the disc j3 of m2\nput the disc j3 into the drive of m2\n";
    assert_eq!(with_disc(Some(3), &drive(None, &[])), put_in);
    assert_eq!(with_disc(Some(3), &drive(Some(3), &[3])), "");
    let replaced = "make the disc j4 of m2\nput the disc j4 into the drive of m2\n";
    assert_eq!(with_disc(Some(4), &drive(Some(3), &[3])), replaced);
    assert_eq!(with_disc(Some(4), &drive(Some(4), &[3, 4])), "delete the disc j3 of m2\n");
    let out = "take the disc out of the drive of m2\n";
    assert_eq!(with_disc(None, &drive(Some(4), &[4])), out);
    assert_eq!(with_disc(None, &drive(None, &[4])), "delete the disc j4 of m2\n");
}

#[test]
fn a_guest_without_a_drive_is_left_alone_and_one_that_starts_has_its_disc_from_the_first() {
    let image = [(DEBUGGEE, 1, InjectionId(3))];
    let without = Observed { discs: image.into(), ..running([]) };
    assert_eq!(with_disc(Some(3), &without), "");
    let mut off = running([]);
    off.machines.remove(&DEBUGGEE);
    assert_eq!(with_disc(Some(3), &off), "make the disc j3 of m2\nstart m2 on nsl00001\n");
}

#[test]
fn a_disc_is_known_as_there_once_it_is_seen_in_its_drive() {
    let mut wanted = wanted();
    let environment = wanted.environments.get_mut(&E1).expect("there");
    for machine in &mut environment.machines {
        machine.seen_in = Some(String::new());
    }
    let injection = InjectionId(3);
    let disc =
        Disc { injection, domain: "lab".into(), items: Vec::new(), zip: false, there: false };
    environment.machines[1].disc = Some(disc);
    let seen = |in_drive| Observed { drives: [(DEBUGGEE, in_drive)].into(), ..running([]) };
    assert_eq!(absorb(&wanted, &seen(None)), []);
    assert_eq!(absorb(&wanted, &seen(Some(InjectionId(2)))), []);
    assert_eq!(absorb(&wanted, &seen(Some(injection))), [Fact::DiscThere(injection)]);
}

/// A snapshot has the disc that was in the drive then; whoever returns to it is not shown it again.
#[test]
fn a_guest_that_goes_back_never_runs_with_a_disc_that_is_not_wanted_any_more() {
    let memory = Memory { generation: 1, snapshot: S1 };
    let returns = |disc: Option<u32>, seen: &Observed| {
        let mut wanted = wanted();
        let debuggee = &mut wanted.environments.get_mut(&E1).expect("there").machines[1];
        (debuggee.generation, debuggee.origin, debuggee.resume) = (3, Some(1), Some(memory));
        debuggee.frozen = vec![Frozen { generation: 1, memory: Some(S1) }];
        debuggee.drive = true;
        debuggee.disc = disc.map(|id| of_injection(id, true));
        let plan = plan(&wanted, seen, at(10));
        let steps = plan.environments.values().flatten().map(|step| format!("{step}\n"));
        steps.skip_while(|step| !step.starts_with("start m2")).collect::<String>()
    };
    let mut seen = running([]);
    seen.disks.insert((DEBUGGEE, 3), Disk::Whole);
    seen.memory.insert((DEBUGGEE, memory), Saved::Whole);
    let at_once = "start m2 from its memory of s1\nlet m2 run on\n";
    assert_eq!(returns(None, &seen), at_once, "none lay in it");
    seen.discs.insert((DEBUGGEE, 1, InjectionId(3)));
    let taken_out = "start m2 from its memory of s1\ntake the disc out of the drive of m2\n\
         let m2 run on\n";
    assert_eq!(returns(None, &seen), taken_out);
    seen.discs.insert((DEBUGGEE, 3, InjectionId(3)));
    assert_eq!(returns(Some(3), &seen), at_once, "one that goes on never notices");
    // A daemon that was killed in between sees what is in the drive.
    let back = ObservedMachine { environment: E1, generation: 3 };
    seen.machines.insert(DEBUGGEE, back);
    seen.drives.insert(DEBUGGEE, Some(InjectionId(3)));
    assert_eq!(returns(None, &seen), taken_out);
    assert_eq!(returns(Some(3), &seen), at_once);
    seen.drives.insert(DEBUGGEE, None);
    assert_eq!(returns(None, &seen), at_once);
}

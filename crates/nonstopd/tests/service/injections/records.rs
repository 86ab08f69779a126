//! The record of a run: what it says when, and that it stays the same once the run is over.

use super::{refusals::HERS, world::*};
use jiff::Timestamp;
use nonstop_api::{ApiError, ErrorCode, Request};
use nonstop_host::{Host, Kept, Put, PutVerdict};
use nonstop_model::{
    EnvironmentId, InjectBy, InjectionId, InjectionState, MachineId, SnapshotName,
};
use nonstop_trace::Record;
use nonstopd::injector::{Counted, Injector};
use serde_json::{Value, json};
use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

const J1: InjectionId = InjectionId(1);
const ANOTHER: &str = "c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3";

fn counted(tables: &str, left: u64) -> Result<Option<Counted>, String> {
    Ok(Some(Counted { tables: tables.into(), between: 7, refused: 2, left }))
}

/// A sample lies before alice's guest.
fn begun() -> (World, EnvironmentId) {
    let world = World::new();
    world.has("intermediate", HERS, Some(68));
    let id = world.grant("alice", Some("intermediate"), BAIT);
    world.settle();
    world.counts(counted("t1", 5));
    world.inject("alice", id, InjectBy::Disc, &[(HERS, None)]).expect("hers");
    (world, id)
}

/// The same, in the guest's drive.
fn there() -> (World, EnvironmentId) {
    let (world, id) = begun();
    world.witness();
    world.settle();
    (world, id)
}

impl World {
    fn counts(&self, counted: Result<Option<Counted>, String>) {
        *self.counted.lock().expect("whole") = counted;
    }

    /// What the record says, which is one by what it says of itself.
    fn said(&self) -> Value {
        let text = self.record("alice", J1).expect("a record");
        Record::read(text.as_bytes()).expect("true").said().clone()
    }

    /// What it says of packets that left the link.
    fn left(&self) -> Value {
        self.said()["containment"]["left"].clone()
    }

    fn is_over(&self, id: EnvironmentId) {
        self.later(60);
        self.revert(id);
        self.settle();
        self.witness();
    }
}

fn is_not_yet(refused: Result<String, ApiError>, why: &str) {
    let refused = refused.expect_err(why);
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains(why), "{refused:?}");
}

#[test]
fn a_record_of_a_run_that_lasts_says_so_and_is_another_than_the_last_one() {
    let (world, id) = begun();
    world.settle();
    is_not_yet(world.record("alice", J1), "is not on its way yet");
    world.witness();
    world.settle();
    let lasting = world.record("alice", J1).expect("it is there");
    assert_eq!(world.record("alice", J1).expect("still"), lasting, "nothing new to say");
    let said = world.said();
    assert_eq!((&said["until"], &said["ended_by"]), (&Value::Null, &Value::Null));
    assert_eq!(said["containment"]["end"], Value::Null);
    assert_eq!(world.left(), json!({ "known": false, "why": "it is still there" }));

    world.later(60);
    world.revert(id);
    is_not_yet(world.record("alice", J1), "is just being written down");
    world.settle();
    world.witness();
    let last = world.record("alice", J1).expect("over");
    assert_ne!(last, lasting);
    let said = world.said();
    let from = said["from"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    let until = said["until"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    assert_eq!(until.duration_since(from).as_secs(), 60);
    assert_eq!((&said["ended_by"], &said["generation"]), (&json!("revert"), &json!(1)));
    assert_eq!(said["samples"][0]["sha256"], HERS);
    assert_eq!(said["domain"], "intermediate");
    assert_eq!(world.left(), json!({ "known": true, "packets": 0 }));
    // Both are true, and each says which it is.
    assert_eq!(Record::read(lasting.as_bytes()).expect("true").said()["until"], Value::Null);
}

#[test]
fn the_record_of_a_run_that_is_over_is_the_same_bytes_for_ever() {
    let (world, id) = there();
    world.is_over(id);
    let first = world.record("alice", J1).expect("over");
    for who in ["alice", "sato", "root"] {
        assert_eq!(world.record(who, J1).expect("over"), first, "{who}");
    }
    let signed = world.rows().iter().filter(|row| row.action == "sample.record").count();
    assert_eq!(signed, 1, "it is signed once");
    // Another run, the end of the environment, and a daemon of another name and version do not change it.
    world.inject("alice", id, InjectBy::Disc, &[(HERS, None)]).expect("another run");
    world.settle();
    world.ask("alice", Request::EnvironmentEnd { id }).expect("ends");
    world.later(101);
    world.settle();
    let mut world = world;
    world.lab.lab.name = "renamed".into();
    let world = world.restarted();
    assert_eq!(world.record("alice", J1).expect("over"), first, "after all that");
}

#[test]
fn a_record_is_the_labs_and_not_one_word_of_it_can_be_changed() {
    let (world, id) = there();
    world.is_over(id);
    let text = world.record("alice", J1).expect("over");
    let record = Record::read(text.as_bytes()).expect("true");
    assert_eq!(record.injection(), J1);
    let authority = world.lab.daemon.service.authority.fingerprint();
    assert_eq!(record.head().authority().fingerprint().to_string(), authority);
    assert!(!text.contains("alice"), "it names nobody");
    for (word, other) in [
        (HERS, &*"b2".repeat(32)),
        ("\"revert\"", "\"eject\""),
        ("\"packets\": 0", "\"packets\": 1"),
        ("\"generation\": 1", "\"generation\": 2"),
        ("\"injection\": \"j1\"", "\"injection\": \"j2\""),
        ("\"intermediate\"", "\"mws\""),
        ("\"known\": true", "\"known\": false"),
    ] {
        let forged = text.replacen(word, other, 1);
        assert_ne!(forged, text, "{word}");
        assert!(Record::read(forged.as_bytes()).is_err(), "{word} as {other}");
    }
    // The trace has the same row, and is whole.
    let row = world.rows().into_iter().find(|row| row.action == "sample.record").expect("there");
    assert_eq!(row.detail, *record.said());
    let verified = world.lab.daemon.db.read(|r| r.verify_trace()).expect("read");
    assert_eq!(verified.broken_at, None);
}

#[test]
fn packets_that_left_are_told_only_where_they_were_counted_all_the_time() {
    let over = |there: Result<Option<Counted>, String>, end: Result<Option<Counted>, String>| {
        let (world, id) = begun();
        world.counts(there);
        world.witness();
        world.settle();
        world.counts(end);
        world.is_over(id);
        world.left()
    };
    assert_eq!(over(counted("t", 5), counted("t", 8)), json!({ "known": true, "packets": 3 }));
    let anew = over(counted("t", 5), counted("u", 1));
    assert_eq!((&anew["known"], &anew["packets"]), (&json!(false), &json!(1)));
    for nothing in [Ok(None), Err("nft does not answer".to_string())] {
        assert_eq!(over(counted("t", 5), nothing.clone())["known"], false);
        assert_eq!(over(nothing, counted("t", 5))["known"], false);
    }
}

/// While nobody counts, because the daemon was away or is slow.
#[test]
fn nothing_goes_before_a_guest_before_its_packets_are_counted() {
    let (world, _) = begun();
    world.settle();
    let state = |world: &World| world.list("alice", None).expect("hers")[0].state;
    assert_eq!(state(&world), InjectionState::Preparing);
    assert!(world.lab.host.discs().is_empty(), "not even its disc is made");
    world.later(30);
    world.witness();
    world.settle();
    assert_eq!(state(&world), InjectionState::There);
    assert_eq!(world.said()["from"], world.said()["containment"]["begin"]["at"]);
}

/// What is asked for is not done yet: the guest had it until it was taken out.
#[test]
fn a_run_lasts_until_the_drive_was_seen_without_the_disc() {
    let (world, id) = there();
    world.later(10);
    world.ask("alice", Request::SampleEject { environment: id }).expect("hers");
    world.later(5);
    world.witness();
    is_not_yet(world.record("alice", J1), "is just being written down");
    world.settle();
    world.witness();
    let said = world.said();
    let at = |what: &str| said[what].as_str().expect("a time").parse::<Timestamp>().expect("one");
    assert_eq!(at("until").duration_since(at("from")).as_secs(), 15);
    assert_eq!(said["ended_by"], "eject");
}

/// Counts of a link go with it: those from just before stand for them.
#[test]
fn packets_are_counted_until_the_environment_ends() {
    let (world, id) = there();
    let host: Arc<dyn Host> = Arc::clone(&world.lab.host) as Arc<dyn Host>;
    let injector = world.injector(host);
    world.counts(counted("t1", 6));
    world.ask("alice", Request::EnvironmentEnd { id }).expect("hers");
    injector.look().expect("looked");
    world.counts(Ok(None));
    world.settle();
    injector.look().expect("looked");
    assert_eq!(world.left(), json!({ "known": true, "packets": 1 }));
    assert_eq!(world.said()["ended_by"], "environment end");
    assert!(world.lab.host.discs().is_empty(), "its disc goes at once, not with the rest");
}

/// What an agent was given stays in its guest, whatever became of the injection.
#[test]
fn a_run_that_failed_half_way_lasts_until_the_guest_is_another() {
    let world = World::new();
    for hash in [HERS, ANOTHER] {
        world.has("intermediate", hash, Some(6));
    }
    let id = world.grant("alice", Some("intermediate"), AGENT);
    world.settle();
    world.counts(counted("t1", 5));
    let both = [(HERS, Some("a")), (ANOTHER, Some("b"))];
    world.inject("alice", id, InjectBy::Agent, &both).expect("hers");
    let full = |_: MachineId, path: &str, _: &File| match path.ends_with("/a") {
        true => Put { verdict: PutVerdict::Done, written: 6, kept: Kept::Unknown },
        false => Put { verdict: PutVerdict::NotWritten, written: 2, kept: Kept::Unknown },
    };
    let host: Arc<dyn Host> = Arc::clone(&world.lab.host) as Arc<dyn Host>;
    let injector = world.injector(Arc::new(Guests(host, full)));
    injector.look().expect("looked");
    let failed = || world.list("alice", None).expect("hers")[0].state == InjectionState::Failed;
    until(Duration::from_secs(5), failed);
    injector.look().expect("looked");
    let said = world.said();
    assert_eq!((&said["until"], &said["there"]), (&Value::Null, &Value::Null), "it lasts");
    assert!(said["failure"].as_str().expect("why").contains("write"), "{said}");
    world.later(60);
    world.revert(id);
    world.settle();
    injector.look().expect("looked");
    let said = world.said();
    let at = |what: &str| said[what].as_str().expect("a time").parse::<Timestamp>().expect("one");
    assert_eq!(at("until").duration_since(at("from")).as_secs(), 60);
    assert_eq!(said["ended_by"], "revert");
    assert_eq!(world.left(), json!({ "known": true, "packets": 0 }));
}

/// What was given to a guest before a snapshot is there again after a return to it.
#[test]
fn a_return_to_a_snapshot_begins_another_run_of_what_is_in_it() {
    let world = World::new();
    world.has("intermediate", HERS, Some(6));
    let id = world.grant("alice", Some("intermediate"), AGENT);
    world.settle();
    world.counts(counted("t1", 5));
    let done = |_: MachineId, _: &str, _: &File| Put {
        verdict: PutVerdict::Done,
        written: 6,
        kept: Kept::Bytes(6),
    };
    let host: Arc<dyn Host> = Arc::clone(&world.lab.host) as Arc<dyn Host>;
    let injector = world.injector(Arc::new(Guests(host, done)));
    let listed = |world: &World| {
        let all = world.list("alice", None).expect("hers").into_iter().rev();
        all.map(|one| (one.state, one.generation, one.ended_by)).collect::<Vec<_>>()
    };
    let given = |name: &str| {
        world.inject("alice", id, InjectBy::Agent, &[(HERS, Some(name))]).expect("hers");
        injector.look().expect("looked");
        let is_there = || listed(&world).last().expect("one").0 == InjectionState::There;
        until(Duration::from_secs(5), is_there);
        world.later(10);
    };
    given("before");
    let name: SnapshotName = "clean".parse().expect("a name");
    let take = Request::SnapshotTake { id, name: name.clone(), role: None };
    world.ask("alice", take).expect("hers");
    world.settle();
    world.later(10);
    given("after");
    let back = || Request::SnapshotReturn { id, name: name.clone(), role: None };
    world.ask("alice", back()).expect("hers");
    world.settle();
    injector.look().expect("looked");
    let ended = |generation| (InjectionState::Ended, generation, Some("return".to_string()));
    let after = listed(&world);
    let generation = after[2].1;
    assert!(generation > after[0].1, "{after:?}");
    assert_eq!(
        after[2],
        (InjectionState::There, generation, None),
        "the one of before the snapshot"
    );
    assert_eq!(after.len(), 3, "and not the other: {after:?}");
    assert_eq!((after[0].2.as_deref(), after[1].2.as_deref()), (Some("return"), Some("return")));
    let text = world.record("alice", InjectionId(3)).expect("it lasts");
    let said = Record::read(text.as_bytes()).expect("true").said().clone();
    assert_eq!((&said["until"], &said["samples"][0]["name"]), (&Value::Null, &json!("before")));
    // And once more, of what came back.
    world.ask("alice", back()).expect("hers");
    world.settle();
    injector.look().expect("looked");
    let again = listed(&world);
    assert_eq!((again.len(), &again[2]), (4, &ended(generation)), "{again:?}");
    assert!(world.record("alice", InjectionId(3)).expect("over").contains("\"return\""));
}

/// What alice's guest with an agent was given and kept.
struct Lasting {
    world: World,
    id: EnvironmentId,
    injector: Arc<Injector>,
}

impl Lasting {
    /// Each file is taken as `put` says of its name.
    fn new(put: fn(&str) -> Put) -> Lasting {
        let world = World::new();
        world.has("intermediate", HERS, Some(6));
        let id = world.grant("alice", Some("intermediate"), AGENT);
        world.settle();
        world.counts(counted("t1", 5));
        let host: Arc<dyn Host> = Arc::clone(&world.lab.host) as Arc<dyn Host>;
        let guest = move |_: MachineId, path: &str, _: &File| {
            put(path.rsplit('/').next().unwrap_or_default())
        };
        let injector = world.injector(Arc::new(Guests(host, guest)));
        Lasting { world, id, injector }
    }

    fn give(&self, names: &[&str]) {
        let samples: Vec<_> = names.iter().map(|name| (HERS, Some(*name))).collect();
        self.world.inject("alice", self.id, InjectBy::Agent, &samples).expect("hers");
        until(Duration::from_secs(60), || {
            self.injector.look().expect("looked");
            let newest = self.world.list("alice", None).expect("hers").remove(0);
            let told = newest.state != InjectionState::Preparing;
            told && self
                .world
                .lab
                .daemon
                .service
                .status
                .given(self.world.debuggee(self.id))
                .is_none()
        });
    }

    fn ask(&self, request: Request) {
        self.world.later(10);
        self.world.ask("alice", request).expect("hers");
        self.world.settle();
        // The one writes down what ended, the next what began by it.
        for _ in 0..2 {
            self.injector.look().expect("looked");
        }
    }

    fn take(&self, name: &str) {
        let name = name.parse().expect("a name");
        self.ask(Request::SnapshotTake { id: self.id, name, role: None });
    }

    fn go_back(&self, name: &str) {
        let name = name.parse().expect("a name");
        self.ask(Request::SnapshotReturn { id: self.id, name, role: None });
    }

    /// Of each injection, the oldest first: its file, how far it is, and whether its run lasts.
    fn runs(&self) -> Vec<(String, &'static str, bool)> {
        let all = self.world.list("alice", None).expect("hers").into_iter().rev();
        let run = all.map(|one| {
            let text = self.world.record("alice", one.id).expect("a record");
            let said = Record::read(text.as_bytes()).expect("true").said().clone();
            (one.items[0].name.clone(), one.state.as_str(), said["until"].is_null())
        });
        run.collect()
    }
}

const WHOLE: Put = Put { verdict: PutVerdict::Done, written: 6, kept: Kept::Bytes(6) };

fn run(name: &str, state: &'static str, lasts: bool) -> (String, &'static str, bool) {
    (name.into(), state, lasts)
}

/// A guest that was kept goes on as the same: nothing ends by that.
#[test]
fn a_run_goes_on_through_snapshots_and_is_there_again_after_a_return_to_any_of_them() {
    let lasting = Lasting::new(|_| WHOLE);
    lasting.give(&["early"]);
    lasting.take("a");
    lasting.give(&["late"]);
    lasting.take("b");
    assert_eq!(lasting.runs(), [run("early", "there", true), run("late", "there", true)]);
    lasting.go_back("b");
    let over = [run("early", "ended", false), run("late", "ended", false)];
    let both = [run("early", "there", true), run("late", "there", true)];
    assert_eq!(lasting.runs(), [over.clone(), both].concat());
    lasting.go_back("a");
    let early = vec![run("early", "there", true)];
    assert_eq!(lasting.runs(), [over.to_vec(), over.to_vec(), early].concat());
    lasting.take("c");
    lasting.go_back("c");
    let runs = lasting.runs();
    assert_eq!(runs[4..], [run("early", "ended", false), run("early", "there", true)]);
    let by = |n: u32| {
        let text = lasting.world.record("alice", InjectionId(n)).expect("over");
        Record::read(text.as_bytes()).expect("true").said()["ended_by"].clone()
    };
    assert_eq!([by(1), by(4), by(5)], ["return", "return", "return"]);
}

/// Half of it, or what was taken back, is there whatever became of the injection.
#[test]
fn what_got_in_in_part_lasts_through_a_snapshot_and_comes_back_as_what_it_is() {
    let lasting = Lasting::new(|name| match name {
        "half" => Put { verdict: PutVerdict::NotWritten, written: 2, kept: Kept::Unknown },
        "never" => Put { verdict: PutVerdict::Silent, written: 0, kept: Kept::Unknown },
        "nowhere" => Put { verdict: PutVerdict::NotOpened, written: 0, kept: Kept::Unknown },
        _ => WHOLE,
    });
    lasting.give(&["first", "half"]);
    lasting.give(&["never"]);
    lasting.give(&["nowhere"]);
    lasting.take("a");
    let runs = lasting.runs();
    assert_eq!(runs[0], run("first", "failed", true), "the same guest goes on");
    lasting.go_back("a");
    let runs = lasting.runs();
    assert_eq!(runs[0], run("first", "failed", false));
    assert_eq!(runs[3..], [run("first", "failed", true)], "and what never got in does not");
    let all = lasting.world.list("alice", None).expect("hers");
    let (back, before) = (&all[0], &all[3]);
    assert_eq!((&back.failure, &back.guest_says), (&before.failure, &before.guest_says));
    let says = back.guest_says.as_deref().expect("words");
    assert!(says.contains("it wrote 1 file(s), 6 bytes") && says.contains("2 of 6"), "{says}");
    lasting.ask(Request::EnvironmentRevert { id: lasting.id, role: None });
    assert_eq!(lasting.runs()[3], run("first", "failed", false));
    let text = lasting.world.record("alice", back.id).expect("over");
    assert_eq!(Record::read(text.as_bytes()).expect("true").said()["ended_by"], "revert");
}

/// Whatever else is being done in its environment.
#[test]
fn the_end_of_a_run_is_written_down_though_another_machine_is_still_being_changed() {
    let (world, id) = there();
    world.ask("alice", Request::SampleEject { environment: id }).expect("hers");
    world.settle();
    world.lab.host.qemu_dies(MachineId(world.debuggee(id).0 - 1));
    let reconciler = &world.lab.daemon.reconciler;
    // Its debugger cannot be started just now.
    let plan = reconciler.pass(&mut |_, _| ()).expect("a pass");
    assert!(!plan.is_empty());
    world.witness();
    assert_eq!(world.said()["ended_by"], "eject");
}

#[test]
fn what_is_about_to_be_gone_is_looked_at_now_and_then_alone() {
    let (world, id) = there();
    world.ask("alice", Request::SampleEject { environment: id }).expect("hers");
    let host = Arc::clone(&world.lab.host) as Arc<dyn Host>;
    let injector = world.injector(host);
    let (began, before) = (Instant::now(), world.times_counted());
    for _ in 0..100 {
        injector.look().expect("looked");
    }
    let most = 1 + began.elapsed().as_secs();
    let counted = world.times_counted() - before;
    assert!((1..=most).contains(&counted), "{counted} times");
}

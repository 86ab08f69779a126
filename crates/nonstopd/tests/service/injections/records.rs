//! The record of a run: what it says when, and that it stays the same once the run is over.

use super::{refusals::HERS, world::*};
use jiff::Timestamp;
use nonstop_api::{ApiError, ErrorCode, Request};
use nonstop_host::{Host, Kept, Put, PutVerdict};
use nonstop_model::{
    EnvironmentId, InjectBy, InjectionId, InjectionState, MachineId, SnapshotName,
};
use nonstop_trace::Record;
use nonstopd::injector::Counted;
use serde_json::{Value, json};
use std::{fs::File, sync::Arc, time::Duration};

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

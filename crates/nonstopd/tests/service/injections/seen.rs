//! What becomes of an injection, who sees it, and what the trace says.

use super::{refusals::HERS, world::*};
use nonstop_api::{ErrorCode, Request};
use nonstop_model::{
    EnvironmentId, InjectBy, InjectedItem, InjectionId, InjectionState, MachineRole,
};
use nonstop_store::{NewInjection, StoreError};
use serde_json::json;

/// A lab with an environment of alice and one of bob, both of which take samples.
fn begun() -> (World, EnvironmentId, EnvironmentId) {
    let world = World::new();
    world.has("intermediate", HERS, Some(68));
    world.has("mws", HERS, Some(68));
    let hers = world.grant("alice", Some("intermediate"), BAIT);
    let his = world.grant("bob", Some("mws"), BAIT);
    world.settle();
    (world, hers, his)
}

/// Each injection of `id`, the oldest first: how far it is, and what ended it.
fn ends(world: &World, id: EnvironmentId) -> Vec<(InjectionState, Option<String>)> {
    let all = world.list("alice", Some(id)).expect("hers").into_iter().rev();
    all.map(|view| (view.state, view.ended_by)).collect()
}

#[test]
fn an_injection_is_wanted_there_replaced_ejected_reverted_and_ended() {
    let (world, id, _) = begun();
    let inject = || world.inject("alice", id, InjectBy::Disc, &[(HERS, Some("a.exe"))]);
    let ended = |by: &str| (InjectionState::Ended, Some(by.to_string()));
    let view = inject().expect("hers");
    assert_eq!((view.state, view.machine), (InjectionState::Preparing, MachineRole::Debuggee));
    assert_eq!(view.items, [InjectedItem { sha256: HERS.into(), name: "a.exe".into(), bytes: 68 }]);
    let two = inject().expect_err("one at a time");
    assert_eq!(two.code, ErrorCode::Conflict, "{two:?}");
    world.goes_on();
    assert_eq!(ends(&world, id), [(InjectionState::There, None)]);

    inject().expect("another");
    world.goes_on();
    assert_eq!(ends(&world, id), [ended("replaced"), (InjectionState::There, None)]);
    for _ in 0..2 {
        world.ask("alice", Request::SampleEject { environment: id }).expect("out");
    }
    world.settle();
    inject().expect("a third");
    world.goes_on();
    world.revert(id);
    world.settle();
    let fourth = inject().expect("before the clean guest");
    assert_eq!(fourth.generation, 2);
    world.goes_on();
    world.ask("alice", Request::EnvironmentEnd { id }).expect("ended");
    world.settle();
    let all = ["replaced", "eject", "revert", "environment end"].map(ended);
    assert_eq!(ends(&world, id), all);
    assert!(!world.lab.host.drives().contains_key(&world.debuggee(id)), "nothing is shown");
    assert_eq!(world.lab.daemon.db.read(|r| r.discs()).expect("read"), []);
}

#[test]
fn the_trace_says_who_put_what_where_and_what_ended_it() {
    let (world, id, _) = begun();
    world.inject("alice", id, InjectBy::Disc, &[(HERS, None)]).expect("hers");
    world.goes_on();
    world.revert(id);
    world.settle();
    world.witness();
    world.record("alice", InjectionId(1)).expect("over");
    let rows = world.rows();
    let told: Vec<String> =
        rows.iter().map(|row| format!("{} {} {}", row.actor, row.action, row.subject)).collect();
    assert_eq!(
        told,
        [
            "alice sample.inject j1",
            "nonstopd sample.witnessed j1",
            "nonstopd sample.there j1",
            "alice sample.end j1",
            "nonstopd sample.witnessed j1",
            "nonstopd sample.record j1",
        ]
    );
    let samples = json!([{ "sha256": HERS, "name": format!("{HERS}.bin"), "bytes": 68 }]);
    assert_eq!(
        rows[0].detail,
        json!({
            "environment": id, "machine": world.debuggee(id), "generation": 1,
            "domain": "intermediate", "by": "disc", "zip": false, "samples": samples,
        })
    );
    assert_eq!(rows[3].detail, json!({ "by": "revert" }));
    let verified = world.lab.daemon.db.read(|r| r.verify_trace()).expect("read");
    assert_eq!(verified.broken_at, None);
}

#[test]
fn a_disc_that_is_not_made_is_told_as_that() {
    let (world, id, _) = begun();
    world.lab.host.has_no_samples(true);
    world.inject("alice", id, InjectBy::Disc, &[(HERS, None)]).expect("wanted");
    world.goes_on();
    let view = world.list("alice", Some(id)).expect("hers").remove(0);
    assert_eq!(view.state, InjectionState::Failed);
    let why = view.failure.expect("a reason");
    assert!(why.contains("no sample with this hash"), "{why}");
    let no = world.record("alice", view.id).expect_err("it was before nobody");
    assert_eq!(
        (no.code, no.message),
        (ErrorCode::Conflict, "j1 was before no guest: there is no record of it".into())
    );
    assert_eq!(world.rows().last().expect("rows").action, "sample.failed");
}

#[test]
fn a_researcher_sees_own_injections_alone_and_staff_all() {
    let (world, hers, his) = begun();
    for (who, id) in [("alice", hers), ("bob", his)] {
        world.inject(who, id, InjectBy::Disc, &[(HERS, None)]).expect("own");
    }
    world.settle();
    world.witness();
    let ids = |who, id| {
        let all = world.list(who, id).expect("may ask").into_iter();
        all.map(|view| view.id.0).collect::<Vec<_>>()
    };
    assert_eq!((ids("alice", None), ids("bob", None)), (vec![1], vec![2]));
    for who in ["sato", "root"] {
        assert_eq!((ids(who, None), ids(who, Some(hers))), (vec![2, 1], vec![1]));
    }
    // To others it does not exist, as one that never was does not.
    for (id, of) in [(1, hers), (77, EnvironmentId(77))] {
        let list = world.list("bob", Some(of)).expect_err("not his");
        let record = world.record("bob", InjectionId(id)).expect_err("not his");
        assert_eq!((list.code, record.code), (ErrorCode::NotFound, ErrorCode::NotFound));
        assert_eq!(record.message, format!("there is no injection j{id}"));
    }
    for who in ["alice", "sato", "root"] {
        world.record(who, InjectionId(1)).expect("may see it");
    }
}

#[test]
fn a_researchers_injections_are_listed_however_many_others_have() {
    let (world, hers, his) = begun();
    world.inject("alice", hers, InjectBy::Disc, &[(HERS, None)]).expect("hers");
    world.settle();
    let new = NewInjection {
        environment: his,
        machine: world.debuggee(his),
        generation: 1,
        domain: "mws".into(),
        by: InjectBy::Disc,
        zip: false,
        items: Vec::new(),
    };
    let db = &world.lab.daemon.db;
    db.write("bob", nonstopd::Clock::now(&*world.lab.clock), |w| {
        for _ in 0..501 {
            let id = w.inject(&new)?;
            w.injection_failed(id, "a test", None)?;
        }
        Ok::<(), StoreError>(())
    })
    .expect("committed");
    let ids: Vec<u32> =
        world.list("alice", None).expect("hers").into_iter().map(|view| view.id.0).collect();
    assert_eq!(ids, [1]);
    assert_eq!(world.list("root", None).expect("all").len(), 500, "the newest");
}

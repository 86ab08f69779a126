//! What is not anybody's to put before a guest, each with its reason.

use super::world::*;
use nonstop_api::{ErrorCode, PowerAction, Request, samples::SampleQuery};
use nonstop_model::{EnvironmentId, InjectBy, MachineRole};
use rustix::fs::OFlags;
use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, thread, time::Duration};

/// Of alice's edition.
pub(crate) const HERS: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";

/// Refuses, says `why`, and nothing of it is kept.
fn refused(
    world: &World,
    who: &str,
    id: EnvironmentId,
    by: InjectBy,
    samples: &[(&str, Option<&str>)],
    (code, why): (ErrorCode, &str),
) {
    let before = world.rows().len();
    let refused = world.inject(who, id, by, samples).expect_err(why);
    assert_eq!(refused.code, code, "{refused:?}");
    assert!(refused.message.contains(why), "`{why}`: {refused:?}");
    assert_eq!(world.rows().len(), before, "nothing was wanted");
}

fn begun() -> (World, EnvironmentId) {
    let world = World::new();
    world.has("intermediate", HERS, Some(68));
    let id = world.grant("alice", Some("intermediate"), BAIT);
    world.settle();
    (world, id)
}

#[test]
fn only_whose_environment_it_is_and_admins_put_samples_into_it() {
    let (world, id) = begun();
    let sample = [(HERS, None)];
    let no = |who, reason| refused(&world, who, id, InjectBy::Disc, &sample, reason);
    no("bob", (ErrorCode::NotFound, "there is no environment"));
    no("sato", (ErrorCode::Forbidden, "is of `alice`"));
    for who in ["bob", "sato"] {
        assert!(world.ask(who, Request::SampleEject { environment: id }).is_err(), "{who}");
    }
    let by_root = world.inject("root", id, InjectBy::Disc, &sample).expect("an admin may");
    assert_eq!(by_root.by_person, "admin:root");
    world.goes_on();
    assert_eq!(
        world.inject("alice", id, InjectBy::Disc, &sample).expect("hers").by_person,
        "alice"
    );
    let nowhere = EnvironmentId(77);
    refused(&world, "root", nowhere, InjectBy::Disc, &sample, (ErrorCode::NotFound, "e77"));
}

#[test]
fn only_a_debuggee_of_a_data_domain_takes_samples() {
    let (world, bait) = begun();
    let alone = "version: 1\ntitle: t\nrdp: none\ndomain: intermediate\n\
        machines: [{role: analyst, image: a, memory_mib: 96}]";
    let alone = world.granted("alice", alone, 1);
    let without = world.grant("alice", None, BAIT);
    world.settle();
    let sample = [(HERS, None)];
    let no = |id, by, why| refused(&world, "alice", id, by, &sample, (ErrorCode::Conflict, why));
    no(alone, InjectBy::Disc, "has no machine that samples are put before");
    no(without, InjectBy::Disc, "belongs to no data domain");
    no(bait, InjectBy::Agent, "lets no samples in by the guest's agent");
}

#[test]
fn only_a_guest_that_runs_takes_samples() {
    let (world, id) = begun();
    let sample = [(HERS, None)];
    let no = |why| {
        let reason = (ErrorCode::Conflict, why);
        refused(&world, "alice", id, InjectBy::Disc, &sample, reason);
    };
    let power =
        |action| Request::EnvironmentPower { id, role: Some(MachineRole::Debuggee), action };
    world.ask("alice", power(PowerAction::Kill)).expect("off");
    no("the debuggee is off, or just being started");
    world.settle();
    no("the debuggee is off, or just being started");
    world.ask("alice", power(PowerAction::On)).expect("on");
    no("the debuggee is off, or just being started");
    world.settle();
    world.revert(id);
    no("the debuggee is off, or just being started");
    world.settle();
    world.inject("alice", id, InjectBy::Disc, &sample).expect("it runs");
    world.ask("alice", Request::EnvironmentEnd { id }).expect("ends");
    no("has ended");
    world.settle();
    no("has ended");
    world.later(101);
    world.settle();
    no("has ended");
}

#[test]
fn whose_account_is_suspended_is_not_heard() {
    let (world, _) = begun();
    let alice = world.lab.daemon.db.read(|r| r.account(&"alice".parse().expect("a name")));
    let alice = alice.expect("there").id;
    world.lab.daemon.service.account_of(alice).expect("active");
    let suspend = Request::AccountSuspend {
        name: "alice".parse().expect("a name"),
        suspend: true,
        reason: "a test".into(),
    };
    world.ask("sato", suspend).expect("suspended");
    let refused = world.lab.daemon.service.account_of(alice).expect_err("suspended");
    assert_eq!(refused.code, ErrorCode::Forbidden);
}

#[test]
fn a_sample_of_another_edition_is_as_unknown_as_one_that_nobody_has() {
    let (world, id) = begun();
    let [theirs, nobodys, reports] = ["b2", "c3", "d4"].map(|two| two.repeat(32));
    world.has("mws", &theirs, Some(68));
    world.has("intermediate", &reports, None);
    let message = |hash: &str| {
        let no = world.inject("alice", id, InjectBy::Disc, &[(hash, None)]).expect_err("refused");
        assert_eq!(no.code, ErrorCode::NotFound);
        assert_eq!(
            no.help,
            world
                .inject("alice", id, InjectBy::Disc, &[(&nobodys, None)])
                .expect_err("refused")
                .help
        );
        no.message.replace(hash, "HASH")
    };
    assert_eq!(message(&theirs), "there is no sample HASH in the data domain `intermediate`");
    assert_eq!(message(&theirs), message(&nobodys));
    assert!(message(&reports).starts_with("there are only reports of the sample HASH"));
    // The environment's data domain counts, not that of whoever asks.
    let (his, theirs) = (world.grant("bob", Some("mws"), BAIT), [(&*theirs, None)]);
    world.settle();
    world.inject("bob", his, InjectBy::Disc, &theirs).expect("his");
    let reason = (ErrorCode::NotFound, "there is no sample");
    refused(&world, "root", id, InjectBy::Disc, &theirs, reason);
    // One bad among good ones: none goes.
    let mixed = [(HERS, None), (&*nobodys, None)];
    refused(&world, "alice", id, InjectBy::Disc, &mixed, (ErrorCode::NotFound, &nobodys));
}

#[test]
fn what_is_said_of_a_sample_must_be_of_it() {
    let (world, id) = begun();
    let other = "e5".repeat(32);
    world.says("intermediate", &other, &page(HERS, Some(1)));
    let one = [(&*other, None)];
    refused(&world, "alice", id, InjectBy::Disc, &one, (ErrorCode::NotFound, "no sample"));
    for (said, why) in [
        ("{\"error\":\"the index is\\u001b[2J torn\"}", "torn"),
        ("nonsense", "said what cannot be"),
        (&page("../../etc/passwd", Some(1)), "said what cannot be"),
    ] {
        world.says("intermediate", &other, said);
        let no = (ErrorCode::Internal, why);
        refused(&world, "alice", id, InjectBy::Disc, &one, no);
        let told = world.inject("alice", id, InjectBy::Disc, &one).expect_err(why).message;
        assert!(!told.contains('\u{1b}'), "{told:?}");
    }
}

#[test]
fn samples_that_are_too_many_or_of_bad_names_are_refused() {
    let (world, id) = begun();
    let no = |samples: &[(&str, Option<&str>)], why| {
        refused(&world, "alice", id, InjectBy::Disc, samples, (ErrorCode::Invalid, why));
    };
    no(&[], "1 to 16 samples go at once, not 0");
    let names: Vec<String> = (0..17).map(|n| format!("{n}.bin")).collect();
    let many: Vec<_> = names.iter().map(|name| (HERS, Some(&**name))).collect();
    no(&many, "1 to 16 samples go at once, not 17");
    for bad in ["../x", "", "a/b", "nul", "a\nb", "-rf", "名", &"a".repeat(100)] {
        no(&[(HERS, Some(bad))], "name of a");
    }
    no(&[(HERS, Some("a.exe")), (HERS, Some("A.EXE"))], "two files have the name");
    no(&[(HERS, None), (HERS, None)], "two files have the name");
    for bad in [&HERS[1..], &HERS.to_uppercase(), "", "../../../etc/passwd"] {
        no(&[(bad, None)], "a sample is named by its SHA-256");
    }
    world.inject("alice", id, InjectBy::Disc, &many[..16]).expect("sixteen go");
}

#[test]
fn samples_that_are_too_long_for_their_way_are_refused() {
    let world = World::new();
    let id = world.grant("alice", Some("intermediate"), AGENT);
    world.settle();
    let [half, more] = ["f6", "17"].map(|two| two.repeat(32));
    world.has("intermediate", &half, Some(32 << 20));
    world.has("intermediate", &more, Some((32 << 20) + 1));
    let both = [(&*half, None), (&*more, None)];
    let no = (ErrorCode::Invalid, "these samples have 65 MiB together, and by agent go 64 MiB");
    refused(&world, "alice", id, InjectBy::Agent, &both, no);
    world.has("intermediate", &more, Some((700 << 20) - (32 << 20) + 1));
    let no = (ErrorCode::Invalid, "these samples have 701 MiB together, and by disc go 700 MiB");
    refused(&world, "alice", id, InjectBy::Disc, &both, no);
    for length in [&half, &more] {
        world.has("intermediate", length, Some(u64::MAX));
    }
    let no = (ErrorCode::Invalid, "MiB together, and by disc go 700 MiB");
    refused(&world, "alice", id, InjectBy::Disc, &both, no);
    for length in [&half, &more] {
        world.has("intermediate", length, Some(32 << 20));
    }
    world.inject("alice", id, InjectBy::Agent, &both).expect("just as much as goes");
}

/// Samples are looked for by programs, which takes a while: the guest may be another after it.
#[test]
fn a_guest_that_is_another_by_the_time_the_sample_is_found_is_not_shown_it() {
    for ends in [false, true] {
        let (world, id) = begun();
        let found = page(HERS, Some(68));
        let pipe = world.awaits("intermediate", HERS);
        thread::scope(|scope| {
            let asked = scope.spawn(|| world.inject("alice", id, InjectBy::Disc, &[(HERS, None)]));
            // Nobody can open it before the program looks for it.
            let mut options = fs::OpenOptions::new();
            options.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
            let mut opened = None;
            until(Duration::from_secs(60), || {
                opened = options.open(&pipe).ok();
                opened.is_some()
            });
            match ends {
                true => drop(world.ask("alice", Request::EnvironmentEnd { id }).expect("ends")),
                false => world.revert(id),
            }
            world.settle();
            opened.take().expect("open").write_all(found.as_bytes()).expect("told");
            let refused = asked.join().expect("no panic").expect_err("another guest");
            assert_eq!(refused.code, ErrorCode::Conflict, "{refused:?}");
            let why = if ends { "has ended" } else { "is another by now" };
            assert!(refused.message.contains(why), "{refused:?}");
        });
        assert!(world.rows().is_empty(), "nothing was wanted");
    }
}

#[test]
fn a_search_that_makes_no_sense_is_told_to_who_asked_and_is_no_failure() {
    let (world, _) = begun();
    for (answer, code, message) in [
        (r#"{"refused":"ask for\u001b words"}"#, ErrorCode::Invalid, "ask for  words"),
        (
            r#"{"error":"the day is broken"}"#,
            ErrorCode::Internal,
            "search the samples of `intermediate`: the day is broken",
        ),
    ] {
        world.says("intermediate", "abc", answer);
        let query = SampleQuery { hash: "abc".into(), ..SampleQuery::default() };
        let list = Request::SampleList { domain: None, query };
        let no = world.ask("alice", list).expect_err(message);
        assert_eq!((no.code, no.message.as_str()), (code, message));
    }
}

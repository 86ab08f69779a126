//! How much may come, and what is told of that.

use crate::lab::{E1, E2, LAB, World, at, wait};
use nonstop_api::airlock::{Answer, Ask, Denial, DenialKind, ENTRIES_AT_ONCE};
use nonstop_model::{BlobId, ExportId, ExportState, MachineId, Root, screening::Verdict};
use nonstop_store::{ByHash, Clients, NameError, NewContent, Screening, StoreError, Tree};
use nonstopd::{Clock, transfers::MOST_NAMES};
use std::{sync::mpsc, thread, time::Duration};

const MIB: u64 = 1 << 20;

#[test]
fn outside_is_told_its_own_quota_and_nothing_done_inside_changes_it() {
    let world = World::new();
    let (machine, alice) = (world.machine(), world.alice());
    assert_eq!(alice.quota(at(E1, Root::Import, "")), (0, 4 * MIB));
    machine.put(at(E1, Root::Export, "a"), &vec![b'x'; 7 << 20]).expect("put");
    assert_eq!(alice.quota(at(E1, Root::Import, "")), (0, 4 * MIB));
    assert_eq!(machine.quota(at(E1, Root::Export, "")), (7 * MIB, MIB));
    alice.put(at(E1, Root::Import, "a"), &vec![b'x'; 3 << 20]).expect("put");
    assert_eq!(alice.quota(at(E1, Root::Import, "")), (3 * MIB, MIB));
    let denial = alice.create(at(E1, Root::Import, "b"), Some(2 * MIB)).expect_err("too much");
    assert_eq!(denial.kind, DenialKind::Quota);
    // The same name again has the room of what it held.
    alice.put(at(E1, Root::Import, "a"), &vec![b'y'; 4 << 20]).expect("put");
    // Without a length it is known at the end.
    let (ticket, file) = machine.create(at(E1, Root::Export, "b"), None).expect("a file");
    file.set_len(MIB + 1).expect("set");
    drop(file);
    let kind = machine.commit(ticket).expect_err("too much").kind;
    assert!([DenialKind::Quota, DenialKind::NotFound].contains(&kind), "{kind:?}");
    assert_eq!(machine.names(at(E1, Root::Export, "")), Ok(vec!["a".into()]));
    assert_eq!(
        machine.ask(Ask::Quota { place: at(E1, Root::Import, "") }).expect_err("not theirs").kind,
        DenialKind::ReadOnly
    );
}

#[test]
fn names_that_differ_in_case_or_form_are_two_and_odd_ones_are_kept() {
    let world = World::new();
    let machine = world.machine();
    for name in ["A.csv", "a.csv", "が", "か\u{3099}", "CON", "a.", "-rf", "a\\b"] {
        machine.put(at(E1, Root::Export, name), name.as_bytes()).expect("kept");
    }
    for name in ["A.csv", "a.csv", "が", "か\u{3099}"] {
        assert_eq!(machine.get(at(E1, Root::Export, name)), Ok(name.as_bytes().to_vec()));
    }
    wait("all to be released", || {
        let released = world.db.read(|r| r.released(E1)).ok()?;
        (released.len() == 8).then_some(())
    });
}

#[test]
fn a_name_that_is_written_to_again_and_again_is_an_export_once_it_is_left_alone() {
    let world = World::with(&LAB.replace("quiet_seconds: 1", "quiet_seconds: 4"));
    let machine = world.machine();
    for n in 0..6 {
        machine.put(at(E1, Root::Export, "log"), format!("{n}").as_bytes()).expect("put");
        thread::sleep(Duration::from_millis(300));
    }
    world.until(1, ExportState::Released);
    assert_eq!(world.alice().get(at(E1, Root::Export, "log")), Ok(b"5".to_vec()));
    // Temporary names and empty files are none, until they get another name or something to hold.
    machine.put(at(E1, Root::Export, "~$a.docx"), b"lock").expect("put");
    machine.put(at(E1, Root::Export, "a.tmp"), b"text").expect("put");
    machine.put(at(E1, Root::Export, "empty"), b"").expect("put");
    thread::sleep(Duration::from_millis(4600));
    assert_eq!(world.actions("x2"), Vec::<String>::new());
    let moved = Ask::Move {
        from: at(E1, Root::Export, "a.tmp"),
        to: "a.docx".parse().expect("a path"),
        replace: true,
    };
    machine.ask(moved).expect("moved");
    assert_eq!(world.until(2, ExportState::Released).path.as_str(), "a.docx");
}

#[test]
fn what_was_on_its_way_is_withdrawn_with_its_name() {
    let world = World::new();
    let machine = world.machine();
    machine.ask(Ask::MakeFolder { place: at(E1, Root::Export, "d") }).expect("made");
    for name in ["d/a", "d/b", "c"] {
        machine.put(at(E1, Root::Export, name), b"HOLD").expect("put");
    }
    for number in 1..=3 {
        world.until(number, ExportState::Held);
    }
    machine.ask(Ask::Remove { place: at(E1, Root::Export, "c") }).expect("removed");
    world.until(3, ExportState::Withdrawn);
    // A folder that gets another name takes what is in it along.
    let to = "e".parse().expect("a path");
    machine.ask(Ask::Move { from: at(E1, Root::Export, "d"), to, replace: false }).expect("moved");
    world.until(1, ExportState::Withdrawn);
    let again = world.until(4, ExportState::Held);
    assert_eq!((again.path.as_str(), again.version), ("e/a", 1));
    machine.put(at(E1, Root::Export, "e/a"), b"HOLD again").expect("put");
    world.until(4, ExportState::Withdrawn);
    assert_eq!(world.until(6, ExportState::Held).version, 2);
    let denial = world.transfers.decide("sato", world.export(4).id, true, "late");
    assert!(denial.expect_err("withdrawn").to_string().contains("it is withdrawn"));
}

#[test]
fn an_environment_that_gives_a_thousand_files_lets_anothers_pass() {
    let world = World::new();
    *world.screener.slow.lock().expect("whole") = Duration::from_millis(150);
    let (machine, other) = (world.machine(), world.other_machine());
    for n in 0..100 {
        machine.put(at(E1, Root::Export, &format!("{n}")), b"x").expect("put");
    }
    other.put(at(crate::lab::E2, Root::Export, "one"), b"x").expect("put");
    world.until(101, ExportState::Released);
    let waiting = world.db.read(|r| r.exports_to_screen()).expect("read");
    assert!(!waiting.is_empty(), "the hundred are not done yet");
    let about = world.screener.seen.lock().expect("whole").last().cloned().expect("seen");
    assert!(about.day_bytes > 0 && about.period_bytes >= about.day_bytes, "{about:?}");
}

#[test]
fn a_capture_is_read_inside_and_not_seen_outside() {
    let world = World::new();
    let folder = world.lab.captures().join("e1/link");
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("a.pcap"), b"packets").expect("written");
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).expect("linked");
    let machine = world.machine();
    assert_eq!(machine.names(at(E1, Root::Capture, "")), Ok(vec!["link".into()]));
    assert_eq!(machine.names(at(E1, Root::Capture, "link")), Ok(vec!["a.pcap".into()]));
    assert_eq!(machine.get(at(E1, Root::Capture, "link/a.pcap")), Ok(b"packets".to_vec()));
    assert!(machine.get(at(E1, Root::Capture, "link/link")).is_err());
    assert!(machine.put(at(E1, Root::Capture, "x"), b"x").is_err());
    let alice = world.alice();
    for path in ["", "link", "link/a.pcap"] {
        let denial = alice.look(at(E1, Root::Capture, path)).expect_err("not outside");
        assert_eq!(denial.kind, DenialKind::NotFound);
    }
    assert!(matches!(machine.ask(Ask::Exports), Ok(Answer::Exports { .. })));
}

#[test]
fn a_folder_of_very_many_long_names_is_listed_whole() {
    let world = World::new();
    // Each of these is twice as long on its way.
    let name = |n: usize| format!("{}{n:05}", "\"".repeat(250));
    let tree =
        Tree { environment: E1, root: Root::Export, names: MOST_NAMES, bytes: 1, due_at: None };
    world
        .db
        .write("machine:m1", world.clock.now(), |w| {
            for n in 0..6000 {
                w.make_folder(&tree, &name(n).parse().expect("a path"))?;
            }
            Ok::<_, NameError>(())
        })
        .expect("made");
    let machine = world.machine();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let ask = Ask::List { place: at(E1, Root::Export, ""), after };
        let Ok(Answer::Entries(entries)) = machine.ask(ask) else { panic!("no entries") };
        let last = entries.len() < ENTRIES_AT_ONCE;
        seen.extend(entries.into_iter().filter_map(|entry| entry.name));
        after = seen.last().cloned();
        if last {
            break;
        }
    }
    let seen: Vec<String> = seen.into_iter().map(String::from).collect();
    assert_eq!(seen.len(), 6000);
    assert!(seen.iter().enumerate().all(|(n, seen)| *seen == name(n)));
}

/// Asks again while that is too fast, which is another bound.
fn not_too_fast<T>(mut ask: impl FnMut() -> Result<T, Denial>) -> Result<T, Denial> {
    wait("an answer that is not too fast", || match ask() {
        Err(denial) if denial.kind == DenialKind::Busy => None,
        answered => Some(answered),
    })
}

#[test]
fn a_loop_of_moves_does_not_fill_the_trace_and_all_else_goes_on() {
    let world = World::new();
    let alice = world.alice();
    let long = |letter: &str| at(E1, Root::Import, &letter.repeat(255));
    alice.put(long("a"), b"x").expect("put");
    let (mut from, mut to) = (long("a"), long("b"));
    let mut moves = 0;
    let denial = loop {
        let ask = Ask::Move { from: from.clone(), to: to.path.clone(), replace: false };
        match not_too_fast(|| alice.ask(ask.clone())) {
            Ok(_) => moves += 1,
            Err(denial) => break denial,
        }
        std::mem::swap(&mut from, &mut to);
        assert!(moves < 20_000, "there is no end to it");
    };
    assert_eq!(denial.kind, DenialKind::Spent, "{denial}");
    assert!(denial.message.contains(" more come in a day, the next in "), "{denial}");
    let moved = world.actions("e1").into_iter().filter(|action| action == "import.move").count();
    assert!(moved == moves && moves > 1000, "{moved} {moves}");
    // A file that is brought costs less than a long move.
    let put = || not_too_fast(|| alice.put(at(E1, Root::Import, "c"), b"x"));
    let denial = (0..5).find_map(|_| put().err()).expect("room for a few at most");
    assert_eq!(denial.kind, DenialKind::Spent, "{denial}");
    assert_eq!(alice.get(from), Ok(b"x".to_vec()));
    world.bob().put(at(E2, Root::Import, "b"), b"x").expect("another's");
    world.machine().put(at(E1, Root::Export, "b"), b"x").expect("what goes the other way");
    alice.ask(Ask::Remove { place: at(E1, Root::Import, "") }).expect_err("the root stays");
}

#[test]
fn what_a_machine_is_told_of_its_exports_fits_however_much_was_found() {
    let world = World::new();
    let tree = Tree {
        environment: E1,
        root: Root::Export,
        names: MOST_NAMES,
        bytes: 1 << 30,
        due_at: Some(world.clock.now()),
    };
    let finding = |n: usize| {
        let says = "\"".repeat(400);
        serde_json::json!({ "rule": format!("yara.{n:090}"), "verdict": "hold", "says": says,
            "mend": says, "says_ja": says, "mend_ja": says })
    };
    let findings = serde_json::json!((0..30).map(finding).collect::<Vec<_>>());
    for first in [0, 500] {
        let made = world.db.write("nonstopd", world.clock.now(), |w| {
            for n in first..first + 500 {
                let blob = BlobId::from_bits(n);
                let machine = Some(MachineId(1));
                let new = NewContent { blob: &blob, bytes: 1, machine };
                w.put_file(&tree, &format!("{n}").parse().expect("a path"), new)?;
                for id in w.submit_due(10)? {
                    w.begin_screening(id)?;
                    let screening = Screening {
                        at: world.clock.now(),
                        ms: 1,
                        sha256: format!("{n:064x}"),
                        content_type: "text/plain".into(),
                        verdict: Verdict::Hold,
                        findings: findings.clone(),
                        rules_digest: None,
                    };
                    w.export_screened(id, &screening, None)?;
                }
            }
            Ok::<_, NameError>(())
        });
        made.expect("made");
    }
    let asked = world.machine().ask(Ask::Exports);
    let Ok(Answer::Exports { told, more }) = asked else { panic!("{asked:?}") };
    let bytes = serde_json::to_vec(&told).expect("JSON").len();
    assert!(bytes <= 513 << 10, "{bytes}");
    assert!(more && told.len() > 300, "{} of a thousand", told.len());
    assert!(told.is_sorted_by(|a, b| a.id > b.id));
    assert_eq!((told[0].findings.len(), told[0].findings[0].says.len()), (20, 400));
    let last = &told[told.len() - 1].findings;
    assert_eq!((last.len(), last[0].verdict.as_str(), last[0].says.as_str()), (6, "hold", ""));
}

#[test]
fn what_is_taken_back_while_it_is_screened_and_then_blocked_is_seen_by_operators() {
    let world = World::new();
    *world.screener.slow.lock().expect("whole") = Duration::from_secs(4);
    let machine = world.machine();
    machine.put(at(E1, Root::Export, "stolen"), b"BLOCKED").expect("put");
    world.until(1, ExportState::Screening);
    machine.ask(Ask::Remove { place: at(E1, Root::Export, "stolen") }).expect("removed");
    world.until(1, ExportState::Withdrawn);
    let blocked = world.until(1, ExportState::Blocked);
    assert_eq!(blocked.kept, Some(ByHash::Quarantine));
    let rows = world.trace().into_iter().filter(|row| row.subject == "x1");
    let told: Vec<_> = rows.map(|row| (row.action, row.detail["withdrawn"].as_bool())).collect();
    assert_eq!(told.last(), Some(&("export.block".to_string(), Some(true))), "{told:?}");
    assert_eq!(machine.names(at(E1, Root::Export, "")), Ok(vec![]));
}

#[test]
fn as_many_files_as_a_machine_may_write_at_once_keep_nobody_outside_from_writing() {
    let world = World::new();
    let machines: Vec<_> = (0..8).map(|_| world.machine()).collect();
    for (m, machine) in machines.iter().enumerate() {
        for n in 0..16 {
            // Closed at once; it is being written for as long as it is not committed.
            machine.create(at(E1, Root::Export, &format!("{m}-{n}")), Some(1)).expect("a file");
        }
    }
    let one_more = world.machine().create(at(E1, Root::Export, "more"), Some(1));
    assert_eq!(one_more.expect_err("too many").kind, DenialKind::Busy);
    world.alice().put(at(E1, Root::Import, "a"), b"x").expect("put");
}

#[test]
fn whoever_lists_keeps_neither_the_other_side_nor_the_daemon_from_reading() {
    let world = World::new();
    let (machine, alice) = (world.machine(), world.alice());
    let (done, all) = mpsc::channel();
    thread::scope(|scope| {
        // The daemon's own reader is held, as by a login; both sides are answered.
        world
            .db
            .read(|_| {
                for (client, root) in [(&machine, Root::Export), (&alice, Root::Import)] {
                    let done = done.clone();
                    scope.spawn(move || done.send(client.names(at(E1, root, ""))));
                }
                for _ in 0..2 {
                    let answered = all.recv_timeout(Duration::from_secs(30));
                    assert_eq!(answered.expect("answered meanwhile"), Ok(vec![]));
                }
                Ok::<_, StoreError>(())
            })
            .expect("read");
        // A machine's long listing holds its side's; a person, and the daemon, are answered.
        world
            .db
            .read_for(Clients::Machines, |_| {
                let done = done.clone();
                scope.spawn(|| {
                    let done = done;
                    let daemon = world.db.read(|r| r.accounts());
                    daemon.unwrap_or_else(|e: StoreError| panic!("{e}"));
                    done.send(alice.names(at(E1, Root::Export, "")))
                });
                let answered = all.recv_timeout(Duration::from_secs(30));
                assert_eq!(answered.expect("answered meanwhile"), Ok(vec![]));
                Ok::<_, StoreError>(())
            })
            .expect("read");
    });
}

#[test]
fn a_large_folder_is_not_moved_without_end_and_keeps_nobody_else_from_anything() {
    let world = World::new();
    let tree =
        Tree { environment: E1, root: Root::Export, names: MOST_NAMES, bytes: 1, due_at: None };
    world
        .db
        .write("machine:m1", world.clock.now(), |w| {
            w.make_folder(&tree, &"d0".parse().expect("a path"))?;
            for n in 0..6000 {
                w.make_folder(&tree, &format!("d0/{n}").parse().expect("a path"))?;
            }
            Ok::<_, NameError>(())
        })
        .expect("made");
    let machine = world.machine();
    let moved = |n: u32| {
        let to = format!("d{}", n + 1).parse().expect("a path");
        let from = at(E1, Root::Export, &format!("d{n}"));
        machine.ask(Ask::Move { from, to, replace: false })
    };
    let (n, denial) = (0..100).find_map(|n| Some((n, moved(n).err()?))).expect("some are too many");
    assert!(n > 0, "it was moved");
    assert_eq!(denial.kind, DenialKind::Busy);
    world.other_machine().put(at(crate::lab::E2, Root::Export, "a"), b"x").expect("put");
    world.alice().put(at(E1, Root::Import, "a"), b"x").expect("put");
    wait("its next move", || moved(n).ok());
}

#[test]
fn outside_sees_folders_page_by_page_and_nothing_below_a_file_that_took_their_place() {
    let world = World::new();
    let (machine, alice) = (world.machine(), world.alice());
    let put = |path: &str, number| {
        machine.put(at(E1, Root::Export, path), path.as_bytes()).expect("put");
        world.until(number, ExportState::Released);
    };
    for folder in ["d", "d/e", "f"] {
        machine.ask(Ask::MakeFolder { place: at(E1, Root::Export, folder) }).expect("made");
    }
    for (n, path) in ["d/e/one", "d/two", "d-", "d0", "f/a"].iter().enumerate() {
        put(path, u32::try_from(n + 1).expect("small"));
    }
    let names = |folder: &str| alice.names(at(E1, Root::Export, folder)).expect("listed");
    assert_eq!(names(""), ["d", "d-", "d0", "f"]);
    assert_eq!(names("d"), ["e", "two"]);
    assert_eq!(names("d/e"), ["one"]);
    let after = |name: &str| {
        let after = Some(name.parse().expect("a name"));
        let ask = Ask::List { place: at(E1, Root::Export, ""), after };
        let Ok(Answer::Entries(all)) = alice.ask(ask) else { panic!("no entries") };
        all.into_iter().filter_map(|entry| entry.name.map(String::from)).collect::<Vec<_>>()
    };
    assert_eq!(after("d"), ["d-", "d0", "f"]);
    assert_eq!(after("d-"), ["d0", "f"]);
    assert_eq!(after("f"), Vec::<String>::new());
    // What is a file now was a folder once: the later release is seen.
    machine.ask(Ask::Remove { place: at(E1, Root::Export, "d") }).expect("removed");
    put("d", 6);
    assert_eq!(names(""), ["d", "d-", "d0", "f"]);
    assert!(alice.look(at(E1, Root::Export, "d/two")).is_err());
    assert_eq!(alice.get(at(E1, Root::Export, "d")), Ok(b"d".to_vec()));
    // And is not seen again once it was taken back.
    world.transfers.revoke("sato", ExportId(6), "a mistake").expect("revoked");
    assert_eq!(names("d"), ["e", "two"]);
}

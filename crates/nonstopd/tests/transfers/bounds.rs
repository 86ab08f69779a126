//! How much may come, and what is told of that.

use crate::lab::{E1, LAB, World, at, wait};
use nonstop_api::airlock::{Answer, Ask, DenialKind, ENTRIES_AT_ONCE};
use nonstop_model::{ExportState, Root};
use nonstop_store::{ByHash, NameError, Tree};
use nonstopd::{Clock, transfers::MOST_NAMES};
use std::{thread, time::Duration};

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
    assert!(matches!(machine.ask(Ask::Exports), Ok(Answer::Exports(_))));
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

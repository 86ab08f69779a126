//! What becomes of a file, seen from both sides.

use crate::lab::{E1, E2, World, at, digest, wait};
use nonstop_api::airlock::{Answer, Ask, DenialKind, EntryKind};
use nonstop_model::{ExportId, ExportState, Root};
use std::fs;

#[test]
fn a_file_that_a_machine_gives_is_seen_outside_once_it_is_released() {
    let world = World::new();
    let (machine, alice) = (world.machine(), world.alice());
    machine.ask(Ask::MakeFolder { place: at(E1, Root::Export, "結果") }).expect("made");
    machine.put(at(E1, Root::Export, "結果/a.csv"), b"1,2\n").expect("put");
    let export = world.until(1, ExportState::Released);
    assert_eq!((export.path.as_str(), export.version, export.bytes), ("結果/a.csv", 1, 4));
    assert_eq!(alice.names(at(E1, Root::Export, "")), Ok(vec!["結果".into()]));
    assert_eq!(alice.get(at(E1, Root::Export, "結果/a.csv")), Ok(b"1,2\n".to_vec()));
    let seen = alice.look(at(E1, Root::Export, "結果/a.csv")).expect("there");
    let tag = hex::encode(digest(b"1,2\n"));
    assert_eq!(seen.what, EntryKind::File { bytes: 4, tag: tag.clone() });
    assert_eq!(Some(seen.modified_at), export.released_at);
    assert_eq!(fs::read(world.lab.trace_store().join(tag)).expect("kept"), b"1,2\n");
    assert_eq!(
        world.actions("x1"),
        ["export.submit", "export.screen", "export.release", "test.seal"]
    );
    // Nobody else sees it, and nobody can write there.
    let bob = world.bob();
    for place in [at(E1, Root::Export, "結果/a.csv"), at(E1, Root::Export, "")] {
        assert_eq!(bob.look(place).expect_err("not theirs").kind, DenialKind::NotFound);
    }
    assert_eq!(bob.names(at(E2, Root::Export, "")), Ok(vec![]));
    let denial = alice.put(at(E1, Root::Export, "b"), b"x").expect_err("read-only");
    assert_eq!(denial.kind, DenialKind::ReadOnly);
    let other = world.other_machine();
    let denial = other.look(at(E1, Root::Export, "結果/a.csv")).expect_err("not theirs");
    assert_eq!(denial.kind, DenialKind::NotFound);
}

#[test]
fn outside_keeps_the_released_version_until_the_next_is_released() {
    let world = World::new();
    let (machine, alice) = (world.machine(), world.alice());
    machine.put(at(E1, Root::Export, "a"), b"first").expect("put");
    world.until(1, ExportState::Released);
    machine.put(at(E1, Root::Export, "a"), b"HOLD second").expect("put");
    let held = world.until(2, ExportState::Held);
    assert_eq!(held.version, 2);
    assert_eq!(alice.get(at(E1, Root::Export, "a")), Ok(b"first".to_vec()));
    world.transfers.decide("sato", ExportId(2), true, "fine").expect("released");
    assert_eq!(alice.get(at(E1, Root::Export, "a")), Ok(b"HOLD second".to_vec()));
    let twice = world.transfers.decide("suzuki", ExportId(2), false, "no").expect_err("decided");
    assert!(twice.to_string().contains("by sato since"), "{twice}");
    world.transfers.revoke("sato", ExportId(2), "a mistake").expect("revoked");
    assert_eq!(alice.get(at(E1, Root::Export, "a")), Ok(b"first".to_vec()));
    machine.ask(Ask::Remove { place: at(E1, Root::Export, "a") }).expect("removed");
    assert_eq!(alice.get(at(E1, Root::Export, "a")), Ok(b"first".to_vec()), "it was released");
}

#[test]
fn a_blocked_file_goes_from_the_machines_view_into_the_quarantine() {
    let world = World::new();
    let machine = world.machine();
    machine.put(at(E1, Root::Export, "a.zip"), b"BLOCKED").expect("put");
    let export = world.until(1, ExportState::Blocked);
    let denial = machine.look(at(E1, Root::Export, "a.zip")).expect_err("gone");
    assert_eq!(denial.kind, DenialKind::NotFound);
    assert_eq!(world.alice().names(at(E1, Root::Export, "")), Ok(vec![]));
    let sha256 = hex::encode(digest(b"BLOCKED"));
    let quarantined = world.lab.quarantine().join("exports").join(&sha256);
    assert_eq!(fs::read(quarantined).expect("kept"), b"BLOCKED");
    assert!(!world.lab.trace_store().join(sha256).exists());
    let Ok(Answer::Exports { told, .. }) = machine.ask(Ask::Exports) else { panic!("not told") };
    assert_eq!((told[0].id, told[0].state), (ExportId(1), ExportState::Blocked));
    assert_eq!(told[0].findings[0].rule, "encrypted");
    let files = world.lab.exports().join("files");
    // The file goes first, and its row when that is on the disk.
    wait("the content to go", || {
        world.db.read(|r| r.blob(&export.blob)).expect("read").is_none().then_some(())
    });
    assert_eq!(fs::read_dir(&files).expect("contents").count(), 0);
}

#[test]
fn an_import_is_seen_inside_once_it_was_looked_at() {
    let world = World::new();
    let (machine, alice) = (world.machine(), world.alice());
    alice.put(at(E1, Root::Import, "tool.sh"), b"echo").expect("put");
    let got =
        wait("the import to be visible", || machine.get(at(E1, Root::Import, "tool.sh")).ok());
    assert_eq!(got, b"echo");
    assert_eq!(world.actions("i1"), ["import.create", "import.check"]);
    let denial = machine.put(at(E1, Root::Import, "tool.sh"), b"x").expect_err("read-only");
    assert_eq!(denial.kind, DenialKind::ReadOnly);
    alice.put(at(E1, Root::Import, "bad"), b"BLOCKED").expect("put");
    wait("the scan", || (world.actions("i2").len() == 2).then_some(()));
    assert!(machine.get(at(E1, Root::Import, "bad")).is_err());
    assert_eq!(machine.names(at(E1, Root::Import, "")), Ok(vec!["tool.sh".into()]));
    assert_eq!(alice.names(at(E1, Root::Import, "")), Ok(vec!["bad".into(), "tool.sh".into()]));
    alice.ask(Ask::Remove { place: at(E1, Root::Import, "tool.sh") }).expect("removed");
    assert!(machine.get(at(E1, Root::Import, "tool.sh")).is_err());
    assert_eq!(world.actions("i1").last().map(String::as_str), Some("import.remove"));
}

//! The power is cut, or the disk is full, before each effect in turn: what was acknowledged is there,
//! nothing is left over, and nothing unscreened is seen outside.

use crate::lab::{Client, E1, LAB, World, at, digest};
use nonstop_api::airlock::Ask;
use nonstop_model::{ExportId, ExportState, Root};
use nonstop_store::{ByHash, Which};
use nonstopd::publisher::{Hand, Steady};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, ErrorKind},
    path::Path,
    sync::{Arc, Mutex},
};

/// A hand that fails from one effect on.
#[derive(Debug, Default)]
struct Cutter {
    cut: Option<usize>,
    full: bool,
    state: Mutex<(Vec<String>, bool)>,
}

impl Hand for Cutter {
    fn about_to(&self, what: &str) -> io::Result<()> {
        let mut state = self.state.lock().expect("whole");
        if self.cut == Some(state.0.len()) {
            state.1 = true;
        }
        if state.1 {
            let kind = if self.full { ErrorKind::StorageFull } else { ErrorKind::Other };
            return Err(kind.into());
        }
        state.0.push(what.into());
        Ok(())
    }
}

/// What was acknowledged: what each name holds.
type Known = BTreeMap<(Root, String), Vec<u8>>;

/// Puts `bytes`, if it is let to; what is not known to have happened may be either.
fn put(client: &Client, known: &mut Known, unsure: &mut Known, at_: (Root, &str), bytes: &[u8]) {
    let key = (at_.0, at_.1.to_string());
    match client.put(at(E1, at_.0, at_.1), bytes) {
        Ok(_) => {
            known.insert(key, bytes.to_vec());
        }
        Err(_) => {
            unsure.insert(key, bytes.to_vec());
        }
    }
}

/// A researcher's day; returns what was acknowledged, and what may have happened beside that.
fn day(world: &World) -> (Known, Known) {
    let (mut known, mut unsure) = (Known::new(), Known::new());
    let (machine, alice) = (world.machine(), world.alice());
    put(&alice, &mut known, &mut unsure, (Root::Import, "tool"), b"a tool");
    put(&machine, &mut known, &mut unsure, (Root::Export, "a"), b"first");
    put(&machine, &mut known, &mut unsure, (Root::Export, "b"), b"HOLD");
    put(&machine, &mut known, &mut unsure, (Root::Export, "c"), b"BLOCKED");
    let folder = machine.ask(Ask::MakeFolder { place: at(E1, Root::Export, "d") });
    if folder.is_ok() {
        put(&machine, &mut known, &mut unsure, (Root::Export, "d/e.tmp"), b"office");
    }
    world.clock.move_on(2);
    world.transfers.work_off();
    put(&machine, &mut known, &mut unsure, (Root::Export, "a"), b"second");
    let to = "d/e".parse().expect("a path");
    let moved = Ask::Move { from: at(E1, Root::Export, "d/e.tmp"), to, replace: true };
    if machine.ask(moved).is_ok()
        && let Some(bytes) = known.remove(&(Root::Export, "d/e.tmp".into()))
    {
        known.insert((Root::Export, "d/e".into()), bytes);
    }
    let removed = Ask::Remove { place: at(E1, Root::Import, "tool") };
    if alice.ask(removed).is_ok() {
        known.remove(&(Root::Import, "tool".into()));
    } else if let Some(bytes) = known.remove(&(Root::Import, "tool".into())) {
        unsure.insert((Root::Import, "tool".into()), bytes);
    }
    let _ = world.transfers.decide("sato", ExportId(2), true, "fine");
    world.clock.move_on(2);
    world.transfers.work_off();
    (known, unsure)
}

/// What must hold once a new daemon has worked off what was left.
fn check(world: &World, known: &Known, unsure: &Known, what: &str) {
    world.clock.move_on(10);
    world.transfers.work_off();
    let (machine, alice) = (world.machine(), world.alice());
    let exports = world.db.read(|r| r.exports(Some(E1), None, Which::All)).expect("read");
    for export in &exports {
        assert!(!export.state.is_under_way(), "{what}: {} is {}", export.id, export.state);
    }
    let blocked = |path: &str| {
        exports.iter().any(|e| e.path.as_str() == path && e.state == ExportState::Blocked)
    };
    for ((root, path), bytes) in known {
        if *root == Root::Export && blocked(path) {
            continue;
        }
        let client = if *root == Root::Import { &alice } else { &machine };
        let got = client.get(at(E1, *root, path));
        let maybe = unsure.get(&(*root, path.clone()));
        assert!(
            got.as_ref() == Ok(bytes) || got.as_ref().ok() == maybe,
            "{what}: {root}/{path}: {got:?}"
        );
    }
    // Outside sees the newest version of each name that is released, and nothing else.
    let mut released: BTreeMap<String, (u32, String)> = BTreeMap::new();
    for export in exports.iter().filter(|e| e.state == ExportState::Released) {
        let sha256 = export.screening.clone().expect("screened").sha256;
        let newest = released.entry(export.path.to_string()).or_default();
        *newest = newest.clone().max((export.version, sha256));
    }
    let mut seen = BTreeSet::new();
    for folder in ["", "d"] {
        for name in alice.names(at(E1, Root::Export, folder)).unwrap_or_default() {
            let path = format!("{folder}/{name}").trim_start_matches('/').to_string();
            if path != "d" {
                let bytes = alice.get(at(E1, Root::Export, &path)).expect("released");
                assert!(!bytes.starts_with(b"BLOC"), "{what}: {path}");
                assert_eq!(hex::encode(digest(&bytes)), released[&path].1, "{what}: {path}");
                seen.insert(path);
            }
        }
    }
    assert_eq!(seen, released.keys().cloned().collect(), "{what}");
    // Every export that was screened lies by its hash, and every release has its seal.
    let trace = world.trace();
    for export in &exports {
        let Some(screening) = &export.screening else { continue };
        let store = match export.kept {
            Some(ByHash::Trace) => world.lab.trace_store(),
            Some(ByHash::Quarantine) => world.lab.quarantine().join("exports"),
            None => panic!("{what}: {} is kept nowhere", export.id),
        };
        let bytes = fs::read(store.join(&screening.sha256)).expect("kept");
        assert_eq!(hex::encode(digest(&bytes)), screening.sha256, "{what}");
        let mut rows = trace.iter().filter(|row| row.subject == export.id.to_string());
        let last = rows.rfind(|row| row.action.starts_with("export."));
        let told = last.map(|row| row.action.clone()).unwrap_or_default();
        let expected = match export.state {
            ExportState::Released => "export.release",
            ExportState::Held => "export.hold",
            ExportState::Blocked => "export.block",
            ExportState::Withdrawn => "export.withdraw",
            other => panic!("{what}: {other}"),
        };
        assert_eq!(told, expected, "{what}: {}", export.id);
        let seals = trace
            .iter()
            .filter(|row| row.action == "test.seal" && row.subject == export.id.to_string());
        assert_eq!(seals.count(), usize::from(export.state == ExportState::Released), "{what}");
    }
    let verified = world.db.read(|r| r.verify_trace()).expect("read");
    assert_eq!(verified.broken_at, None, "{what}");
    nothing_left_over(world, what);
}

/// The files are those of the database, and no others.
pub(crate) fn nothing_left_over(world: &World, what: &str) {
    let names = |folder: &Path| -> BTreeSet<String> {
        let found = fs::read_dir(folder).expect("a folder");
        found.map(|f| f.expect("read").file_name().to_string_lossy().into()).collect()
    };
    for (root, folder) in [(Root::Import, world.lab.imports()), (Root::Export, world.lab.exports())]
    {
        let known = world.db.read(|r| r.blobs_of(root)).expect("read");
        assert!(known.values().all(|going| !going), "{what}: nothing is to go any more");
        let known: BTreeSet<String> = known.keys().map(ToString::to_string).collect();
        assert_eq!(names(&folder.join("files")), known, "{what}: {root}");
    }
    assert_eq!(names(&world.lab.quarantine().join("unknown")), BTreeSet::new(), "{what}");
}

fn sweep(full: bool) {
    let whole = Arc::new(Cutter::default());
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let world = World::at(dir.path(), LAB, Arc::clone(&whole) as Arc<dyn Hand>);
    let (known, unsure) = day(&world);
    assert_eq!(unsure, Known::new(), "nothing is refused where nothing fails");
    let effects = whole.state.lock().expect("whole").0.clone();
    assert!(effects.len() > 40, "{effects:?}");
    check(&world, &known, &unsure, "uncut");
    for (n, effect) in effects.iter().enumerate() {
        let what = format!("{} before {n}: {effect}", if full { "full" } else { "cut" });
        let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let cutter = Arc::new(Cutter { cut: Some(n), full, ..Cutter::default() });
        let world = World::at(dir.path(), LAB, Arc::clone(&cutter) as Arc<dyn Hand>);
        let (known, unsure) = day(&world);
        assert!(cutter.state.lock().expect("whole").1, "{what}: it was cut");
        // The doors of the dead daemon are replaced by those of the new one.
        drop(world);
        let world = World::at(dir.path(), LAB, Arc::new(Steady));
        check(&world, &known, &unsure, &what);
    }
}

#[test]
fn a_power_cut_before_any_effect_loses_nothing_and_leaves_nothing_over() {
    sweep(false);
}

#[test]
fn a_removed_file_cannot_come_back_once_its_row_is_gone() {
    let hand = Arc::new(Cutter::default());
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let world = World::at(dir.path(), LAB, Arc::clone(&hand) as Arc<dyn Hand>);
    day(&world);
    let effects = hand.state.lock().expect("whole").0.clone();
    let gone = effects.windows(2).filter(|two| two[1] == "commit that contents are gone");
    let before: Vec<&str> = gone.map(|two| two[0].as_str()).collect();
    assert!(!before.is_empty(), "{effects:?}");
    assert!(before.iter().all(|before| *before == "sync the folder of contents"), "{effects:?}");
}

#[test]
fn a_disk_that_is_full_from_any_effect_on_loses_nothing_and_leaves_nothing_over() {
    sweep(true);
}

#[test]
fn a_restored_backup_puts_files_aside_that_it_does_not_know() {
    let [dir, restored] = [(); 2].map(|()| tempfile::tempdir_in("/dev/shm").expect("a folder"));
    let world = World::at(dir.path(), LAB, Arc::new(Steady));
    let state = restored.path().join("state");
    let files = state.join("exports/files");
    fs::create_dir_all(&files).expect("a folder");
    for suffix in ["", "-wal"] {
        let name = format!("nonstop.db{suffix}");
        fs::copy(world.lab.state.join(&name), state.join(&name)).expect("copied");
    }
    world.machine().put(at(E1, Root::Export, "a"), b"work of days").expect("put");
    for found in fs::read_dir(world.lab.exports().join("files")).expect("a folder") {
        let found = found.expect("read");
        fs::copy(found.path(), files.join(found.file_name())).expect("copied");
    }
    let world = World::at(restored.path(), LAB, Arc::new(Steady));
    let aside = fs::read_dir(world.lab.quarantine().join("unknown")).expect("a folder");
    let aside: Vec<_> = aside.map(|found| found.expect("read").path()).collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(fs::read(&aside[0]).expect("kept"), b"work of days");
    assert_eq!(world.machine().names(at(E1, Root::Export, "")), Ok(vec![]));
}

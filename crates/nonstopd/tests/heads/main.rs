//! Releases and their receipts, and how long bytes of exports are kept: with the real store of
//! transfers, and the lab's real authority.

#[expect(dead_code, reason = "tests of transfers use all of it")]
#[path = "../transfers/lab.rs"]
mod lab;

use lab::{E1, World, at, digest, wait};
use nonstop_host::authority::Authority;
use nonstop_model::{ExportId, ExportState, Lab, Root, capacity::Room};
use nonstop_profile::Fingerprint;
use nonstop_store::{Deletable, StoreError};
use nonstop_trace::{
    Contents, Decided, Evidence, HeadError, Receipt, Report, Sign, Verifier, stream::Item,
};
use nonstopd::{
    Clock,
    heads::{self, Heads, Key},
    publisher::Steady,
    sealing::seal,
};
use std::{
    fs::File,
    io::BufReader,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const DAY: i64 = 86_400;

/// A lab whose releases are sealed as the daemon seals them, unless the key is away.
struct Sealed {
    world: World,
    heads: Heads,
    authority: Arc<Authority>,
    away: Arc<AtomicBool>,
    _dir: tempfile::TempDir,
}

impl Sealed {
    fn new(more: &str) -> Sealed {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let text = format!("{}{more}", lab::LAB);
        let lab = Lab::parse("lab.yaml", &text).expect("valid");
        let authority = Authority::open(&dir.path().join("authority"), "airlock").expect("made");
        let authority = Arc::new(authority);
        let (away, real) = (Arc::new(AtomicBool::new(false)), seal(&lab, Arc::clone(&authority)));
        let gone = Arc::clone(&away);
        let sealing = Box::new(move |w: &mut nonstop_store::Write<'_>, export: &_| {
            if gone.load(Ordering::SeqCst) {
                return Err(StoreError::Head(HeadError::Sign("the key is away".into())));
            }
            real(w, export)
        });
        let world = World::sealed(dir.path(), &text, Arc::new(Steady), sealing).expect("opens");
        world.transfers.run().expect("threads");
        let until = world.clock.now() + std::time::Duration::from_secs(365 * 86_400);
        let room = Room { memory_mib: 1 << 20, machines: 8 };
        let longer =
            world.db.write("sato", world.clock.now(), |w| w.extend_environment(E1, until, room));
        longer.unwrap_or_else(|e: StoreError| panic!("{e}"));
        let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as Arc<dyn Clock>;
        let heads = Heads::new(&world.lab, Arc::clone(&world.db), clock, Arc::clone(&authority));
        Sealed { world, heads: heads.expect("begins"), authority, away, _dir: dir }
    }

    fn give(&self, name: &str, bytes: &[u8], number: u32, state: ExportState) {
        self.world.machine().put(at(E1, Root::Export, name), bytes).expect("put");
        self.world.until(number, state);
    }

    fn receipt(&self, number: u32) -> Option<Receipt> {
        self.world.db.read(|r| r.receipt(ExportId(number))).expect("read")
    }

    fn bytes(&self, content: &[u8]) -> PathBuf {
        self.world.lab.trace_store().join(hex::encode(digest(content)))
    }

    /// Verifies the trace as the daemon streams it, and the bytes that it speaks of.
    fn verify(&self, receipts: &[Receipt]) -> (Report, Vec<nonstop_trace::Fault>) {
        let mut contents = Contents::list(&self.world.lab.state);
        let trusted = Fingerprint::of(&Key(Arc::clone(&self.authority)).public_key());
        let mut evidence = Evidence::new(vec![trusted], None);
        receipts.iter().for_each(|r| evidence.receipt(r, "kept").expect("the lab's"));
        let stream = heads::stream(&self.world.db).expect("begun").expect("a place");
        let mut verifier = Verifier::new(&evidence);
        let read = nonstop_trace::stream::read(BufReader::new(File::from(stream)), |item| {
            if let Item::Row(row) = item {
                verifier.row(&row);
                contents.row(&row);
            }
        });
        read.expect("to its end");
        (verifier.finish(), contents.check(|_| {}))
    }

    fn deleted(&self) -> usize {
        self.world.trace().iter().filter(|row| row.action == "trace.delete").count()
    }
}

#[test]
fn each_release_has_a_receipt_whose_head_was_signed_with_it_and_that_names_nobody() {
    let lab = Sealed::new("");
    lab.give("secret-name.csv", b"1,2\n", 1, ExportState::Released);
    let by_policy = lab.receipt(1).expect("there");
    assert_eq!(by_policy.released().decided, Decided::Policy);
    assert_eq!(by_policy.released().sha256.0[..], digest(b"1,2\n")[..]);
    assert_eq!(by_policy.released().verdict, "pass");

    lab.give("b.csv", b"HOLD it", 2, ExportState::Held);
    assert_eq!(lab.receipt(2), None);
    lab.world.transfers.decide("sato", ExportId(2), true, "fine").expect("released");
    let by_person = lab.receipt(2).expect("there");
    assert_eq!(by_person.released().decided, Decided::Staff);
    for receipt in [&by_policy, &by_person] {
        let text = receipt.text();
        for private in ["alice", "sato", "secret-name", "b.csv", "\"e1\""] {
            assert!(!text.contains(private), "{private}: {text}");
        }
        let read = Receipt::read(text.as_bytes()).expect("true");
        let signed = read.head().authority().fingerprint().to_string();
        assert_eq!(signed, lab.authority.fingerprint());
    }
    let (report, faults) = lab.verify(&[by_policy, by_person]);
    assert!(report.good() && faults.is_empty(), "{report:?} {faults:?}");
    assert_eq!(report.agreed.expect("held against receipts").seq, report.rows);
}

#[test]
fn where_lab_yaml_says_so_a_receipt_names_the_people_and_the_file() {
    let lab = Sealed::new("trace: { receipts: { people: true, files: true } }\n");
    lab.give("b.csv", b"HOLD it", 1, ExportState::Held);
    lab.world.transfers.decide("sato", ExportId(1), true, "fine").expect("released");
    let receipt = lab.receipt(1).expect("there");
    let said = receipt.released();
    assert_eq!(
        [&said.account, &said.decided_by, &said.name].map(|s| s.as_deref().unwrap_or("-")),
        ["alice", "sato", "b.csv"]
    );
}

#[test]
fn without_its_head_nothing_is_released_by_policy_or_by_a_person() {
    let lab = Sealed::new("");
    let alice = lab.world.alice();
    lab.give("b.csv", b"HOLD it", 1, ExportState::Held);
    lab.away.store(true, Ordering::SeqCst);
    let refused = lab.world.transfers.decide("sato", ExportId(1), true, "fine");
    assert!(refused.is_err());
    assert_eq!(lab.world.export(1).state, ExportState::Held, "nothing remains of it");
    lab.world.machine().put(at(E1, Root::Export, "a.csv"), b"1,2\n").expect("put");
    wait("its screening", || {
        lab.world.actions("x2").contains(&"export.screen".into()).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_ne!(lab.world.export(2).state, ExportState::Released);
    assert_eq!(alice.names(at(E1, Root::Export, "")), Ok(vec![]));

    lab.away.store(false, Ordering::SeqCst);
    lab.world.transfers.wake();
    lab.world.until(2, ExportState::Released);
    assert_eq!(alice.get(at(E1, Root::Export, "a.csv")), Ok(b"1,2\n".to_vec()));
    assert!(lab.receipt(2).is_some() && lab.receipt(1).is_none());
}

#[test]
fn bytes_go_after_their_days_with_a_signed_record_unless_they_wait_or_are_kept() {
    let lab = Sealed::new("trace: { keep_days: 30 }\n");
    for (n, (name, bytes)) in
        [("a", "released"), ("b", "kept"), ("c", "another")].iter().enumerate()
    {
        let number = u32::try_from(n + 1).expect("small");
        lab.give(name, bytes.as_bytes(), number, ExportState::Released);
    }
    lab.give("d", b"HOLD on", 4, ExportState::Held);
    lab.give("e", b"BLOCKED", 5, ExportState::Blocked);
    let now = lab.world.clock.now();
    let kept = lab.world.db.write("sato", now, |w| w.keep_export(ExportId(2), "a court asks"));
    kept.unwrap_or_else(|e: StoreError| panic!("{e}"));
    lab.heads.pass().expect("looked");
    lab.world.clock.move_on(29 * DAY);
    lab.heads.pass().expect("looked");
    assert_eq!(lab.deleted(), 0, "not yet");
    // The same bytes again, today.
    lab.give("f", b"another", 6, ExportState::Released);
    lab.world.clock.move_on(2 * DAY);
    lab.heads.pass().expect("looked");

    let there = |bytes: &[u8]| lab.bytes(bytes).exists();
    assert!(!there(b"released"));
    assert!(there(b"kept") && there(b"another") && there(b"HOLD on"));
    let quarantined =
        lab.world.lab.quarantine().join("exports").join(hex::encode(digest(b"BLOCKED")));
    assert!(quarantined.exists());
    let trace = lab.world.trace();
    let record = trace.iter().find(|row| row.action == "trace.delete").expect("a record");
    assert_eq!((record.actor.as_str(), record.subject.as_str()), ("nonstopd", "x1"));
    assert_eq!(record.detail["sha256"], hex::encode(digest(b"released")));
    assert_eq!(record.detail["rule"], "trace.keep_days of lab.yaml is 30");
    let head = lab.world.db.read(|r| r.last_head()).expect("read").expect("signed");
    assert_eq!(head.seq(), record.seq, "in the same transaction");
    let (report, faults) = lab.verify(&[]);
    assert!(report.good() && faults.is_empty(), "{report:?} {faults:?}");
    // Released bytes that are gone from the store are still fetched for as long as they are offered.
    assert_eq!(lab.world.alice().get(at(E1, Root::Export, "a")), Ok(b"released".to_vec()));

    // No longer kept: gone a day later.
    let now = lab.world.clock.now();
    let left = lab.world.db.write("sato", now, |w| w.unkeep_export(ExportId(2), "it is over"));
    assert!(left.unwrap_or_else(|e: StoreError| panic!("{e}")));
    lab.world.clock.move_on(DAY);
    lab.heads.pass().expect("looked");
    assert!(!there(b"kept") && there(b"another"));
    assert_eq!(lab.world.actions("x2").last().map(String::as_str), Some("trace.delete"));
    // Once more, and forgotten again.
    lab.give("g", b"released", 7, ExportState::Released);
    assert!(there(b"released"));
    lab.world.clock.move_on(32 * DAY);
    lab.heads.pass().expect("looked");
    assert!(!there(b"released") && !there(b"another"));
    let (report, faults) = lab.verify(&[]);
    assert!(report.good() && faults.is_empty(), "{report:?} {faults:?}");
}

#[test]
fn a_power_cut_between_record_and_removal_is_gone_on_with_and_takes_nothing_that_came_since() {
    let lab = Sealed::new("trace: { keep_days: 30 }\n");
    lab.give("a", b"one", 1, ExportState::Released);
    lab.give("b", b"two", 2, ExportState::Released);
    // What is left of a pass that was cut behind each of its records.
    lab.world.clock.move_on(31 * DAY);
    let (now, key) = (lab.world.clock.now(), Key(Arc::clone(&lab.authority)));
    let cutoff = now - std::time::Duration::from_secs(30 * 86_400);
    let due = lab.world.db.read(|r| r.deletable(cutoff, 9));
    let due: Vec<Deletable> = due.unwrap_or_else(|e: StoreError| panic!("{e}"));
    assert_eq!(due.len(), 2);
    for bytes in &due {
        let written = lab
            .world
            .db
            .write("nonstopd", now, |w| w.delete_bytes(&bytes.sha256, cutoff, "a rule", &key));
        assert!(written.unwrap_or_else(|e: StoreError| panic!("{e}")));
    }
    assert!(lab.bytes(b"one").exists() && lab.bytes(b"two").exists());
    // One of them is exported anew before anybody goes on.
    lab.world.clock.move_on(60);
    lab.give("c", b"two", 3, ExportState::Released);
    lab.heads.pass().expect("gone on");
    assert!(!lab.bytes(b"one").exists() && lab.bytes(b"two").exists());
    assert_eq!(lab.deleted(), 2, "recorded once each");
    let (report, faults) = lab.verify(&[]);
    assert!(report.good() && faults.is_empty(), "{report:?} {faults:?}");
    let under_way = lab.world.db.read(|r| r.deletions_under_way());
    assert_eq!(under_way.unwrap_or_else(|e: StoreError| panic!("{e}")), Vec::<String>::new());
}

#[test]
fn what_is_kept_while_a_pass_goes_on_stays_and_what_goes_already_is_said_to_be_gone() {
    let lab = Sealed::new("trace: { keep_days: 30 }\n");
    lab.give("a", b"one", 1, ExportState::Released);
    lab.give("b", b"two", 2, ExportState::Released);
    lab.world.clock.move_on(31 * DAY);
    let (now, key) = (lab.world.clock.now(), Key(Arc::clone(&lab.authority)));
    let cutoff = now - std::time::Duration::from_secs(30 * 86_400);
    let keep = |export| lab.world.db.write("sato", now, |w| w.keep_export(ExportId(export), "why"));
    let delete = |sha256: &str| {
        let deleted =
            lab.world.db.write("nonstopd", now, |w| w.delete_bytes(sha256, cutoff, "a rule", &key));
        deleted.unwrap_or_else(|e: StoreError| panic!("{e}"))
    };
    // A pass has listed both; then one is to be kept.
    let due: Result<Vec<Deletable>, StoreError> = lab.world.db.read(|r| r.deletable(cutoff, 9));
    let due: Vec<String> = due.expect("read").into_iter().map(|bytes| bytes.sha256).collect();
    assert_eq!(due, [b"one", b"two"].map(|bytes| hex::encode(digest(bytes))));
    keep(1).unwrap_or_else(|e: StoreError| panic!("{e}"));
    assert_eq!([delete(&due[0]), delete(&due[1])], [false, true]);
    assert_eq!(lab.deleted(), 1);
    // The other goes, and then is gone: either way it is too late.
    for _ in 0..2 {
        let late = keep(2).expect_err("too late");
        assert!(matches!(late, StoreError::BytesGo { id: ExportId(2), .. }), "{late}");
        lab.heads.pass().expect("gone on");
    }
    assert!(lab.bytes(b"one").exists() && !lab.bytes(b"two").exists());
    // They came again: they can be kept as any.
    lab.world.clock.move_on(60);
    lab.give("c", b"two", 3, ExportState::Released);
    keep(2).unwrap_or_else(|e: StoreError| panic!("{e}"));
    keep(3).unwrap_or_else(|e: StoreError| panic!("{e}"));
}

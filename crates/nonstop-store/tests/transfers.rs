//! What the database keeps of files on their way in and out.

use jiff::Timestamp;
use nonstop_model::{
    BlobId, EnvironmentId, EnvironmentTemplate, ExportId, ExportState, MachineId, Password, Period,
    Role, Root, capacity::Room, screening::Verdict,
};
use nonstop_store::{
    ByHash, Db, Grant, GrantedMachine, ImportStage, NameError, NewAccount, NewContent, Screening,
    StoreError, Tree, Which,
};
use std::thread;

const E1: EnvironmentId = EnvironmentId(1);
const X1: ExportId = ExportId(1);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).expect("small")
}

fn lab() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&dir.path().join("nonstop.db"), at(0)).expect("opens");
    let template =
        "version: 1\ntitle: t\nmachines: [{role: analyst, image: micro, memory_mib: 96}]";
    db.write("sato", at(0), |w| {
        w.add_account(&NewAccount {
            name: "alice".parse().expect("a name"),
            full_name: "Alice".into(),
            affiliation: "Somewhere".into(),
            role: Role::Researcher,
            edition: None,
            sources: Vec::new(),
            keys: Vec::new(),
        })?;
        w.grant_environment(&Grant {
            account: "alice".parse().expect("a name"),
            template_name: "micro".parse().expect("a name"),
            template: EnvironmentTemplate::parse("t", template, None).expect("valid"),
            period: Period::new(at(0), at(3600)).expect("ordered"),
            machines: vec![GrantedMachine {
                image: "micro".parse().expect("a name"),
                image_digest: "d".into(),
                guest_user: None,
                password: Password("secret".into()),
                desktop_port: None,
            }],
            pool: "10.77.0.0/24".parse().expect("a network"),
            room: Room { memory_mib: 1 << 20, machines: 4 },
        })
    })
    .expect("granted");
    (dir, db)
}

fn tree(root: Root, now: i64) -> Tree {
    let due_at = (root == Root::Export).then(|| at(now + 3));
    Tree { environment: E1, root, names: 10, bytes: 1000, due_at }
}

fn put(db: &Db, root: Root, path: &str, bits: u128, bytes: u64, now: i64) -> Result<(), NameError> {
    let machine = (root == Root::Export).then_some(MachineId(1));
    let (blob, path) = (BlobId::from_bits(bits), path.parse().expect("a path"));
    db.write("machine:m1", at(now), |w| {
        w.put_file(&tree(root, now), &path, NewContent { blob: &blob, bytes, machine }).map(drop)
    })
}

fn said(verdict: Verdict) -> Screening {
    Screening {
        at: at(5),
        ms: 1,
        sha256: "a".repeat(64),
        content_type: "text".into(),
        verdict,
        findings: serde_json::json!([]),
        rules_digest: Some("b".repeat(64)),
    }
}

/// An export `x1` that was screened so.
fn screened(db: &Db, verdict: Verdict) {
    put(db, Root::Export, "a", 1, 10, 0).expect("put");
    let ids = db.write("nonstopd", at(4), |w| w.submit_due(10)).expect("submitted");
    assert_eq!(ids, [X1]);
    db.write("nonstopd", at(5), |w| {
        w.begin_screening(X1)?;
        w.export_screened(X1, &said(verdict), Some(ByHash::Trace))
    })
    .expect("screened");
}

fn actions(db: &Db, subject: &str) -> Vec<String> {
    let rows = db.read(|r| r.trace_rows(1000)).expect("rows");
    let of_it = rows.into_iter().rev().filter(|row| row.subject == subject);
    of_it.map(|row| row.action).collect()
}

#[test]
fn of_two_who_decide_at_once_one_is_told_of_the_other() {
    let (_dir, db) = lab();
    screened(&db, Verdict::Hold);
    let decide = |who: &str, release| db.write(who, at(9), |w| w.decide_export(X1, release, "why"));
    let [sato, suzuki] = thread::scope(|scope| {
        let both = [("sato", true), ("suzuki", false)];
        both.map(|(who, release)| scope.spawn(move || decide(who, release)))
            .map(|thread| thread.join().expect("decided"))
    });
    assert!(sato.is_ok() != suzuki.is_ok());
    let (by, refused) = if sato.is_ok() { ("sato", suzuki) } else { ("suzuki", sato) };
    let refused = refused.expect_err("decided already");
    assert!(matches!(refused, StoreError::ExportDecided { id: X1, .. }));
    assert!(refused.to_string().contains(&format!("by {by} since")), "{refused}");
    let decisions = db.read(|r| r.decisions(X1)).expect("read");
    assert_eq!(decisions.len(), 2, "the policy's, and a person's");
    assert_eq!((decisions[0].by.as_str(), decisions[1].by.as_str()), ("policy", by));
}

#[test]
fn an_export_goes_one_way_with_a_row_of_trace_for_each_step() {
    let (_dir, db) = lab();
    screened(&db, Verdict::Pass);
    let again = db.write("sato", at(9), |w| w.decide_export(X1, true, "why"));
    assert!(matches!(again, Err(StoreError::ExportDecided { .. })));
    // What was screened is not screened again, and no verdict takes another's place.
    let state = db.write("nonstopd", at(9), |w| {
        assert!(w.begin_screening(X1)?.is_none());
        w.export_screened(X1, &said(Verdict::Block), Some(ByHash::Quarantine))
    });
    assert_eq!(state.expect("told"), ExportState::Released);
    db.write("sato", at(10), |w| w.revoke_export(X1, "a mistake")).expect("revoked");
    assert!(db.write("sato", at(11), |w| w.revoke_export(X1, "again")).is_err());
    assert_eq!(
        actions(&db, "x1"),
        ["export.submit", "export.screen", "export.release", "export.revoke"]
    );
    assert!(db.read(|r| r.released(E1)).expect("read").is_empty());
    let missing = db.read(|r| r.export(ExportId(7)));
    assert!(matches!(missing, Err(StoreError::NoExport(ExportId(7)))));
}

#[test]
fn a_verdict_on_what_was_put_back_meanwhile_counts_and_nothing_is_screened_for_ever() {
    let (_dir, db) = lab();
    put(&db, Root::Export, "a", 1, 10, 0).expect("put");
    db.write("nonstopd", at(4), |w| w.submit_due(10)).expect("submitted");
    let state = db.write("nonstopd", at(5), |w| {
        w.begin_screening(X1)?;
        // Somebody who did not know yet that it is being screened.
        w.screen_again(&Default::default())?;
        w.export_screened(X1, &said(Verdict::Block), Some(ByHash::Quarantine))
    });
    assert_eq!(state.expect("told"), ExportState::Blocked);
    assert!(db.read(|r| r.exports_to_screen()).expect("read").is_empty());
}

#[test]
fn what_is_taken_back_while_it_is_screened_and_then_blocked_is_told_as_blocked() {
    let (_dir, db) = lab();
    for (bits, name) in [(1, "a"), (2, "b")] {
        put(&db, Root::Export, name, bits, 10, 0).expect("put");
    }
    db.write("nonstopd", at(4), |w| w.submit_due(10)).expect("submitted");
    let x2 = ExportId(2);
    for (id, name, verdict) in [(X1, "a", Verdict::Block), (x2, "b", Verdict::Hold)] {
        db.write("nonstopd", at(5), |w| w.begin_screening(id)).expect("begun");
        let path = name.parse().expect("a path");
        db.write("machine:m1", at(6), |w| w.remove_name(&tree(Root::Export, 6), &path))
            .expect("removed");
        db.write("nonstopd", at(7), |w| {
            w.export_screened(id, &said(verdict), Some(ByHash::Quarantine))
        })
        .expect("screened");
    }
    let state = |id| db.read(|r| r.export(id)).expect("there").state;
    assert_eq!((state(X1), state(x2)), (ExportState::Blocked, ExportState::Withdrawn));
    assert_eq!(
        actions(&db, "x1"),
        ["export.submit", "export.screen", "export.withdraw", "export.block"]
    );
    let decision = db.read(|r| r.decisions(X1)).expect("read").remove(0);
    assert!(decision.reason.contains("withdrawn while"), "{decision:?}");
    // A second verdict on it changes nothing.
    let again = db.write("nonstopd", at(8), |w| {
        w.export_screened(X1, &said(Verdict::Pass), Some(ByHash::Trace))
    });
    assert_eq!(again.expect("told"), ExportState::Blocked);
}

#[test]
fn what_is_not_kept_by_its_hash_is_not_released_by_anybody() {
    let (_dir, db) = lab();
    put(&db, Root::Export, "a", 1, 10, 0).expect("put");
    db.write("nonstopd", at(4), |w| w.submit_due(10)).expect("submitted");
    db.write("nonstopd", at(5), |w| {
        w.begin_screening(X1)?;
        w.export_screened(X1, &said(Verdict::Hold), None)
    })
    .expect("held");
    let released = db.write("sato", at(9), |w| w.decide_export(X1, true, "why"));
    assert!(matches!(released, Err(StoreError::NotKept(X1))));
    db.write("sato", at(9), |w| w.decide_export(X1, false, "why")).expect("refused");
}

#[test]
fn a_name_that_changes_withdraws_what_was_on_its_way_and_frees_what_nothing_needs() {
    let (_dir, db) = lab();
    screened(&db, Verdict::Hold);
    put(&db, Root::Export, "a", 2, 10, 6).expect("put");
    assert_eq!(db.read(|r| r.export(X1)).expect("there").state, ExportState::Withdrawn);
    let going = db.read(|r| r.blobs_going(10)).expect("read");
    assert_eq!(going.iter().map(|b| b.id.clone()).collect::<Vec<_>>(), [BlobId::from_bits(1)]);
    db.write("nonstopd", at(7), |w| w.blobs_gone(&[BlobId::from_bits(1)])).expect("gone");
    assert!(db.read(|r| r.blob(&BlobId::from_bits(1))).expect("read").is_none());
    // A copy is another name of the same content, and outlives the first.
    let (from, to) = ("a".parse().expect("a path"), "b".parse().expect("a path"));
    db.write("machine:m1", at(8), |w| w.copy_name(&tree(Root::Export, 8), &from, &to, false))
        .expect("copied");
    db.write("machine:m1", at(8), |w| w.remove_name(&tree(Root::Export, 8), &from))
        .expect("removed");
    assert!(db.read(|r| r.blobs_going(10)).expect("read").is_empty());
    let ids = db.write("nonstopd", at(20), |w| w.submit_due(10)).expect("submitted");
    let export = db.read(|r| r.export(ids[0])).expect("there");
    assert_eq!((export.path.as_str(), export.version), ("b", 1));
}

#[test]
fn a_tree_has_so_many_names_and_bytes_and_no_folder_lies_in_itself() {
    let (_dir, db) = lab();
    put(&db, Root::Import, "a", 1, 900, 0).expect("put");
    let full = put(&db, Root::Import, "b", 2, 200, 0).expect_err("full");
    assert!(matches!(full, NameError::Quota { wanted: 200, used: 900, bytes: 1000 }));
    put(&db, Root::Import, "a", 3, 1000, 0).expect("it takes the place of what was there");
    let tree = tree(Root::Import, 0);
    let path = |text: &str| text.parse().expect("a path");
    for n in 0..9 {
        db.write("alice", at(1), |w| w.make_folder(&tree, &path(&format!("d{n}")))).expect("made");
    }
    let more = db.write("alice", at(1), |w| w.make_folder(&tree, &path("d9")));
    assert!(matches!(more, Err(NameError::TooMany(10))));
    let into = |from: &str, to: &str| {
        db.write("alice", at(1), |w| w.move_name(&tree, &path(from), &path(to), true))
    };
    into("d1", "d0/d1").expect("moved");
    for (from, to) in [("d0", "d0/x"), ("d0/d1", "d0"), ("d0", "d0"), ("d0", "d0/d1/x")] {
        assert!(matches!(into(from, to), Err(NameError::IntoItself)), "{from} to {to}");
    }
    assert!(matches!(into("nothing", "x"), Err(NameError::Missing)));
    assert!(matches!(into("a", "missing/x"), Err(NameError::NoFolder)));
    assert!(matches!(into("a", "a/x"), Err(NameError::IntoItself)));
    // What lies below must have a path, too.
    let long = "x".repeat(254);
    for n in 0..4 {
        let to = vec![long.as_str(); n + 1].join("/");
        into(&format!("d{}", n + 2), &to).expect("as long as may be");
    }
    let longer = format!("d0/d1/{}", "y".repeat(255));
    assert!(matches!(into(&long, &longer), Err(NameError::Path(_))));
}

#[test]
fn an_environment_that_gives_without_end_is_waited_with() {
    let (_dir, db) = lab();
    let tree = Tree { names: 1000, ..tree(Root::Export, 0) };
    for n in 0..300_u128 {
        let (blob, path) = (BlobId::from_bits(n), format!("f{n}").parse().expect("a path"));
        let new = NewContent { blob: &blob, bytes: 1, machine: Some(MachineId(1)) };
        db.write("machine:m1", at(0), |w| w.put_file(&tree, &path, new)).expect("put");
    }
    let mut submitted = 0;
    loop {
        match db.write("nonstopd", at(4), |w| w.submit_due(90)).expect("submitted").len() {
            0 => break,
            more => submitted += more,
        }
    }
    assert_eq!(submitted, 200, "so many wait to be screened at once");
    db.write("nonstopd", at(5), |w| {
        w.begin_screening(X1)?;
        w.export_screened(X1, &said(Verdict::Pass), Some(ByHash::Trace))
    })
    .expect("screened");
    let ids = db.write("nonstopd", at(6), |w| w.submit_due(90)).expect("submitted");
    assert_eq!(ids.len(), 1, "one comes after");
}

#[test]
fn an_import_is_seen_once_it_was_looked_at_and_removed_with_its_last_name() {
    let (_dir, db) = lab();
    put(&db, Root::Import, "tool", 1, 10, 0).expect("put");
    let (blob, import) = (BlobId::from_bits(1), nonstop_model::ImportId(1));
    assert!(!db.read(|r| r.is_visible(&blob)).expect("read"));
    let found = serde_json::json!([]);
    db.write("nonstopd", at(1), |w| {
        w.import_checked(import, &"a".repeat(64), "text", &found, false)
    })
    .expect("checked");
    assert!(db.read(|r| r.is_visible(&blob)).expect("read"));
    let tree = tree(Root::Import, 2);
    db.write("alice", at(2), |w| w.remove_name(&tree, &"tool".parse().expect("a path")))
        .expect("removed");
    let all = db.read(|r| r.imports(None, None, true)).expect("read");
    assert_eq!((all.len(), all[0].state), (1, ImportStage::Removed));
    assert!(db.read(|r| r.imports(None, None, false)).expect("read").is_empty());
    assert_eq!(actions(&db, "i1"), ["import.create", "import.check", "import.remove"]);
}

#[test]
fn what_was_removed_while_it_was_looked_at_was_not_lost() {
    let (_dir, db) = lab();
    put(&db, Root::Import, "tool", 1, 10, 0).expect("put");
    let (tree, import) = (tree(Root::Import, 1), nonstop_model::ImportId(1));
    db.write("alice", at(1), |w| w.remove_name(&tree, &"tool".parse().expect("a path")))
        .expect("removed");
    // Whoever looks finds no content any more.
    db.write("nonstopd", at(2), |w| w.import_lost(import)).expect("told");
    assert_eq!(actions(&db, "i1"), ["import.create", "import.remove"]);
    put(&db, Root::Import, "other", 2, 10, 3).expect("put");
    let lost = |at| db.write("nonstopd", at, |w| w.import_lost(nonstop_model::ImportId(2)));
    lost(at(4)).expect("told");
    lost(at(5)).expect("told before");
    assert_eq!(actions(&db, "i2"), ["import.create", "import.remove"]);
}

#[test]
fn a_folder_is_read_page_by_page_by_the_bytes_of_its_names() {
    let (_dir, db) = lab();
    for (bits, name) in [(1, "b"), (2, "B"), (3, "が"), (4, "a"), (5, "a.")] {
        put(&db, Root::Import, name, bits, 1, 0).expect("put");
    }
    let found = serde_json::json!([]);
    for import in [1, 3, 5] {
        let import = nonstop_model::ImportId(import);
        db.write("nonstopd", at(1), |w| {
            w.import_checked(import, &"a".repeat(64), "text", &found, false)
        })
        .expect("checked");
    }
    let page = |after: Option<&str>, limit, visible| {
        let after = after.map(|name| name.parse().expect("a name"));
        let rows = db
            .read(|r| r.names_after((E1, Root::Import), 0, after.as_ref(), limit, visible))
            .expect("read");
        rows.into_iter().map(|row| String::from(row.name)).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2, false), ["B", "a"]);
    assert_eq!(page(Some("a"), 2, false), ["a.", "b"]);
    assert_eq!(page(Some("b"), 2, false), ["が"]);
    assert_eq!(page(Some("aa"), 9, false), ["b", "が"], "it need not be there any more");
    assert_eq!(page(None, 2, true), ["a.", "b"], "what is hidden takes no place");
}

#[test]
fn a_folder_that_is_moved_or_removed_takes_all_below_it_along_and_nothing_else() {
    let (_dir, db) = lab();
    let of = tree(Root::Export, 0);
    let path = |path: &str| path.parse().expect("a path");
    db.write("machine:m1", at(0), |w| {
        w.make_folder(&of, &path("d"))?;
        w.make_folder(&of, &path("d/e")).map(drop)
    })
    .expect("made");
    for (bits, name) in [(1, "d/a"), (2, "d/e/b"), (3, "c")] {
        put(&db, Root::Export, name, bits, 1, 0).expect("put");
    }
    let below = |name: &str| db.read(|r| r.names_below(E1, Root::Export, &path(name)));
    assert_eq!(["d", "d/e", "c", "x"].map(|n| below(n).expect("read")), [3, 1, 0, 0]);
    let submitted = db.write("nonstopd", at(4), |w| w.submit_due(10)).expect("submitted");
    assert_eq!(submitted.len(), 3);
    let state = |id: &ExportId| db.read(|r| r.export(*id)).expect("there").state;
    let states = || submitted.iter().map(state).collect::<Vec<_>>();
    let later = tree(Root::Export, 5);
    db.write("machine:m1", at(5), |w| w.move_name(&later, &path("d"), &path("f"), false))
        .expect("moved");
    let kept = |id: &ExportId| db.read(|r| r.export(*id)).expect("there").path.as_str() == "c";
    for (id, state) in submitted.iter().zip(states()) {
        let expected = if kept(id) { ExportState::Submitted } else { ExportState::Withdrawn };
        assert_eq!(state, expected, "{id}");
    }
    assert_eq!(db.read(|r| r.due(at(7), 10)).expect("read"), Vec::<u64>::new());
    assert_eq!(db.read(|r| r.due(at(8), 10)).expect("read").len(), 2);
    db.write("machine:m1", at(6), |w| w.remove_name(&later, &path("f"))).expect("removed");
    let usage = db.read(|r| r.usage(E1, Root::Export)).expect("read");
    assert_eq!((usage.names, usage.bytes), (1, 1));
    assert_eq!(db.read(|r| r.blobs_going(9)).expect("read").len(), 2);
}

#[test]
fn with_an_environment_its_files_go_and_the_record_stays() {
    let (_dir, db) = lab();
    screened(&db, Verdict::Pass);
    put(&db, Root::Export, "d", 2, 10, 5).expect("put");
    put(&db, Root::Import, "tool", 3, 10, 5).expect("put");
    db.write("nonstopd", at(9), |w| w.submit_due(10)).expect("submitted");
    db.write("nonstopd", at(3600), |w| w.end_environment(E1, at(4000))).expect("ended");
    assert!(db.read(|r| r.gone_with_transfers()).expect("read").is_empty(), "in its grace");
    db.write("nonstopd", at(4000), |w| w.environment_gone(E1)).expect("gone");
    assert_eq!(db.read(|r| r.gone_with_transfers()).expect("read"), [E1]);
    let contents = db.write("nonstopd", at(4001), |w| w.end_transfers(E1)).expect("ended");
    assert_eq!(contents, 3);
    assert!(db.read(|r| r.gone_with_transfers()).expect("read").is_empty());
    assert_eq!(db.read(|r| r.blobs_going(10)).expect("read").len(), 3);
    let exports = db.read(|r| r.exports(None, None, Which::All)).expect("read");
    let states: Vec<_> = exports.iter().rev().map(|e| e.state).collect();
    assert_eq!(states, [ExportState::Released, ExportState::Withdrawn]);
    assert_eq!(actions(&db, "i1"), ["import.create", "import.remove"]);
    // Again: nothing changes, and no row is written for nothing.
    let rows = db.read(|r| r.trace_len()).expect("read");
    db.write("nonstopd", at(4002), |w| w.end_transfers(E1)).expect("ended already");
    assert_eq!(db.read(|r| r.trace_len()).expect("read"), rows);
}

#[test]
fn an_environment_submits_so_many_exports_in_a_day_and_the_others_wait() {
    let (dir, db) = lab();
    let other = rusqlite::Connection::open(dir.path().join("nonstop.db")).expect("opens");
    let before =
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 19999)
        INSERT INTO exports (environment, machine, path, version, entry, blob, bytes, state,
            submitted_at, changed_at)
        SELECT 1, 1, 'before' || i, 1, 1000 + i, 'blob', 1, 'withdrawn', ?1, ?1 FROM n";
    assert_eq!(other.execute(before, [at(0).as_microsecond()]).expect("inserted"), 19_999);
    for (path, bits) in [("a", 1), ("b", 2)] {
        put(&db, Root::Export, path, bits, 10, 7000).expect("put");
    }
    let submitted = |now| db.write("nonstopd", at(now), |w| w.submit_due(10)).expect("submitted");
    assert_eq!(submitted(7200).len(), 1);
    assert_eq!(submitted(7300).len(), 0);
    assert_eq!(submitted(86_401).len(), 1);
}

//! What the database promises, tried on real files.

use jiff::Timestamp;
use nonstop_model::{
    AccountName, AccountState, EnvironmentId, EnvironmentTemplate, KeyAlgorithm, Password, Period,
    PublicKey, RequestId, RequestState, Role, capacity::Room,
};
use nonstop_store::{Db, Grant, GrantedMachine, NewAccount, NewKey, NewRequest, StoreError};
use std::path::Path;

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().expect("a time")
}

fn open(dir: &Path) -> Db {
    Db::open(&dir.join("nonstop.db"), now()).expect("opens")
}

fn name(text: &str) -> AccountName {
    text.parse().expect("a name")
}

fn person(text: &str) -> NewAccount {
    NewAccount {
        name: name(text),
        full_name: "Somebody".into(),
        affiliation: "Somewhere".into(),
        role: Role::Researcher,
        edition: None,
        sources: Vec::new(),
        keys: vec![NewKey {
            key: PublicKey(format!("ssh-ed25519 {text}")),
            fingerprint: format!("SHA256:{text}"),
            algorithm: KeyAlgorithm::Ed25519,
        }],
    }
}

fn period() -> Period {
    let until = "2030-01-02T00:00:00Z".parse().expect("a time");
    Period::new(now(), until).expect("ordered")
}

fn grant(account: &str, machines: u64) -> Grant {
    let text = "version: 1\ntitle: t\nmachines: [{role: analyst, image: micro, memory_mib: 96}]";
    Grant {
        account: name(account),
        template_name: "micro".parse().expect("a name"),
        template: EnvironmentTemplate::parse("t", text, None).expect("valid"),
        period: period(),
        machines: vec![GrantedMachine {
            image: "micro".parse().expect("a name"),
            image_digest: "d".into(),
            guest_user: None,
            password: Password("secret".into()),
            desktop_port: None,
        }],
        pool: "10.77.0.0/27".parse().expect("a network"),
        room: Room { memory_mib: 1 << 20, machines },
    }
}

fn request(account: &str) -> NewRequest {
    NewRequest {
        account: name(account),
        template: "micro".parse().expect("a name"),
        period: period(),
        purpose: "to see".into(),
    }
}

#[test]
fn the_migrations_add_up_to_the_reviewed_schema() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(open(dir.path()));
    let db = rusqlite::Connection::open(dir.path().join("nonstop.db")).expect("opens");
    let mut tables = db
        .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY name")
        .expect("sql");
    let sql: Vec<String> = tables
        .query_map([], |row| row.get(0))
        .expect("rows")
        .collect::<Result<_, _>>()
        .expect("text");
    let schema = sql.join(";\n\n") + ";\n";
    assert_eq!(schema, include_str!("../schema.sql"), "review schema.sql beside the migration");
    assert!(
        sql.iter().filter(|s| s.starts_with("CREATE TABLE")).all(|s| s.ends_with("STRICT")),
        "every table is STRICT"
    );
}

#[test]
fn an_environment_of_another_edition_is_granted_to_nobody_and_an_edition_changes_with_nothing_left()
{
    let dir = tempfile::tempdir().expect("a folder");
    let db = open(dir.path());
    let erin = NewAccount { edition: Some("mws".into()), ..person("erin") };
    let none = person("alice");
    let write = |f: &dyn Fn(&mut nonstop_store::Write<'_>) -> Result<(), StoreError>| {
        db.write("sato", now(), |w| f(w))
    };
    write(&|w| w.add_account(&erin).map(drop)).expect("added");
    write(&|w| w.add_account(&none).map(drop)).expect("added");
    let of = |account: &str, domain: &str| {
        let mut grant = grant(account, 10);
        grant.template.domain = Some(domain.into());
        grant
    };
    for (account, domain) in [("erin", "intermediate"), ("alice", "mws"), ("alice", "intermediate")]
    {
        let refused = write(&|w| w.grant_environment(&of(account, domain)).map(drop));
        assert!(matches!(refused, Err(StoreError::OtherEdition { .. })), "{account} {refused:?}");
    }
    write(&|w| w.grant_environment(&of("erin", "mws")).map(drop)).expect("of her own");
    write(&|w| w.grant_environment(&grant("alice", 10)).map(drop)).expect("of none");

    let change = |edition: &str| write(&|w| w.set_edition(&name("erin"), edition, "moved"));
    let refused = change("intermediate").expect_err("e1 lives");
    assert_eq!(refused.to_string(), "environment e1 is of another edition and not gone yet");
    write(&|w| w.end_environment(EnvironmentId(1), now())).expect("ended");
    assert!(change("intermediate").is_err(), "its disks are still there");
    write(&|w| w.environment_gone(EnvironmentId(1))).expect("gone");
    change("intermediate").expect("nothing is left");
    let erin = db.read(|r| r.account(&name("erin"))).expect("read");
    assert_eq!(erin.edition.as_deref(), Some("intermediate"));
    let refused = write(&|w| w.grant_environment(&of("erin", "mws")).map(drop));
    assert!(matches!(refused, Err(StoreError::OtherEdition { .. })), "{refused:?}");
}

#[test]
fn accounts_from_before_editions_go_on_with_what_they_worked_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("nonstop.db");
    let raw = rusqlite::Connection::open(&path).expect("opens");
    for sql in [
        include_str!("../migrations/0001_lab.sql"),
        include_str!("../migrations/0002_pool.sql"),
        include_str!("../migrations/0003_desktops.sql"),
        include_str!("../migrations/0004_snapshots.sql"),
        "PRAGMA user_version = 4;
        INSERT INTO accounts (name, full_name, affiliation, role, state, sources, added_at) VALUES
            ('alice', 'a', 'a', 'researcher', 'active', '[]', 0),
            ('bob', 'b', 'b', 'researcher', 'active', '[]', 0),
            ('sato', 's', 's', 'staff', 'active', '[]', 0);
        INSERT INTO environments (account, template, template_json, from_at, until_at, slot, state) VALUES
            (1, 'old', '{\"domain\": \"intermediate\"}', 0, 1, 0, 'granted'),
            (1, 'new', '{\"domain\": \"mws\"}', 0, 1, 1, 'granted'),
            (1, 'micro', '{}', 0, 1, 2, 'granted');",
    ] {
        raw.execute_batch(sql).expect("as it was");
    }
    drop(raw);
    let db = open(dir.path());
    let editions = || {
        let accounts = db.read(|r| r.accounts()).expect("read");
        accounts.into_iter().map(|a| a.edition.unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!(editions(), ["mws", "", ""]);
    // With several data domains, who worked on none waits for the staff's word; with one, not.
    db.keep_editions(None, now()).expect("kept");
    assert_eq!(editions(), ["mws", "", ""]);
    db.keep_editions(Some("intermediate"), now()).expect("kept");
    assert_eq!(editions(), ["mws", "intermediate", ""]);
}

#[test]
fn a_change_and_its_trace_are_there_together_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = open(dir.path());
    db.write("admin:root", now(), |w| w.add_account(&person("alice"))).expect("added");
    let before = db.read(|r| r.trace_len()).expect("a length");
    let twice = db.write("admin:root", now(), |w| {
        w.add_account(&person("bob"))?;
        w.add_account(&person("alice"))
    });
    assert!(matches!(twice, Err(StoreError::NameTaken(_))));
    assert_eq!(db.read(|r| r.trace_len()).expect("a length"), before);
    assert!(matches!(db.read(|r| r.account(&name("bob"))), Err(StoreError::NoAccount(_))));
}

#[test]
fn the_trace_cannot_be_changed_even_by_sql_and_a_rewrite_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = open(dir.path());
    db.write("admin:root", now(), |w| w.add_account(&person("alice"))).expect("added");
    db.write("admin:root", now(), |w| w.add_account(&person("bob"))).expect("added");
    assert_eq!(db.read(|r| r.verify_trace()).expect("checked").broken_at, None);
    let raw = rusqlite::Connection::open(dir.path().join("nonstop.db")).expect("opens");
    for sql in [
        "UPDATE trace SET actor = 'mallory' WHERE seq = 2",
        "DELETE FROM trace WHERE seq = 3",
        "INSERT INTO trace SELECT seq + 7, at, actor, action, subject, detail, hash FROM trace LIMIT 1",
    ] {
        assert!(raw.execute(sql, []).is_err(), "{sql}");
    }
    raw.execute_batch(
        "DROP TRIGGER trace_is_never_changed; UPDATE trace SET actor = 'mallory' WHERE seq = 2;",
    )
    .expect("root can do anything");
    assert_eq!(db.read(|r| r.verify_trace()).expect("checked").broken_at, Some(2));
}

#[test]
fn a_name_a_key_a_uid_and_an_address_are_given_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = open(dir.path());
    let alice = db.write("x", now(), |w| w.add_account(&person("alice"))).expect("added");
    db.write("x", now(), |w| w.set_account_state(&name("alice"), AccountState::Removed, "left"))
        .expect("removed");
    assert!(matches!(
        db.write("x", now(), |w| w.add_account(&person("alice"))),
        Err(StoreError::NameTaken(_))
    ));
    let bob = db.write("x", now(), |w| w.add_account(&person("bob"))).expect("added");
    assert_ne!((alice.uid, alice.address), (bob.uid, bob.address));
    let mut carol = person("carol");
    carol.keys = person("bob").keys;
    assert!(matches!(
        db.write("x", now(), |w| w.add_account(&carol)),
        Err(StoreError::KeyTaken { .. })
    ));
}

#[test]
fn a_request_is_decided_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = open(dir.path());
    db.write("x", now(), |w| w.add_account(&person("alice"))).expect("added");
    let id = db.write("alice", now(), |w| w.add_request(&request("alice"))).expect("made");
    db.write("sato", now(), |w| w.refuse_request(id, "no")).expect("refused");
    let again = db.write("sato", now(), |w| {
        let environment = w.grant_environment(&grant("alice", 10))?;
        w.approve_request(id, environment)
    });
    assert!(matches!(again, Err(StoreError::Decided(_))));
    assert_eq!(
        db.read(|r| r.environments("10.77.0.0/27".parse().expect("net"), true))
            .expect("read")
            .len(),
        0
    );
    let state = db.read(|r| r.request(RequestId(1))).expect("there").state;
    assert_eq!(state, RequestState::Refused { by: "sato".into(), reason: "no".into() });
}

#[test]
fn a_lab_without_room_or_segments_says_what_is_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = open(dir.path());
    db.write("x", now(), |w| w.add_account(&person("alice"))).expect("added");
    let one = db.write("x", now(), |w| w.grant_environment(&grant("alice", 3))).expect("first");
    db.write("x", now(), |w| w.grant_environment(&grant("alice", 3))).expect("second");
    let third = db.write("x", now(), |w| w.grant_environment(&grant("alice", 3)));
    assert!(matches!(third, Err(StoreError::NoSlot(2))), "{third:?}");
    let full = db.write("x", now(), |w| w.grant_environment(&grant("alice", 2)));
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    // A slot is free again once nothing is left of its environment, not before.
    db.write("x", now(), |w| w.end_environment(one, now())).expect("ended");
    let full = db.write("x", now(), |w| w.grant_environment(&grant("alice", 3)));
    assert!(matches!(full, Err(StoreError::NoSlot(2))), "{full:?}");
    db.write("x", now(), |w| w.environment_gone(one)).expect("gone");
    db.write("x", now(), |w| w.grant_environment(&grant("alice", 3))).expect("fits again");
}

#[test]
fn the_pool_moves_only_while_no_environment_has_a_segment_of_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = open(dir.path());
    let pool = |text: &str| text.parse().expect("a network");
    db.keep_pool(pool("10.77.0.0/27"), now()).expect("the first");
    db.keep_pool(pool("10.88.0.0/27"), now()).expect("nothing lives yet");
    db.keep_pool(pool("10.77.0.0/27"), now()).expect("nothing lives yet");
    db.write("x", now(), |w| w.add_account(&person("alice"))).expect("added");
    let id = db.write("x", now(), |w| w.grant_environment(&grant("alice", 3))).expect("granted");
    db.keep_pool(pool("10.77.0.0/27"), now()).expect("the same");
    let moved = db.keep_pool(pool("10.77.0.0/28"), now());
    assert!(matches!(moved, Err(StoreError::PoolMoved { .. })), "{moved:?}");
    db.write("x", now(), |w| w.end_environment(id, now())).expect("ended");
    db.write("x", now(), |w| w.environment_gone(id)).expect("gone");
    db.keep_pool(pool("10.77.0.0/28"), now()).expect("nothing lives any more");
}

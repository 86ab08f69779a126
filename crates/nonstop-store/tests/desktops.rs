//! What the database keeps of displays: sessions, permissions to see, recordings.

use jiff::Timestamp;
use nonstop_model::{
    AccountName, EnvironmentId, EnvironmentTemplate, MachineId, Password, Period, Role,
    capacity::Room,
};
use nonstop_store::{Db, Grant, GrantedMachine, LookerKind, NewAccount, StoreError};

const ANALYST: MachineId = MachineId(1);

fn at(text: &str) -> Timestamp {
    format!("2030-01-01T{text}Z").parse().expect("a time")
}

fn name(text: &str) -> AccountName {
    text.parse().expect("a name")
}

/// A lab with alice's environment e1 and its machine m1, and with bob.
fn lab() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&dir.path().join("nonstop.db"), at("00:00:00")).expect("opens");
    let text = "version: 1\ntitle: t\nmachines: [{role: analyst, image: micro, memory_mib: 96}]";
    db.write("sato", at("00:00:00"), |w| {
        for person in ["alice", "bob"] {
            w.add_account(&NewAccount {
                name: name(person),
                full_name: "Somebody".into(),
                affiliation: "Somewhere".into(),
                role: Role::Researcher,
                edition: None,
                sources: Vec::new(),
                keys: Vec::new(),
            })?;
        }
        w.grant_environment(&Grant {
            account: name("alice"),
            template_name: "micro".parse().expect("a name"),
            template: EnvironmentTemplate::parse("t", text, None).expect("valid"),
            period: Period::new(at("00:00:00"), at("20:00:00")).expect("ordered"),
            machines: vec![GrantedMachine {
                image: "micro".parse().expect("a name"),
                image_digest: "d".into(),
                guest_user: None,
                password: Password("secret".into()),
                desktop_port: Some(3389),
            }],
            pool: "10.77.0.0/27".parse().expect("a network"),
            room: Room { memory_mib: 1 << 20, machines: 4 },
        })
    })
    .expect("a lab");
    (dir, db)
}

fn actions(db: &Db) -> Vec<String> {
    let rows = db.read(|r| r.trace_rows(100)).expect("rows");
    rows.into_iter().rev().map(|row| row.action).filter(|a| !a.starts_with("account")).collect()
}

#[test]
fn a_session_is_kept_with_its_figures_and_one_whose_daemon_died_is_closed_with_a_note() {
    let (_dir, db) = lab();
    let looker = db.read(|r| r.looker(ANALYST, 0)).expect("read");
    assert_eq!(looker, Some((name("alice"), LookerKind::Owner)));
    let open = |time| {
        db.write("nonstopd", at(time), |w| {
            w.desktop_opened(ANALYST, &name("alice"), LookerKind::Owner)
        })
        .expect("opened")
    };
    let first = open("01:00:00");
    db.write("nonstopd", at("01:10:00"), |w| w.desktop_over_budget(first, 10, 5000, 3))
        .expect("told");
    db.write("nonstopd", at("01:20:00"), |w| w.desktop_closed(first, 20, 9000, 4)).expect("closed");
    db.write("nonstopd", at("01:21:00"), |w| w.desktop_closed(first, 0, 0, 0)).expect("again");
    let second = open("02:00:00");
    db.write("nonstopd", at("02:05:00"), |w| w.desktop_metered(second, 7, 700, 1)).expect("told");
    db.write("nonstopd", at("03:00:00"), |w| w.close_forgotten_desktops()).expect("closed");
    let sessions = db.read(|r| r.desktop_sessions(Some(EnvironmentId(1)), true)).expect("read");
    assert_eq!(sessions.iter().map(|s| s.id).collect::<Vec<_>>(), [second, first]);
    assert_eq!(
        (sessions[1].frames, sessions[1].bytes_out, sessions[1].keys_in, sessions[1].over_budget),
        (20, 9000, 4, true)
    );
    assert_eq!(sessions[1].closed_at, Some(at("01:20:00")));
    assert_eq!(sessions[0].note, "the daemon was started anew");
    assert_eq!((sessions[0].frames, sessions[0].bytes_out, sessions[0].keys_in), (7, 700, 1));
    assert!(db.read(|r| r.desktop_sessions(None, false)).expect("read").is_empty());
    assert!(
        db.read(|r| r.desktop_sessions(Some(EnvironmentId(2)), true)).expect("read").is_empty()
    );
    assert_eq!(db.read(|r| r.desktops_over_budget(at("01:20:00"))).expect("read").len(), 1);
    assert!(db.read(|r| r.desktops_over_budget(at("01:20:01"))).expect("read").is_empty());
    assert_eq!(
        actions(&db)[2..],
        [
            "desktop.open",
            "desktop.over_budget",
            "desktop.close",
            "desktop.open",
            "desktop.meter",
            "desktop.close"
        ]
    );
}

#[test]
fn a_permission_to_see_ends_when_it_is_ended_by_time_and_with_the_environment() {
    let (_dir, db) = lab();
    let open = |time, until| {
        db.write("alice", at(time), |w| w.open_view(ANALYST, &name("bob"), "help me", at(until)))
            .expect("opened")
    };
    let held = |time| db.read(|r| r.view_grants(None, at(time))).expect("read");
    let first = open("01:00:00", "02:00:00");
    assert_eq!(held("01:30:00")[0].viewer, 1);
    assert!(held("02:00:00").is_empty());
    let second = open("01:30:00", "03:00:00");
    let views = held("01:40:00");
    assert_eq!(views.iter().map(|v| (v.id, v.viewer)).collect::<Vec<_>>(), [(second, 1)]);
    assert!(db.read(|r| r.view_grant(first)).expect("read").ended_at.is_some());
    db.write("alice", at("01:50:00"), |w| w.end_view(second, "done")).expect("ended");
    assert!(held("01:51:00").is_empty());
    let third = open("04:00:00", "05:00:00");
    assert!(db.read(|r| r.stale_views(at("04:30:00"))).expect("read").is_empty());
    assert_eq!(held("04:30:00").len(), 1);
    db.write("sato", at("04:31:00"), |w| w.end_environment(EnvironmentId(1), at("09:00:00")))
        .expect("ended");
    assert!(held("04:32:00").is_empty());
    assert_eq!(db.read(|r| r.stale_views(at("04:33:00"))).expect("read"), [third]);
}

#[test]
fn a_display_has_one_recording_at_a_time_and_who_sees_it_has_said_why() {
    let (_dir, db) = lab();
    let begin =
        |time| db.write("sato", at(time), |w| w.begin_recording(ANALYST, "suspicion", 1 << 20));
    let id = begin("01:00:00").expect("begun");
    assert!(matches!(begin("01:00:01"), Err(StoreError::Recorded(ANALYST))));
    db.write("alice", at("01:01:00"), |w| {
        w.open_view(ANALYST, &name("bob"), "help me", at("02:00:00"))
    })
    .expect("a place of its own");
    let views = db.read(|r| r.view_grants(None, at("01:30:00"))).expect("read");
    let recording = db.read(|r| r.recording(id)).expect("there");
    assert_ne!(views[0].viewer, recording.viewer);
    let may = |time| db.read(|r| r.may_play(id, "sato", at(time))).expect("read");
    assert!(!may("01:10:00"));
    db.write("sato", at("01:10:00"), |w| w.play_recording(id, "to see")).expect("told");
    assert!(may("01:10:00") && may("02:09:59") && !may("02:10:00"));
    assert!(!db.read(|r| r.may_play(id, "tanaka", at("01:11:00"))).expect("read"));
    db.write("sato", at("03:00:00"), |w| w.end_environment(EnvironmentId(1), at("09:00:00")))
        .expect("ended");
    assert_eq!(db.read(|r| r.recordings(false)).expect("read").len(), 1);
    db.write("nonstopd", at("03:00:01"), |w| {
        assert_eq!(w.stale_recordings()?, [id]);
        w.end_recording(id, 77, "its environment ended")
    })
    .expect("ended");
    assert!(db.read(|r| r.recordings(false)).expect("read").is_empty());
    assert_eq!(db.read(|r| r.recordings(true)).expect("read")[0].bytes, 77);
    let wanted = ["recording.begin", "desktop.view_open", "recording.play", "environment.end"];
    assert_eq!(actions(&db)[2..6], wanted);
}

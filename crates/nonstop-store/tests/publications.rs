//! What the database keeps of publications.

use jiff::{Timestamp, civil::Date};
use nonstop_model::{
    CaptureFormat, Content, Holds, Packets, PublicationId, PublicationState, Resource,
    publication::{day_of, kind_of},
};
use nonstop_store::{Db, StoreError};

const P1: PublicationId = PublicationId(1);
const P2: PublicationId = PublicationId(2);
const DOMAIN: &str = "intermediate";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).expect("small")
}

fn content(digit: char) -> Content {
    let packets =
        Packets { format: CaptureFormat::Pcap, packets: 1, first: at(-100), last: at(-100) };
    let sha256 = digit.to_string().repeat(64);
    Content { bytes: 24 + 16, sha256, holds: Holds::Packets(packets) }
}

fn samples(digit: char) -> Content {
    Content { holds: Holds::Samples { samples: 2, reports: 0 }, ..content(digit) }
}

fn lab() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&dir.path().join("nonstop.db"), at(0)).expect("opens");
    (dir, db)
}

fn take(db: &Db, file: &str) -> Result<PublicationId, StoreError> {
    db.write("sato", at(1), |w| w.take_publication(DOMAIN, kind_of(file), day_of(file), file))
}

fn publish(db: &Db, id: PublicationId, digit: char) {
    db.write("nonstopd", at(2), |w| {
        w.publication_checked(id, &content(digit))?;
        w.publication_loaded(id, Some(1))?;
        w.publication_published(id, 7)
    })
    .expect("published");
}

#[test]
fn a_day_that_is_published_again_replaces_the_one_before() {
    let (_dir, db) = lab();
    take(&db, "2030-01-31.pcap").expect("taken");
    publish(&db, P1, 'a');
    take(&db, "20300131.pcapng").expect("taken");
    publish(&db, P2, 'b');
    let shown = db.read(|r| r.published(DOMAIN)).expect("read");
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].id, shown[0].day), (P2, Some(Date::constant(2030, 1, 31))));
    let before = db.read(|r| r.publication(P1)).expect("read").expect("there");
    assert_eq!(before.state, PublicationState::Replaced(content('a')));
    let actions = db.read(|r| r.trace_rows(100)).expect("rows");
    let actions: Vec<_> = actions.iter().rev().map(|row| row.action.as_str()).collect();
    let each = ["data.taken", "data.checked", "data.loaded", "data.published"];
    assert_eq!(actions, [&["lab.create"][..], &each, &each].concat());
}

#[test]
fn what_was_ever_published_is_known_by_its_hash_also_when_it_is_replaced() {
    let (_dir, db) = lab();
    let is = |digit: char| {
        let sha256 = digit.to_string().repeat(64);
        db.read(|r| r.is_published(&sha256)).expect("read")
    };
    take(&db, "2030-01-31.pcap").expect("taken");
    assert!(!is('a') && !is('b'));
    publish(&db, P1, 'a');
    take(&db, "2030-01-31.pcap").expect("taken");
    publish(&db, P2, 'b');
    assert!(is('a') && is('b') && !is('c'));
}

#[test]
fn samples_and_reports_of_every_day_that_was_ever_published_are_known_by_their_hash() {
    let (_dir, db) = lab();
    // Two that begin alike, and one at each end.
    let held = [
        [0; 32],
        [7; 32],
        {
            let mut same = [7; 32];
            same[31] = 8;
            same
        },
        [255; 32],
    ];
    let is = |hash: &[u8; 32]| db.read(|r| r.is_published(&hex::encode(hash))).expect("read");
    let bring = |hashes: &[[u8; 32]], digit| {
        let id = take(&db, "2030-01-31.samples.tar").expect("taken");
        db.write("nonstopd", at(2), |w| {
            w.publication_checked(id, &samples(digit))?;
            w.publication_holds(id, hashes)?;
            w.publication_loaded(id, None)?;
            w.publication_published(id, 7)
        })
        .expect("published");
    };
    assert!(!held.iter().any(is));
    bring(&held, 'b');
    assert!(held.iter().all(is));
    // A day without them takes its place, and none of them is forgotten.
    bring(&[[9; 32]], 'c');
    assert!(held.iter().all(is) && is(&[9; 32]));
    let mut near = [7; 32];
    near[31] = 9;
    assert!(!is(&near) && !is(&[8; 32]));
    assert!(!db.read(|r| r.is_published("no hash")).expect("read"));
}

#[test]
fn files_of_one_day_are_under_way_one_after_the_other_and_those_of_no_day_beside_them() {
    let (_dir, db) = lab();
    take(&db, "2030-01-31.pcap").expect("taken");
    let second = take(&db, "2030-01-31.pcapng");
    assert!(matches!(second, Err(StoreError::DayUnderWay { id: P1, .. })), "{second:?}");
    take(&db, "2030-02-01.pcap").expect("another day");
    take(&db, "holiday.jpg").expect("no day");
    take(&db, "holiday.jpg").expect("no day again");
    let under_way = db.read(|r| r.publications_under_way(DOMAIN)).expect("read");
    assert_eq!(under_way.iter().map(|p| p.id.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let other = db.read(|r| r.publications_under_way("mws")).expect("read");
    assert!(other.is_empty(), "of another data domain");
}

#[test]
fn a_publication_goes_one_way() {
    let (_dir, db) = lab();
    take(&db, "2030-01-31.pcap").expect("taken");
    let early = db.write("x", at(2), |w| w.publication_published(P1, 7));
    assert!(matches!(early, Err(StoreError::NotThatFar { is: "taken", .. })), "{early:?}");
    db.write("x", at(2), |w| w.reject_publication(P1, "torn")).expect("rejected");
    let again = db.write("x", at(2), |w| w.publication_checked(P1, &content('a')));
    assert!(matches!(again, Err(StoreError::NotThatFar { is: "rejected", .. })), "{again:?}");
    let load = db.write("x", at(2), |w| w.want_load(P1));
    assert!(matches!(load, Err(StoreError::NotThatFar { .. })), "{load:?}");
    let none = db.write("x", at(2), |w| w.expire_publication(P2));
    assert!(matches!(none, Err(StoreError::NoPublication(P2))), "{none:?}");
}

#[test]
fn an_expired_day_is_published_no_more_and_one_that_is_loaded_again_stays() {
    let (_dir, db) = lab();
    take(&db, "2030-01-31.pcap").expect("taken");
    publish(&db, P1, 'a');
    db.write("sato", at(3), |w| w.want_load(P1)).expect("wanted");
    let wanted = db.read(|r| r.publication(P1)).expect("read").expect("there").state;
    assert!(matches!(wanted, PublicationState::Published { load: true, .. }));
    db.write("nonstopd", at(4), |w| w.publication_reloaded(P1, 9)).expect("loaded");
    let loaded = db.read(|r| r.publication(P1)).expect("read").expect("there").state;
    assert!(matches!(loaded, PublicationState::Published { load: false, rows: Some(9), .. }));
    // A clock that was set back stops nothing.
    db.write("nonstopd", at(-9), |w| w.expire_publication(P1)).expect("expired");
    assert!(db.read(|r| r.published(DOMAIN)).expect("read").is_empty());
}

#[test]
fn a_day_of_samples_is_published_beside_the_packets_of_that_day() {
    let (_dir, db) = lab();
    take(&db, "2030-01-31.pcap").expect("taken");
    take(&db, "2030-01-31.samples.tar").expect("of another kind");
    let second = take(&db, "20300131.samples.tar");
    assert!(matches!(second, Err(StoreError::DayUnderWay { id: P2, .. })), "{second:?}");
    publish(&db, P1, 'a');
    let publish_samples = |id, digit| {
        db.write("nonstopd", at(2), |w| {
            w.publication_checked(id, &samples(digit))?;
            w.publication_loaded(id, None)?;
            w.publication_published(id, 7)
        })
        .expect("published");
    };
    publish_samples(P2, 'b');
    let again = take(&db, "2030-01-31.samples.tar").expect("taken");
    publish_samples(again, 'c');
    let shown = db.read(|r| r.published(DOMAIN)).expect("read");
    let shown: Vec<_> = shown.iter().map(|p| (p.id, p.kind, p.state.content().cloned())).collect();
    assert_eq!(
        shown,
        [(P1, Resource::Pcap, Some(content('a'))), (again, Resource::Samples, Some(samples('c')))]
    );
    let before = db.read(|r| r.publication(P2)).expect("read").expect("there");
    assert_eq!(before.state, PublicationState::Replaced(samples('b')));
    // PostgreSQL has no samples.
    db.write("sato", at(3), |w| w.want_load(again)).expect_err("nothing to load");
}

#[test]
fn publications_from_before_samples_stay_as_they_are_with_their_numbers() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("nonstop.db");
    let raw = rusqlite::Connection::open(&path).expect("opens");
    for sql in [
        include_str!("../migrations/0001_lab.sql"),
        include_str!("../migrations/0002_pool.sql"),
        include_str!("../migrations/0003_desktops.sql"),
        include_str!("../migrations/0004_snapshots.sql"),
        include_str!("../migrations/0005_publications.sql"),
        include_str!("../migrations/0006_editions.sql"),
        include_str!("../migrations/0007_cards.sql"),
        include_str!("../migrations/0008_sessions.sql"),
        include_str!("../migrations/0009_bandwidth.sql"),
        include_str!("../migrations/0010_transfers.sql"),
        include_str!("../migrations/0011_heads.sql"),
        "PRAGMA user_version = 11;",
    ] {
        raw.execute_batch(sql).expect("as it was");
    }
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    raw.execute_batch(&format!(
        "INSERT INTO publications (domain, kind, day, file, asked_by, state, taken_at, changed_at,
            format, bytes, packets, first_at, last_at, sha256, rows, modified_ns, load, reason)
         VALUES
            ('intermediate', 'pcap', '2030-01-31', '2030-01-31.pcap', 'sato', 'published', 5, 6,
                'pcapng', 40, 1, 3, 4, '{a}', 1, 7, 1, ''),
            ('intermediate', 'pcap', NULL, 'holiday.jpg', 'watcher', 'rejected', 5, 6,
                NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 'no day'),
            ('mws', 'pcap', '2030-02-01', '2030-02-01.pcap', 'watcher', 'checked', 5, 6,
                'pcap', 40, 1, 3, 4, '{b}', NULL, NULL, 0, ''),
            ('mws', 'pcap', '2030-02-02', '2030-02-02.pcap', 'watcher', 'taken', 5, 6,
                NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, '');
         DELETE FROM publications WHERE id = 4;"
    ))
    .expect("as it was");
    drop(raw);
    let db = Db::open(&path, at(0)).expect("migrated");
    let micros = |n| Timestamp::from_microsecond(n).expect("small");
    let holds = |format| {
        let (first, last) = (micros(3), micros(4));
        Holds::Packets(Packets { format, packets: 1, first, last })
    };
    let published = db.read(|r| r.published(DOMAIN)).expect("read");
    let content = Content { bytes: 40, sha256: a, holds: holds(CaptureFormat::Pcapng) };
    let state = PublicationState::Published { content, rows: Some(1), modified_ns: 7, load: true };
    assert_eq!((published[0].id, &published[0].state), (P1, &state));
    assert_eq!((published[0].taken_at, published[0].changed_at), (micros(5), micros(6)));
    let rejected = &db.read(|r| r.rejected(DOMAIN)).expect("read")[0];
    assert_eq!(rejected.state, PublicationState::Rejected { reason: "no day".into() });
    let under_way = &db.read(|r| r.publications_under_way("mws")).expect("read")[0];
    let content = Content { bytes: 40, sha256: b, holds: holds(CaptureFormat::Pcap) };
    assert_eq!(under_way.state, PublicationState::Checked(content));
    let next = take(&db, "2030-03-01.samples.tar").expect("taken");
    assert_eq!(next, PublicationId(5), "no number is given out twice");
}

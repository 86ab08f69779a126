//! What the database keeps of publications.

use jiff::{Timestamp, civil::Date};
use nonstop_model::{
    CaptureFormat, Content, PublicationId, PublicationState, Resource, publication::day_of,
};
use nonstop_store::{Db, StoreError};

const P1: PublicationId = PublicationId(1);
const P2: PublicationId = PublicationId(2);
const DOMAIN: &str = "intermediate";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).expect("small")
}

fn content(digit: char) -> Content {
    Content {
        format: CaptureFormat::Pcap,
        bytes: 24 + 16,
        packets: 1,
        first: at(-100),
        last: at(-100),
        sha256: digit.to_string().repeat(64),
    }
}

fn lab() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&dir.path().join("nonstop.db"), at(0)).expect("opens");
    (dir, db)
}

fn take(db: &Db, file: &str) -> Result<PublicationId, StoreError> {
    db.write("sato", at(1), |w| w.take_publication(DOMAIN, Resource::Pcap, day_of(file), file))
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

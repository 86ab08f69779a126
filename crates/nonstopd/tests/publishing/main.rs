//! Every way of a file from the inbox to its day, with the daemon killed and the disk full before
//! each effect: what machines see is whole or not there at all, nothing is lost, nothing left over.

mod lab;

use lab::*;
use nonstop_model::{PublicationId, PublicationState};
use nonstop_store::StoreError;
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
};

const DAY: &str = "2030-01-31.pcap";

#[test]
fn a_day_arrives_and_is_published() {
    insta::assert_snapshot!(sweep(|lab| {
        lab.bring(DAY, "first");
        lab.settle();
    }));
}

#[test]
fn a_day_that_is_published_again_is_replaced_as_a_whole() {
    insta::assert_snapshot!(sweep(|lab| {
        lab.bring(DAY, "first");
        lab.settle();
        lab.bring("20300131.pcapng", "second");
        lab.settle();
    }));
}

#[test]
fn a_torn_file_and_one_of_no_day_are_put_aside_with_the_reason() {
    insta::assert_snapshot!(sweep(|lab| {
        lab.bring(DAY, "torn");
        lab.bring("holiday.jpg", "a picture");
        lab.settle();
    }));
}

#[test]
fn a_day_of_samples_arrives_beside_one_of_packets_and_is_replaced_as_a_whole() {
    insta::assert_snapshot!(sweep(|lab| {
        lab.bring(DAY, "first");
        lab.bring("2030-01-31.samples.tar", "samples");
        lab.settle();
        lab.bring("20300131.samples.tar", "other samples");
        lab.settle();
    }));
}

#[test]
fn days_of_samples_that_are_not_fit_are_put_aside_and_old_ones_go() {
    insta::assert_snapshot!(sweep(|lab| {
        lab.bring("2030-01-28.samples.tar", "oldest");
        lab.bring("2030-01-30.samples.tar", "torn");
        lab.bring("yesterday.samples.tar", "of no day");
        lab.bring_to(OTHER, "2030-01-31.samples.tar", "where no server has samples");
        lab.settle();
        // Days of packets are counted by themselves.
        lab.bring("2030-01-20.pcap", "packets");
        lab.bring("2030-01-31.samples.tar", "newest");
        lab.settle();
    }));
}

#[test]
fn a_file_over_which_its_program_dies_three_times_is_put_aside_and_lets_others_pass() {
    for (name, text) in [("2030-01-30.samples.tar", "samples"), ("2030-01-30.pcap", "packets")] {
        // Twice may be bad luck.
        let mut lab = TestLab::new(None);
        *lab.rdb.deaths.lock().expect("whole") = 2;
        lab.bring(name, text);
        lab.settle();
        assert!(lab.picture().contains("data.published 1"), "{}", lab.picture());
        lab.bring(&name.replace("30.", "31."), "deadly");
        *lab.rdb.deaths.lock().expect("whole") = 3;
        lab.settle();
        let picture = lab.picture();
        assert!(picture.contains("ended without a word"), "{picture}");
        assert!(picture.contains("data.rejected 1"), "{picture}");
        lab.bring(&name.replace("30.", "29."), "another day");
        lab.settle();
        assert!(lab.picture().contains("data.published 2"), "{}", lab.picture());
    }
}

#[test]
fn what_arrives_is_seen_by_nobody_but_whom_the_lab_gave_the_inbox() {
    let mut lab = TestLab::new(None);
    lab.settle();
    let mode = |lab: &TestLab, folder: &str| {
        fs::metadata(lab.folder(folder)).expect("there").permissions().mode() & 0o7777
    };
    let closed = ["inbox/pcap", "taking", "rejected", "rejected/pcap", "rejected/samples"];
    for folder in closed {
        assert_eq!(mode(&lab, folder), 0o700, "{folder}");
    }
    assert_eq!(mode(&lab, "inbox"), 0o711, "passed, and not listed");
    // A sensor's own, made before: its owner, its group and what they may stay.
    let inbox = lab.folder("inbox/pcap");
    chown(&inbox, Some(65_534), Some(65_533)).expect("given");
    for (path, of) in [("inbox/pcap", 0o2777), ("inbox", 0o755), ("taking", 0o755)] {
        fs::set_permissions(lab.folder(path), Permissions::from_mode(of)).expect("set");
    }
    lab.restart();
    lab.settle();
    let about = fs::metadata(&inbox).expect("there");
    assert_eq!((about.uid(), about.gid(), mode(&lab, "inbox/pcap")), (65_534, 65_533, 0o770));
    assert_eq!((mode(&lab, "inbox"), mode(&lab, "taking")), (0o751, 0o700));
    // What is nobody else's already is left as it is.
    fs::set_permissions(&inbox, Permissions::from_mode(0o3730)).expect("set");
    lab.restart();
    assert_eq!(mode(&lab, "inbox/pcap"), 0o3730);
    lab.bring(DAY, "first");
    lab.settle();
    assert_eq!(names(&lab.folder("published/pcap")), ["2030-01-31"]);
}

#[test]
fn what_was_made_of_a_day_is_not_taken_for_a_file_that_arrived_and_its_loss_is_told() {
    let mut lab = TestLab::new(None);
    lab.bring("2030-01-31.samples.tar", "samples");
    lab.publisher.watch(DOMAIN);
    let id = PublicationId(1);
    // Packed by a daemon whose database was lost before it could say so.
    let made = [".samples.pack", ".reports.pack", ".index.db", ".hashes"];
    for name in made {
        fs::write(lab.folder("taking/p1").join(name), "made").expect("written");
    }
    lab.restore_old_backup();
    assert_eq!(names(&lab.folder("inbox/pcap")), ["2030-01-31.samples.tar"]);
    assert_eq!(names(&lab.folder("taking")), [""; 0]);
    lab.settle();
    let state = lab.db.read(|r| r.publication(id)).expect("read").expect("there").state;
    assert!(matches!(state, PublicationState::Published { .. }), "{state:?}");
    // A pack that somebody cuts off is told as a file of packets would be.
    let pack = lab.folder("published/samples/2030-01-31/samples.pack");
    let modified = fs::metadata(&pack).expect("there").modified().expect("a time");
    fs::write(&pack, "cut").expect("written");
    File::options().write(true).open(&pack).expect("opens").set_modified(modified).expect("set");
    lab.publisher.work(DOMAIN);
    let faults = lab.publisher.domain_board(DOMAIN).faults;
    assert!(faults[0].what.contains("changed by hand"), "{faults:?}");
}

#[test]
fn a_day_of_a_wrong_clock_is_put_aside_and_takes_no_other_away() {
    let mut lab = TestLab::new(None);
    lab.bring(DAY, "first");
    lab.bring("2099-01-01.pcap", "from the future");
    lab.settle();
    insta::assert_snapshot!(lab.picture());
}

#[test]
fn two_files_for_one_day_are_published_in_order_of_arrival() {
    insta::assert_snapshot!(sweep(|lab| {
        lab.bring("2030-01-31.pcap", "first");
        let path = lab.folder("inbox/pcap/2030-01-31.pcap");
        let earlier = fs::metadata(&path).expect("there").modified().expect("a time");
        let file = File::options().write(true).open(&path).expect("opens");
        file.set_modified(earlier - std::time::Duration::from_secs(60)).expect("an older file");
        drop(file);
        lab.bring("20300131.pcap", "second");
        lab.settle();
    }));
}

#[test]
fn days_that_are_older_than_data_are_kept_go_and_others_stay() {
    insta::assert_snapshot!(sweep(|lab| {
        for day in ["2030-01-28", "2030-01-29", "2030-01-30"] {
            lab.bring(&format!("{day}.pcap"), day);
        }
        lab.settle();
        lab.bring("2030-01-31.pcap", "newest");
        lab.bring_to(OTHER, "2020-01-01.pcap", "kept for ever");
        lab.settle();
        lab.bring_to(OTHER, "2030-01-01.pcap", "newer");
        lab.settle();
    }));
}

#[test]
fn a_day_older_than_days_are_kept_is_put_aside_with_the_reason() {
    let mut lab = TestLab::new(None);
    lab.bring("2030-01-31.pcap", "newest");
    lab.settle();
    lab.bring("2030-01-02.pcap", "a late one");
    lab.settle();
    let rejected = lab.db.read(|read| read.rejected(DOMAIN)).expect("read");
    let reasons: Vec<_> = rejected.iter().map(|row| row.state.clone()).collect();
    let reasons = format!("{reasons:?}");
    assert!(reasons.contains("older than the 3 days that are kept"), "{reasons}");
}

#[test]
fn days_that_postgresql_has_lost_are_loaded_again_from_what_is_published() {
    insta::assert_snapshot!(sweep(|lab| {
        lab.bring(DAY, "first");
        lab.settle();
        lab.rdb.lose("2030-01-31");
        let id = lab.db.read(|r| r.published(DOMAIN)).expect("read")[0].id;
        let now = jiff::Timestamp::from_second(2_000_000_000).expect("small");
        lab.db.write("sato", now, |w| w.want_load(id)).expect("wanted");
        lab.settle();
    }));
}

#[test]
fn a_publication_waits_for_postgresql_and_says_so_while_another_domain_goes_on() {
    let mut lab = TestLab::new(None);
    *lab.rdb.away.lock().expect("whole") = true;
    lab.bring(DAY, "first");
    lab.bring_to(OTHER, DAY, "other");
    for domain in [DOMAIN, OTHER] {
        lab.publisher.watch(domain);
        lab.publisher.work(domain);
    }
    let waits = lab.publisher.trouble(PublicationId(1)).expect("it waits");
    assert_eq!(waits.message, "PostgreSQL does not answer");
    assert!(names(&lab.folder("published/pcap")).is_empty(), "nothing of it is seen");
    assert_eq!(lab.db.read(|r| r.published(OTHER)).expect("read").len(), 1);
    *lab.rdb.away.lock().expect("whole") = false;
    lab.settle();
    assert_eq!(lab.publisher.trouble(PublicationId(1)), None);
    assert_eq!(lab.db.read(|r| r.published(DOMAIN)).expect("read").len(), 1);
}

#[test]
fn a_day_that_postgresql_loses_before_it_is_shown_is_loaded_again() {
    insta::assert_snapshot!(sweep(|lab| {
        *lab.rdb.forgets.lock().expect("whole") = true;
        lab.bring(DAY, "first");
        lab.settle();
    }));
}

#[test]
fn under_the_reserve_a_publication_waits_with_the_reason_until_there_is_room() {
    let mut lab = TestLab::new(None);
    lab.lab.capacity.reserve_mib = 1 << 40;
    lab.restart();
    lab.bring(DAY, "first");
    lab.publisher.watch(DOMAIN);
    lab.publisher.work(DOMAIN);
    let waits = lab.publisher.trouble(PublicationId(1)).expect("it waits");
    assert!(waits.message.contains("kept in reserve"), "{waits:?}");
    lab.lab.capacity.reserve_mib = 1;
    lab.restart();
    lab.settle();
    assert_eq!(lab.db.read(|r| r.published(DOMAIN)).expect("read").len(), 1);
}

#[test]
fn what_is_still_written_to_is_not_taken_by_anybody_and_what_is_fresh_not_by_the_watcher() {
    let mut lab = TestLab::new(None);
    lab.bring(DAY, "first");
    let writer = File::options().append(true).open(lab.folder("inbox/pcap").join(DAY));
    let writer = writer.expect("opens");
    lab.publisher.watch(DOMAIN);
    assert_eq!(names(&lab.folder("inbox/pcap")), [DAY]);
    drop(writer);
    lab.publisher.watch(DOMAIN);
    assert!(names(&lab.folder("inbox/pcap")).is_empty());
    fs::write(lab.folder("inbox/pcap/2030-02-01.pcap"), "fresh").expect("written");
    lab.publisher.watch(DOMAIN);
    assert_eq!(names(&lab.folder("inbox/pcap")), ["2030-02-01.pcap"]);
    // Whoever opened it just before it was taken keeps it from being read.
    let path = lab.folder("inbox/pcap/2030-02-01.pcap");
    let writer = File::options().append(true).open(&path).expect("opens");
    let id = lab.publisher.begin(DOMAIN, "2030-02-01.pcap", "sato").expect("begun");
    lab.publisher.watch(DOMAIN);
    lab.publisher.work(DOMAIN);
    let waits = lab.publisher.trouble(id).expect("it waits");
    assert!(waits.message.contains("open for writing"), "{waits:?}");
    drop(writer);
    lab.publisher.hurry();
    lab.publisher.work(DOMAIN);
    let state = lab.db.read(|r| r.publication(id)).expect("read").expect("there").state;
    assert!(matches!(state, PublicationState::Published { .. }), "{state:?}");
}

#[test]
fn links_folders_pipes_and_names_that_cannot_be_are_left_where_they_are() {
    let mut lab = TestLab::new(None);
    let inbox = lab.folder("inbox/pcap");
    let secret = lab.path().join("secret");
    fs::write(&secret, "root's").expect("written");
    symlink(&secret, inbox.join("2030-01-01.pcap")).expect("a link");
    fs::hard_link(&secret, inbox.join("2030-01-02.pcap")).expect("a name");
    fs::create_dir(inbox.join("2030-01-03.pcap")).expect("a folder");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        inbox.join("2030-01-04.pcap"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from(0o600),
        0,
    )
    .expect("a pipe");
    fs::write(inbox.join("n".repeat(250)), "x").expect("a long name");
    fs::write(inbox.join("two\nlines.pcap"), "x").expect("a name of two lines");
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"2030-\xff.pcap");
    fs::write(inbox.join(odd), "x").expect("a name that is no text");
    for quiet in [".2030-01-05.pcap", "2030-01-06.pcap.part", "2030-01-07.tmp"] {
        fs::write(inbox.join(quiet), "x").expect("written");
    }
    let before = names(&inbox);
    lab.bring(DAY, "first");
    lab.settle();
    assert_eq!(names(&inbox), before);
    let mode = fs::metadata(&secret).expect("there").permissions().mode();
    assert_eq!(
        (mode & 0o777, fs::read_to_string(&secret).expect("there").as_str()),
        (0o644, "root's")
    );
    assert_eq!(
        lab.picture().lines().next(),
        Some("intermediate 2030-01-31: first in 2030-01-31.pcap")
    );
}

#[test]
fn what_a_restored_old_backup_does_not_know_is_neither_lost_nor_shown_as_known() {
    let mut lab = TestLab::new(None);
    lab.bring(DAY, "first");
    lab.settle();
    // One more is on its way when the host fails.
    *lab.rdb.away.lock().expect("whole") = true;
    lab.bring("2030-02-01.pcap", "second");
    lab.publisher.watch(DOMAIN);
    lab.publisher.work(DOMAIN);
    lab.restore_old_backup();
    assert_eq!(names(&lab.folder("inbox/pcap")), ["2030-02-01.pcap"], "it is back");
    *lab.rdb.away.lock().expect("whole") = false;
    lab.publisher.work(DOMAIN);
    let faults = lab.publisher.domain_board(DOMAIN).faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].what.contains("does not know it"), "{faults:?}");
    lab.bring(DAY, "first again");
    lab.settle();
    assert!(lab.publisher.domain_board(DOMAIN).faults.is_empty());
    insta::assert_snapshot!(lab.picture());
}

#[test]
fn a_row_of_a_restored_backup_learns_that_it_was_published() {
    let mut lab = TestLab::new(None);
    lab.bring(DAY, "first");
    lab.settle();
    let inode = lab.published_inode("2030-01-31");
    lab.restore_old_backup();
    // The backup is of the moment when it was taken.
    lab.publisher.begin(DOMAIN, DAY, "watcher").expect("begun");
    lab.settle();
    let row = lab.db.read(|r| r.publication(PublicationId(1))).expect("read").expect("there");
    assert!(matches!(row.state, PublicationState::Published { .. }), "{row:?}");
    assert_eq!(lab.published_inode("2030-01-31"), inode);
}

#[test]
fn what_somebody_changes_by_hand_is_told_and_mended_by_publishing_again() {
    let mut lab = TestLab::new(None);
    lab.bring(DAY, "first");
    lab.settle();
    let folder = lab.folder("published/pcap/2030-01-31");
    fs::write(folder.join("2030-01-31.pcap"), "FIRST").expect("written");
    lab.publisher.work(DOMAIN);
    let fault = |lab: &TestLab| lab.publisher.domain_board(DOMAIN).faults[0].what.clone();
    assert!(fault(&lab).contains("changed by hand"), "{}", fault(&lab));
    fs::remove_dir_all(&folder).expect("removed");
    lab.publisher.work(DOMAIN);
    assert!(fault(&lab).contains("removed or changed"), "{}", fault(&lab));
    lab.bring(DAY, "first");
    lab.settle();
    assert!(lab.publisher.domain_board(DOMAIN).faults.is_empty());
}

#[test]
fn a_file_that_goes_before_it_is_taken_is_rejected_with_the_reason() {
    let mut lab = TestLab::new(None);
    let id = lab.publisher.begin(DOMAIN, DAY, "sato").expect("begun");
    let twice = lab.publisher.begin(DOMAIN, DAY, "sato");
    assert!(matches!(twice, Err(StoreError::DayUnderWay { .. })), "{twice:?}");
    lab.settle();
    let state = lab.db.read(|r| r.publication(id)).expect("read").expect("there").state;
    let PublicationState::Rejected { reason } = state else { panic!("{state:?}") };
    assert!(reason.contains("gone from the inbox"), "{reason}");
}

//! Heads of a real database, signed by a real authority, brought by the real program under a user
//! without rights to a folder, a mail program and a host. As root, as the daemon is.

mod lab;

use jiff::SignedDuration;
use lab::{HEADS_UID, TestLab, Web, until};
use nonstop_api::heads::{Answer, Ask};
use nonstop_profile::Fingerprint;
use nonstop_trace::{Evidence, Head, Sign};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::Command,
};

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().expect("it runs");
    assert!(status.success(), "{program} {args:?}");
}

/// Every head in `folder`, whole, in order.
fn heads_in(lab: &TestLab, folder: &Path) -> Vec<u64> {
    let mut evidence = Evidence::new(vec![Fingerprint::of(&lab.key().public_key())], None);
    evidence.read_heads(folder);
    assert_eq!(evidence.refused(), [], "each is whole, and the lab's");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("there").map(|e| e.expect("readable").path()).collect();
    files.sort();
    let seq = |path: &std::path::PathBuf| {
        Head::read(&fs::read_to_string(path).expect("readable")).expect("a head").seq()
    };
    files.iter().map(seq).collect()
}

#[test]
fn heads_reach_a_folder_that_only_takes_a_mail_and_a_host_and_the_daemon_knows() {
    let lab = TestLab::new("all");
    let (web, drop_box) = (Web::start(), lab.folder("drop", 0o733));
    // What is in it can be neither removed nor renamed.
    run("chattr", &["+a", &drop_box.display().to_string()]);
    let sendmail = lab.script("sendmail", "exec cat >> \"$(dirname $0)/mails/$$.eml\"");
    lab.folder("mails", 0o777);
    let heads = format!(
        "{{folder: {}, mail: audit@lab.example, url: '{}', sendmail: {}}}",
        drop_box.display(),
        web.url(),
        sendmail.display()
    );
    let serving = lab.serve(&heads);
    lab.work(3);
    let first = serving.sign();
    let program = lab.program();
    until("the first head is everywhere", || serving.lacking().is_empty());
    lab.work(2);
    let second = serving.sign();
    until("the second is, too", || serving.lacking().is_empty());

    let both = [first.seq(), second.seq()];
    assert_eq!(heads_in(&lab, &drop_box), both);
    let posted: Vec<_> =
        web.posted().iter().map(|body| Head::read(body).expect("a head").seq()).collect();
    assert_eq!(posted, both);
    let mut mailed = Evidence::new(vec![Fingerprint::of(&lab.key().public_key())], None);
    mailed.read_heads(&lab.path("mails"));
    assert_eq!((mailed.heads(), mailed.refused().len()), (2, 0), "{:?}", mailed.refused());
    for view in serving.views() {
        assert_eq!((view.sent.len(), view.unsent.len()), (3, 0), "{view:?}");
    }
    // Nobody has to own what is there but who wrote it, and nobody else may write it.
    let file = fs::metadata(drop_box.join(first.file_name())).expect("there");
    assert_eq!(file.permissions().mode() & 0o777, 0o644);
    drop(program);
    run("chattr", &["-a", &drop_box.display().to_string()]);
}

#[test]
fn killed_again_and_again_it_misses_no_head_and_leaves_no_half_one() {
    let lab = TestLab::new("killed");
    let folder = lab.folder("heads", 0o777);
    let serving = lab.serve(&format!("{{folder: {}}}", folder.display()));
    let mut signed = Vec::new();
    for round in 0..25_u64 {
        let program = lab.program();
        for _ in 0..4 {
            lab.work(1);
            signed.push(serving.sign().seq());
        }
        std::thread::sleep(std::time::Duration::from_millis(5 + round * 13 % 90));
        // Dropping it kills it.
        drop(program);
    }
    let _program = lab.program();
    until("all are there", || serving.lacking().is_empty());
    assert_eq!(heads_in(&lab, &folder), signed);
}

#[test]
fn a_full_disk_a_half_file_and_a_foreign_one_are_told_and_overwritten_never() {
    let lab = TestLab::new("full");
    let folder = lab.folder("small", 0o777);
    let at = folder.display().to_string();
    run("mount", &["-t", "tmpfs", "-o", "size=64k,mode=0777", "tmpfs", &at]);
    let _mounted = lab::Mounted(at.clone());
    fs::write(folder.join("filler"), vec![0; 128 << 10]).expect_err("there is no more room");
    let serving = lab.serve(&format!("{{folder: {at}}}"));
    lab.work(1);
    let first = serving.sign();
    let program = lab.program();
    until("it is told that there is no room", || {
        serving.lacking().iter().any(|why| why.contains("No space left"))
    });
    fs::remove_file(folder.join("filler")).expect("removed");
    until("it is there", || serving.lacking().is_empty());
    assert_eq!(heads_in(&lab, &folder), [first.seq()]);
    drop(program);

    lab.work(1);
    let second = serving.sign();
    // What a power cut left of it.
    let path = folder.join(second.file_name());
    fs::write(&path, &second.line().as_bytes()[..100]).expect("written");
    std::os::unix::fs::chown(&path, Some(HEADS_UID), Some(HEADS_UID)).expect("its own");
    let program = lab.program();
    until("it is completed", || serving.lacking().is_empty());
    assert_eq!(fs::read_to_string(&path).expect("readable"), second.line());
    drop(program);

    lab.work(1);
    let third = serving.sign();
    let path = folder.join(third.file_name());
    fs::write(&path, "somebody else's\n").expect("written");
    let _program = lab.program();
    until("it is told that another is there", || {
        serving.lacking().iter().any(|why| why.contains("another file has that name"))
    });
    assert_eq!(fs::read_to_string(&path).expect("readable"), "somebody else's\n");
}

#[test]
fn a_place_that_is_away_for_two_hours_is_told_in_check_and_trace_and_gets_all_once_it_is_back() {
    let lab = TestLab::new("late");
    let web = Web::start();
    web.refuse(true);
    let serving = lab.serve(&format!("{{url: '{}'}}", web.url()));
    lab.work(1);
    serving.sign();
    let _program = lab.program();
    until("the failure is told", || serving.lacking().iter().any(|why| why.contains("503")));
    let standing = || serving.check("second place url:");
    assert!(standing().good, "not yet for long: {:?}", standing());
    assert_eq!(serving.late(), Vec::<String>::new());
    lab.clock.pass(SignedDuration::from_hours(2) + SignedDuration::from_secs(1));
    serving.heads.pass().expect("looked");
    serving.heads.pass().expect("looked again");
    let found = standing();
    assert!(!found.good && found.found.contains("503"), "{found:?}");
    assert_eq!(serving.actions("heads.late"), 1, "once");
    assert!(serving.late().iter().any(|line| line.contains("503")), "{:?}", serving.late());

    web.refuse(false);
    until("all are there", || serving.lacking().is_empty());
    serving.heads.pass().expect("looked");
    assert!(standing().good, "{:?}", standing());
    assert_eq!((serving.actions("heads.late"), serving.actions("heads.there")), (1, 1));
    assert!(!web.posted().is_empty());
}

#[test]
fn heads_are_signed_hourly_where_there_is_something_new_and_at_the_labs_own_time() {
    let lab = TestLab::new("hourly");
    let serving = lab.serve("{}");
    lab.work(1);
    let due = || serving.heads.sign_if_due().expect("looked");
    let first = due().expect("there is none yet");
    assert_eq!(first.at(), lab.clock.time(), "not the host's wall clock");
    lab.clock.pass(SignedDuration::from_mins(59));
    lab.work(1);
    assert!(due().is_none(), "not yet");
    lab.clock.pass(SignedDuration::from_mins(1));
    let second = due().expect("an hour, and something new");
    assert_eq!(second.at(), lab.clock.time());
    lab.clock.pass(SignedDuration::from_hours(50));
    assert!(due().is_none(), "nothing new");
    lab.work(1);
    assert!(due().is_some());
}

#[test]
fn nobody_but_its_user_is_answered_and_root_does_not_run_it() {
    let lab = TestLab::new("others");
    let folder = lab.folder("heads", 0o777);
    let serving = lab.serve(&format!("{{folder: {}}}", folder.display()));
    lab.work(1);
    serving.sign();
    // This test is root: the socket is another user's, whoever may open it.
    let socket = UnixStream::connect(lab.lab("{}").heads_socket()).expect("connects");
    nonstop_api::send(&socket, &Ask::Errands).expect("sent");
    assert!(nonstop_api::receive::<Answer>(&socket).is_err(), "no answer");
    let output = Command::new(env!("CARGO_BIN_EXE_nonstop-heads"))
        .args(["--lab", &lab.path("lab.yaml").display().to_string()])
        .output()
        .expect("runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not run as root"));
    // What it says of rows that were never signed, or of places that there are not, changes nothing.
    for (place, seq) in [(format!("folder:{}", folder.display()), 999), ("url:x".into(), 1)] {
        serving.heads.answer(&Ask::Sent { place, seq });
    }
    assert_eq!(serving.lacking().len(), 1);
}

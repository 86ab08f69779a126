//! What the daemon makes of programs that say too much, too little, nothing, or what cannot be.
//! Scripts stand for `nonstop-data` here: the real one does none of that by itself.

use jiff::civil::Date;
use nonstop_model::{Holds, PublicationId};
use nonstopd::publisher::{
    Children, Folders, Job, Made, Programs, Readers, Steady, Trouble, Verdict,
};
use std::{
    cell::RefCell,
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// The file that is read: 40 bytes.
const FILE: &str = "0123456789012345678901234567890123456789";
const GOOD: &str = r#"{"checked":{"format":"pcap","packets":3,"bytes":40,
"first":"2030-01-30T15:00:00Z","last":"2030-01-31T14:59:59Z","sha256":"SUM"}}"#;

struct Lab {
    dir: tempfile::TempDir,
    programs: Programs,
}

/// A lab in which `script` stands for the program.
fn lab(script: &str) -> Lab {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let program: PathBuf = dir.path().join("nonstop-data");
    let good = GOOD.replace('\n', "").replace("SUM", &"ab".repeat(32));
    let script = script.replace("GOOD", &good).replace("DIR", &dir.path().display().to_string());
    fs::write(dir.path().join("file"), FILE).expect("written");
    let run = dir.path().join("run");
    let patience = Duration::from_secs(2);
    let samples = dir.path().join("nonstop-samples");
    let text = dir.path().join("text");
    fs::write(&text, format!("#!/bin/sh\n{script}\n")).expect("written");
    for path in [&program, &samples] {
        // By another process: what this one has open for writing, its other tests' children have too
        // until they become a program, and such a file cannot be run.
        assert!(Command::new("cp").args([&text, path]).status().expect("cp").success());
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a program");
    }
    let programs = Programs { program, samples, run, reader: (65_534, 65_534), patience };
    Lab { programs, dir }
}

impl Lab {
    fn file(&self) -> File {
        File::open(self.path("file")).expect("opens")
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.dir.path()).join(name)
    }

    fn check(&self) -> Result<Verdict, Trouble> {
        self.programs.check(&job(), &self.file(), &|_, _| {})
    }
}

fn job() -> Job {
    Job {
        domain: "intermediate".into(),
        day: Date::constant(2030, 1, 31),
        from: "2030-01-30T15:00:00Z".parse().expect("a time"),
        until: "2030-01-31T15:00:00Z".parse().expect("a time"),
        id: PublicationId(7),
    }
}

#[test]
fn a_file_is_given_open_and_read_and_what_is_said_of_it_is_heard() {
    let lab = lab(r#"echo "$@" > DIR/words
        [ "$(wc -c)" = 40 ] || exit 1
        echo '{"progress":{"bytes":20,"of":40}}'
        echo 'GOOD'"#);
    let heard = RefCell::new(Vec::new());
    let each = |bytes, of| heard.borrow_mut().push((bytes, of));
    let verdict = lab.programs.check(&job(), &lab.file(), &each).expect("no trouble");
    let Verdict::Good(content) = verdict else { panic!("{verdict:?}") };
    let packets = content.packets().expect("packets").packets;
    assert_eq!((packets, content.bytes), (3, 40));
    assert_eq!(heard.into_inner(), [(20, 40)]);
    assert_eq!(
        fs::read_to_string(lab.path("words")).expect("words").trim(),
        "check --day 2030-01-31 --from 2030-01-30T15:00:00Z --until 2030-01-31T15:00:00Z \
         --uid 65534 --gid 65534"
    );
}

#[test]
fn a_reason_is_one_line_that_no_terminal_acts_on() {
    let lab = lab(r#"printf '{"refused":{"reason":"torn \\u001b[2J\\nat record 3"}}\n'"#);
    let Verdict::Refused(reason) = lab.check().expect("no trouble") else { panic!("not refused") };
    assert_eq!(reason, "torn  [2J at record 3");
}

#[test]
fn what_cannot_be_true_is_not_believed() {
    for (from, to) in [
        ("\"bytes\":40", "\"bytes\":41"),
        ("\"packets\":3", "\"packets\":0"),
        ("2030-01-31T14:59:59Z", "2030-01-31T15:00:00Z"),
        ("2030-01-30T15:00:00Z", "2030-01-29T15:00:00Z"),
        ("pcap", "../../etc"),
        ("abab", "ABAB"),
        ("abab", "ab"),
    ] {
        let good = GOOD.replace('\n', "").replace("SUM", &"ab".repeat(32));
        assert!(good.contains(from), "{from}");
        let lab = lab(&format!("echo '{}'", good.replacen(from, to, 1)));
        let trouble = lab.check().expect_err("not believed");
        assert!(trouble.message.contains("said what cannot be"), "{to}: {trouble}");
    }
}

#[test]
fn one_that_says_nothing_is_ended_with_all_that_it_started() {
    let lab = lab("sleep 300 & echo $! > DIR/pid; wait");
    let begun = Instant::now();
    let trouble = lab.check().expect_err("it is ended");
    assert!(trouble.message.contains("said nothing for 2 s"), "{trouble}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let pid = fs::read_to_string(lab.path("pid")).expect("it ran");
    // Its parent is gone; whoever inherits it may not have reaped it yet.
    let state = format!("ps -o state= -p {} | grep -v Z", pid.trim());
    assert!(!Command::new("sh").args(["-c", &state]).status().expect("ps").success());
}

#[test]
fn one_that_tells_how_far_it_is_may_take_longer_than_that() {
    let lab =
        lab(r#"for n in 1 2 3 4 5; do sleep 0.7; echo '{"progress":{"bytes":0,"of":0}}'; done
        echo 'GOOD'"#);
    assert!(matches!(lab.check(), Ok(Verdict::Good(_))));
}

#[test]
fn one_that_talks_without_end_fills_no_memory_and_is_ended() {
    let endless = "head -c 100000000 /dev/zero | tr '\\0' x";
    for script in [endless.to_string(), format!("{endless} >&2; echo out of patience >&2; exit 3")]
    {
        let lab = lab(&script);
        let begun = Instant::now();
        lab.check().expect_err("trouble");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

#[test]
fn one_that_dies_says_why_by_its_last_line() {
    let lab = lab("echo first >&2; echo 'no such user' >&2; exit 3");
    let trouble = lab.check().expect_err("trouble");
    assert!(trouble.message.ends_with("ended without a word: no such user"), "{trouble}");
    assert!(!trouble.died, "it did not even begin with the file");
    let lab = self::lab("kill -9 $$");
    let trouble = lab.check().expect_err("trouble");
    assert!(trouble.died && trouble.message.contains("signal: 9"), "{trouble}");
    // As a program of ours ends at a panic.
    let lab = self::lab("echo 'thread main panicked' >&2; exit 101");
    assert!(lab.check().expect_err("trouble").died);
    let mut lab = self::lab("");
    lab.programs.program = lab.path("nowhere");
    let trouble = lab.check().expect_err("trouble");
    assert!(trouble.help.contains("lab.yaml"), "{trouble:?}");
}

#[test]
fn days_are_one_line_or_the_reason_why_not() {
    let days = r#"{"days":[{"day":"2030-01-31","rows":3,"publication":"p7","sha256":"ab"}]}"#;
    let good = lab(&format!("echo '{days}'"));
    assert_eq!(good.programs.days("intermediate").expect("days")[0].publication, PublicationId(7));
    let failed = lab(r#"echo '{"failed":{"reason":"nobody listens"}}'"#);
    assert_eq!(failed.programs.days("intermediate").expect_err("failed").message, "nobody listens");
    let odd = lab("echo what");
    odd.programs.days("intermediate").expect_err("not understood");
}

/// Of a day of samples; the file is as long as an archive of one member.
const PACKED: &str = r#"{"packed":{"bytes":1536,"samples":1,"reports":1,"sha256":"SUM"}}"#;

/// What is made of a day of samples by `script`, and what is said of it.
fn pack(script: &str, packed: &str) -> (Lab, Made, Result<Verdict, Trouble>) {
    let lab = lab(&script.replace("PACKED", &packed.replace("SUM", &"ab".repeat(32))));
    fs::write(lab.path("file"), [0; 1536]).expect("written");
    let folders = Folders::new(lab.path("data"), Readers::default(), std::sync::Arc::new(Steady));
    folders.make().expect("made");
    fs::create_dir(lab.path("data/taking/p7")).expect("made");
    let made = folders.new_made(PublicationId(7)).expect("files");
    let verdict = lab.programs.check_samples(&job(), &lab.file(), &made, &|_, _| {});
    (lab, made, verdict)
}

const PACKS: &str = r#"echo "$@" > DIR/words; [ "$(wc -c)" = 1536 ] || exit 1
    printf pack >&3; printf reports >&4; printf index >&5; printf hashes >&6; echo 'PACKED'"#;

#[test]
fn what_is_made_of_a_day_of_samples_is_written_to_files_that_have_no_name_yet() {
    let (lab, made, verdict) = pack(PACKS, PACKED);
    let Ok(Verdict::Good(content)) = verdict else { panic!("{verdict:?}") };
    assert_eq!(content.holds, Holds::Samples { samples: 1, reports: 1 });
    assert_eq!((content.bytes, content.sha256), (1536, "ab".repeat(32)));
    assert_eq!(
        fs::read_to_string(lab.path("words")).expect("words").trim(),
        "check-samples --day 2030-01-31 --from 2030-01-30T15:00:00Z --until 2030-01-31T15:00:00Z \
         --uid 65534 --gid 65534"
    );
    assert_eq!(fs::read_dir(lab.path("data/taking/p7")).expect("there").count(), 0);
    let folders = Folders::new(lab.path("data"), Readers::default(), std::sync::Arc::new(Steady));
    folders.keep_made(PublicationId(7), &made).expect("kept");
    for (name, text) in [
        (".samples.pack", "pack"),
        (".reports.pack", "reports"),
        (".index.db", "index"),
        (".hashes", "hashes"),
    ] {
        let path = lab.path("data/taking/p7").join(name);
        assert_eq!(fs::read_to_string(&path).expect("there"), text);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o440, "{name} is no program, and not for everybody");
    }
}

#[test]
fn what_cannot_be_true_of_a_day_of_samples_is_not_believed() {
    for (from, to) in [
        ("\"bytes\":1536", "\"bytes\":1537"),
        ("\"samples\":1", "\"samples\":3"),
        ("\"samples\":1", "\"samples\":18446744073709551615"),
        ("\"samples\":1,\"reports\":1", "\"samples\":0,\"reports\":0"),
        ("SUM", "../SUM"),
    ] {
        assert!(PACKED.contains(from), "{from}");
        let (_lab, _made, verdict) = pack(PACKS, &PACKED.replacen(from, to, 1));
        let trouble = verdict.expect_err("not believed");
        assert!(trouble.message.contains("said what cannot be"), "{to}: {trouble}");
    }
    let nothing_made = PACKS.replace("printf index >&5", "true");
    pack(&nothing_made, PACKED).2.expect_err("without an index nothing is found");
    let (_lab, _made, refused) = pack(r#"echo '{"refused":{"reason":"samples/x"}}'"#, PACKED);
    assert_eq!(refused.expect("no trouble"), Verdict::Refused("samples/x".into()));
}

#[test]
fn what_is_told_of_a_program_has_the_name_of_the_one_that_ran() {
    for (script, told) in [
        ("kill -9 $$", "check-samples ended without a word: signal: 9"),
        ("sleep 300", "check-samples said nothing for 2 s"),
        ("echo what", "check-samples said what cannot be"),
        ("echo '{\"done\":{\"rows\":1}}'", "check-samples said what cannot be"),
    ] {
        let trouble = pack(script, PACKED).2.expect_err("trouble");
        assert!(trouble.message.starts_with(&format!("nonstop-samples {told}")), "{trouble}");
        assert!(!trouble.help.contains("nonstop-data"), "{trouble:?}");
    }
    let trouble = lab("kill -9 $$").check().expect_err("trouble");
    assert!(trouble.message.starts_with("nonstop-data check ended"), "{trouble}");
}

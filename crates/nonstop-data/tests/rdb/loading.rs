//! Days loaded, swapped in, replaced and removed; and what is left when something is killed in the
//! middle.

use crate::world::{DOMAIN, PROGRAM, World, eventually, told};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

const DAY: &str = "2030-01-31";

impl World {
    /// A file of one day with `packets` packets.
    pub(crate) fn day(&self, packets: u64, seed: u64) -> PathBuf {
        let file = self.path(&format!("{packets}-{seed}.pcap"));
        let output = Command::new(PROGRAM)
            .args(["generate", "--domain", DOMAIN, "--day", DAY, "--darknet", "203.0.113.0/24"])
            .args(["--packets", &packets.to_string(), "--seed", &seed.to_string(), "--out"])
            .arg(&file)
            .output()
            .expect("generate");
        assert!(output.status.success(), "{}", told(&output));
        file
    }

    fn child(&self, verb: &str, words: &[&str]) -> Command {
        let mut command = self.inside();
        command.args([PROGRAM, verb]).args(words).arg("--socket").arg(self.load_socket());
        command
    }

    fn loader(&self, file: &Path, publication: &str) -> Command {
        let mut command = self.child(
            "load",
            &[
                "--domain",
                DOMAIN,
                "--day",
                DAY,
                "--from",
                "2030-01-31T00:00:00Z",
                "--until",
                "2030-02-01T00:00:00Z",
                "--publication",
                publication,
                "--sha256",
                &"ab".repeat(32),
            ],
        );
        command.stdin(fs::File::open(file).expect("the file"));
        command
    }

    pub(crate) fn load(&self, file: &Path, publication: &str) -> String {
        last(&self.loader(file, publication).output().expect("load"))
    }

    pub(crate) fn swap(&self, publication: &str) -> String {
        let words = ["--domain", DOMAIN, "--day", DAY, "--publication", publication];
        last(&self.child("swap", &words).output().expect("swap"))
    }

    fn drop_day(&self) -> String {
        last(&self.child("drop", &["--day", DAY]).output().expect("drop"))
    }

    fn days(&self) -> String {
        last(&self.child("days", &[]).output().expect("days"))
    }

    /// Bytes of the writer's files of the database.
    fn bytes(&self) -> u64 {
        let base = self.path("state/data").join(DOMAIN).join("rdb/writer/base");
        let output = Command::new("du").arg("-sb").arg(base).output().expect("du");
        told(&output).split_whitespace().next().expect("a number").parse().expect("a number")
    }
}

fn last(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_string()
        + &String::from_utf8_lossy(&output.stderr)
}

pub(crate) fn done(rows: u64) -> String {
    format!("{{\"done\":{{\"rows\":{rows}}}}}")
}

#[test]
fn a_day_is_seen_when_it_is_swapped_in_and_gone_when_it_is_dropped() {
    let mut world = World::running("{}");
    let alice = world.machine();
    let (one, two) = (world.day(50_000, 1), world.day(60_000, 2));
    assert_eq!(world.load(&one, "p1"), done(50_000));
    assert_eq!(world.load(&one, "p1"), done(50_000), "a repeat finds it done");
    assert_eq!(alice.ask("select count(*) from packets"), "0", "nothing is seen of it yet");
    assert_eq!(world.swap("p1"), done(50_000));
    assert_eq!(world.swap("p1"), done(50_000), "a repeat finds it done");
    // Machines see it at once: swap tells no sooner.
    assert_eq!(alice.ask("select count(*) from packets"), "50000");
    assert_eq!(
        alice.ask("select day, begins, ends - begins, rows, publication from days"),
        format!("{DAY}|2030-01-31 00:00:00+00|1 day|50000|p1")
    );
    assert_eq!(
        world.days(),
        format!(
            "{{\"days\":[{{\"day\":\"{DAY}\",\"rows\":50000,\"publication\":\"p1\",\
             \"sha256\":\"{}\"}}]}}",
            "ab".repeat(32)
        )
    );
    // Replaced as a whole; what an abandoned publication left goes with the next load.
    assert_eq!(world.load(&one, "p2"), done(50_000));
    assert_eq!(world.load(&two, "p3"), done(60_000));
    assert_eq!(world.writer("select part from parts.staged"), "d20300131_p3");
    assert_eq!(world.swap("p3"), done(60_000));
    assert_eq!(alice.ask("select count(*) from packets"), "60000");
    assert!(world.swap("p2").contains("load it"));
    assert_eq!(world.writer("select count(*) from pg_class where relname ~ '^d2030.*p[12]$'"), "0");
    let plan = alice.ask(&format!(
        "explain select * from packets where time >= '{DAY} 12:00' and time < '{DAY} 13:00' \
         and src <<= '198.51.100.0/24'"
    ));
    assert!(plan.contains("Index"), "{plan}");
    assert_eq!(world.drop_day(), done(0));
    assert_eq!(world.drop_day(), done(0));
    assert_eq!(alice.ask("select count(*) from packets"), "0");
    assert_eq!(world.days(), "{\"days\":[]}");
}

#[test]
fn every_column_is_what_tshark_says() {
    let mut world = World::running("{}");
    let alice = world.machine();
    let file = world.day(20_000, 7);
    assert_eq!(world.load(&file, "p1"), done(20_000));
    assert_eq!(world.swap("p1"), done(20_000));
    let ours = alice.ask(
        "select to_char(extract(epoch from time), 'FM9999999999.000000'), host(src), host(dst), \
         protocol, coalesce(sport::text, ''), coalesce(dport::text, ''), ttl, length, \
         coalesce(icmp_type::text, '') from packets order by time, src, dst, sport, dport, length",
    );
    let output = Command::new("tshark")
        .args(["-n", "-T", "fields", "-E", "separator=|", "-E", "occurrence=f"])
        .args(["-o", "ip.defragment:false"])
        .args(
            ["frame.time_epoch", "ip.src", "ip.dst", "ip.proto", "tcp.srcport", "udp.srcport"]
                .iter()
                .chain(&["tcp.dstport", "udp.dstport", "ip.ttl", "frame.len", "icmp.type"])
                .flat_map(|field| ["-e", field]),
        )
        .arg("-r")
        .arg(&file)
        .output()
        .expect("tshark is installed");
    let theirs = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut theirs: Vec<String> = theirs
        .lines()
        .map(|line| {
            let f: Vec<&str> = line.split('|').collect();
            // An ICMP error quotes ports of another packet, which are none of its own.
            let (sport, dport) = match f[3] {
                "6" => (f[4], f[6]),
                "17" => (f[5], f[7]),
                _ => ("", ""),
            };
            let time = &f[0][..f[0].len() - 3];
            [time, f[1], f[2], f[3], sport, dport, f[8], f[9], f[10]].join("|")
        })
        .collect();
    let mut ours: Vec<String> = ours.lines().map(String::from).collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours.len(), 20_000);
    for (a, b) in ours.iter().zip(&theirs) {
        assert_eq!(a, b);
    }
}

#[test]
fn a_day_is_replaced_while_machines_ask_and_none_sees_half_of_it() {
    let mut world = World::running("{}");
    let alice = world.machine();
    let (one, two) = (world.day(30_000, 1), world.day(40_000, 2));
    world.load(&one, "p1");
    assert_eq!(world.swap("p1"), done(30_000));
    let asks = std::sync::atomic::AtomicU32::new(0);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let seen = alice.ask(
                    "select (select count(*) from packets), (select coalesce(sum(rows), 0) from days)",
                );
                let good = ["30000|30000", "40000|40000"].contains(&seen.as_str());
                // Who stands in the way for 15 s is told so.
                assert!(good || seen.contains("conflict with recovery"), "{seen}");
                asks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        for n in 2..8 {
            let file = if n % 2 == 0 { &two } else { &one };
            world.load(file, &format!("p{n}"));
            let swapped = world.swap(&format!("p{n}"));
            assert!(swapped.contains("done"), "{swapped}");
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let asks = asks.load(std::sync::atomic::Ordering::Relaxed);
    assert!(asks > 5, "{asks} questions were answered");
}

#[test]
fn a_new_day_disturbs_no_query() {
    let mut world = World::running("{}");
    let alice = world.machine();
    let file = world.day(10_000, 1);
    world.load(&file, "p1");
    let mut long = alice.session();
    long.say("begin; select count(*) from packets; select pg_sleep(20) from packets limit 1;");
    long.say("select pg_sleep(5); select 'still here';");
    eventually(10, "the query", || !world.processes("SELECT").is_empty());
    assert_eq!(world.swap("p1"), done(10_000));
    assert!(long.end().contains("still here"));
}

/// Begins a load and waits until it has sent something, or for `ms` more.
fn begun(world: &World, file: &Path, publication: &str, ms: u64) -> Child {
    let child = world
        .loader(file, publication)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("load");
    std::thread::sleep(Duration::from_millis(ms));
    child
}

fn kill(pids: &[i32]) {
    let pids = pids.iter().map(i32::to_string);
    // It may have ended by itself.
    let _ = Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status();
}

#[test]
fn whatever_is_killed_while_a_day_is_loaded_it_is_there_whole_or_not_at_all() {
    let mut world = World::running("{}");
    let alice = world.machine();
    let (one, two) = (world.day(30_000, 1), world.day(400_000, 2));
    world.load(&one, "p1");
    assert_eq!(world.swap("p1"), done(30_000));
    world.writer("checkpoint");
    let before = world.bytes();
    let mut number = 1;
    for whom in ["loader", "writer", "reader", "keeper"] {
        for ms in [100, 400, 900] {
            number += 1;
            let publication = format!("p{number}");
            let mut child = begun(&world, &two, &publication, ms);
            match whom {
                "loader" => kill(&world.processes("nonstop-data load")),
                "writer" => kill(&world.processes("rdb/writer.conf")),
                "reader" => kill(&world.processes("rdb/reader.conf")),
                _ => {
                    world.rdb().kill().expect("kill");
                    world.rdb().wait().expect("wait");
                    world.start();
                }
            }
            child.wait().expect("wait");
            world.settle();
            eventually(30, "machines see the old day", || {
                alice.ask("select count(*) from packets") == "30000"
            });
        }
    }
    // Nothing is left of all those: not even files that no table has.
    world.load(&one, "p100");
    world.drop_staged();
    eventually(60, "no file is left over", || {
        world.writer("checkpoint");
        world.bytes() < before + (2 << 20)
    });
    // And neither server misses one of those that were removed.
    assert_eq!(world.writer("checkpoint"), "");
    assert_eq!(world.reader("checkpoint"), "");
    number += 1;
    let publication = format!("p{number}");
    assert_eq!(world.load(&two, &publication), done(400_000));
    // Killed around the swap: the old or the new, and a repeat leads on.
    for part in ["writer", "reader"] {
        for ms in [0, 5, 20] {
            let words = ["--domain", DOMAIN, "--day", DAY, "--publication", &publication];
            let mut child = world
                .child("swap", &words)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("swap");
            std::thread::sleep(Duration::from_millis(ms));
            kill(&world.processes(&format!("rdb/{part}.conf")));
            child.wait().expect("wait");
            world.settle();
            eventually(30, "machines see a whole day", || {
                let seen = alice
                    .ask("select (select count(*) from packets), (select sum(rows) from days)");
                ["30000|30000", "400000|400000"].contains(&seen.as_str())
            });
        }
    }
    eventually(60, "it is swapped in", || world.swap(&publication) == done(400_000));
    assert_eq!(alice.ask("select count(*) from packets"), "400000");
}

#[test]
fn what_a_killed_load_left_is_not_missed_by_the_reader_that_still_had_to_write_it() {
    let mut world = World::running("{}");
    let day = world.day(2_000_000, 1);
    let before = world.bytes();
    let mut child = begun(&world, &day, "p1", 0);
    eventually(60, "some of it is there", || world.bytes() > before + (100 << 20));
    world.rdb().kill().expect("kill");
    world.rdb().wait().expect("wait");
    child.wait().expect("wait");
    world.start();
    world.settle();
    eventually(60, "what is left is removed", || {
        let log = world.log();
        log.lines().any(|l| l.starts_with("reader: ") && l.ends_with("of no table are removed"))
    });
    assert_eq!(world.reader("checkpoint"), "");
    assert_eq!(world.writer("checkpoint"), "");
    assert_eq!(world.load(&day, "p2"), done(2_000_000));
    assert_eq!(world.swap("p2"), done(2_000_000));
    assert_eq!(world.machine().ask("select count(*) from packets where length > 0"), "2000000");
    assert_eq!(world.reader("checkpoint"), "");
}

impl World {
    fn drop_staged(&self) {
        let parts = self.writer("select part from parts.staged");
        for part in parts.lines() {
            self.writer(&format!(
                "drop table parts.{part}; delete from parts.staged where part = '{part}'"
            ));
        }
    }
}

#[test]
fn without_the_writer_a_load_says_so_and_without_the_reader_a_swap_is_not_told_as_done() {
    let mut world = World::running("{}");
    let file = world.day(1000, 1);
    world.load(&file, "p1");
    let keeper = world.processes("rdb-keep");
    let stop = |signal: &str, pids: &[i32]| {
        let pids = pids.iter().map(i32::to_string);
        assert!(Command::new("kill").arg(signal).args(pids).status().expect("kill").success());
    };
    stop("-STOP", &keeper);
    stop("-KILL", &world.processes("rdb/reader.conf"));
    // Its children notice a moment later that it is gone, and may replay a swap until then.
    eventually(10, "the reader is gone", || {
        world.writer("select count(*) from pg_stat_replication") == "0"
    });
    let swapped = world.swap("p1");
    assert!(swapped.contains("failed") && swapped.contains("has not followed"), "{swapped}");
    stop("-CONT", &keeper);
    world.settle();
    assert_eq!(world.swap("p1"), done(1000));
    world.rdb().kill().expect("kill");
    world.rdb().wait().expect("wait");
    eventually(10, "nothing goes on", || world.processes("").is_empty());
    let loaded = world.load(&file, "p2");
    assert!(loaded.contains("failed") && loaded.contains("nonstop-data serve"), "{loaded}");
}

#[test]
fn a_wrong_file_or_day_leaves_nothing() {
    let world = World::running("{}");
    let file = world.day(20_000, 1);
    let whole = fs::read(&file).expect("read");
    let torn = world.path("torn.pcap");
    fs::write(&torn, &whole[..whole.len() - 3]).expect("write");
    let told = world.load(&torn, "p1");
    assert!(told.contains("failed") && told.contains("when it was checked"), "{told}");
    // A packet of another day is refused by the table itself.
    let mut loader = world.child(
        "load",
        &[
            "--domain",
            DOMAIN,
            "--day",
            "2030-01-30",
            "--from",
            "2030-01-30T00:00:00Z",
            "--until",
            "2030-01-31T00:00:00Z",
            "--publication",
            "p2",
            "--sha256",
            "00",
        ],
    );
    loader.stdin(fs::File::open(&file).expect("the file"));
    let told = last(&loader.output().expect("load"));
    assert!(told.contains("in_day"), "{told}");
    assert_eq!(world.writer("select count(*) from pg_class where relname like 'd2030%'"), "0");
}

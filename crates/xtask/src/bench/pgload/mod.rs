//! `cargo xtask bench pgload`: how fast a day of packets gets into PostgreSQL.
//!
//! Ours is `nonstop-data load` on a pcap, from its start to its end: reading, decoding, COPY, indexes,
//! statistics, commit. Peers put the same packets into the same table, with the same check, the same
//! indexes where there are any, COPY FREEZE, statistics and one durable commit, on one connection to
//! the same writer, which a reader follows in each case:
//! - **tshark**: `tshark -T fields | psql \copy`, what one would run by hand, with a line of perl that
//!   puts ports of TCP and UDP into one column; without payload;
//! - **CSV**: `psql \copy` of a file of CSV that is there already.
//!
//! Each round begins with another one; the reader has caught up and all is on the disk before each.

mod ground;

use super::{Comparison, median, millis};
use crate::{install, run::run, stages::Stages, workspace};
use anyhow::{Context, Result, bail};
use ground::Ground;
use nonstop_testkit::interrupt;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const DAY: &str = "2030-01-31";
const BOUNDS: [&str; 2] = ["2030-01-31T00:00:00Z", "2030-02-01T00:00:00Z"];

/// Packets of the comparisons with CSV, with tshark, and of the whole day.
const CSV: u64 = 3_000_000;
const TSHARK: u64 = 300_000;
const WHOLE: u64 = 50_000_000;

const ROUNDS: usize = 5;

/// For trying the bench itself: packets of the whole day, fewer than 50 million.
const SMALLER: &str = "NONSTOP_BENCH_PACKETS";

/// Measures all of it and prints a line a comparison.
pub(super) fn pgload() -> Result<()> {
    let whole = match env::var(SMALLER) {
        Ok(text) => text.parse().with_context(|| format!("{SMALLER} is no number: {text}"))?,
        Err(_) => WHOLE,
    };
    let mut stages = Stages::new();
    stages.stage("packages", || install::install_with(&["tshark"]))?;
    let program = stages.stage("building the loader, optimised", program)?;
    let folder = env::temp_dir().join(format!("pgload{}", std::process::id()));
    let ground = stages.stage("servers", || Ground::new(&folder, &program))?;
    let bench = Bench { ground, folder, program };
    stages.stage("beside tshark", || bench.beside_tshark())?;
    stages.stage("beside CSV", || bench.beside_csv())?;
    stages.stage("a whole day", || bench.whole(whole))?;
    drop(bench);
    stages.print();
    Ok(())
}

fn program() -> Result<PathBuf> {
    let words = ["build", "--release", "--quiet", "--locked", "-p", "nonstop-data"];
    run("building the loader", workspace::cargo()?.args(words))?;
    Ok(workspace::target()?.join("release/nonstop-data"))
}

struct Bench {
    ground: Ground,
    folder: PathBuf,
    program: PathBuf,
}

/// Whether indexes are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Indexes {
    With,
    Without,
}

impl Bench {
    fn beside_tshark(&self) -> Result<()> {
        let file = self.day(TSHARK)?;
        let script = self.script(&pipe(&file), "pstdin", "text, null ''", Indexes::With)?;
        let [ours, peer] = self
            .rounds(&mut [&mut || Ok(self.load(&file, Indexes::With)?.0), &mut || {
                self.timed("tshark and psql", &mut self.ground.shell(&script))
            }])?;
        rate("packets into the table with indexes", TSHARK, ours, peer, "tshark | psql \\copy")
    }

    fn beside_csv(&self) -> Result<()> {
        let file = self.day(CSV)?;
        let csv = self.csv(&file)?;
        for (indexes, what) in [
            (Indexes::Without, "packets into the table without indexes, parsing included"),
            (Indexes::With, "packets into the table with indexes, parsing included"),
        ] {
            let script = self.script("", &csv.display().to_string(), "csv", indexes)?;
            let [ours, peer] = self
                .rounds(&mut [&mut || Ok(self.load(&file, indexes)?.0), &mut || {
                    self.timed("psql", &mut self.ground.shell(&script))
                }])?;
            rate(what, CSV, ours, peer, "psql \\copy of ready CSV")?;
        }
        fs::remove_file(&csv).context("remove the CSV")?;
        Ok(())
    }

    /// One day of the size that counts; its figures stand alone, on stderr too.
    fn whole(&self, packets: u64) -> Result<()> {
        let small = self.day(CSV)?;
        let (small_took, small_memory) = self.load(&small, Indexes::With)?;
        let file = self.day(packets)?;
        let (took, memory) = self.load(&file, Indexes::With)?;
        eprintln!(
            "    a day of {packets} packets, {} MiB: loaded with indexes in {:.1} s, {:.0} packets/s; \
             the loader took at most {memory} KiB",
            fs::metadata(&file)?.len() >> 20,
            took.as_secs_f64(),
            packets as f64 / took.as_secs_f64(),
        );
        let since = Instant::now();
        self.ground.settle()?;
        eprintln!("    the reader had it {:.1} s later", since.elapsed().as_secs_f64());
        let name = "ours, a day of 3 million packets";
        let rate = |packets: u64, took: Duration| (packets as f64 / took.as_secs_f64()).round();
        let (ours, peer) = (rate(packets, took), rate(CSV, small_took));
        let what = format!("a day of {packets} packets with indexes");
        Comparison::higher(&what, "packets/s", ours, peer, name).print()?;
        let what = "memory of the loader for that day";
        Comparison::lower(what, "KiB", memory as f64, small_memory as f64, name).print()
    }

    /// Each of `all` in turn, the first one another each round; the median of each.
    fn rounds<const N: usize>(
        &self,
        all: &mut [&mut dyn FnMut() -> Result<Duration>; N],
    ) -> Result<[Duration; N]> {
        let mut times = [const { Vec::new() }; N];
        for round in 0..ROUNDS {
            for n in 0..N {
                let n = (n + round) % N;
                self.clear()?;
                let took = all[n]()?;
                eprintln!("    round {}, {}: {:.0} ms", round + 1, n + 1, millis(took));
                times[n].push(took);
            }
        }
        self.clear()?;
        let mut medians = [Duration::ZERO; N];
        for (median_of, times) in medians.iter_mut().zip(times) {
            *median_of = median(times)?;
        }
        Ok(medians)
    }

    /// A file of one day.
    fn day(&self, packets: u64) -> Result<PathBuf> {
        let file = self.folder.join(format!("{packets}.pcap"));
        if !file.exists() {
            let mut command = Command::new(&self.program);
            command.args(["generate", "--domain", "bench", "--day", DAY, "--packets"]);
            run("generating a day", command.arg(packets.to_string()).arg("--out").arg(&file))?;
        }
        Ok(file)
    }

    /// Loads `file` by our loader; the time, and its memory in KiB at its most.
    fn load(&self, file: &Path, indexes: Indexes) -> Result<(Duration, u64)> {
        self.clear()?;
        let mut command = self.ground.verb("load");
        command.args(["--domain", "bench", "--publication", "p1", "--day", DAY]);
        command.args(["--from", BOUNDS[0], "--until", BOUNDS[1], "--sha256", &"0".repeat(64)]);
        if indexes == Indexes::Without {
            command.arg("--without-indexes");
        }
        let file = fs::File::open(file).context("open the day")?;
        let since = Instant::now();
        let mut child =
            command.stdin(file).stdout(Stdio::piped()).spawn().context("start the loader")?;
        let mut most = 0;
        let status = loop {
            if let Some(status) = child.try_wait().context("wait for the loader")? {
                break status;
            }
            let own = fs::read_to_string(format!("/proc/{}/status", child.id()));
            let own = own.unwrap_or_default();
            let line = own.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            most = most.max(kib.unwrap_or(0));
            if interrupt::interrupted() {
                child.kill().context("end the loader")?;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let took = since.elapsed();
        let output = child.wait_with_output().context("hear the loader")?;
        if !status.success() {
            bail!("the loader failed: {}", String::from_utf8_lossy(&output.stdout));
        }
        Ok((took, most))
    }

    fn timed(&self, what: &str, command: &mut Command) -> Result<Duration> {
        let since = Instant::now();
        run(what, command)?;
        Ok(since.elapsed())
    }

    /// The packets of `file` as CSV, as they are in the table.
    fn csv(&self, file: &Path) -> Result<PathBuf> {
        self.load(file, Indexes::Without)?;
        let csv = self.folder.join("day.csv");
        let part = format!("parts.d{}_p1", DAY.replace('-', ""));
        let copy = format!("\\copy {part} to '{}' with (format csv)", csv.display());
        run("writing CSV", self.ground.psql("loader").args(["-c", &copy]))?;
        Ok(csv)
    }

    /// What a peer runs: `pipe` into psql, which does what our loader does.
    fn script(&self, pipe: &str, from: &str, format: &str, indexes: Indexes) -> Result<String> {
        let from = if from == "pstdin" { from.to_string() } else { format!("'{from}'") };
        let mut sql = format!(
            "begin; set local maintenance_work_mem = '512MB';\n\
             create table parts.peer (like public.packets, constraint in_day \
             check (time >= '{}' and time < '{}')) with (autovacuum_enabled = off);\n\
             \\copy parts.peer from {from} with (format {format}, freeze)\n",
            BOUNDS[0], BOUNDS[1]
        );
        if indexes == Indexes::With {
            for columns in ["using brin (time)", "(src)", "(dst)", "(dport, protocol)"] {
                sql += &format!("create index on parts.peer {columns};\n");
            }
        }
        sql += "analyze parts.peer; commit;\n";
        let path = self.folder.join("peer.sql");
        fs::write(&path, sql).context("write the peer's SQL")?;
        let psql = "psql -qAtX -v ON_ERROR_STOP=1 -d darknet -U loader -f";
        Ok(format!("{pipe}{psql} {}", path.display()))
    }

    /// As it was before anybody loaded, with everything on the disk.
    fn clear(&self) -> Result<()> {
        let sql = "drop table if exists parts.peer";
        run("removing the peer's", self.ground.psql("loader").args(["-c", sql]))?;
        let output =
            self.ground.verb("drop").args(["--day", DAY]).output().context("drop a day")?;
        if !output.status.success() {
            bail!("removing ours: {}", String::from_utf8_lossy(&output.stdout));
        }
        self.ground.settle()
    }
}

/// tshark's fields of `file`, put into the table's columns.
fn pipe(file: &Path) -> String {
    let fields = "frame.time ip.src ip.dst ip.proto tcp.srcport udp.srcport tcp.dstport \
                  udp.dstport tcp.flags ip.ttl frame.len icmp.type icmp.code";
    let fields: String = fields.split_whitespace().map(|field| format!(" -e {field}")).collect();
    format!(
        "tshark -n -r {} -T fields -E separator=/t -E occurrence=f{fields} | \
         perl -F'\\t' -lane 'print join \"\\t\", @F[0..3], $F[4].$F[5], $F[6].$F[7], \
         $F[8] eq \"\" ? \"\" : hex $F[8], @F[9,10], $F[11], $F[12], \"\"' | ",
        file.display()
    )
}

fn rate(what: &str, packets: u64, ours: Duration, peer: Duration, name: &str) -> Result<()> {
    let rate = |took: Duration| (packets as f64 / took.as_secs_f64()).round();
    Comparison::higher(what, "packets/s", rate(ours), rate(peer), name).print()
}

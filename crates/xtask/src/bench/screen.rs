//! `cargo xtask bench screen`: the four checks of a file of 2 GB beside `openssl dgst -sha256` of the
//! same file, out of the page cache, on one processor and on two.
//!
//! Ours is as in the product: `nonstop-screen measure` and `nonstop-screen rules` one after the other,
//! each confined, started anew, with the file as standard input. The file is a table of text, which
//! nothing lets off early: its encoding is checked to its end, and its density.

use super::{Comparison, at_least, look_around, middle};
use crate::{run::run, stages::Stages, workspace};
use anyhow::{Context, Result, ensure};
use nonstop_testkit::interrupt;
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Measured in turn; one round more warms both up.
const ROUNDS: usize = 7;
const BYTES: u64 = 2_000_000_000;
/// At least this share of the peer's rate on one processor, and on two.
const ONE: f64 = 0.65;
const TWO: f64 = 0.9;
/// The most memory that may be taken, in MB.
const MEMORY: f64 = 100.0;

/// Measures, and prints a JSON line for each comparison.
pub(super) fn screen() -> Result<()> {
    let mut stages = Stages::new();
    stages.stage("our program, built to be measured", || {
        let words = ["build", "--release", "--quiet", "--locked", "-p", "nonstop-screen"];
        run("building nonstop-screen", workspace::cargo()?.args(words))
    })?;
    let program = workspace::target()?.join("release/nonstop-screen");
    let file = workspace::target()?.join("bench-screen.csv");
    let _gone_at_the_end = Gone(&file);
    stages.stage("a file of 2 GB", || table(&file))?;
    look_around()?;
    let (mut ours, mut peer) = ([Vec::new(), Vec::new()], Vec::new());
    let mut most = 0u64;
    stages.stage("checks and hashes", || {
        for round in 0..=ROUNDS {
            for (processors, rates) in ["0", "0,1"].into_iter().zip(&mut ours) {
                interrupt::check()?;
                let hashed = rate(|| openssl(&file).map(|()| 0))?.0;
                let (checked, memory) = rate(|| checks(&program, &file, processors))?;
                most = most.max(memory);
                eprintln!(
                    "    round {round}: processors {processors}: {checked:.0} / {hashed:.0} MB/s"
                );
                if round > 0 {
                    rates.push(checked);
                    peer.push(hashed);
                }
            }
        }
        Ok(())
    })?;
    let hashed = middle(&peer)?.round();
    let name = "openssl dgst -sha256";
    for (what, rates, goal) in [
        ("the four checks of 2 GB, one processor", &ours[0], ONE),
        ("the four checks of 2 GB, two processors", &ours[1], TWO),
    ] {
        let checked = middle(rates)?.round();
        at_least(Comparison::higher(what, "MB/s", checked, hashed, name), Some(goal))?;
    }
    let memory = most as f64 / 1e6;
    let what = "memory of the program that measures, at most";
    at_least(Comparison::lower(what, "MB", memory.round(), MEMORY, "the bound"), Some(1.0))?;
    stages.print();
    Ok(())
}

/// Removes a file at the end.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let _it_is_only_in_the_way = std::fs::remove_file(self.0);
    }
}

/// MB/s of what `job` does with the file, and what it says.
fn rate(job: impl FnOnce() -> Result<u64>) -> Result<(f64, u64)> {
    let begun = Instant::now();
    let said = job()?;
    Ok((BYTES as f64 / 1e6 / begun.elapsed().as_secs_f64(), said))
}

/// A table of numbers, with a word of Japanese in each line.
fn table(path: &Path) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).context("make a file")?);
    let (mut written, mut x) = (0u64, 1u64);
    while written < BYTES {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let line =
            format!("2026-11-29T{:05},10.{}.{},{},宛先\n", x >> 48, x & 255, x >> 60, x >> 20);
        let rest = usize::try_from(BYTES - written).unwrap_or(usize::MAX);
        let part = &line.as_bytes()[..line.len().min(rest)];
        file.write_all(part).context("write a file")?;
        written += part.len() as u64;
    }
    file.flush().context("write a file")
}

fn openssl(file: &Path) -> Result<()> {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", "openssl", "dgst", "-sha256"]).arg(file).stdout(Stdio::null());
    run("openssl dgst", &mut command)
}

/// Both of our programs; the most memory that the one that measures had, in bytes.
fn checks(program: &Path, file: &PathBuf, processors: &str) -> Result<u64> {
    let start = |words: &[&str]| {
        let input = File::open(file).context("open the file")?;
        Command::new("taskset")
            .args(["-c", processors])
            .arg(program)
            .args(words)
            .stdin(input)
            .stdout(Stdio::null())
            .spawn()
            .context("start nonstop-screen")
    };
    let mut measure = start(&["measure"])?;
    let mut most = 0;
    let ended = loop {
        most = most.max(resident(measure.id()));
        if let Some(ended) = measure.try_wait().context("wait")? {
            break ended;
        }
        thread::sleep(Duration::from_millis(5));
    };
    ensure!(ended.success(), "nonstop-screen measure ended with {ended}");
    let ended = start(&["rules", "--kind", "text"])?.wait().context("wait")?;
    ensure!(ended.success(), "nonstop-screen rules ended with {ended}");
    Ok(most)
}

/// The most memory that the process `id` had so far, in bytes.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

//! How long proofs take: of the paper's fleet with all of it read from a kernel, and of 10,000
//! environments.

use super::{super::Comparison, hundredths, middle, verdict};
use anyhow::{Context, Result, ensure};
use nonstop_testkit::{interrupt, place::Place};
use serde::Deserialize;
use std::path::Path;

/// Environments whose machines are the paper's 102.
const PAPERS: u32 = 68;
const ROUNDS: usize = 5;
const GOAL_SECONDS: f64 = 2.0;

#[derive(Debug, Deserialize)]
struct Proven {
    machines: usize,
    cells: u64,
    holds: bool,
    read_s: f64,
    proven_s: f64,
    peak_mib: u64,
}

impl Proven {
    fn seconds(&self) -> f64 {
        self.read_s + self.proven_s
    }
}

/// Proves, and prints a line a comparison.
pub(super) fn proofs(fleet: &Path, many: u32) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(prove(fleet, "observe", PAPERS)?);
    }
    let seconds: Vec<f64> = times.iter().map(Proven::seconds).collect();
    let what = format!("prove {} machines, reading the kernel included", times[0].machines);
    let seconds = hundredths(middle(&seconds)?);
    Comparison::lower(&what, "s", seconds, GOAL_SECONDS, "goal").print()?;
    verdict(&what, &format!("{seconds} s of {GOAL_SECONDS}"), seconds < GOAL_SECONDS);
    let (tenth, all) = (prove(fleet, "prove", many / 10)?, prove(fleet, "prove", many)?);
    let what = format!("prove {many} environments, reading the rules included");
    let (ours, peer) = (hundredths(all.seconds()), hundredths(10.0 * tenth.seconds()));
    Comparison::lower(&what, "s", ours, peer, "ten times a tenth of them").print()
}

/// `how` is `observe`, or `prove` for interfaces as data.
fn prove(fleet: &Path, how: &str, environments: u32) -> Result<Proven> {
    interrupt::check()?;
    let fleet = fleet.to_str().context("the fleet's path is no text")?;
    let said = Place::here().run(&[fleet, how, &environments.to_string()])?;
    let proven: Proven = serde_json::from_str(&said).context("understand the fleet")?;
    ensure!(proven.holds, "the proof of {environments} environments does not hold");
    eprintln!(
        "    {environments} environments, {} machines, {} cells: read in {:.2} s, proven in {:.2} s, \
         {} MiB at most",
        proven.machines, proven.cells, proven.read_s, proven.proven_s, proven.peak_mib
    );
    Ok(proven)
}

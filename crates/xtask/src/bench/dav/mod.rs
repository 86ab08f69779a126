//! `cargo xtask bench dav`: files over WebDAV to our airlock, screening on, and to nginx's WebDAV
//! module, after which its client fsyncs the file and its folder: what our airlock promises before it
//! answers.
//!
//! Ours are both programs as in the product, before the daemon's core (`nonstop-airlock`'s example
//! `ground`); nginx has the settings that Debian ships. Both keep their files on the disk that this
//! repository's target folder lies on. What is written is screened before the next thing is measured.

mod client;
mod servers;

use super::{
    Comparison,
    reach::{at_least, look_around, middle},
};
use crate::{install, run::run, stages::Stages, workspace};
use anyhow::{Context, Result};
use client::{Load, measure};
use nonstop_testkit::interrupt;
use servers::Servers;

/// Measured in turn; one round more warms both up.
const ROUNDS: usize = 3;
const GOAL: f64 = 0.9;
/// The most memory of both programs together, with all clients of the busiest load, in MB.
const MEMORY: f64 = 100.0;

/// Measures, and prints a JSON line for each comparison.
pub(super) fn dav() -> Result<()> {
    let mut stages = Stages::new();
    stages.stage("packages", || install::install_with(&["nginx"]))?;
    stages.stage("our programs, built to be measured", || {
        let words = ["build", "--release", "--quiet", "--locked", "-p", "nonstop-airlock", "-p"];
        let more = ["nonstop-screen", "--bins", "--example", "ground"];
        run("building the airlock", workspace::cargo()?.args(words).args(more))
    })?;
    let servers = stages.stage("servers", Servers::start)?;
    look_around()?;
    let loads = Load::all();
    let mut seen = vec![(Vec::new(), Vec::new()); loads.len()];
    stages.stage("uploads and downloads", || {
        for round in 0..=ROUNDS {
            for (load, seen) in loads.iter().zip(&mut seen) {
                interrupt::check()?;
                let one = |ours| {
                    measure(load, &servers, ours, round).with_context(|| load.what.to_string())
                };
                // Each begins every other round.
                let (ours, peer) = match round % 2 {
                    0 => (one(true)?, one(false)?),
                    _ => {
                        let peer = one(false)?;
                        (one(true)?, peer)
                    }
                };
                let counted = if round == 0 { " (not counted)" } else { "" };
                let (what, unit) = (load.what, load.unit);
                eprintln!("    round {round}{counted}: {what}: {ours:.0} / {peer:.0} {unit}");
                if round > 0 {
                    seen.0.push(ours);
                    seen.1.push(peer);
                }
            }
        }
        Ok(())
    })?;
    for (load, (ours, peer)) in loads.iter().zip(&seen) {
        let name = if load.gets() { "nginx" } else { "nginx, then fsync of file and folder" };
        let (ours, peer) = (middle(ours)?.round(), middle(peer)?.round());
        at_least(Comparison::higher(load.what, load.unit, ours, peer, name), load.goal)?;
    }
    let what = "memory of both programs at its highest, with 100 clients at once";
    let ours = servers.memory_ours()?.round();
    at_least(Comparison::lower(what, "MB", ours, MEMORY, "the most it may be"), Some(1.0))?;
    drop(servers);
    stages.print();
    Ok(())
}

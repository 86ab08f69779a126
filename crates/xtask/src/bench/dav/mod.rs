//! `cargo xtask bench dav`: files over WebDAV to our airlock, screening on, and to nginx's WebDAV
//! module, after which its client fsyncs the file and its folder: what our airlock promises before it
//! answers.
//!
//! Ours are both programs as in the product, before the daemon's core (`nonstop-airlock`'s example
//! `ground`); nginx has the settings that Debian ships. Both keep their files on the disk that this
//! repository's target folder lies on. What is written is screened before the next thing is measured.

mod client;
mod servers;

use super::{Comparison, at_least, in_turns, look_around};
use crate::{install, run::run, stages::Stages, workspace};
use anyhow::Result;
use client::{Load, measure};
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
    let seen = stages.stage("uploads and downloads", || {
        let told = |load: &Load| (load.what, load.unit);
        in_turns(&loads, ROUNDS, told, |load, ours, round| measure(load, &servers, ours, round))
    })?;
    for (load, (ours, peer)) in loads.iter().zip(&seen) {
        let name = if load.gets() { "nginx" } else { "nginx, then fsync of file and folder" };
        let (ours, peer) = (ours.round(), peer.round());
        at_least(Comparison::higher(load.what, load.unit, ours, peer, name), load.goal)?;
    }
    let what = "memory of both programs at its highest, with 100 clients at once";
    let ours = servers.memory_ours()?.round();
    at_least(Comparison::lower(what, "MB", ours, MEMORY, "the most it may be"), Some(1.0))?;
    drop(servers);
    stages.print();
    Ok(())
}

//! `cargo xtask bench samples`: searches over 100,000 samples and as many reports, and the publication
//! of a day of 10,000 of each.
//!
//! - **Searches** are asked over HTTP, from a machine's segment through a host that routes, of
//!   `nonstop-samples serve` as in the product: confined, on two processors. Ten days of 10,000, with
//!   reports of about 60 lines each, were published as below. Questions are of every kind that there
//!   is, and of the kinds that are hard to answer: what nothing has, though all its parts are
//!   frequent. Each answer is compared with what is known of the samples: how many there are, that
//!   each is one that was asked for, and that nothing has no next page. One client asks alone, and two
//!   at once; eight at once are shown without a goal, as they share two processors with the server.
//! - **Publication** is from the request to publish a tar that lies in the inbox to the shown day, its
//!   tar removed, by the publisher of `nonstopd` (its example `publish`) with `nonstop-samples
//!   check-samples`: the tar is hashed, each sample and report hashed, read, masked, indexed; all is
//!   synced to the disk, and the day shown. Samples have lengths from 10 to 512 kB, as many between 10
//!   and 20 as between 100 and 200, and each fifth is a line; a day is about a GB, which nobody can
//!   compress.
//!   The peer has the same samples and reports as 20,000 files: `cp -r`, `openssl dgst -sha256` of all
//!   (which is faster than `sha256sum`), one `syncfs`, and a rename. Beside it, without a goal, is the
//!   tar itself: copied, hashed and synced, which neither looks into it nor finds a sample in it.
//!   What is read is in the page cache and on the disk before each.

mod publication;
mod questions;
mod searches;
mod store;

use super::{Comparison, at_least, look_around, middle, millis, percentile};
use crate::{run::run, stages::Stages, workspace};
use anyhow::Result;
use std::time::Duration;
use store::{Programs, Store};

/// What a search may take, of which one in a hundred takes longer.
const SEARCH_MS: f64 = 50.0;
/// Of the speed of copying and hashing as many files.
const PUBLICATION: f64 = 0.5;

/// Measures, and prints a JSON line for each comparison.
pub(super) fn samples() -> Result<()> {
    let mut stages = Stages::new();
    stages.stage("our programs, built to be measured", || {
        let words = ["build", "--release", "--quiet", "--locked", "-p", "nonstop-samples", "-p"];
        let more = ["nonstopd", "--bin", "nonstop-samples", "--example", "publish"];
        run("building nonstop-samples and nonstopd", workspace::cargo()?.args(words).args(more))
    })?;
    let programs = Programs::built()?;
    let (store, hashes) = stages.stage("100,000 samples and reports", || {
        let mut store = Store::new(&programs)?;
        let hashes = store.fill()?;
        Ok((store, hashes))
    })?;
    look_around()?;
    let searches = stages.stage("searches", || searches::measure(&store, &hashes))?;
    drop(store);
    for (clients, times) in &searches {
        let clients = match clients {
            1 => "one at a time".to_string(),
            n => format!("{n} clients at once"),
        };
        let goal = (!clients.starts_with('8')).then_some(1.0);
        for (part, percent, goal) in [("p50", 50, None), ("p99", 99, goal)] {
            let what = format!("a search of 100,000 samples, {clients}, {part}");
            let took = millis(percentile(times.iter().copied(), percent)?);
            at_least(Comparison::lower(&what, "ms", took, SEARCH_MS, "the goal"), goal)?;
        }
    }
    look_around()?;
    let [ours, files, tar] = stages.stage("publications", || publication::measure(&programs))?;
    let seconds = |times: &[Duration]| {
        middle(&times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>())
            .map(|seconds| (seconds * 1000.0).round())
    };
    let ours = seconds(&ours)?;
    for (peer, name, goal) in [
        (files, "cp -r, openssl dgst and syncfs of 20,000 files", Some(PUBLICATION)),
        (tar, "cp, openssl dgst and sync of the tar", None),
    ] {
        let what = "publication of a day of 10,000 samples and reports";
        at_least(Comparison::lower(what, "ms", ours, seconds(&peer)?, name), goal)?;
    }
    stages.print();
    Ok(())
}

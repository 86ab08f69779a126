//! `cargo xtask bench pcap`: a day of 1 GiB given out by our server and by nginx, the same file out
//! of the page cache, over the same network: a machine's segment, a host that routes, the data
//! domain's bridge, and a pair of interfaces into its servers' network.
//!
//! nginx has the settings that Debian ships (`sendfile`, `tcp_nopush`, a log of all requests, a
//! worker a processor). Ours is as in the product: confined, a report and a line of log a request.
//! Both have lines for each request written to files.

mod client;
mod servers;

use super::{Comparison, at_least, in_turns, look_around, routed::Routed};
use crate::{install, run::run, stages::Stages, workspace};
use anyhow::Result;
use client::Load;
use servers::{NGINX, OURS, Servers};
use std::time::Duration;

/// Measured in turn; one round more warms both up.
const ROUNDS: usize = 5;
/// The day that is given out, and one of a few packets.
const BIG: &str = "2026-11-27";
const SMALL: &str = "2026-11-26";
const GIB: u64 = 1 << 30;
const GOAL: f64 = 0.9;
/// How long requests are asked that cost little each.
const SPELL: Duration = Duration::from_secs(2);

/// Measures, and prints a JSON line for each comparison.
pub(super) fn pcap() -> Result<()> {
    let mut stages = Stages::new();
    stages.stage("packages", || install::install_with(&["nginx"]))?;
    stages.stage("our server, built to be measured", || {
        let words = ["build", "--release", "--quiet", "--locked", "-p", "nonstop-data"];
        run("building nonstop-data", workspace::cargo()?.args(words))
    })?;
    let routed = stages.stage("networks", Routed::new)?;
    let program = workspace::target()?.join("release/nonstop-data");
    let servers = stages.stage("servers, and a day of 1 GiB", || {
        Servers::start(&routed, &program, &[(BIG, GIB), (SMALL, 4096)])
    })?;
    look_around()?;
    let loads = loads();
    let seen = stages.stage("downloads and requests", || {
        let told = |load: &Load| (load.what, load.unit);
        in_turns(&loads, ROUNDS, told, |load, ours, _| {
            load.measure(&routed, if ours { OURS } else { NGINX }, ours)
        })
    })?;
    for (load, (ours, peer)) in loads.iter().zip(&seen) {
        let (ours, peer) = (ours.round(), peer.round());
        at_least(Comparison::higher(load.what, load.unit, ours, peer, "nginx"), load.goal)?;
    }
    drop(servers);
    stages.print();
    Ok(())
}

fn loads() -> Vec<Load> {
    let of = |what, connections, ask, goal| Load {
        what,
        unit: if matches!(ask, client::Ask::Whole | client::Ask::Ranges) {
            "MB/s"
        } else {
            "requests/s"
        },
        connections,
        ask,
        goal,
    };
    vec![
        of("a file of 1 GiB, 1 connection", 1, client::Ask::Whole, Some(GOAL)),
        of("a file of 1 GiB, 8 connections", 8, client::Ask::Whole, Some(GOAL)),
        of("ranges of 1 MiB, 8 connections", 8, client::Ask::Ranges, Some(GOAL)),
        of("HEAD, 8 connections", 8, client::Ask::Head, None),
        of("a file of 4 KiB, 8 connections", 8, client::Ask::Small, None),
    ]
}

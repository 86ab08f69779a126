//! `cargo xtask bench reach`: what the rules cost a packet, what a change of rights costs, and how long
//! a proof takes, with 10,000 environments.
//!
//! Six hosts, each in network namespaces of its own with one machine and one server of a data domain,
//! and each under other rules, which are loaded once:
//!
//! - **no rules**;
//! - **ours** with 10,000 environments: what the daemon loads, with every right of every environment;
//! - **ours without limits**: the same rules, with no machine's limits in their sets;
//! - **a list** of 10,000 rules, one an environment, as one would write it by hand; the machine is the
//!   one in the middle of it;
//! - **ours** with 40 environments;
//! - **nwfilter**: libvirt's own filters, bound to the taps of 40 environments, in a box with a libvirtd.
//!
//! In each round one connection and one flow of small datagrams go through every host in turn, one at a
//! time, beginning with another host each round. br_netfilter is off in all of them, as on a host that
//! does not load it. Numbers of one flow on one core: what is compared is the way through the host.

mod ground;
mod nwfilter;
mod proofs;
mod rules;
mod traffic;

use super::{Comparison, at_least, hundredths, look_around, middle, verdict};
use crate::{install, run::run, stages::Stages, workspace};
use anyhow::{Context, Result};
use ground::Ground;
use nonstop_testkit::interrupt;
use nwfilter::Nwfilter;
use rules::Rules;
use std::{
    env,
    path::{Path, PathBuf},
};

/// What nwfilter runs, beside what labs need.
const PEERS: &[&str] = &["libvirt-daemon-config-nwfilter", "iptables"];

const ENVIRONMENTS: u32 = 10_000;
const FEW: u32 = 40;

const ROUNDS: usize = 9;
/// Environments whose rights are taken and given back.
const CHANGES: u32 = 50;

/// For trying the bench itself: a smaller number than 10,000.
const SMALLER: &str = "NONSTOP_BENCH_ENVIRONMENTS";

/// Measures all of it and prints a line a comparison.
pub(super) fn reach() -> Result<()> {
    let many = match env::var(SMALLER) {
        Ok(text) => text.parse().with_context(|| format!("{SMALLER} is no number: {text}"))?,
        Err(_) => ENVIRONMENTS,
    };
    let mut stages = Stages::new();
    stages.stage("packages", || install::install_with(PEERS))?;
    stages.stage("building", workspace::build)?;
    let fleet = stages.stage("building the fleet, optimised", fleet)?;
    let mut hosts =
        stages.stage("hosts without rules and with ours", || Hosts::new(&fleet, many))?;
    let (nwfilter, bindings) =
        stages.stage("40 bindings of nwfilter", || Nwfilter::start(&fleet, FEW))?;
    stages.stage("traffic", || traffic(&hosts, &nwfilter, many))?;
    stages.stage("changes of rights", || changes(&mut hosts, many, &bindings))?;
    drop((hosts, nwfilter));
    stages.stage("proofs", || proofs::proofs(&fleet, many))?;
    stages.print();
    Ok(())
}

/// The program that loads rules and proves, built to be measured.
fn fleet() -> Result<PathBuf> {
    let words = ["build", "--release", "--quiet", "--locked", "-p", "nonstop-reach"];
    run("building the fleet", workspace::cargo()?.args(words).args(["--example", "fleet"]))?;
    Ok(workspace::target()?.join("release/examples/fleet"))
}

/// A host of ours under some rules.
struct Host {
    rules: Rules,
    ground: Ground,
}

/// The hosts but for nwfilter's.
struct Hosts {
    none: Host,
    ours: Host,
    unlimited: Host,
    list: Host,
    few: Host,
}

impl Hosts {
    fn new(fleet: &Path, many: u32) -> Result<Hosts> {
        // In the middle, and a macro, which reaches something by TCP and by UDP.
        let host = |name: &str, count: u32, load: &[&str]| {
            let (host, mut rules) = ground::host(fleet)?;
            let card = rules.card((count / 2) | 1)?;
            for line in load {
                let ms = rules.ask(line)?["ms"].as_f64().unwrap_or_default();
                eprintln!("    {name}: `{line}` in {ms:.0} ms");
            }
            let ground = Ground::around(host, card)?;
            Ok::<_, anyhow::Error>(Host { rules, ground })
        };
        let (ours, list) = (format!("ours {many}"), format!("list {many}"));
        Ok(Hosts {
            none: host("no rules", many, &["none"])?,
            ours: host("ours", many, &[&ours])?,
            unlimited: host("ours without limits", many, &[&ours, "unlimited"])?,
            list: host("a list", many, &[&list])?,
            few: host("ours, few", FEW, &[&format!("ours {FEW}")])?,
        })
    }
}

fn traffic(hosts: &Hosts, nwfilter: &Nwfilter, many: u32) -> Result<()> {
    look_around()?;
    let all = [
        ("no rules", &hosts.none.ground),
        ("ours", &hosts.ours.ground),
        ("ours without limits", &hosts.unlimited.ground),
        ("a list", &hosts.list.ground),
        ("ours, few", &hosts.few.ground),
        ("nwfilter", nwfilter.ground()),
    ];
    let mut seen = vec![(Vec::new(), Vec::new()); all.len()];
    for round in 0..=ROUNDS {
        interrupt::check()?;
        let mut told = Vec::new();
        for n in 0..all.len() {
            let at = (round + n) % all.len();
            let (name, ground) = all[at];
            let gbits = traffic::throughput(ground).with_context(|| format!("TCP, {name}"))?;
            let packets = traffic::packets(ground).with_context(|| format!("UDP, {name}"))?;
            told.push((at, format!("{name} {gbits:.2}/{:.0}", packets / 1000.0)));
            if round > 0 {
                seen[at].0.push(gbits);
                seen[at].1.push(packets);
            }
        }
        told.sort_unstable();
        let told: Vec<String> = told.into_iter().map(|(_, text)| text).collect();
        let counted = if round == 0 { " (not counted)" } else { "" };
        eprintln!("    round {round}{counted}, Gbit/s / 1000 datagrams/s: {}", told.join(", "));
    }
    let [none, ours, unlimited, list, few, nwfilter] = [0, 1, 2, 3, 4, 5];
    let (no_rules, by_hand) = ("no rules", format!("a list of {many} rules"));
    let bound = format!("nwfilter with {FEW} bindings");
    let count = |count, how: &str| format!("{count} environments, {how}");
    for (kind, what, peer, peer_name, goals) in [
        (unlimited, count(many, "reach sets alone"), none, no_rules, [Some(0.9), Some(0.85)]),
        (ours, count(many, "all limits"), none, no_rules, [Some(0.9), Some(0.75)]),
        (ours, count(many, "all limits"), list, &by_hand, [None; 2]),
        (few, count(FEW, "all limits"), nwfilter, &bound, [None; 2]),
    ] {
        let tcp = format!("routed TCP, {what}");
        let (a, b) = (middle(&seen[kind].0)?, middle(&seen[peer].0)?);
        at_least(
            Comparison::higher(&tcp, "Gbit/s", hundredths(a), hundredths(b), peer_name),
            goals[0],
        )?;
        let small = format!("64-byte datagrams, {what}");
        let (a, b) = (middle(&seen[kind].1)?, middle(&seen[peer].1)?);
        at_least(
            Comparison::higher(&small, "packets/s", a.round(), b.round(), peer_name),
            goals[1],
        )?;
    }
    Ok(())
}

/// Rights taken and given back; beside `nft -j`, and beside what a binding of nwfilter takes.
fn changes(hosts: &mut Hosts, many: u32, bindings: &[f64]) -> Result<()> {
    const GOAL_MS: f64 = 5.0;
    let kinds = ["granted_ms", "revoked_ms", "nft_granted_ms", "nft_revoked_ms"];
    let mut times = vec![Vec::new(); kinds.len()];
    let step = (many / CHANGES).max(1);
    // The rights of macros and pairs in turn.
    for n in (1..).map(|n| n * step - n % 2).take_while(|n| *n <= many).take(CHANGES as usize) {
        interrupt::check()?;
        let answer = hosts.ours.rules.ask(&format!("change {n}"))?;
        for (kind, times) in kinds.iter().zip(&mut times) {
            times.push(answer[kind].as_f64().with_context(|| format!("no {kind}"))?);
        }
    }
    let peer = "nft -j as a child, a card and its reach alone";
    for (verb, ours, nft) in [("grant", 0, 2), ("revoke", 1, 3)] {
        let what = format!("{verb} one environment of {many}");
        let most = times[ours].iter().copied().fold(0.0, f64::max);
        let (ours, nft) = (middle(&times[ours])?, middle(&times[nft])?);
        Comparison::lower(&what, "ms", hundredths(ours), hundredths(nft), peer).print()?;
        let said = format!("{ours:.2} ms, {most:.2} at most, of {GOAL_MS}");
        verdict(&what, &said, most < GOAL_MS);
    }
    let mut few = Vec::new();
    for n in 1..=FEW {
        let answer = hosts.few.rules.ask(&format!("change {n}"))?;
        few.push(answer["granted_ms"].as_f64().context("no granted_ms")?);
    }
    let what = format!("grant one environment of {FEW}");
    let (ours, peer) = (hundredths(middle(&few)?), hundredths(middle(bindings)?));
    Comparison::lower(&what, "ms", ours, peer, "a binding of nwfilter").print()
}

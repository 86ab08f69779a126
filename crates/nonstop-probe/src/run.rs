//! One probe from its order to its report.

use crate::{
    attempts::{Attempt, Expect, Scene, To, attempts},
    copy::{Copy, Kind},
    ground::{Ground, Seen},
    gun::Gun,
    judge::{Controls, judge, whom},
};
use anyhow::{Context, Result};
use nonstop_reach::{
    kernel::Kernel,
    observe::{self, Network},
    probe::{Order, Report},
    prove,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long a canary may take to start, on a host that is busy.
const STARTING: Duration = Duration::from_secs(120);

/// Carries out `order` in `network`, and tells `each` how far it is, in
/// words. Needs root; sends nothing but what canaries send, and changes nothing of the host.
///
/// Errors: the order is wrong, a program is missing, the kernel cannot be read, a canary is not there.
/// What goes otherwise than wanted is no error.
pub fn run(order: &Order, network: Network, each: &mut dyn FnMut(&str)) -> Result<Report> {
    let start = Instant::now();
    order.check()?;
    each("reading the kernel");
    let kernel = observe::kernel(network).context("read the kernel")?;
    let proof = prove(&kernel, &order.wanted).context("prove")?;
    let scene = Scene::of(&kernel);
    // Without bytes of zero, of which packets are full.
    let number: u32 = rand::random::<u32>() | 0x8080_8080;
    let all = attempts(order, &scene, number);
    let (mut seen, lost) = in_the_lab(order, &path(network), &all, number, each)?;
    let controls = controls(order, &scene, &kernel, &all, number, each)?;
    if lost > 0 {
        seen.unexplained.insert(format!("{lost} frames that were too many to capture"));
    }
    let mut report = judge(order, &all, &seen, &controls, Some(&proof));
    report.seconds = start.elapsed().as_secs();
    Ok(report)
}

fn path(network: Network) -> String {
    match network {
        Network::Ours => "/proc/self/ns/net".into(),
        Network::Of(pid) => format!("/proc/{pid}/ns/net"),
    }
}

fn in_the_lab(
    order: &Order,
    here: &str,
    all: &[Attempt],
    number: u32,
    each: &mut dyn FnMut(&str),
) -> Result<(Seen, u64)> {
    let mut guns = BTreeMap::new();
    for (canary, of) in order.canaries.iter().enumerate() {
        for (card, socket) in of.guns.iter().enumerate() {
            guns.insert((canary, card), Gun::canary(socket)?);
        }
    }
    let mut ground = Ground::open(order, number, here, &order.domains, guns)?;
    each("waiting for the canaries to start");
    ground.await_cards(STARTING)?;
    let total = all.len();
    let attempts: Vec<&Attempt> = all.iter().collect();
    ground.fire(&attempts, true, &mut |done| {
        if done % 50 == 0 {
            each(&format!("{done} of {total} frames sent"));
        }
    })?;
    Ok(ground.end())
}

/// Sends what must arrive nowhere in the copies, until each has arrived in one of them.
fn controls(
    order: &Order,
    scene: &Scene,
    kernel: &Kernel,
    all: &[Attempt],
    number: u32,
    each: &mut dyn FnMut(&str),
) -> Result<Controls> {
    let mut controls = Controls::new();
    for kind in [Kind::Routed, Kind::Flat] {
        let left: Vec<&Attempt> = all
            .iter()
            .filter(|a| a.expect == Expect::Nothing && !controls.contains_key(&a.marker.number))
            .collect();
        each(&format!("{} controls, {}", left.len(), kind.word()));
        let copy = Copy::make(kind, order, scene, kernel)?;
        let mut ground = copy.ground(order, number)?;
        ground.fire(&left, false, &mut |_| {})?;
        let (seen, _lost) = ground.end();
        for attempt in left {
            let spots = seen.spots.get(&attempt.marker.number);
            let arrived = spots.into_iter().flatten().any(|spot| {
                let whom = whom(order, attempt, spot);
                whom.is_some_and(|whom| whom == attempt.to || attempt.to == To::Everybody)
            });
            if arrived {
                controls.insert(attempt.marker.number, kind);
            }
        }
    }
    Ok(controls)
}

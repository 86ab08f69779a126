//! `cargo xtask bench provision`: from approval to a machine, beside what people use instead.
//!
//! Two boxes of the same kind: one holds our whole lab, the other nothing but libvirtd, in which
//! the peers work. In each round ours and every peer make the same desktop in turn, and only one
//! of them works at a time:
//!
//! - **ours**: `nonstop request approve` until libvirt runs the machine, and until RDP answers at
//!   the end of the researcher's own tunnel, her login at the gateway included;
//! - **the bare script**: the same qemu-img and libvirt calls with ours' own XML, by shell;
//! - **virt-install** with an overlay, on libvirt's default network;
//! - **vagrant-libvirt**, whose box was added and uploaded before.
//!
//! RDP is the guest's own server's for all of them: peers have no other. For the peers it is asked for from the host itself. Then twenty `micro` environments are
//! approved within a second, beside the script for twenty, one after another and four at once;
//! meanwhile somebody looks at the portal through a tunnel.

mod ours;
mod peers;

use super::{Comparison, images::images, median, millis, percentile, steps, templates::RAW};
use crate::{install, stages::Stages, workspace};
use anyhow::{Context, Result, ensure};
use nonstop_testkit::interrupt;
use ours::{Ours, Provisioned};
use peers::{Crowding, Peers, Times};
use std::time::Duration;

/// Debian's packages of the peers, the same names in 12 and 13.
const PEERS: &[&str] = &["virtinst", "vagrant", "vagrant-libvirt"];

/// Rounds that count. One more comes first, in which ours checks the image's digest, caches
/// fill and vagrant uploads its box.
const ROUNDS: usize = 5;
const CROWD_ROUNDS: usize = 3;
const CROWD: usize = 20;

/// What everything of ours may cost on top of the bare script.
const GOAL: Duration = Duration::from_millis(300);

/// Measures all of it and prints a line a comparison.
pub(super) fn provision() -> Result<()> {
    let mut stages = Stages::new();
    stages.stage("packages", || install::install_with(PEERS))?;
    stages.stage("building", workspace::build)?;
    let images = stages.stage("images", images)?;
    let (ours, peers) = stages.stage("starting two boxes", || {
        let (ours, peers) = (Ours::start(&images)?, Peers::start(&images)?);
        peers.vagrant_box()?;
        Ok((ours, peers))
    })?;
    stages.stage("desktops", || desktops(&ours, &peers))?;
    stages.stage("a crowd", || crowds(&ours, &peers))?;
    stages.print();
    Ok(())
}

/// What was measured for one desktop.
struct Round {
    ours: Provisioned,
    script: Times,
    virt_install: Times,
    vagrant: Times,
}

fn desktops(ours: &Ours, peers: &Peers) -> Result<()> {
    let mut rounds = Vec::new();
    for n in 0..=ROUNDS {
        interrupt::check()?;
        let round = desktop_round(ours, peers)?;
        say(n, &round);
        if n > 0 {
            rounds.push(round);
        }
    }
    let of = |pick: fn(&Round) -> Duration| median(rounds.iter().map(pick));
    let running = of(|r| r.ours.running)?;
    let script = of(|r| r.script.running)?;
    let what = "approve to machine running";
    Comparison::times(what, running, script, "script").print()?;
    Comparison::times(what, running, of(|r| r.virt_install.running)?, "virt-install").print()?;
    Comparison::times(what, running, of(|r| r.vagrant.running)?, "vagrant-libvirt").print()?;
    let rdp = of(|r| r.ours.rdp)?;
    let what = "approve to RDP answering";
    Comparison::times(what, rdp, of(|r| r.script.rdp)?, "script").print()?;
    Comparison::times(what, rdp, of(|r| r.virt_install.rdp)?, "virt-install").print()?;
    Comparison::times(what, rdp, of(|r| r.vagrant.rdp)?, "vagrant-libvirt").print()?;
    above_the_script(running, script)?;
    eprintln!("    where ours spends it, medians since approval:");
    let steps: Vec<_> = rounds.into_iter().map(|round| round.ours.steps).collect();
    for line in steps::table(&steps)? {
        eprintln!("      {line}");
    }
    Ok(())
}

/// What everything of ours costs on top of the script; below nothing where ours is faster.
fn above_the_script(ours: Duration, script: Duration) -> Result<()> {
    let above = ((millis(ours) - millis(script)) * 10.0).round() / 10.0;
    let what = "ours above the script, approve to machine running";
    // A ratio to less than a millisecond would say nothing.
    let ratio = Comparison::lower(what, "ms", above.max(1.0), millis(GOAL), "goal").ratio;
    Comparison { what, unit: "ms", ours: above, peer: millis(GOAL), peer_name: "goal", ratio }
        .print()
}

/// Ours first, since the script is given its XML.
fn desktop_round(ours: &Ours, peers: &Peers) -> Result<Round> {
    let environment = ours.provision(RAW)?;
    let mut machines = ours.describe()?;
    ours.end(&environment)?;
    let machine = machines.pop().context("no guest was seen")?;
    Ok(Round {
        ours: environment,
        script: peers.script(&machine, ours.lab.dir())?,
        virt_install: peers.virt_install(&machine)?,
        vagrant: peers.vagrant_up(&machine)?,
    })
}

fn say(n: usize, round: &Round) {
    let Round { ours, script, virt_install, vagrant } = round;
    let s = |time: Duration| format!("{:.2}", time.as_secs_f64());
    let pair = |times: &Times| format!("{}/{}", s(times.running), s(times.rdp));
    eprintln!(
        "    round {n}{}: running/RDP in s: ours {}/{} (gate {}, tunnel {}), script {}, \
         virt-install {}, vagrant {}",
        if n == 0 { " (not counted)" } else { "" },
        s(ours.running),
        s(ours.rdp),
        s(ours.open),
        s(ours.tunnel),
        pair(script),
        pair(virt_install),
        pair(vagrant),
    );
}

/// The script makes its crowd both ways in the first round, and the better way in the others.
fn crowds(ours: &Ours, peers: &Peers) -> Result<()> {
    let at_rest = {
        let visitor = ours.visit()?;
        std::thread::sleep(Duration::from_secs(10));
        visitor.leave()?
    };
    let mut better = None;
    let (mut all, mut by_script) = (Vec::new(), Vec::new());
    let (mut visits, mut steps) = (Vec::new(), Vec::new());
    for n in 1..=CROWD_ROUNDS {
        interrupt::check()?;
        let visitor = ours.visit()?;
        let crowd = ours.crowd("micro", CROWD)?;
        visits.extend(visitor.leave()?);
        let machines = ours.describe()?;
        ours.end_crowd(&crowd)?;
        ensure!(machines.len() == CROWD, "{} guests instead of {CROWD}", machines.len());
        let script = |how| peers.script_crowd(&machines, ours.lab.dir(), how);
        let (how, time) = match better {
            Some(how) => (how, script(how)?),
            None => {
                let tried = [
                    (Crowding::OneByOne, script(Crowding::OneByOne)?),
                    (Crowding::FourAtOnce, script(Crowding::FourAtOnce)?),
                ];
                for (how, time) in &tried {
                    eprintln!("    {} would need {:.1} s", how.name(), time.as_secs_f64());
                }
                tried.into_iter().min_by_key(|(_, time)| *time).context("two were tried")?
            }
        };
        better = Some(how);
        eprintln!(
            "    round {n}: {CROWD} running in s: ours {:.2} (approved within {:.2}), {} {:.2}",
            crowd.running.as_secs_f64(),
            crowd.approved.as_secs_f64(),
            how.name(),
            time.as_secs_f64(),
        );
        all.push(crowd.running);
        by_script.push(time);
        steps.push(crowd.steps);
    }
    let name = better.context("no round was run")?.name();
    let what = "20 micro environments approved in a second, all running";
    Comparison::times(what, median(all)?, median(by_script)?, name).print()?;
    for (percent, what) in [
        (50, "portal's home page while 20 start, p50"),
        (99, "portal's home page while 20 start, p99"),
    ] {
        let of = |times: &[Duration]| percentile(times.iter().copied(), percent);
        Comparison::times(what, of(&visits)?, of(&at_rest)?, "the same at rest").print()?;
    }
    eprintln!("    {} visits of the portal counted; where ours spends it:", visits.len());
    for line in steps::table(&steps)? {
        eprintln!("      {line}");
    }
    Ok(())
}

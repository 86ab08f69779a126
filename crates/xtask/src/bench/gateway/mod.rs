//! `cargo xtask bench gateway`: what a limited researcher gets, what the desktop feels of it, and what
//! our gateway costs beside a plain sshd of the same host: stock configuration, the same ciphers, the
//! same targets behind the same street.
//!
//! The gateway is a whole lab's, its daemon included. Where the portal listens there is a server of the
//! bench's own, which sends, takes and echoes. Beside the limit stands what an admin would do by hand:
//! the plain sshd behind HTB of the same rate at the interface.

mod ground;
mod logins;
mod traffic;

use super::{Comparison, at_least, look_around, middle, millis, percentile};
use crate::{install, stages::Stages, workspace};
use anyhow::Result;
use ground::Ground;
use std::time::Duration;
use traffic::{Bulk, Way};

/// Researchers with a limit.
const RESEARCHERS: usize = 10;
/// Their limit.
const LIMIT_KBIT: u32 = 10_000;
/// How long bytes are counted.
const SPELL: Duration = Duration::from_secs(8);
const ROUNDS: usize = 3;
const SESSIONS: usize = 200;
const PEER: &str = "plain sshd";
const PEER_SHAPED: &str = "plain sshd behind HTB at the interface";

/// Measures, and prints a JSON line for each comparison.
pub(super) fn gateway() -> Result<()> {
    let mut stages = Stages::new();
    stages.stage("packages", || install::install_with(&[]))?;
    stages.stage("building", workspace::build)?;
    let ground = stages.stage("a lab, and a plain sshd in it", Ground::new)?;
    look_around()?;
    stages.stage("ten limited researchers", || limited(&ground))?;
    stages.stage("echoes", || echoes(&ground))?;
    stages.stage("throughput without a limit", || throughput(&ground))?;
    stages.stage("logins", || logins(&ground))?;
    stages.stage("sessions", || sessions(&ground))?;
    look_around()?;
    stages.print();
    Ok(())
}

/// All move what they can at the same time, one way and then the other.
fn limited(ground: &Ground) -> Result<()> {
    let tunnels = ground.researchers()?;
    for way in [Way::Down, Way::Up] {
        let bulks: Vec<Bulk> =
            tunnels.iter().map(|tunnel| Bulk::start(tunnel, way)).collect::<Result<_>>()?;
        std::thread::sleep(Duration::from_secs(3));
        let rates = traffic::rates(&bulks, SPELL);
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        let limit = f64::from(LIMIT_KBIT) / 1000.0;
        eprintln!("    {way}: {rates:.2?} Mbit/s");
        let met = if least >= 9.4 && most <= 10.2 { "met" } else { "MISSED" };
        eprintln!("    {way}: from {least:.2} to {most:.2}, wanted 9.4 to 10.2: {met}");
        for (what, rate) in [("the least", least), ("the most", most)] {
            let what = format!("ten limited at once, {way}, {what} of anybody");
            let rate = (rate * 100.0).round() / 100.0;
            Comparison::higher(&what, "Mbit/s", rate, limit, "the limit").print()?;
        }
    }
    Ok(())
}

/// A key's way and back, beside a transfer of the same person and without one.
fn echoes(ground: &Ground) -> Result<()> {
    let ours = ground.researcher(0)?;
    let peer = ground.plain()?;
    for (way, goal_ms) in [(None, 5.0), (Some(Way::Down), 250.0), (Some(Way::Up), 100.0)] {
        let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            our_times.extend(traffic::echoes(&ours, way)?);
            let _link = way.map(|way| ground.narrow(way, LIMIT_KBIT)).transpose()?;
            their_times.extend(traffic::echoes(&peer, way)?);
        }
        let beside = way.map_or("of somebody idle".into(), |way| format!("beside bulk {way}"));
        for percent in [50, 95] {
            let of = |times: &[Duration]| percentile(times.iter().copied(), percent);
            let (ours, theirs) = (of(&our_times)?, of(&their_times)?);
            let what = format!("echo {beside}, {percent} of 100 within");
            let name = if way.is_some() { PEER_SHAPED } else { PEER };
            Comparison::times(&what, ours, theirs, name).print()?;
            let met = if millis(ours) < goal_ms { "met" } else { "MISSED" };
            eprintln!("    {what}: {} ms of {goal_ms}: {met}", millis(ours));
        }
    }
    Ok(())
}

/// One tunnel of somebody without a limit, in turn with the plain sshd's.
fn throughput(ground: &Ground) -> Result<()> {
    let ours = ground.unlimited()?;
    let peer = ground.plain()?;
    for way in [Way::Down, Way::Up] {
        let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let rate = |tunnel| -> Result<f64> {
                let bulk = [Bulk::start(tunnel, way)?];
                std::thread::sleep(Duration::from_millis(500));
                Ok(traffic::rates(&bulk, SPELL / 2)[0] / 8.0)
            };
            let pair = (rate(&ours)?, rate(&peer)?);
            eprintln!("    round {round}: {way}: {:.0} / {:.0} MB/s", pair.0, pair.1);
            if round > 0 {
                our_rates.push(pair.0);
                their_rates.push(pair.1);
            }
        }
        let what = format!("a tunnel without limit, {way}");
        let (ours, theirs) = (middle(&our_rates)?.round(), middle(&their_rates)?.round());
        at_least(Comparison::higher(&what, "MB/s", ours, theirs, PEER), Some(0.9))?;
    }
    eprintln!(
        "    what bounds both is sshd: one process a session enciphers with aes256-gcm, copies each byte \
         four times between kernel and user, and reads at most 32 KiB at once. {}",
        ground.processors()?
    );
    Ok(())
}

/// From the client's start until the first byte comes back through the tunnel.
fn logins(ground: &Ground) -> Result<()> {
    for at_once in [1, 4, 8] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(logins::a_second(&ground.our_login()?, at_once, SPELL / 2)?);
            theirs.push(logins::a_second(&ground.plain_login()?, at_once, SPELL / 2)?);
        }
        let what = format!("logins, {at_once} at once");
        let round = |rates: &[f64]| middle(rates).map(|rate| (rate * 10.0).round() / 10.0);
        Comparison::higher(&what, "logins/s", round(&ours)?, round(&theirs)?, PEER).print()?;
    }
    Ok(())
}

/// Memory of sessions that stand open and do nothing.
fn sessions(ground: &Ground) -> Result<()> {
    let ours = logins::memory_of(ground, &ground.our_login()?, SESSIONS)?;
    let theirs = logins::memory_of(ground, &ground.plain_login()?, SESSIONS)?;
    let what = format!("memory of one of {SESSIONS} sessions");
    Comparison::lower(&what, "MB", ours, theirs, PEER).print()
}

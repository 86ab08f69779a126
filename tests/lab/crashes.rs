//! Daemons killed and power cut in the middle of real work: what was asked for arrives, nothing
//! is doubled, nothing is left over. The simulation (`nonstopd/tests/crash_sweep.rs`) cuts before
//! and after every effect; here the real host is cut, at every step that the daemon tells of.

use anyhow::Result;
use nonstop_tests::World;
use std::time::{Duration, Instant};

/// Signal 9.
const KILL: i32 = 9;

/// How many lines of the daemon's log tell of a step, so far.
fn steps(world: &World) -> usize {
    world.lab.log("nonstopd").lines().filter(|line| is_step(line)).count()
}

fn is_step(line: &str) -> bool {
    ["create segment", "create generation", "start m", "grant ", "open the gate", " runs"]
        .iter()
        .any(|word| line.contains(word))
}

/// Waits until the daemon has told of `count` steps; false if it has no more to do.
fn reached(world: &World, count: usize, id: &str) -> Result<bool> {
    let started = Instant::now();
    while steps(world) < count {
        if started.elapsed() > Duration::from_secs(20) {
            let shown = world.lab.cli(&["environment", "show", id])?;
            assert_eq!(shown["state"], "ready", "stuck: {shown}");
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(true)
}

/// Grants an environment, lets `cut` happen after `after` further steps, and looks; then ends it
/// the same way. True while there are further steps to cut after.
fn cut_after(world: &mut World, after: usize, cut: fn(&mut World) -> Result<()>) -> Result<bool> {
    let before = steps(world);
    let id = world.grant("alice", "micro")?;
    let more = reached(world, before + after, &id)?;
    cut(world)?;
    world.ready(&id)?;
    world.whole(1)?;
    world.lab.cli(&["environment", "end", &id])?;
    std::thread::sleep(Duration::from_millis(40 * after as u64));
    cut(world)?;
    world.in_state(&id, "gone")?;
    world.whole(0)?;
    Ok(more)
}

fn sweep(name: &str, cut: fn(&mut World) -> Result<()>) -> Result<()> {
    let mut world = World::off(name, "grace_seconds: 0")?;
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    let mut after = 0;
    while cut_after(&mut world, after, cut)? && after < 8 {
        after += 1;
    }
    assert!(after >= 4, "only {after} steps were cut after");
    Ok(())
}

#[test]
fn the_daemon_killed_after_any_step_goes_on_where_it_was() -> Result<()> {
    sweep("killed-daemon", |world| {
        world.lab.kill_service("nonstopd", KILL)?;
        world.lab.lab_box()?.wait_ready(Duration::from_secs(30))
    })
}

#[test]
fn the_power_cut_after_any_step_loses_and_leaves_nothing() -> Result<()> {
    sweep("power-cut", |world| {
        world.lab.power_cut()?;
        world.lab.start()
    })
}

#[test]
fn libvirtd_stopped_in_the_middle_delays_and_loses_nothing() -> Result<()> {
    let world = World::new("no-libvirtd")?;
    world.lab.researcher("alice", 10)?;
    let running = world.environment("alice", "micro")?;
    let before = steps(&world);
    let id = world.grant("alice", "micro")?;
    reached(&world, before + 1, &id)?;
    world.lab.stop_service("libvirtd")?;
    let problem = world.lab.wait_for("the problem", Duration::from_secs(20), || {
        let shown = world.lab.cli(&["environment", "show", &id])?;
        Ok(shown["problem"]["message"].as_str().map(String::from))
    })?;
    assert!(problem.contains("libvirt"), "{problem}");
    world.lab.start_service("libvirtd")?;
    world.ready(&id)?;
    world.ready(&running.id)?;
    world.whole(2)
}

#[test]
fn a_qemu_that_dies_is_seen_within_a_second_and_comes_back() -> Result<()> {
    let world = World::new("dead-qemu")?;
    world.lab.researcher("alice", 10)?;
    let environment = world.environment("alice", "micro")?;
    let mut shell = world.shell(&environment)?;
    shell.run("printf work | dd of=/dev/vda conv=fsync 2>/dev/null")?;
    drop(shell);
    let line = format!("pgrep -f 'guest=nonstop-{}[,-]' || pgrep qemu-system", environment.machine);
    let pid = world.lab.enter(&["sh", "-c", &line])?;
    world.lab.enter(&["kill", "-9", pid.split_whitespace().next().unwrap_or_default()])?;
    let dead = Instant::now();
    world.lab.wait_for("the trace to tell", Duration::from_secs(10), || {
        let rows = world.lab.cli(&["trace", "list"])?;
        let rows = rows.as_array().cloned().unwrap_or_default();
        Ok(rows.iter().any(|row| row["action"] == "machine.crashed").then_some(()))
    })?;
    assert!(dead.elapsed() < Duration::from_millis(1500), "seen after {:?}", dead.elapsed());
    world.ready(&environment.id)?;
    let mut shell = world.shell(&environment)?;
    assert_eq!(shell.run("head -c 4 /dev/vda")?, "work");
    world.whole(1)
}

//! The main job: applied for, approved, running, ended, gone.

use anyhow::Result;
use nonstop_tests::World;
use std::time::{Duration, Instant};

#[test]
fn an_environment_comes_and_goes_and_leaves_nothing() -> Result<()> {
    let mut world = World::off("comes-and-goes", "grace_seconds: 1")?;
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    let environment = world.environment("alice", "micro")?;
    world.whole(1)?;
    let mut shell = world.shell(&environment)?;
    let address = shell.run("ip -4 addr show dev eth0")?;
    assert!(address.contains(&environment.address), "its own address by DHCP: {address}");
    world.end(&environment.id)?;
    assert_eq!(world.left_over()?, Vec::<String>::new());
    world.whole(0)
}

#[test]
fn a_guest_that_powers_off_is_seen_within_a_second_and_stays_off_until_asked() -> Result<()> {
    let world = World::new("powers-off")?;
    world.lab.researcher("alice", 10)?;
    let environment = world.environment("alice", "micro")?;
    let mut seen = Vec::new();
    // A host with other work may be late once.
    while seen.len() < 3 && seen.last().is_none_or(|after| *after >= Duration::from_secs(2)) {
        // The shell ends with the machine.
        let mut shell = world.shell(&environment)?;
        let _ends = shell.run_for("poweroff -f", Duration::from_secs(120));
        let gone = Instant::now();
        world.machine_in(&environment.id, "off")?;
        seen.push(gone.elapsed());
        std::thread::sleep(Duration::from_secs(3));
        world.in_state(&environment.id, "ready")?;
        world.machine_in(&environment.id, "off")?;
        world.lab.cli(&["environment", "power", &environment.id, "on"])?;
        world.machine_in(&environment.id, "ready")?;
    }
    let last = seen.last().copied().unwrap_or_default();
    assert!(last < Duration::from_secs(2), "seen after {seen:?}");
    Ok(())
}

#[test]
fn a_machine_is_switched_reset_and_put_back_to_clean() -> Result<()> {
    let world = World::new("power")?;
    world.lab.researcher("alice", 10)?;
    let environment = world.environment("alice", "micro")?;
    let id = environment.id.as_str();
    let mut shell = world.shell(&environment)?;
    shell.run("printf dirty | dd of=/dev/vda conv=fsync 2>/dev/null")?;
    assert_eq!(shell.run("head -c 5 /dev/vda")?, "dirty");
    drop(shell);
    world.lab.cli(&["environment", "power", id, "reset"])?;
    let mut shell = world.shell(&environment)?;
    let up: f32 = shell.run("cut -d' ' -f1 /proc/uptime")?.parse()?;
    assert!(up < 30.0, "it was reset, but is up for {up} s");
    assert_eq!(shell.run("head -c 5 /dev/vda")?, "dirty", "a reset keeps the disk");
    drop(shell);
    world.lab.cli(&["environment", "power", id, "off"])?;
    world.machine_in(id, "off")?;
    world.lab.cli(&["environment", "power", id, "on"])?;
    world.machine_in(id, "ready")?;
    world.lab.cli(&["environment", "revert", id])?;
    nonstop_testkit::place::wait_for("the new generation", Duration::from_secs(60), || {
        let shown = world.lab.cli(&["environment", "show", id])?;
        let machine = &shown["machines"][0];
        Ok((machine["generation"] == 2 && machine["state"] == "ready").then_some(()))
    })?;
    let mut shell = world.shell(&environment)?;
    assert_ne!(shell.run("head -c 5 /dev/vda")?, "dirty", "a revert carries nothing over");
    Ok(())
}

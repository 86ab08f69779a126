//! Sessions at the gateway as people have them, and a clock that somebody sets.

use anyhow::{Context, Result};
use nonstop_testkit::{pc::Pc, place::wait_for, spec::PROGRAMS, ssh::Forward};
use nonstop_tests::World;
use serde_json::Value;
use std::{
    fs,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_secs(20);

fn portal(world: &World, port: u16) -> Result<Vec<Forward>> {
    Ok(vec![Forward { port, target: format!("{}:8080", world.address_of("alice")?) }])
}

/// Rows of trace of `action`.
fn traced(world: &World, action: &str) -> Result<Vec<Value>> {
    let rows = world.lab.cli(&["trace", "list", "--limit", "1000"])?;
    let rows = rows.as_array().cloned().unwrap_or_default();
    Ok(rows.into_iter().filter(|row| row["action"] == action).collect())
}

fn sessions(world: &World) -> Result<Vec<Value>> {
    Ok(world.lab.cli(&["session", "list"])?.as_array().cloned().unwrap_or_default())
}

/// A login of `pc` as somebody whom the lab does not know.
fn try_as(pc: &Pc, user: &str, host_key: &str) -> Result<()> {
    let config = pc.ssh_config(host_key)?.display().to_string();
    let words = ["ssh", "-N", "-F", &config, "-o", "ConnectTimeout=5", "-l", user, "gateway"];
    let output = pc.output(&words)?;
    assert!(!output.status.success(), "{output:?}");
    Ok(())
}

#[test]
fn one_of_two_sessions_is_ended_and_what_happened_is_listed_and_traced() -> Result<()> {
    let world = World::new("sessions")?;
    let alice = world.lab.researcher("alice", 10)?;
    let host_key = world.host_key()?;
    let mut first = alice.tunnel(&host_key, &portal(&world, 8000)?)?;
    let mut second = alice.tunnel(&host_key, &portal(&world, 8001)?)?;
    wait_for("the portal", SOON, || alice.http_get(8000, "/", &[]).map(|_| Some(())))?;
    let seen = wait_for("what went through is listed", SOON, || {
        let all = sessions(&world)?;
        let counted = all.iter().any(|s| s["flows"][0]["bytes_out"].as_u64() > Some(500));
        Ok((all.len() == 2 && counted).then_some(all))
    })?;
    for session in &seen {
        assert_eq!(session["account"], "alice");
        assert!(session["client"].as_str().is_some_and(|c| c.starts_with("OpenSSH")), "{session}");
        assert!(session["card"].is_string(), "{session}");
    }
    // The older one is the first tunnel's.
    let id = seen.iter().filter_map(|s| s["id"].as_u64()).min().context("a session")?;
    let begun = Instant::now();
    world.lab.cli(&["session", "end", &id.to_string()])?;
    while first.is_open() && begun.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("ended one of two sessions after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(second.is_open(), "the other goes on");
    wait_for("its end is recorded", SOON, || {
        let rows = traced(&world, "session.close")?;
        Ok(rows.iter().any(|r| r["detail"]["why"] == "ended by admin:root").then_some(()))
    })?;
    try_as(&alice, "nobody-there", &host_key)?;
    wait_for("the refusal is told", SOON, || {
        let refused = world.lab.cli(&["session", "list", "--failures"])?;
        let row = &refused["rows"][0];
        let told = row["user"] == "nobody-there" && row["why"] == "unknown_account";
        Ok((told && !traced(&world, "login.refused")?.is_empty()).then_some(()))
    })?;
    let stats = world.lab.cli(&["stats"])?;
    let today = stats["logins"].as_array().and_then(|days| days.last()).context("a day")?;
    assert_eq!(today["logins"], 2);
    Ok(())
}

/// The daemon with a wall clock that the test sets.
fn daemon_with_a_clock(world: &World, clock: &str) -> Result<Child> {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    let mut command = world.lab.inside()?.command("env");
    command
        .args([
            format!("LD_PRELOAD={library}"),
            format!("FAKETIME_TIMESTAMP_FILE={clock}"),
            "FAKETIME_NO_CACHE=1".into(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            format!("{PROGRAMS}/nonstopd"),
            "--lab".into(),
        ])
        .arg(world.lab.file())
        .stdin(Stdio::null())
        .stderr(fs::File::create(world.lab.dir().join("log/nonstopd-faked.log"))?);
    let daemon = command.spawn().context("start nonstopd")?;
    wait_for("the daemon", SOON, || Ok(world.lab.cli(&["clock", "show"]).is_ok().then_some(())))?;
    Ok(daemon)
}

/// Kills the daemon; the box has one.
fn end(world: &World, daemon: &mut Child) -> Result<()> {
    world.lab.enter(&["sh", "-c", "kill -KILL $(pidof nonstopd)"])?;
    daemon.wait()?;
    Ok(())
}

#[test]
fn nothing_ends_because_the_clock_is_set_until_an_admin_confirms() -> Result<()> {
    let world = World::new("clock")?;
    let alice = world.lab.researcher("alice", 10)?;
    let host_key = world.host_key()?;
    let environment = world.environment("alice", "probe")?;
    let mut tunnel = alice.tunnel(&host_key, &portal(&world, 8000)?)?;
    // One that the daemon has not recorded ends with it.
    wait_for("the session", SOON, || Ok((!sessions(&world)?.is_empty()).then_some(())))?;
    world.lab.auto_restart("nonstopd", false)?;
    world.lab.stop_service("nonstopd")?;
    let clock = world.lab.dir().join("clock");
    fs::write(&clock, "+0")?;
    let mut daemon = daemon_with_a_clock(&world, &clock.display().to_string())?;
    let held = |wanted: bool| {
        wait_for("the clock", SOON, || {
            let shown = world.lab.cli(&["clock", "show"])?;
            Ok((shown["held"].is_string() == wanted).then_some(shown))
        })
    };
    held(false)?;
    for set in ["+400d", "-400d"] {
        fs::write(&clock, set)?;
        held(true)?;
        std::thread::sleep(Duration::from_secs(3));
        assert!(tunnel.is_open(), "{set}: a session ended");
        world.ready(&environment.id)?;
        // A restarted daemon holds it still.
        end(&world, &mut daemon)?;
        daemon = daemon_with_a_clock(&world, &clock.display().to_string())?;
        held(true)?;
        world.ready(&environment.id)?;
        fs::write(&clock, "+0")?;
        held(false)?;
    }
    assert!(tunnel.is_open());
    assert!(traced(&world, "clock.step")?.len() >= 2);
    // Confirmed, it counts: the reservation is over, and the session ends with it.
    fs::write(&clock, "+400d")?;
    held(true)?;
    world.lab.cli(&["clock", "confirm"])?;
    let confirmed = Instant::now();
    while tunnel.is_open() && confirmed.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("cut {:?} after the clock was confirmed", confirmed.elapsed());
    assert!(confirmed.elapsed() < Duration::from_secs(2), "{:?}", confirmed.elapsed());
    end(&world, &mut daemon)
}

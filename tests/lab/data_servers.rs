//! The servers of data domains as a whole lab keeps them: killed one by one, without the daemon, and
//! after a power cut.

use anyhow::{Context, Result, ensure};
use nonstop_testkit::place::wait_for;
use nonstop_tests::World;
use std::time::{Duration, Instant};

const KILL: i32 = 9;

/// The process of the server `verb` of data domain `domain`.
fn process(world: &World, domain: &str, verb: &str) -> Result<String> {
    let pattern = format!("nonstop-data {verb} --lab .* --domain {domain}$");
    let pids = world.lab.enter(&["pgrep", "-o", "-f", &pattern])?;
    pids.lines().next().map(String::from).context("it does not run")
}

/// What `nonstop plan` says of servers.
fn problems(world: &World) -> Result<String> {
    let problems = world.lab.cli(&["plan"])?["problems"].clone();
    let of_servers = problems.as_array().into_iter().flatten().filter(|problem| {
        let said = problem["message"].as_str().unwrap_or_default();
        said.contains("server ") || said.contains("nonstop-data serve")
    });
    Ok(of_servers.map(ToString::to_string).collect())
}

/// Until none is missing, which whoever asks is told.
fn all_listen(world: &World, limit: Duration) -> Result<()> {
    wait_for("all servers to listen", limit, || {
        let said = problems(world)?;
        ensure!(said.is_empty(), "{said}");
        Ok(Some(()))
    })
}

/// What the pcap server of `domain` answers to somebody in its own network.
fn asked(world: &World, domain: &str, address: &str) -> Result<String> {
    let network = format!("nonstop-{domain}");
    let url = format!("http://{address}/index.json");
    world.lab.enter(&["ip", "netns", "exec", &network, "curl", "-sS", "-m", "5", &url])
}

#[test]
fn servers_come_back_whatever_is_killed_and_who_is_missing_is_named() -> Result<()> {
    let mut world = World::off("servers", "")?;
    world.lab = world.lab.with_data();
    world.lab.start()?;
    all_listen(&world, Duration::from_secs(30))?;
    for (domain, address) in [("intermediate", "10.80.0.3"), ("mws", "10.81.0.3")] {
        assert!(asked(&world, domain, address)?.contains(domain));
    }

    for (domain, verb, limit) in [
        // It takes less than two seconds, where others leave the host the time for it.
        ("intermediate", "pcap", Duration::from_secs(10)),
        ("mws", "pcap", Duration::from_secs(10)),
        // PostgreSQL recovers first.
        ("intermediate", "rdb", Duration::from_secs(30)),
    ] {
        let other = process(&world, "mws", "rdb")?;
        let (server, killed) = (process(&world, domain, verb)?, Instant::now());
        world.lab.enter(&["kill", "-KILL", &server])?;
        wait_for("another one", limit, || {
            Ok(process(&world, domain, verb).is_ok_and(|now| now != server).then_some(()))
        })?;
        all_listen(&world, limit.saturating_sub(killed.elapsed()))?;
        eprintln!("{domain}/{verb}: listens again after {:.1} s", killed.elapsed().as_secs_f32());
        assert_eq!(process(&world, "mws", "rdb")?, other, "nobody else is disturbed");
    }

    // The daemon is away and comes back: servers and their networks go on as they were.
    let server = process(&world, "intermediate", "pcap")?;
    world.lab.kill_service("nonstopd", KILL)?;
    assert!(asked(&world, "intermediate", "10.80.0.3")?.contains("intermediate"));
    all_listen(&world, Duration::from_secs(30))?;
    assert_eq!(process(&world, "intermediate", "pcap")?, server);

    // Whoever keeps them is killed: they end with it, and come back with it.
    world.lab.auto_restart("data", false)?;
    world.lab.kill_service("data", KILL)?;
    wait_for("servers to end", Duration::from_secs(10), || {
        let left =
            world.lab.enter(&["sh", "-c", "pgrep -f '[n]onstop-data|[p]ostgres' || true"])?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(Some(()))
    })?;
    let said = problems(&world)?;
    assert!(said.contains("intermediate/pcap") && said.contains("does not run"), "{said}");
    let checked = world.lab.cli_output(&["check"])?;
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.contains("systemctl start nonstop-data"), "{checked}");
    world.lab.auto_restart("data", true)?;
    world.lab.start_service("data")?;
    all_listen(&world, Duration::from_secs(30))?;

    world.lab.power_cut()?;
    world.lab.start()?;
    all_listen(&world, Duration::from_secs(30))
}

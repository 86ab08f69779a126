//! Who comes from where, at the gateway of a real lab: the kernel before SSH, the trace behind it, and
//! a host key that is changed.

use anyhow::{Context, Result, ensure};
use nonstop_testkit::{lab::Lab, pc::Pc, ssh::Forward};
use nonstop_tests::World;
use serde_json::Value;
use std::{fs, time::Duration};

/// A lab without machines that is switched on.
fn lab(name: &str, yaml: &str) -> Result<World> {
    let mut world = World::off(name, yaml)?;
    world.lab.start()?;
    Ok(world)
}

/// A researcher who comes from `sources`, at a PC of the street.
fn person(lab: &Lab, name: &str, host: u8, sources: &[&str]) -> Result<Pc> {
    let pc = lab.pc(name, host)?;
    let key = pc.public_key_file().display().to_string();
    let mut words = vec!["account", "add", name, "--role", "researcher", "--full-name", name];
    words.extend(["--affiliation", "Test", "--edition", "intermediate", "--key-file", &key]);
    words.extend(sources.iter().flat_map(|net| ["--source", *net]));
    lab.cli(&words)?;
    Ok(pc)
}

/// Whether something answers at the gateway's port.
fn answers(pc: &Pc) -> Result<bool> {
    Ok(pc.output(&["nc", "-z", "-w", "1", "198.51.100.1", "22"])?.status.success())
}

fn to_portal(world: &World, account: &str, port: u16) -> Result<Forward> {
    Ok(Forward { port, target: format!("{}:8080", world.address_of(account)?) })
}

/// The newest row of the trace of `action` about `subject`.
fn traced(lab: &Lab, action: &str, subject: &str) -> Result<Value> {
    lab.wait_for(&format!("{action} of {subject} in the trace"), Duration::from_secs(20), || {
        let rows = lab.cli(&["trace", "list", "--limit", "200"])?;
        let rows = rows.as_array().context("rows")?.clone();
        let of_it = |row: &&Value| row["action"] == action && row["subject"] == subject;
        Ok(rows.iter().find(of_it).map(|row| row["detail"].clone()))
    })
}

fn soon(lab: &Lab, what: &str, is: impl Fn() -> Result<bool>) -> Result<()> {
    lab.wait_for(what, Duration::from_secs(20), || Ok(is()?.then_some(())))
}

#[test]
fn only_a_registered_address_reaches_the_gateway_and_staff_see_who_tried() -> Result<()> {
    let mut world = lab("sources", "lease_seconds: 12")?;
    let lab = &world.lab;
    let alice = person(lab, "alice", 10, &["198.51.100.10/32"])?;
    let stranger = lab.pc("alice-at-home", 11)?;
    let host_key = world.host_key()?;
    soon(lab, "alice's PC is answered", || answers(&alice))?;
    ensure!(!answers(&stranger)?, "nobody is registered there");
    let refused = lab.cli(&["session", "refused"])?;
    let of_it =
        refused.as_array().and_then(|all| all.iter().find(|r| r["source"] == "198.51.100.11"));
    let of_it = of_it.with_context(|| format!("staff see who tried: {refused}"))?;
    ensure!(of_it["why"] == "not_registered" && of_it["packets"].as_u64() > Some(0), "{of_it}");

    // Another account's network covers both, and goes again: alice's own stays.
    let bob = person(lab, "bob", 12, &["198.51.100.0/24"])?;
    soon(lab, "bob's network is open", || answers(&stranger))?;
    let mut tunnel = alice.tunnel(&host_key, &[to_portal(&world, "alice", 5001)?])?;
    ensure!(alice.http_get(5001, "/", &[])?.status == 200);

    // What is refused behind that wall is in the trace, and the client is told nothing of why.
    let config = bob.ssh_config(&host_key)?.display().to_string();
    let ssh = |pc: &Pc, words: &[&str]| -> Result<String> {
        let output = pc.output(&[&["timeout", "10", "ssh", "-F", &config], words].concat())?;
        ensure!(!output.status.success(), "{words:?}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let own = to_portal(&world, "alice", 1)?.target;
    ensure!(ssh(&bob, &["-W", &own, "gateway"])?.contains("administratively prohibited"));
    let denied = traced(lab, "gateway.denied", "bob")?;
    ensure!(denied.to_string().contains(&own), "{denied}");
    let said = ssh(&bob, &["-l", "alice", "-N", "gateway"])?;
    ensure!(said.contains("Permission denied") && !said.contains("key file"), "{said}");
    let row = traced(lab, "login.refused", "alice")?;
    ensure!(
        row.to_string().contains("unknown_key") && row.to_string().contains("198.51.100.12"),
        "{row}"
    );

    lab.cli(&["account", "remove", "bob"])?;
    soon(lab, "bob's network is shut", || Ok(!answers(&stranger)?))?;
    ensure!(answers(&alice)? && tunnel.is_open(), "alice's own is as it was");

    // Without the daemon nobody new is answered once the lease is over.
    lab.auto_restart("nonstopd", false)?;
    lab.kill_service("nonstopd", 9)?;
    soon(lab, "the lease is over", || Ok(!answers(&alice)?))?;
    ensure!(tunnel.is_open(), "what is open is ended by other walls");
    lab.start_service("nonstopd")?;
    soon(lab, "alice is answered again", || answers(&alice))?;
    drop(tunnel);
    world.lab.power_cut()
}

#[test]
fn the_host_key_is_changed_by_an_admin_and_the_stock_client_follows() -> Result<()> {
    let mut world = lab("host-key", "")?;
    let alice = world.lab.researcher("alice", 10)?;
    let first = world.host_key()?;
    let config = alice.ssh_config(&first)?;
    let known = config.with_file_name("known_hosts");
    let forward = to_portal(&world, "alice", 5001)?;
    let logs_in = |world: &World| -> Result<bool> {
        let (config, target) = (config.display().to_string(), format!("5001:{}", forward.target));
        let line = format!(
            "ssh -F '{config}' -o UpdateHostKeys=yes -N -L {target} gateway 2>&1 & pid=$!
             i=0; until nc -z 127.0.0.1 5001 || [ $i -gt 50 ] || ! kill -0 $pid 2>/dev/null; do
             i=$((i+1)); sleep 0.1; done; nc -z 127.0.0.1 5001; e=$?; sleep 0.5; kill $pid; exit $e"
        );
        world.lab.enter(&["true"])?;
        Ok(alice.output(&["sh", "-c", &line])?.status.success())
    };
    soon(&world.lab, "alice logs in", || logs_in(&world))?;
    let lab = &world.lab;
    ensure!(lab.cli_refuses(&["lab", "host-key", "finish"])?.contains("rotate"), "not begun");
    let both = lab.cli(&["lab", "host-key", "rotate"])?;
    let next = both["next"]["key"].as_str().context("a next key")?.to_owned();
    ensure!(both["current"]["key"] == *first, "{both}");
    world.lab.power_cut()?;
    world.lab.start()?;
    let lab = &world.lab;
    ensure!(lab.cli(&["lab", "host-key", "show"])? == both, "both outlive a power cut");
    ensure!(lab.cli(&["whoami"])?["lab"]["connect"]["next_host_key"]["key"] == *next);
    soon(lab, "alice logs in and is told", || {
        Ok(logs_in(&world)? && fs::read_to_string(&known)?.contains(&next))
    })?;
    let after = lab.cli(&["lab", "host-key", "finish"])?;
    ensure!(after["current"]["key"] == *next && after["next"].is_null(), "{after}");
    soon(lab, "alice logs in by the key that she was told", || logs_in(&world))?;
    ensure!(world.host_key()? == next);
    traced(lab, "host_key.finish", after["current"]["fingerprint"].as_str().unwrap_or_default())?;
    world.lab.power_cut()
}

//! A debugger and its debuggee: one unit, two machines, and nothing but a link between them.

use anyhow::{Context, Result, bail};
use nonstop_testkit::{
    place::wait_for,
    rdp::{Desktop, Session},
    ssh::Forward,
};
use nonstop_tests::{GuestShell, World};
use serde_json::Value;
use std::{fs, thread, time::Duration};

const PAIR: &str = "version: 1\ntitle: pair\nmachines:\n\
    - {role: debugger, image: micro, memory_mib: 96, networks: [access, link]}\n\
    - {role: debuggee, image: micro, memory_mib: 96, networks: [link]}\n";

/// Gives addresses on the link, as the image of a debugger does.
const SERVE: &str = "\
for p in /proc/[0-9]*; do grep -q eth1 $p/cmdline && kill ${p#/proc/}; done; ip addr add 192.168.99.1/24 dev eth1; \
printf 'start 192.168.99.10\\nend 192.168.99.20\\ninterface eth1\\nlease_file /tmp/leases\\n\
option subnet 255.255.255.0\\noption router 192.168.99.1\\n' >/tmp/udhcpd.conf; \
touch /tmp/leases; udhcpd -S /tmp/udhcpd.conf; echo served";

fn a_pair(name: &str) -> Result<(World, Value)> {
    let mut world = World::off(name, "grace_seconds: 2")?;
    fs::write(world.lab.dir().join("templates/pair.yaml"), PAIR)?;
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    let id = world.grant("alice", "pair")?;
    let shown = world.in_state(&id, "ready")?;
    Ok((world, shown))
}

fn machine<'a>(shown: &'a Value, role: &str) -> Result<&'a Value> {
    let machines = shown["machines"].as_array().context("no machines")?;
    machines.iter().find(|m| m["role"] == role).with_context(|| format!("no {role}"))
}

fn id_of(shown: &Value, role: &str) -> Result<String> {
    Ok(machine(shown, role)?["id"].as_str().context("no id")?.into())
}

/// The pid of the QEMU of `machine` in the lab's host.
fn qemu(world: &World, machine: &str) -> Result<String> {
    let line = format!("pgrep -f '[g]uest=nonstop-{machine},'");
    Ok(world.lab.enter(&["sh", "-c", &line])?.trim().into())
}

/// Both machines' shells, once the debuggee has its address from the debugger.
fn shells(world: &World, shown: &Value) -> Result<(GuestShell, GuestShell)> {
    let mut debugger = GuestShell::connect(&world.lab, &id_of(shown, "debugger")?)?;
    let mut debuggee = GuestShell::connect(&world.lab, &id_of(shown, "debuggee")?)?;
    let said = debugger.run(SERVE)?;
    assert!(said.contains("served"), "{said}");
    has_address(&mut debuggee).with_context(|| {
        let look = "ps | grep dhcp; ip addr; cat /tmp/udhcpd.conf; busybox | grep -c udhcpd";
        format!("the debugger: {said}{}", debugger.run(look).unwrap_or_default())
    })?;
    Ok((debugger, debuggee))
}

fn has_address(debuggee: &mut GuestShell) -> Result<()> {
    wait_for("the debuggee's address from its debugger", Duration::from_secs(90), || {
        debuggee.run("pidof udhcpc || udhcpc -n -q -S -i eth0 -s /bin/lease -t 3 -T 1")?;
        let said = debuggee.run("ip -4 addr show dev eth0")?;
        if said.contains("192.168.99.") {
            return Ok(Some(()));
        }
        bail!("the debuggee says: {said}")
    })
}

#[test]
fn a_debuggee_has_its_debugger_and_nothing_else() -> Result<()> {
    let (world, shown) = a_pair("pair")?;
    let (one, two) = (machine(&shown, "debugger")?, machine(&shown, "debuggee")?);
    assert_eq!(one["networks"], serde_json::json!(["access", "link"]));
    assert_eq!((&two["networks"], &two["address"]), (&serde_json::json!(["link"]), &Value::Null));
    let (_debugger, mut debuggee) = shells(&world, &shown)?;

    // One card, and by it the debugger.
    let cards = debuggee.run("ls /sys/class/net")?;
    let cards: Vec<&str> = cards.split_ascii_whitespace().collect();
    assert_eq!(cards, ["eth0", "lo"]);
    let said =
        debuggee.run("ping -c 2 -W 2 192.168.99.1; arping -c 2 -w 3 -I eth0 192.168.99.1")?;
    assert!(said.contains("2 packets received") && said.contains("192.168.99.1 ["), "{said}");

    // Whatever address of the host is asked for by ARP, nobody answers.
    let link = "nsl00001";
    for address in ["10.77.0.1", "198.51.100.1", "127.0.0.1", "192.168.122.1"] {
        let said = debuggee.run(&format!(
            "ip addr add 10.77.0.9/28 dev eth0 2>/dev/null; arping -c 2 -w 3 -I eth0 {address}"
        ))?;
        assert!(said.contains("Received 0"), "{address}: {said}");
    }
    // The host is not on the link: no address, nothing of IPv6, and its switches closed.
    let host = world.lab.enter(&["ip", "addr", "show", "dev", link])?;
    assert!(host.contains("state UP") && !host.contains("inet"), "{host}");
    for (switch, value) in [
        ("ipv4/conf/nsl00001/arp_ignore", "1"),
        ("ipv4/conf/nsl00001/arp_announce", "2"),
        ("ipv4/conf/nsl00001/rp_filter", "1"),
        ("ipv4/conf/nsl00001/forwarding", "0"),
        ("ipv6/conf/nsl00001/disable_ipv6", "1"),
    ] {
        let read = world.lab.enter(&["cat", &format!("/proc/sys/net/{switch}")])?;
        assert_eq!(read.trim(), value, "{switch}");
    }
    let reach = world.lab.cli(&["reach", "show"])?.to_string();
    let row = |from: &str, to: &str| {
        format!(r#""by":"link {link}","from":"{from}","granted":true,"to":"{to}""#)
    };
    assert!(reach.contains(&row("m1", "m2")) && reach.contains(&row("m2", "m1")), "{reach}");
    let of_debuggee = reach.matches(r#""from":"m2""#).count();
    assert_eq!(of_debuggee, 1, "the debuggee reaches its debugger alone: {reach}");
    Ok(())
}

#[test]
fn a_pair_is_one_unit_and_two_machines() -> Result<()> {
    let (world, shown) = a_pair("unit")?;
    let id = shown["id"].as_str().context("no id")?.to_string();
    let (one, two) = (id_of(&shown, "debugger")?, id_of(&shown, "debuggee")?);
    let (_debugger, mut debuggee) = shells(&world, &shown)?;
    debuggee.run("echo malware > /tmp/malware")?;
    let before = (qemu(&world, &one)?, qemu(&world, &two)?);

    // The debuggee alone is put back to clean: its debugger does not notice.
    world.lab.cli(&["environment", "revert", &id, "--machine", "debuggee"])?;
    wait_for("the debuggee to run anew", Duration::from_secs(60), || {
        let shown = world.in_state(&id, "ready")?;
        Ok((machine(&shown, "debuggee")?["generation"] == 2).then_some(()))
    })?;
    assert_eq!(qemu(&world, &one)?, before.0, "the debugger goes on");
    assert_ne!(qemu(&world, &two)?, before.1, "the debuggee is another");
    let mut debuggee = GuestShell::connect(&world.lab, &two)?;
    assert!(debuggee.run("cat /tmp/malware")?.contains("No such file"));
    has_address(&mut debuggee)?;

    // Off and on alone, and as a unit.
    world.lab.cli(&["environment", "power", &id, "kill", "--machine", "debuggee"])?;
    let state = |role: &str, wanted: &str| {
        wait_for(&format!("the {role} to be {wanted}"), Duration::from_secs(90), || {
            let shown = world.lab.cli(&["environment", "show", &id])?;
            Ok((machine(&shown, role)?["state"] == wanted).then_some(()))
        })
    };
    state("debuggee", "off")?;
    state("debugger", "ready")?;
    assert_eq!(qemu(&world, &one)?, before.0, "the debugger goes on");
    world.lab.cli(&["environment", "power", &id, "off"])?;
    state("debugger", "off")?;
    world.lab.cli(&["environment", "power", &id, "on"])?;
    state("debugger", "ready")?;
    state("debuggee", "ready")?;

    world.end(&id)?;
    assert_eq!(world.left_over()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn each_machine_of_a_pair_has_a_console_of_its_own() -> Result<()> {
    let mut world = World::off("consoles", "")?;
    fs::write(world.lab.dir().join("templates/pair.yaml"), PAIR)?;
    world.lab.start()?;
    let alice = world.lab.researcher("alice", 10)?;
    let id = world.grant("alice", "pair")?;
    let shown = world.in_state(&id, "ready")?;
    let (mut forwards, mut prints) = (Vec::new(), Vec::new());
    for (port, role) in [(4001, "debugger"), (4002, "debuggee")] {
        let desktop = &machine(&shown, role)?["desktop"];
        let address = desktop["address"].as_str().context("no address")?;
        forwards.push(Forward { port, target: format!("{address}:{}", desktop["port"]) });
        prints.push(desktop["fingerprint"].as_str().context("no fingerprint")?.to_string());
    }
    assert_ne!(forwards[0].target, forwards[1].target);
    let _tunnel = alice.tunnel(&world.host_key()?, &forwards)?;
    // What the firmware had written goes when the guest's kernel has the screen.
    for role in ["debugger", "debuggee"] {
        GuestShell::connect(&world.lab, &id_of(&shown, role)?)?;
    }
    let mut sessions = Vec::new();
    for (forward, fingerprint) in forwards.iter().zip(&prints) {
        let desktop = Desktop {
            port: forward.port,
            fingerprint: Some(fingerprint),
            user: "researcher",
            password: "",
        };
        let folder = world.lab.dir().join(format!("look-{}", forward.port));
        sessions.push(Session::open(&alice.place(), &desktop, &folder)?);
    }
    let light = |session: &Session| -> Result<usize> {
        Ok(session.picture()?.count(|[r, g, b]| r > 100 && g > 100 && b > 100))
    };
    let seen = |session: &Session| {
        wait_for("a picture", Duration::from_secs(30), || {
            let count = light(session)?;
            // A client that has just connected draws its first picture in parts.
            thread::sleep(Duration::from_secs(1));
            Ok((count > 300 && light(session)? == count).then_some(count))
        })
    };
    let (debugger, debuggee) = (seen(&sessions[0])?, seen(&sessions[1])?);

    // One of them is off, and the screen of that one alone says so.
    world.lab.cli(&["environment", "power", &id, "kill", "--machine", "debuggee"])?;
    wait_for("the debuggee's screen to say that it is off", Duration::from_secs(30), || {
        Ok(light(&sessions[1])?.abs_diff(debuggee).gt(&100).then_some(()))
    })?;
    let now = light(&sessions[0])?;
    assert!(now.abs_diff(debugger) < 100, "the debugger's screen changed: {debugger}, {now}");
    Ok(())
}

#[test]
fn the_debugger_of_the_desktop_image_serves_addresses_and_names_on_the_link() -> Result<()> {
    let mut world = World::off("served", "")?;
    let pair = PAIR.replacen("image: micro, memory_mib: 96", "image: desktop, memory_mib: 768", 1);
    fs::write(world.lab.dir().join("templates/pair.yaml"), pair)?;
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    let id = world.grant("alice", "pair")?;
    let shown = world.in_state(&id, "ready")?;
    let mut debuggee = GuestShell::connect(&world.lab, &id_of(&shown, "debuggee")?)?;
    has_address(&mut debuggee)?;
    let said =
        debuggee.run("cat /etc/resolv.conf; nslookup c2.example.org; ping -c 1 example.net")?;
    assert!(said.contains("nameserver 192.168.99.1"), "{said}");
    assert!(said.contains("Address: 192.168.99.1\n"), "every name is the debugger: {said}");
    assert!(said.contains("1 packets received"), "{said}");
    Ok(())
}

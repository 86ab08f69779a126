//! What may talk to what, proven from the kernel of a lab with real guests, tried from inside them,
//! and sabotaged in every way that a proof must find.

use crate::portal::{NEAR, page};
use anyhow::{Context, Result, ensure};
use nonstop_testkit::{place::wait_for, ssh::Forward};
use nonstop_tests::{GuestShell, World};
use serde_json::Value;
use std::{collections::BTreeSet, fs, time::Duration};

/// The shipped templates' reach, with a guest that is up in seconds.
const TEMPLATES: [(&str, &str); 3] = [
    (
        "dynamic",
        "version: 1\ntitle: dynamic\ndomain: intermediate\nmachines:\n\
         - {role: debugger, image: micro, memory_mib: 96, networks: [access, link], \
         reach: [reports, airlock]}\n\
         - {role: debuggee, image: micro, memory_mib: 96, networks: [link]}\n",
    ),
    (
        "darknet",
        "version: 1\ntitle: darknet\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96, reach: [live, pcap, rdb, airlock]}\n",
    ),
    (
        "static",
        "version: 1\ntitle: static\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96, reach: [samples, reports, airlock]}\n",
    ),
];

/// Every server of the lab: its name in the matrix, its address and port.
const SERVERS: [(&str, &str, u16); 7] = [
    ("intermediate/live", "10.80.0.2", 7000),
    ("intermediate/pcap", "10.80.0.3", 80),
    ("intermediate/rdb", "10.80.0.4", 5432),
    ("intermediate/samples", "10.80.0.5", 80),
    ("intermediate/reports", "10.80.0.6", 80),
    ("mws/pcap", "10.81.0.3", 80),
    ("mws/rdb", "10.81.0.4", 5432),
];

/// e1 is the pair (m1, m2), e2 and e3 look at darknet traffic (m3, m4), e4 at samples (m5).
fn a_lab() -> Result<World> {
    let mut world = World::off("prove", "")?;
    for (name, text) in TEMPLATES {
        fs::write(world.lab.dir().join(format!("templates/{name}.yaml")), text)?;
    }
    world.lab = world.lab.with_data();
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    let templates = ["dynamic", "darknet", "darknet", "static"];
    let ids = templates.map(|template| world.grant("alice", template));
    for id in ids {
        world.in_state(&id?, "ready")?;
    }
    Ok(world)
}

/// What `reach prove` says, and whether it found everything as it should be.
fn proof(world: &World, how: &[&str]) -> Result<(Value, bool)> {
    let output = world.lab.cli_output(&[&["reach", "prove"], how].concat())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let proof: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("reach prove said no JSON, but: {said}"))?;
    let good = output.status.success();
    ensure!(good == (proof["holds"] == true), "{} and holds: {}", output.status, proof["holds"]);
    ensure!(good || output.status.code() == Some(1), "{}: {said}", output.status);
    Ok((proof, good))
}

/// What speaks against it.
fn against(proof: &Value) -> String {
    let lines = ["differences", "not_proven"].into_iter().flat_map(|list| proof[list].as_array());
    lines.flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

fn is_green(world: &World) -> Result<Value> {
    wait_for("the lab to be proven", Duration::from_secs(30), || {
        let (found, good) = proof(world, &[])?;
        ensure!(good, "{}\npassing: {}", against(&found), found["passing"]);
        Ok(Some(found))
    })
}

/// What `from` gets of `to` by `what`, as proven.
fn reachable<'a>(proof: &'a Value, from: &str, to: &str, what: &str) -> &'a str {
    let cells = proof["cells"].as_array().into_iter().flatten();
    let mut cells = cells.filter(|c| c["from"] == from && c["to"] == to && c["what"] == what);
    cells.next().and_then(|cell| cell["reachable"].as_str()).unwrap_or("-")
}

/// Whom of `targets` (a name, an address and a port each) the guest can connect to.
fn connects(shell: &mut GuestShell, targets: &[(String, String, u16)]) -> Result<Vec<String>> {
    let tries = targets.iter().map(|(name, address, port)| {
        // A stand-in says so to whoever connects; servers answer what was asked: whether there is
        // TLS here, and for a page.
        let (asks, answers) = match port {
            5432 => (r"printf '\000\000\000\010\004\322\026\057'", "grep -q '^N'"),
            8443 => (
                r"printf 'OPTIONS / HTTP/1.1\r\nHost: airlock\r\nConnection: close\r\n\r\n'",
                "grep -q '^HTTP/1.1 200'",
            ),
            _ => ("printf 'HEAD / HTTP/1.0\\r\\n\\r\\n'", "grep -q -e stand-in -e '^HTTP/1.1 200'"),
        };
        format!(
            "( ({asks}; sleep 2) | nc -w 3 {address} {port} 2>/dev/null | {answers} && echo {name}) &"
        )
    });
    let line = format!("{} wait", tries.collect::<String>());
    // Once more: whoever is slow to answer under load is not out of reach, and what is open only once
    // is open.
    let mut open = BTreeSet::new();
    for _ in 0..3 {
        open.extend(shell.run(&line)?.lines().map(String::from));
    }
    Ok(open.into_iter().collect())
}

#[test]
fn what_is_proven_is_what_guests_get_and_each_sabotage_is_found() -> Result<()> {
    let world = a_lab()?;
    let sato = world.lab.person("sato", "staff", 11)?;
    let clean = is_green(&world)?;
    assert_eq!(clean["stand_ins"], serde_json::json!(["intermediate/live"]), "all else is real");

    as_proven_so_tried(&world, &clean)?;
    what_comes_and_goes_alarms_nobody(&world)?;
    each_sabotage_is_found(&world)?;
    what_is_put_right_is_told(&world)?;

    let portal = Forward { port: NEAR, target: format!("{}:8080", world.address_of("sato")?) };
    let _tunnel = sato.tunnel(&world.host_key()?, &[portal])?;
    let seen = wait_for("the portal", Duration::from_secs(30), || page(&sato, "/reach").map(Some))?;
    for text in ["e1/debuggee", "intermediate/reports", "Proven", "Put right"] {
        assert!(seen.contains(text), "`{text}` is not in:\n{seen}");
    }
    assert!(page(&sato, "/")?.contains("href=\"/reach\""));
    Ok(())
}

/// Every machine of the lab tries every server, the airlock and every other machine.
fn as_proven_so_tried(world: &World, proof: &Value) -> Result<()> {
    let machines = [
        ("m1", "e1/debugger", "10.77.0.2"),
        ("m3", "e2/analyst", "10.77.0.18"),
        ("m4", "e3/analyst", "10.77.0.34"),
        ("m5", "e4/analyst", "10.77.0.50"),
    ];
    let (mut open, mut closed) = (0, 0);
    for (machine, name, own) in machines {
        let mut shell = GuestShell::connect(&world.lab, machine)?;
        wait_for("the guest's address", Duration::from_secs(60), || {
            Ok(shell.run("ip -4 addr show")?.contains(own).then_some(()))
        })?;
        let mut targets: Vec<(String, String, u16)> =
            SERVERS.map(|(name, address, port)| (name.into(), address.into(), port)).into();
        for (other, at) in machines.map(|(_, other, at)| (other, at)) {
            // The airlock answers at the host's address of each segment.
            let gate = at.rsplit_once('.').context("an address")?;
            let last: u8 = gate.1.parse()?;
            targets.push((format!("gate-of-{other}"), format!("{}.{}", gate.0, last - 1), 8443));
        }
        let gets = connects(&mut shell, &targets)?;
        let mut should: Vec<String> = SERVERS
            .iter()
            .filter(|(to, _, port)| reachable(proof, name, to, "tcp") == format!("tcp {port}"))
            .map(|(to, ..)| to.to_string())
            .collect();
        let gate = reachable(proof, name, "host on its segment", "tcp");
        if gate.contains("8443") {
            should.push(format!("gate-of-{name}"));
        }
        should.sort();
        assert_eq!(gets, should, "{name}");
        open += gets.len();
        closed += targets.len() - gets.len();
    }
    // As the table of the product says: 2 + 4 + 4 + 3 of four machines, each with eleven targets.
    assert_eq!((open, closed), (13, 31));

    // On its link the pair may say anything; the debuggee nothing to anybody else.
    let link = reachable(proof, "e1/debuggee", "e1/debugger", "tcp");
    assert_eq!(link, "tcp all");
    let others = proof["cells"].as_array().context("cells")?;
    let others = others.iter().filter(|c| c["from"] == "e1/debuggee" && c["to"] != "e1/debugger");
    assert_eq!(others.count(), 0);
    let mut debugger = GuestShell::connect(&world.lab, "m1")?;
    let mut debuggee = GuestShell::connect(&world.lab, "m2")?;
    debugger.run("ip addr add 192.168.99.1/24 dev eth1; ip link set eth1 up")?;
    let alone = "ip addr add 192.168.99.2/24 dev eth0; ip route add default via 192.168.99.1";
    debuggee.run(&format!("ip link set eth0 up; {alone}"))?;
    let said = debuggee.run("ping -c 2 -W 3 192.168.99.1")?;
    assert!(said.contains("packets received") && !said.contains(" 0 packets received"), "{said}");
    let said = debuggee.run("ping -c 1 -W 2 10.77.0.1; ping -c 1 -W 2 10.80.0.6")?;
    assert_eq!(said.matches(" 0 packets received").count(), 2, "{said}");
    Ok(())
}

/// An environment that is built, switched, put back to clean and ended, and a person who is
/// suspended: each proof meanwhile holds, and so did those that the daemon made by itself.
fn what_comes_and_goes_alarms_nobody(world: &World) -> Result<()> {
    world.lab.researcher("bob", 12)?;
    let holds = |when: &str| -> Result<()> {
        let (found, good) = proof(world, &[])?;
        ensure!(good, "{when}: {}\npassing: {}", against(&found), found["passing"]);
        Ok(())
    };
    // What was asked for is begun within a pass or two, and takes its time.
    let goes_on_holding = |when: &str| (0..6).try_for_each(|_| holds(when));
    let until = |state: &str, when: &str| -> Result<()> {
        wait_for(&format!("e5 to be {state}"), Duration::from_secs(120), || {
            holds(when)?;
            let shown = world.lab.cli(&["environment", "show", "e5"])?;
            Ok((shown["state"] == state).then_some(()))
        })
    };
    assert_eq!(world.grant("bob", "dynamic")?, "e5");
    until("ready", "while it is built")?;
    world.lab.cli(&["environment", "power", "e5", "kill", "--machine", "debugger"])?;
    goes_on_holding("while a machine stops")?;
    world.lab.cli(&["environment", "power", "e5", "on"])?;
    until("ready", "while a machine starts")?;
    world.lab.cli(&["environment", "revert", "e5"])?;
    goes_on_holding("while it is put back to clean")?;
    until("ready", "while it is put back to clean")?;
    world.lab.cli(&["account", "suspend", "bob", "--reason", "a test"])?;
    goes_on_holding("while a person is suspended")?;
    world.lab.cli(&["account", "suspend", "bob", "--undo", "--reason", "a test"])?;
    goes_on_holding("while a person comes back")?;
    world.lab.cli(&["environment", "end", "e5"])?;
    until("ended", "while it is torn down")?;
    goes_on_holding("when it has ended")?;
    let alarms = world.alarms()?;
    ensure!(alarms.is_empty(), "{alarms:#?}");
    Ok(())
}

/// What a careless admin does, and what the proof must say of it.
const SABOTAGES: [(&str, &[&str], &[&str]); 9] = [
    (
        "a blanket accept",
        &[
            "nft insert rule inet nonstop forward accept",
            "nft insert rule bridge nonstop from_machine accept",
        ],
        &[
            "inet nonstop forward has a rule that is not ours: accept",
            "e2/analyst to e3/analyst, tcp: allowed -",
        ],
    ),
    (
        "a missing rule against spoofing",
        &[
            "nft flush chain bridge nonstop from_link",
            "nft flush chain bridge nonstop from_machine",
        ],
        &["lacks the rule", "e1/debuggee to e1/debugger, spoofed mac"],
    ),
    (
        "a debuggee's tap on an access bridge",
        &["ip link set nsk00002 master nsb00001"],
        &["nsk00002 of e1/debuggee is on nsb00001, and belongs on nsl00001"],
    ),
    (
        "an address on a link bridge",
        &["ip address add 10.5.5.1/24 dev nsl00001"],
        &["address 10.5.5.1/24 on the link bridge nsl00001"],
    ),
    (
        "arp_ignore set back",
        &[
            "sysctl -qw net.ipv4.conf.nsl00001.arp_ignore=0",
            "sysctl -qw net.ipv4.conf.nsb00002.arp_ignore=0",
        ],
        &[
            "arp_ignore of nsl00001 is 0, and should be 1",
            "net/ipv4/conf/nsb00002/arp_ignore is 0, and should be 1",
        ],
    ),
    (
        "a limit lifted",
        &["nft delete element inet nonstop new_connections { 10.77.0.18 }"],
        &["set inet nonstop new_connections lacks { 10.77.0.18 limit rate over "],
    ),
    (
        "a reach element too many",
        &[
            "nft add element inet nonstop reach \
             { nsb00002 . 10.77.0.18 . 10.80.0.6 . tcp . 80 timeout 1h }",
            "nft add element bridge nonstop reach \
             { nst00003 . 10.77.0.18 . 10.80.0.6 . tcp . 80 timeout 1h }",
        ],
        &[
            "set inet nonstop reach holds { nsb00002 . 10.77.0.18 . 10.80.0.6 . tcp . 80 }",
            "e2/analyst to intermediate/reports, tcp: allowed -, gets through tcp 80",
        ],
    ),
    (
        "a reach element too few",
        &["nft delete element inet nonstop reach { nsb00002 . 10.77.0.18 . 10.80.0.3 . tcp . 80 }"],
        &[
            "set inet nonstop reach lacks { nsb00002 . 10.77.0.18 . 10.80.0.3 . tcp . 80 }",
            "e2/analyst to intermediate/pcap, tcp: allowed tcp 80, gets through -",
        ],
    ),
    (
        "our bridge table gone",
        &["nft delete table bridge nonstop"],
        &["table bridge nonstop is missing", "e1/debuggee to host"],
    ),
];

/// With the daemon held, so that it puts nothing right: the proof does not need it.
fn each_sabotage_is_found(world: &World) -> Result<()> {
    const STOP: i32 = 19;
    const CONT: i32 = 18;
    for (what, lines, says) in SABOTAGES {
        world.lab.kill_service("nonstopd", STOP)?;
        let (before, good) = proof(world, &["--local"])?;
        assert!(good, "before {what}: {}", against(&before));
        for line in lines {
            world.lab.enter(&["sh", "-c", line]).with_context(|| format!("{what}: {line}"))?;
        }
        let (found, good) = proof(world, &["--local"])?;
        assert!(!good, "{what} was not found");
        let found = against(&found);
        for text in says {
            assert!(found.contains(text), "{what}: `{text}` is not in:\n{found}");
        }
        world.lab.kill_service("nonstopd", CONT)?;
        is_green(world).with_context(|| format!("after {what}"))?;
    }
    Ok(())
}

/// While the daemon runs it puts right what it finds within a second: whoever asks is told, with
/// the time, either way.
fn what_is_put_right_is_told(world: &World) -> Result<()> {
    world.lab.enter(&["ip", "address", "add", "10.6.6.1/24", "dev", "nsl00001"])?;
    let (found, _) = proof(world, &[])?;
    let told = ["differences", "passing", "drifts"].map(|list| found[list].to_string()).concat();
    assert!(told.contains("10.6.6.1/24"), "{found}");
    is_green(world)?;
    let trace = world.lab.cli(&["trace", "list", "--limit", "200"])?.to_string();
    assert!(trace.contains("10.6.6.1/24") && trace.contains("network.drift"), "{trace}");
    assert!(trace.contains("firewall.drift"), "{trace}");
    Ok(())
}

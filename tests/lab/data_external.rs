//! A data domain whose servers are the lab's own, behind an interface of the host: the same names,
//! the same reach, the same proof.

use anyhow::{Context, Result, ensure};
use nonstop_testkit::place::wait_for;
use nonstop_tests::World;
use serde_json::Value;
use std::{fs, time::Duration};

const DOMAIN: &str = "  theirs:
    interface: ext0
    network: 10.90.0.0/24
    here: false
    servers:
      pcap: { address: 10.90.0.3, tcp: [80] }
      rdb: { address: 10.90.0.4, tcp: [5432] }
";

/// Of each data domain, with a guest that is up in seconds.
fn template(domain: &str) -> String {
    format!(
        "version: 1\ntitle: {domain}\nrdp: none\ndomain: {domain}\nmachines:\n\
         - {{role: analyst, image: micro, memory_mib: 96, reach: [pcap]}}\n"
    )
}

/// What an admin has there: an interface with an address, and behind it a network with a web
/// server that has a day's file, and a machine that is no server of the data domain.
fn their_network(world: &World) -> Result<()> {
    let files = world.lab.dir().join("theirs");
    fs::create_dir(&files)?;
    fs::write(files.join("2026-11-27.pcap"), "a day of theirs")?;
    let serve = format!(
        "setsid ip netns exec theirs python3 -m http.server -b 10.90.0.3 -d {} 80 </dev/null \
         >/dev/null 2>&1 &",
        files.display()
    );
    for line in [
        "ip netns add theirs",
        "ip link add ext0 type veth peer name eth0 netns theirs",
        "ip address add 10.90.0.1/24 dev ext0 && ip link set ext0 up",
        "ip -n theirs address add 10.90.0.3/24 dev eth0",
        "ip -n theirs address add 10.90.0.4/24 dev eth0",
        "ip -n theirs address add 10.90.0.9/24 dev eth0",
        "ip -n theirs link set eth0 up && ip -n theirs link set lo up",
        "ip -n theirs route add default via 10.90.0.1",
        &serve,
    ] {
        world.lab.enter(&["sh", "-c", line])?;
    }
    Ok(())
}

#[test]
fn servers_behind_an_interface_of_the_host_have_the_same_names_and_reach() -> Result<()> {
    let mut world = World::off("external", DOMAIN)?;
    for domain in ["theirs", "intermediate"] {
        let file = world.lab.dir().join(format!("templates/{domain}.yaml"));
        fs::write(file, template(domain))?;
    }
    // Not there yet, as when a network card comes up late: the daemon waits for it, and says so.
    world.lab.start()?;
    wait_for("the daemon to say what it waits for", Duration::from_secs(30), || {
        let said = world.lab.cli(&["plan"])?["problems"].to_string();
        Ok(said.contains("there is no interface ext0").then_some(()))
    })?;
    their_network(&world)?;
    world.lab.researcher_of("theirs", "alice", 10)?;
    world.lab.researcher("bob", 11)?;
    let (alices, bobs) = (world.grant("alice", "theirs")?, world.grant("bob", "intermediate")?);
    let (alices, bobs) = (world.ready(&alices)?, world.ready(&bobs)?);
    let (mut alice, mut bob) = (world.shell(&alices)?, world.shell(&bobs)?);

    let said = alice.run("nslookup pcap; wget -q -O - http://pcap/2026-11-27.pcap")?;
    assert!(said.contains("10.90.0.3") && said.contains("a day of theirs"), "{said}");
    let said =
        alice.run("wget -q -T 3 -O - http://10.90.0.9/ ; nc -w 3 10.80.0.3 80; nslookup rdb")?;
    assert!(!said.contains("2026") && !said.contains("10.90.0.4"), "{said}");
    // Who is of another data domain has neither the name nor the way.
    let said = bob.run("nslookup pcap; wget -q -T 3 -O - http://10.90.0.3/2026-11-27.pcap")?;
    assert!(said.contains("10.80.0.3") && !said.contains("a day of theirs"), "{said}");
    // Nothing there opens a connection to a machine.
    let said = alice.run("nc -l -p 7777 </dev/null >/dev/null 2>&1 & sleep 1; netstat -ltn")?;
    assert!(said.contains(":7777"), "{said}");
    let tried = format!(
        "ip netns exec theirs sh -c 'nc -z -w 3 10.90.0.3 80 && echo own; \
         nc -z -w 3 {} 7777 && echo machine' || true",
        alices.address
    );
    let said = world.lab.enter(&["sh", "-c", &tried])?;
    assert_eq!(said.trim(), "own");

    let proof = wait_for("the proof", Duration::from_secs(30), || {
        let output = world.lab.cli_output(&["reach", "prove"])?;
        let proof: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
        ensure!(output.status.success(), "{}", proof["differences"]);
        Ok(Some(proof))
    })?;
    let from = format!("{}/analyst", alices.id);
    let cells = proof["cells"].as_array().context("cells")?;
    let theirs = cells.iter().filter(|cell| {
        cell["to"].as_str().is_some_and(|to| to.starts_with("theirs/")) && cell["reachable"] != "-"
    });
    let theirs: Vec<_> = theirs.map(|cell| (cell["from"].as_str(), cell["to"].as_str())).collect();
    assert!(!theirs.is_empty(), "{proof}");
    assert!(theirs.iter().all(|cell| *cell == (Some(&from), Some("theirs/pcap"))), "{theirs:?}");

    // Its data are published by whoever runs its servers.
    let file = world.lab.dir().join("2026-11-27.pcap");
    fs::write(&file, "x")?;
    let file = file.display().to_string();
    let said = world.lab.cli_refuses(&["data", "publish", &file, "--domain", "theirs"])?;
    assert!(said.contains("theirs") && said.contains("here: false"), "{said}");
    Ok(())
}

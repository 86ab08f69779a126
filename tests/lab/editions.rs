//! Two editions beside each other: own accounts, own machines, own servers, and nothing between.

use anyhow::{Context, Result, ensure};
use nonstop_testkit::place::wait_for;
use nonstop_tests::{GuestShell, World};
use serde_json::Value;
use std::{fs, time::Duration};

/// The reach of `macro` and `mws-macro`, with a guest that is up in seconds.
const TEMPLATES: [(&str, &str); 2] = [
    (
        "darknet",
        "version: 1\ntitle: darknet\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96, reach: [live, pcap, rdb, airlock]}\n",
    ),
    (
        "mws",
        "version: 1\ntitle: mws\nrdp: none\ndomain: mws\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96, reach: [pcap, rdb, airlock]}\n",
    ),
];

const SERVERS: [(&str, &str, u16); 7] = [
    ("intermediate/live", "10.80.0.2", 7000),
    ("intermediate/pcap", "10.80.0.3", 80),
    ("intermediate/rdb", "10.80.0.4", 5432),
    ("intermediate/reports", "10.80.0.6", 80),
    ("intermediate/samples", "10.80.0.5", 80),
    ("mws/pcap", "10.81.0.3", 80),
    ("mws/rdb", "10.81.0.4", 5432),
];

#[test]
fn a_machine_of_one_edition_has_no_path_to_the_others_servers_and_no_account_gets_one() -> Result<()>
{
    let mut world = World::off("editions", "")?;
    for (name, text) in TEMPLATES {
        fs::write(world.lab.dir().join(format!("templates/{name}.yaml")), text)?;
    }
    world.lab = world.lab.with_data();
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    world.lab.researcher_of("mws", "erin", 11)?;
    no_account_gets_anothers_template(&world)?;

    let (alices, erins) = (world.grant("alice", "darknet")?, world.grant("erin", "mws")?);
    let (alices, erins) = (world.ready(&alices)?, world.ready(&erins)?);
    let own = |edition: &str| -> Vec<&str> {
        let servers = SERVERS.map(|(name, ..)| name).into_iter();
        let own = servers.filter(|name| name.starts_with(edition));
        own.filter(|name| !name.ends_with("samples") && !name.ends_with("reports")).collect()
    };
    let mut erin = world.shell(&erins)?;
    assert_eq!(connects(&mut erin)?, own("mws"));
    assert_eq!(connects(&mut world.shell(&alices)?)?, own("intermediate"));

    // The same name is each one's own server; what the own edition has not is no name.
    let said = erin.run("nslookup pcap; nslookup live; nslookup reports")?;
    assert!(said.contains("10.81.0.3") && !said.contains("10.80."), "{said}");

    world.lab.wait_for("the proof", Duration::from_secs(30), || {
        let (proof, good) = proof(&world, &[])?;
        ensure!(good, "{}", proof["differences"]);
        ensure!(rows(&proof) == [("intermediate", "mws", 0), ("mws", "intermediate", 0)]);
        Ok(Some(()))
    })?;
    a_right_across_is_found(&world, &erins.id, &erins.address)
}

/// Neither by applying, nor past the form, nor by somebody's approval.
fn no_account_gets_anothers_template(world: &World) -> Result<()> {
    let refused = |account: &str, template: &str| -> Result<String> {
        let words = ["request", "apply", "--account", account, "--template", template];
        world.lab.cli_refuses(&[&words[..], &["--hours", "1", "--purpose", "x"]].concat())
    };
    let said = refused("erin", "darknet")?;
    assert!(said.contains("`erin` is of the edition `mws`"), "{said}");
    assert!(said.contains("template list"), "how to mend it: {said}");
    assert!(refused("alice", "mws")?.contains("`mws`"));
    // A template that is of another edition by the time staff approve.
    let request = world.apply("erin", "mws")?;
    let file = world.lab.dir().join("templates/mws.yaml");
    let (text, other) = (fs::read_to_string(&file)?, TEMPLATES[0].1);
    fs::write(&file, other)?;
    let said = world.lab.cli_refuses(&["request", "approve", &request])?;
    assert!(said.contains("`erin` is of the edition `mws`"), "{said}");
    fs::write(&file, text)?;
    world.lab.cli(&["request", "refuse", &request, "--reason", "a test"])?;

    let edition = |account: &str, edition: &str| {
        world.lab.cli(&["account", "edition", account, edition, "--reason", "a test"])
    };
    edition("erin", "intermediate")?;
    assert!(refused("erin", "mws")?.contains("`intermediate`"));
    edition("erin", "mws")?;
    let shown = world.lab.cli(&["account", "show", "erin"])?;
    assert_eq!(shown["edition"], "mws");
    let trace = world.lab.cli(&["trace", "list"])?.to_string();
    assert_eq!(trace.matches("account.edition").count(), 2, "{trace}");
    Ok(())
}

/// By hand, with the daemon held so that it puts nothing right.
fn a_right_across_is_found(world: &World, environment: &str, address: &str) -> Result<()> {
    const STOP: i32 = 19;
    const CONT: i32 = 18;
    let shown = world.lab.cli(&["environment", "show", environment])?;
    let machine = shown["machines"][0]["id"].as_str().context("no machine")?;
    let number = |id: &str| id[1..].parse::<u32>();
    let bridge = format!("nsb{:05}", number(environment)?);
    let tap = format!("nst{:05}", number(machine)?);
    world.lab.kill_service("nonstopd", STOP)?;
    for (family, interface) in [("inet", bridge), ("bridge", tap)] {
        let element = format!("{{ {interface} . {address} . 10.80.0.3 . tcp . 80 timeout 1h }}");
        world.lab.enter(&["nft", &format!("add element {family} nonstop reach {element}")])?;
    }
    let (found, good) = proof(world, &["--local"])?;
    assert!(!good, "a right across editions was not found");
    let differences = found["differences"].to_string();
    let line =
        format!("{environment}/analyst to intermediate/pcap, tcp: allowed -, gets through tcp 80");
    assert!(differences.contains(&line), "{differences}");
    let across = rows(&found).into_iter().find(|(from, ..)| *from == "mws");
    assert!(across.is_some_and(|(.., open)| open > 0), "{}", found["between"]);
    world.lab.kill_service("nonstopd", CONT)?;
    wait_for("it to be put right", Duration::from_secs(30), || {
        Ok(proof(world, &[])?.1.then_some(()))
    })
}

/// What `reach prove` says, and whether it found everything as it should be.
fn proof(world: &World, how: &[&str]) -> Result<(Value, bool)> {
    let output = world.lab.cli_output(&[&["reach", "prove"], how].concat())?;
    let proof: Value = serde_json::from_slice(&output.stdout).context("reach prove: no JSON")?;
    Ok((proof, output.status.success()))
}

/// From which edition to which data domain, and how many cells are not closed; each row has some.
fn rows(proof: &Value) -> Vec<(&str, &str, u64)> {
    let rows = proof["between"].as_array().into_iter().flatten();
    let rows = rows.filter(|row| row["cells"].as_u64() >= Some(16));
    rows.filter_map(|row| Some((row["from"].as_str()?, row["to"].as_str()?, row["open"].as_u64()?)))
        .collect()
}

/// Which servers the guest can connect to, by address.
fn connects(shell: &mut GuestShell) -> Result<Vec<&'static str>> {
    let tries = SERVERS.map(|(name, address, port)| {
        format!("(nc -w 3 {address} {port} </dev/null >/dev/null 2>&1 && echo {name}) &")
    });
    let said = shell.run(&format!("{} wait", tries.concat()))?;
    let open = SERVERS.into_iter().map(|(name, ..)| name);
    Ok(open.filter(|name| said.lines().any(|line| line == *name)).collect())
}

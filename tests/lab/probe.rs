//! The isolation tried out by canaries of the shipped templates.

use anyhow::{Context, Result, ensure};
use nonstop_tests::World;
use serde_json::Value;
use std::{fs, path::Path};

/// A lab with the shipped templates of one data domain, and the stand-ins of their servers.
fn a_lab() -> Result<World> {
    let mut world = World::off("probe", "")?;
    let templates = world.lab.dir().join("templates");
    for entry in fs::read_dir(&templates)? {
        fs::remove_file(entry?.path())?;
    }
    for name in ["dynamic-micro.yaml", "macro.yaml", "static-micro.yaml"] {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates").join(name);
        fs::copy(shipped, templates.join(name))?;
    }
    world.lab = world.lab.with_data();
    world.lab.start()?;
    Ok(world)
}

/// What `reach prove --probe` says, and whether it found everything as it should be.
fn probed(world: &World) -> Result<(Value, bool)> {
    let output = world.lab.cli_output(&["reach", "prove", "--probe"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let value: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("reach prove --probe said no JSON, but: {said}"))?;
    let good = output.status.success();
    ensure!(said.contains("canaries run"), "no word about how far it is: {said}");
    ensure!(good || output.status.code() == Some(1), "{}: {said}", output.status);
    Ok((value, good))
}

fn lines(value: &Value) -> String {
    let lists = ["differences", "not_shown"].into_iter().flat_map(|list| value[list].as_array());
    lists.flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

#[test]
fn canaries_of_each_template_get_what_is_proven_and_nothing_else() -> Result<()> {
    let world = a_lab()?;
    let (value, good) = probed(&world)?;
    let probe = &value["probe"];
    assert!(
        good && probe["holds"] == true,
        "{}\n{}\n{}",
        lines(probe),
        lines(&value),
        value["not_proven"]
    );
    let canaries = probe["canaries"].as_array().context("no canaries")?;
    assert_eq!(canaries.len(), 5, "a pair, two macros and a static-micro: {canaries:?}");
    assert_eq!(probe["denied"], probe["controlled"], "each has a control");
    assert!(probe["denied"].as_u64() > Some(2000), "{}", probe["denied"]);
    // What the pair of the shipped template gets of each other and of the servers.
    let cell = |from: &str, to: &str, what: &str| -> Option<(u64, u64)> {
        let mut cells = probe["cells"].as_array()?.iter();
        let cell = cells.find(|c| c["from"] == from && c["to"] == to && c["what"] == what)?;
        Some((cell["allowed"].as_u64()?, cell["arrived"].as_u64()?))
    };
    let debuggee = "e1/debuggee";
    assert!(cell(debuggee, "e1/debugger", "tcp").is_some_and(|(allowed, _)| allowed > 0));
    for to in ["host", "intermediate/reports", "elsewhere"] {
        assert_eq!(cell(debuggee, to, "tcp"), Some((0, 0)), "{to}");
    }
    assert_eq!(cell("e1/debugger", "intermediate/reports", "tcp"), Some((1, 1)));

    // The debuggee that scans everything at every layer: nothing of it arrives but at its debugger, no
    // address of the host answers ARP, and nothing came to its tap that belongs to no frame.
    let of_debuggee = probe["cells"].as_array().into_iter().flatten();
    let of_debuggee = of_debuggee.filter(|c| c["from"] == debuggee && c["to"] != "e1/debugger");
    let (mut tried, mut arp) = (0, 0);
    for cell in of_debuggee {
        // What it says to everybody, its debugger hears.
        let heard = cell["to"] == "everybody";
        assert!(heard || cell["arrived"] == 0, "{cell}");
        tried += cell["tried"].as_u64().unwrap_or(0);
        if cell["what"] == "arp" && cell["to"] == "host" {
            arp += cell["tried"].as_u64().unwrap_or(0);
        }
    }
    assert!(
        tried > 300 && arp >= 10,
        "{tried} frames, {arp} of them ARP for addresses of the host"
    );

    // Nothing of them is left, and nobody can log in as them.
    let left = world.lab.cli(&["environment", "list"])?;
    assert!(!left.to_string().contains("granted"), "{left}");
    let trace = world.lab.cli(&["trace", "list"])?.to_string();
    assert!(trace.contains("reach.probe") && trace.contains("\"holds\":true"), "{trace}");
    Ok(())
}

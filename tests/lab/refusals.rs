//! The table of refusals at a real lab: what the client sees, and what stands in the trace.

use anyhow::{Context, Result, ensure};
use nonstop_testkit::{
    place::{Place, wait_for},
    refusals::{
        DENIED, Hears, INSIDE, OUTSIDE, Row, UNKNOWN_ACCOUNT, UNKNOWN_KEY, WRONG_SOURCE, attempt,
    },
};
use nonstop_tests::World;
use serde_json::Value;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    time::Duration,
};

const GATE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 22);
/// Of which each row has one.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 100);

/// A researcher with these keys of `folder`, from anywhere in `net`.
fn add(world: &World, name: &str, net: &str, folder: &Path, keys: &[&str]) -> Result<()> {
    let mut words = vec!["account", "add", name, "--role", "researcher", "--full-name", name];
    words.extend(["--affiliation", "Test", "--edition", "intermediate", "--source", net]);
    let files: Vec<String> = keys
        .iter()
        .map(|key| folder.join(key).with_extension("pub").display().to_string())
        .collect();
    words.extend(files.iter().flat_map(|file| ["--key-file", file.as_str()]));
    world.lab.cli(&words).map(drop)
}

fn keys(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let make =
        "for k in id stranger bobs certified ca; do ssh-keygen -q -t ed25519 -N '' -f $k; done
        ssh-keygen -q -s ca -I alice -n alice certified.pub
        ssh-keygen -q -t rsa -b 1024 -N '' -f rsa1024; ssh-keygen -q -t rsa -b 2048 -N '' -f rsa
        ssh-keygen -q -t ed25519 -N '' -f carols";
    let here = folder.display().to_string();
    Place::here().run(&["sh", "-ec", &format!("cd '{here}'; {make}")]).map(drop)
}

/// Rows of the trace that tell of `hears` from `from`.
fn told(trace: &[Value], hears: Hears, from: Ipv4Addr) -> usize {
    let Some((action, field, word)) = hears.traced() else { return 0 };
    let of_it = |row: &&Value| {
        let detail = &row["detail"];
        row["action"] == action && detail[field] == word && detail["source"] == from.to_string()
    };
    trace.iter().filter(of_it).count()
}

#[test]
fn whatever_the_gateway_refuses_stands_in_the_trace_with_its_reason() -> Result<()> {
    let mut world = World::off("refusals", "")?;
    world.lab.start()?;
    let pc = world.lab.pc("alice", 10)?;
    let folder = world.lab.dir().join("refusals");
    keys(&folder)?;
    add(&world, "alice", "198.51.100.0/24", &folder, &["id", "rsa"])?;
    add(&world, "bob", "198.51.100.0/24", &folder, &["bobs"])?;
    add(&world, "carol", "198.51.100.99/32", &folder, &["carols"])?;
    wait_for("alice's gate", Duration::from_secs(20), || {
        Ok(world.lab.enter(&["test", "-e", "/run/nonstop/gate/keys/carol"]).is_ok().then_some(()))
    })?;
    let mut wrong = Vec::new();
    let mut expected = Vec::new();
    let mut next = u32::from(FIRST);
    let mut try_all = |rows: &[Row]| -> Result<()> {
        for row in rows {
            let from = Ipv4Addr::from(next);
            next += 1;
            pc.run(&["ip", "address", "add", &format!("{from}/32"), "dev", "outside"])?;
            let tried = attempt(row, &pc.place(), &folder, from, GATE)?;
            if !tried.refused {
                wrong.push(format!("{}: {}", row.0, tried.said));
            }
            // These two come as the PC itself.
            let from = if row.1.starts_with("says ") { pc.address() } else { from };
            expected.push((row.0, row.3, from));
        }
        Ok(())
    };
    try_all(INSIDE)?;
    // Of the table, but with a user of this lab: nobody is called carol there.
    let outside: Vec<Row> = OUTSIDE
        .iter()
        .map(|(what, tries, sees, hears)| match *tries {
            "ssh_ -i id -l carol -N" => (*what, "ssh_ -i id -l nobody-here -N", *sees, *hears),
            tries => (*what, tries, *sees, *hears),
        })
        .collect();
    try_all(&outside)?;
    try_all(&[(
        "a registered address of others",
        "ssh_ -i carols -l carol -N",
        DENIED,
        WRONG_SOURCE,
    )])?;
    let cards = world.lab.cli(&["card", "list", "alice"])?;
    let id = cards[0]["id"].as_str().context("a card")?.to_owned();
    let of = if cards[0].to_string().contains("rsa") { "rsa" } else { "id" };
    let keys_of_alice = || world.lab.enter(&["cat", "/run/nonstop/gate/keys/alice"]);
    let both = keys_of_alice()?;
    world.lab.cli(&["card", "revoke", &id, "--reason", "lost"])?;
    // A login of just then is cut within a second; what is tried here is one of later.
    wait_for("the gate without that key", Duration::from_secs(20), || {
        Ok((keys_of_alice()? != both).then_some(()))
    })?;
    let revoked = format!("ssh_ -i {of} -l alice -N");
    let revoked: &'static str = revoked.leak();
    try_all(&[("a revoked key", revoked, DENIED, UNKNOWN_KEY)])?;
    world.lab.cli(&["account", "suspend", "alice", "--reason", "holiday"])?;
    let other = if of == "rsa" { "ssh_ -i id -l alice -N" } else { "ssh_ -i rsa -l alice -N" };
    try_all(&[("a suspended account", other, DENIED, UNKNOWN_ACCOUNT)])?;

    ensure!(wrong.is_empty(), "not refused as it should be:\n{}", wrong.join("\n"));
    let (mut missing, mut astray) = (Vec::new(), Vec::new());
    let all = wait_for("every refusal in the trace", Duration::from_secs(20), || {
        let rows = world.lab.cli(&["trace", "list", "--limit", "1000"])?;
        let rows = rows.as_array().context("rows")?.clone();
        missing =
            expected.iter().filter(|(_, hears, from)| told(&rows, *hears, *from) == 0).collect();
        let of_nobody =
            |row: &Value| row["action"] == "gateway.lost" || row["detail"]["source"] == "";
        astray = rows.into_iter().filter(of_nobody).collect();
        Ok(missing.is_empty().then_some(()))
    });
    all.with_context(|| format!("not in the trace: {missing:?}; of nobody there: {astray:?}"))?;
    println!("{} tries, each refused and in the trace", expected.len());
    Ok(())
}

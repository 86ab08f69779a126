//! The demo as scripts use it. A program of its own, because it lists the whole machine and
//! `cargo test` runs one program at a time.

use anyhow::{Context, Result};
use nonstop_testkit::{
    inventory::HostInventory,
    labbox::built_programs,
    place::{Place, wait_for},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

fn xtask(words: &[&str], dir: &Path) -> Result<Output> {
    let mut command = Place::here().command(built_programs()?.join("xtask"));
    command.arg("demo").args(words).arg("--dir").arg(dir).output().context("run xtask")
}

fn must(output: Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{said}");
    Ok(said)
}

fn demo_json(dir: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(dir.join("demo.json"))?)?)
}

fn nothing_is_left(before: &HostInventory) -> Result<()> {
    // The kernel takes namespaces down in its own time.
    wait_for("the machine to be as before", Duration::from_secs(10), || {
        let now = HostInventory::take()?;
        let (added, missing) = (now.added_since(before), now.missing_since(before));
        anyhow::ensure!(added.is_empty() && missing.is_empty(), "left: {added:#?} {missing:#?}");
        Ok(Some(()))
    })
}

fn folder() -> Result<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("demo");
    if dir.exists() {
        must(xtask(&["--stop"], &dir)?)?;
        fs::remove_dir_all(&dir)?;
    }
    Ok(dir)
}

#[test]
fn a_demo_is_used_by_its_json_and_leaves_nothing_stopped_or_killed() -> Result<()> {
    let dir = folder()?;
    let before = HostInventory::take()?;

    must(xtask(&["--detach"], &dir)?)?;
    let demo = demo_json(&dir)?;
    let text = |key: &str| demo[key].as_str().map(String::from).context("a text");
    let (cli, lab, enter) = (text("cli")?, text("lab")?, text("enter")?);
    let names: Vec<&str> = demo["accounts"]
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|a| a["name"].as_str())
        .collect();
    assert_eq!(names, ["sato", "alice", "bob", "erin"]);

    let list = [cli.as_str(), "--lab", &lab, "account", "list", "--json"];
    let outside: Value = serde_json::from_str(&Place::here().run(&list)?)?;
    let within: Vec<&str> = enter.split_whitespace().chain(list).collect();
    let inside: Value = serde_json::from_str(&Place::here().run(&within)?)?;
    assert_eq!(outside, inside);
    assert_eq!(outside.as_array().map(Vec::len), Some(4));

    let portal = demo["portal"]["alice"].as_str().context("a URL")?;
    let page = Place::here().run(&["curl", "-sSf", "--noproxy", "*", portal])?;
    assert!(page.contains("alice"), "{page}");
    let files = demo["files"]["alice"].as_str().context("a URL")?;
    Place::here().run(&["curl", "-sSf", "--noproxy", "*", files])?;

    let second = xtask(&["--detach"], &dir)?;
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("already"));

    must(xtask(&["--stop"], &dir)?)?;
    assert!(!dir.join("demo.json").exists());
    nothing_is_left(&before)?;

    // The same lab again, and its keeper killed: all of it goes, and `--stop` clears the rest.
    must(xtask(&["--detach"], &dir)?)?;
    let keeper: Value = serde_json::from_slice(&fs::read(dir.join("keeper.json"))?)?;
    Place::here().run(&["kill", "-9", &keeper["pid"].to_string()])?;
    must(xtask(&["--stop"], &dir)?)?;
    nothing_is_left(&before)?;

    // In the foreground, Ctrl-C ends it in order.
    let mut foreground = Place::here()
        .command(built_programs()?.join("xtask"))
        .args(["demo", "--dir"])
        .arg(&dir)
        .stderr(Stdio::null())
        .spawn()?;
    let ready = wait_for("the demo", Duration::from_secs(120), || {
        Ok((dir.join("demo.json").exists() || foreground.try_wait()?.is_some()).then_some(()))
    });
    Place::here().run(&["kill", "-INT", &foreground.id().to_string()])?;
    assert!(foreground.wait()?.success(), "Ctrl-C in a running demo is how it ends");
    ready?;
    nothing_is_left(&before)?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

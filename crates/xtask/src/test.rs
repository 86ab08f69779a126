//! `cargo xtask test`: everything that CI and a person run before a change lands.

use crate::{connect, install, run, stages::Stages, tools, workspace};
use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// What a build of everything and its tests take of the disk, at most, in GiB.
const ROOM_GIB: u64 = 20;

/// Sees that there is room, installs what tests need, checks form and licences, builds everything
/// with the images, and runs the tests whose name contains `filter`.
///
/// Errors: any of it failed. The last line on stdout is the summary of `cargo test`.
pub(crate) fn test(filter: Option<&str>) -> Result<()> {
    let mut stages = Stages::new();
    stages.stage("room", || workspace::room(ROOM_GIB))?;
    stages.stage("packages", install::install)?;
    stages.stage("form", || {
        run::run("cargo fmt", workspace::cargo()?.args(["fmt", "--all", "--check"]))
    })?;
    stages.stage("building", || {
        run::run(
            "building",
            workspace::cargo()?.args(["build", "--quiet", "--locked", "--workspace"]),
        )
    })?;
    stages.stage("lints", || {
        run::run(
            "cargo clippy",
            workspace::cargo()?.args(["clippy", "--quiet", "--locked", "--workspace"]).args([
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]),
        )
    })?;
    stages.stage("licences and known weaknesses", deny)?;
    let ssh_audit = stages.stage("tools", tools::ssh_audit)?;
    stages.stage("nonstop-connect for Windows and macOS", connect::other_systems)?;
    let images = stages.stage("images", workspace::images)?;
    stages.print();
    // Each end-to-end test runs a whole lab: two at once are what two cores carry. Whoever measures
    // what the host is left with does so alone: `nonstop_testkit::turn`.
    let mut tests = workspace::cargo()?;
    tests
        .args(["test", "--locked", "--workspace", "--no-fail-fast"])
        .args(filter)
        .env("RUST_TEST_THREADS", "2")
        .env("NONSTOP_IMAGES", images)
        .env("NONSTOP_SSH_AUDIT", ssh_audit)
        .stdout(Stdio::inherit());
    let status = run::status("cargo test", &mut tests)?;
    if !status.success() {
        bail!("tests failed");
    }
    Ok(())
}

/// cargo-deny over the workspace; built once, kept beside the build.
fn deny() -> Result<()> {
    let tools = workspace::target()?.join("tools");
    let deny = tools.join("bin/cargo-deny");
    if !deny.exists() {
        eprintln!("    building cargo-deny, once");
        // A folder of its own: the host's tool shares nothing with our dependencies.
        let mut install = workspace::cargo()?;
        install
            .args(["install", "--quiet", "--locked", "cargo-deny", "--root"])
            .arg(&tools)
            .env("CARGO_TARGET_DIR", tools.join("build"));
        run::run("building cargo-deny", &mut install)?;
        let _only_space = std::fs::remove_dir_all(tools.join("build"));
    }
    let check = |words: &[&str]| {
        let mut command = Command::new(&deny);
        command.current_dir(workspace::root()?).args(["--all-features", "check"]).args(words);
        run::run(&format!("cargo deny check {}", words.join(" ")), &mut command)
    };
    check(&["bans", "licenses", "sources"])?;
    // The list of weaknesses lies on GitHub, which a closed network does not reach.
    let mut fetch = Command::new(&deny);
    fetch.current_dir(workspace::root()?).args(["fetch", "db"]);
    match run::run("fetching the list of known weaknesses", &mut fetch) {
        Ok(()) => check(&["advisories"]),
        Err(e) => {
            nonstop_testkit::interrupt::check()?;
            eprintln!("    {e:#}: known weaknesses were NOT checked");
            Ok(())
        }
    }
}

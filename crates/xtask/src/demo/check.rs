//! The main job, once, as people do it: alice applies, staff approve, a machine is made, and
//! its desktop is looked at over RDP through alice's tunnel.

use super::files::DemoJson;
use crate::stages::Stages;
use anyhow::{Context, Result, bail};
use nonstop_testkit::{
    net::free_port,
    place::{Place, wait_for},
    rdp::{self, Look},
    ssh::{Forward, Tunnel},
};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Does the main job in the running lab `demo`; pictures go to `D/check`.
///
/// Errors: any step failed, or what appeared was no desktop.
pub(crate) fn main_job(demo: &DemoJson, dir: &Path, stages: &mut Stages) -> Result<()> {
    let folder = dir.join("check");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let id = stages.stage("alice applies, staff approve", || {
        let request = cli(
            demo,
            &[
                "request",
                "apply",
                "--account",
                "alice",
                "--template",
                "macro",
                "--hours",
                "2",
                "--purpose",
                "Look at one day of darknet traffic",
            ],
        )?;
        let before = environments(demo)?;
        cli(demo, &["request", "approve", &text(&request["id"])?])?;
        wait_for("the environment", Duration::from_secs(10), || {
            Ok(environments(demo)?.into_iter().find(|id| !before.contains(id)))
        })
    })?;
    let Reached { target, fingerprint, user, password } =
        stages.stage("from approval to RDP answering", || ready(demo, &id))?;
    let port = free_port()?;
    let forward = Forward { port, target };
    let tunnel = stages.stage("alice opens her tunnel", || {
        let config = Path::new(&demo.ssh_config);
        let log = folder.join("ssh.log");
        Tunnel::open(&Place::here(), "self", config, "alice", &[forward], &log)
    })?;
    let desktop = rdp::Desktop {
        port,
        fingerprint: fingerprint.as_deref(),
        user: &user,
        password: &password,
    };
    eprintln!("==> looking at the desktop");
    let frames =
        rdp::look(&Place::here(), &desktop, &Look::of_ours(), &folder, Duration::from_secs(120))?;
    stages.note("from RDP to the desktop", frames.appeared_after);
    stages.note("a command typed, its result seen", frames.answered_after);
    drop(tunnel);
    stages.stage("the environment ends", || cli(demo, &["environment", "end", &id]))?;
    eprintln!("    a desktop: {}", frames.first.display());
    eprintln!("    after typing: {}", frames.second.display());
    Ok(())
}

fn cli(demo: &DemoJson, words: &[&str]) -> Result<Value> {
    let mut all = vec![demo.cli.as_str(), "--lab", &demo.lab];
    all.extend(words);
    all.push("--json");
    let said = Place::here().run(&all)?;
    serde_json::from_str(&said).with_context(|| format!("`nonstop {}`: not JSON", words.join(" ")))
}

fn environments(demo: &DemoJson) -> Result<Vec<String>> {
    let list = cli(demo, &["environment", "list"])?;
    let list = list.as_array().context("`environment list` gave no list")?;
    list.iter().map(|environment| text(&environment["id"])).collect()
}

/// Where a desktop is, and how to log in.
struct Reached {
    target: String,
    fingerprint: Option<String>,
    user: String,
    password: String,
}

/// The desktop of the environment `id`, once that is ready.
fn ready(demo: &DemoJson, id: &str) -> Result<Reached> {
    let patience = Instant::now() + Duration::from_secs(240);
    loop {
        let environment = cli(demo, &["environment", "show", id])?;
        if environment["state"] == "ready" {
            let machines = environment["machines"].as_array().context("no machines")?;
            let desktop = machines
                .iter()
                .map(|machine| &machine["desktop"])
                .find(|desktop| desktop.is_object())
                .context("no machine of the environment has a desktop")?;
            let target = format!("{}:{}", text(&desktop["address"])?, text(&desktop["port"])?);
            let word = |name: &str| desktop[name].as_str().map(str::to_owned);
            return Ok(Reached {
                target,
                fingerprint: word("fingerprint"),
                // The hypervisor's display asks for nobody's name; clients want to say one.
                user: word("user").unwrap_or("researcher".into()),
                password: word("password").unwrap_or_default(),
            });
        }
        if Instant::now() > patience {
            bail!("the environment {id} is not ready: {environment:#}");
        }
        nonstop_testkit::interrupt::check()?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A JSON text or number as text.
fn text(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => bail!("expected a text, got {other}"),
    }
}

//! The demo's accounts: one of the staff, researchers of both editions, each with a key file and
//! a tunnel to the portal.

use anyhow::{Context, Result};
use nonstop_testkit::{
    lab::Lab,
    net::free_port,
    place::{Place, wait_for},
    ssh::{self, Forward, Tunnel},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Name, role, full name, affiliation, edition (staff have none).
pub(crate) const PEOPLE: [[&str; 5]; 4] = [
    ["sato", "staff", "Sato Hanako", "the lab", ""],
    ["alice", "researcher", "Alice Example", "Example University", "intermediate"],
    ["bob", "researcher", "Bob Example", "Example Institute", "intermediate"],
    ["erin", "researcher", "Erin Example", "Example Workshop", "mws"],
];

/// Makes the accounts exist with the keys in `D/keys`. Repeatable.
pub(crate) fn accounts(lab: &Lab, dir: &Path) -> Result<()> {
    let keys = dir.join("keys");
    ssh::private_folder(&keys)?;
    let known = lab.cli(&["account", "list"])?;
    let known = known.as_array().context("`account list` gave no list")?;
    for [name, role, full_name, affiliation, edition] in PEOPLE {
        let public = ssh::key(&keys.join(name), name)?.display().to_string();
        if let Some(account) = known.iter().find(|account| account["name"] == name) {
            // A demo from before editions was kept.
            if account["edition"].is_null() && !edition.is_empty() {
                lab.cli(&["account", "edition", name, edition, "--reason", "the demo"])?;
            }
            continue;
        }
        let mut words = vec!["account", "add", name, "--role", role, "--full-name", full_name];
        // The demo is reached from this machine alone, whose end of the pair has no fixed address.
        words.extend(["--affiliation", affiliation, "--source", "0.0.0.0/0"]);
        words.extend(["--key-file", &public]);
        if !edition.is_empty() {
            words.extend(["--edition", edition]);
        }
        lab.cli(&words)?;
    }
    Ok(())
}

/// Writes `D/ssh_config` with a host entry for each account, the gateway's key pinned.
pub(crate) fn ssh_config(lab: &Lab, dir: &Path) -> Result<PathBuf> {
    let known_hosts = dir.join("keys/known_hosts");
    ssh::pin(&known_hosts, &ssh::host_key(&lab.inside()?)?)?;
    let entries: String = PEOPLE
        .iter()
        .map(|[name, ..]| {
            let key = dir.join("keys").join(name);
            ssh::host_entry(name, name, (lab.gateway(), 22), &key, &known_hosts)
        })
        .collect();
    let path = dir.join("ssh_config");
    fs::write(&path, entries).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Opens each account's tunnel to the portal; gives the portal's address for each.
pub(crate) fn tunnels(
    lab: &Lab,
    dir: &Path,
    config: &Path,
) -> Result<(Vec<Tunnel>, BTreeMap<String, String>)> {
    let mut tunnels = Vec::new();
    let mut portal = BTreeMap::new();
    for [name, ..] in PEOPLE {
        let (tunnel, port) = tunnel(lab, dir, config, name)?;
        tunnels.push(tunnel);
        let url = format!("http://127.0.0.1:{port}/");
        // The portal opens an account's address a moment after the account was made.
        wait_for(&format!("the portal of {name}"), Duration::from_secs(20), || {
            Place::here()
                .run(&["curl", "-sS", "-o", "/dev/null", "--noproxy", "*", "-m", "5", &url])
                .map(Some)
        })?;
        portal.insert(name.into(), url);
    }
    Ok((tunnels, portal))
}

fn tunnel(lab: &Lab, dir: &Path, config: &Path, name: &str) -> Result<(Tunnel, u16)> {
    let account = lab.cli(&["account", "show", name])?;
    let address = account["address"].as_str().context("the account has no address")?;
    let forward = Forward { port: free_port()?, target: format!("{address}:8080") };
    let port = forward.port;
    let log = dir.join("log").join(format!("ssh-{name}.log"));
    let tunnel = Tunnel::open(&Place::here(), "self", config, name, &[forward], &log)
        .with_context(|| format!("open the tunnel of {name}"))?;
    Ok((tunnel, port))
}

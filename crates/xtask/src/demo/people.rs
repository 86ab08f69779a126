//! The demo's accounts: one of the staff, researchers of both editions, each with a key file and
//! a tunnel to the portal.

use anyhow::{Context, Result};
use nonstop_testkit::{
    lab::Lab,
    net::free_port,
    place::{Place, wait_for},
    ssh::{self, Forward, Tunnel},
};
use serde_json::Value;
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

/// What an account's open tunnel leads to.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// The portal's address, by account.
    pub(crate) portal: BTreeMap<String, String>,
    /// The file transfer's.
    pub(crate) files: BTreeMap<String, String>,
}

/// Opens each account's tunnel to the portal and the file transfer, but of those that may not log in: in
/// a lab whose state was kept, somebody may have been suspended, or have got a card.
pub(crate) fn tunnels(lab: &Lab, dir: &Path, config: &Path) -> Result<(Vec<Tunnel>, Doors)> {
    let mut tunnels = Vec::new();
    let mut doors = Doors::default();
    for [name, ..] in PEOPLE {
        let account = lab.cli(&["account", "show", name])?;
        let public = dir.join("keys").join(name).with_extension("pub").display().to_string();
        let key = Place::here().run(&["ssh-keygen", "-lf", &public])?;
        if let Some(why) = kept_out(&account, &key) {
            eprintln!("    {name} {why}: there is no tunnel");
            continue;
        }
        let (tunnel, [portal, files]) = tunnel(&account, dir, config, name)?;
        tunnels.push(tunnel);
        let url = format!("http://127.0.0.1:{portal}/");
        // The portal opens an account's address a moment after the account was made.
        wait_for(&format!("the portal of {name}"), Duration::from_secs(20), || {
            Place::here()
                .run(&["curl", "-sS", "-o", "/dev/null", "--noproxy", "*", "-m", "5", &url])
                .map(Some)
        })?;
        doors.portal.insert(name.into(), url);
        doors.files.insert(name.into(), format!("http://127.0.0.1:{files}/dav/"));
    }
    Ok((tunnels, doors))
}

/// Why `account` cannot log in with `key`, as `ssh-keygen -l` tells of it, if that is so.
fn kept_out(account: &Value, key: &str) -> Option<String> {
    let state = account["state"].as_str().unwrap_or_default();
    if state != "active" {
        return Some(format!("is {state}"));
    }
    let fingerprint = key.split_whitespace().nth(1);
    let mut keys = account["keys"].as_array().into_iter().flatten();
    let known = keys.any(|key| key.as_str() == fingerprint);
    (!known).then(|| "does not log in with the demo's key any more".into())
}

/// The tunnel of `account`, which is called `name`, and its ports for portal and file transfer.
fn tunnel(account: &Value, dir: &Path, config: &Path, name: &str) -> Result<(Tunnel, [u16; 2])> {
    let address = account["address"].as_str().context("the account has no address")?;
    let ports = [free_port()?, free_port()?];
    let [portal, files] = ports;
    let forwards = [(portal, 8080), (files, 8081)]
        .map(|(port, far)| Forward { port, target: format!("{address}:{far}") });
    let log = dir.join("log").join(format!("ssh-{name}.log"));
    let tunnel = Tunnel::open(&Place::here(), "self", config, name, &forwards, &log)
        .with_context(|| format!("open the tunnel of {name}"))?;
    Ok((tunnel, ports))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_may_not_log_in_is_known_before_a_tunnel_is_tried() {
        let account = |state: &str, key: &str| json!({ "state": state, "keys": [key] });
        let (ours, key) = ("SHA256:AAAA", "256 SHA256:AAAA bob (ED25519)\n");
        assert_eq!(kept_out(&account("active", ours), key), None);
        for state in ["suspended", "removed"] {
            let why = kept_out(&account(state, ours), key).expect("may not");
            assert_eq!(why, format!("is {state}"));
        }
        let why = kept_out(&account("active", "SHA256:BBBB"), key).expect("a card");
        assert!(why.contains("demo's key"), "{why}");
        kept_out(&json!({ "state": "active", "keys": [] }), key).expect("no key");
    }
}

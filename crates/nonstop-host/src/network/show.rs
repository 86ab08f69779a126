//! Interfaces as `ip` lists them, and changes by `ip`.

use ipnet::Ipv4Net;
use serde_json::Value;
use std::{collections::BTreeMap, io, process::Command};

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    /// The bridge that it is a port of.
    pub(super) master: Option<String>,
    pub(super) up: bool,
    /// Its IPv4 addresses.
    pub(super) addresses: Vec<Ipv4Net>,
}

/// All interfaces, by name.
pub(super) fn interfaces() -> io::Result<BTreeMap<String, Interface>> {
    let listed: Vec<Value> = serde_json::from_slice(&output(&["-j", "address", "show"])?)?;
    let all = listed.iter().filter_map(|value| {
        let name = value["ifname"].as_str()?.to_owned();
        let flags = value["flags"].as_array();
        let addresses = value["addr_info"].as_array().into_iter().flatten();
        let address = |info: &Value| {
            let address = info["local"].as_str()?.parse().ok()?;
            Ipv4Net::new(address, u8::try_from(info["prefixlen"].as_u64()?).ok()?).ok()
        };
        let interface = Interface {
            name: name.clone(),
            master: value["master"].as_str().map(str::to_owned),
            up: flags.is_some_and(|flags| flags.contains(&"UP".into())),
            addresses: addresses.filter_map(address).collect(),
        };
        Some((name, interface))
    });
    Ok(all.collect())
}

/// Runs `ip` with `words`.
pub(super) fn run(words: &[&str]) -> io::Result<()> {
    output(words).map(drop)
}

fn output(words: &[&str]) -> io::Result<Vec<u8>> {
    let output = Command::new("ip").args(words).output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", words.join(" "), said.trim())))
}

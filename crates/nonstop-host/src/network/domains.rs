//! A data domain on this host: a bridge with the host's address, and one network namespace with
//! the addresses of its servers, joined to it by a pair of interfaces.

use super::show::{Interface, run};
use nonstop_model::DataDomain;
use std::{collections::BTreeMap, io, path::PathBuf};

/// What had to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Made {
    Nothing,
    /// What was missing, in words.
    Something(String),
}

/// The network namespace of the servers of data domain `name`, where they run on this host.
pub fn namespace(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(namespace_name(name))
}

fn namespace_name(name: &str) -> String {
    format!("nonstop-{name}")
}

/// The port of the bridge `interface` behind which its servers are.
pub(super) fn port(interface: &str) -> String {
    format!("{interface}p")
}

/// Makes data domain `name` whole, given the host's `interfaces`. Repeatable.
///
/// Errors: it lies behind an interface that is not there; the kernel refuses.
pub(super) fn make(
    name: &str,
    domain: &DataDomain,
    interfaces: &BTreeMap<String, Interface>,
) -> io::Result<Made> {
    let bridge = domain.interface.as_str();
    let link = interfaces.get(bridge);
    if !domain.here {
        return match link {
            Some(_) => Ok(Made::Nothing),
            None => Err(io::Error::other(format!("there is no interface {bridge}"))),
        };
    }
    let mut done = Vec::new();
    if link.is_none() {
        run(&["link", "add", "name", bridge, "type", "bridge"])?;
        done.push(format!("the bridge {bridge} was missing"));
    }
    let host = ipnet::Ipv4Net::new(domain.host(), domain.network.prefix_len())
        .expect("the network's own prefix");
    let addresses = link.map(|link| link.addresses.clone()).unwrap_or_default();
    for address in addresses.iter().filter(|address| **address != host) {
        run(&["address", "del", &address.to_string(), "dev", bridge])?;
        done.push(format!("address {address} was put on {bridge}"));
    }
    if !addresses.contains(&host) {
        run(&["address", "add", &host.to_string(), "dev", bridge])?;
        done.push(format!("{bridge} had no address {host}"));
    }
    if !link.is_some_and(|link| link.up) {
        run(&["link", "set", "dev", bridge, "up"])?;
        done.push(format!("{bridge} was down"));
    }
    done.extend(servers(name, domain, interfaces)?);
    Ok(if done.is_empty() { Made::Nothing } else { Made::Something(done.join(", ")) })
}

/// Makes the namespace with the servers' addresses, and its way to the bridge.
fn servers(
    name: &str,
    domain: &DataDomain,
    interfaces: &BTreeMap<String, Interface>,
) -> io::Result<Option<String>> {
    let (port, namespace_name) = (port(&domain.interface), namespace_name(name));
    let joined = interfaces.get(&port);
    let bridge = Some(domain.interface.as_str());
    if namespace(name).exists()
        && joined.is_some_and(|port| port.up && port.master.as_deref() == bridge)
    {
        return Ok(None);
    }
    if !namespace(name).exists() {
        run(&["netns", "add", &namespace_name])?;
    }
    if joined.is_none() {
        run(&[
            "link",
            "add",
            &port,
            "type",
            "veth",
            "peer",
            "name",
            "servers",
            "netns",
            &namespace_name,
        ])?;
        let inside = |words: &[&str]| run(&[&["-n", namespace_name.as_str()], words].concat());
        let prefix = domain.network.prefix_len();
        for server in domain.servers.values() {
            let address = format!("{}/{prefix}", server.address);
            inside(&["address", "replace", &address, "dev", "servers"])?;
        }
        inside(&["link", "set", "dev", "lo", "up"])?;
        inside(&["link", "set", "dev", "servers", "up"])?;
        let host = domain.host().to_string();
        inside(&["route", "replace", "default", "via", &host])?;
    }
    run(&["link", "set", "dev", &port, "master", &domain.interface, "up"])?;
    Ok(Some(format!("its servers were not joined to {}", domain.interface)))
}

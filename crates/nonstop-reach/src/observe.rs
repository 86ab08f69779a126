//! Reads a [`Kernel`] from the running one, here or in another process' network namespace.
//!
//! By the programs an admin would use, so that what is proven can be looked up by hand.

use crate::kernel::{Address, Bridge, Kernel, Link, Policy, Port, Route};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::Value;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::{Command, Stdio},
};

/// The kernel could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A program did not run.
    #[error("run `{command}`")]
    Run {
        /// Which.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed: {stderr}")]
    Failed {
        /// Which.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// It said something unexpected.
    #[error("understand what `{command}` lists: {why}")]
    Listing {
        /// Which.
        command: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Whose network is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// That of the calling process.
    Ours,
    /// That of the process with this number.
    Of(u32),
}

/// Settings that are read for each interface.
const SETTINGS: [&str; 9] = [
    "arp_ignore",
    "arp_announce",
    "rp_filter",
    "forwarding",
    "disable_ipv6",
    "route_localnet",
    "accept_local",
    "proxy_arp",
    "proxy_ndp",
];

/// Reads everything. Needs root, and `nft`, `ip`, `tc` and `grep` (also `nsenter` for another
/// network). What changes meanwhile may be seen half: read again before raising an alarm.
pub fn kernel(network: Network) -> Result<Kernel, ObserveError> {
    let rules = json(network, &["nft", "-j", "list", "ruleset"])?;
    let mut kernel = Kernel { rules, ..Kernel::default() };
    for link in list(&json(network, &["ip", "-j", "-d", "link", "show"])?) {
        kernel.links.push(self::link(link));
    }
    for of in list(&json(network, &["ip", "-j", "address", "show"])?) {
        for info in list(&of["addr_info"]) {
            let interface = of["ifname"].as_str().unwrap_or_default().to_string();
            if let Some(address) = address(info) {
                kernel.addresses.push(Address { interface, address });
            }
        }
    }
    for family in ["-4", "-6"] {
        let command = ["ip", "-j", "-d", family, "route", "show", "table", "all"];
        let listed = json(network, &command)?;
        for route in list(&listed) {
            match self::route(route, family == "-6") {
                Some(route) => kernel.routes.push(route),
                None => kernel.strange.push(format!("route {route}")),
            }
        }
        for policy in list(&json(network, &["ip", "-j", family, "rule", "show"])?) {
            kernel.policies.push(self::policy(policy));
        }
    }
    kernel.policies.sort_by_key(|policy| policy.priority);
    kernel.policies.dedup();
    settings(network, &mut kernel)?;
    for qdisc in list(&json(network, &["tc", "-j", "qdisc", "show"])?) {
        if let kind @ ("ingress" | "clsact") = qdisc["kind"].as_str().unwrap_or_default() {
            kernel
                .strange
                .push(format!("qdisc {kind} on {}", qdisc["dev"].as_str().unwrap_or("?")));
        }
    }
    Ok(kernel)
}

fn settings(network: Network, kernel: &mut Kernel) -> Result<(), ObserveError> {
    let mut command = vec!["grep".to_string(), "-rsH".into()];
    command.extend(SETTINGS.iter().map(|name| format!("--include={name}")));
    command.extend(["--include=bridge-nf-*".into(), ".".into()]);
    for folder in ["net/ipv4/conf", "net/ipv6/conf", "net/bridge"] {
        command.push(format!("/proc/sys/{folder}"));
    }
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    // It ends with an error where a folder is missing (no IPv6, no br_netfilter).
    let (text, _missing) = run(network, &words)?;
    for line in text.lines() {
        if let Some((path, value)) = line.split_once(':')
            && let Some(path) = path.strip_prefix("/proc/sys/")
        {
            kernel.settings.insert(path.into(), value.trim().into());
        }
    }
    for family in ["ip", "ip6", "arp"] {
        let path = format!("/proc/net/{family}_tables_names");
        let (names, _none) = run(network, &["grep", "-s", ".", &path])?;
        for table in names.lines() {
            kernel.strange.push(format!("{family}tables-legacy table {table}"));
        }
    }
    Ok(())
}

fn run(network: Network, words: &[&str]) -> Result<(String, bool), ObserveError> {
    let mut all: Vec<String> = Vec::new();
    if let Network::Of(pid) = network {
        all.extend(["nsenter".into(), format!("--net=/proc/{pid}/ns/net"), "--".into()]);
    }
    all.extend(words.iter().map(|word| word.to_string()));
    let output = Command::new(&all[0])
        .args(&all[1..])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ObserveError::Run { command: all.join(" "), source })?;
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_string();
    if !output.status.success() && !stderr.is_empty() {
        return Err(ObserveError::Failed { command: all.join(" "), stderr });
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success()))
}

fn json(network: Network, words: &[&str]) -> Result<Value, ObserveError> {
    let (text, success) = run(network, words)?;
    let listing = |why: String| ObserveError::Listing { command: words.join(" "), why };
    if !success {
        return Err(listing("it ended with an error and said nothing".into()));
    }
    // `ip -j` says nothing at all where there is nothing.
    if text.trim().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_str(&text).map_err(|e| listing(e.to_string()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// iproute2 writes switches as `true`, 1 or "on", by version.
fn is_on(value: &Value) -> bool {
    value == &Value::Bool(true) || value.as_u64().is_some_and(|n| n != 0) || value == "on"
}

fn link(value: &Value) -> Link {
    let info = &value["linkinfo"];
    let (kind, data) = (text(&info["info_kind"]), &info["info_data"]);
    let slave = &info["info_slave_data"];
    let bridge = (kind == "bridge").then(|| Bridge {
        stp: data["stp_state"].as_u64().is_some_and(|state| state != 0),
        vlan_filtering: is_on(&data["vlan_filtering"]),
        group_fwd_mask: mask(data),
        nf_call: ["nf_call_iptables", "nf_call_ip6tables", "nf_call_arptables"]
            .map(|key| is_on(&data[key])),
    });
    let port = (info["info_slave_kind"] == "bridge").then(|| Port {
        forwarding: slave["state"] == "forwarding",
        isolated: is_on(&slave["isolated"]),
        hairpin: is_on(&slave["hairpin"]),
    });
    Link {
        name: text(&value["ifname"]),
        mac: text(&value["address"]),
        up: list(&value["flags"]).iter().any(|flag| flag == "UP"),
        kind,
        master: value["master"].as_str().map(str::to_string),
        bridge,
        port,
    }
}

fn mask(data: &Value) -> u32 {
    let text = data["group_fwd_mask"].as_str().unwrap_or_default();
    let hex = u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    hex.or(data["group_fwd_mask"].as_u64().and_then(|n| u32::try_from(n).ok())).unwrap_or(0)
}

fn address(info: &Value) -> Option<IpNet> {
    let address: IpAddr = info["local"].as_str()?.parse().ok()?;
    IpNet::new(address, u8::try_from(info["prefixlen"].as_u64()?).ok()?).ok()
}

fn route(value: &Value, six: bool) -> Option<Route> {
    let to = match value["dst"].as_str()? {
        "default" if six => Ipv6Net::new(Ipv6Addr::UNSPECIFIED, 0).ok()?.into(),
        "default" => Ipv4Net::new(Ipv4Addr::UNSPECIFIED, 0).ok()?.into(),
        net => match net.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => net.parse().ok()?,
        },
    };
    let hops = list(&value["nexthops"]).iter();
    let interfaces = std::iter::once(value).chain(hops).filter_map(|v| v["dev"].as_str());
    Some(Route {
        table: value["table"].as_str().unwrap_or("main").into(),
        kind: value["type"].as_str().unwrap_or("unicast").into(),
        to,
        interfaces: interfaces.map(str::to_string).collect(),
        metric: value["metric"].as_u64().and_then(|m| u32::try_from(m).ok()).unwrap_or(0),
    })
}

fn policy(value: &Value) -> Policy {
    let plain = ["priority", "src", "table", "protocol"];
    let only = value.as_object().is_none_or(|o| o.keys().all(|key| plain.contains(&&**key)));
    Policy {
        priority: value["priority"].as_u64().and_then(|p| u32::try_from(p).ok()).unwrap_or(0),
        table: text(&value["table"]),
        for_all: only && value["src"] == "all",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        let error = run(Network::Ours, &["nonstop-no-such-program"]).expect_err("not there");
        assert!(error.to_string().contains("nonstop-no-such-program"));
    }
}

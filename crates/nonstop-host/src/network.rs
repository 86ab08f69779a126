//! The network of the host beside the segments: data domains, and what somebody changed by hand.
//!
//! Each look compares interfaces, addresses, ports and switches of the kernel with what they must
//! be, puts right what differs, and tells it in a sentence. What a look needs beyond the kernel it
//! knows from the steps that it was told of; after a restart it takes what it finds as given where
//! it cannot know better, and nothing that gives access.

mod domains;
mod show;

use crate::{HostError, libvirt::switches};
use domains::Made;
use nonstop_model::{
    DataDomain, EnvironmentId, Lab, MachineId, Segment, SegmentKind, SegmentName,
    network::{link_tap, tap},
};
use nonstop_plan::{FirewallState, Grant, ObservedMachine};
use show::{Interface, run};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

pub use domains::namespace;

/// The network of this host.
#[derive(Debug)]
pub struct Network {
    domains: BTreeMap<String, DataDomain>,
    pool: ipnet::Ipv4Net,
    known: Mutex<Known>,
}

/// What is known of before a look.
#[derive(Debug, Default)]
struct Known {
    segments: BTreeMap<SegmentName, KnownSegment>,
    /// Data domains that were whole at the last look.
    whole: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KnownSegment {
    host: Ipv4Addr,
    routed: bool,
}

/// What others have seen of the host, beside which it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// The segments that there are.
    pub segments: &'a BTreeSet<SegmentName>,
    /// The guests that run.
    pub machines: &'a BTreeMap<MachineId, ObservedMachine>,
    /// What the kernel lets through.
    pub firewall: &'a FirewallState,
}

impl Network {
    /// The network of `lab`; touches nothing.
    pub fn of(lab: &Lab) -> Network {
        Network {
            domains: lab.data_domains.clone(),
            pool: lab.network.pool,
            known: Mutex::default(),
        }
    }

    /// Remembers how `segment` was made.
    pub fn made(&self, segment: &Segment, routed: bool) {
        let known = KnownSegment { host: segment.host(), routed };
        self.known().segments.insert(segment.name.clone(), known);
    }

    /// Makes data domains whole, puts right what somebody changed by hand, and says what that
    /// was. A data domain that was never whole before is made without a word.
    ///
    /// Errors: the kernel's interfaces cannot be listed. What cannot be put right is told again at
    /// the next look.
    pub fn look(&self, beside: Beside<'_>) -> Result<Vec<String>, HostError> {
        let doing = |e| HostError::new("list the host's interfaces", e).help(HELP);
        let mut interfaces = show::interfaces().map_err(doing)?;
        let mut found = Vec::new();
        let mut known = self.known();
        for (name, domain) in &self.domains {
            let was_whole = known.whole.contains(name);
            match domains::make(name, domain, &interfaces) {
                Ok(Made::Nothing) => {}
                Ok(Made::Something(what)) => {
                    if was_whole {
                        found.push(format!("data domain {name}: {what}"));
                    }
                    interfaces = show::interfaces().map_err(doing)?;
                }
                Err(e) => {
                    found.push(format!("data domain {name} cannot be made whole: {e}"));
                    known.whole.remove(name);
                    continue;
                }
            }
            known.whole.insert(name.clone());
            let link = interfaces.get(&domain.interface);
            let own_ports = [domains::port(&domain.interface)];
            let port = |port: &str| !domain.here || own_ports.iter().any(|own| own == port);
            found.extend(link.into_iter().flat_map(|link| expel(link, &interfaces, &port)));
            let set = set_switches(&domain.interface, true, false);
            found.extend(set.into_iter().filter(|_| was_whole));
        }
        known.segments.retain(|name, _| beside.segments.contains(name));
        for name in beside.segments {
            let Some(link) = interfaces.get(name.as_str()) else { continue };
            let own_ports = own_ports(name, beside.machines);
            let port = |port: &str| own_ports.contains(port);
            found.extend(expel(link, &interfaces, &port));
            found.extend(self.addresses(name, link, &mut known));
            let routed = match (name.kind(), known.segments.get(name)) {
                (SegmentKind::Link, _) => Some(false),
                (SegmentKind::Access, Some(known)) => Some(known.routed),
                // What is granted says it; without, nobody knows after a restart.
                (SegmentKind::Access, None) => {
                    routed_by_grants(name.environment(), beside.firewall).then_some(true)
                }
            };
            if let Some(routed) = routed {
                found.extend(set_switches(name.as_str(), routed, true));
            }
        }
        found.extend(return_taps(&interfaces, beside.machines));
        Ok(found)
    }

    /// Addresses of a segment's bridge: the host's one on an access segment, none on a link.
    fn addresses(&self, name: &SegmentName, link: &Interface, known: &mut Known) -> Vec<String> {
        let wanted = match name.kind() {
            SegmentKind::Link => None,
            SegmentKind::Access => {
                // Taken as given at the first look: one that can be a segment's own.
                let host = link.addresses.iter().find_map(|a| self.host_address(*a));
                let host = known.segments.get(name).map(|known| known.host).or(host);
                let Some(host) = host else { return Vec::new() };
                Some(ipnet::Ipv4Net::new(host, 28).expect("28 is at most 32"))
            }
        };
        let mut found = Vec::new();
        for address in link.addresses.iter().filter(|address| Some(**address) != wanted) {
            let done = run(&["address", "del", &address.to_string(), "dev", name.as_str()]);
            found.push(told(format!("address {address} was put on {name}"), "taken off", done));
        }
        if let Some(wanted) = wanted.filter(|wanted| !link.addresses.contains(wanted)) {
            let done = run(&["address", "add", &wanted.to_string(), "dev", name.as_str()]);
            found.push(told(format!("address {wanted} was taken off {name}"), "put back", done));
        }
        found
    }

    fn host_address(&self, address: ipnet::Ipv4Net) -> Option<Ipv4Addr> {
        let first = u32::from(address.network()) + 1 == u32::from(address.addr());
        let ours = address.prefix_len() == 28 && self.pool.contains(&address.addr());
        (first && ours).then(|| address.addr())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const HELP: &str = "`ip -j address show` as root must work on this host: install iproute2";

/// What was found, and how it went to put it right.
fn told(what: String, done: &str, result: std::io::Result<()>) -> String {
    match result {
        Ok(()) => format!("{what}; {done}"),
        Err(e) => format!("{what}, and cannot be put right: {e}"),
    }
}

fn routed_by_grants(environment: EnvironmentId, firewall: &FirewallState) -> bool {
    firewall.grants.keys().any(|grant| match grant {
        Grant::Reach { environment: whose, source, address, .. } => {
            let outside = u32::from(*source) >> 4 != u32::from(*address) >> 4;
            *whose == environment && outside
        }
        Grant::Portal { .. }
        | Grant::Transfer { .. }
        | Grant::Desktop { .. }
        | Grant::Port { .. }
        | Grant::Link { .. }
        | Grant::Source { .. } => false,
    })
}

/// The ports that may be on the bridge of `segment`: taps of its environment's machines.
fn own_ports(
    segment: &SegmentName,
    machines: &BTreeMap<MachineId, ObservedMachine>,
) -> BTreeSet<String> {
    let ours = machines.iter().filter(|(_, seen)| seen.environment == segment.environment());
    let port = |machine: MachineId| match segment.kind() {
        SegmentKind::Access => tap(machine),
        SegmentKind::Link => link_tap(machine),
    };
    ours.map(|(machine, _)| port(*machine)).collect()
}

/// Takes ports off a bridge of ours that do not belong there. A tap of a guest that has not been
/// listed yet is left alone: its guest is starting.
fn expel(
    bridge: &Interface,
    interfaces: &BTreeMap<String, Interface>,
    belongs: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let ports = interfaces.values().filter(|port| port.master.as_deref() == Some(&bridge.name));
    let strangers = ports.filter(|port| !belongs(&port.name) && !is_tap(&port.name));
    let expelled = |port: &Interface| {
        let done = run(&["link", "set", "dev", &port.name, "nomaster"]);
        told(format!("{} was put on {}", port.name, bridge.name), "taken off", done)
    };
    strangers.map(expelled).collect()
}

fn is_tap(name: &str) -> bool {
    let digits = name.strip_prefix("nst").or_else(|| name.strip_prefix("nsk"));
    digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Puts the taps of running guests back onto the bridges where they belong.
fn return_taps(
    interfaces: &BTreeMap<String, Interface>,
    machines: &BTreeMap<MachineId, ObservedMachine>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (machine, seen) in machines {
        let access = (tap(*machine), SegmentName::of(seen.environment));
        let link = (link_tap(*machine), SegmentName::of_kind(SegmentKind::Link, seen.environment));
        for (tap, segment) in [access, link] {
            let Some(port) = interfaces.get(&tap) else { continue };
            let there = interfaces.contains_key(segment.as_str());
            if !there || port.master.as_deref() == Some(segment.as_str()) {
                continue;
            }
            let done = run(&["link", "set", "dev", &tap, "master", segment.as_str()]);
            let from = port.master.as_deref().unwrap_or("no bridge");
            found.push(told(format!("{tap} of {machine} was on {from}"), "put back", done));
        }
    }
    found
}

/// Sets the switches of `interface`, and says which were set otherwise.
fn set_switches(interface: &str, routed: bool, without_ipv6: bool) -> Vec<String> {
    let ipv4 = switches(routed).map(|(key, value)| (format!("ipv4/conf/{interface}/{key}"), value));
    let ipv6 = without_ipv6.then(|| (format!("ipv6/conf/{interface}/disable_ipv6"), "1"));
    let mut found = Vec::new();
    for (key, value) in ipv4.into_iter().chain(ipv6) {
        let path = PathBuf::from("/proc/sys/net").join(&key);
        // A kernel without IPv6 has nothing to switch off, nor has an interface that went.
        let Ok(is) = fs::read_to_string(&path) else { continue };
        if is.trim() != value {
            let what = format!("net.{} was {}", key.replace('/', "."), is.trim());
            found.push(told(what, &format!("set to {value}"), fs::write(&path, value)));
        }
    }
    found
}

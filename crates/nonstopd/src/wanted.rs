//! What may talk to what, from what a pass was about: the side of the proof that the kernel is held
//! against.
//!
//! What a machine may reach is taken from its template, not from the grants that the planner makes
//! of it; the grants say only which elements the sets must hold. So a planner that grants too
//! much is found too.

use crate::status::Pass;
use nonstop_host::{
    firewall::{Expected, elements_of},
    libvirt::switches,
};
use nonstop_model::{
    EnvironmentId, Lab, Mac, Protocol, Segment, SegmentKind, SegmentName,
    network::{link_tap, tap},
};
use nonstop_plan::{DesiredEnvironment, DesiredMachine, Grant, Phase};
use nonstop_reach::wanted::{self, Wanted};
use serde::Deserialize;
use std::{collections::BTreeSet, fs, path::Path};

/// What does not change while the daemon lives.
#[derive(Debug)]
pub struct Ground {
    lab: Lab,
    expected: Expected,
}

impl Ground {
    /// The lab, and the rules that its firewall loads.
    pub fn new(lab: Lab, expected: Expected) -> Ground {
        Ground { lab, expected }
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// What `pass` wants. Names of machines are `e3/analyst`, those of servers `intermediate/pcap`.
    ///
    /// Machines whose rights are not given yet, or have ended, are in it as ones that may say
    /// nothing.
    pub fn wanted(&self, pass: &Pass) -> Wanted {
        let stand_ins = stand_ins(&self.lab.run);
        let mut wanted = Wanted {
            domains: self.lab.data_domains.values().map(|d| d.interface.clone()).collect(),
            servers: self.servers(&stand_ins),
            stand_ins: stand_ins.iter().filter(|name| !name.contains('/')).cloned().collect(),
            rules: Some(self.expected.rules.clone()),
            sets: self.sets(&pass.grants),
            ..Wanted::default()
        };
        for domain in self.lab.data_domains.values() {
            wanted.settings.extend(settings(&domain.interface, true));
        }
        for environment in pass.desired.environments.values() {
            self.environment(environment, pass, &mut wanted);
        }
        wanted
    }

    fn servers(&self, stand_ins: &BTreeSet<String>) -> Vec<wanted::Server> {
        let servers = self.lab.data_domains.iter().flat_map(|(name, domain)| {
            domain.servers.iter().map(move |(server, found)| {
                let name = format!("{name}/{server}");
                wanted::Server {
                    stand_in: stand_ins.contains(&name),
                    name,
                    address: found.address,
                    interface: domain.interface.clone(),
                }
            })
        });
        servers.collect()
    }

    fn sets(&self, grants: &BTreeSet<Grant>) -> Vec<wanted::WantedSet> {
        let mut elements = elements_of(grants);
        let sets = self.expected.sets.iter().map(|name| wanted::WantedSet {
            family: name.0.clone(),
            table: "nonstop".into(),
            name: name.1.clone(),
            elements: elements.remove(name).unwrap_or_default(),
        });
        sets.collect()
    }

    fn environment(&self, environment: &DesiredEnvironment, pass: &Pass, wanted: &mut Wanted) {
        let live = environment.phase == Phase::Live;
        let seen = |name: &SegmentName| pass.observed.segments.get(name);
        let mut segments = if live { environment.segments() } else { BTreeSet::new() };
        let of_it = pass.observed.segments.keys().filter(|n| n.environment() == environment.id);
        segments.extend(of_it.cloned());
        for name in &segments {
            let host = (name.kind() == SegmentKind::Access).then(|| host(&environment.segment));
            wanted.segments.push(wanted::Segment { bridge: name.to_string(), host });
            // Those of a link are known to whoever judges it.
            if name.kind() == SegmentKind::Access && seen(name).is_some_and(|seen| seen.whole) {
                wanted.settings.extend(settings(name.as_str(), is_routed(environment)));
            }
        }
        for machine in &environment.machines {
            let running = pass.observed.machines.contains_key(&machine.id);
            if !live && !running {
                continue;
            }
            let whole = machine.segments().all(|name| seen(&name).is_some_and(|seen| seen.whole));
            let mute = !live || !whole;
            let person = pass.desired.accounts.contains_key(&environment.account);
            wanted.machines.push(wanted::Machine {
                name: format!("{}/{}", environment.id, machine.role),
                running,
                mute,
                cards: cards(machine, environment.id),
                reach: if mute || !person { Vec::new() } else { reach(machine) },
                from_host: from_host(machine, &pass.grants),
            });
        }
    }
}

fn host(segment: &Segment) -> (std::net::Ipv4Addr, ipnet::Ipv4Net) {
    (segment.host(), segment.net)
}

/// Whether packets pass from its access segment to data domains.
fn is_routed(environment: &DesiredEnvironment) -> bool {
    let targets = environment.machines.iter().flat_map(|machine| &machine.reach);
    targets.into_iter().any(|target| target.address != environment.segment.host())
}

fn settings(interface: &str, routed: bool) -> impl Iterator<Item = wanted::Setting> {
    switches(routed).into_iter().map(move |(key, value)| wanted::Setting {
        path: format!("net/ipv4/conf/{interface}/{key}"),
        value: value.into(),
    })
}

fn cards(machine: &DesiredMachine, environment: EnvironmentId) -> Vec<wanted::Card> {
    let card = |kind: &SegmentKind| {
        let (tap, mac, address) = match kind {
            SegmentKind::Access => (tap(machine.id), Mac::of(machine.id), machine.address),
            SegmentKind::Link => (link_tap(machine.id), Mac::of_link(machine.id), None),
        };
        let segment = SegmentName::of_kind(*kind, environment).to_string();
        wanted::Card { segment, tap, mac: mac.to_string(), address }
    };
    machine.networks.iter().map(card).collect()
}

fn reach(machine: &DesiredMachine) -> Vec<wanted::Reach> {
    let reach = machine.reach.iter().map(|target| wanted::Reach {
        address: target.address,
        port: wanted::Port { protocol: protocol(target.protocol), port: target.port },
    });
    reach.collect()
}

fn protocol(protocol: Protocol) -> wanted::Protocol {
    match protocol {
        Protocol::Tcp => wanted::Protocol::Tcp,
        Protocol::Udp => wanted::Protocol::Udp,
    }
}

/// The ports at which tunnels reach the guest's own desktop, once somebody may.
fn from_host(machine: &DesiredMachine, grants: &BTreeSet<Grant>) -> Vec<wanted::Port> {
    let Some(desktop) = machine.desktop.filter(|desktop| !desktop.console) else {
        return Vec::new();
    };
    let granted = grants.iter().any(|grant| match grant {
        Grant::Desktop { address, port, .. } => {
            (*address, *port) == (desktop.address, desktop.port)
        }
        Grant::Portal { .. } | Grant::Port { .. } | Grant::Reach { .. } | Grant::Link { .. } => {
            false
        }
    });
    let port = wanted::Port { protocol: wanted::Protocol::Tcp, port: desktop.port };
    granted.then_some(port).into_iter().collect()
}

/// What listeners say of themselves that stand for servers which are not built yet.
#[derive(Deserialize)]
struct Marker {
    pid: u32,
    servers: BTreeSet<String>,
}

/// The longest such note that is read, in bytes.
const LONGEST_MARKER: u64 = 64 << 10;

/// The servers, and services of the lab, for which only a listener stands while it runs.
fn stand_ins(run: &Path) -> BTreeSet<String> {
    let path = run.join("stand-ins.json");
    if !fs::metadata(&path).is_ok_and(|file| file.len() <= LONGEST_MARKER) {
        return BTreeSet::new();
    }
    let marker = fs::read(&path).ok().and_then(|json| serde_json::from_slice::<Marker>(&json).ok());
    let running = |marker: &Marker| Path::new("/proc").join(marker.pid.to_string()).exists();
    marker.filter(running).map(|marker| marker.servers).unwrap_or_default()
}

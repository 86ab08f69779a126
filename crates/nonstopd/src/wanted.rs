//! What may talk to what, from what a pass was about: the side of the proof that the kernel is held
//! against.
//!
//! What a machine may reach is taken from its template, not from the grants that the planner makes
//! of it; the grants say only which elements the sets must hold. So a planner that grants too
//! much is found too.

use crate::status::Pass;
use nonstop_host::{
    HostError,
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
use std::{collections::BTreeSet, fs, path::Path, sync::OnceLock, time::Duration};

/// Asks how the rules of this version are listed.
pub type AskRules = Box<dyn Fn() -> Result<Expected, HostError> + Send + Sync>;

/// What does not change while the daemon lives.
pub struct Ground {
    lab: Lab,
    ask: AskRules,
    expected: OnceLock<Expected>,
}

impl Ground {
    /// The lab, and the rules that its firewall loads, which are asked for until they are known.
    pub fn new(lab: Lab, ask: AskRules) -> Ground {
        Ground { lab, ask, expected: OnceLock::new() }
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// What `pass` wants. Names of machines are `e3/analyst`, those of servers `intermediate/pcap`.
    ///
    /// Machines whose rights are not given yet, or have ended, are in it as ones that may say
    /// nothing.
    ///
    /// Errors: how our rules are listed is not known yet, and cannot be asked now.
    pub fn wanted(&self, pass: &Pass) -> Result<Wanted, HostError> {
        let expected = self.expected()?;
        let stand_ins = stand_ins(&self.lab.run);
        let mut wanted = Wanted {
            domains: self.lab.data_domains.values().map(|d| d.interface.clone()).collect(),
            servers: self.servers(&stand_ins),
            stand_ins: stand_ins.iter().filter(|name| !name.contains('/')).cloned().collect(),
            rules: Some(expected.rules.clone()),
            sets: sets(expected, &pass.grants, pass.desired.lease),
            ..Wanted::default()
        };
        for domain in self.lab.data_domains.values() {
            wanted.settings.extend(settings(&domain.interface, true));
        }
        for environment in pass.desired.environments.values() {
            self.environment(environment, pass, &mut wanted);
        }
        Ok(wanted)
    }

    fn expected(&self) -> Result<&Expected, HostError> {
        match self.expected.get() {
            Some(expected) => Ok(expected),
            None => {
                let expected = (self.ask)()?;
                Ok(self.expected.get_or_init(|| expected))
            }
        }
    }

    fn servers(&self, stand_ins: &BTreeSet<String>) -> Vec<wanted::Server> {
        let servers = self.lab.data_domains.iter().flat_map(|(name, domain)| {
            domain.servers.iter().map(move |(server, found)| {
                let server_name = format!("{name}/{server}");
                wanted::Server {
                    stand_in: stand_ins.contains(&server_name),
                    name: server_name,
                    domain: name.clone(),
                    address: found.address,
                    interface: domain.interface.clone(),
                }
            })
        });
        servers.collect()
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
                name: machine_name(environment, machine),
                running,
                mute,
                edition: environment.edition.clone(),
                cards: cards(machine, environment.id),
                reach: if mute || !person { Vec::new() } else { reach(machine) },
                from_host: from_host(machine, &pass.grants),
            });
        }
    }
}

/// Whether `set` holds people's or machines' rights, which end with their lease.
fn is_leased(set: &str) -> bool {
    let rights = ["portal", "transfer", "desktop", "reach"];
    rights.contains(&set.strip_suffix("_replies").unwrap_or(set)) || set.starts_with("sources_")
}

/// What each set of ours must hold: nothing else than `grants` come to.
fn sets(expected: &Expected, grants: &BTreeSet<Grant>, lease: Duration) -> Vec<wanted::WantedSet> {
    let mut elements = elements_of(grants);
    let sets = expected.sets.iter().map(|name| wanted::WantedSet {
        family: name.0.clone(),
        table: "nonstop".into(),
        name: name.1.clone(),
        elements: elements.remove(name).unwrap_or_default(),
        lease_seconds: is_leased(&name.1).then_some(lease.as_secs()),
    });
    sets.collect()
}

/// What a machine is called in the matrix.
pub(crate) fn machine_name(environment: &DesiredEnvironment, machine: &DesiredMachine) -> String {
    format!("{}/{}", environment.id, machine.role)
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
        Grant::Portal { .. }
        | Grant::Transfer { .. }
        | Grant::Port { .. }
        | Grant::Reach { .. }
        | Grant::Link { .. }
        | Grant::Source { .. } => false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use nonstop_model::{
        Limits, MachineId, MachineProfile, MachineRole, Power, ReachTarget, Slot, lab::MACHINE_UIDS,
    };
    use nonstop_plan::{
        AccountGate, Desired, Observed, ObservedMachine, ObservedSegment, wanted_grants,
    };
    use std::time::Instant;

    const E3: EnvironmentId = EnvironmentId(3);
    const M7: MachineId = MachineId(7);

    fn lab() -> Lab {
        let text = "version: 1\nname: lab\nrun: /nonexistent\ndata_domains:\n  intermediate:\n    \
                    interface: nsd0\n    network: 10.80.0.0/24\n    servers:\n      \
                    pcap: {address: 10.80.0.2, tcp: [80]}\n";
        Lab::parse("lab.yaml", text).expect("a good lab")
    }

    fn machine(segment: &Segment) -> DesiredMachine {
        let target = |server: &str, address, port| ReachTarget {
            server: server.into(),
            address,
            protocol: Protocol::Tcp,
            port,
        };
        DesiredMachine {
            id: M7,
            environment: E3,
            role: MachineRole::Analyst,
            image: "micro".parse().expect("a name"),
            image_digest: String::new(),
            profile: MachineProfile::Linux,
            uid: MACHINE_UIDS + M7.0,
            address: Some(segment.machine(0)),
            networks: vec![SegmentKind::Access],
            reach: vec![
                target("pcap", "10.80.0.2".parse().expect("an address"), 80),
                target("airlock", segment.host(), 8443),
            ],
            limits: Limits::default(),
            memory_mib: 96,
            vcpus: 1,
            generation: 1,
            origin: None,
            resume: None,
            frozen: Vec::new(),
            power: Power::On,
            force_off_at: Timestamp::UNIX_EPOCH,
            reset_pending: false,
            preparation: None,
            desktop: None,
            viewers: Vec::new(),
            agent: true,
            drive: false,
            disc: None,
            seen_in: None,
        }
    }

    /// An environment of one machine that runs on its segment, as `change` has changed it.
    fn wanted(change: impl FnOnce(&mut Desired, &mut Observed)) -> Wanted {
        let lab = lab();
        let segment = Segment::new(E3, lab.network.pool, Slot(2)).expect("in the pool");
        let alice: nonstop_model::AccountName = "alice".parse().expect("a name");
        let gate = AccountGate {
            name: alice.clone(),
            uid: 70_001,
            address: "127.64.0.1".parse().expect("an address"),
            keys: Vec::new(),
            sources: Vec::new(),
            targets: Vec::new(),
        };
        let environment = DesiredEnvironment {
            id: E3,
            account: alice.clone(),
            segment: segment.clone(),
            phase: Phase::Live,
            from: Timestamp::UNIX_EPOCH,
            until: Timestamp::MAX,
            destroy_at: None,
            taking: None,
            edition: Some("intermediate".into()),
            machines: vec![machine(&segment)],
        };
        let mut desired = Desired {
            accounts: [(alice, gate)].into(),
            environments: [(E3, environment)].into(),
            lease: Duration::from_secs(60),
            bandwidth_kbit: Default::default(),
            portal_port: 8080,
            transfer_port: 8081,
            sessions_to_end: Vec::new(),
        };
        let mut observed = Observed {
            segments: [(segment.name.clone(), ObservedSegment { whole: true })].into(),
            machines: [(M7, ObservedMachine { environment: E3, generation: 1 })].into(),
            ..Observed::default()
        };
        change(&mut desired, &mut observed);
        let grants =
            wanted_grants(&desired, &observed, Timestamp::UNIX_EPOCH).into_keys().collect();
        let pass = Pass {
            began: Instant::now(),
            at: jiff::Timestamp::now(),
            desired,
            observed,
            grants,
            changing: BTreeSet::new(),
            guests: BTreeSet::new(),
        };
        let sets = [("inet", "reach"), ("bridge", "ports"), ("bridge", "links")];
        let expected = Expected {
            rules: serde_json::json!({ "nftables": [] }),
            sets: sets.map(|(family, set)| (family.into(), set.into())).into(),
        };
        let ground = Ground::new(lab, Box::new(move || Ok(expected.clone())));
        ground.wanted(&pass).expect("the rules are known")
    }

    fn elements(wanted: &Wanted, set: &str) -> Vec<String> {
        let sets = wanted.sets.iter().filter(|found| found.name == set);
        sets.flat_map(|set| set.elements.clone()).collect()
    }

    #[test]
    fn a_machine_may_reach_what_its_template_says_and_sets_hold_just_that() {
        let wanted = wanted(|_, _| ());
        let [machine] = &wanted.machines[..] else { panic!("{:?}", wanted.machines) };
        assert_eq!(machine.name, "e3/analyst");
        assert!(machine.running && !machine.mute);
        let reach = machine.reach.iter().map(|r| format!("{}:{}", r.address, r.port.port));
        assert_eq!(reach.collect::<Vec<_>>(), ["10.80.0.2:80", "10.77.0.33:8443"]);
        assert_eq!(
            elements(&wanted, "reach"),
            [
                "nsb00003 . 10.77.0.34 . 10.77.0.33 . tcp . 8443",
                "nsb00003 . 10.77.0.34 . 10.80.0.2 . tcp . 80",
            ]
        );
        assert_eq!(elements(&wanted, "ports"), ["nst00007 . 52:54:00:00:00:07 . 10.77.0.34"]);
        assert!(wanted.sets.iter().any(|set| set.name == "links" && set.elements.is_empty()));
        let routed = "net/ipv4/conf/nsb00003/forwarding";
        assert!(wanted.settings.iter().any(|s| s.path == routed && s.value == "1"));
        assert!(!wanted.servers[0].stand_in, "nobody says so");
    }

    #[test]
    fn a_machine_whose_environment_has_ended_may_say_nothing_while_it_still_runs() {
        let wanted = wanted(|desired, _| {
            for environment in desired.environments.values_mut() {
                environment.phase = Phase::Grace;
            }
        });
        assert!(wanted.machines[0].mute && wanted.machines[0].reach.is_empty());
        assert!(wanted.sets.iter().all(|set| set.elements.is_empty()));
        assert_eq!(wanted.segments.len(), 1, "its bridge is still known");
    }

    #[test]
    fn a_machine_whose_bridge_is_not_whole_may_say_nothing_yet() {
        let wanted = wanted(|_, observed| observed.segments.clear());
        assert!(wanted.machines[0].mute);
        assert!(elements(&wanted, "ports").is_empty());
    }

    #[test]
    fn the_machine_of_a_suspended_person_reaches_no_server() {
        let wanted = wanted(|desired, _| desired.accounts.clear());
        assert!(!wanted.machines[0].mute && wanted.machines[0].reach.is_empty());
        assert!(elements(&wanted, "reach").is_empty() && !elements(&wanted, "ports").is_empty());
    }

    #[test]
    fn what_has_ended_and_stopped_is_not_there_any_more() {
        let wanted = wanted(|desired, observed| {
            for environment in desired.environments.values_mut() {
                environment.phase = Phase::Grace;
            }
            *observed = Observed::default();
        });
        assert!(wanted.machines.is_empty() && wanted.segments.is_empty());
    }
}

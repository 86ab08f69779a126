//! What can be wrong with a template: each rule once, with the place that it is about.

use super::{EnvironmentTemplate, MachineRole, MachineTemplate, RdpPolicy};
use crate::{data_domain::DataDomain, image::ImageName, lab::Lab, network::SegmentKind};
use std::collections::{BTreeMap, BTreeSet};

/// Something wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: keys and numbers of elements, such as `machines.1.reach.0`.
    pub at: String,
    /// One sentence: what is wrong, and how to mend it.
    pub message: String,
}

impl Fault {
    fn new(at: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault { at: at.into(), message: message.into() }
    }
}

/// What a lab has, against which names in templates are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// The names of servers by data domain.
    pub domains: BTreeMap<String, BTreeSet<String>>,
    /// Images that are built; None does not look them up.
    pub images: Option<BTreeSet<ImageName>>,
}

impl Known {
    /// What `lab.yaml` says; it does not say which images are built.
    pub fn of(lab: &Lab) -> Known {
        let servers = |domain: &DataDomain| domain.servers.keys().cloned().collect();
        let domains = lab.data_domains.iter().map(|(name, d)| (name.clone(), servers(d)));
        Known { domains: domains.collect(), images: None }
    }
}

/// The service of the lab that may be named beside the servers of a data domain.
const AIRLOCK: &str = "airlock";

/// Services that come with the access segment.
const IMPLIED: [&str; 2] = ["dhcp", "dns"];

/// The most machines that a segment has addresses for.
const MACHINES: usize = 12;

impl EnvironmentTemplate {
    /// What is wrong with the template by itself, in the order of the file.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.version != 1 {
            let message = format!("`version` is {}: this program reads version 1", self.version);
            // Nothing else of another version can be judged.
            return vec![Fault::new("version", message)];
        }
        for (key, title) in [("title", &self.title), ("title_ja", &self.title_ja)] {
            let empty = key == "title" && title.trim().is_empty();
            if empty || title.chars().count() > 200 || title.contains(char::is_control) {
                let message = format!("`{key}` must be one line of 1 to 200 characters");
                faults.push(Fault::new(key, message));
            }
        }
        if self.has_guest_desktop() && self.rdp_reason.trim().is_empty() {
            let own = self.machines.iter().position(|m| m.rdp == Some(RdpPolicy::Guest));
            let at = own.map_or("rdp".into(), |index| format!("machines.{index}.rdp"));
            let message = "`rdp` is `guest`, a way out for any byte: say why in `rdp_reason`, or \
                           use `console`";
            faults.push(Fault::new(at, message));
        }
        faults.extend(self.domain.iter().filter(|name| !is_name(name)).map(|name| {
            Fault::new("domain", format!("`{name}` is not the name of a data domain: {NAMES}"))
        }));
        if self.snapshots > 32 {
            let message = format!("`snapshots` is {}: use 0 to 32", self.snapshots);
            faults.push(Fault::new("snapshots", message));
        }
        if self.machines.is_empty() || self.machines.len() > MACHINES {
            faults.push(Fault::new("machines", "`machines` must list one to twelve machines"));
        }
        for (index, machine) in self.machines.iter().enumerate() {
            if self.machines[..index].iter().any(|m| m.role == machine.role) {
                let at = format!("machines.{index}.role");
                let message = format!("there are two machines with role {}", machine.role);
                faults.push(Fault::new(at, format!("{message}: each role may appear once")));
            }
            self.machine_faults(index, machine, &mut faults);
        }
        faults
    }

    fn machine_faults(&self, index: usize, machine: &MachineTemplate, faults: &mut Vec<Fault>) {
        let role = machine.role;
        let mut fault = |key: &str, message: String| {
            faults.push(Fault::new(format!("machines.{index}.{key}"), message));
        };
        let (least, mib) = (machine.profile.least_memory_mib(), machine.memory_mib);
        if !(least..=1 << 20).contains(&mib) {
            let range = format!("use {least} to 1048576 with profile {}", machine.profile);
            fault("memory_mib", format!("`memory_mib` of {role} is {mib}: {range}"));
        }
        if !(1..=64).contains(&machine.vcpus) {
            let vcpus = machine.vcpus;
            fault("vcpus", format!("`vcpus` of {role} is {vcpus}: use 1 to 64"));
        }
        self.network_faults(machine, &mut fault);
        self.reach_faults(machine, &mut fault);
        if self.desktop_of(machine) == RdpPolicy::Guest && !machine.is_on(SegmentKind::Access) {
            let message = "its own RDP server cannot be reached without the network `access`: \
                           say `rdp: console` here";
            fault("rdp", message.into());
        }
        if let Some(import) = &machine.import
            && !is_folder(import)
        {
            let message = "`import` must be an absolute path of at most 200 letters, digits and \
                           ` ._-+@\\:/`, without `..`";
            fault("import", message.into());
        }
        if machine.agent && machine.import.is_none() {
            let message =
                "`agent` lets samples into the folder `import`, which is missing: name it";
            fault("agent", message.into());
        }
        for (key, message) in machine.limits.faults() {
            fault(&format!("limits.{key}"), message);
        }
    }

    fn network_faults(&self, machine: &MachineTemplate, fault: &mut impl FnMut(&str, String)) {
        let (role, networks) = (machine.role, &machine.networks);
        if networks.is_empty() {
            let message = format!("`networks` of {role} is empty: name `access`, `link` or both");
            fault("networks", message);
        }
        for (index, network) in networks.iter().enumerate() {
            if networks[..index].contains(network) {
                let message = format!("`{network}` stands twice in `networks`: remove one");
                fault(&format!("networks.{index}"), message);
            }
        }
        let access = networks.iter().position(|n| *n == SegmentKind::Access);
        if let (MachineRole::Debuggee, Some(index)) = (role, access) {
            let message = "a debuggee may send to nothing but its debugger, so it has no network \
                           `access`: say `networks: [link]`";
            fault(&format!("networks.{index}"), message.into());
        }
        let link = networks.iter().position(|n| *n == SegmentKind::Link);
        let linked = self.machines.iter().filter(|m| m.is_on(SegmentKind::Link)).count();
        if let (Some(index), 1) = (link, linked) {
            let message = format!(
                "{role} is alone on the network `link`, which joins machines with each other: \
                 add `link` to another machine's `networks`, or remove it here"
            );
            fault(&format!("networks.{index}"), message);
        }
    }

    fn reach_faults(&self, machine: &MachineTemplate, fault: &mut impl FnMut(&str, String)) {
        let role = machine.role;
        for (index, server) in machine.reach.iter().enumerate() {
            let message = if role == MachineRole::Debuggee {
                format!(
                    "a debuggee may reach nothing but its debugger, so not `{server}` either: \
                     remove it from `reach`"
                )
            } else if IMPLIED.contains(&server.as_str()) {
                format!("`{server}` comes with the network `access`: remove it from `reach`")
            } else if !is_name(server) {
                format!("`{server}` is not the name of a server: {NAMES}")
            } else if machine.reach[..index].contains(server) {
                format!("`{server}` stands twice in `reach`: remove one")
            } else if !machine.is_on(SegmentKind::Access) {
                format!(
                    "{role} reaches `{server}` only from the network `access`: add it to `networks`"
                )
            } else if self.domain.is_none() && server != AIRLOCK {
                format!(
                    "`{server}` is a server of a data domain, and the template has none: name it \
                     with `domain`"
                )
            } else {
                continue;
            };
            fault(&format!("reach.{index}"), message);
        }
    }

    /// Names in the template that the lab does not know.
    pub fn unknown(&self, known: &Known) -> Vec<Fault> {
        let mut faults = Vec::new();
        let servers = match &self.domain {
            None => None,
            Some(domain) => match known.domains.get(domain) {
                Some(servers) => Some(servers),
                None => {
                    let message = format!(
                        "the lab has no data domain `{domain}`: {}",
                        instead(
                            domain,
                            known.domains.keys(),
                            "name one under `data_domains` of lab.yaml"
                        )
                    );
                    faults.push(Fault::new("domain", message));
                    None
                }
            },
        };
        for (index, machine) in self.machines.iter().enumerate() {
            let image = &machine.image;
            if known.images.as_ref().is_some_and(|images| !images.contains(image)) {
                let message = format!(
                    "the image `{image}` is not built: run `nonstop image build {image}`, or name \
                     another"
                );
                faults.push(Fault::new(format!("machines.{index}.image"), message));
            }
            for (nth, server) in machine.reach.iter().enumerate() {
                let Some(servers) = servers.filter(|s| server != AIRLOCK && !s.contains(server))
                else {
                    continue;
                };
                let domain = self.domain.as_deref().unwrap_or_default();
                let message = format!(
                    "the data domain `{domain}` has no server `{server}`: {}",
                    instead(
                        server,
                        servers.iter(),
                        "add it under the domain's servers in lab.yaml"
                    )
                );
                faults.push(Fault::new(format!("machines.{index}.reach.{nth}"), message));
            }
        }
        faults
    }
}

/// What to use instead of `wrong`: the names there are, the nearest first.
fn instead<'a>(wrong: &str, names: impl Iterator<Item = &'a String>, or: &str) -> String {
    let mut names: Vec<&String> = names.collect();
    let near = |name: &str| strsim::jaro_winkler(wrong, name);
    names.sort_by(|a, b| near(b).total_cmp(&near(a)));
    match names.as_slice() {
        [] => or.into(),
        names => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("use {}, or {or}", names.join(", "))
        }
    }
}

const NAMES: &str = "use a lower-case letter, then up to 31 lower-case letters, digits or `-`";

/// Names of data domains and servers are spelt as those of images.
fn is_name(text: &str) -> bool {
    text.parse::<ImageName>().is_ok()
}

/// A folder of Linux or of Windows.
fn is_folder(path: &str) -> bool {
    let (start, separator) = match path.as_bytes() {
        [b'/', ..] => (1, '/'),
        [drive, b':', b'\\', ..] if drive.is_ascii_alphabetic() => (3, '\\'),
        _ => return false,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b" ._-+@".contains(&b);
    let part = |part: &str| !part.is_empty() && part != ".." && part.bytes().all(plain);
    path.len() <= 200 && path.len() > start && path[start..].split(separator).all(part)
}

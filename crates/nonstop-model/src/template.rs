//! Environment templates: what an environment consists of, as YAML in `templates/`.
//!
//! A template says which machines there are, what each is made of, which segments it has a card
//! on and which servers it may reach. What can be wrong with one, and where in the file that
//! stands, is [`Fault`].

mod check;

pub use check::{Fault, Known};

use crate::{
    image::ImageName,
    limits::Limits,
    network::SegmentKind,
    profile::MachineProfile,
    yaml::{self, ConfigError},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Name of a template: that of its file without `.yaml`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateName(String);

impl TemplateName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for TemplateName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<ImageName>()
            .map(|name| TemplateName(name.into()))
            .map_err(|e| e.replace("an image name", "a template name"))
    }
}

impl From<TemplateName> for String {
    fn from(name: TemplateName) -> String {
        name.0
    }
}

impl TryFrom<String> for TemplateName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What a machine is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum MachineRole {
    /// The researcher's only machine.
    Analyst,
    /// The researcher's machine of a pair.
    Debugger,
    /// Runs the malware of a pair.
    Debuggee,
}

impl MachineRole {
    /// The word of tables, pages and log.
    pub fn as_str(self) -> &'static str {
        match self {
            MachineRole::Analyst => "analyst",
            MachineRole::Debugger => "debugger",
            MachineRole::Debuggee => "debuggee",
        }
    }
}

impl fmt::Display for MachineRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for MachineRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "analyst" => Ok(MachineRole::Analyst),
            "debugger" => Ok(MachineRole::Debugger),
            "debuggee" => Ok(MachineRole::Debuggee),
            _ => Err(format!("`{text}` is not a role: use `analyst`, `debugger` or `debuggee`")),
        }
    }
}

/// Where a researcher's desktop is served from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RdpPolicy {
    /// No desktop.
    None,
    /// The hypervisor's own display: keys and pointer in, pictures out, and nothing else. Needs
    /// nothing in the guest.
    #[default]
    Console,
    /// The guest's own RDP server: a raw way out for any byte, and shown as such.
    Guest,
}

/// One machine of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MachineTemplate {
    /// What it is for.
    pub role: MachineRole,
    /// The base image it starts from.
    #[schemars(with = "String")]
    pub image: ImageName,
    /// The hardware it is given.
    #[serde(default)]
    pub profile: MachineProfile,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    #[serde(default = "one")]
    pub vcpus: u8,
    /// Its network cards, in this order: `access` joins it to the host, `link` to the other
    /// machines of the environment. A debuggee has `link` alone.
    #[serde(default = "access")]
    pub networks: Vec<SegmentKind>,
    /// Servers of the data domain that it may connect to, and `airlock`. DHCP and DNS come with
    /// `access` and are not named here.
    #[serde(default)]
    pub reach: Vec<String>,
    /// Where its desktop comes from, if not as for the others of the template.
    #[serde(default)]
    pub rdp: Option<RdpPolicy>,
    /// The folder in the guest into which samples are put.
    #[serde(default)]
    pub import: Option<String>,
    /// Whether samples may also go there through the guest's agent, whose words are then heard by a
    /// confined child; without, by a disc alone.
    #[serde(default)]
    pub agent: bool,
    /// What it may use up.
    #[serde(default)]
    pub limits: Limits,
}

fn one() -> u8 {
    1
}

fn access() -> Vec<SegmentKind> {
    vec![SegmentKind::Access]
}

impl MachineTemplate {
    /// Whether it has a card on a segment of `kind`.
    pub fn is_on(&self, kind: SegmentKind) -> bool {
        self.networks.contains(&kind)
    }
}

/// When a researcher may put a machine back to clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RevertPolicy {
    /// At any time.
    #[default]
    Anytime,
    /// Not at all: what a machine has written is to be kept.
    Never,
}

/// What an environment consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentTemplate {
    /// Version of this format: 1.
    pub version: u32,
    /// One line for the form in which a researcher chooses, in English.
    pub title: String,
    /// The same in Japanese.
    #[serde(default)]
    pub title_ja: String,
    /// Where the desktop comes from.
    #[serde(default)]
    pub rdp: RdpPolicy,
    /// Why the guest's own server is allowed, for staff; asked for with `rdp: guest` alone.
    #[serde(default)]
    pub rdp_reason: String,
    /// The data domain of `lab.yaml` whose servers its machines may reach; none by default.
    #[serde(default)]
    pub domain: Option<String>,
    /// When machines may be put back to clean.
    #[serde(default)]
    pub revert: RevertPolicy,
    /// How many named snapshots a researcher may keep of a machine; 0 for none.
    #[serde(default = "four")]
    pub snapshots: u8,
    /// Its machines.
    pub machines: Vec<MachineTemplate>,
}

fn four() -> u8 {
    4
}

impl EnvironmentTemplate {
    /// Parses and checks `text`, which stands in `file`; with `known`, also against what the lab
    /// has. Errors: the first fault, with its place.
    pub fn parse(
        file: &str,
        text: &str,
        known: Option<&Known>,
    ) -> Result<EnvironmentTemplate, ConfigError> {
        EnvironmentTemplate::parse_all(file, text, known).map_err(|mut faults| faults.remove(0))
    }

    /// Like [`EnvironmentTemplate::parse`], with every fault; there is at least one.
    pub fn parse_all(
        file: &str,
        text: &str,
        known: Option<&Known>,
    ) -> Result<EnvironmentTemplate, Vec<ConfigError>> {
        let template: EnvironmentTemplate = yaml::parse(file, text).map_err(|e| vec![e])?;
        let mut faults = template.faults();
        for unknown in known.into_iter().flat_map(|known| template.unknown(known)) {
            if faults.iter().all(|fault| fault.at != unknown.at) {
                faults.push(unknown);
            }
        }
        let place = |fault: Fault| yaml::error_at_path(file, text, &fault.at, fault.message);
        let errors: Vec<ConfigError> = faults.into_iter().map(place).collect();
        if errors.is_empty() { Ok(template) } else { Err(errors) }
    }

    /// Memory of all its machines in MiB.
    pub fn memory_mib(&self) -> u64 {
        self.machines.iter().map(|m| u64::from(m.memory_mib)).sum()
    }

    /// The machine of `role`.
    pub fn machine(&self, role: MachineRole) -> Option<&MachineTemplate> {
        self.machines.iter().find(|m| m.role == role)
    }

    /// The machine that samples are put before: the debuggee, which can send to nobody but its debugger.
    /// Others get samples from a server, where their `reach` names one.
    pub fn takes_samples(&self) -> Option<&MachineTemplate> {
        self.machine(MachineRole::Debuggee)
    }

    /// Where the desktop of `machine` comes from.
    pub fn desktop_of(&self, machine: &MachineTemplate) -> RdpPolicy {
        machine.rdp.unwrap_or(self.rdp)
    }

    /// Whether any desktop comes from a guest's own server.
    pub fn has_guest_desktop(&self) -> bool {
        self.machines.iter().any(|m| self.desktop_of(m) == RdpPolicy::Guest)
    }

    /// Whether it has a link segment.
    pub fn has_link(&self) -> bool {
        self.machines.iter().any(|m| m.is_on(SegmentKind::Link))
    }
}

//! Environment templates: what an environment consists of, as YAML in `templates/`.

use crate::{
    image::ImageName,
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
}

fn one() -> u8 {
    1
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
    /// Its machines.
    pub machines: Vec<MachineTemplate>,
}

impl EnvironmentTemplate {
    /// Parses and checks `text`, which stands in `file`.
    pub fn parse(file: &str, text: &str) -> Result<EnvironmentTemplate, ConfigError> {
        let template: EnvironmentTemplate = yaml::parse(file, text)?;
        template.check().map_err(|message| {
            let key = message.split('`').nth(1).unwrap_or("version").to_string();
            yaml::error_at_key(file, text, &key, message)
        })?;
        Ok(template)
    }

    /// What parsing alone cannot see. Errors: one sentence that says what and how to mend it.
    pub fn check(&self) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!("`version` is {}: this program reads version 1", self.version));
        }
        if self.rdp == RdpPolicy::Guest && self.rdp_reason.trim().is_empty() {
            return Err("`rdp` is `guest`, a way out for any byte: say why in `rdp_reason`, or \
                        use `console`"
                .into());
        }
        if self.machines.is_empty() || self.machines.len() > 12 {
            return Err("`machines` must list one to twelve machines".into());
        }
        let mut roles: Vec<_> = self.machines.iter().map(|m| m.role).collect();
        roles.sort();
        if roles.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("each role may appear once in `machines`".into());
        }
        for machine in &self.machines {
            let least = machine.profile.least_memory_mib();
            if !(least..=1 << 20).contains(&machine.memory_mib) {
                return Err(format!(
                    "`memory_mib` of {} is {}: use {least} to 1048576 with profile {}",
                    machine.role, machine.memory_mib, machine.profile
                ));
            }
            if !(1..=64).contains(&machine.vcpus) {
                return Err(format!("`vcpus` of {} must be 1 to 64", machine.role));
            }
        }
        Ok(())
    }

    /// Memory of all its machines in MiB.
    pub fn memory_mib(&self) -> u64 {
        self.machines.iter().map(|m| u64::from(m.memory_mib)).sum()
    }
}

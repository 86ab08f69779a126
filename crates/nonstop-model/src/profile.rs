//! Machine profiles: the hardware that a family of guests is given.
//!
//! A template names one for each machine. What it means in libvirt's words stands in
//! `nonstop_host::domain`; here is only what others must know to plan and to refuse.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The hardware of a machine.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum MachineProfile {
    /// The image's kernel, started by the hypervisor; virtio devices. The quickest start, and
    /// what a guest does to its boot sector has no effect.
    #[default]
    Linux,
    /// UEFI firmware that starts what the disk holds, with variables and a TPM 2.0 of the
    /// machine's own; virtio devices. For debuggees whose malware may want to outlive a start.
    Uefi,
}

impl MachineProfile {
    /// All of them, in the order of the documentation.
    pub const ALL: [MachineProfile; 2] = [MachineProfile::Linux, MachineProfile::Uefi];

    /// The word of templates, tables, pages and log.
    pub fn as_str(self) -> &'static str {
        match self {
            MachineProfile::Linux => "linux",
            MachineProfile::Uefi => "uefi",
        }
    }

    /// Whether firmware starts it from its disk; else the hypervisor starts the image's kernel.
    pub fn boots_from_disk(self) -> bool {
        match self {
            MachineProfile::Linux => false,
            MachineProfile::Uefi => true,
        }
    }

    /// Whether it has UEFI variables that it can write.
    pub fn has_nvram(self) -> bool {
        match self {
            MachineProfile::Linux => false,
            MachineProfile::Uefi => true,
        }
    }

    /// Whether it has a TPM of its own.
    pub fn has_tpm(self) -> bool {
        match self {
            MachineProfile::Linux => false,
            MachineProfile::Uefi => true,
        }
    }

    /// The least memory with which it starts, in MiB.
    pub fn least_memory_mib(self) -> u32 {
        match self {
            MachineProfile::Linux => 32,
            // The firmware and its tables take a part of it.
            MachineProfile::Uefi => 128,
        }
    }
}

impl fmt::Display for MachineProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for MachineProfile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        MachineProfile::ALL
            .into_iter()
            .find(|profile| profile.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a machine profile: use `linux` or `uefi`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_the_same_in_templates_and_tables() {
        for profile in MachineProfile::ALL {
            let word = serde_json::to_string(&profile).expect("a word");
            assert_eq!(word, format!("\"{profile}\""));
            assert_eq!(profile.as_str().parse(), Ok(profile));
        }
        let error = "bios".parse::<MachineProfile>().expect_err("no such profile");
        assert_eq!(error, "`bios` is not a machine profile: use `linux` or `uefi`");
    }
}

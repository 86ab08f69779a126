//! `lab.yaml`: the one file that describes a lab.

use crate::{
    network::{ACCOUNT_NET, slots},
    yaml::{self, ConfigError},
};
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

/// One installation. The smallest file is `version: 1` and `name:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "lab.yaml of NONSTOP")]
pub struct Lab {
    /// Version of this format: 1.
    pub version: u32,
    /// Short name of the lab, shown on every page.
    pub name: String,
    /// Where database, images and disks lie; absolute.
    #[serde(default = "default_state")]
    pub state: PathBuf,
    /// Sockets and gate files; on a tmpfs, so that nobody gets in before the daemon runs.
    #[serde(default = "default_run")]
    pub run: PathBuf,
    /// Folder of environment templates; absolute.
    #[serde(default = "default_templates")]
    pub templates: PathBuf,
    /// Where our own programs lie; absolute.
    #[serde(default = "default_programs")]
    pub programs: PathBuf,
    /// The OpenSSH gateway.
    #[serde(default)]
    pub gateway: Gateway,
    /// The portal.
    #[serde(default)]
    pub portal: Portal,
    /// Addresses of the segments.
    #[serde(default)]
    pub network: Network,
    /// What may run at once.
    #[serde(default)]
    pub capacity: Capacity,
    /// Desktops from the hypervisor's display.
    #[serde(default)]
    pub desktop: DesktopLimits,
    /// How long a right in the kernel outlives a dead daemon, in seconds. One hour by default;
    /// never past the end of the period.
    #[serde(default = "default_lease")]
    pub lease_seconds: u32,
    /// How long disks stay after a reservation's end, in seconds. Seven days by default.
    #[serde(default = "default_grace")]
    pub grace_seconds: u32,
    /// Allows key files instead of cards, and marks the lab as a demo on every page.
    #[serde(default)]
    pub software_keys: bool,
}

/// The OpenSSH gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// Address it listens on.
    pub address: Ipv4Addr,
    /// Port it listens on.
    pub port: u16,
    /// The name or address that researchers are told; the listening address by default.
    pub public_name: Option<String>,
}

/// The portal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Portal {
    /// Port on each account's loopback address.
    pub port: u16,
    /// The local user it runs as.
    pub user: String,
}

/// Desktops from the hypervisor's display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DesktopLimits {
    /// MiB that one session may get in an hour before its pictures slow down and staff are told;
    /// null for no bound. Pixels can be decoded by a program: this bounds what leaves that way.
    pub budget_mib_per_hour: Option<u32>,
}

/// Addresses of the segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Cut into one /28 for each segment.
    #[schemars(with = "String")]
    pub pool: Ipv4Net,
}

/// What may run at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capacity {
    /// Memory of all machines together in MiB; three quarters of the host's by default.
    pub memory_mib: Option<u64>,
    /// Machines at once.
    pub machines: u32,
    /// Free space in MiB below which nothing new is made on the disk.
    pub reserve_mib: u64,
}

impl Default for Gateway {
    fn default() -> Self {
        Gateway { address: Ipv4Addr::UNSPECIFIED, port: 22, public_name: None }
    }
}

impl Default for Portal {
    fn default() -> Self {
        Portal { port: 8080, user: "nonstop-portal".into() }
    }
}

impl Default for DesktopLimits {
    fn default() -> Self {
        DesktopLimits { budget_mib_per_hour: Some(2048) }
    }
}

impl Default for Network {
    fn default() -> Self {
        Network { pool: Ipv4Net::new_assert(Ipv4Addr::new(10, 77, 0, 0), 16) }
    }
}

impl Default for Capacity {
    fn default() -> Self {
        Capacity { memory_mib: None, machines: 1000, reserve_mib: 1024 }
    }
}

fn default_state() -> PathBuf {
    "/var/lib/nonstop".into()
}

fn default_run() -> PathBuf {
    "/run/nonstop".into()
}

fn default_templates() -> PathBuf {
    "/etc/nonstop/templates".into()
}

fn default_programs() -> PathBuf {
    "/usr/lib/nonstop".into()
}

fn default_lease() -> u32 {
    3600
}

fn default_grace() -> u32 {
    7 * 24 * 3600
}

/// First uid of accounts; the account `aN` has this plus N. Debian assigns none from 65536 on,
/// and systemd none below 524288.
pub const ACCOUNT_UIDS: u32 = 70_000;

/// First uid of machines; the machine `mN` has this plus N, up to [`LAST_MACHINE_UID`].
pub const MACHINE_UIDS: u32 = 80_000;

/// The last uid of machines: a lab makes no more machines than have a uid of their own.
pub const LAST_MACHINE_UID: u32 = 499_999;

/// Uids of brokers, workers and recorders, lent to one process at a time: they own no file.
/// Debian assigns none from 65536 on.
pub const DISPLAY_UIDS: std::ops::RangeInclusive<u32> = 65_600..=ACCOUNT_UIDS - 1;

/// A `lab.yaml` that cannot be read at all.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LabError {
    /// No such file, or no right to read it.
    #[error("read the lab file {path}")]
    #[diagnostic(help("name the lab's file with `--lab FILE` (default /etc/nonstop/lab.yaml)"))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something we cannot follow.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
}

impl Lab {
    /// Reads and checks the lab file at `path`.
    pub fn load(path: &Path) -> Result<Lab, LabError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| LabError::Read { path: path.into(), source })?;
        Ok(Lab::parse(&path.display().to_string(), &text)?)
    }

    /// Parses and checks `text`, which stands in `file`.
    pub fn parse(file: &str, text: &str) -> Result<Lab, ConfigError> {
        let lab: Lab = yaml::parse(file, text)?;
        lab.check().map_err(|(key, message)| yaml::error_at_key(file, text, key, message))?;
        Ok(lab)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.version != 1 {
            return Err((
                "version",
                format!("`version` is {}: this program reads version 1", self.version),
            ));
        }
        if self.name.is_empty() || self.name.len() > 60 || self.name.contains(char::is_control) {
            return Err(("name", "`name` must be one line of 1 to 60 bytes".into()));
        }
        for (key, path) in [
            ("state", &self.state),
            ("run", &self.run),
            ("templates", &self.templates),
            ("programs", &self.programs),
        ] {
            let plain = path.to_str().is_some_and(|p| {
                p.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+@".contains(&b))
            });
            if !path.is_absolute() || !plain {
                return Err((
                    key,
                    format!("`{key}` must be an absolute path of letters, digits and `/._-+@`"),
                ));
            }
        }
        let pool = self.network.pool;
        if pool != pool.trunc() {
            return Err((
                "pool",
                format!("`pool` {pool} has bits behind its prefix: use {}", pool.trunc()),
            ));
        }
        if slots(pool) == 0 {
            return Err((
                "pool",
                format!("`pool` {pool} is smaller than one segment: use a /28 or larger"),
            ));
        }
        if !pool.network().is_private() || ACCOUNT_NET.contains(&pool.network()) {
            return Err((
                "pool",
                format!(
                    "`pool` {pool} is not private: use a part of 10.0.0.0/8 or another private network"
                ),
            ));
        }
        if pool.contains(&self.gateway.address) {
            return Err((
                "address",
                format!(
                    "the gateway's `address` {} lies in the segments' `pool` {pool}: use another pool",
                    self.gateway.address
                ),
            ));
        }
        if ACCOUNT_NET.contains(&self.gateway.address) || self.gateway.address.is_broadcast() {
            let message = format!(
                "the gateway cannot listen on {}: use an address of this host",
                self.gateway.address
            );
            return Err(("address", message));
        }
        if self.gateway.port == 0 {
            return Err(("port", "the gateway's `port` must not be 0".into()));
        }
        if self.portal.port < 1024 {
            return Err((
                "port",
                "the portal's `port` must be at least 1024: it runs without rights".into(),
            ));
        }
        if self.capacity.machines == 0 {
            return Err(("machines", "`machines` must be at least 1".into()));
        }
        if self.lease_seconds < 2 {
            return Err(("lease_seconds", "`lease_seconds` must be at least 2".into()));
        }
        Ok(())
    }

    /// How long a right in the kernel outlives a dead daemon.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds.into())
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.state.join("nonstop.db")
    }

    /// The folder of built images.
    pub fn images(&self) -> PathBuf {
        self.state.join("images")
    }

    /// The folder of machines' disks.
    pub fn machines(&self) -> PathBuf {
        self.state.join("machines")
    }

    /// The folder of things found on the host that nobody wants.
    pub fn quarantine(&self) -> PathBuf {
        self.state.join("quarantine")
    }

    /// The folder of recordings of displays.
    pub fn recordings(&self) -> PathBuf {
        self.state.join("recordings")
    }

    /// The folder of the lab's certificate authority.
    pub fn authority(&self) -> PathBuf {
        self.state.join("authority")
    }

    /// The socket of the CLI.
    pub fn admin_socket(&self) -> PathBuf {
        self.run.join("admin.sock")
    }

    /// The socket of the portal.
    pub fn portal_socket(&self) -> PathBuf {
        self.run.join("portal.sock")
    }

    /// The socket of the login hook.
    pub fn login_socket(&self) -> PathBuf {
        self.run.join("login.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> ConfigError {
        Lab::parse("lab.yaml", text).expect_err("must be refused")
    }

    #[test]
    fn the_smallest_file_is_two_lines() {
        let lab = Lab::parse("lab.yaml", "version: 1\nname: lab\n").expect("valid");
        assert_eq!(lab.network.pool.to_string(), "10.77.0.0/16");
        assert!(!lab.software_keys);
    }

    #[test]
    fn a_misspelt_field_is_shown_with_its_place_and_the_right_word() {
        let e = problem("version: 1\nname: lab\ngateway:\n  prot: 22\n");
        assert_eq!((e.line, e.column), (4, 3));
        assert_eq!(e.help.as_deref(), Some("did you mean `port`?"));
        assert!(e.message.contains("unknown field `prot`"), "{}", e.message);
    }

    #[test]
    fn a_value_that_parses_but_makes_no_sense_is_shown_where_it_stands() {
        let e = problem("version: 1\nname: lab\nnetwork:\n  pool: 10.77.0.3/16\n");
        assert_eq!((e.line, e.column), (4, 3));
        assert!(e.message.contains("use 10.77.0.0/16"), "{}", e.message);
        let e = problem("version: 2\nname: lab\n");
        assert_eq!(e.line, 1);
    }

    #[test]
    fn a_path_that_would_need_quoting_is_refused() {
        let e = problem("version: 1\nname: lab\nstate: /var/lib/a'b\n");
        assert_eq!(e.line, 3);
    }
}

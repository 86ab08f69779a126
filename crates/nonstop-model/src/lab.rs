//! `lab.yaml`: the one file that describes a lab.

use crate::{
    bandwidth::{LEAST_KBIT, MOST_KBIT},
    data_domain::{self, DataDomain},
    network::{ACCOUNT_NET, Segment, slots},
    reach::{AIRLOCK, Protocol, ReachTarget},
    screening::{self, Screening},
    trace::Trace,
    yaml::{self, ConfigError},
};
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
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
    /// Closed networks of data servers, by name. A template names the one it belongs to.
    #[serde(default, deserialize_with = "data_domain::each_once")]
    pub data_domains: BTreeMap<String, DataDomain>,
    /// Where machines give exports and take imports.
    #[serde(default)]
    pub airlock: Airlock,
    /// How files are screened before they leave.
    #[serde(default)]
    pub screening: Screening,
    /// The record of who did what, and how it is put out of this host's reach.
    #[serde(default)]
    pub trace: Trace,
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
    /// How long a card's certificate is valid, in days. Three years by default.
    #[serde(default = "default_card_days")]
    pub card_days: u32,
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
    /// How many connections one source address may have to the gateway at once, those that are
    /// logged in included: the people behind one NAT share them.
    pub connections_per_source: u32,
    /// How many connections one source address may open to the gateway in a minute, and as many
    /// of them at once.
    pub new_per_minute: u32,
    /// What a researcher may move through it, in kbit/s each way, by all sessions together; null for
    /// no limit. `nonstop account bandwidth` gives somebody another.
    pub bandwidth_kbit: Option<u32>,
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

/// The service that takes exports from machines and gives them imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Airlock {
    /// TCP port, at the host's address of each machine's own segment.
    pub port: u16,
    /// TCP port on each account's loopback address, where researchers find their transfers.
    pub outside_port: u16,
    /// How long a name must be left alone before what it holds is an export, in seconds.
    pub quiet_seconds: u32,
    /// MiB that an environment's imports may hold together.
    pub import_mib: u64,
    /// MiB that an environment's export folder may hold together.
    pub export_mib: u64,
    /// MiB that one export may have.
    pub file_mib: u64,
    /// MiB that an environment may export in a day (UTC).
    pub day_mib: u64,
    /// MiB that an environment may export in its whole period.
    pub period_mib: u64,
}

impl Default for Airlock {
    fn default() -> Self {
        Airlock {
            port: 8443,
            outside_port: 8081,
            quiet_seconds: 3,
            import_mib: 8192,
            export_mib: 8192,
            file_mib: 2048,
            day_mib: 4096,
            period_mib: 65536,
        }
    }
}

/// What may run at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capacity {
    /// Memory of all machines together in MiB; three quarters of the host's by default.
    pub memory_mib: Option<u64>,
    /// Machines at once.
    pub machines: u32,
    /// Free space in MiB below which nothing new is made on the disk. With less than half of it a
    /// machine that writes stands still, until three quarters are free again.
    pub reserve_mib: u64,
}

impl Default for Gateway {
    fn default() -> Self {
        Gateway {
            address: Ipv4Addr::UNSPECIFIED,
            port: 22,
            public_name: None,
            connections_per_source: 64,
            new_per_minute: 60,
            bandwidth_kbit: None,
        }
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

fn default_card_days() -> u32 {
    1095
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
        let (pool, gateway) = (lab.network.pool, lab.gateway.address);
        let fault = data_domain::fault(&lab.data_domains, pool, gateway);
        match fault.or_else(|| screening::fault(&lab)).or_else(|| lab.trace.fault()) {
            Some((path, message)) => Err(yaml::error_at_path(file, text, &path, message)),
            None => Ok(lab),
        }
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
        for (key, number) in [
            ("connections_per_source", self.gateway.connections_per_source),
            ("new_per_minute", self.gateway.new_per_minute),
        ] {
            if !(1..=100_000).contains(&number) {
                return Err((key, format!("the gateway's `{key}` must be 1 to 100000")));
            }
        }
        let kbit = self.gateway.bandwidth_kbit;
        if kbit.is_some_and(|kbit| !(LEAST_KBIT..=MOST_KBIT).contains(&kbit)) {
            let message = format!(
                "`bandwidth_kbit` must be from {LEAST_KBIT} to {MOST_KBIT} kbit/s, such as 10000 for 10 Mbit/s, or null"
            );
            return Err(("bandwidth_kbit", message));
        }
        if self.portal.port < 1024 {
            return Err((
                "port",
                "the portal's `port` must be at least 1024: it runs without rights".into(),
            ));
        }
        if [0, 53, 67].contains(&self.airlock.port) {
            let message = "the airlock's `port` must not be 0, 53 or 67: DNS and DHCP answer there";
            return Err(("port", message.into()));
        }
        let outside = self.airlock.outside_port;
        if outside < 1024 || outside == self.portal.port {
            let message = "`outside_port` must be at least 1024 and not the portal's: it has the same address";
            return Err(("outside_port", message.into()));
        }
        if !(1..=3600).contains(&self.airlock.quiet_seconds) {
            return Err(("quiet_seconds", "`quiet_seconds` must be 1 to 3600".into()));
        }
        for (key, mib) in [
            ("import_mib", self.airlock.import_mib),
            ("export_mib", self.airlock.export_mib),
            ("file_mib", self.airlock.file_mib),
            ("day_mib", self.airlock.day_mib),
            ("period_mib", self.airlock.period_mib),
        ] {
            if !(1..=1 << 30).contains(&mib) {
                return Err((key, format!("`{key}` must be 1 to {} MiB", 1 << 30)));
            }
        }
        if self.capacity.machines == 0 {
            return Err(("machines", "`machines` must be at least 1".into()));
        }
        if !(1..=3650).contains(&self.card_days) {
            return Err(("card_days", "`card_days` must be 1 to 3650".into()));
        }
        if self.lease_seconds < 2 {
            return Err(("lease_seconds", "`lease_seconds` must be at least 2".into()));
        }
        Ok(())
    }

    /// Where the data of data domain `name` lie: `inbox/`, `published/` and `rejected/`.
    pub fn data(&self, name: &str) -> PathBuf {
        self.state.join("data").join(name)
    }

    /// What a machine on `segment`, whose template names data domain `domain`, may connect to that
    /// reaches `server`; None if there is no such server.
    pub fn targets(
        &self,
        domain: Option<&str>,
        server: &str,
        segment: &Segment,
    ) -> Option<Vec<ReachTarget>> {
        if server != AIRLOCK {
            return self.data_domains.get(domain?)?.targets(server);
        }
        Some(vec![ReachTarget {
            server: server.into(),
            address: segment.host(),
            protocol: Protocol::Tcp,
            port: self.airlock.port,
        }])
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

    /// Where files that were brought from outside lie.
    pub fn imports(&self) -> PathBuf {
        self.state.join("imports")
    }

    /// Where files that machines gave lie.
    pub fn exports(&self) -> PathBuf {
        self.state.join("exports")
    }

    /// Where the bytes of every export lie, by their SHA-256, but those that were blocked.
    pub fn trace_store(&self) -> PathBuf {
        self.state.join("trace")
    }

    /// What the lab itself made for environments, a folder each.
    pub fn captures(&self) -> PathBuf {
        self.state.join("captures")
    }

    /// What the airlock's programs keep for themselves, a folder each.
    pub fn airlock_folder(&self, side: &str) -> PathBuf {
        self.state.join("airlock").join(side)
    }

    /// The folder of the lab's certificate authority.
    pub fn authority(&self) -> PathBuf {
        self.state.join("authority")
    }

    /// What may talk to what, as the daemon wanted it last: for proving that without it.
    pub fn wanted(&self) -> PathBuf {
        self.run.join("wanted.json")
    }

    /// The socket of the CLI.
    pub fn admin_socket(&self) -> PathBuf {
        self.run.join("admin.sock")
    }

    /// The socket of the portal.
    pub fn portal_socket(&self) -> PathBuf {
        self.run.join("portal.sock")
    }

    /// The socket of the airlock's program that machines talk to.
    pub fn inside_socket(&self) -> PathBuf {
        self.run.join("inside.sock")
    }

    /// The socket of the airlock's program that researchers talk to.
    pub fn outside_socket(&self) -> PathBuf {
        self.run.join("outside.sock")
    }

    /// The socket of what puts heads of the trace out of the host's reach.
    pub fn heads_socket(&self) -> PathBuf {
        self.run.join("heads.sock")
    }

    /// The socket at which servers of data domains tell what machines fetched.
    pub fn data_socket(&self) -> PathBuf {
        self.run.join("data.sock")
    }

    /// Sockets of the servers of data domain `name`.
    pub fn data_run(&self, name: &str) -> PathBuf {
        self.run.join("data").join(name)
    }

    /// The socket of the login hook.
    pub fn login_socket(&self) -> PathBuf {
        self.run.join("login.sock")
    }

    /// The socket on which the gateway's ear tells what sshd said.
    pub fn gateway_socket(&self) -> PathBuf {
        self.run.join("gateway.sock")
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

    const DOMAINS: &str = "\
version: 1
name: lab
data_domains:
  intermediate:
    interface: nsd0
    network: 10.80.0.0/24
    servers:
      pcap: {address: 10.80.0.2, tcp: [80]}
      live: {address: 10.80.0.3, tcp: [7000], udp: [7001]}
  mws:
    interface: eth1
    network: 10.81.0.0/24
    host: 10.81.0.9
    here: false
    servers:
      pcap:
        address: 10.81.0.2
        tcp: [80, 443]
";

    #[test]
    fn a_machine_reaches_servers_of_its_own_data_domain_by_name() {
        let lab = Lab::parse("lab.yaml", DOMAINS).expect("valid");
        let environment = crate::EnvironmentId(3);
        let segment = Segment::new(environment, lab.network.pool, crate::Slot(2)).expect("in it");
        let shown = |domain, server| {
            let targets = lab.targets(domain, server, &segment)?;
            Some(targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        };
        let expected = "live (10.80.0.3:7000/tcp), live (10.80.0.3:7001/udp)";
        assert_eq!(shown(Some("intermediate"), "live").as_deref(), Some(expected));
        let expected = "pcap (10.81.0.2:80/tcp), pcap (10.81.0.2:443/tcp)";
        assert_eq!(shown(Some("mws"), "pcap").as_deref(), Some(expected));
        assert_eq!(shown(Some("mws"), "live"), None);
        assert_eq!(shown(None, "airlock").as_deref(), Some("airlock (10.77.0.33:8443/tcp)"));
        let hosts = lab.data_domains.values().map(|d| d.host().to_string());
        assert_eq!(hosts.collect::<Vec<_>>(), ["10.80.0.1", "10.81.0.9"]);
    }

    #[test]
    fn a_data_domain_that_cannot_be_is_refused_where_it_stands() {
        for (from, to, line, column, says) in [
            ("10.81.0.0/24", "10.80.0.0/16", 12, 5, "overlaps 10.80.0.0/24 of data domain `inter"),
            ("10.80.0.0/24", "10.77.4.0/24", 6, 5, "overlaps the segments' `pool` 10.77.0.0/16"),
            ("10.80.0.0/24", "10.80.0.7/24", 6, 5, "use 10.80.0.0/24"),
            ("10.80.0.0/24", "8.8.8.0/24", 6, 5, "not private"),
            (
                "address: 10.81.0.2",
                "address: 10.82.0.2",
                17,
                9,
                "lies outside of the data domain's",
            ),
            ("address: 10.80.0.2", "address: 10.80.0.1", 8, 14, "is the host's own"),
            ("address: 10.80.0.2", "address: 10.80.0.255", 8, 14, "lies outside"),
            ("tcp: [80, 443]", "tcp: [80, 80]", 18, 9, "is `pcap` already"),
            ("tcp: [7000]", "tcp: [0]", 9, 34, "port 0"),
            ("interface: eth1", "interface: nsb00001", 11, 5, "taken by the host or by machines"),
            ("interface: eth1", "interface: nsd0", 11, 5, "leads to data domain `intermediate`"),
            ("interface: nsd0", "interface: br0", 5, 5, "must begin with `nsd`"),
            ("      live:", "      dns:", 9, 7, "a service of the lab itself"),
            ("here: false", "here: false\n    keep_days: 0", 15, 5, "at least 1"),
            (
                "here: false",
                "here: false\n    utc_offset_minutes: 900",
                15,
                5,
                "between -840 and 840",
            ),
            ("here: false", "here: false\n    rdb: { memory_mib: 1 }", 15, 12, "at least 64"),
            (
                "live: {address: 10.80.0.3, tcp: [7000], udp: [7001]}",
                "live: {resource: pcap, address: 10.80.0.3, tcp: [7000]}",
                8,
                7,
                "`live` offers pcap already",
            ),
            ("tcp: [80]}", "tcp: [80], udp: [80]}", 8, 7, "list one"),
            ("  mws:", "  MWS:", 10, 3, "no name of a data domain"),
            ("host: 10.81.0.9", "host: 10.80.0.9", 13, 5, "none of 10.81.0.0/24"),
        ] {
            let text = DOMAINS.replacen(from, to, 1);
            assert_ne!(text, DOMAINS, "{from}");
            let e = problem(&text);
            assert!(e.message.contains(says), "{to}: {}", e.message);
            assert_eq!((e.line, e.column), (line, column), "{to}: {}", e.message);
        }
        let twice = problem(&DOMAINS.replace("      live:", "      pcap:"));
        assert!(twice.message.contains("`pcap` stands here twice"), "{}", twice.message);
        assert!((8..=9).contains(&twice.line), "line {}", twice.line);
    }

    #[test]
    fn a_path_that_would_need_quoting_is_refused() {
        let e = problem("version: 1\nname: lab\nstate: /var/lib/a'b\n");
        assert_eq!(e.line, 3);
    }
}

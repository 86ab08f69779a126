//! The kernel's word on who reaches what: tables `inet`, `bridge` and `arp nonstop`.
//!
//! The rules are fixed and closed; what is let through are elements of sets, so a packet costs
//! the same whatever the number of environments, and taking an element out cuts an open flow at
//! its next packet. A right of a person carries a timeout: the kernel ends it by itself when
//! nobody renews it. The tables are replaced whole, in one transaction, and never mended.

mod elements;
mod expected;
mod links;
mod netlink;
mod nft;
mod refused;
mod rules;

pub use expected::{Expected, SetName, elements_of};
pub use links::LinkCounts;
pub use netlink::NetlinkError;
pub use nft::NftError;
pub use refused::Refused;

use crate::HostError;
use elements::Reading;
use netlink::Batch;
use nonstop_model::{
    Lab,
    lab::{ACCOUNT_UIDS, DISPLAY_UIDS, LAST_MACHINE_UID, MACHINE_UIDS},
};
use nonstop_plan::{FirewallState, Grant};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    ops::RangeInclusive,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What the rules are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallConfig {
    /// The lab's pool of segment addresses.
    pub pool: ipnet::Ipv4Net,
    /// The interfaces of the data domains, and the servers behind each.
    pub domains: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    /// Where the gateway listens.
    pub gateway: SocketAddrV4,
    /// How many connections one source may have to the gateway.
    pub connections_per_source: u32,
    /// How many it may open in a minute, and as many of them at once.
    pub new_per_minute: u32,
    /// The port at which machines find the airlock, at all of the host's addresses.
    pub airlock_port: u16,
    /// The uids of programs of ours that open no connection of their own.
    pub program_uids: Vec<u32>,
    /// The uids that dnsmasq may have after its start; without root.
    pub dnsmasq_uids: Vec<u32>,
    /// The uids of programs that serve displays.
    pub display_uids: RangeInclusive<u32>,
    /// The uids of QEMU.
    pub machine_uids: RangeInclusive<u32>,
    /// The uids of accounts.
    pub account_uids: RangeInclusive<u32>,
}

impl FirewallConfig {
    /// The configuration of `lab`, whose programs that open no connection have `program_uids`.
    pub fn of(lab: &Lab, program_uids: Vec<u32>) -> FirewallConfig {
        FirewallConfig {
            pool: lab.network.pool,
            domains: lab
                .data_domains
                .values()
                .map(|domain| {
                    let servers = domain.servers.values().map(|server| server.address);
                    (domain.interface.clone(), servers.collect())
                })
                .collect(),
            gateway: SocketAddrV4::new(lab.gateway.address, lab.gateway.port),
            connections_per_source: lab.gateway.connections_per_source,
            new_per_minute: lab.gateway.new_per_minute,
            airlock_port: lab.airlock.port,
            program_uids,
            dnsmasq_uids: dnsmasq_uids(),
            display_uids: DISPLAY_UIDS,
            machine_uids: MACHINE_UIDS..=LAST_MACHINE_UID,
            account_uids: ACCOUNT_UIDS..=MACHINE_UIDS - 1,
        }
    }
}
/// Uids under which libvirt's dnsmasq may run: Debian's own choice, by version.
fn dnsmasq_uids() -> Vec<u32> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        ["dnsmasq", "libvirt-dnsmasq"].contains(&name).then(|| fields.nth(1)?.parse().ok())?
    };
    passwd.lines().filter_map(uid).collect()
}

/// Our tables. Loading and observing run `nft` and wait for it; granting and revoking talk to the
/// kernel themselves, and take well under a millisecond.
#[derive(Debug)]
pub struct Firewall {
    rules: String,
    /// Also lets one caller at a time change our tables.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How this host's nft lists the rules of this version; made when first needed.
    expected: Option<Vec<Value>>,
    /// To nf_tables, for elements.
    socket: Option<OwnedFd>,
}

impl Firewall {
    /// The firewall that `config` describes; touches nothing.
    pub fn new(config: FirewallConfig) -> Firewall {
        Firewall { rules: rules::render(&config), state: Mutex::default() }
    }

    /// The closed ruleset as a script for `nft -f`, which replaces our tables in one
    /// transaction. Also for loading before the network comes up.
    pub fn rules(&self) -> &str {
        &self.rules
    }

    /// What the kernel holds of ours.
    ///
    /// `current` is false as soon as a rule, a chain or a set differs from what this version
    /// loads, or a set holds something that no grant of ours could have put there; then no
    /// grant is listed either, since loading drops them all.
    pub fn observe(&self) -> Result<FirewallState, HostError> {
        let mut state = self.lock();
        let doing = |e| HostError::new("list our nft tables", e).help(HELP);
        let mut reading = Reading::default();
        let mut listed = Vec::new();
        for family in ["inet", "bridge", "arp"] {
            match nft::list(family).map_err(doing)? {
                Some(table) => listed.extend(elements::split(table, &mut reading)),
                None => return Ok(FirewallState::default()),
            }
        }
        let expected = match &mut state.expected {
            Some(expected) => expected,
            none => none.insert(self.as_listed().map_err(doing)?),
        };
        if listed != *expected || reading.has_strangers() {
            return Ok(FirewallState::default());
        }
        Ok(FirewallState { current: true, grants: reading.grants() })
    }

    /// How `nft` lists our rules once they are loaded, asked in an empty network namespace, so
    /// that no form of words has to be guessed, and a change by hand shows after a restart too.
    fn as_listed(&self) -> Result<Vec<Value>, NftError> {
        let mut none = Reading::default();
        let tables = nft::list_elsewhere(&self.rules)?;
        Ok(tables.into_iter().flat_map(|table| elements::split(table, &mut none)).collect())
    }

    /// Replaces our tables by those of this version, without any grant, in one transaction.
    pub fn load(&self) -> Result<(), HostError> {
        let _one_at_a_time = self.lock();
        nft::run(&self.rules).map_err(|e| HostError::new("load our nft tables", e).help(HELP))
    }

    /// Lets `grant` through, for `lease` from now; None for as long as the tables stand.
    ///
    /// Repeatable; granting again renews. A lease under a millisecond is no grant.
    pub fn grant(&self, grant: &Grant, lease: Option<Duration>) -> Result<(), HostError> {
        self.grant_all(&[(grant.clone(), lease)])
    }

    /// Lets all of `grants` through in one transaction, each for its lease.
    pub fn grant_all(&self, grants: &[(Grant, Option<Duration>)]) -> Result<(), HostError> {
        let mut batch = Batch::default();
        grants.iter().for_each(|(grant, lease)| batch.add(grant, *lease));
        let what = one_or_many("grant", grants.iter().map(|(grant, _)| grant));
        self.commit(batch).map_err(|e| HostError::new(what, e).help(HELP))
    }

    /// Takes `grant` out: an open flow of its ends at its next packet. Repeatable.
    pub fn revoke(&self, grant: &Grant) -> Result<(), HostError> {
        self.revoke_all(std::slice::from_ref(grant))
    }

    /// Takes all of `grants` out in one transaction. Repeatable.
    pub fn revoke_all(&self, grants: &[Grant]) -> Result<(), HostError> {
        let mut batch = Batch::default();
        grants.iter().for_each(|grant| batch.remove(grant));
        let what = one_or_many("revoke", grants.iter());
        self.commit(batch).map_err(|e| HostError::new(what, e).help(HELP))
    }

    fn commit(&self, batch: Batch) -> Result<(), NetlinkError> {
        batch.commit(&mut self.lock().socket)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const HELP: &str = "`nft list ruleset` as root must work on this host: install nftables, and \
     a kernel with nf_tables for inet, bridge and arp";

fn one_or_many<'a>(verb: &str, mut grants: impl ExactSizeIterator<Item = &'a Grant>) -> String {
    match (grants.len(), grants.next()) {
        (1, Some(grant)) => format!("{verb} {grant}"),
        (n, _) => format!("{verb} {n} rights"),
    }
}

//! Editions beside each other: what machines of one reach of another's data domain, which is
//! nothing. Counted, so that who reads a proof sees that it was looked at.

use crate::{
    matrix::{Cell, Closed},
    wanted::Wanted,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The cells from machines of one edition to the servers of another's data domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Between {
    /// Of which edition the machines are; None for those of none.
    pub from: Option<String>,
    /// Whose servers.
    pub to: String,
    /// How many machines.
    pub machines: usize,
    /// How many servers.
    pub servers: usize,
    /// How many cells were looked at: each machine, server and kind of traffic.
    pub cells: usize,
    /// In how many of them something is allowed, gets through, or is in doubt.
    pub open: usize,
}

/// Every edition with machines beside every data domain that is another's.
pub(crate) fn between(wanted: &Wanted, cells: &[Cell], closed: &[Closed]) -> Vec<Between> {
    let machines: HashMap<&str, Option<&str>> =
        wanted.machines.iter().map(|m| (&*m.name, m.edition.as_deref())).collect();
    let servers: HashMap<&str, &str> =
        wanted.servers.iter().map(|s| (&*s.name, &*s.domain)).collect();
    let mut all: BTreeMap<(Option<&str>, &str), Between> = BTreeMap::new();
    for edition in machines.values() {
        for domain in servers.values().filter(|domain| Some(**domain) != *edition) {
            all.entry((*edition, *domain)).or_insert_with(|| Between {
                from: edition.map(String::from),
                to: (*domain).into(),
                machines: machines.values().filter(|of| *of == edition).count(),
                servers: servers.values().filter(|of| *of == domain).count(),
                cells: 0,
                open: 0,
            });
        }
    }
    let mut count = |from: &str, to: &str, open: usize| {
        let pair = machines.get(from).copied().zip(servers.get(to).copied());
        if let Some(between) = pair.and_then(|pair| all.get_mut(&pair)) {
            between.cells += 1;
            between.open += open;
        }
    };
    for cell in cells {
        count(&cell.from, &cell.to, 1);
    }
    for closed in closed {
        closed.to.iter().for_each(|to| count(&closed.from, to, 0));
    }
    all.into_values().collect()
}

/// Rights that lead from one edition to another's server. The lab must not want them, so they differ
/// from what should be even where the kernel has just what the lab wants.
pub(crate) fn crossing(wanted: &Wanted) -> Vec<String> {
    let mut lines = Vec::new();
    for machine in &wanted.machines {
        for server in &wanted.servers {
            let reaches = machine.reach.iter().any(|reach| reach.address == server.address);
            if reaches && machine.edition.as_deref() != Some(&server.domain) {
                let of = machine.edition.as_deref().unwrap_or("none");
                let (machine, server) = (&machine.name, &server.name);
                lines.push(format!("{machine} of edition {of} has a right to {server} of another"));
            }
        }
    }
    lines
}

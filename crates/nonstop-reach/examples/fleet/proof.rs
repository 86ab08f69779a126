//! The fleet's proof, with its times.

use crate::{
    environment::{Environment, wanted},
    interfaces, loaded,
};
use nonstop_host::firewall::{Expected, SetName, elements_of};
use nonstop_plan::Grant;
use nonstop_reach::{
    Wanted,
    kernel::Kernel,
    observe::{self, Network},
    prove,
    wanted::WantedSet,
};
use nonstop_testkit::net::Namespace;
use serde_json::{Value, json};
use std::{
    fs,
    time::{Duration, Instant},
};

/// Interfaces as data; rules and rights from a kernel.
pub(crate) fn of_data(environments: u32) {
    let mut wanted = wanted(environments);
    let host = Namespace::new().expect("a namespace");
    load(&host, environments, &mut wanted);
    let begun = Instant::now();
    let rules = observe::kernel(Network::Of(host.holder())).expect("the kernel is read").rules;
    let read = begun.elapsed();
    let kernel = Kernel { rules, ..interfaces::as_data(&wanted) };
    judge(environments, &kernel, &wanted, read);
}

/// Everything from a kernel.
pub(crate) fn of_a_kernel(environments: u32) {
    let mut wanted = wanted(environments);
    let made = interfaces::make(&wanted);
    load(&made.host, environments, &mut wanted);
    let begun = Instant::now();
    let kernel = observe::kernel(Network::Of(made.host.holder())).expect("the kernel is read");
    judge(environments, &kernel, &wanted, begun.elapsed());
}

/// Loads rules and rights, and wants them as the daemon does.
fn load(host: &Namespace, environments: u32, wanted: &mut Wanted) {
    let firewall = loaded::firewall();
    let Expected { rules, sets } = firewall.expected().expect("nft lists our rules");
    let rights: Vec<Grant> = (1..=environments)
        .flat_map(|n| Environment(n).rights())
        .map(|(grant, _lease)| grant)
        .collect();
    let mut elements = elements_of(&rights);
    let set = |name: SetName| WantedSet {
        elements: elements.remove(&name).unwrap_or_default(),
        family: name.0,
        table: "nonstop".into(),
        name: name.1,
        lease_seconds: None,
    };
    (wanted.rules, wanted.sets) = (Some(rules), sets.into_iter().map(set).collect());
    loaded::inside(host.holder(), || {
        loaded::load(&firewall);
        loaded::grant(&firewall, environments);
    });
}

fn judge(environments: u32, kernel: &Kernel, wanted: &Wanted, read: Duration) {
    let begun = Instant::now();
    let proof = prove(kernel, wanted).expect("a listing");
    let proven = begun.elapsed();
    for line in proof.differences.iter().chain(&proof.not_proven).take(5) {
        eprintln!("{line}");
    }
    let answer: Value = json!({
        "environments": environments, "machines": wanted.machines.len(), "cells": proof.count(),
        "holds": proof.holds, "read_s": read.as_secs_f64(), "proven_s": proven.as_secs_f64(),
        "peak_mib": peak_mib(),
    });
    println!("{answer}");
}

/// The most memory that this program held.
fn peak_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
}

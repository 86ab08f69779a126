//! Which crate may know which, kept by a test over `cargo metadata`. The reasons stand in
//! `crates/ARCHITECTURE.md`.

use crate::workspace;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// None for an ordinary dependency.
    kind: Option<String>,
}

/// What each crate of ours depends on, tests aside.
fn edges() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut cargo = workspace::cargo()?;
    let output = cargo
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .context("run cargo metadata")?;
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("understand cargo metadata")?;
    let edges = metadata.packages.into_iter().map(|package| {
        let real = package.dependencies.into_iter().filter(|d| d.kind.is_none());
        (package.name, real.map(|d| d.name).collect())
    });
    Ok(edges.collect())
}

/// Everything of ours that `from` reaches, and what those depend on.
fn reach(edges: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_string()];
    while let Some(name) = open.pop() {
        for next in edges.get(&name).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

#[test]
fn no_crate_knows_what_it_must_not() -> Result<()> {
    let edges = edges()?;
    for (from, forbidden) in [
        ("nonstop-model", &["nonstop-plan", "nonstop-store", "nonstop-host", "tokio"][..]),
        ("nonstop-plan", &["nonstop-store", "nonstop-host", "nonstop-api", "tokio", "rustix"]),
        ("nonstop-api", &["nonstop-plan", "nonstop-store", "nonstop-host"]),
        ("nonstop-store", &["nonstop-plan", "nonstop-host"]),
        // It judges what the others made, and so trusts none of them.
        (
            "nonstop-reach",
            &["nonstop-model", "nonstop-plan", "nonstop-host", "nonstop-store", "tokio"],
        ),
        ("nonstop-portal", &["nonstop-store", "nonstop-host", "nonstop-plan", "virt", "rusqlite"]),
        // What speaks with machines and browsers knows neither host nor what the lab keeps.
        ("nonstop-airlock", &["nonstop-store", "nonstop-host", "nonstop-plan", "virt", "tokio"]),
        ("nonstopd", &["nonstop-airlock", "quick-xml"]),
        ("nonstop-agent", &["nonstop-model", "nonstop-store", "nonstop-host", "tokio"]),
        ("nonstop-confine", &["nonstop-model", "nonstop-display", "tokio", "serde"]),
        ("nonstop-display", &["nonstop-model", "nonstop-host", "nonstop-store", "tokio", "zbus"]),
        ("nonstop-rdp", &["nonstop-store", "nonstop-host", "nonstop-api", "nonstop-plan", "virt"]),
        // What speaks D-Bus, RDP or SQL, or parses packets, is not linked into the trusted base.
        ("nonstopd", &["nonstop-rdp", "nonstop-data", "zbus", "ironrdp-server"]),
        ("nonstopd", &["nonstop-screen", "boreal", "image"]),
        ("nonstop-screen", &["nonstop-model", "nonstop-api", "nonstop-store", "nonstopd", "tokio"]),
        // What parses what a card says is linked into the command line alone.
        ("nonstopd", &["nonstop-card", "pcsc"]),
        ("nonstop-card", &["nonstop-store", "nonstop-host", "nonstop-api", "tokio"]),
        ("nonstop-data", &["nonstop-store", "nonstop-host", "rusqlite", "tokio"]),
        // What reads samples and reports, which malware had its hand in.
        ("nonstop-samples", &["nonstop-store", "nonstop-host", "nonstopd", "tokio"]),
        ("nonstopd", &["nonstop-samples", "tar"]),
        ("nonstop-http", &["tokio", "serde"]),
        ("nonstopd", &["nonstop-http", "httparse"]),
        ("nonstop-gate", &["nonstop-store", "nonstop-host", "tokio"]),
        // It reads copies of a database, for auditors, by what can do nothing else.
        ("nonstop-cli", &["nonstop-store", "nonstop-host", "virt"]),
        ("nonstop-trace", &["nonstop-store", "nonstop-host", "nonstop-api", "rustix", "tokio"]),
        // On a researcher's PC, which need not know how a lab is built.
        ("nonstop-profile", &["nonstop-model", "nonstop-api", "rustix", "libc", "tokio"]),
        ("nonstop-connect", &["nonstop-model", "nonstop-api", "rustix", "libc", "tokio", "pcsc"]),
        ("xtask", &["nonstop-host", "nonstop-store", "virt", "pcsc", "rusqlite"]),
        ("nonstop-testkit", &["nonstop-host", "nonstop-store", "virt", "pcsc", "rusqlite"]),
    ] {
        assert!(edges.contains_key(from), "there is no crate {from} any more: mend this test");
        let reached = reach(&edges, from);
        for name in forbidden {
            assert!(!reached.contains(*name), "{from} knows {name}");
        }
    }
    for (name, dependencies) in &edges {
        assert!(name == "nonstop-host" || !dependencies.contains("virt"), "{name} links libvirt");
        // It hears strangers first, in two programs.
        let ours = dependencies.iter().find(|own| own.starts_with("nonstop"));
        assert!(name != "nonstop-http" || ours.is_none(), "nonstop-http knows {ours:?}");
        let pcsc = dependencies.contains("pcsc");
        assert!(name == "nonstop-card" || !pcsc, "{name} links PC/SC");
        let cards = dependencies.contains("nonstop-card");
        assert!(name == "nonstop-cli" || !cards, "{name} speaks with cards");
        // The airlock's programs each have a small one of their own, and each day of samples has one.
        let own = ["nonstop-airlock", "nonstop-samples"].contains(&name.as_str());
        let opens = own || ["nonstop-store", "nonstop-trace"].contains(&name.as_str());
        assert!(opens || !dependencies.contains("rusqlite"), "{name} opens a database");
    }
    Ok(())
}

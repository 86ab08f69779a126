//! One way to a desktop: a machine, the tunnel to it, and the client that looks.

use anyhow::{Context, Result};
use nonstop_testkit::{
    lab::Lab,
    line::{Kind, Line},
    net::free_port,
    pc::Pc,
    place::wait_for,
    rdp::{Client, Desktop},
    screen::Screen,
    ssh::{Forward, Tunnel},
};
use serde_json::Value;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

/// How long twenty desktops on two processors may take to start.
const PATIENCE: Duration = Duration::from_secs(900);

/// A machine and the way to its desktop.
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) environment: String,
    pub(super) served: Served,
    /// At the near end of the tunnel: one that only counts, and the thin one.
    near: Line,
    thin: Line,
    folder: PathBuf,
    _tunnel: Tunnel,
}

/// Where a desktop is served, and what it asks for.
pub(super) struct Served {
    pub(super) address: Ipv4Addr,
    /// The machine, as libvirt calls it.
    pub(super) guest: String,
    fingerprint: Option<String>,
    user: String,
    password: String,
}

/// Applies for `template`; gives the request.
pub(super) fn apply(lab: &Lab, template: &str) -> Result<String> {
    let words = ["request", "apply", "--account", "alice", "--template", template];
    let more = ["--hours", "2", "--purpose", "to measure"];
    text(&lab.cli(&[&words[..], &more].concat())?["id"])
}

/// Approves `request`; gives the environment.
pub(super) fn approve(lab: &Lab, request: &str) -> Result<String> {
    text(&lab.cli(&["request", "approve", request])?["id"])
}

/// Waits until all of `environments` are ready.
pub(super) fn ready(lab: &Lab, environments: &[&str]) -> Result<()> {
    for environment in environments {
        wait_for(&format!("{environment} to be ready"), PATIENCE, || {
            let shown = lab.cli(&["environment", "show", environment])?;
            Ok((shown["state"] == "ready").then_some(()))
        })?;
    }
    Ok(())
}

/// Where the desktop of `environment` is.
pub(super) fn served(lab: &Lab, environment: &str) -> Result<Served> {
    let shown = lab.cli(&["environment", "show", environment])?;
    let desktop = &shown["machines"][0]["desktop"];
    let word = |name: &str| desktop[name].as_str().map(str::to_owned);
    let address = text(&desktop["address"])?;
    Ok(Served {
        address: address.parse().with_context(|| format!("`{address}` as an address"))?,
        guest: format!("nonstop-{}", text(&shown["machines"][0]["id"])?),
        fingerprint: word("fingerprint"),
        user: word("user").unwrap_or("researcher".into()),
        password: word("password").unwrap_or_default(),
    })
}

impl Side {
    /// A tunnel of alice's to the desktop of `environment`, whose gate is open.
    pub(super) fn open(
        name: &'static str,
        (lab, alice, host_key): (&Lab, &Pc, &str),
        environment: String,
    ) -> Result<Side> {
        let served = served(lab, &environment)?;
        let forward = Forward { port: free_port()?, target: format!("{}:3389", served.address) };
        let far = SocketAddr::from(([127, 0, 0, 1], forward.port));
        let tunnel = alice.tunnel(host_key, &[forward])?;
        let line = |kind| Line::new(Some(alice.holder()), far, kind);
        let folder = lab.dir().join(format!("look-{name}"));
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Side {
            name,
            environment,
            served,
            near: line(Kind::COUNTING)?,
            thin: line(Kind::THIN)?,
            folder,
            _tunnel: tunnel,
        })
    }

    /// Starts its machine anew; returns when that has begun. Its password may be another then.
    pub(super) fn start_anew(&mut self, lab: &Lab) -> Result<()> {
        let power = |action| lab.cli(&["environment", "power", &self.environment, action]);
        let runs = || -> Result<bool> {
            let names = lab.enter(&["virsh", "-q", "list", "--name"])?;
            Ok(names.split_whitespace().any(|name| name == self.served.guest))
        };
        power("kill")?;
        wait_for("the machine to stop", PATIENCE, || Ok((!runs()?).then_some(())))?;
        power("on")?;
        wait_for("the machine to start", PATIENCE, || Ok(runs()?.then_some(())))?;
        ready(lab, &[&self.environment])?;
        self.served = served(lab, &self.environment)?;
        Ok(())
    }

    /// A screen for its client.
    pub(super) fn screen(&self, alice: &Pc) -> Result<Screen> {
        Screen::open(&alice.place(), &self.folder, (1280, 800))
    }

    /// Connects a client, by the thin line or not.
    pub(super) fn connect(&self, alice: &Pc, screen: &Screen, thin: bool) -> Result<Client> {
        let line = if thin { &self.thin } else { &self.near };
        let desktop = Desktop {
            port: line.address.port(),
            fingerprint: self.served.fingerprint.as_deref(),
            user: &self.served.user,
            password: &self.served.password,
        };
        Client::start(&alice.place(), screen, &desktop, &self.folder)
    }

    /// Where its desktop answers, at alice's PC.
    pub(super) fn near(&self) -> SocketAddr {
        self.near.address
    }

    /// When the last client connected, not by the thin line.
    pub(super) fn connected(&self) -> Option<Instant> {
        self.near.connected()
    }

    /// Bytes that have come to the client, by the thin line or not.
    pub(super) fn down(&self, thin: bool) -> Arc<AtomicU64> {
        Arc::clone(if thin { &self.thin.down } else { &self.near.down })
    }
}

/// A JSON text or number as text.
fn text(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => anyhow::bail!("expected a text, got {other}"),
    }
}

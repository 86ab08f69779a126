//! Copies of the lab's network without anything that closes it, for controls: what arrives nowhere
//! in the lab must arrive here.
//!
//! The routed copy has the same bridges, addresses, routes and hardware addresses, no rules, and every
//! switch open. The flat one joins all cards, all data domains and the outside by one bridge. Both are
//! network namespaces that end with the process that holds them; the guests' ends of the cables lie in
//! a third one, where nobody has an address.

use crate::{attempts::Scene, ground::Ground, gun::Gun};
use anyhow::{Context, Result, bail};
use nonstop_reach::{kernel::Kernel, probe::Order, wanted::Machine};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    net::IpAddr,
    process::{Child, Command, Stdio},
};

/// Which copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The same network, open.
    Routed,
    /// One bridge that joins all.
    Flat,
}

impl Kind {
    /// The word of reports.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Routed => "without rules",
            Kind::Flat => "on one wire",
        }
    }
}

/// A network namespace that ends with its holder.
#[derive(Debug)]
struct Holder(Child);

impl Holder {
    fn new() -> Result<Holder> {
        let mut child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo up && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("run `unshare`: install util-linux")?;
        let said = child.stdout.take().context("hear the holder of a network")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).context("hear the holder of a network")?;
        if line.trim() != "up" {
            bail!("a network namespace cannot be made: root is needed");
        }
        Ok(Holder(child))
    }

    fn net(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// Runs `program` inside with `input`.
    fn run(&self, program: &[&str], input: &str) -> Result<()> {
        let mut child = Command::new("nsenter")
            .arg(format!("--net={}", self.net()))
            .arg("--")
            .args(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("run `nsenter` and `{}`", program[0]))?;
        let mut pipe = child.stdin.take().context("talk to it")?;
        pipe.write_all(input.as_bytes()).context("talk to it")?;
        drop(pipe);
        let output = child.wait_with_output().context("hear it")?;
        if !output.status.success() {
            bail!("{}: {}", program.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A copy of the network.
#[derive(Debug)]
pub struct Copy {
    host: Holder,
    guests: Holder,
    /// The guests' ends of the canaries' cables, by canary and card.
    ends: BTreeMap<(usize, usize), String>,
    /// All of the guests' ends.
    far: Vec<String>,
}

/// The way out, which every address leads to that is not on a segment.
const OUTSIDE: &str = "nonstop-world";
const FLAT: &str = "nonstop-flat";

impl Copy {
    /// Makes a copy of what `kernel` and `order` describe. Needs root.
    pub fn make(kind: Kind, order: &Order, scene: &Scene, kernel: &Kernel) -> Result<Copy> {
        let (host, guests) = (Holder::new()?, Holder::new()?);
        let switches = |v6: &str| {
            format!(
                "for p in /proc/sys/net/ipv4/conf/all /proc/sys/net/ipv4/conf/default; do \
                 echo 0 >$p/rp_filter; echo 1 >$p/accept_local; echo 1 >$p/route_localnet; \
                 echo 0 >$p/arp_ignore; done; \
                 for p in /proc/sys/net/ipv6/conf/all /proc/sys/net/ipv6/conf/default; do \
                 [ ! -d $p ] || {{ echo {v6} >$p/disable_ipv6; echo 0 >$p/accept_dad; echo 0 >$p/dad_transmits; }}; done; \
                 for p in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $p ] || echo 0 >$p; done\n"
            )
        };
        guests.run(&["sh"], &switches("1"))?;
        let routed = kind == Kind::Routed;
        let forward = if routed { "echo 1 >/proc/sys/net/ipv4/ip_forward\n" } else { "" };
        host.run(&["sh"], &(switches(if routed { "0" } else { "1" }) + forward))?;
        let mut copy = Copy { host, guests, ends: BTreeMap::new(), far: Vec::new() };
        let script = match kind {
            Kind::Routed => copy.routed(order, scene, kernel)?,
            Kind::Flat => copy.flat(order, kernel)?,
        };
        copy.host.run(&["ip", "-batch", "-"], &script).context("make a copy of the network")?;
        let up = copy.far.iter().map(|end| format!("link set dev {end} arp off up\n"));
        copy.guests.run(&["ip", "-batch", "-"], &up.collect::<String>())?;
        Ok(copy)
    }

    fn routed(&mut self, order: &Order, scene: &Scene, kernel: &Kernel) -> Result<String> {
        let mut script = String::from("link set lo up\n");
        let mut done = BTreeSet::from(["lo"]);
        for segment in &order.wanted.segments {
            let bridge = &segment.bridge;
            done.insert(bridge);
            let at =
                scene.bridges.get(bridge).copied().map(|mac| format!(" address {}", text(mac)));
            let at = at.unwrap_or_default();
            writeln!(script, "link add name {bridge}{at} type bridge mcast_snooping 0")?;
            if let Some((address, net)) = segment.host {
                writeln!(script, "address add {address}/{} dev {bridge}", net.prefix_len())?;
            }
            writeln!(script, "link set dev {bridge} up")?;
        }
        let domains: BTreeSet<&str> = order.wanted.servers.iter().map(|s| &*s.interface).collect();
        for domain in domains.iter().copied().chain([OUTSIDE]) {
            done.insert(domain);
            self.cable(&mut script, domain, None, order.wanted.machines.len() + done.len())?;
            writeln!(script, "link set dev {domain} arp off up")?;
        }
        for address in &kernel.addresses {
            let IpAddr::V4(v4) = address.address.addr() else { continue };
            let interface = &*address.interface;
            let on = match domains.contains(interface) {
                true => interface,
                false if done.contains(interface) && interface != "lo" => continue,
                false if v4.is_loopback() => "lo",
                false => OUTSIDE,
            };
            writeln!(script, "address replace {v4}/{} dev {on}", address.address.prefix_len())?;
        }
        writeln!(script, "route replace default dev {OUTSIDE}")?;
        for (number, machine) in order.wanted.machines.iter().enumerate() {
            for card in &machine.cards {
                let end = self.cable(&mut script, &card.tap, Some(&card.mac), number)?;
                self.keep(order, machine, &card.tap, end);
                writeln!(script, "link set dev {} master {} up", card.tap, card.segment)?;
                writeln!(script, "link set dev {} type bridge_slave learning off", card.tap)?;
                if let Some(address) = card.address {
                    let (mac, bridge) = (&card.mac, &card.segment);
                    writeln!(
                        script,
                        "neighbour replace {address} lladdr {mac} dev {bridge} nud permanent"
                    )?;
                }
            }
        }
        Ok(script)
    }

    fn flat(&mut self, order: &Order, _kernel: &Kernel) -> Result<String> {
        // Bridges keep groups of their own for themselves, but for those that are named.
        let mut script = format!(
            "link add name {FLAT} type bridge mcast_snooping 0 group_fwd_mask 0x4008\nlink set dev {FLAT} up\n"
        );
        let domains: BTreeSet<&str> = order.wanted.servers.iter().map(|s| &*s.interface).collect();
        for (number, domain) in domains.iter().copied().chain([OUTSIDE]).enumerate() {
            self.cable(&mut script, domain, None, order.wanted.machines.len() + number)?;
            writeln!(script, "link set dev {domain} master {FLAT} up")?;
            writeln!(script, "link set dev {domain} type bridge_slave learning off")?;
        }
        for (number, machine) in order.wanted.machines.iter().enumerate() {
            for card in &machine.cards {
                let end = self.cable(&mut script, &card.tap, Some(&card.mac), number)?;
                self.keep(order, machine, &card.tap, end);
                writeln!(script, "link set dev {} master {FLAT} up", card.tap)?;
                writeln!(script, "link set dev {} type bridge_slave learning off", card.tap)?;
            }
        }
        Ok(script)
    }

    /// A cable from `name` on the host to the guests; returns the other end's name.
    fn cable(
        &mut self,
        script: &mut String,
        name: &str,
        at: Option<&str>,
        number: usize,
    ) -> Result<String> {
        let guests = self.guests.0.id();
        let end = format!("g{number}{}", name.chars().rev().take(6).collect::<String>());
        let at = at.map(|mac| format!(" address {mac}")).unwrap_or_default();
        writeln!(script, "link add name {name} type veth peer name {end}{at} netns {guests}")?;
        self.far.push(end.clone());
        Ok(end)
    }

    fn keep(&mut self, order: &Order, machine: &Machine, tap: &str, end: String) {
        let canary = order.canaries.iter().position(|canary| canary.machine == machine.name);
        let card = machine.cards.iter().position(|card| card.tap == tap);
        if let Some(at) = canary.zip(card) {
            self.ends.insert(at, end);
        }
    }

    /// A ground in it, ready to be fired at.
    pub fn ground<'a>(&self, order: &'a Order, run: u32) -> Result<Ground<'a>> {
        let net = self.guests.net();
        let mut guns = BTreeMap::new();
        for (at, end) in &self.ends {
            guns.insert(*at, Gun::interface(&net, end)?);
        }
        Ground::open(order, run, &self.host.net(), &[], guns)
    }
}

fn text(mac: crate::frame::MacBytes) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

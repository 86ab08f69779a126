//! Links between a box and what is around it, and namespaces held by a process.
//!
//! A namespace here is nothing but a process that sleeps in it: it ends when the pipe to
//! whoever made it closes, so no name under /run/netns can stay behind.

use crate::place::{Place, wait_for};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A network namespace of its own.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
}

impl Namespace {
    /// Makes one, with its loopback up.
    pub fn new() -> Result<Namespace> {
        let mut holder = Command::new("unshare")
            .args(["-n", "--", "sh", "-c", "ip link set lo up && echo up && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("make a network namespace")?;
        let said = holder.stdout.take().context("hear the namespace's holder")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        if line.trim() != "up" {
            holder.wait()?;
            bail!("making a network namespace failed: root and iproute2 are needed");
        }
        Ok(Namespace { holder })
    }

    /// The process that holds it.
    pub fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// Inside it.
    pub fn place(&self) -> Place {
        Place::in_network(self.holder())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ended_already = self.holder.kill();
        let _reaped = self.holder.wait();
    }
}

/// The outside of a lab in tests: a switch to which the box and the PCs are plugged.
#[derive(Debug)]
pub struct Street {
    switch: Namespace,
}

impl Street {
    /// The gateway's address on the street.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

    /// A street with nobody in it.
    pub fn new() -> Result<Street> {
        let switch = Namespace::new()?;
        switch.place().line("ip link add switch type bridge")?;
        switch.place().line("ip link set switch up")?;
        Ok(Street { switch })
    }

    /// Inside the switch, where every frame of the street can be seen.
    pub fn place(&self) -> Place {
        self.switch.place()
    }

    /// Plugs the namespace of the process `pid` in as `address`/24, on its interface
    /// `outside`. `port` names the plug; one that is in use is pulled out first.
    pub fn plug(&self, port: &str, pid: u32, address: Ipv4Addr) -> Result<()> {
        let switch = self.switch.holder();
        self.unplug(port)?;
        // A host that comes back after a power cut has the same network card.
        let [a, b, c, d] = address.octets();
        let mac = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        Place::here().line(&format!(
            "ip link add {port} netns {switch} type veth \
             peer name outside address {mac} netns {pid}"
        ))?;
        self.place().line(&format!("ip link set {port} master switch up"))?;
        let there = Place::in_network(pid);
        there.line(&format!("ip address add {address}/24 dev outside"))?;
        there.line("ip link set outside up")?;
        // The kernel takes up to a second to see the carrier, and drops frames until then.
        wait_for("the plug to carry", Duration::from_secs(10), || {
            let switch = self.place().line(&format!("ip -d link show dev {port}"))?;
            let card = there.line("ip link show dev outside")?;
            Ok((switch.contains("state forwarding") && card.contains("state UP")).then_some(()))
        })
    }

    /// Pulls `port` out. Repeatable.
    pub fn unplug(&self, port: &str) -> Result<()> {
        let _was_out = self.switch.place().output(&["ip", "link", "del", port])?;
        Ok(())
    }
}

/// The one cable between a demo's box and the user's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cable {
    /// Interface on the user's machine.
    pub device: String,
    /// Address of the user's machine on it.
    pub user: Ipv4Addr,
    /// Address of the box, where the gateway listens.
    pub lab: Ipv4Addr,
}

impl Cable {
    /// The cable of the lab in `dir`: always the same interface name, so that a killed run's
    /// is found again; the first free /30 of 198.18.0.0/15 (RFC 2544: routed nowhere).
    pub fn choose(dir: &Path) -> Result<Cable> {
        let hash = hash(dir);
        let device = device(dir);
        let addresses = Place::here().line("ip -o -4 address show")?;
        let used: Vec<u32> = addresses
            .lines()
            .filter(|line| line.split_whitespace().nth(1) != Some(device.as_str()))
            .filter_map(|line| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok())
            .map(|address: Ipv4Addr| u32::from(address) >> 2)
            .collect();
        let first = u32::from(Ipv4Addr::new(198, 18, 0, 0)) >> 2;
        let start = u32::try_from(hash >> 40).unwrap_or_default();
        let free = (0..1 << 15)
            .map(|n| first + (start.wrapping_add(n) & 0x7fff))
            .find(|net| !used.contains(net))
            .context("no free /30 in 198.18.0.0/15")?;
        Ok(Cable {
            device,
            user: Ipv4Addr::from((free << 2) + 1),
            lab: Ipv4Addr::from((free << 2) + 2),
        })
    }

    /// Lays the cable to the box whose PID 1 is `init`. The kernel takes it away with the box.
    pub fn lay(&self, init: u32) -> Result<()> {
        self.remove()?;
        let here = Place::here();
        let Cable { device, user, lab } = self;
        here.line(&format!("ip link add {device} type veth peer name outside netns {init}"))?;
        here.line(&format!("ip address add {user}/30 dev {device}"))?;
        here.line(&format!("ip link set {device} up"))?;
        let there = Place::in_network(init);
        there.line(&format!("ip address add {lab}/30 dev outside"))?;
        there.line("ip link set outside up")?;
        Ok(())
    }

    /// Takes the cable away. Repeatable.
    pub fn remove(&self) -> Result<()> {
        remove_device(&self.device)
    }

    /// Takes away what a killed run of the lab in `dir` left. Repeatable; needs no package
    /// where there is nothing.
    pub fn remove_of(dir: &Path) -> Result<()> {
        remove_device(&device(dir))
    }
}

fn hash(dir: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    hasher.finish()
}

fn device(dir: &Path) -> String {
    format!("nonstop-{:06x}", hash(dir) & 0xff_ffff)
}

fn remove_device(device: &str) -> Result<()> {
    let there = || Path::new("/sys/class/net").join(device).exists();
    if !there() {
        return Ok(());
    }
    let output = Place::here().output(&["ip", "link", "del", device])?;
    // The kernel may have been faster.
    if !output.status.success() && there() {
        bail!("remove {device}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Whether something listens on TCP `port` in the network namespace of the process `pid`
/// (`self` for ours). Looks without connecting: sshd counts connections.
pub fn listens(pid: &str, port: u16) -> bool {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    shows_listener(&table, port)
}

fn shows_listener(table: &str, port: u16) -> bool {
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().and_then(|a| a.split_once(':'));
        let state = words.nth(1);
        local.is_some_and(|(_, p)| u16::from_str_radix(p, 16) == Ok(port)) && state == Some("0A")
    })
}

/// A TCP port of 127.0.0.1 that nobody uses now.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
            0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000\n\
            1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000\n";
        assert!(shows_listener(table, 22));
        assert!(!shows_listener(table, 8080));
    }

    #[test]
    fn cables_of_two_labs_have_different_names_that_fit() {
        let one = Cable::choose(Path::new("/srv/one")).expect("free");
        let two = Cable::choose(Path::new("/srv/two")).expect("free");
        assert_ne!(one.device, two.device);
        assert_ne!(one.lab, two.lab);
        assert!(one.device.len() <= 15 && one.lab.octets()[0] == 198);
        assert_eq!(one, Cable::choose(Path::new("/srv/one")).expect("free"));
    }
}

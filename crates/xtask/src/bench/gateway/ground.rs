//! A lab with ten researchers, and a plain sshd on the same host.

use super::{
    LIMIT_KBIT, RESEARCHERS,
    traffic::{Way, serve},
};
use crate::bench::look::in_network;
use anyhow::{Context, Result};
use nonstop_testkit::{
    interrupt,
    lab::Lab,
    net::Street,
    pc::Pc,
    place::{Place, wait_for},
    ssh::{self, Forward, Tunnel},
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    path::PathBuf,
    process::{Child, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

/// Where the plain sshd listens, and what its tunnels lead to.
const PLAIN_PORT: u16 = 2200;
const PLAIN_TARGET: &str = "127.0.0.1:9100";
/// Where the portal would be on each account's address.
const PORTAL_PORT: u16 = 8080;

/// All of it.
pub(super) struct Ground {
    lab: Lab,
    /// Researchers with a limit, and one without.
    pcs: Vec<Pc>,
    host_key: String,
    plain: Child,
    ports: AtomicU16,
}

/// A port of a PC that leads through a gateway to the bench's server.
pub(super) struct Through {
    /// A process of the PC's network.
    pub(super) place: u32,
    pub(super) port: u16,
    _tunnel: Tunnel,
}

/// How a client logs in.
pub(super) struct Login {
    pub(super) place: u32,
    pub(super) words: Vec<String>,
    pub(super) target: String,
}

/// A limit at an interface, as an admin would set it by hand; gone when dropped.
pub(super) struct Narrow(Place);

impl Drop for Narrow {
    fn drop(&mut self) {
        let _gone_with_the_lab = self.0.line("tc qdisc del dev outside root");
    }
}

impl Ground {
    pub(super) fn new() -> Result<Ground> {
        let limit = format!("bandwidth_kbit: {LIMIT_KBIT}");
        let many = ["connections_per_source: 1000", "new_per_minute: 100000", &limit];
        let mut lab = Lab::temporary("bench-gateway")?
            .gateway_yaml(&many)
            .only(&["libvirtd", "nonstopd", "sshd"]);
        lab.start()?;
        let names: Vec<String> = (0..RESEARCHERS).map(|n| format!("researcher{n}")).collect();
        let mut pcs = Vec::new();
        for (name, host) in names.iter().map(String::as_str).chain(["free"]).zip(10..) {
            interrupt::check()?;
            pcs.push(lab.researcher(name, host)?);
        }
        lab.cli(&["account", "bandwidth", "free", "none", "--reason", "bench"])?;
        let init = lab.lab_box()?.init();
        let address = |n| Ok::<_, anyhow::Error>(SocketAddrV4::new(address(n)?, PORTAL_PORT));
        let plain = PLAIN_TARGET.parse::<SocketAddrV4>().context("an address")?;
        let targets = (1..=pcs.len()).map(address).chain([Ok(plain)]);
        for target in targets.collect::<Result<Vec<_>>>()? {
            let listen =
                || TcpListener::bind(target).with_context(|| format!("listen at {target}"));
            let listener = in_network(init, listen)?;
            thread::spawn(move || serve(&listener));
        }
        let host_key = ssh::host_key(&lab.inside()?)?;
        let plain = plain_sshd(&lab, &pcs)?;
        let ground = Ground { lab, pcs, host_key, plain, ports: AtomicU16::new(20_000) };
        let free = ground.pcs.len() - 1;
        wait_for("the limits", Duration::from_secs(30), || {
            let classes = ground.lab.enter(&["tc", "class", "show", "dev", "nsq"]);
            // Each way a person has a class and two below it; one more is for what has lost its own.
            let htb = classes.unwrap_or_default().matches("class htb").count();
            Ok((htb == 6 * free + 1).then_some(()))
        })?;
        Ok(ground)
    }

    fn tunnel(&self, pc: usize, target: &str) -> Result<Through> {
        let port = self.ports.fetch_add(1, Ordering::Relaxed);
        let forwards = [Forward { port, target: target.into() }];
        let tunnel = self.pcs[pc].tunnel(&self.host_key, &forwards)?;
        Ok(Through { place: self.pcs[pc].holder(), port, _tunnel: tunnel })
    }

    /// A tunnel of the researcher with this number.
    pub(super) fn researcher(&self, n: usize) -> Result<Through> {
        self.tunnel(n, &format!("{}:{PORTAL_PORT}", address(n + 1)?))
    }

    /// A tunnel of each researcher with a limit.
    pub(super) fn researchers(&self) -> Result<Vec<Through>> {
        (0..RESEARCHERS).map(|n| self.researcher(n)).collect()
    }

    /// A tunnel of somebody without a limit.
    pub(super) fn unlimited(&self) -> Result<Through> {
        self.researcher(RESEARCHERS)
    }

    /// A tunnel through the plain sshd.
    pub(super) fn plain(&self) -> Result<Through> {
        let pc = &self.pcs[RESEARCHERS];
        let port = self.ports.fetch_add(1, Ordering::Relaxed);
        let forwards = [Forward { port, target: PLAIN_TARGET.into() }];
        let log = pc.folder().join(format!("plain-{port}.log"));
        let (config, holder) = (self.plain_config()?, pc.holder().to_string());
        let tunnel = Tunnel::open(&pc.place(), &holder, &config, "plain", &forwards, &log)?;
        Ok(Through { place: pc.holder(), port, _tunnel: tunnel })
    }

    fn plain_config(&self) -> Result<PathBuf> {
        let pc = &self.pcs[RESEARCHERS];
        let (known, config) = (pc.folder().join("known_plain"), pc.folder().join("plain_config"));
        ssh::pin(&known, &self.host_key)?;
        let gateway = (Street::GATEWAY, PLAIN_PORT);
        let entry = ssh::host_entry("plain", "root", gateway, &pc.key_file(), &known);
        fs::write(&config, entry).context("write the client's configuration")?;
        Ok(config)
    }

    /// How somebody without a limit logs in to ours.
    pub(super) fn our_login(&self) -> Result<Login> {
        let pc = &self.pcs[RESEARCHERS];
        let config = pc.ssh_config(&self.host_key)?;
        let target = format!("{}:{PORTAL_PORT}", address(RESEARCHERS + 1)?);
        Ok(login(pc, &config.display().to_string(), "gateway", target))
    }

    /// The same at the plain sshd.
    pub(super) fn plain_login(&self) -> Result<Login> {
        let config = self.plain_config()?.display().to_string();
        Ok(login(&self.pcs[RESEARCHERS], &config, "plain", PLAIN_TARGET.into()))
    }

    /// Narrows the plain sshd's way by HTB at the interface that sends.
    pub(super) fn narrow(&self, way: Way, kbit: u32) -> Result<Narrow> {
        let place = match way {
            Way::Down => self.lab.inside()?,
            Way::Up => self.pcs[RESEARCHERS].place(),
        };
        place.line("tc qdisc add dev outside root handle 1: htb default 1")?;
        place.line(&format!(
            "tc class add dev outside parent 1: classid 1:1 htb rate {kbit}kbit ceil {kbit}kbit"
        ))?;
        Ok(Narrow(place))
    }

    /// PID 1 of the lab's box.
    pub(super) fn init(&self) -> Result<u32> {
        Ok(self.lab.lab_box()?.init())
    }

    /// The processors that all of this shares.
    pub(super) fn processors(&self) -> Result<String> {
        let many = thread::available_parallelism().context("count processors")?;
        Ok(format!("Clients, sshd and servers share {many} processors here."))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ended_already = self.plain.kill();
        let _reaped = self.plain.wait();
    }
}

/// The loopback address of the account that was added as number `n`.
fn address(n: usize) -> Result<Ipv4Addr> {
    Ok(Ipv4Addr::new(127, 64, 0, u8::try_from(n).context("few accounts")?))
}

fn login(pc: &Pc, config: &str, alias: &str, target: String) -> Login {
    let words = ["ssh", "-F", config, alias].map(String::from).to_vec();
    Login { place: pc.holder(), words, target }
}

/// A plain sshd with a stock configuration, but for its port, key and folder.
fn plain_sshd(lab: &Lab, pcs: &[Pc]) -> Result<Child> {
    let dir = lab.dir().join("plain");
    ssh::private_folder(&dir)?;
    let key = pcs[RESEARCHERS].public_key_file();
    fs::copy(key, dir.join("keys")).context("copy the key")?;
    let ours = lab.enter(&["cat", "/run/nonstop/gate/sshd_config"])?;
    let host_key = ours.lines().find(|line| line.trim().starts_with("HostKey "));
    let text = format!(
        "Port {PLAIN_PORT}\nPidFile none\nStrictModes no\n{}\nAuthorizedKeysFile {}\n",
        host_key.context("the gateway names no host key")?,
        dir.join("keys").display()
    );
    let config = dir.join("sshd_config");
    fs::write(&config, text).context("write the plain sshd's configuration")?;
    let child = lab
        .inside()?
        .command("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(fs::File::create(dir.join("log"))?)
        .spawn()
        .context("start the plain sshd")?;
    wait_for("the plain sshd", Duration::from_secs(10), || {
        let listening = lab.enter(&["ss", "-Hltn", &format!("sport = :{PLAIN_PORT}")])?;
        Ok((!listening.trim().is_empty()).then_some(()))
    })?;
    Ok(child)
}

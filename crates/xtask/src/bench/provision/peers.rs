//! The peers: what people use instead, in a box of the same kind with nothing but libvirtd.

use super::ours::{Description, between};
use crate::bench::{
    images::{copy_images, image},
    look,
};
use anyhow::{Context, Result, bail};
use nonstop_testkit::{init::is_gone, lab::Lab, place::Place};
use serde_json::Value;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Child,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

/// A box for peers.
pub(super) struct Peers {
    lab: Lab,
    rounds: AtomicU8,
}

/// How long a peer took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) running: Duration,
    pub(super) rdp: Duration,
}

/// How a crowd is made by script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowding {
    /// One after the other.
    OneByOne,
    /// Four at a time.
    FourAtOnce,
}

impl Crowding {
    /// Its name as a peer's.
    pub(super) fn name(self) -> &'static str {
        match self {
            Crowding::OneByOne => "script, one after another",
            Crowding::FourAtOnce => "script, four at once",
        }
    }
}

const SCRIPT: &str = include_str!("script.sh");
const VIRT_INSTALL: &str = include_str!("virt-install.sh");
const VAGRANTFILE: &str = include_str!("Vagrantfile");

/// What libvirt's package sets up as the network `default`.
const DEFAULT_NETWORK: &str = "<network><name>default</name><forward mode='nat'/>\
    <bridge name='virbr0' stp='on' delay='0'/><ip address='192.168.122.1' netmask='255.255.255.0'>\
    <dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>";

const PATIENCE: Duration = Duration::from_secs(180);

impl Peers {
    /// A box with the current images of `images`, ready for each peer.
    pub(super) fn start(images: &Path) -> Result<Peers> {
        let mut lab = Lab::temporary("bench-peers")?.only(&["libvirtd"]);
        copy_images(images, &lab.state().join("images"))?;
        for (file, text) in [
            ("script.sh", SCRIPT),
            ("virt-install.sh", VIRT_INSTALL),
            ("default.xml", DEFAULT_NETWORK),
        ] {
            fs::write(lab.dir().join(file), text).with_context(|| format!("write {file}"))?;
        }
        lab.start()?;
        let peers = Peers { lab, rounds: AtomicU8::new(0) };
        peers.lab.enter(&["mkdir", "-p", "/run/nonstop/agent"])?;
        peers.lab.enter(&["virsh", "-q", "net-create", &peers.path("default.xml")])?;
        Ok(peers)
    }

    fn init(&self) -> Result<u32> {
        Ok(self.lab.lab_box()?.init())
    }

    fn path(&self, name: &str) -> String {
        self.lab.dir().join(name).display().to_string()
    }

    /// The bare script: the same calls with the same XML as ours made from it in `ours`.
    pub(super) fn script(&self, machine: &Description, ours: &Path) -> Result<Times> {
        let folder = self.prepare(machine, ours, "one")?;
        let script = self.path("script.sh");
        let start = Instant::now();
        let mut made = self.begin(&["sh", &script, &folder.display().to_string()], "script")?;
        let times = self.watch(start, || Some(machine.address))?;
        made.done()?;
        self.clear()?;
        Ok(times)
    }

    /// All of `machines` by script; gives the time until all run.
    pub(super) fn script_crowd(
        &self,
        machines: &[Description],
        ours: &Path,
        how: Crowding,
    ) -> Result<Duration> {
        let mut line = match how {
            Crowding::OneByOne => {
                format!("for m; do sh {} \"$m\" || exit 1; done", self.path("script.sh"))
            }
            Crowding::FourAtOnce => {
                format!("printf '%s\\n' \"$@\" | xargs -P4 -n1 sh {}", self.path("script.sh"))
            }
        };
        line.insert_str(0, "set -e; ");
        let mut words = vec!["sh".to_owned(), "-c".into(), line, "sh".into()];
        for (n, machine) in machines.iter().enumerate() {
            words.push(self.prepare(machine, ours, &n.to_string())?.display().to_string());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let start = Instant::now();
        let mut made = self.begin(&words, "script")?;
        let running = look::running(self.init()?, machines.len(), start, PATIENCE)?;
        made.done()?;
        self.clear()?;
        Ok(running)
    }

    /// Writes what the script needs to make `machine` as ours made it in `ours`.
    fn prepare(&self, machine: &Description, ours: &Path, name: &str) -> Result<PathBuf> {
        let folder = self.lab.dir().join("machines").join(name);
        fs::create_dir_all(&folder)?;
        let here = self.lab.dir().display().to_string();
        let domain = machine.domain.replace(&ours.display().to_string(), &here);
        let owner = between(&domain, "<label>+", ":").context("the guest has no uid")?;
        let disk = between(&domain, "<source file='", "'").context("the guest has no disk")?;
        let kernel = between(&domain, "<kernel>", "<").context("the guest has no kernel")?;
        let base = Path::new(kernel).with_file_name("disk.qcow2");
        let variables = [("DISK", disk), ("BASE", &base.display().to_string()), ("OWNER", owner)];
        write_variables(&folder, &variables)?;
        fs::write(folder.join("domain.xml"), &domain)?;
        fs::write(folder.join("network.xml"), &machine.network)?;
        Ok(folder)
    }

    /// virt-install, importing an overlay.
    pub(super) fn virt_install(&self, machine: &Description) -> Result<Times> {
        let folder = self.lab.dir().join("virt-install");
        fs::create_dir_all(&folder)?;
        let disk = folder.join("disk.qcow2");
        let mac = self.fresh_mac();
        let disk_path = disk.display().to_string();
        let guest = self.guest(machine, &mac)?;
        let mut variables: Vec<(&str, &str)> =
            guest.iter().map(|(name, value)| (*name, value.as_str())).collect();
        variables.push(("DISK", &disk_path));
        write_variables(&folder, &variables)?;
        let script = self.path("virt-install.sh");
        let start = Instant::now();
        let words = ["sh", &script, &folder.display().to_string()];
        let mut made = self.begin(&words, "virt-install")?;
        let times = self.watch(start, || self.lease(&mac))?;
        made.done()?;
        self.clear()?;
        fs::remove_file(disk).context("remove virt-install's overlay")?;
        Ok(times)
    }

    /// Makes the box that vagrant starts from.
    pub(super) fn vagrant_box(&self) -> Result<()> {
        let folder = self.lab.dir().join("vagrant");
        let (contents, project) = (folder.join("box"), folder.join("project"));
        fs::create_dir_all(&contents)?;
        fs::create_dir_all(&project)?;
        let image = image(&self.lab.state().join("images"), "desktop")?;
        let metadata = serde_json::json!({
            "provider": "libvirt", "format": "qcow2",
            "virtual_size": manifest(&image)?["disk_bytes"].as_u64().unwrap_or_default().div_ceil(1 << 30),
        });
        fs::write(contents.join("metadata.json"), metadata.to_string())?;
        fs::write(contents.join("Vagrantfile"), "Vagrant.configure(\"2\") { |config| }\n")?;
        fs::hard_link(image.join("disk.qcow2"), contents.join("box.img"))
            .context("put the image into vagrant's box")?;
        let file = folder.join("desktop.box").display().to_string();
        let contents = contents.display().to_string();
        Place::here().run(&["tar", "-C", &contents, "-cf", &file, "."])?;
        let words = self.vagrant(&[], &["box", "add", "--name", "desktop", &file]);
        self.begin(&words.iter().map(String::as_str).collect::<Vec<_>>(), "vagrant")?.done()?;
        fs::remove_file(file)?;
        // Only now: `box add` would evaluate it, and it asks for a guest's variables.
        fs::write(project.join("Vagrantfile"), VAGRANTFILE).context("write the Vagrantfile")
    }

    /// `vagrant up`. Ours has no sshd in the guest, so vagrant would wait for it for ever: it is
    /// ended as soon as RDP answers.
    pub(super) fn vagrant_up(&self, machine: &Description) -> Result<Times> {
        let mac = self.fresh_mac();
        let guest = self.guest(machine, &mac)?;
        let words = self.vagrant(&guest, &["up", "--provider", "libvirt", "--no-provision"]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let start = Instant::now();
        let made = self.begin(&words, "vagrant")?;
        let times = self.watch(start, || self.lease(&mac))?;
        made.end()?;
        let words = self.vagrant(&guest, &["destroy", "-f"]);
        self.begin(&words.iter().map(String::as_str).collect::<Vec<_>>(), "vagrant")?.done()?;
        look::none_left(self.init()?, PATIENCE)?;
        Ok(times)
    }

    fn vagrant(&self, guest: &[(&'static str, String)], words: &[&str]) -> Vec<String> {
        let home = self.path("vagrant");
        let mut all: Vec<String> = vec!["env".into(), "-C".into(), format!("{home}/project")];
        all.push(format!("HOME={home}"));
        all.push(format!("VAGRANT_HOME={home}/home"));
        all.push("VAGRANT_CHECKPOINT_DISABLE=1".into());
        all.extend(guest.iter().map(|(name, value)| format!("{name}={value}")));
        all.push("vagrant".into());
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all
    }

    /// What virt-install and vagrant are told about the guest that ours is.
    fn guest(&self, machine: &Description, mac: &str) -> Result<Vec<(&'static str, String)>> {
        let image = image(&self.lab.state().join("images"), "desktop")?;
        let manifest = manifest(&image)?;
        let file = |name: &str| image.join(name).display().to_string();
        let domain = &machine.domain;
        let tag = |before, after| between(domain, before, after).map(String::from);
        let memory: u64 = tag("<memory unit='KiB'>", "<")
            .and_then(|kib| kib.parse().ok())
            .context("the guest's memory")?;
        Ok(vec![
            ("TYPE", tag("<domain type='", "'").context("the guest's type")?),
            ("MEMORY", (memory >> 10).to_string()),
            ("VCPUS", tag("<vcpu placement='static'>", "<").context("the guest's vcpus")?),
            ("BASE", file("disk.qcow2")),
            ("KERNEL", file("kernel")),
            ("INITRD", file("initrd")),
            ("CMDLINE", cmdline(&manifest)?),
            ("MAC", mac.into()),
        ])
    }

    /// A new machine is a new one to DHCP too, so each round has a MAC of its own.
    fn fresh_mac(&self) -> String {
        format!("52:54:00:77:00:{:02x}", self.rounds.fetch_add(1, Ordering::Relaxed))
    }

    /// The address that a network of libvirt's gave to `mac`.
    fn lease(&self, mac: &str) -> Option<Ipv4Addr> {
        let files = fs::read_dir(self.lab.dir().join("libvirt/lib/dnsmasq")).ok()?;
        let statuses = files.flatten().map(|entry| entry.path());
        statuses.filter(|path| path.extension().is_some_and(|e| e == "status")).find_map(|path| {
            let leases: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
            let lease = leases.as_array()?.iter().find(|lease| lease["mac-address"] == mac)?;
            lease["ip-address"].as_str()?.parse().ok()
        })
    }

    fn begin(&self, words: &[&str], name: &str) -> Result<Begun> {
        let (program, args) = words.split_first().context("an empty command")?;
        let log = self.lab.dir().join("log").join(format!("{name}.log"));
        let out = fs::File::create(&log).with_context(|| format!("open {}", log.display()))?;
        let inside = self.lab.inside()?;
        // `nsenter` waits for the program, and would leave it behind if killed alone.
        let child = inside
            .command("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .args(args)
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Begun { name: name.into(), child, log })
    }

    fn watch(
        &self,
        start: Instant,
        mut address: impl FnMut() -> Option<Ipv4Addr> + Send,
    ) -> Result<Times> {
        let init = self.init()?;
        let running = look::running(init, 1, start, PATIENCE)?;
        let rdp = look::rdp_answers(init, start, PATIENCE, || {
            address().map(|address| SocketAddr::from((address, 3389)))
        })?;
        Ok(Times { running, rdp })
    }

    /// Removes what the scripts made.
    fn clear(&self) -> Result<()> {
        let line = "virsh -q list --name | xargs -r -n1 virsh -q destroy >/dev/null
            for net in $(virsh -q net-list --name); do
                [ \"$net\" = default ] || virsh -q net-destroy \"$net\" >/dev/null
            done";
        self.lab.enter(&["sh", "-c", line])?;
        look::none_left(self.init()?, PATIENCE)?;
        match fs::remove_dir_all(self.lab.state().join("machines")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).context("remove the script's overlays")
            }
            _ => Ok(()),
        }
    }
}

/// A peer's command that was begun.
struct Begun {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Begun {
    /// Waits for its end. Errors: it failed, with what it said.
    fn done(&mut self) -> Result<()> {
        let status = self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        if !status.success() {
            let said = nonstop_testkit::labbox::tail(&self.log, 20);
            bail!("{} ended with {status}:\n{said}", self.name);
        }
        Ok(())
    }

    /// Ends it.
    fn end(mut self) -> Result<()> {
        let child = self.child.id();
        let within = fs::read_to_string(format!("/proc/{child}/task/{child}/children"))
            .with_context(|| format!("look for {} in its box", self.name))?;
        self.child.kill().with_context(|| format!("end {}", self.name))?;
        self.child.wait()?;
        let within: Vec<u32> = within.split_whitespace().flat_map(str::parse).collect();
        look::until("its end", Instant::now(), PATIENCE, Duration::from_millis(10), || {
            Ok(within.iter().all(|pid| is_gone(*pid)))
        })
        .map(drop)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The image's command line with the word that asks for the guest's own RDP server.
fn cmdline(manifest: &Value) -> Result<String> {
    let of_image = manifest["cmdline"].as_str().context("the image's cmdline")?;
    Ok(format!("{of_image} nonstop.rdp=guest"))
}

fn manifest(image: &Path) -> Result<Value> {
    let path = image.join("image.json");
    let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
}

/// Writes `machine`: a file of variables for a shell.
fn write_variables(folder: &Path, variables: &[(&str, &str)]) -> Result<()> {
    let lines: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("{name}='{}'\n", value.replace('\'', "'\\''")))
        .collect();
    fs::write(folder.join("machine"), lines.concat()).context("write a machine's variables")
}

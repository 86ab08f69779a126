//! A reader for cards: the real pcscd with the virtual reader of vsmartcard, on a PC or on a
//! lab's host, and cards that are put into it and pulled out.
//!
//! pcscd has one socket a machine, in /run: a PC gets a mount namespace with a /run/pcscd of
//! its own, a box has its own /run anyway. The virtual reader has two slots.

use crate::{
    card::{CardFile, vpcd},
    lab::Lab,
    labbox::{built_programs, tail},
    net::Street,
    pc::Pc,
    place::{Place, wait_for},
    spec::PROGRAMS,
    ssh::{self, Forward, Tunnel},
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The PKCS#11 module with which stock programs reach a card; ssh wants its whole path.
///
/// Errors: opensc-pkcs11 is not installed.
pub fn pkcs11() -> Result<String> {
    let folders = fs::read_dir("/usr/lib").context("read /usr/lib")?.flatten();
    let found = folders.map(|folder| folder.path().join("opensc-pkcs11.so")).find(|p| p.exists());
    Ok(found.context("opensc-pkcs11 is not installed")?.display().to_string())
}

/// Slots of the reader, by the names that pcscd gives them.
pub const SLOTS: [&str; 2] = ["Virtual PCD 00 00", "Virtual PCD 00 01"];

/// A reader. Dropping it ends its pcscd.
#[derive(Debug)]
pub struct Reader {
    place: Place,
    testcard: PathBuf,
    dir: PathBuf,
    pcscd: Option<Child>,
    _mounts: Option<Child>,
}

/// What goes wrong with a card that is put in.
pub type Faults = vpcd::Faults;

impl Reader {
    /// A reader at a PC; see [`Reader::place`].
    pub fn of_pc(pc: &Pc) -> Result<Reader> {
        Reader::in_network(pc.holder(), &pc.folder().join("reader"))
    }

    /// A reader in the network namespace of the process `holder`; its log goes into `dir`.
    pub fn in_network(holder: u32, dir: &Path) -> Result<Reader> {
        let mut mounts = Command::new("nsenter")
            .args(["-t", &holder.to_string(), "-n", "--", "unshare", "-m", "--", "sh", "-c"])
            .arg("mkdir -p /run/pcscd && mount -t tmpfs tmpfs /run/pcscd && echo up && exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("make a mount namespace")?;
        let said = mounts.stdout.take().context("hear the namespace's holder")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        if line.trim() != "up" {
            mounts.wait()?;
            bail!("making a mount namespace failed: root is needed");
        }
        let place = Place::with_mounts(mounts.id());
        let testcard = built_programs()?.join("nonstop-testcard");
        Reader::start_in(place, testcard, dir, Some(mounts))
    }

    /// A reader in the caller's own namespaces, which nobody else may have: see [`alone`].
    pub fn here(dir: &Path) -> Result<Reader> {
        Reader::start_in(Place::here(), built_programs()?.join("nonstop-testcard"), dir, None)
    }

    /// The reader of a lab's host, which is on.
    pub fn of_lab(lab: &Lab) -> Result<Reader> {
        let place = lab.inside()?;
        place.line("mkdir -p /run/pcscd")?;
        let testcard = Path::new(PROGRAMS).join("nonstop-testcard");
        Reader::start_in(place, testcard, &lab.dir().join("reader"), None)
    }

    fn start_in(
        place: Place,
        testcard: PathBuf,
        dir: &Path,
        mounts: Option<Child>,
    ) -> Result<Reader> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let mut reader = Reader { place, testcard, dir: dir.into(), pcscd: None, _mounts: mounts };
        reader.start()?;
        Ok(reader)
    }

    /// Where programs see this reader.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Opens a tunnel from `pc`, whose reader this is, with the card in it; returns when its ports
    /// listen.
    ///
    /// Errors: the gateway or the card refused, with what ssh said.
    pub fn tunnel(
        &self,
        pc: &Pc,
        pin: &str,
        host_key: &str,
        forwards: &[Forward],
    ) -> Result<Tunnel> {
        let known_hosts = self.dir.join("known_hosts");
        ssh::pin(&known_hosts, host_key)?;
        let gateway = (Street::GATEWAY, 22);
        let entry = ssh::card_entry("gateway", pc.account(), gateway, &pkcs11()?, &known_hosts);
        let config = self.dir.join("ssh_config");
        fs::write(&config, entry).with_context(|| format!("write {}", config.display()))?;
        let askpass = ssh::askpass(&self.dir.join("askpass"), pin)?;
        let log = self.dir.join("ssh.log");
        let holder = pc.holder().to_string();
        let asking = Some(askpass.as_path());
        Tunnel::open_asking(&self.place, &holder, &config, "gateway", forwards, &log, asking)
    }

    /// Starts pcscd after [`Reader::kill`]; returns when it knows its reader.
    pub fn start(&mut self) -> Result<()> {
        self.start_with("/etc/reader.conf.d")?;
        let known = || Ok(self.slots()?.get(1).map(drop));
        wait_for("the virtual reader", Duration::from_secs(20), known)
            .with_context(|| format!("pcscd said: {}", tail(&self.log(), 8)))
    }

    /// Starts pcscd without any reader: it was unplugged.
    pub fn start_without_readers(&mut self) -> Result<()> {
        let none = self.dir.join("none");
        fs::create_dir_all(&none).with_context(|| format!("make {}", none.display()))?;
        self.start_with(&none.display().to_string())?;
        // Programs say "no readers" of a service that is not there yet, too: its socket has to listen.
        wait_for("pcscd to listen", Duration::from_secs(60), || {
            let sockets = self.place.output(&["cat", "/proc/net/unix"])?;
            let sockets = String::from_utf8_lossy(&sockets.stdout).into_owned();
            let mut sockets = sockets.lines();
            let listens = |line: &str| line.ends_with(SOCKET) && line.contains(" 00010000 ");
            Ok(sockets.any(listens).then_some(()))
        })
    }

    fn start_with(&mut self, readers: &str) -> Result<()> {
        let log = fs::File::create(self.log()).context("open pcscd's log")?;
        let _of_a_killed_one = self.place.output(&["rm", "-f", SOCKET, PID])?;
        let mut command = self.place.command("setpriv");
        command.args(["--pdeathsig", "KILL", "pcscd", "--foreground", "--config", readers]);
        let child = command.stdout(log.try_clone()?).stderr(log).spawn().context("start pcscd")?;
        self.pcscd = Some(child);
        Ok(())
    }

    /// Kills pcscd, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.pcscd.take().context("pcscd does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.dir.join("pcscd.log")
    }

    /// Whether each slot holds a card.
    pub fn slots(&self) -> Result<Vec<bool>> {
        let said = self.place.run(&["opensc-tool", "-l"])?;
        Ok(occupied(&said))
    }

    /// Puts `card` into the first slot; returns when pcscd has seen it.
    pub fn insert(&self, card: &CardFile) -> Result<Inserted> {
        self.insert_faulty(0, card, Faults::default())
    }

    /// Puts `card` into `slot`, where `faults` happen to it.
    pub fn insert_faulty(&self, slot: u16, card: &CardFile, faults: Faults) -> Result<Inserted> {
        let index = usize::from(slot);
        // The reader has to see the card before this one go.
        let is = |full: bool| {
            wait_for("the reader to look", Duration::from_secs(10), || {
                Ok((self.slots()?.get(index) == Some(&full)).then_some(()))
            })
        };
        is(false)?;
        let log = fs::File::options().create(true).append(true).open(self.dir.join("card.log"));
        let log = log.context("open the card's log")?;
        let mut command = self.place.command("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.testcard).arg("--card").arg(card.path());
        command.args(["--port", &(vpcd::PORT + slot).to_string()]);
        command.args(["--slow", &faults.slow_ms.to_string()]);
        for (word, count) in [("--pull-at", faults.pull_at), ("--lose-answer", faults.lose_answer)]
        {
            command.args(count.into_iter().flat_map(|n| [word.into(), n.to_string()]));
        }
        let child =
            command.stdout(log.try_clone()?).stderr(log).spawn().context("put a card in")?;
        let inserted = Inserted { child };
        is(true)?;
        Ok(inserted)
    }
}

const SOCKET: &str = "/run/pcscd/pcscd.comm";
const PID: &str = "/run/pcscd/pcscd.pid";

impl Drop for Reader {
    fn drop(&mut self) {
        for child in self.pcscd.iter_mut().chain(&mut self._mounts) {
            let _ended_already = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// A card in a reader; dropped, it is pulled out.
#[derive(Debug)]
pub struct Inserted {
    child: Child,
}

impl Inserted {
    /// Whether it is still in: a fault may have pulled it out.
    pub fn is_in(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Inserted {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Runs the test `name` of the running test program in a process with namespaces of its own,
/// where it finds itself [`Alone`]: a program speaks with one pcscd in its life.
///
/// Errors: the test failed there; it was said on stderr.
pub fn alone(name: &str) -> Result<Alone> {
    if std::env::var_os(ALONE).is_some() {
        return Ok(Alone::Here);
    }
    let status = Command::new("unshare")
        .args(["-n", "-m", "--kill-child", "--fork", "--", "sh", "-c"])
        .arg("mkdir -p /run/pcscd && mount -t tmpfs tmpfs /run/pcscd && ip link set lo up && exec \"$@\"")
        .arg("sh")
        .arg(std::env::current_exe().context("find the running program")?)
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .stdin(Stdio::null())
        .status()
        .context("run unshare")?;
    if !status.success() {
        bail!("{name} ended with {status} in namespaces of its own");
    }
    Ok(Alone::Done)
}

const ALONE: &str = "NONSTOP_TEST_ALONE";

/// Where a test finds itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alone {
    /// In namespaces of its own: it is to do its work.
    Here,
    /// Outside: it has been done.
    Done,
}

/// What `opensc-tool -l` tells of our slots.
fn occupied(table: &str) -> Vec<bool> {
    let rows = table.lines().filter(|line| line.contains("Virtual PCD"));
    rows.map(|row| row.split_whitespace().nth(1) == Some("Yes")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_readers_is_read() {
        let table = "# Detected readers (pcsc)\nNr.  Card  Features  Name\n\
                     0    Yes             Virtual PCD 00 00\n1    No              Virtual PCD 00 01\n";
        assert_eq!(occupied(table), [true, false]);
    }
}

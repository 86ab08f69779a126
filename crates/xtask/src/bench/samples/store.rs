//! A data domain without its daemon: days that its publisher shows, and the server that gives them.

use super::super::routed::Routed;
use crate::{run::run, workspace};
use anyhow::{Context, Result, bail, ensure};
use nonstop_testkit::{
    interrupt,
    place::{Place, wait_for},
};
use std::{
    fs::{self, File, Permissions},
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

const DOMAIN: &str = "bench";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 3);
pub(super) const SERVER: SocketAddrV4 = SocketAddrV4::new(ADDRESS, 80);
/// Users that nobody else is.
const DATA: u32 = 64_103;
const SAMPLES: u32 = 64_104;
/// Days of the store, and samples of each.
pub(super) const DAYS: u64 = 10;
pub(super) const OF_A_DAY: u64 = 10_000;
/// Lines of each report besides the usual ones.
const LINES: u32 = 50;

/// What is measured.
#[derive(Debug)]
pub(super) struct Programs {
    samples: PathBuf,
    publish: PathBuf,
}

impl Programs {
    /// Those of the release build.
    pub(super) fn built() -> Result<Programs> {
        let built = workspace::target()?.join("release");
        Ok(Programs {
            samples: built.join("nonstop-samples"),
            publish: built.join("examples/publish"),
        })
    }

    /// Writes the tar of a day to `out`; its samples are as long as a lab's where `long` says so.
    pub(super) fn generate(&self, day: &str, seed: u64, long: bool, out: &Path) -> Result<()> {
        let mut command = Command::new(&self.samples);
        let (samples, seed, lines) = (OF_A_DAY.to_string(), seed.to_string(), LINES.to_string());
        command.args(["generate", "--day", day, "--samples", &samples, "--seed", &seed]);
        command.args(["--lines", &lines]);
        if long {
            command.args(["--longest", "512000"]);
        }
        run("nonstop-samples generate", command.arg("--out").arg(out))
    }
}

/// The day with this number.
pub(super) fn day(number: u64) -> String {
    format!("2024-11-{:02}", number + 1)
}

/// The folder of a data domain, until it is dropped.
pub(super) struct Domain<'a> {
    pub(super) programs: &'a Programs,
    dir: PathBuf,
}

impl<'a> Domain<'a> {
    /// An empty one.
    pub(super) fn new(programs: &'a Programs) -> Result<Domain<'a>> {
        let dir = workspace::target()?.join("bench-samples");
        // What a killed run has left.
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        fs::create_dir_all(dir.join("run/data"))?;
        fs::create_dir(dir.join("state"))?;
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        let domain = Domain { programs, dir };
        let at = domain.dir.display();
        let built = programs.samples.parent().context("programs are in a folder")?;
        let lab = format!(
            "version: 1\nname: bench\nstate: {at}/state\nrun: {at}/run\nprograms: {}\ndata_domains:\n  \
             {DOMAIN}:\n    interface: nsd0\n    network: 10.80.0.0/24\n    servers:\n      \
             samples: {{ address: {ADDRESS}, tcp: [80] }}\n",
            built.display()
        );
        fs::write(domain.lab(), lab)?;
        domain.publish(None)?;
        Ok(domain)
    }

    fn lab(&self) -> PathBuf {
        self.dir.join("lab.yaml")
    }

    /// Where something of the bench's own may lie, on the same file system.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where the tar of `day` arrives.
    pub(super) fn arrives(&self, day: &str) -> PathBuf {
        self.dir.join(format!("state/data/{DOMAIN}/inbox/pcap/{day}.samples.tar"))
    }

    /// Publishes what has arrived of `day`; gives how long that took. Without a day nothing but the
    /// folders is made.
    pub(super) fn publish(&self, day: Option<&str>) -> Result<Duration> {
        let (data, samples) = (DATA.to_string(), SAMPLES.to_string());
        let mut command = Command::new(&self.programs.publish);
        command.arg("--lab").arg(self.lab()).args(["--domain", DOMAIN]);
        command.args(["--data", &data, "--samples", &samples]);
        command.args(day.map(|day| format!("{day}.samples.tar")));
        let output = command.stderr(Stdio::inherit()).output().context("start the publisher")?;
        ensure!(output.status.success(), "the publisher ended with {}", output.status);
        let said = String::from_utf8_lossy(&output.stdout);
        let Some(day) = day else { return Ok(Duration::ZERO) };
        let told: serde_json::Value = serde_json::from_str(&said).context("hear the publisher")?;
        let shown = self.dir.join(format!("state/data/{DOMAIN}/published/samples/{day}/index.db"));
        ensure!(shown.exists(), "{day} is not shown");
        let seconds = told["seconds"].as_f64().context("it says no time")?;
        Ok(Duration::from_secs_f64(seconds))
    }
}

impl Drop for Domain<'_> {
    fn drop(&mut self) {
        let _left_for_the_next_run = fs::remove_dir_all(&self.dir);
    }
}

/// The published days and their server, until they are dropped.
pub(super) struct Store<'a> {
    server: Option<Child>,
    pub(super) routed: Routed,
    domain: Domain<'a>,
}

impl<'a> Store<'a> {
    /// An empty one, without a server.
    pub(super) fn new(programs: &'a Programs) -> Result<Store<'a>> {
        Ok(Store { server: None, routed: Routed::new()?, domain: Domain::new(programs)? })
    }

    /// Publishes all days and starts the server; gives the hashes of all samples by their numbers.
    pub(super) fn fill(&mut self) -> Result<Vec<String>> {
        let mut hashes = Vec::new();
        for number in 0..DAYS {
            interrupt::check()?;
            let day = day(number);
            let tar = self.domain.arrives(&day);
            self.domain.programs.generate(&day, number * OF_A_DAY, false, &tar)?;
            let listed = Place::here().run(&["tar".as_ref(), "-tf".as_ref(), tar.as_os_str()])?;
            let of_samples = listed.lines().filter_map(|path| path.strip_prefix("samples/"));
            hashes.extend(of_samples.map(String::from));
            self.domain.publish(Some(&day))?;
        }
        ensure!(hashes.len() as u64 == DAYS * OF_A_DAY, "a sample for each number");
        self.serve()?;
        Ok(hashes)
    }

    fn serve(&mut self) -> Result<()> {
        let at = self.domain.dir.display();
        let mut users = fs::read_to_string("/etc/passwd")?;
        for (name, id) in [("nonstop-data", DATA), ("nonstop-samples", SAMPLES)] {
            // The first one of a name counts.
            users.insert_str(0, &format!("{name}:x:{id}:{id}::/:/usr/sbin/nologin\n"));
        }
        fs::write(self.domain.beside("passwd"), users)?;
        let script = format!(
            "mount --make-rprivate / && mount --bind {at}/passwd /etc/passwd && \
             exec taskset -c 0,1 {} serve --server samples --lab {at}/lab.yaml --domain {DOMAIN}",
            self.domain.programs.samples.display()
        );
        let log = File::create(self.domain.beside("server.log"))?;
        let mut command = self.routed.servers().command("setpriv");
        // It ends with us, however we end.
        let words = ["--pdeathsig", "KILL", "--", "unshare", "-m", "--", "sh", "-c", &script];
        let command = command.args(words).stdin(Stdio::null());
        let command = command.stdout(File::create(self.domain.beside("fetches"))?).stderr(log);
        self.server = Some(command.spawn().context("start the server")?);
        let place = self.routed.servers();
        let listens = wait_for("the server to listen", Duration::from_secs(20), || {
            Ok(place.line("ss -Hltn")?.contains(":80 ").then_some(()))
        });
        match listens {
            Ok(()) => Ok(()),
            Err(e) => {
                let log = fs::read_to_string(self.domain.beside("server.log"))?;
                bail!("{e:#}: {log}")
            }
        }
    }
}

impl Drop for Store<'_> {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ended_already = server.kill();
            let _reaped = server.wait();
        }
    }
}

//! A whole lab: its folder, its `lab.yaml`, its box, and the street outside.
//!
//! ```no_run
//! # use nonstop_testkit::lab::Lab;
//! # fn main() -> anyhow::Result<()> {
//! let mut lab = Lab::temporary("two-researchers")?.images("target/images/state/images")?;
//! lab.start()?;
//! let alice = lab.researcher("alice", 10)?;
//! lab.power_cut()?;
//! lab.start()?;                 // the same host, switched on again
//! # Ok(()) }
//! ```

use crate::{
    control::{Request, ServiceStatus},
    labbox::{LabBox, built_programs},
    net::{Cable, Street},
    pc::Pc,
    place::{Place, wait_for},
    services,
    spec::{BoxSpec, PROGRAMS},
    turn::Turn,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// What lies outside the box.
#[derive(Debug)]
enum Outside {
    /// A switch with PCs, as in tests.
    Street(Street),
    /// The user's own machine, as in a demo.
    Machine(Cable),
}

/// A lab that can be started, cut off and started again over the same folder.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    name: String,
    programs: PathBuf,
    templates: PathBuf,
    libvirt_cache: PathBuf,
    memory_mib: u64,
    machines: u32,
    reserve_mib: u64,
    data_domains: String,
    gateway_yaml: String,
    more_yaml: String,
    services: Vec<&'static str>,
    outside: Outside,
    lifeline: bool,
    running: Option<LabBox>,
    /// Of a lab that is removed at its end; let go then.
    temporary: Option<Turn>,
}

/// The data domains of every lab: what the shipped templates reach.
pub const DATA_DOMAINS: &str = "\
data_domains:
  intermediate:
    interface: nsd0
    network: 10.80.0.0/24
    servers:
      live: { address: 10.80.0.2, tcp: [7000] }
      pcap: { address: 10.80.0.3, tcp: [80] }
      rdb: { address: 10.80.0.4, tcp: [5432] }
      samples: { address: 10.80.0.5, tcp: [80] }
      reports: { address: 10.80.0.6, tcp: [80] }
  mws:
    interface: nsd1
    network: 10.81.0.0/24
    servers:
      pcap: { address: 10.81.0.3, tcp: [80] }
      rdb: { address: 10.81.0.4, tcp: [5432] }
";

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// A lab whose state lies in `dir`, with a street outside. Nothing runs yet.
    pub fn new(dir: &Path) -> Result<Lab> {
        Lab::with(dir, Outside::Street(Street::new()?))
    }

    /// A lab whose state lies in `dir`, joined to the user's machine by one cable.
    pub fn on_this_machine(dir: &Path) -> Result<Lab> {
        let cable = Cable::choose(dir)?;
        Lab::with(dir, Outside::Machine(cable))
    }

    /// A lab in a new folder under the build's, removed with the lab unless a test failed.
    pub fn temporary(name: &str) -> Result<Lab> {
        let turn = Turn::take();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let labs =
            built_programs()?.parent().context("the build's folder has no parent")?.join("labs");
        if count == 0 {
            sweep(&labs);
        }
        let dir = labs.join(format!("{name}-{}-{count}", std::process::id()));
        let mut lab = Lab::new(&dir)?;
        lab.temporary = Some(turn);
        lab.services.retain(|service| *service != "data");
        Ok(lab)
    }

    fn with(dir: &Path, outside: Outside) -> Result<Lab> {
        let programs = built_programs()?;
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let repository = fs::canonicalize(repository).context("find the checkout")?;
        fs::create_dir_all(dir.join("state")).with_context(|| format!("make {}", dir.display()))?;
        let dir = fs::canonicalize(dir).context("find the lab's folder")?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let libvirt_cache = programs.join("libvirt-cache");
        Ok(Lab {
            name: dir.file_name().map(|n| n.to_string_lossy().into()).unwrap_or_default(),
            dir,
            templates: repository.join("templates"),
            programs,
            libvirt_cache,
            memory_mib: 4096,
            machines: 100,
            reserve_mib: 256,
            data_domains: DATA_DOMAINS.into(),
            more_yaml: String::new(),
            gateway_yaml: String::new(),
            services: services::ALL.to_vec(),
            outside,
            lifeline: true,
            running: None,
            temporary: None,
        })
    }

    /// Uses the environment templates in `folder` instead of the repository's.
    pub fn templates(mut self, folder: impl Into<PathBuf>) -> Lab {
        self.templates = folder.into();
        self
    }

    /// The name that `lab.yaml` gives the lab.
    pub fn named(mut self, name: &str) -> Lab {
        self.name = name.into();
        self
    }

    /// What may run at once.
    pub fn capacity(mut self, memory_mib: u64, machines: u32) -> Lab {
        (self.memory_mib, self.machines) = (memory_mib, machines);
        self
    }

    /// Free space that is kept on the disk.
    pub fn reserve(mut self, mib: u64) -> Lab {
        self.reserve_mib = mib;
        self
    }

    /// Other data domains than those that the shipped templates reach: `data_domains:` of `lab.yaml`.
    pub fn data_domains(mut self, lines: &str) -> Lab {
        self.data_domains = format!("{}\n", lines.trim_end());
        self
    }

    /// More lines of `lab.yaml`, such as `lease_seconds: 5`.
    pub fn yaml(mut self, lines: &str) -> Lab {
        self.more_yaml = format!("{}\n", lines.trim_end());
        self
    }

    /// More lines of `gateway:` in `lab.yaml`, such as `bandwidth_kbit: 10000`.
    pub fn gateway_yaml(mut self, lines: &[&str]) -> Lab {
        self.gateway_yaml = lines.iter().map(|line| format!("  {line}\n")).collect();
        self
    }

    /// Starts only these services with the box; the others on demand.
    pub fn only(mut self, services: &[&'static str]) -> Lab {
        self.services = services.into();
        self
    }

    /// Starts the servers of data domains, too, which a test's lab otherwise does without: two
    /// PostgreSQL each take seconds.
    pub fn with_data(mut self) -> Lab {
        self.services = services::ALL.to_vec();
        self
    }

    /// With a virtual reader at the lab's host, and a fresh test card in it: see
    /// [`services::READER`].
    pub fn with_reader(mut self) -> Lab {
        self.services.extend(services::READER);
        self
    }

    /// Puts the built images under `folder` (the layout of `STATE/images`) into the lab: as
    /// hard links where the file system allows, so that a gigabyte costs nothing.
    pub fn images(self, folder: impl AsRef<Path>) -> Result<Lab> {
        let folder = folder.as_ref();
        let target = self.state().join("images");
        fs::create_dir_all(&target)?;
        let from = format!("{}/.", folder.display());
        let to = target.display().to_string();
        let here = Place::here();
        if !here.output(&["cp", "-a", "--force", "--link", "--", &from, &to])?.status.success() {
            here.run(&["cp", "-a", "--force", "--reflink=auto", "--", &from, &to])?;
        }
        Ok(self)
    }

    /// Switches the lab's host on; returns when every service answers.
    ///
    /// Errors: a service does not come up, with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        self.power_on()?;
        self.running()?.wait_ready(Duration::from_secs(60))
    }

    /// Switches the lab's host on without waiting for its services.
    pub fn power_on(&mut self) -> Result<()> {
        if self.running.is_some() {
            bail!("the lab in {} runs already", self.dir.display());
        }
        fs::write(self.file(), self.lab_yaml()).context("write lab.yaml")?;
        let started = LabBox::start(self.spec()?)?;
        match &self.outside {
            Outside::Street(street) => street.plug("lab", started.init(), Street::GATEWAY)?,
            Outside::Machine(cable) => cable.lay(started.init())?,
        }
        self.running = Some(started);
        Ok(())
    }

    fn spec(&self) -> Result<BoxSpec> {
        Ok(BoxSpec {
            name: box_name(&self.dir),
            dir: self.dir.clone(),
            programs: self.programs.clone(),
            libvirt_cache: self.libvirt_cache.clone(),
            reachable: vec![self.dir.clone(), self.templates.clone()],
            users: services::USERS.map(|(name, uid)| (name.into(), uid)).into(),
            pam: vec![("nonstop-sshd".into(), services::pam()?)],
            services: services::all(&self.file(), &self.services),
            lifeline: self.lifeline,
        })
    }

    fn lab_yaml(&self) -> String {
        format!(
            "version: 1\nname: {}\nstate: {}\ntemplates: {}\nprograms: {PROGRAMS}\n\
             gateway:\n  address: {}\n  port: 22\n{}network:\n  pool: 10.77.0.0/16\n\
             capacity:\n  memory_mib: {}\n  machines: {}\n  reserve_mib: {}\nsoftware_keys: true\n\
             {}{}",
            self.name,
            self.state().display(),
            self.templates.display(),
            self.gateway(),
            self.gateway_yaml,
            self.memory_mib,
            self.machines,
            self.reserve_mib,
            self.data_domains,
            self.more_yaml,
        )
    }

    fn running(&self) -> Result<&LabBox> {
        self.running.as_ref().with_context(|| format!("the lab {} is off", self.dir.display()))
    }

    /// Cuts the power of the lab's host (`kill -9`); returns when nothing of it is left.
    pub fn power_cut(&mut self) -> Result<()> {
        self.running.take().context("the lab is off already")?.power_cut()?;
        // The kernel takes links away with the namespace, but in its own time.
        match &self.outside {
            Outside::Street(street) => street.unplug("lab"),
            Outside::Machine(cable) => cable.remove(),
        }
    }

    /// Folder of the lab.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The state folder of `lab.yaml`.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The lab's `lab.yaml`.
    pub fn file(&self) -> PathBuf {
        self.dir.join("lab.yaml")
    }

    /// Where our programs were built.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Address of the gateway as seen from outside.
    pub fn gateway(&self) -> Ipv4Addr {
        match &self.outside {
            Outside::Street(_) => Street::GATEWAY,
            Outside::Machine(cable) => cable.lab,
        }
    }

    /// The box.
    pub fn lab_box(&self) -> Result<&LabBox> {
        self.running()
    }

    /// Inside the lab's host.
    pub fn inside(&self) -> Result<Place> {
        Ok(self.running()?.inside())
    }

    /// The street outside; a demo has none.
    pub fn street(&self) -> Result<&Street> {
        match &self.outside {
            Outside::Street(street) => Ok(street),
            Outside::Machine(_) => bail!("a demo has no street"),
        }
    }

    /// Runs `words` on the lab's host and gives their output.
    pub fn enter(&self, words: &[&str]) -> Result<String> {
        self.inside()?.run(words)
    }

    /// Runs `nonstop --lab FILE WORDS --json` on the lab's host.
    ///
    /// Errors: exit code other than 0, with what it said; output that is not JSON.
    pub fn cli(&self, words: &[&str]) -> Result<serde_json::Value> {
        let output = self.cli_output(words)?;
        if !output.status.success() {
            bail!(
                "nonstop {} ended with {}: {}",
                words.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("nonstop {}: not JSON", words.join(" ")))
    }

    /// Runs `nonstop --lab FILE WORDS --json` on the lab's host, whatever comes out.
    pub fn cli_output(&self, words: &[&str]) -> Result<Output> {
        let program = format!("{PROGRAMS}/nonstop");
        let file = self.file().display().to_string();
        let mut all = vec![program.as_str(), "--lab", &file];
        all.extend(words);
        all.push("--json");
        self.inside()?.output(&all)
    }

    /// Runs the CLI, which must refuse; gives what it said.
    pub fn cli_refuses(&self, words: &[&str]) -> Result<String> {
        let output = self.cli_output(words)?;
        if output.status.success() {
            bail!("nonstop {} was not refused", words.join(" "));
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The state of every service.
    pub fn services(&self) -> Result<Vec<ServiceStatus>> {
        self.running()?.ask(&Request::Status)
    }

    /// Sends `signal` (9 is KILL) to a service; the box starts it again as systemd would.
    pub fn kill_service(&self, service: &str, signal: i32) -> Result<()> {
        self.running()?.ask(&Request::Signal { service: service.into(), signal }).map(drop)
    }

    /// Whether the box starts `service` again when it ends by itself; yes by default.
    pub fn auto_restart(&self, service: &str, on: bool) -> Result<()> {
        self.running()?.ask(&Request::AutoRestart { service: service.into(), on }).map(drop)
    }

    /// Ends a service in order and keeps it ended.
    pub fn stop_service(&self, service: &str) -> Result<()> {
        self.running()?.ask(&Request::Stop { service: service.into() }).map(drop)
    }

    /// Starts a service; returns when it answers.
    pub fn start_service(&self, service: &str) -> Result<()> {
        self.running()?.ask(&Request::Start { service: service.into() })?;
        self.running()?.wait_ready(Duration::from_secs(60))
    }

    /// What `service` has said so far.
    pub fn log(&self, service: &str) -> String {
        let path = self.dir.join("log").join(format!("{service}.log"));
        fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Asks `look` until it has an answer; see [`wait_for`].
    pub fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        wait_for(what, limit, look)
    }

    /// A PC on the street at 198.51.100.`host`, with a fresh key for `account`.
    pub fn pc(&self, account: &str, host: u8) -> Result<Pc> {
        Pc::on_street(self.street()?, &self.dir, account, host)
    }

    /// A PC and the account on the lab that belongs to its key.
    pub fn person(&self, account: &str, role: &str, host: u8) -> Result<Pc> {
        let edition = (role == "researcher").then_some("intermediate");
        self.enter_account(account, role, edition, host)
    }

    /// A researcher with a PC, of the edition `intermediate`.
    pub fn researcher(&self, account: &str, host: u8) -> Result<Pc> {
        self.person(account, "researcher", host)
    }

    /// A researcher of `edition` with a PC.
    pub fn researcher_of(&self, edition: &str, account: &str, host: u8) -> Result<Pc> {
        self.enter_account(account, "researcher", Some(edition), host)
    }

    fn enter_account(
        &self,
        account: &str,
        role: &str,
        edition: Option<&str>,
        host: u8,
    ) -> Result<Pc> {
        let pc = self.pc(account, host)?;
        let key = pc.public_key_file().display().to_string();
        let mut words = vec!["account", "add", account, "--role", role, "--full-name", account];
        words.extend(["--affiliation", "Test", "--source", "0.0.0.0/0", "--key-file", &key]);
        words.extend(edition.into_iter().flat_map(|edition| ["--edition", edition]));
        self.cli(&words)?;
        // Entered is soon, not at once: the gateway knows the account with the next pass.
        let keys = format!("/run/nonstop/gate/keys/{account}");
        wait_for("the gateway to know the account", Duration::from_secs(20), || {
            self.enter(&["cat", &keys]).map(Some)
        })?;
        Ok(pc)
    }
}

/// Name of the box of the lab in `dir`: always the same, so that a killed run's control group
/// is found again.
pub fn box_name(dir: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Empties the folders of labs whose process was killed; their logs stay for a look.
fn sweep(labs: &Path) {
    for entry in fs::read_dir(labs).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.rsplit('-').nth(1).and_then(|pid| pid.parse().ok());
        if pid.is_some_and(crate::init::is_gone) {
            // Whoever else sweeps may be faster.
            let _gone = fs::remove_dir_all(entry.path().join("state"));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Outside::Machine(cable) = &self.outside
            && let Err(e) = cable.remove()
        {
            eprintln!("nonstop-testkit: {e:#}");
        }
        if self.temporary.is_some() {
            if std::thread::panicking() {
                eprintln!("the lab's folder is kept: {}", self.dir.display());
            } else if let Err(e) = fs::remove_dir_all(&self.dir) {
                eprintln!("nonstop-testkit: remove {}: {e}", self.dir.display());
            }
        }
    }
}

//! Probes the isolation: makes canary environments, one of each template, lets `nonstop-probe` send
//! from them, and ends them again.
//!
//! Canaries are environments like any other, granted to an account that has no key, for minutes: what
//! makes, limits and ends a researcher's makes, limits and ends theirs, also when the daemon dies in
//! between. Only their image is another. Their disks are not kept.

use crate::{
    Clock,
    prover::{Prover, cut},
    reconciler::Wake,
    status::{Pass, Status, chain},
    templates,
};
use jiff::Timestamp;
use nonstop_host::{HostError, domain::card_socket, images::Images, network::namespace};
use nonstop_model::{
    AccountName, EnvironmentId, EnvironmentState, EnvironmentTemplate, ImageName, Lab,
    MachineProfile, Period, RdpPolicy, Role, TemplateName, capacity::Room,
};
use nonstop_reach::probe::{Canary, Domain, Order, Report};
use nonstop_store::{Db, Grant, GrantedMachine, NewAccount, StoreError};
use serde_json::json;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// The account that canaries belong to, and the image that they start from.
const NAME: &str = "canary";
/// How it is told from a person of that name.
const FULL_NAME: &str = "Canaries that probe the isolation";
/// The least memory with which the image starts, in MiB.
const MEMORY_MIB: u32 = 128;
/// How long canaries may live, whatever becomes of the daemon.
const PERIOD: Duration = Duration::from_secs(20 * 60);
/// How long they may take to start, on a host that is busy.
const STARTING: Duration = Duration::from_secs(180);
/// How long the frames may take.
const SENDING: Duration = Duration::from_secs(15 * 60);
/// The longest report that is read, in bytes.
const LONGEST: u64 = 64 << 20;
/// How many lines the trace keeps of what a probe found, and how long each may be.
const TOLD: usize = 10;
const LINE: usize = 300;

/// Why a probe came to no end.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// One is at work already.
    #[error("a probe is running already")]
    Busy,
    /// Somebody is called like the canaries.
    #[error("there is an account `{NAME}` that is not the canaries'")]
    Name,
    /// The image is not there.
    #[error("the image `{NAME}` of the canaries is not built")]
    Image,
    /// No template can be used.
    #[error("there is no template that could be probed")]
    NoTemplate,
    /// The templates cannot be read.
    #[error("read the templates")]
    Templates(#[from] templates::TemplateError),
    /// The database refused, or the lab has no room for them.
    #[error("grant the canaries")]
    Store(#[from] StoreError),
    /// What is wanted cannot be told.
    #[error("tell what is wanted")]
    Wanted(#[from] HostError),
    /// They did not start.
    #[error("{running} of {all} canaries ran within {} s", STARTING.as_secs())]
    Start {
        /// How many ran.
        running: usize,
        /// Of how many.
        all: usize,
    },
    /// The program that sends does not run, or failed.
    #[error("nonstop-probe: {0}")]
    Program(String),
}

impl ProbeError {
    /// How to mend it.
    pub fn help(&self) -> &str {
        match self {
            ProbeError::Busy => "wait for it: `nonstop reach prove --probe` follows it",
            ProbeError::Name => "remove that account, or rename it",
            ProbeError::Image => "run `nonstop image build canary`",
            ProbeError::NoTemplate => "see `nonstop template check`",
            ProbeError::Templates(_) => "see `nonstop template list` and `template check`",
            ProbeError::Store(_) => {
                "each canary needs 128 MiB: end an environment, or raise `capacity` in lab.yaml"
            }
            ProbeError::Wanted(e) => &e.help,
            ProbeError::Start { .. } => "look at `nonstop check` and at the log of nonstopd",
            ProbeError::Program(_) => {
                "install tcpdump, socat, iproute2 and util-linux; look at the log of nonstopd"
            }
        }
    }
}

/// A probe that is over.
#[derive(Debug)]
pub struct Probed {
    /// When it began.
    pub at: Timestamp,
    /// Who asked for it.
    pub by: String,
    /// What it showed, or why it showed nothing.
    pub outcome: Result<Report, ProbeError>,
}

/// A probe that is running.
#[derive(Debug, Clone)]
pub struct Running {
    /// Since when.
    pub since: Timestamp,
    /// How far it is, in words.
    pub how_far: String,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    last: Option<Arc<Probed>>,
}

/// Makes probes, one at a time.
pub struct Canaries {
    lab: Lab,
    room: Room,
    db: Arc<Db>,
    images: Arc<Images>,
    prover: Arc<Prover>,
    status: Arc<Status>,
    wake: Arc<Wake>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// What canaries are made from and by.
pub struct Parts {
    /// The lab.
    pub lab: Lab,
    /// What it has room for.
    pub room: Room,
    /// The database.
    pub db: Arc<Db>,
    /// The images.
    pub images: Arc<Images>,
    /// Who knows what is wanted.
    pub prover: Arc<Prover>,
    /// What the reconciler saw.
    pub status: Arc<Status>,
    /// The reconciler's bell.
    pub wake: Arc<Wake>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Canaries {
    /// Canaries made from these parts; those that an earlier daemon left are ended.
    pub fn new(parts: Parts) -> Canaries {
        let Parts { lab, room, db, images, prover, status, wake, clock } = parts;
        let state = Mutex::default();
        let canaries = Canaries { lab, room, db, images, prover, status, wake, clock, state };
        if let Err(e) = canaries.end_all() {
            error!("end canaries that were left: {}", chain(&e));
        }
        canaries
    }

    /// Begins a probe that `by` asked for.
    ///
    /// Errors: one is running.
    pub fn begin(self: &Arc<Self>, by: &str) -> Result<(), ProbeError> {
        let at = self.clock.now();
        {
            let mut state = self.lock();
            if state.running.is_some() {
                return Err(ProbeError::Busy);
            }
            state.running = Some(Running { since: at, how_far: "making canaries".into() });
        }
        let (this, by) = (Arc::clone(self), by.to_string());
        let work = move || {
            let outcome = this.probe(&by);
            this.tell(&by, &outcome);
            let mut state = this.lock();
            state.last = Some(Arc::new(Probed { at, by, outcome }));
            state.running = None;
        };
        if let Err(e) = thread::Builder::new().name("probe".into()).spawn(work) {
            self.lock().running = None;
            return Err(ProbeError::Program(format!("start a thread: {e}")));
        }
        Ok(())
    }

    /// The probe that is running.
    pub fn running(&self) -> Option<Running> {
        self.lock().running.clone()
    }

    /// The last one that came to an end, of this daemon.
    pub fn last(&self) -> Option<Arc<Probed>> {
        self.lock().last.clone()
    }

    fn probe(&self, by: &str) -> Result<Report, ProbeError> {
        let begun = self.clock.now();
        let made = self.make(by);
        self.wake.wake();
        let report = made.and_then(|ids| {
            let pass = self.until_ready(&ids)?;
            self.send(&self.order(&ids, &pass)?)
        });
        let ended = self.end_all();
        self.wake.wake();
        let mut report = report?;
        ended?;
        // What holds while somebody changes the network by hand says nothing about the lab.
        for drift in self.status.drifts().iter().filter(|drift| drift.at >= begun) {
            report.holds = false;
            let what = cut(&drift.what, LINE);
            report.differences.push(format!("somebody changed the network meanwhile: {what}"));
        }
        Ok(report)
    }

    /// Grants one environment of each template, and a second of the first that reaches a data domain,
    /// so that two of a kind are there.
    fn make(&self, by: &str) -> Result<Vec<EnvironmentId>, ProbeError> {
        let image: ImageName = NAME.parse().map_err(|_| ProbeError::Image)?;
        let (digest, manifest) = self.images.current(&image).map_err(|_| ProbeError::Image)?;
        if !manifest.card_ports {
            return Err(ProbeError::Image);
        }
        let templates = templates::list(&self.lab)?;
        let reaches = |t: &EnvironmentTemplate| t.domain.is_some() && !t.has_link();
        let second = templates.iter().find(|(_, template)| reaches(template));
        let wanted: Vec<(TemplateName, EnvironmentTemplate)> = templates
            .iter()
            .chain(second)
            .map(|(n, t)| (n.clone(), canary_of(t, &image)))
            .collect();
        if wanted.is_empty() {
            return Err(ProbeError::NoTemplate);
        }
        let account: AccountName = NAME.parse().map_err(|_| ProbeError::Name)?;
        let now = self.clock.now();
        let until = now.checked_add(PERIOD).unwrap_or(Timestamp::MAX);
        let known = self.db.read(|read| read.accounts())?;
        let known = known.into_iter().find(|known| known.name == account);
        if known.as_ref().is_some_and(|known| known.full_name != FULL_NAME) {
            return Err(ProbeError::Name);
        }
        let ids = self.db.write(by, now, |w| {
            if known.is_none() {
                w.add_account(&NewAccount {
                    name: account.clone(),
                    full_name: FULL_NAME.into(),
                    affiliation: self.lab.name.clone(),
                    role: Role::Researcher,
                    sources: Vec::new(),
                    keys: Vec::new(),
                })?;
            }
            let mut ids = Vec::new();
            for (template_name, template) in wanted {
                let machine = || GrantedMachine {
                    image: image.clone(),
                    image_digest: digest.clone(),
                    guest_user: None,
                    password: crate::service::requests::fresh_password(),
                    desktop_port: None,
                };
                let Ok(period) = Period::new(now, until) else { continue };
                ids.push(w.grant_environment(&Grant {
                    account: account.clone(),
                    template_name,
                    machines: template.machines.iter().map(|_| machine()).collect(),
                    template,
                    period,
                    pool: self.lab.network.pool,
                    room: self.room,
                })?);
            }
            w.trace("reach.probe", &"network", json!({ "begins": ids }))?;
            Ok::<_, StoreError>(ids)
        })?;
        info!("{} canary environments are granted", ids.len());
        Ok(ids)
    }

    /// Waits until all machines of `ids` run with all their rights.
    fn until_ready(&self, ids: &[EnvironmentId]) -> Result<Arc<Pass>, ProbeError> {
        let end = Instant::now() + STARTING;
        loop {
            let since = Instant::now();
            let pass = self.status.pass_after(since, Duration::from_secs(2));
            let (mut running, mut all, mut settled) = (0, 0, true);
            for id in ids {
                let environment = pass.as_ref().and_then(|pass| pass.desired.environments.get(id));
                let Some((pass, environment)) = pass.as_ref().zip(environment) else {
                    settled = false;
                    continue;
                };
                all += environment.machines.len();
                let runs = |id| pass.observed.machines.contains_key(&id);
                running += environment.machines.iter().filter(|m| runs(m.id)).count();
                settled &= !pass.changing.contains(id);
            }
            self.how_far(format!("{running} of {all} canaries run"));
            match pass {
                Some(pass)
                    if settled && all > 0 && running == all && self.may_speak(ids, &pass) =>
                {
                    return Ok(pass);
                }
                _ if Instant::now() > end => return Err(ProbeError::Start { running, all }),
                _ => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn may_speak(&self, ids: &[EnvironmentId], pass: &Pass) -> bool {
        let Ok(wanted) = self.prover.ground().wanted(pass) else { return false };
        let names = names(ids, pass);
        let ours = wanted.machines.iter().filter(|machine| names.contains(&machine.name));
        ours.clone().count() == names.len() && ours.into_iter().all(|machine| !machine.mute)
    }

    fn order(&self, ids: &[EnvironmentId], pass: &Pass) -> Result<Order, ProbeError> {
        let wanted = self.prover.ground().wanted(pass)?;
        let agent_dir = self.lab.run.join("agent");
        let mut canaries = Vec::new();
        for environment in ids.iter().filter_map(|id| pass.desired.environments.get(id)) {
            for machine in &environment.machines {
                let cards = 0..machine.networks.len();
                canaries.push(Canary {
                    machine: format!("{}/{}", environment.id, machine.role),
                    guns: cards.map(|card| card_socket(&agent_dir, machine.id, card)).collect(),
                });
            }
        }
        let here = self.lab.data_domains.iter().filter(|(_, domain)| domain.here);
        let domains = here.map(|(name, domain)| Domain {
            interface: domain.interface.clone(),
            namespace: namespace(name),
        });
        Ok(Order { wanted, canaries, domains: domains.collect() })
    }

    /// Runs the program that sends, in a process of its own: it reads captures.
    fn send(&self, order: &Order) -> Result<Report, ProbeError> {
        let failed = |what: &str| {
            let what = what.to_string();
            move |e: std::io::Error| ProbeError::Program(format!("{what}: {e}"))
        };
        let mut child = Command::new(self.lab.programs.join("nonstop-probe"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: what it has started ends with it, however it ends.
            .process_group(0)
            .spawn()
            .map_err(failed("start it"))?;
        let group = rustix::process::Pid::from_child(&child);
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let said = child.stderr.take();
        let child = Arc::new(Mutex::new(child));
        let over = Arc::new(Mutex::new(false));
        let watched = (Arc::clone(&child), Arc::clone(&over));
        let begun = Instant::now();
        thread::spawn(move || {
            while begun.elapsed() < SENDING {
                thread::sleep(Duration::from_millis(500));
                if *watched.1.lock().unwrap_or_else(PoisonError::into_inner) {
                    return;
                }
            }
            warn!("nonstop-probe takes too long and is ended");
            let _ended_already = watched.0.lock().unwrap_or_else(PoisonError::into_inner).kill();
        });
        let complaint = thread::spawn(move || {
            let mut text = String::new();
            let _whatever_comes = said.map(|said| said.take(16 << 10).read_to_string(&mut text));
            text
        });
        let text = serde_json::to_vec(order).map_err(|e| ProbeError::Program(e.to_string()))?;
        if let Some(mut input) = input {
            input.write_all(&text).map_err(failed("tell it the order"))?;
        }
        let mut report = None;
        let lines = output.map(|output| BufReader::new(output.take(LONGEST)).lines());
        for line in lines.into_iter().flatten().map_while(Result::ok) {
            match line.strip_prefix("@ ") {
                Some(how_far) => self.how_far(cut(how_far, LINE)),
                None => report = serde_json::from_str(&line).ok(),
            }
        }
        *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let ended = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        let _nobody_is_left =
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let complaint = complaint.join().unwrap_or_default();
        let ended = ended.map_err(failed("wait for it"))?;
        match (ended.success(), report) {
            (true, Some(report)) => Ok(report),
            _ => {
                let said = complaint.lines().next().map_or_else(|| ended.to_string(), Into::into);
                Err(ProbeError::Program(cut(&said, LINE)))
            }
        }
    }

    /// Ends all canaries that there are; nothing of them is kept.
    fn end_all(&self) -> Result<(), StoreError> {
        let pool = self.lab.network.pool;
        let all = self.db.read(|read| read.environments(pool, false))?;
        let left: Vec<EnvironmentId> = all
            .into_iter()
            .filter(|e| e.account.as_str() == NAME && e.state == EnvironmentState::Granted)
            .filter(|e| e.machines.iter().all(|machine| machine.image.as_str() == NAME))
            .map(|e| e.id)
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        self.db
            .write("nonstopd", now, |w| left.iter().try_for_each(|id| w.end_environment(*id, now)))
    }

    /// Leaves a row of trace about how it went.
    fn tell(&self, by: &str, outcome: &Result<Report, ProbeError>) {
        let detail = match outcome {
            Ok(report) => {
                let found = report.differences.iter().chain(&report.not_shown);
                let found: Vec<String> = found.take(TOLD).map(|line| cut(line, LINE)).collect();
                if report.holds {
                    info!("the probe holds: {} frames", report.tried);
                } else {
                    error!("the probe does not hold: {}", found.join("; "));
                }
                json!({ "holds": report.holds, "frames": report.tried, "denied": report.denied,
                        "controlled": report.controlled, "found": found })
            }
            Err(e) => {
                error!(help = e.help(), "{}", chain(e));
                json!({ "holds": false, "problem": cut(&chain(e), LINE) })
            }
        };
        let told =
            self.db.write(by, self.clock.now(), |w| w.trace("reach.probe", &"network", detail));
        if let Err(e) = told {
            error!("record the probe: {}", chain(&e));
        }
    }

    fn how_far(&self, how_far: String) {
        if let Some(running) = &mut self.lock().running {
            running.how_far = how_far;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of the machines of `ids` in the matrix.
fn names(ids: &[EnvironmentId], pass: &Pass) -> BTreeSet<String> {
    let environments = ids.iter().filter_map(|id| pass.desired.environments.get(id));
    environments
        .flat_map(|environment| {
            environment.machines.iter().map(move |m| format!("{}/{}", environment.id, m.role))
        })
        .collect()
}

/// The canary of a template: the same machines, cards, reach and limits, with another guest inside and
/// without a desktop.
fn canary_of(template: &EnvironmentTemplate, image: &ImageName) -> EnvironmentTemplate {
    let mut canary = template.clone();
    canary.rdp = RdpPolicy::None;
    for machine in &mut canary.machines {
        machine.image = image.clone();
        machine.profile = MachineProfile::default();
        machine.memory_mib = MEMORY_MIB;
        machine.vcpus = 1;
        machine.rdp = None;
        machine.import = None;
    }
    canary
}

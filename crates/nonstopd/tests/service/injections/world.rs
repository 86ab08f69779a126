//! Debuggees of alice and bob on a simulated host, and samples that scripts stand for: the real
//! program is tried in its own crate.

use crate::lab::TestLab;
use nonstop_api::{
    ApiError, Reply, Request,
    samples::{InjectItem, InjectionView},
};
use nonstop_host::{Host, HostError, Outcome, Put};
use nonstop_model::{
    EnvironmentId, EnvironmentTemplate, InjectBy, InjectionId, MachineId, MachineRole, Password,
    Period, capacity::Room,
};
use nonstop_plan::{Observed, Step};
use nonstop_store::{Grant, GrantedMachine, TraceRow};
use nonstopd::{
    Clock,
    injector::{Counted, Injector, Parts},
    samples::{SampleReaders, Samples},
};
use std::{
    fs::{self, File, Permissions},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Of alice's edition, and of bob's.
pub(crate) const DOMAINS: &str = "\
software_keys: true
grace_seconds: 100
data_domains:
  intermediate:
    interface: nsd0
    network: 10.80.0.0/24
    servers: { samples: { address: 10.80.0.5, tcp: [80] } }
  mws:
    interface: nsd1
    network: 10.81.0.0/24
    servers: { samples: { address: 10.81.0.5, tcp: [80] } }
";

/// A debuggee that takes discs, and one that has an agent, too.
pub(crate) const BAIT: &str = "{role: debuggee, image: b, memory_mib: 96, networks: [link]}";
pub(crate) const AGENT: &str = "{role: debuggee, image: b, memory_mib: 96, networks: [link], \
    import: /home/researcher/Import, agent: true}";

/// Finds what lies in the folder of its data domain, and writes out what `take` says.
const PROGRAM: &str = r#"#!/bin/sh
here=$(dirname "$0")
domain=$(basename "$(dirname "$(dirname "$3")")")
question=$(cat)
case $1 in
find)
    hash=$(printf %s "$question" | sed 's/.*"hash":"\([0-9a-f]*\)".*/\1/')
    cat "$here/$domain/$hash" 2>/dev/null || echo '{"samples":[],"after":null}' ;;
take)
    hash=$(printf %s "$question" | sed 's/.*"sha256":"\([0-9a-f]*\)".*/\1/')
    . "$here/take" ;;
esac
"#;

/// Writes out a sample of six bytes, as it should.
pub(crate) const TAKE: &str = r#"printf sample >/proc/self/fd/3
printf '{"bytes":6,"items":[{"sha256":"%s","name":"a","bytes":6}]}\n' "$hash""#;

pub(crate) struct World {
    pub(crate) lab: TestLab,
    programs: tempfile::TempDir,
    /// What the kernel has counted of every link.
    pub(crate) counted: Arc<Mutex<Result<Option<Counted>, String>>>,
    /// How often somebody has asked for that.
    asked: Arc<AtomicU64>,
}

impl World {
    /// Alice is of the edition `intermediate`, and bob of `mws`.
    pub(crate) fn new() -> World {
        let programs = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let program = programs.path().join("nonstop-samples");
        fs::write(&program, PROGRAM).expect("written");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("a program");
        let more = format!("programs: {}\n{DOMAINS}", programs.path().display());
        let counted = Arc::new(Mutex::new(Ok(None)));
        let world = World { lab: TestLab::new(&more), programs, counted, asked: Arc::default() };
        let give = Request::AccountEdition {
            name: "bob".parse().expect("a name"),
            edition: "mws".into(),
            reason: "a test".into(),
        };
        world.lab.admin(give).expect("given");
        world.take(TAKE);
        world
    }

    /// What stands for writing out a sample.
    pub(crate) fn take(&self, script: &str) {
        fs::write(self.programs.path().join("take"), script).expect("written");
    }

    /// A place of the test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.programs.path().join(name)
    }

    /// The data domain gets a sample of such a length; None: only reports of it.
    pub(crate) fn has(&self, domain: &str, sha256: &str, bytes: Option<u64>) {
        self.says(domain, sha256, &page(sha256, bytes));
    }

    /// What is answered to who looks for the hash.
    pub(crate) fn says(&self, domain: &str, sha256: &str, answer: &str) {
        let folder = self.programs.path().join(domain);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(sha256), answer).expect("written");
    }

    /// Who looks for the hash waits for what somebody writes to the pipe that this makes.
    pub(crate) fn awaits(&self, domain: &str, sha256: &str) -> PathBuf {
        let pipe = self.programs.path().join(domain).join(sha256);
        fs::remove_file(&pipe).expect("it was there");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
            .expect("a pipe");
        pipe
    }

    /// Grants an environment with a debugger and `debuggee`, of `domain` where one is named.
    pub(crate) fn grant(
        &self,
        account: &str,
        domain: Option<&str>,
        debuggee: &str,
    ) -> EnvironmentId {
        let of = domain.map_or(String::new(), |domain| format!("domain: {domain}\n"));
        let text = format!(
            "version: 1\ntitle: t\nrdp: none\n{of}machines:\n\
             - {{role: debugger, image: a, memory_mib: 96, networks: [access, link]}}\n- {debuggee}\n"
        );
        self.granted(account, &text, 2)
    }

    pub(crate) fn granted(&self, account: &str, text: &str, machines: usize) -> EnvironmentId {
        let machine = || GrantedMachine {
            image: "a".parse().expect("a name"),
            image_digest: "d".into(),
            guest_user: None,
            password: Password("p".into()),
            desktop_port: None,
        };
        let now = self.lab.clock.now();
        let grant = Grant {
            account: account.parse().expect("a name"),
            template_name: "bait".parse().expect("a name"),
            template: EnvironmentTemplate::parse("t", text, None).expect("valid"),
            period: Period::new(now, now + Duration::from_secs(1000)).expect("ordered"),
            machines: (0..machines).map(|_| machine()).collect(),
            pool: self.lab.lab.network.pool,
            room: Room { memory_mib: 1 << 20, machines: 40 },
        };
        let db = &self.lab.daemon.db;
        db.write("sato", now, |w| w.grant_environment(&grant)).expect("granted")
    }

    /// Passes until nothing is to be done.
    pub(crate) fn settle(&self) {
        let reconciler = &self.lab.daemon.reconciler;
        for _ in 0..60 {
            let plan = reconciler.pass(&mut |id, queue| reconciler.run_queue(id, &queue));
            if plan.expect("a pass").is_empty() {
                return;
            }
        }
        panic!("the lab does not settle");
    }

    /// The daemon was killed, and another one runs.
    pub(crate) fn restarted(self) -> World {
        World { lab: self.lab.restart(), ..self }
    }

    pub(crate) fn later(&self, seconds: i64) {
        self.lab.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn debuggee(&self, id: EnvironmentId) -> MachineId {
        let pool = self.lab.lab.network.pool;
        let environment = self.lab.daemon.db.read(|r| r.environment(pool, id)).expect("there");
        let machine = environment.machines.iter().find(|m| m.role == MachineRole::Debuggee);
        machine.expect("it has one").id
    }

    pub(crate) fn inject(
        &self,
        who: &str,
        id: EnvironmentId,
        by: InjectBy,
        samples: &[(&str, Option<&str>)],
    ) -> Result<InjectionView, ApiError> {
        let item = |(sha256, name): &(&str, Option<&str>)| InjectItem {
            sha256: (*sha256).into(),
            name: name.map(Into::into),
        };
        let samples = samples.iter().map(item).collect();
        let request = Request::SampleInject { environment: id, samples, by, zip: false };
        match self.ask(who, request)? {
            Reply::Injection(view) => Ok(view),
            other => panic!("{other:?}"),
        }
    }

    /// What `who` is answered; `root` is an admin of the host.
    pub(crate) fn ask(&self, who: &str, request: Request) -> Result<Reply, ApiError> {
        match who {
            "root" => self.lab.admin(request),
            person => self.lab.person(person, request),
        }
    }

    pub(crate) fn list(
        &self,
        who: &str,
        environment: Option<EnvironmentId>,
    ) -> Result<Vec<InjectionView>, ApiError> {
        match self.ask(who, Request::InjectionList { environment })? {
            Reply::Injections(all) => Ok(all),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn record(&self, who: &str, id: InjectionId) -> Result<String, ApiError> {
        match self.ask(who, Request::InjectionRecord { id })? {
            Reply::Record(text) => Ok(text),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn revert(&self, id: EnvironmentId) {
        let role = Some(MachineRole::Debuggee);
        self.ask("alice", Request::EnvironmentRevert { id, role }).expect("hers");
    }

    /// What leads injections on, with `host` in place of the simulated one.
    pub(crate) fn injector(&self, host: Arc<dyn Host>) -> Arc<Injector> {
        let (service, counted) = (&self.lab.daemon.service, Arc::clone(&self.counted));
        let asked = Arc::clone(&self.asked);
        Arc::new(Injector::new(Parts {
            lab: self.lab.lab.clone(),
            db: Arc::clone(&service.db),
            host,
            clock: Arc::clone(&service.clock),
            status: Arc::clone(&service.status),
            prover: None,
            count: Box::new(move |_, _| {
                asked.fetch_add(1, Ordering::SeqCst);
                counted.lock().expect("whole").clone()
            }),
            rules: None,
            samples: self.samples(),
            wake: Arc::clone(&service.wake),
        }))
    }

    /// How often packets were counted.
    pub(crate) fn times_counted(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn samples(&self) -> Samples {
        let samples = Samples::new(&self.lab.lab, SampleReaders { data: (1, 1), samples: (1, 1) });
        samples.patient(Duration::from_secs(20), Duration::from_secs(6))
    }

    /// What was asked for is let go on, and does.
    pub(crate) fn goes_on(&self) {
        self.witness();
        self.settle();
    }

    /// Writes down what holds now at the ends of injections.
    pub(crate) fn witness(&self) {
        let host = Arc::clone(&self.lab.host) as Arc<dyn Host>;
        self.injector(host).look().expect("looked");
    }

    /// The rows of the trace about samples, the oldest first.
    pub(crate) fn rows(&self) -> Vec<TraceRow> {
        let mut rows = self.lab.daemon.db.read(|r| r.trace_rows(1000)).expect("read");
        rows.retain(|row| row.action.starts_with("sample."));
        rows.reverse();
        rows
    }

    /// All that lies in the state folder and is no database.
    pub(crate) fn lying(&self) -> Vec<PathBuf> {
        let (mut folders, mut found) = (vec![self.lab.lab.state.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("read").flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.display().to_string().contains(".db") => {}
                    false => found.push(path),
                }
            }
        }
        found.sort();
        found
    }
}

/// Waits for what a thread of the injector's does.
#[track_caller]
pub(crate) fn until(limit: Duration, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < limit, "in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What `nonstop-samples find` says of one sample.
pub(crate) fn page(sha256: &str, bytes: Option<u64>) -> String {
    let bytes = bytes.map_or("null".into(), |bytes| bytes.to_string());
    format!(
        r#"{{"samples":[{{"sha256":"{sha256}","bytes":{bytes},"kind":"pe","family":"","tags":[],
        "first_seen":null,"last_seen":null,"days":["2030-01-31"],"source":"","reports":1}}],
        "after":null}}"#
    )
}

/// The simulated host, with guests whose agents do as the closure says.
pub(crate) struct Guests<F>(pub(crate) Arc<dyn Host>, pub(crate) F);

impl<F: Fn(MachineId, &str, &File) -> Put + Send + Sync> Host for Guests<F> {
    fn observe(&self) -> Result<Observed, HostError> {
        self.0.observe()
    }

    fn apply(&self, step: &Step) -> Result<Outcome, HostError> {
        self.0.apply(step)
    }

    fn play_recording(&self, id: u64) -> Result<OwnedFd, HostError> {
        self.0.play_recording(id)
    }

    fn put_file(
        &self,
        machine: MachineId,
        path: &str,
        file: &File,
        _wanted: &dyn Fn() -> bool,
    ) -> Result<Put, HostError> {
        Ok((self.1)(machine, path, file))
    }
}

//! PID 1's keeping of services: what systemd does on a real host, so that a killed daemon
//! comes back in a lab as it would there.
//!
//! One lock guards the table. A service is started when it is wanted and what it needs is
//! ready; the reaper tells when it ended; a pause that doubles up to one second keeps a
//! broken program from eating the CPU.

use crate::{
    control::{Reply, Request, ServiceStatus},
    net,
    spec::{BoxSpec, PROGRAMS, Ready, ServiceSpec},
};
use anyhow::{Context, Result};
use nonstop_api::serving::Serving;
use rustix::process::{Pid, Signal, WaitStatus, kill_process, kill_process_group};
use std::{
    fs,
    os::unix::{net::UnixStream, process::CommandExt},
    process::{Command, Stdio},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The table of services and a bell that rings at every change.
pub(crate) struct Supervisor {
    spec: BoxSpec,
    table: Mutex<Vec<Service>>,
    bell: Condvar,
}

struct Service {
    spec: ServiceSpec,
    wanted: bool,
    auto_restart: bool,
    pid: Option<Pid>,
    ready: bool,
    restarts: u32,
    last_end: Option<String>,
    not_before: Instant,
    started: Instant,
    pause: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(crate) fn new(spec: BoxSpec) -> Supervisor {
        let now = Instant::now();
        let service = |spec: &ServiceSpec| Service {
            spec: spec.clone(),
            wanted: spec.enabled,
            auto_restart: true,
            pid: None,
            ready: false,
            restarts: 0,
            last_end: None,
            not_before: now,
            started: now,
            pause: FIRST_PAUSE,
        };
        let table = Mutex::new(spec.services.iter().map(service).collect());
        Supervisor { spec, table, bell: Condvar::new() }
    }

    fn table(&self) -> MutexGuard<'_, Vec<Service>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts what is due and notices what has become ready, for ever.
    pub(crate) fn run(&self) {
        let mut table = self.table();
        loop {
            let pending = self.pass(&mut table);
            let wait = if pending { Duration::from_millis(20) } else { Duration::from_secs(3600) };
            table = self.bell.wait_timeout(table, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// One pass; true while something is still on its way.
    fn pass(&self, table: &mut [Service]) -> bool {
        let mut pending = false;
        for n in 0..table.len() {
            let needs_met = table[n]
                .spec
                .needs
                .iter()
                .all(|need| table.iter().any(|s| s.spec.name == *need && s.ready));
            let service = &mut table[n];
            if service.pid.is_none() && service.wanted {
                pending = true;
                // After its first start a service comes back by itself, whatever the others do.
                let may = needs_met || service.restarts > 0;
                if may && Instant::now() >= service.not_before {
                    match self.spawn(&service.spec) {
                        Ok(pid) => {
                            service.pid = Some(pid);
                            service.started = Instant::now();
                        }
                        Err(e) => {
                            service.last_end = Some(format!("{e:#}"));
                            service.not_before = Instant::now() + LONGEST_PAUSE;
                        }
                    }
                }
            } else if service.pid.is_some() && !service.ready {
                service.ready = is_ready(&service.spec.ready);
                pending |= !service.ready;
            }
        }
        pending
    }

    fn spawn(&self, spec: &ServiceSpec) -> Result<Pid> {
        let log = self.spec.log(&spec.name);
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        let (program, args) = spec.argv.split_first().context("an empty command")?;
        // std would wait for a child that changes its uid and fails, and race our reaper:
        // setpriv changes it instead.
        let mut command = match spec.uid {
            None => Command::new(program),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={uid}"), format!("--regid={uid}")])
                    .args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
                    .args(["--no-new-privs", "--", program]);
                command
            }
        };
        let child = command
            .args(args)
            .env_clear()
            .env("PATH", format!("{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin"))
            .env("LANG", "C.UTF-8")
            .env("RUST_BACKTRACE", "1")
            .envs(std::env::var_os("NONSTOP_LOG").map(|v| ("RUST_LOG", v)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        Ok(Pid::from_child(&child))
    }

    /// Notes that the process `pid` has ended.
    pub(crate) fn ended(&self, pid: Pid, status: WaitStatus) {
        let mut table = self.table();
        if let Some(service) = table.iter_mut().find(|s| s.pid == Some(pid)) {
            if service.spec.kill_group {
                let _already_gone = kill_process_group(pid, Signal::KILL);
            }
            service.pid = None;
            service.ready = false;
            service.last_end = Some(told(status));
            if service.started.elapsed() > Duration::from_secs(5) {
                service.pause = FIRST_PAUSE;
            }
            service.not_before = Instant::now() + service.pause;
            service.pause = (service.pause * 2).min(LONGEST_PAUSE);
            if service.wanted {
                service.restarts += 1;
                service.wanted = service.auto_restart;
            }
        }
        self.bell.notify_all();
    }

    /// Does what a lab asks for.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let done = match request {
            Request::Status => Ok(()),
            Request::Start { service } => self.with(service, |s| {
                s.wanted = true;
                s.not_before = Instant::now();
            }),
            Request::Stop { service } => self.stop(service),
            Request::Signal { service, signal } => self.signal(service, *signal),
            Request::AutoRestart { service, on } => self.with(service, |s| s.auto_restart = *on),
        };
        self.bell.notify_all();
        match done {
            Ok(()) => Reply::Services(self.table().iter().map(Service::status).collect()),
            Err(why) => Reply::Refused(why),
        }
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Service) -> T) -> Result<T, String> {
        let mut table = self.table();
        let service = table.iter_mut().find(|s| s.spec.name == name);
        service.map(act).ok_or_else(|| format!("the box has no service `{name}`"))
    }

    fn signal(&self, name: &str, number: i32) -> Result<(), String> {
        let signal = Signal::from_named_raw(number).ok_or_else(|| format!("no signal {number}"))?;
        let pid = self.with(name, |s| s.pid)?.ok_or_else(|| format!("`{name}` does not run"))?;
        kill_process(pid, signal).map_err(|e| format!("signal `{name}`: {e}"))
    }

    fn stop(&self, name: &str) -> Result<(), String> {
        let term = self.with(name, |s| {
            s.wanted = false;
            s.pid
        })?;
        let Some(pid) = term else { return Ok(()) };
        let _already_gone = kill_process(pid, Signal::TERM);
        let patience = Instant::now() + Duration::from_secs(10);
        let mut table = self.table();
        let mut killed = false;
        while table.iter().any(|s| s.pid == Some(pid)) {
            if Instant::now() > patience && !killed {
                let _already_gone = kill_process(pid, Signal::KILL);
                killed = true;
            }
            let step = Duration::from_millis(100);
            table = self.bell.wait_timeout(table, step).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Service {
    fn status(&self) -> ServiceStatus {
        ServiceStatus {
            name: self.spec.name.clone(),
            wanted: self.wanted,
            pid: self.pid.map(Pid::as_raw_pid),
            ready: self.ready,
            restarts: self.restarts,
            last_end: self.last_end.clone(),
        }
    }
}

fn told(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".into(),
    }
}

fn is_ready(ready: &Ready) -> bool {
    match ready {
        Ready::Running => true,
        Ready::Unix(path) => UnixStream::connect(path).is_ok(),
        Ready::File(path) => path.exists(),
        Ready::Listens(port) => net::listens("self", *port),
        Ready::Serving(run) => matches!(Serving::read(run), Ok(Some(serving)) if serving.ready),
    }
}

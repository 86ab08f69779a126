//! Probes the isolation: makes canary environments, one of each template, lets `nonstop-probe` send
//! from them, and ends them again.
//!
//! Canaries are environments like any other, granted to an account that has no key, for minutes: what
//! makes, limits and ends a researcher's makes, limits and ends theirs, also when the daemon dies in
//! between. Only their image is another. Their disks are not kept.

mod environments;
mod program;

use crate::{
    Clock,
    prover::{Prover, cut},
    reconciler::Wake,
    status::{Status, chain},
    templates,
};
use jiff::Timestamp;
use nonstop_host::{HostError, images::Images};
use nonstop_model::{Lab, capacity::Room};
use nonstop_reach::probe::Report;
use nonstop_store::{Db, StoreError};
use program::carry_out;
use serde_json::json;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use tracing::{error, info};

/// The account that canaries belong to, and the image that they start from.
const NAME: &str = "canary";
/// How long they may take to start, on a host that is busy.
const STARTING: Duration = Duration::from_secs(180);
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
            let program = self.lab.programs.join("nonstop-probe");
            carry_out(&program, &self.order(&ids, &pass)?, &|how_far| self.how_far(how_far))
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

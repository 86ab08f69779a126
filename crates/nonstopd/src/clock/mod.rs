//! The lab's clock: the host's wall clock for as long as it can be believed (`steady`), and after a step
//! of it the time since the host's start, until an admin confirms.
//!
//! Everything that ends by time asks here. What was trusted last lies in two files: one on the tmpfs, of
//! this run of the host, from which a restarted daemon goes on to the second; one on the disk, of the
//! last minute, for the next start of the host.

pub mod steady;

use crate::{Clock, Standing};
use jiff::Timestamp;
use nonstop_model::Lab;
use nonstop_store::{Db, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use steady::{Kept, Reading, Steady};
use tracing::{error, info, warn};

/// How often what is trusted is kept on the tmpfs, and on the disk.
const KEEP_EVERY: Duration = Duration::from_secs(1);
const KEEP_ON_DISK_EVERY: Duration = Duration::from_secs(60);

/// A clock that steps of the wall clock do not move.
pub struct SteadyClock {
    /// On the tmpfs.
    volatile: PathBuf,
    /// On the disk.
    durable: PathBuf,
    /// This run of the kernel.
    run: String,
    state: Mutex<State>,
}

struct State {
    steady: Steady,
    kept_at: Option<Instant>,
    on_disk_at: Option<Instant>,
    held: bool,
}

/// A file of what was trusted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnFile {
    run: String,
    kept: Kept,
}

impl SteadyClock {
    /// The clock of `lab`, going on from what is on file. Where nothing is, or nothing that can be
    /// read, the wall clock is believed.
    pub fn open(lab: &Lab) -> io::Result<SteadyClock> {
        let run = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_string();
        let (volatile, durable) = (lab.run.join("clock.json"), lab.state.join("clock.json"));
        let reading = read_clocks();
        let of_this_run = on_file(&volatile).filter(|file| file.run == run);
        let steady = match (of_this_run, on_file(&durable)) {
            (Some(file), _) => Steady::resume(file.kept, reading),
            (None, Some(file)) => Steady::after_boot(file.kept, reading),
            (None, None) => Steady::new(reading),
        };
        let held = steady.held().is_some();
        let state = State { steady, kept_at: None, on_disk_at: None, held };
        Ok(SteadyClock { volatile, durable, run, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps on file what `state` trusts, where that is due.
    fn keep(&self, state: &mut State, at_once: bool) {
        let due = |at: Option<Instant>, every| at.is_none_or(|at: Instant| at.elapsed() >= every);
        let changed = at_once || state.held != state.steady.held().is_some();
        state.held = state.steady.held().is_some();
        let file = OnFile { run: self.run.clone(), kept: state.steady.kept() };
        if changed || due(state.kept_at, KEEP_EVERY) {
            state.kept_at = Some(Instant::now());
            if let Err(e) = write(&self.volatile, &file, false) {
                warn!("keep the time in {}: {e}", self.volatile.display());
            }
        }
        if changed || due(state.on_disk_at, KEEP_ON_DISK_EVERY) {
            state.on_disk_at = Some(Instant::now());
            if let Err(e) = write(&self.durable, &file, true) {
                warn!("keep the time in {}: {e}", self.durable.display());
            }
        }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let mut state = self.state();
        let now = state.steady.read(read_clocks());
        self.keep(&mut state, false);
        now
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn standing(&self) -> Standing {
        let reading = read_clocks();
        let mut state = self.state();
        let trusted = state.steady.read(reading);
        self.keep(&mut state, false);
        Standing { trusted, wall: reading.wall, held: state.steady.held() }
    }

    fn confirm(&self) {
        let mut state = self.state();
        state.steady.confirm(read_clocks());
        self.keep(&mut state, true);
    }
}

/// Tells of steps, in log and trace, for as long as the process lives.
pub fn watch(clock: &Arc<dyn Clock>, db: &Db) -> ! {
    let mut told = false;
    loop {
        let standing = clock.standing();
        match tell(db, &standing, told) {
            Ok(is_told) => told = is_told,
            Err(e) => error!("record a step of the clock: {}", crate::status::chain(&e)),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Tells what has changed since; true if a step is told and holds.
fn tell(db: &Db, standing: &Standing, told: bool) -> Result<bool, StoreError> {
    let seconds = standing.ahead().as_secs();
    match standing.held {
        Some((why, since)) if !told => {
            error!(
                "the wall clock is {seconds} s ahead of the time that is trusted: nothing ends by it \
                 until an admin runs `nonstop clock confirm`"
            );
            db.write("nonstopd", standing.trusted, |w| {
                let detail =
                    json!({ "why": why.as_str(), "ahead_seconds": seconds, "since": since });
                w.trace("clock.step", &"clock", detail)
            })?;
        }
        None if told => {
            info!("the wall clock is believed again");
            db.write("nonstopd", standing.trusted, |w| {
                w.trace("clock.trusted", &"clock", json!({}))
            })?;
        }
        _ => {}
    }
    Ok(standing.held.is_some())
}

/// Both clocks, as nearly at once as can be.
fn read_clocks() -> Reading {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let boot = Duration::new(
        u64::try_from(boot.tv_sec).unwrap_or(0),
        u32::try_from(boot.tv_nsec).unwrap_or(0),
    );
    Reading { wall: Timestamp::now(), boot }
}

fn on_file(path: &Path) -> Option<OnFile> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => {
            warn!("read {}: {e}", path.display());
            return None;
        }
    };
    let file = serde_json::from_str(&text);
    file.inspect_err(|e| warn!("{} is not as we write it: {e}", path.display())).ok()
}

/// Puts `file` at `path` in one step; `durable` once it is on the disk.
fn write(path: &Path, file: &OnFile, durable: bool) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut text = File::create(&new)?;
    text.write_all(&serde_json::to_vec(file)?)?;
    if durable {
        text.sync_all()?;
    }
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) if durable => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

//! What happens to samples beside the reconciler's passes: those that go by a guest's agent are given
//! to it, and of each injection is written down what held before anything of it was before the guest
//! and when nothing of it was any more. Nothing goes before a guest of which the first is not written
//! down. A guest that hangs delays its own injection, and nothing else.

use crate::{
    Clock,
    prover::Prover,
    reconciler::Wake,
    samples::Samples,
    status::{Status, chain},
};
use jiff::Timestamp;
use nonstop_host::{Host, Kept, Put, PutVerdict, firewall::Firewall};
use nonstop_model::{
    Environment, EnvironmentId, EnvironmentState, InjectBy, InjectedItem, Injection, InjectionId,
    InjectionState, Lab, MachineId, injection::path_in,
};
use nonstop_plan::Grant;
use nonstop_store::{Db, FactsAt, StoreError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// How often to look for what is to be done: what is asked for waits as long before it begins.
const EVERY: Duration = Duration::from_millis(100);

/// How many times an agent that does not answer is asked, and how long to wait between.
const TRIES: u32 = 4;
const BETWEEN: Duration = Duration::from_millis(500);

/// How often to look at what holds of an injection that is about to be gone: counting takes programs.
const AGAIN: Duration = Duration::from_secs(1);

/// Packets of a link, since our tables were loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Which loading of our tables counts: two counts of another cannot be compared.
    pub tables: String,
    /// Between its machines.
    pub between: u64,
    /// Refused on it.
    pub refused: u64,
    /// That left it.
    pub left: u64,
}

/// Counts packets of an environment's link; None where it has none, or nobody counts.
pub type CountLink =
    Box<dyn Fn(EnvironmentId, &[MachineId]) -> Result<Option<Counted>, String> + Send + Sync>;

/// What it is made of.
pub struct Parts {
    /// The lab.
    pub lab: Lab,
    /// What is wanted.
    pub db: Arc<Db>,
    /// What guests are spoken with by.
    pub host: Arc<dyn Host>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What was seen.
    pub status: Arc<Status>,
    /// The last proof of what may talk to what; None in tests without one.
    pub prover: Option<Arc<Prover>>,
    /// Counts packets.
    pub count: CountLink,
    /// Whose rules are in force.
    pub rules: Option<Arc<Firewall>>,
    /// Where samples come from.
    pub samples: Samples,
    /// Asked for a pass when something has changed.
    pub wake: Arc<Wake>,
}

/// Leads injections on.
pub struct Injector {
    parts: Parts,
    busy: Mutex<BTreeSet<InjectionId>>,
    /// What was found last of injections that are about to be gone: where the link goes with the
    /// environment, nobody can count its packets afterwards.
    going: Mutex<BTreeMap<InjectionId, (Instant, Value)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Injector {
    /// One for a lab.
    pub fn new(parts: Parts) -> Injector {
        Injector { parts, busy: Mutex::default(), going: Mutex::default() }
    }

    /// Looks again and again for as long as the process lives.
    pub fn run(self: Arc<Self>) -> ! {
        loop {
            if let Err(e) = self.look() {
                error!("lead injections on: {}", chain(&e));
                thread::sleep(Duration::from_secs(2));
            }
            thread::sleep(EVERY);
        }
    }

    /// Does once what is to be done; agents are spoken with by threads of their own.
    pub fn look(self: &Arc<Self>) -> Result<(), StoreError> {
        self.witness_begins()?;
        for injection in self.parts.db.read(|read| read.injections_to_give())? {
            if lock(&self.busy).insert(injection.id) {
                let this = Arc::clone(self);
                let id = injection.id;
                let work = move || {
                    let _busy = Busy { injector: &this, id };
                    this.give_and_tell(&injection);
                };
                if let Err(e) = thread::Builder::new().name(id.to_string()).spawn(work) {
                    lock(&self.busy).remove(&id);
                    error!("start a thread for {id}: {e}");
                }
            }
        }
        self.witness_ends()
    }

    /// Gives `injection` to the guest's agent, and records what came of it, also where it was ended
    /// meanwhile. Until then nothing else goes before this guest, and it is not kept.
    pub fn give_and_tell(&self, injection: &Injection) {
        let giving = Giving::new(&self.parts.status, injection);
        let (id, mut given) = (injection.id, Given::default());
        let result = self.give(injection, &mut given);
        let (now, says) = (self.parts.clock.now(), given.says());
        let told = self.parts.db.write("nonstopd", now, |w| {
            if given.nothing() {
                w.injection_reached_nothing(id)?;
            }
            match &result {
                Ok(()) => w.injection_there(id, says.as_deref())?,
                Err(why) => w.injection_failed(id, &why.0, says.as_deref())?,
            }
            // Whoever sees what came of it finds the guest free.
            drop(giving);
            Ok::<(), StoreError>(())
        });
        match (&result, told) {
            (_, Err(e)) => error!("record what became of {id}: {}", chain(&e)),
            (Ok(()), Ok(())) => info!("{id} was given to its guest"),
            (Err(why), Ok(())) => warn!("{id} was not given to its guest: {}", why.0),
        }
        self.parts.wake.wake();
    }

    fn give(&self, injection: &Injection, given: &mut Given) -> Result<(), Failed> {
        let environment = self.environment(injection).map_err(|e| Failed::of(chain(&e)))?;
        let machine = environment.machines.iter().find(|m| m.id == injection.machine);
        let machine = machine.ok_or_else(|| Failed::of("its machine is gone"))?;
        let template = environment.template.machine(machine.role);
        let import = template.and_then(|template| template.import.clone());
        let import = import.ok_or_else(|| Failed::of("its template names no folder `import`"))?;
        given.import = import;
        for item in &injection.items {
            let file = self.taken(injection, item)?;
            let name = match injection.zip {
                true => format!("{}.zip", item.name),
                false => item.name.clone(),
            };
            let path = path_in(&given.import, &name);
            let put = self.put(injection, &path, &file, given)?;
            let bytes = file.metadata().map_or(0, |file| file.len());
            given.last = said(put, &path, bytes);
            judged(put, &path)?;
            given.files += 1;
            given.written += put.written;
            given.doubts += &doubt(put, &path, bytes);
        }
        Ok(())
    }

    /// A file without a name that holds `item`, as the guest is to have it.
    fn taken(&self, injection: &Injection, item: &InjectedItem) -> Result<File, Failed> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(TMPFILE);
        let state = &self.parts.lab.state;
        let mut file = options
            .open(state)
            .map_err(|e| Failed::of(format!("make a file in {}: {e}", state.display())))?;
        let (domain, zip) = (&injection.domain, injection.zip);
        self.parts.samples.take(domain, item, zip, &file).map_err(Failed::of)?;
        file.seek(SeekFrom::Start(0)).map_err(|e| Failed::of(e.to_string()))?;
        Ok(file)
    }

    fn put(
        &self,
        injection: &Injection,
        path: &str,
        file: &File,
        given: &mut Given,
    ) -> Result<Put, Failed> {
        let mut tries = 0;
        loop {
            let mut again = file;
            again.seek(SeekFrom::Start(0)).map_err(|e| Failed::of(e.to_string()))?;
            // The guest of a generation to which it was reverted meanwhile has to stay clean.
            self.reaches(injection.id, given)?;
            let wanted = || self.is_wanted(injection.id);
            let put = self.parts.host.put_file(injection.machine, path, file, &wanted);
            given.reached |= put.as_ref().map_or(true, |put| took(*put));
            let put = put.map_err(|e| Failed::of(chain(&e)))?;
            tries += 1;
            // Somebody else may just speak with it, or it has only just been started.
            if put.verdict != PutVerdict::Silent || tries == TRIES {
                return Ok(put);
            }
            self.parts.clock.pause(BETWEEN);
        }
    }

    /// Errors: it was ended meanwhile.
    fn reaches(&self, id: InjectionId, given: &mut Given) -> Result<(), Failed> {
        let now = self.parts.clock.now();
        let before = self.parts.db.write("nonstopd", now, |w| w.injection_reaches(id));
        let before = before.map_err(|e| Failed::of(chain(&e)))?;
        let before = before.ok_or_else(|| Failed::of("it was ended meanwhile"))?;
        // A daemon that was killed may have given it something.
        given.reached |= before && !given.begun;
        given.begun = true;
        Ok(())
    }

    /// Whether it was not ended meanwhile, as far as that can be known.
    fn is_wanted(&self, id: InjectionId) -> bool {
        let now = self.parts.db.read(|read| read.injection(id));
        now.map_or(true, |now| now.state == InjectionState::Preparing)
    }

    fn environment(&self, injection: &Injection) -> Result<Environment, StoreError> {
        let pool = self.parts.lab.network.pool;
        self.parts.db.read(|read| read.environment(pool, injection.environment))
    }

    /// Writes down what holds before injections that are wanted, which are let go on by that.
    fn witness_begins(&self) -> Result<(), StoreError> {
        for injection in self.parts.db.read(|read| read.unbegun_injections())? {
            let facts = self.facts(&self.environment(&injection)?);
            self.witnessed(injection.id, FactsAt::Begin, &facts)?;
            self.parts.wake.wake();
        }
        Ok(())
    }

    /// Writes down what holds once nothing of an injection is before its guest any more.
    fn witness_ends(&self) -> Result<(), StoreError> {
        for injection in self.parts.db.read(|read| read.unended_injections())? {
            let (id, environment) = (injection.id, self.environment(&injection)?);
            let Some(by) = ends(&injection, &environment) else { continue };
            // What its guest took is told before.
            if self.parts.status.is_being_given(id) {
                continue;
            }
            if !self.is_gone(&injection) {
                self.is_going(id, &environment);
                continue;
            }
            let mut facts = self.facts(&environment);
            if let Some((_, before)) = lock(&self.going).remove(&id)
                && !is_counted(&facts)
                && is_counted(&before)
            {
                facts["counts"] = before["counts"].clone();
                facts["counted_at"] = before["at"].clone();
            }
            facts["by"] = by.into();
            self.witnessed(id, FactsAt::End, &facts)?;
            info!("what held while {id} was there is written down");
        }
        Ok(())
    }

    /// Keeps what holds of `id`, which is about to be gone, now and then.
    fn is_going(&self, id: InjectionId, environment: &Environment) {
        let fresh = |(at, _): &(Instant, Value)| at.elapsed() < AGAIN;
        if lock(&self.going).get(&id).is_some_and(fresh) {
            return;
        }
        let facts = self.facts(environment);
        let mut going = lock(&self.going);
        let kept = going.remove(&id).map(|(_, before)| before);
        let kept = kept.filter(|before| is_counted(before) && !is_counted(&facts));
        going.insert(id, (Instant::now(), kept.unwrap_or(facts)));
    }

    /// Whether a pass of the reconciler that began after `injection` had ended saw that neither drive
    /// nor guest has anything of it, and that nobody is about to change that.
    fn is_gone(&self, injection: &Injection) -> bool {
        let Some(pass) = self.parts.status.pass() else { return false };
        let later = injection.ended_at.is_some_and(|ended_at| pass.at >= ended_at);
        if !later || pass.guests.contains(&injection.machine) {
            return false;
        }
        let runs = pass.observed.machines.get(&injection.machine);
        let same = runs.is_some_and(|seen| seen.generation == injection.generation);
        match injection.by {
            InjectBy::Disc => {
                let shown = pass.observed.drives.get(&injection.machine);
                !same || shown != Some(&Some(injection.id))
            }
            InjectBy::Agent => !same,
        }
    }

    fn witnessed(&self, id: InjectionId, at: FactsAt, facts: &Value) -> Result<(), StoreError> {
        let now = self.parts.clock.now();
        self.parts.db.write("nonstopd", now, |w| w.injection_witnessed(id, at, facts))
    }

    fn facts(&self, environment: &Environment) -> Value {
        let machines: Vec<MachineId> = environment.machines.iter().map(|m| m.id).collect();
        let counted = (self.parts.count)(environment.id, &machines);
        let counts = match counted {
            Ok(Some(counts)) => json!({
                "between": counts.between, "left": counts.left, "refused": counts.refused,
                "tables": counts.tables,
            }),
            Ok(None) => Value::Null,
            Err(why) => json!({ "unknown": why }),
        };
        let observed = self.parts.status.observed();
        let grants = observed.firewall.grants.keys();
        let rights = grants.filter(|grant| is_of(grant, &machines)).map(ToString::to_string);
        let rules = self.parts.rules.as_ref().map(|rules| digest(rules.rules().as_bytes()));
        json!({
            "at": whole(self.parts.clock.now()),
            "counts": counts,
            "proof": self.proof(),
            "rights": rights.collect::<Vec<_>>(),
            "rules": { "current": observed.firewall.current, "sha256": rules },
        })
    }

    fn proof(&self) -> Value {
        let last = self.parts.prover.as_ref().and_then(|prover| prover.last());
        last.map_or(Value::Null, |proved| {
            json!({
                "at": whole(proved.at), "colour": proved.colour(), "machines": proved.machines,
            })
        })
    }
}

/// `O_TMPFILE` of Linux on x86-64: a file without a name.
const TMPFILE: i32 = rustix::fs::OFlags::TMPFILE.bits().cast_signed();

/// Marks an injection as worked on, also when its thread panics.
struct Busy<'a> {
    injector: &'a Injector,
    id: InjectionId,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock(&self.injector.busy).remove(&self.id);
    }
}

/// Marks an injection as one that is being given, also when its thread panics.
struct Giving<'a> {
    status: &'a Status,
    injection: &'a Injection,
}

impl Giving<'_> {
    fn new<'a>(status: &'a Status, injection: &'a Injection) -> Giving<'a> {
        status.gives(injection.machine, injection.id);
        Giving { status, injection }
    }
}

impl Drop for Giving<'_> {
    fn drop(&mut self) {
        self.status.gave(self.injection.machine, self.injection.id);
    }
}

/// What a guest was given so far, as its agent says.
#[derive(Default)]
struct Given {
    import: String,
    /// Files that it has whole, and the bytes of these.
    files: usize,
    written: u64,
    doubts: String,
    /// What it says of the last file, if that is not whole.
    last: Option<String>,
    /// Whether the agent was asked at all, and whether it may have taken a part of a sample.
    begun: bool,
    reached: bool,
}

impl Given {
    fn nothing(&self) -> bool {
        self.begun && !self.reached
    }

    fn says(&self) -> Option<String> {
        let Given { import, files, written, doubts, .. } = self;
        let whole = format!("it wrote {files} file(s), {written} bytes, in {import}{doubts}");
        let whole = Some(whole).filter(|_| *files > 0);
        let both: Vec<String> = whole.into_iter().chain(self.last.clone()).collect();
        Some(both.join("; ")).filter(|says| !says.is_empty())
    }
}

/// Why samples did not get into a guest.
struct Failed(String);

impl Failed {
    fn of(why: impl Into<String>) -> Failed {
        Failed(why.into())
    }
}

/// Whether a part of the file may be in the guest: a piece may have got there without an answer.
fn took(put: Put) -> bool {
    match put.verdict {
        PutVerdict::Silent | PutVerdict::NotOpened => false,
        PutVerdict::Done | PutVerdict::NotWritten | PutVerdict::BrokeOff => true,
    }
}

/// What the guest says of the file at `path`, `bytes` long, if it does not have all of it.
fn said(put: Put, path: &str, bytes: u64) -> Option<String> {
    match put.verdict {
        PutVerdict::Done | PutVerdict::Silent => None,
        PutVerdict::NotOpened => Some(format!("it cannot open {path}")),
        PutVerdict::NotWritten | PutVerdict::BrokeOff => {
            Some(format!("it wrote {} of {bytes} bytes of {path}", put.written))
        }
    }
}

/// Errors: not all of the file at `path` was taken.
fn judged(put: Put, path: &str) -> Result<(), Failed> {
    Err(Failed::of(match put.verdict {
        PutVerdict::Done => return Ok(()),
        PutVerdict::Silent => {
            "the guest's agent does not answer: is it running, and in the image? By disc nothing \
             in the guest has to help"
                .to_string()
        }
        PutVerdict::NotOpened => format!("the guest's agent could not make the file {path}"),
        PutVerdict::NotWritten => {
            format!("the guest's agent could not write all of {path}: is the guest's disk full?")
        }
        PutVerdict::BrokeOff => {
            format!("the guest's agent broke off, or said what cannot be, while it wrote {path}")
        }
    }))
}

/// What the guest says against its own words of a file at `path`, `bytes` long; empty if nothing.
fn doubt(put: Put, path: &str, bytes: u64) -> String {
    match put.kept {
        Kept::Bytes(kept) if kept != bytes => {
            format!("; {path} has {kept} bytes there, and not {bytes}")
        }
        Kept::Unreadable => format!("; it cannot open {path} any more"),
        Kept::Bytes(_) | Kept::Unknown => String::new(),
    }
}

/// What ends the run that `injection` of `environment` began; None while it lasts. What an agent was
/// given stays until its guest is another, also where not all of it was given, or wanted to the end: a
/// guest that was kept in a snapshot and goes on is the same.
pub(crate) fn ends(injection: &Injection, environment: &Environment) -> Option<String> {
    let asked = injection.ended_by.as_deref();
    if injection.by == InjectBy::Disc {
        return asked.map(String::from);
    }
    if environment.state != EnvironmentState::Granted {
        return Some("environment end".into());
    }
    let machine = environment.machines.iter().find(|m| m.id == injection.machine);
    if machine.is_some_and(|machine| machine.generation == injection.generation) {
        return None;
    }
    // What had failed, or was taken back, was not ended by that.
    let from_snapshot = machine.is_some_and(|machine| machine.origin.is_some());
    Some(match asked {
        Some(by @ ("return" | "revert")) => by.into(),
        _ if from_snapshot => "return".into(),
        _ => "revert".into(),
    })
}

/// Whether packets were counted in what was found.
fn is_counted(facts: &Value) -> bool {
    facts["counts"]["left"].is_u64()
}

/// Whether `grant` is a right of one of `machines`.
fn is_of(grant: &Grant, machines: &[MachineId]) -> bool {
    match grant {
        Grant::Port { machine, .. }
        | Grant::Reach { machine, .. }
        | Grant::Link { machine, .. } => machines.contains(machine),
        Grant::Portal { .. }
        | Grant::Transfer { .. }
        | Grant::Desktop { .. }
        | Grant::Source { .. } => false,
    }
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A time as records have it: in UTC, to the microsecond.
pub(crate) fn whole(at: Timestamp) -> String {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at).to_string()
}

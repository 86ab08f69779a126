//! Proves again and again, from the running kernel, that what may talk to what is what the lab
//! wants: every minute, at once after a change, and when somebody asks.
//!
//! The kernel and what is wanted cannot be read at one instant, and the reconciler puts right within
//! a second what somebody breaks. So a proof reads twice: what differs counts if it is still there
//! beside what a later pass wants; what was there at the first reading, and is wrong by what was
//! wanted before and after it, is told with both times, although it has been put right. Only what
//! belongs to an environment that is being built or torn down gets longer to settle.

use crate::{
    Clock,
    reconciler::Wake,
    status::{Pass, Status, chain},
    wanted::Ground,
};
use jiff::Timestamp;
use nonstop_api::{PassingView, ProofColour};
use nonstop_model::{EnvironmentId, SegmentKind, SegmentName};
use nonstop_reach::{Kernel, Proof, prove, wanted::Saved};
use nonstop_store::Db;
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// How long the lab goes without a proof when nothing happens.
const EVERY: Duration = Duration::from_secs(60);

/// How soon to prove again what did not hold.
const AGAIN: Duration = Duration::from_secs(10);

/// How long nothing must have changed before a change is proven, and the longest to wait for that.
const QUIET: Duration = Duration::from_millis(700);
const NOISE: Duration = Duration::from_secs(5);

/// The least time between two readings.
const BETWEEN: Duration = Duration::from_millis(300);

/// How long to wait for a pass of the reconciler; without one, the last one's word stands.
const PASS: Duration = Duration::from_secs(5);

/// How long what belongs to an environment that is being changed may differ.
const SETTLING: Duration = Duration::from_secs(20);

/// How many lines the trace keeps of what a proof found, and how long each may be.
const TOLD: usize = 10;
const LINE: usize = 300;

/// A proof that was made.
#[derive(Debug, Clone)]
pub struct Proved {
    /// When the kernel was first read for it.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// How many machines were looked at.
    pub machines: usize,
    /// What the last reading came to.
    pub proof: Arc<Proof>,
    /// What was there at the first reading and is gone.
    pub passing: Vec<PassingView>,
}

impl Proved {
    /// In a word.
    pub fn colour(&self) -> ProofColour {
        if !self.proof.differences.is_empty() || !self.passing.is_empty() {
            ProofColour::Red
        } else if self.proof.holds {
            ProofColour::Green
        } else {
            ProofColour::Unproven
        }
    }

    /// What speaks against it, first what still does.
    pub fn found(&self) -> impl Iterator<Item = &str> {
        let passing = self.passing.iter().map(|passing| &passing.what);
        let proof = self.proof.differences.iter().chain(&self.proof.not_proven);
        proof.chain(passing).map(String::as_str)
    }
}

/// Reads the kernel.
pub type ReadKernel = Box<dyn Fn() -> Result<Kernel, String> + Send + Sync>;

/// Makes proofs, one at a time.
pub struct Prover {
    ground: Ground,
    read: ReadKernel,
    db: Arc<Db>,
    status: Arc<Status>,
    wake: Arc<Wake>,
    clock: Arc<dyn Clock>,
    one_at_a_time: Mutex<()>,
    last: Mutex<Option<(Instant, Arc<Proved>)>>,
}

/// The kernel at a time, and what it came to beside what a pass wants.
struct Reading {
    at: Timestamp,
    pass: Arc<Pass>,
    kernel: Option<Kernel>,
    proof: Proof,
}

impl Reading {
    fn found(&self) -> BTreeSet<&str> {
        let all = self.proof.differences.iter().chain(&self.proof.not_proven);
        all.map(String::as_str).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Prover {
    /// A prover that reads the kernel by `read`.
    pub fn new(
        ground: Ground,
        read: ReadKernel,
        db: Arc<Db>,
        status: Arc<Status>,
        wake: Arc<Wake>,
        clock: Arc<dyn Clock>,
    ) -> Prover {
        Prover {
            ground,
            read,
            db,
            status,
            wake,
            clock,
            one_at_a_time: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// What the lab is, and what its rules are.
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// The last proof; None before the first.
    pub fn last(&self) -> Option<Arc<Proved>> {
        lock(&self.last).as_ref().map(|(_, proved)| Arc::clone(proved))
    }

    /// Proves now, or waits for a proof that begins after this call. None before the first pass.
    pub fn prove(&self) -> Option<Arc<Proved>> {
        let asked = Instant::now();
        let _one = lock(&self.one_at_a_time);
        if let Some((begun, proved)) = &*lock(&self.last)
            && *begun >= asked
        {
            return Some(Arc::clone(proved));
        }
        let begun = Instant::now();
        let proved = Arc::new(self.readings(begun)?);
        let before = lock(&self.last).replace((begun, Arc::clone(&proved)));
        self.tell(before.map(|(_, before)| before), &proved);
        Some(proved)
    }

    /// Proves for as long as the process lives, and keeps what is wanted in a file for whoever has
    /// to prove without the daemon.
    pub fn run(self: Arc<Self>) -> ! {
        let mut known = 0;
        let mut saved = None;
        loop {
            let holds = self.last().is_none_or(|last| last.colour() == ProofColour::Green);
            let changes = self.status.changes_from(known, if holds { EVERY } else { AGAIN });
            if changes != known {
                known = self.until_quiet(changes, &mut saved);
            }
            self.save(&mut saved);
            self.prove();
        }
    }

    fn until_quiet(&self, mut known: u64, saved: &mut Option<Saved>) -> u64 {
        let begun = Instant::now();
        loop {
            self.save(saved);
            let changes = self.status.changes_from(known, QUIET);
            if changes == known || begun.elapsed() > NOISE {
                return changes;
            }
            known = changes;
        }
    }

    /// Keeps what is wanted where a proof without the daemon finds it.
    fn save(&self, saved: &mut Option<Saved>) {
        let Some(pass) = self.status.pass() else { return };
        let wanted = match self.ground.wanted(&pass) {
            Ok(wanted) => wanted,
            // The proof says it aloud.
            Err(e) => return tracing::debug!("{}", chain(&e)),
        };
        if saved.as_ref().is_some_and(|saved| saved.wanted == wanted) {
            return;
        }
        let new = Saved { at: self.clock.now().to_string(), wanted };
        let path = self.ground.lab().wanted();
        match write(&path, &new) {
            Ok(()) => *saved = Some(new),
            Err(e) => error!("write {}: {e}", path.display()),
        }
    }

    fn readings(&self, begun: Instant) -> Option<Proved> {
        let first = self.reading(self.status.pass()?);
        let mut last: Option<Reading> = None;
        // What began to change after the first of them, and was done before the last, did change.
        let mut passes = vec![Arc::clone(&first.pass)];
        loop {
            let before = last.as_ref().unwrap_or(&first);
            if before.found().is_empty() {
                break;
            }
            let next = self.reading(self.next_pass(&before.pass));
            let (was, is) = (before.found(), next.found());
            let stays = is.iter().all(|what| was.contains(what));
            let around = [Arc::clone(&before.pass), Arc::clone(&next.pass)];
            let settles = |what: &&&str| concerns(what, &around);
            let settling = is.iter().filter(settles).count();
            let done = stays && settling == 0 || begun.elapsed() > SETTLING;
            passes.push(Arc::clone(&next.pass));
            last = Some(next);
            if done {
                break;
            }
        }
        let passing =
            last.as_ref().map(|last| self.passing(&first, last, &passes)).unwrap_or_default();
        let at = first.at;
        let last = last.unwrap_or(first);
        Some(Proved {
            at,
            took: begun.elapsed(),
            machines: last.pass.desired.environments.values().map(|e| e.machines.len()).sum(),
            proof: Arc::new(last.proof),
            passing,
        })
    }

    /// The next pass to begin after now; what was wanted last if the reconciler does none.
    fn next_pass(&self, last: &Arc<Pass>) -> Arc<Pass> {
        let now = Instant::now();
        std::thread::sleep(BETWEEN);
        self.wake.wake();
        self.status.pass_after(now, PASS).unwrap_or_else(|| {
            warn!("the reconciler made no pass for {} s while reach was proven", PASS.as_secs());
            self.status.pass().unwrap_or_else(|| Arc::clone(last))
        })
    }

    fn reading(&self, pass: Arc<Pass>) -> Reading {
        let at = self.clock.now();
        // What changes while it is listed may make a listing fail.
        match (self.read)().or_else(|_| (self.read)()) {
            Ok(kernel) => {
                let proof = self.proof(&kernel, &pass);
                Reading { at, pass, kernel: Some(kernel), proof }
            }
            Err(e) => Reading { at, pass, kernel: None, proof: unproven(e) },
        }
    }

    fn proof(&self, kernel: &Kernel, pass: &Pass) -> Proof {
        let wanted = match self.ground.wanted(pass) {
            Ok(wanted) => wanted,
            Err(e) => return unproven(format!("{} ({})", chain(&e), e.help)),
        };
        prove(kernel, &wanted).unwrap_or_else(|e| unproven(chain(&e)))
    }

    /// What was wrong at the first reading, whichever of the two passes is asked, and is not now.
    fn passing(&self, first: &Reading, last: &Reading, passes: &[Arc<Pass>]) -> Vec<PassingView> {
        let Some(kernel) = &first.kernel else { return Vec::new() };
        let by_last = self.proof(kernel, &last.pass);
        let still = last.found();
        let passed = first.proof.differences.iter().filter(|what| {
            by_last.differences.contains(what)
                && !still.contains(what.as_str())
                && !concerns(what, passes)
        });
        let view =
            |what: &String| PassingView { what: what.clone(), seen_at: first.at, gone_by: last.at };
        passed.map(view).collect()
    }

    /// Traces a change of colour.
    fn tell(&self, before: Option<Arc<Proved>>, now: &Proved) {
        let (was, is) = (before.map_or(ProofColour::Green, |b| b.colour()), now.colour());
        if was == is {
            return;
        }
        let found: Vec<String> = now.found().take(TOLD).map(|line| cut(line, LINE)).collect();
        match is {
            ProofColour::Green => info!("reach is proven again"),
            ProofColour::Red => warn!("reach is not as the lab wants it: {}", found.join("; ")),
            ProofColour::Unproven => warn!("reach is not proven: {}", found.join("; ")),
        }
        let detail = serde_json::json!({
            "colour": is, "was": was, "found": found, "lines": now.found().count(),
        });
        let written = self
            .db
            .write("nonstopd", self.clock.now(), |w| w.trace("reach.proof", &"reach", detail));
        if let Err(e) = written {
            error!("{}", chain(&e));
        }
    }
}

fn unproven(why: String) -> Proof {
    Proof { not_proven: vec![why], ..Proof::default() }
}

/// At most `most` characters of `line`.
pub(crate) fn cut(line: &str, most: usize) -> String {
    match line.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.into(),
    }
}

/// Whether `what` is about an environment that was being changed around one of `passes`.
fn concerns(what: &str, passes: &[Arc<Pass>]) -> bool {
    let words: BTreeSet<&str> =
        what.split(|c: char| !(c.is_alphanumeric() || ".:".contains(c))).collect();
    let about = |pass: &Pass, id: &EnvironmentId| {
        let named = words.contains(&*id.to_string());
        let bridges = [SegmentKind::Access, SegmentKind::Link]
            .map(|kind| SegmentName::of_kind(kind, *id))
            .iter()
            .any(|name| words.contains(name.as_str()));
        let own = pass.desired.environments.get(id).is_some_and(|environment| {
            environment.machines.iter().any(|machine| {
                use nonstop_model::network::{link_tap, tap};
                let address = machine.address.map(|address| address.to_string());
                words.contains(&*tap(machine.id))
                    || words.contains(&*link_tap(machine.id))
                    || address.is_some_and(|address| words.contains(&*address))
            })
        });
        named || bridges || own
    };
    let changing: BTreeSet<_> = passes.iter().flat_map(|pass| &pass.changing).collect();
    changing.into_iter().any(|id| passes.iter().any(|pass| about(pass, id)))
}

/// Writes `saved` whole or not at all, for root alone.
fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new)?;
    file.write_all(&serde_json::to_vec(saved)?)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemClock;
    use nonstop_host::firewall::Expected;
    use nonstop_model::Lab;
    use nonstop_plan::{Desired, Observed};
    use nonstop_reach::kernel::{Bridge, Link};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// A kernel with these bridges, and no rule.
    fn kernel(bridges: &[&str]) -> Kernel {
        let link = |name: &&str| Link {
            name: name.to_string(),
            kind: "bridge".into(),
            bridge: Some(Bridge::default()),
            ..Link::default()
        };
        Kernel {
            rules: serde_json::json!({ "nftables": [] }),
            links: bridges.iter().map(link).collect(),
            ..Kernel::default()
        }
    }

    /// A prover of a lab without environments that reads `kernels` in turn, the last one for ever,
    /// beside a reconciler that makes a pass every 20 ms, in which `changing` are changing.
    fn proved(kernels: Vec<Kernel>, changing: &[u32]) -> (Arc<Proved>, Vec<String>) {
        proved_while(kernels, |_| changing)
    }

    /// The same, where those that `changing` gives for the number of readings so far are changing.
    fn proved_while<'a>(
        kernels: Vec<Kernel>,
        changing: impl Fn(usize) -> &'a [u32] + Sync,
    ) -> (Arc<Proved>, Vec<String>) {
        let dir = tempfile::tempdir().expect("a folder");
        let text = format!("version: 1\nname: lab\nrun: {}\n", dir.path().display());
        let lab = Lab::parse("lab.yaml", &text).expect("a good lab");
        let now = Timestamp::now();
        let db = Arc::new(Db::open(&dir.path().join("nonstop.db"), now).expect("a database"));
        let status = Arc::new(Status::default());
        let rules = serde_json::json!({ "nftables": [] });
        let expected = Expected { rules, sets: BTreeSet::new() };
        let reads = Arc::new(AtomicUsize::new(0));
        let read = Arc::clone(&reads);
        let prover = Prover::new(
            Ground::new(lab, Box::new(move || Ok(expected.clone()))),
            Box::new(move || {
                let number = read.fetch_add(1, Ordering::SeqCst).min(kernels.len() - 1);
                Ok(kernels[number].clone())
            }),
            Arc::clone(&db),
            Arc::clone(&status),
            Arc::default(),
            Arc::new(SystemClock),
        );
        let pass = || Pass {
            began: Instant::now(),
            at: Timestamp::now(),
            desired: Desired {
                accounts: Default::default(),
                environments: Default::default(),
                lease: Duration::from_secs(60),
                bandwidth_kbit: Default::default(),
                portal_port: 8080,
                transfer_port: 8081,
                sessions_to_end: Vec::new(),
            },
            observed: Observed::default(),
            grants: BTreeSet::new(),
            changing: changing(reads.load(Ordering::SeqCst))
                .iter()
                .map(|id| EnvironmentId(*id))
                .collect(),
            guests: BTreeSet::new(),
        };
        assert!(prover.prove().is_none(), "nothing is known before the first pass");
        status.applied(pass());
        let over = AtomicBool::new(false);
        let proved = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    status.applied(pass());
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let proved = prover.prove().expect("there was a pass");
            over.store(true, Ordering::SeqCst);
            proved
        });
        let rows = db.read(|read| read.trace_rows(100)).expect("the trace");
        let told = rows.into_iter().filter(|row| row.action == "reach.proof");
        (proved, told.map(|row| row.detail.to_string()).collect())
    }

    #[test]
    fn what_is_as_it_should_be_is_read_once_and_not_traced() {
        let (proved, told) = proved(vec![kernel(&[]), kernel(&["nsb00009"])], &[]);
        assert_eq!(proved.colour(), ProofColour::Green, "{:?}", proved.proof);
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn what_differs_twice_differs_and_is_traced() {
        let (proved, told) = proved(vec![kernel(&["nsb00009"])], &[]);
        assert_eq!(proved.colour(), ProofColour::Red);
        assert_eq!(proved.proof.differences, ["unknown bridge nsb00009"]);
        assert!(proved.passing.is_empty());
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("unknown bridge nsb00009"), "{told:?}");
    }

    #[test]
    fn what_was_put_right_meanwhile_is_told_with_both_times() {
        let (proved, _) = proved(vec![kernel(&["nsb00009"]), kernel(&[])], &[]);
        assert_eq!(proved.colour(), ProofColour::Red);
        assert!(proved.proof.holds, "now it is right");
        let [passing] = &proved.passing[..] else { panic!("{:?}", proved.passing) };
        assert_eq!(passing.what, "unknown bridge nsb00009");
        assert!(passing.gone_by >= passing.seen_at + BETWEEN);
    }

    #[test]
    fn an_environment_that_is_being_made_alarms_nobody() {
        let (proved, told) = proved(vec![kernel(&["nsb00009"]), kernel(&[])], &[9]);
        assert_eq!(proved.colour(), ProofColour::Green);
        assert!(proved.passing.is_empty() && told.is_empty());
        // But only that one.
        let (proved, _) = self::proved(vec![kernel(&["nsb00009"]), kernel(&[])], &[8]);
        assert_eq!(proved.colour(), ProofColour::Red);
    }

    #[test]
    fn what_changed_after_the_first_reading_and_before_the_last_alarms_nobody() {
        let kernels = vec![kernel(&["nsb00009"]), kernel(&["nsb00009"]), kernel(&[])];
        let between = |reads| if reads == 1 { &[9][..] } else { &[] };
        let (proved, told) = proved_while(kernels, between);
        assert_eq!(proved.colour(), ProofColour::Green, "{:?}", proved.passing);
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn a_kernel_that_cannot_be_read_proves_nothing() {
        let broken = Kernel { rules: serde_json::json!("none"), ..Kernel::default() };
        let (proved, told) = proved(vec![broken], &[]);
        assert_eq!(proved.colour(), ProofColour::Unproven);
        assert_eq!(told.len(), 1);
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        assert_eq!(cut("到達性", 2), "到達…");
        assert_eq!(cut("到達性", 3), "到達性");
    }
}

//! Data domains whose power, or whose daemon, is cut before any effect.
//!
//! Folders, database and publisher are the real ones. What reads files and speaks with PostgreSQL is
//! simulated here: a day that is staged and swapped in one transaction.

use jiff::{Timestamp, civil::Date};
use nonstop_api::{
    day::{Day, HASHES, INDEX, REPORTS_PACK, SAMPLES_PACK, SampleDay},
    told::LoadedDay,
};
use nonstop_model::{CaptureFormat, Content, Holds, Lab, Packets, Resource};
use nonstop_store::Db;
use nonstopd::{
    Clock,
    publisher::{Children, Hand, Heard, Job, Made, Publisher, Readers, Trouble, Verdict},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

pub(crate) const DOMAIN: &str = "intermediate";
pub(crate) const OTHER: &str = "mws";

const LAB: &str = "\
version: 1
name: sweep
capacity: { reserve_mib: 1 }
data_domains:
  intermediate:
    interface: nsd0
    network: 10.80.0.0/24
    keep_days: 3
    servers:
      pcap: { address: 10.80.0.3, tcp: [80] }
      rdb: { address: 10.80.0.4, tcp: [5432] }
      samples: { address: 10.80.0.5, tcp: [80] }
  mws:
    interface: nsd1
    network: 10.81.0.0/24
    servers:
      pcap: { address: 10.81.0.3, tcp: [80] }
";

/// What happens at the effect that is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The daemon dies before it.
    Death,
    /// The disk is full, from it on for a while.
    FullDisk,
}

/// A hand that fails at one effect.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cut: Option<(usize, Kind)>,
    done: Vec<String>,
    dark: Option<Kind>,
}

impl Cutter {
    fn dark(&self) -> Option<Kind> {
        self.state.lock().expect("whole").dark
    }

    /// Lets effects be done again, none of which is cut.
    fn mend(&self) {
        let mut state = self.state.lock().expect("whole");
        (state.dark, state.cut) = (None, None);
    }

    fn effects(&self) -> Vec<String> {
        self.state.lock().expect("whole").done.clone()
    }
}

impl Hand for Cutter {
    fn about_to(&self, what: &str) -> io::Result<()> {
        let mut state = self.state.lock().expect("whole");
        if let Some((at, kind)) = state.cut
            && state.dark.is_none()
            && state.done.len() == at
        {
            state.dark = Some(kind);
        }
        match state.dark {
            Some(Kind::Death) => Err(io::Error::other("the power is cut")),
            Some(Kind::FullDisk) => Err(ErrorKind::StorageFull.into()),
            None => {
                state.done.push(what.into());
                Ok(())
            }
        }
    }
}

/// PostgreSQL, as far as a publication meets it; what is committed outlives every cut.
#[derive(Debug, Default)]
pub(crate) struct Rdb {
    staged: Mutex<BTreeMap<(String, Date), LoadedDay>>,
    live: Mutex<BTreeMap<(String, Date), LoadedDay>>,
    pub(crate) away: Mutex<bool>,
    /// What is staged is lost before it is swapped in.
    pub(crate) forgets: Mutex<bool>,
    /// How many programs die yet over the file that they read.
    pub(crate) deaths: Mutex<u32>,
}

impl Rdb {
    /// Somebody loses a day of the first data domain.
    pub(crate) fn lose(&self, day: &str) {
        let day = day.parse().expect("a day");
        let lost = self.live.lock().expect("whole").remove(&(DOMAIN.into(), day));
        assert!(lost.is_some());
    }
}

struct Programs {
    rdb: Arc<Rdb>,
    hand: Arc<Cutter>,
}

impl Programs {
    /// Reads a file, in all of which it may die.
    fn read(&self, what: &str, mut file: &File, heard: Heard<'_>) -> Result<String, Trouble> {
        self.hand.about_to(what).map_err(|e| Trouble::new(e.to_string(), ""))?;
        let mut deaths = self.rdb.deaths.lock().expect("whole");
        if *deaths > 0 {
            *deaths -= 1;
            let message = format!("it ended without a word: {what}");
            return Err(Trouble { died: true, ..Trouble::new(message, "") });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).expect("text");
        heard(text.len() as u64, text.len() as u64);
        Ok(text)
    }

    fn about_to(&self, what: &str) -> Result<(), Trouble> {
        if *self.rdb.away.lock().expect("whole") {
            return Err(Trouble::new("PostgreSQL does not answer", ""));
        }
        self.hand.about_to(what).map_err(|e| Trouble::new(e.to_string(), ""))
    }
}

impl Children for Programs {
    fn check(&self, job: &Job, file: &File, heard: Heard<'_>) -> Result<Verdict, Trouble> {
        let text = self.read("check", file, heard)?;
        if text.starts_with("torn") {
            return Ok(Verdict::Refused("it ends within record 3".into()));
        }
        let (first, last) = (job.from, job.from);
        let packets = Packets { format: CaptureFormat::Pcap, packets: 1, first, last };
        Ok(Verdict::Good(Content {
            bytes: text.len() as u64,
            sha256: sum(&text),
            holds: Holds::Packets(packets),
        }))
    }

    /// Each of what is made holds the text of the file, so that one of another file is seen.
    fn check_samples(
        &self,
        _: &Job,
        file: &File,
        made: &Made,
        heard: Heard<'_>,
    ) -> Result<Verdict, Trouble> {
        let text = self.read("pack", file, heard)?;
        for (mut file, name) in made.files().into_iter().zip(Made::NAMES) {
            assert_eq!(file.metadata().expect("open").len(), 0, "what is made is made anew");
            match name {
                HASHES => {
                    file.write_all(&hex::decode(member(&text)).expect("hex")).expect("written")
                }
                _ => write!(file, "{name} {text}").expect("written"),
            }
        }
        if text.starts_with("torn") {
            return Ok(Verdict::Refused("samples/abc: its name is not its SHA-256".into()));
        }
        Ok(Verdict::Good(Content {
            bytes: text.len() as u64,
            sha256: sum(&text),
            holds: Holds::Samples { samples: 1, reports: 2 },
        }))
    }

    fn load(&self, job: &Job, sha256: &str, _: &File, _: Heard<'_>) -> Result<u64, Trouble> {
        self.about_to("stage the day")?;
        let day = LoadedDay { day: job.day, rows: 1, publication: job.id, sha256: sha256.into() };
        self.rdb.staged.lock().expect("whole").insert((job.domain.clone(), job.day), day);
        Ok(1)
    }

    fn swap(&self, job: &Job) -> Result<u64, Trouble> {
        self.about_to("swap the day")?;
        let key = (job.domain.clone(), job.day);
        let mut live = self.rdb.live.lock().expect("whole");
        if std::mem::take(&mut *self.rdb.forgets.lock().expect("whole")) {
            self.rdb.staged.lock().expect("whole").clear();
        }
        let staged = self.rdb.staged.lock().expect("whole").remove(&key);
        match staged {
            Some(day) => drop(live.insert(key, day)),
            None if live.get(&key).is_some_and(|day| day.publication == job.id) => {}
            None => return Err(Trouble::new("it was not loaded, or is lost: load it", "")),
        }
        Ok(1)
    }

    fn drop_day(&self, domain: &str, day: Date) -> Result<(), Trouble> {
        self.about_to("drop the day")?;
        self.rdb.live.lock().expect("whole").remove(&(domain.into(), day));
        Ok(())
    }

    fn days(&self, domain: &str) -> Result<Vec<LoadedDay>, Trouble> {
        if *self.rdb.away.lock().expect("whole") {
            return Err(Trouble::new("PostgreSQL does not answer", ""));
        }
        let live = self.rdb.live.lock().expect("whole");
        Ok(live.iter().filter(|((of, _), _)| of == domain).map(|(_, day)| day.clone()).collect())
    }
}

/// Stands for a SHA-256, of the same form.
pub(crate) fn sum(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish()).repeat(4)
}

/// The sum of what a day of samples that is brought as `text` has.
fn member(text: &str) -> String {
    sum(&format!("a member of {text}"))
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct StillClock(AtomicI64);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).expect("small")
    }

    fn pause(&self, _: Duration) {}
}

/// Data domains over a folder; the daemon in it can die and be started again.
pub(crate) struct TestLab {
    pub(crate) lab: Lab,
    pub(crate) db: Arc<Db>,
    pub(crate) rdb: Arc<Rdb>,
    pub(crate) publisher: Publisher,
    hand: Arc<Cutter>,
    clock: Arc<StillClock>,
    dir: tempfile::TempDir,
    /// Files that were brought, by what they hold.
    brought: BTreeSet<String>,
}

impl TestLab {
    pub(crate) fn new(cut: Option<(usize, Kind)>) -> TestLab {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let mut lab = Lab::parse("lab.yaml", LAB).expect("valid");
        lab.state = dir.path().into();
        let clock = Arc::new(StillClock(AtomicI64::new(1_900_000_000)));
        let db = Arc::new(Db::open(&lab.database(), clock.now()).expect("opens"));
        let hand = Arc::new(Cutter::default());
        hand.state.lock().expect("whole").cut = cut;
        let rdb = Arc::default();
        let publisher = daemon(&lab, &hand, &rdb, &db, &clock);
        let brought = BTreeSet::new();
        let lab = TestLab { lab, db, rdb, publisher, hand, clock, dir, brought };
        lab.begin_work();
        lab
    }

    fn begin_work(&self) {
        self.publisher.begin_work(DOMAIN);
        self.publisher.begin_work(OTHER);
    }

    /// A database of before anything happened, as a backup would hold it.
    pub(crate) fn restore_old_backup(&mut self) {
        let path = self.lab.database().with_extension("old");
        self.db = Arc::new(Db::open(&path, self.clock.now()).expect("opens"));
        self.restart();
    }

    pub(crate) fn restart(&mut self) {
        self.hand.mend();
        self.publisher = daemon(&self.lab, &self.hand, &self.rdb, &self.db, &self.clock);
        self.begin_work();
    }

    pub(crate) fn later(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn folder(&self, rest: &str) -> PathBuf {
        self.lab.data(DOMAIN).join(rest)
    }

    pub(crate) fn bring(&mut self, name: &str, text: &str) {
        self.bring_to(DOMAIN, name, text);
    }

    /// Puts a file into an inbox, a minute ago.
    pub(crate) fn bring_to(&mut self, domain: &str, name: &str, text: &str) {
        let inbox = self.lab.data(domain).join("inbox/pcap");
        fs::create_dir_all(&inbox).expect("an inbox");
        let path = inbox.join(name);
        fs::write(&path, text).expect("written");
        let file = File::options().write(true).open(&path).expect("opens");
        let age = Duration::from_secs(60);
        file.set_modified(SystemTime::now() - age).expect("an old file");
        self.brought.insert(text.into());
    }

    /// Looks until nothing changes, with the cut where it falls.
    pub(crate) fn settle(&mut self) {
        for _ in 0..12 {
            for domain in [DOMAIN, OTHER] {
                self.publisher.watch(domain);
                self.publisher.work(domain);
            }
            self.whole();
            match self.hand.dark() {
                Some(Kind::Death) => self.restart(),
                // There is room again, and no word of it: it is found by itself.
                Some(Kind::FullDisk) => self.hand.mend(),
                None => {}
            }
            self.later(31);
        }
        self.nothing_left_over();
    }

    /// Every day that is shown is one file that was brought, with its own sum; so is it in PostgreSQL.
    pub(crate) fn whole(&self) {
        for (domain, day) in self.shown() {
            let folder = self.lab.data(&domain).join("published/pcap").join(day.to_string());
            let (note, text) = read_day(&folder);
            assert!(self.brought.contains(&text), "{day} shows {text:?}");
            assert_eq!(note.sha256, sum(&text));
            assert_eq!((note.day, note.bytes), (day, text.len() as u64));
            let said = fs::read_to_string(folder.join(format!("{}.sha256", note.file)));
            let said = said.expect("a sum beside the file");
            assert_eq!(said, format!("{}  {}\n", note.sha256, note.file));
        }
        for (domain, day) in self.shown_samples() {
            let folder = self.lab.data(&domain).join("published/samples").join(day.to_string());
            let (note, text) = read_samples(&folder);
            assert!(self.brought.contains(&text), "{day} shows {text:?}");
            assert_eq!((note.day, note.samples, note.reports), (day, 1, 2));
            assert_eq!((note.bytes, note.sha256), (text.len() as u64, sum(&text)));
            let known = self.db.read(|read| read.is_published(&member(&text))).expect("read");
            assert!(known, "{day} is published, and what it has may leave");
        }
        for day in self.rdb.live.lock().expect("whole").values() {
            assert!(self.brought.iter().any(|text| sum(text) == day.sha256), "{day:?}");
        }
    }

    fn shown(&self) -> Vec<(String, Date)> {
        self.shown_of(Resource::Pcap)
    }

    fn shown_samples(&self) -> Vec<(String, Date)> {
        self.shown_of(Resource::Samples)
    }

    fn shown_of(&self, kind: Resource) -> Vec<(String, Date)> {
        let days = [DOMAIN, OTHER].into_iter().flat_map(|domain| {
            let names = names(&self.lab.data(domain).join("published").join(kind.word()));
            let days = names.into_iter().filter_map(|name| name.parse().ok());
            days.map(move |day| (domain.to_string(), day)).collect::<Vec<_>>()
        });
        days.collect()
    }

    /// Files and rows agree, and nothing of the way is left.
    fn nothing_left_over(&self) {
        for domain in [DOMAIN, OTHER] {
            let root = self.lab.data(domain);
            assert_eq!(names(&root.join("taking")), [""; 0], "taken");
            let published = self.db.read(|r| r.published(domain)).expect("read");
            for kind in [Resource::Pcap, Resource::Samples] {
                let hidden = names(&root.join("published").join(kind.word())).into_iter();
                let hidden: Vec<_> = hidden.filter(|name| name.starts_with('.')).collect();
                assert_eq!(hidden, [""; 0]);
                let rejected = names(&root.join("rejected").join(kind.word()));
                assert!(rejected.iter().all(|name| !name.ends_with(".tmp")), "{rejected:?}");
                let rows = published.iter().filter(|p| p.kind == kind);
                let rows: Vec<_> =
                    rows.filter_map(|p| Some((domain.to_string(), p.day?))).collect();
                let shown = self.shown_of(kind).into_iter().filter(|(of, _)| of == domain);
                assert_eq!(rows, shown.collect::<Vec<_>>(), "rows, and what is shown");
            }
            let shown: Vec<_> = self.shown().into_iter().filter(|(of, _)| of == domain).collect();
            for (_, day) in &shown {
                let (note, _) = read_day(&root.join("published/pcap").join(day.to_string()));
                let live = self.rdb.live.lock().expect("whole");
                let live = live.get(&(domain.into(), *day)).map(|day| day.sha256.clone());
                let has_rdb = domain == DOMAIN;
                assert_eq!(live, has_rdb.then_some(note.sha256), "{day} in PostgreSQL");
            }
        }
        let live: Vec<_> = self.rdb.live.lock().expect("whole").keys().cloned().collect();
        let shown: Vec<_> = self.shown().into_iter().filter(|(of, _)| of == DOMAIN).collect();
        assert_eq!(live, shown, "days in PostgreSQL");
    }

    /// What one sees of it.
    pub(crate) fn picture(&self) -> String {
        let mut lines = Vec::new();
        for (domain, day) in self.shown() {
            let folder = self.lab.data(&domain).join("published/pcap").join(day.to_string());
            let (note, text) = read_day(&folder);
            lines.push(format!("{domain} {day}: {text} in {}", note.file));
        }
        for (domain, day) in self.shown_samples() {
            let folder = self.lab.data(&domain).join("published/samples").join(day.to_string());
            lines.push(format!("{domain} {day}: {} of samples", read_samples(&folder).1));
        }
        for domain in [DOMAIN, OTHER] {
            for kind in [Resource::Pcap, Resource::Samples] {
                let rejected = self.lab.data(domain).join("rejected").join(kind.word());
                for name in names(&rejected) {
                    let text = fs::read_to_string(rejected.join(&name)).expect("readable");
                    lines.push(format!("{domain} rejected {name}: {}", text.trim()));
                }
            }
            for name in names(&self.lab.data(domain).join("inbox/pcap")) {
                lines.push(format!("{domain} inbox {name}"));
            }
        }
        let rows = self.db.read(|r| r.trace_rows(1000)).expect("rows");
        let mut counts = BTreeMap::<String, usize>::new();
        for row in rows.iter().filter(|row| row.action.starts_with("data.")) {
            *counts.entry(row.action.clone()).or_default() += 1;
        }
        lines.extend(counts.into_iter().map(|(action, count)| format!("{action} {count}")));
        lines.join("\n")
    }

    pub(crate) fn published_inode(&self, day: &str) -> u64 {
        let file = self.folder("published/pcap").join(day).join(format!("{day}.pcap"));
        fs::metadata(file).expect("published").ino()
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn daemon(
    lab: &Lab,
    hand: &Arc<Cutter>,
    rdb: &Arc<Rdb>,
    db: &Arc<Db>,
    clock: &Arc<StillClock>,
) -> Publisher {
    let children = Programs { rdb: Arc::clone(rdb), hand: Arc::clone(hand) };
    let hand: Arc<dyn Hand> = Arc::<Cutter>::clone(hand);
    let clock: Arc<dyn Clock> = Arc::<StillClock>::clone(clock);
    Publisher::new(lab, Readers::default(), &hand, Arc::new(children), Arc::clone(db), clock)
}

fn read_day(folder: &Path) -> (Day, String) {
    let note = fs::read(folder.join(Day::FILE)).expect("a note");
    let note: Day = serde_json::from_slice(&note).expect("a whole note");
    let text = fs::read_to_string(folder.join(&note.file)).expect("its file");
    (note, text)
}

/// What a day of samples shows: each of its files is of one and the same archive.
fn read_samples(folder: &Path) -> (SampleDay, String) {
    let note = fs::read(folder.join(SampleDay::FILE)).expect("a note");
    let note: SampleDay = serde_json::from_slice(&note).expect("a whole note");
    let lengths = [note.pack_bytes, note.reports_bytes, note.index_bytes];
    let hashes = fs::metadata(folder.join(HASHES)).expect("there");
    assert_eq!((hashes.mode() & 0o777, hashes.len()), (0o440, note.hashes_bytes));
    let texts =
        [SAMPLES_PACK, REPORTS_PACK, INDEX].into_iter().zip(lengths).map(|(name, bytes)| {
            let path = folder.join(name);
            assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o440);
            let text = fs::read_to_string(&path).expect("readable");
            assert_eq!(text.len() as u64, bytes);
            text.strip_prefix(name).expect("its own").trim().to_string()
        });
    let texts: BTreeSet<String> = texts.collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    (note, texts.into_iter().next().expect("one"))
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Runs `scenario` without a cut, then with every cut of every kind; it ends the same way each time.
/// Gives its effects and its end.
pub(crate) fn sweep(scenario: fn(&mut TestLab)) -> String {
    let mut uncut = TestLab::new(None);
    scenario(&mut uncut);
    let (effects, end) = (uncut.hand.effects(), uncut.picture());
    assert!(effects.len() > 3, "{effects:?}");
    for kind in [Kind::Death, Kind::FullDisk] {
        for (at, what) in effects.iter().enumerate() {
            let mut lab = TestLab::new(Some((at, kind)));
            scenario(&mut lab);
            assert_eq!(lab.picture(), end, "{kind:?} before effect {at}, {what}");
        }
    }
    format!("{}\n\n{end}", effects.join("\n"))
}

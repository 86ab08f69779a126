//! Keeps both servers and the front running, and tells the one what the other needs.

use crate::{
    rdb::{
        DATABASE, KEEPER,
        cluster::{self, Part},
        front::Word,
        front_child::FrontChild,
        leftovers::Leftovers,
        namespace::{self, stop_flag},
        places::Places,
        process::{Kept, none_in, reap},
        schema,
        watchdog::Watchdog,
    },
    wire::{Session, WireError},
};
use anyhow::bail;
use nonstop_model::{Lab, RdbLimits};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal},
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The verb `rdb-keep`: the first process of its namespace; started by [`run`] alone.
pub fn keep(lab: &Path, domain: &str) -> anyhow::Result<()> {
    let stop = stop_flag()?;
    namespace::enter()?;
    let lab = Lab::load(lab)?;
    let Some(data) = lab.data_domains.get(domain) else {
        bail!("there is no data domain `{domain}` in lab.yaml");
    };
    let limits = data.rdb;
    let places = Places::of(&lab, domain)?;
    places.ensure()?;
    let lock = namespace::lock(&places)?;
    let front = FrontChild::new(&lab, domain, &places)?;
    Keeper {
        places,
        limits,
        stop,
        writer: Kept::new("writer"),
        reader: Kept::new("reader"),
        copy: Kept::new("copy of the writer"),
        front,
        watchdog: Watchdog::new(limits),
        prepared: false,
        stale: false,
        leftovers: Leftovers::new(),
        followed: Instant::now(),
        next_look: Instant::now(),
        wanted_roles: BTreeSet::new(),
        session: None,
        _lock: lock,
    }
    .run()
}

struct Keeper {
    places: Places,
    limits: RdbLimits,
    stop: Arc<AtomicBool>,
    writer: Kept,
    reader: Kept,
    copy: Kept,
    front: FrontChild,
    watchdog: Watchdog,
    /// Whether this run of the writer has got tables and rights.
    prepared: bool,
    /// Whether the reader's files cannot follow the writer any more.
    stale: bool,
    leftovers: Leftovers,
    followed: Instant,
    next_look: Instant,
    wanted_roles: BTreeSet<u32>,
    session: Option<Session>,
    _lock: File,
}

const PATIENCE: Duration = Duration::from_secs(5);

/// A reader that has not followed for so long has lost its way.
const LEFT_BEHIND: Duration = Duration::from_secs(120);

impl Keeper {
    fn run(mut self) -> anyhow::Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            self.bury();
            if let Err(e) = self.keep_writer() {
                eprintln!("writer: {e:#}");
                self.writer.failed();
            }
            if let Err(e) = self.prepare() {
                // Not yet there, most often.
                eprintln!("prepare the writer: {e:#}");
            }
            if let Err(e) = self.keep_reader() {
                eprintln!("reader: {e:#}");
                self.reader.failed();
            }
            self.front.keep();
            if self.reader.pid().is_some() {
                // An error means that it starts, or dies: `bury` hears of that.
                let folder = Part::Reader.folder(&self.places);
                let _ = self.watchdog.look(&self.places.read, &folder);
            }
            if self.prepared {
                self.leftovers.remove(&self.places);
            }
            self.hear_front();
            self.make_roles();
            self.wait();
        }
        self.end();
        Ok(())
    }

    /// Until the front says something, or for a short time.
    fn wait(&self) {
        let short = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        match self.front.socket() {
            Some(socket) => {
                let mut polled = [PollFd::new(socket, PollFlags::IN)];
                // A front that ended is always ready to be read until it is buried.
                if let Ok(n) = poll(&mut polled, Some(&short))
                    && n > 0
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }

    fn bury(&mut self) {
        for (pid, status) in reap() {
            if self.writer.ended(pid) {
                eprintln!("the writer ended: {status:?}");
                (self.prepared, self.session) = (false, None);
            } else if self.reader.ended(pid) {
                eprintln!("the reader ended: {status:?}");
            } else if self.copy.ended(pid) {
                let whole = status.exit_status() == Some(0);
                if let Err(e) = self.adopt(whole) {
                    eprintln!("copy of the writer: {e:#}");
                }
            } else if self.front.ended(pid) {
                eprintln!("the front ended: {status:?}");
            }
        }
    }

    fn keep_writer(&mut self) -> anyhow::Result<()> {
        if !self.writer.is_due() || !none_in(&Part::Writer.folder(&self.places)) {
            return Ok(());
        }
        cluster::ensure_writer(&self.places)?;
        let command = cluster::server(&self.places, Part::Writer, self.limits)?;
        self.writer.start(command)?;
        self.leftovers.look_after(Part::Writer);
        Ok(())
    }

    /// Tables, roles and rights, once in each run of the writer.
    fn prepare(&mut self) -> anyhow::Result<()> {
        if self.prepared || self.writer.pid().is_none() {
            return Ok(());
        }
        match schema::ensure(&self.places.load) {
            Ok(()) => self.prepared = true,
            Err(e) if is_early(&e) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    fn keep_reader(&mut self) -> anyhow::Result<()> {
        let folder = Part::Reader.folder(&self.places);
        if self.prepared && self.next_look <= Instant::now() {
            self.next_look = Instant::now() + Duration::from_secs(2);
            self.stale |= self.slot_is_lost()? || self.is_left_behind()?;
            if self.stale || !folder.exists() {
                self.start_copy()?;
            }
        }
        if !self.reader.is_due() || !folder.exists() || !none_in(&folder) {
            return Ok(());
        }
        let command = cluster::server(&self.places, Part::Reader, self.limits)?;
        self.reader.start(command)?;
        self.leftovers.look_after(Part::Reader);
        Ok(())
    }

    /// Whether the writer no longer has what the reader lacks; it takes note of a new one then.
    fn slot_is_lost(&mut self) -> anyhow::Result<bool> {
        let status = self.ask_writer(
            "select coalesce(min(wal_status), 'none') from pg_replication_slots \
             where slot_name = 'reader'",
        )?;
        let lost = matches!(status.as_deref(), Some("lost" | "none"));
        if status.as_deref() == Some("lost") {
            self.ask_writer("select pg_drop_replication_slot('reader')")?;
        }
        if lost {
            self.ask_writer("select pg_create_physical_replication_slot('reader', true)")?;
        }
        Ok(lost)
    }

    /// Whether the reader runs and has not followed for so long that it cannot.
    fn is_left_behind(&mut self) -> anyhow::Result<bool> {
        let following =
            "select count(*) from pg_stat_replication where application_name = 'reader'";
        if self.reader.pid().is_none() || self.ask_writer(following)?.as_deref() != Some("0") {
            self.followed = Instant::now();
        }
        Ok(self.followed.elapsed() > LEFT_BEHIND)
    }

    /// An old reader answers until the copy is whole.
    fn start_copy(&mut self) -> anyhow::Result<()> {
        if self.copy.is_due() {
            let command = cluster::copy_of_writer(&self.places)?;
            self.copy.start(command)?;
        }
        Ok(())
    }

    fn adopt(&mut self, whole: bool) -> anyhow::Result<()> {
        if !whole {
            return Ok(());
        }
        if let Some(pid) = self.reader.pid() {
            self.reader.signal(Signal::INT);
            await_end(pid, Duration::from_secs(10));
            self.reader.ended(pid);
        }
        let folder = Part::Reader.folder(&self.places);
        while !none_in(&folder) {
            std::thread::sleep(Duration::from_millis(20));
            reap();
        }
        cluster::adopt_copy(&self.places)?;
        self.reader = Kept::new("reader");
        (self.stale, self.followed) = (false, Instant::now());
        Ok(())
    }

    fn hear_front(&mut self) {
        for word in self.front.hear() {
            match word {
                Word::Role(slot) if self.wanted_roles.len() < 1000 => {
                    self.wanted_roles.insert(slot);
                }
                Word::Fetch(fetch) => tell_fetch(&fetch),
                Word::Role(_) | Word::There(_) => {}
            }
        }
    }

    /// Makes the roles that were asked for, and tells the front of those that the reader has.
    fn make_roles(&mut self) {
        for slot in std::mem::take(&mut self.wanted_roles) {
            match self.make_role(slot) {
                Ok(true) => self.front.tell(&Word::There(slot)),
                Ok(false) => {}
                Err(e) => eprintln!("make a role: {e:#}"),
            }
        }
    }

    /// Whether it is there; the front asks again.
    fn make_role(&mut self, slot: u32) -> anyhow::Result<bool> {
        if self.has_role(slot)? {
            return Ok(true);
        }
        if !self.prepared {
            return Ok(false);
        }
        let session = self.writer_session()?;
        if let Err(e) = schema::ensure_role(session, slot) {
            self.session = None;
            return Err(e.into());
        }
        Ok(false)
    }

    fn has_role(&mut self, slot: u32) -> anyhow::Result<bool> {
        let mut reader = match Session::open(&self.places.read, KEEPER, DATABASE, Some(PATIENCE)) {
            Ok(session) => session,
            Err(e) if is_early(&e) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        let role = crate::rdb::role(slot);
        Ok(reader.ask_one(&format!("select 1 from pg_roles where rolname = '{role}'"))?.is_some())
    }

    fn ask_writer(&mut self, sql: &str) -> anyhow::Result<Option<String>> {
        let answer = self.writer_session()?.ask_one(sql);
        if answer.is_err() {
            self.session = None;
        }
        Ok(answer?)
    }

    fn writer_session(&mut self) -> Result<&mut Session, WireError> {
        match &mut self.session {
            Some(session) => Ok(session),
            none => Ok(none.insert(Session::open(
                &self.places.load,
                KEEPER,
                "postgres",
                Some(PATIENCE),
            )?)),
        }
    }

    /// Ends all, the ones that machines see first; what does not end in time is ended with us.
    fn end(self) {
        self.front.signal(Signal::TERM);
        self.copy.signal(Signal::TERM);
        // Fast: connections are ended, and what was committed is on the disk.
        for kept in [&self.reader, &self.writer] {
            kept.signal(Signal::INT);
            if let Some(pid) = kept.pid() {
                await_end(pid, Duration::from_secs(20));
            }
        }
    }
}

fn await_end(pid: Pid, patience: Duration) {
    let since = Instant::now();
    while since.elapsed() < patience {
        if reap().iter().any(|(ended, _)| *ended == pid) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether PostgreSQL has not come up yet.
fn is_early(e: &WireError) -> bool {
    match e {
        WireError::Connect { .. } => true,
        // cannot_connect_now: it starts, recovers or shuts down.
        WireError::Server { code, .. } => code == "57P03",
        WireError::Io(_) | WireError::Nonsense(_) => false,
    }
}

/// Says on standard output what a machine got; not if whoever reads it does not keep up.
fn tell_fetch(fetch: &nonstop_api::fetch::Fetch) {
    let stdout = rustix::stdio::stdout();
    let mut polled = [PollFd::from_borrowed_fd(stdout, PollFlags::OUT)];
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut polled, Some(&none)).is_ok_and(|n| n > 0)
        && let Ok(mut line) = serde_json::to_vec(fetch)
        && line.len() < nonstop_api::fetch::LONGEST
    {
        line.push(b'\n');
        let _ = std::io::stdout().write_all(&line);
    }
}

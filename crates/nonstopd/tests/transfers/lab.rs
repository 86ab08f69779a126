//! A lab with transfers alone: real database, folders and doors; who is behind a connection, and what
//! looks into files, are played.

use jiff::Timestamp;
use nonstop_api::PreviewView;
use nonstop_api::airlock::{AirlockError, Answer, Ask, Denial, DenialKind, Entry, Place, Session};
use nonstop_model::{
    EnvironmentId, EnvironmentTemplate, ExportId, ExportState, Lab, MachineId, MachineRole,
    Password, Period, Role, Root,
    capacity::Room,
    screening::{About, Finding, Kind, Verdict, Words},
};
use nonstop_store::{Db, Export, Grant, GrantedMachine, NewAccount, TraceRow};
use nonstopd::{
    Clock,
    publisher::{Hand, Steady},
    screening::{Preview, Screened, Screener},
    server::listen,
    transfers::{Nobody, Parts, Peers, Seal, Transfers, Who, doors},
};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) const LAB: &str = "\
version: 1
name: airlock
capacity: { reserve_mib: 1 }
airlock: { quiet_seconds: 1, import_mib: 4, export_mib: 8, file_mib: 4, day_mib: 64 }
";

const TEMPLATE: &str = "version: 1\ntitle: t\nmachines:\n\
    - {role: analyst, image: micro, memory_mib: 96, reach: [airlock]}\n\
    - {role: debugger, image: micro, memory_mib: 96}";

/// A clock that tests move.
pub(crate) struct Moved(AtomicI64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        let ahead = Duration::from_secs(self.0.load(Ordering::SeqCst).unsigned_abs());
        Timestamp::now() + ahead
    }

    fn pause(&self, time: Duration) {
        thread::sleep(time.min(Duration::from_millis(20)));
    }
}

impl Moved {
    pub(crate) fn move_on(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// Clients are who their ports say: the listener at which they came in tells.
#[derive(Default)]
pub(crate) struct Played {
    machines: Mutex<Vec<(u16, Who)>>,
    /// Whether every other client is alice, or her machine.
    pub(crate) alone: AtomicBool,
    pub(crate) dead: AtomicBool,
}

impl Played {
    fn who(&self, connection: BorrowedFd<'_>) -> Result<Who, Nobody> {
        let copy = connection.try_clone_to_owned().expect("a copy");
        let port = TcpStream::from(copy).local_addr().map_err(|e| Nobody(e.to_string()))?.port();
        let known = self.machines.lock().expect("whole");
        let found = known.iter().find(|(known, _)| *known == port);
        found.map(|(_, who)| who.clone()).ok_or_else(|| Nobody("no such client".into()))
    }
}

impl Peers for Played {
    fn machine(&self, connection: BorrowedFd<'_>) -> Result<Who, Nobody> {
        if self.alone.load(Ordering::SeqCst) {
            return Ok(machine_of(E1));
        }
        self.who(connection).and_then(|who| match who {
            Who::Machine { .. } => Ok(who),
            Who::Person(_) => Err(Nobody("a person".into())),
        })
    }

    fn person(&self, connection: BorrowedFd<'_>) -> Result<Who, Nobody> {
        if self.alone.load(Ordering::SeqCst) {
            return Ok(Who::Person(nonstop_model::AccountId(1)));
        }
        self.who(connection).and_then(|who| match who {
            Who::Person(_) => Ok(who),
            Who::Machine { .. } => Err(Nobody("a machine".into())),
        })
    }

    fn lives(&self, _connection: BorrowedFd<'_>) -> bool {
        !self.dead.load(Ordering::SeqCst)
    }
}

/// Takes files at their word: the one they begin with.
#[derive(Default)]
pub(crate) struct ByWord {
    pub(crate) slow: Mutex<Duration>,
    pub(crate) seen: Mutex<Vec<About>>,
}

impl Screener for ByWord {
    fn screen(&self, file: OwnedFd, about: &About) -> Screened {
        self.seen.lock().expect("whole").push(about.clone());
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).expect("read");
        thread::sleep(*self.slow.lock().expect("whole"));
        let (verdict, rule) = match bytes.get(..4) {
            Some(b"HOLD") => (Verdict::Hold, "review"),
            Some(b"DIES") => (Verdict::Hold, "screening-failed"),
            Some(b"BLOC") => (Verdict::Block, "encrypted"),
            _ => (Verdict::Pass, ""),
        };
        let sha256 = if bytes.starts_with(b"LIES") { vec![7; 32] } else { digest(&bytes) };
        let finding = |rule: &str| Finding {
            rule: rule.parse().expect("a rule"),
            verdict,
            says: Words { en: "it begins with that word".into(), ja: String::new() },
            mend: Words::default(),
        };
        Screened {
            verdict,
            findings: if rule.is_empty() { Vec::new() } else { vec![finding(rule)] },
            sha256: hex::encode(sha256),
            bytes: bytes.len() as u64,
            kind: Kind::UNKNOWN,
            encoding: None,
            rules_digest: "d".repeat(64),
            took: Duration::ZERO,
            failures: Vec::new(),
        }
    }

    fn preview(&self, _file: OwnedFd) -> Preview {
        Preview { view: PreviewView::Bytes { hex: String::new() }, png: None }
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// A running lab.
pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) db: Arc<Db>,
    pub(crate) clock: Arc<Moved>,
    pub(crate) peers: Arc<Played>,
    pub(crate) screener: Arc<ByWord>,
    pub(crate) transfers: Arc<Transfers>,
    _dir: Option<tempfile::TempDir>,
}

pub(crate) const E1: EnvironmentId = EnvironmentId(1);
pub(crate) const E2: EnvironmentId = EnvironmentId(2);

impl World {
    pub(crate) fn new() -> World {
        World::with(LAB)
    }

    pub(crate) fn with(text: &str) -> World {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let world = World::at(dir.path(), text, Arc::new(Steady));
        world.transfers.run().expect("threads");
        World { _dir: Some(dir), ..world }
    }

    /// A lab at `dir`, without its threads.
    pub(crate) fn at(dir: &Path, text: &str, hand: Arc<dyn Hand>) -> World {
        World::try_at(dir, text, hand).expect("opens")
    }

    pub(crate) fn try_at(dir: &Path, text: &str, hand: Arc<dyn Hand>) -> anyhow::Result<World> {
        let seal: Seal =
            Box::new(|w, export| w.trace("test.seal", &export.id, serde_json::json!({})));
        World::sealed(dir, text, hand, seal)
    }

    /// The same, with what commits with each release.
    pub(crate) fn sealed(
        dir: &Path,
        text: &str,
        hand: Arc<dyn Hand>,
        seal: Seal,
    ) -> anyhow::Result<World> {
        let mut lab = Lab::parse("lab.yaml", text).expect("valid");
        (lab.state, lab.run) = (dir.join("state"), dir.join("run"));
        for path in [&lab.state, &lab.run] {
            std::fs::create_dir_all(path).expect("a folder");
        }
        let clock = Arc::new(Moved(AtomicI64::new(0)));
        let db = Arc::new(Db::open(&lab.database(), clock.now()).expect("opens"));
        if db.read(|r| r.accounts()).expect("read").is_empty() {
            for account in ["alice", "bob"] {
                grant(&db, &lab, account, clock.now());
            }
        }
        let (peers, screener) = (Arc::<Played>::default(), Arc::<ByWord>::default());
        let transfers = Transfers::open(Parts {
            lab: lab.clone(),
            db: Arc::clone(&db),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            screener: Arc::clone(&screener) as Arc<dyn Screener>,
            peers: Arc::clone(&peers) as Arc<dyn Peers>,
            hand,
            seal,
        })?;
        for (side, path) in [
            (doors::Side::Inside, lab.inside_socket()),
            (doors::Side::Outside, lab.outside_socket()),
        ] {
            let listener = listen(&path, None, 0o600).expect("listens");
            let transfers = Arc::clone(&transfers);
            thread::spawn(move || doors::serve(&transfers, side, &listener, 0));
        }
        Ok(World { lab, db, clock, peers, screener, transfers, _dir: None })
    }

    /// A client's connection, and the program's session that speaks for it.
    fn client(&self, who: Who) -> Client {
        let door = match who {
            Who::Machine { .. } => self.lab.inside_socket(),
            Who::Person(_) => self.lab.outside_socket(),
        };
        let (near, far) = self.connection(who);
        let (session, _) = Session::begin(&door, far.as_fd()).expect("taken for who it is");
        Client { session, near, _far: far }
    }

    /// Both ends of a connection whose far one is taken for `who`'s.
    pub(crate) fn connection(&self, who: Who) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        self.peers.machines.lock().expect("whole").push((address.port(), who));
        let near = TcpStream::connect(address).expect("connects");
        let (far, _) = listener.accept().expect("accepted");
        (near, far)
    }

    /// alice's analyst, inside.
    pub(crate) fn machine(&self) -> Client {
        self.client(machine_of(E1))
    }

    /// bob's analyst, inside.
    pub(crate) fn other_machine(&self) -> Client {
        self.client(machine_of(E2))
    }

    /// alice, outside.
    pub(crate) fn alice(&self) -> Client {
        self.client(Who::Person(nonstop_model::AccountId(1)))
    }

    /// bob, outside.
    pub(crate) fn bob(&self) -> Client {
        self.client(Who::Person(nonstop_model::AccountId(2)))
    }

    pub(crate) fn export(&self, number: u32) -> Export {
        self.db.read(|r| r.export(ExportId(number))).expect("there")
    }

    /// Waits until the export is `state`.
    pub(crate) fn until(&self, number: u32, state: ExportState) -> Export {
        wait(&format!("x{number} to be {state}"), || {
            let found = self.db.read(|r| r.export(ExportId(number))).ok();
            found.filter(|export| export.state == state)
        })
    }

    pub(crate) fn trace(&self) -> Vec<TraceRow> {
        let mut rows = self.db.read(|r| r.trace_rows(100_000)).expect("rows");
        rows.reverse();
        rows
    }

    /// The actions of the trace on `subject`.
    pub(crate) fn actions(&self, subject: &str) -> Vec<String> {
        let rows = self.trace().into_iter().filter(|row| row.subject == subject);
        rows.map(|row| row.action).collect()
    }
}

pub(crate) fn machine_of(environment: EnvironmentId) -> Who {
    let machine = MachineId(environment.0 * 2 - 1);
    Who::Machine { environment, machine, role: MachineRole::Analyst }
}

fn grant(db: &Db, lab: &Lab, account: &str, now: Timestamp) {
    let until = now + Duration::from_secs(3600);
    let machine = || GrantedMachine {
        image: "micro".parse().expect("a name"),
        image_digest: "d".into(),
        guest_user: None,
        password: Password("secret".into()),
        desktop_port: None,
    };
    db.write("sato", now, |w| {
        w.add_account(&NewAccount {
            name: account.parse().expect("a name"),
            full_name: "Somebody".into(),
            affiliation: "Somewhere".into(),
            role: Role::Researcher,
            edition: None,
            sources: Vec::new(),
            keys: Vec::new(),
        })?;
        w.grant_environment(&Grant {
            account: account.parse().expect("a name"),
            template_name: "micro".parse().expect("a name"),
            template: EnvironmentTemplate::parse("t", TEMPLATE, None).expect("valid"),
            period: Period::new(now, until).expect("ordered"),
            machines: vec![machine(), machine()],
            pool: lab.network.pool,
            room: Room { memory_mib: 1 << 20, machines: 8 },
        })
    })
    .expect("granted");
}

/// A client of a daemon whose clients are all alice's, at the door `path`.
pub(crate) fn client_at(path: &Path) -> Result<Client, AirlockError> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (far, _) = listener.accept().expect("accepted");
    let (session, _) = Session::begin(path, far.as_fd())?;
    Ok(Client { session, near, _far: far })
}

/// Waits at most half a minute for something to be there.
pub(crate) fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A client, as its program speaks for it.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) near: TcpStream,
    pub(crate) _far: TcpStream,
}

pub(crate) fn at(environment: EnvironmentId, root: Root, path: &str) -> Place {
    Place { environment, root, path: path.parse().expect("a path") }
}

impl Client {
    pub(crate) fn ask(&self, ask: Ask) -> Result<Answer, Denial> {
        self.session.ask(&ask).map_err(denied)
    }

    pub(crate) fn create(&self, place: Place, bytes: Option<u64>) -> Result<(u64, File), Denial> {
        let ask = Ask::Create { place, bytes };
        match self.session.ask_for_file(&ask).map_err(denied)? {
            (Answer::Writing { ticket, .. }, file) => Ok((ticket, file.into())),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn put(&self, place: Place, bytes: &[u8]) -> Result<Entry, Denial> {
        let (ticket, mut file) = self.create(place, Some(bytes.len() as u64))?;
        file.write_all(bytes).expect("written");
        drop(file);
        self.commit(ticket)
    }

    pub(crate) fn commit(&self, ticket: u64) -> Result<Entry, Denial> {
        match self.ask(Ask::Commit { ticket })? {
            Answer::Entry(entry) => Ok(entry),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn get(&self, place: Place) -> Result<Vec<u8>, Denial> {
        let (_, file) = self.session.ask_for_file(&Ask::Open { place }).map_err(denied)?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).expect("read");
        Ok(bytes)
    }

    pub(crate) fn look(&self, place: Place) -> Result<Entry, Denial> {
        match self.ask(Ask::Look { place })? {
            Answer::Entry(entry) => Ok(entry),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn names(&self, place: Place) -> Result<Vec<String>, Denial> {
        match self.ask(Ask::List { place, after: None })? {
            Answer::Entries(all) => {
                Ok(all.into_iter().map(|e| e.name.map(String::from).unwrap_or_default()).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn quota(&self, place: Place) -> (u64, u64) {
        match self.ask(Ask::Quota { place }) {
            Ok(Answer::Quota { used, available }) => (used, available),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn denied(error: AirlockError) -> Denial {
    match error {
        AirlockError::Denied(denial) => denial,
        other => Denial { kind: DenialKind::Gone, message: format!("{other:?}") },
    }
}

//! Both programs before the daemon's real core: real database, folders and doors. Who is behind a
//! connection is played: one machine inside, two accounts outside; and files are taken at their word.

use jiff::Timestamp;
use nonstop_airlock::target::Side;
use nonstop_api::PreviewView;
use nonstop_model::{
    AccountId, EnvironmentId, EnvironmentTemplate, ExportState, Lab, MachineId, MachineRole,
    Password, Period, Role,
    capacity::Room,
    network::ACCOUNT_NET,
    screening::{About, Finding, Kind, Verdict, Words},
};
use nonstop_store::{Db, Export, Grant, GrantedMachine, NewAccount, Which};
use nonstopd::{
    Clock,
    publisher::Steady,
    screening::{Preview, Screened, Screener},
    server::listen,
    transfers::{Nobody, Parts, Peers, Transfers, Who, doors},
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::Read,
    net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const TEMPLATE: &str = "version: 1\ntitle: t\nmachines:\n\
    - {role: analyst, image: micro, memory_mib: 96, reach: [airlock]}";

/// The user of the programs here, whom nobody else is.
const UID: u32 = 63_812;
/// alice's address, whose environment is `e1`, and bob's, whose is `e2`.
pub(crate) const ALICE: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 1);
pub(crate) const BOB: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 2);

struct Real;

impl Clock for Real {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn pause(&self, time: Duration) {
        thread::sleep(time);
    }
}

/// All machines are alice's; persons are who their addresses say.
struct Played;

fn own_address(connection: BorrowedFd<'_>) -> Result<Ipv4Addr, Nobody> {
    let copy = connection.try_clone_to_owned().map_err(|e| Nobody(e.to_string()))?;
    match TcpStream::from(copy).local_addr().map(|address| address.ip()) {
        Ok(IpAddr::V4(address)) => Ok(address),
        _ => Err(Nobody("no such client".into())),
    }
}

impl Peers for Played {
    fn machine(&self, connection: BorrowedFd<'_>) -> Result<Who, Nobody> {
        own_address(connection)?;
        let (environment, machine) = (EnvironmentId(1), MachineId(1));
        Ok(Who::Machine { environment, machine, role: MachineRole::Analyst })
    }

    fn person(&self, connection: BorrowedFd<'_>) -> Result<Who, Nobody> {
        let number = u32::from(own_address(connection)?) - u32::from(ACCOUNT_NET.network());
        Ok(Who::Person(AccountId(number)))
    }

    fn lives(&self, connection: BorrowedFd<'_>) -> bool {
        let copy = connection.try_clone_to_owned();
        copy.is_ok_and(|copy| TcpStream::from(copy).peer_addr().is_ok())
    }
}

/// Takes files at their word: the one they begin with.
struct ByWord;

impl Screener for ByWord {
    fn screen(&self, file: OwnedFd, _: &About) -> Screened {
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).expect("read");
        let (verdict, rule) = match bytes.get(..4) {
            Some(b"HOLD") => (Verdict::Hold, "review"),
            Some(b"BLOC") => (Verdict::Block, "encrypted"),
            _ => (Verdict::Pass, ""),
        };
        let finding = |rule: &str| Finding {
            rule: rule.parse().expect("a rule"),
            verdict,
            says: Words { en: "it begins with that word".into(), ja: String::new() },
            mend: Words { en: "begin with another".into(), ja: String::new() },
        };
        Screened {
            verdict,
            findings: if rule.is_empty() { Vec::new() } else { vec![finding(rule)] },
            sha256: hex::encode(Sha256::digest(&bytes)),
            bytes: bytes.len() as u64,
            kind: Kind::UNKNOWN,
            encoding: None,
            rules_digest: "d".repeat(64),
            took: Duration::ZERO,
            failures: Vec::new(),
        }
    }

    fn preview(&self, _: OwnedFd) -> Preview {
        Preview { view: PreviewView::Bytes { hex: String::new() }, png: None }
    }
}

/// A running lab with both programs, which end when it is dropped.
pub(crate) struct World {
    pub(crate) db: Arc<Db>,
    programs: Vec<Child>,
    inside_port: u16,
    outside_port: u16,
    folder: TempDir,
}

/// Where programs are built.
pub(crate) fn built() -> PathBuf {
    let own = std::env::current_exe().expect("this program");
    own.ancestors().nth(2).expect("below what is built").into()
}

fn free_ports() -> [u16; 2] {
    // Both held at once: the same is not given twice.
    let free = [(); 2].map(|()| TcpListener::bind("0.0.0.0:0").expect("a port"));
    free.each_ref().map(|free| free.local_addr().expect("bound").port())
}

impl World {
    pub(crate) fn new() -> World {
        World::with("quiet_seconds: 1, import_mib: 64, export_mib: 64, file_mib: 32")
    }

    /// With these lines on its airlock.
    pub(crate) fn with(airlock: &str) -> World {
        World::screened_by(airlock, "/", |_, _| Arc::new(ByWord))
    }

    /// With these lines on its airlock, other programs of the lab's in `programs`, and another
    /// screener.
    pub(crate) fn screened_by(
        airlock: &str,
        programs: &str,
        screener: impl FnOnce(&Lab, &Arc<Db>) -> Arc<dyn Screener>,
    ) -> World {
        let folder =
            tempfile::Builder::new().prefix("clients").tempdir_in(built()).expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let below = |name: &str| folder.path().join(name);
        for name in ["run", "state", "work"] {
            fs::create_dir(below(name)).expect("a folder");
        }
        let [inside_port, outside_port] = free_ports();
        let text = format!(
            "version: 1\nname: lab\nstate: {}\nrun: {}\nprograms: {programs}\n\
             capacity: {{ reserve_mib: 1 }}\nairlock: {{ port: {inside_port}, outside_port: {outside_port}, {airlock} }}\n",
            below("state").display(),
            below("run").display()
        );
        fs::write(below("lab.yaml"), &text).expect("written");
        let lab = Lab::parse("lab.yaml", &text).expect("valid");
        let db = Arc::new(Db::open(&lab.database(), Timestamp::now()).expect("opens"));
        for account in ["alice", "bob"] {
            grant(&db, &lab, account);
        }
        let transfers = Transfers::open(Parts {
            lab: lab.clone(),
            db: Arc::clone(&db),
            clock: Arc::new(Real),
            screener: screener(&lab, &db),
            peers: Arc::new(Played),
            hand: Arc::new(Steady),
            seal: Box::new(|w, export| w.trace("test.seal", &export.id, serde_json::json!({}))),
        })
        .expect("opens");
        transfers.run().expect("threads");
        for (side, path) in [
            (doors::Side::Inside, lab.inside_socket()),
            (doors::Side::Outside, lab.outside_socket()),
        ] {
            let listener = listen(&path, None, 0o666).expect("listens");
            let transfers = Arc::clone(&transfers);
            thread::spawn(move || doors::serve(&transfers, side, &listener, UID));
        }
        let mut world = World { db, programs: vec![], inside_port, outside_port, folder };
        for side in [Side::Inside, Side::Outside] {
            world.start(side);
        }
        world
    }

    fn start(&mut self, side: Side) {
        let program = Command::new(built().join("nonstop-airlock"))
            .arg(side.as_str())
            .arg("--lab")
            .arg(self.folder.path().join("lab.yaml"))
            .arg(format!("--user={UID}:{UID}"))
            .spawn()
            .expect("start");
        self.programs.push(program);
        let address = self.address(side, ALICE);
        wait("the program to listen", || TcpStream::connect(address).ok());
    }

    /// Where a client finds a side; outside, the one of the account at `own`.
    pub(crate) fn address(&self, side: Side, own: Ipv4Addr) -> SocketAddrV4 {
        match side {
            Side::Inside => SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.inside_port),
            Side::Outside => SocketAddrV4::new(own, self.outside_port),
        }
    }

    /// The numbers of both programs' processes.
    #[allow(dead_code, reason = "for the benchmark")]
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.programs.iter().map(Child::id).collect()
    }

    /// The URL of what a side may write to, for alice.
    pub(crate) fn url(&self, side: Side) -> String {
        let path = match side {
            Side::Inside => "export",
            Side::Outside => "dav/e1/import",
        };
        format!("http://{}/{path}/", self.address(side, ALICE))
    }

    /// A folder for clients' files.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// All exports of alice's environment.
    pub(crate) fn exports(&self) -> Vec<Export> {
        let own = Some(EnvironmentId(1));
        self.db.read(|read| read.exports(own, None, Which::All)).expect("exports")
    }

    /// Waits until the newest export of `path` is `state`.
    pub(crate) fn until(&self, path: &str, state: ExportState) -> Export {
        wait(&format!("{path} to be {state}"), || {
            let mut all = self.exports();
            all.retain(|export| export.path.as_str() == path);
            all.sort_by_key(|export| export.version);
            all.pop().filter(|export| export.state == state)
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for program in &mut self.programs {
            let _gone_already = program.kill();
            let _ended = program.wait();
        }
    }
}

fn grant(db: &Db, lab: &Lab, account: &str) {
    let now = Timestamp::now();
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
            period: Period::new(now, now + Duration::from_secs(3600)).expect("ordered"),
            machines: vec![machine()],
            pool: lab.network.pool,
            room: Room { memory_mib: 1 << 20, machines: 8 },
        })
    })
    .expect("granted");
}

/// Waits at most thirty seconds for something to be there.
pub(crate) fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a client in `folder`, which must do well; gives what it said.
pub(crate) fn run(folder: &Path, program: &str, args: &[&str]) -> String {
    let output = output(folder, program, args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {}\n{text}\n{errors}", output.status);
    text
}

/// Runs a client in `folder`.
pub(crate) fn output(folder: &Path, program: &str, args: &[&str]) -> Output {
    let run = Command::new(program).args(args).current_dir(folder).env("HOME", folder).output();
    run.unwrap_or_else(|e| panic!("{program}: {e}"))
}

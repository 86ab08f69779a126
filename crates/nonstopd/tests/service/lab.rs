//! A daemon's service over a simulated host, which can be started anew over the same folder.

use jiff::Timestamp;
use nonstop_api::{ApiError, Reply, Request};
use nonstop_host::{
    Host,
    authority::{Authority, CardSecret},
    firewall::{Firewall, FirewallConfig},
    gate::{GateConfig, HostKeys},
    images::Images,
    sim::SimHost,
};
use nonstop_model::{AccountName, Lab, Role, capacity::Room};
use nonstop_store::Db;
use nonstopd::{
    Clock,
    caller::Caller,
    canaries::{Canaries, Parts},
    flows::Meter,
    gateway::Gateway,
    prover::Prover,
    publisher::{Hand, PATIENCE, Programs, Publisher, Readers, Steady},
    reconciler::{Reconciler, Wake},
    samples::{SampleReaders, Samples},
    screening::{Confined, Screener},
    service::Service,
    status::Status,
    transfers::{self, Transfers},
    wanted::Ground,
};
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct StillClock(pub(crate) AtomicI64);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).expect("a small number")
    }

    fn pause(&self, _: std::time::Duration) {}
}

const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4mgl+VnJWxyUMGJvGdmoIPRBbKzQm5k2cRP+k9HTkU";

pub(crate) struct TestLab {
    pub(crate) lab: Lab,
    pub(crate) clock: Arc<StillClock>,
    pub(crate) host: Arc<SimHost>,
    pub(crate) daemon: Daemon,
    _dir: tempfile::TempDir,
}

/// What a killed daemon takes with it.
pub(crate) struct Daemon {
    pub(crate) db: Arc<Db>,
    pub(crate) service: Service,
    pub(crate) reconciler: Reconciler,
}

impl TestLab {
    /// A lab with the accounts alice and bob, and sato of the staff; `more` stands in its lab.yaml.
    pub(crate) fn new(more: &str) -> TestLab {
        let dir = tempfile::tempdir().expect("a folder");
        let text = format!("version: 1\nname: test\ngateway: {{address: 192.0.2.1}}\n{more}");
        let mut lab = Lab::parse("lab", &text).expect("valid");
        (lab.state, lab.run) = (dir.path().into(), dir.path().join("run"));
        let clock = Arc::new(StillClock(AtomicI64::new(1_900_000_000)));
        let host = Arc::new(SimHost::default());
        let daemon = start(&lab, &host, &clock);
        let lab = TestLab { lab, clock, host, daemon, _dir: dir };
        let first = lab.lab.data_domains.keys().next().cloned();
        for (name, role) in
            [("alice", Role::Researcher), ("bob", Role::Researcher), ("sato", Role::Staff)]
        {
            let add = Request::AccountAdd {
                name: name.parse().expect("a name"),
                full_name: name.into(),
                affiliation: "x".into(),
                role,
                edition: first.clone().filter(|_| role == Role::Researcher),
                sources: vec!["192.0.2.0/24".parse().expect("a network")],
                keys: Vec::new(),
            };
            lab.admin(add).expect("added");
        }
        lab
    }

    /// `kill -9` of the daemon, and another one.
    pub(crate) fn restart(self) -> TestLab {
        let TestLab { lab, clock, host, daemon, _dir } = self;
        drop(daemon);
        host.daemon_died();
        let daemon = start(&lab, &host, &clock);
        TestLab { lab, clock, host, daemon, _dir }
    }

    pub(crate) fn admin(&self, request: Request) -> Result<Reply, ApiError> {
        self.daemon.service.answer(&Caller::Admin { user: "root".into() }, request)
    }

    pub(crate) fn person(&self, name: &str, request: Request) -> Result<Reply, ApiError> {
        let account = self.daemon.db.read(|r| r.account(&account(name))).expect("there");
        self.daemon.service.answer(&Caller::Person(account), request)
    }
}

pub(crate) fn account(name: &str) -> AccountName {
    name.parse().expect("a name")
}

fn start(lab: &Lab, host: &Arc<SimHost>, clock: &Arc<StillClock>) -> Daemon {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    let db = Arc::new(Db::open(&lab.database(), clock.now()).expect("opens"));
    let (status, wake) = (Arc::new(Status::default()), Arc::new(Wake::default()));
    let images = Arc::new(Images::new(lab.images()));
    let ask = Box::new(|| Err(nonstop_host::HostError::new("list rules", "there is no kernel")));
    let prover = Arc::new(Prover::new(
        Ground::new(lab.clone(), ask),
        Box::new(|| Err("there is no kernel".into())),
        Arc::clone(&db),
        Arc::clone(&status),
        Arc::clone(&wake),
        Arc::clone(&clock),
    ));
    let room = Room { memory_mib: 1000, machines: 10 };
    let canaries = Arc::new(Canaries::new(Parts {
        lab: lab.clone(),
        room,
        db: Arc::clone(&db),
        images: Arc::clone(&images),
        prover: Arc::clone(&prover),
        status: Arc::clone(&status),
        wake: Arc::clone(&wake),
        clock: Arc::clone(&clock),
    }));
    let hand: Arc<dyn Hand> = Arc::new(Steady);
    let programs = Programs {
        program: "/nowhere".into(),
        samples: "/nowhere".into(),
        run: lab.run.clone(),
        reader: (0, 0),
        patience: PATIENCE,
    };
    let publisher = Publisher::new(
        lab,
        Readers::default(),
        &hand,
        Arc::new(programs),
        Arc::clone(&db),
        Arc::clone(&clock),
    );
    let host: Arc<dyn Host> = Arc::clone(host) as Arc<dyn Host>;
    let reconciler = Reconciler::new(
        lab.clone(),
        Arc::clone(&db),
        Arc::clone(&host),
        Arc::clone(&clock),
        Arc::clone(&status),
        Arc::clone(&wake),
    );
    let gate = GateConfig::of(lab);
    std::fs::create_dir_all(&gate.state).expect("a folder");
    let public = gate.state.join("ssh_host_ed25519_key.pub");
    std::fs::write(public, format!("{HOST_KEY}\n")).expect("written");
    let meter = Arc::new(Meter::new(
        Arc::clone(&db),
        Arc::clone(&clock),
        "run".into(),
        1..=2,
        lab.run.join("flows.json"),
    ));
    let (of, at) = (Arc::clone(&db), Arc::clone(&clock));
    let gateway = Arc::new(Gateway::new(of, at, "run".into(), Arc::clone(&meter)));
    let screener: Arc<dyn Screener> =
        Arc::new(Confined::with(Arc::new(lab.clone()), (1, 1), Box::new(|_| Ok(false))));
    let transfers = Transfers::open(transfers::Parts {
        lab: lab.clone(),
        db: Arc::clone(&db),
        clock: Arc::clone(&clock),
        screener: Arc::clone(&screener),
        peers: Arc::new(transfers::ByKernel::new(lab.clone(), Arc::clone(&db))),
        hand: Arc::clone(&hand),
        seal: Box::new(|_, _| Ok(())),
    });
    let service = Service {
        lab: lab.clone(),
        db: Arc::clone(&db),
        status,
        wake,
        clock,
        gateway,
        meter,
        images,
        host,
        room,
        prover,
        canaries,
        publisher: Arc::new(publisher),
        transfers: transfers.expect("opened"),
        screener,
        host_keys: HostKeys::new(gate),
        firewall: Arc::new(Firewall::new(FirewallConfig::of(lab, vec![1, 2]))),
        authority: Arc::new(Authority::open(&lab.authority(), &lab.name).expect("made")),
        card_secret: CardSecret::open(&lab.authority()).expect("made"),
        samples: Samples::new(lab, SampleReaders { data: (1, 1), samples: (1, 1) }),
    };
    Daemon { db, service, reconciler }
}

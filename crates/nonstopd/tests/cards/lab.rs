//! A daemon's service over a simulated host, which can be started anew over the same folder.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use nonstop_api::{ApiError, CardBegunView, CardCertifiedView, CardView, Reply, Request};
use nonstop_host::{
    Host,
    authority::{Authority, CardSecret},
    firewall::{Firewall, FirewallConfig},
    gate::{GateConfig, HostKeys},
    images::Images,
    sim::SimHost,
};
use nonstop_model::{
    AccountName, CardAct, CardGuid, CardId, Lab, Role, capacity::Room, lab::ACCOUNT_UIDS,
};
use nonstop_store::{Db, NewSession};
use nonstopd::{
    Clock,
    caller::Caller,
    canaries::{Canaries, Parts},
    desired::desired,
    flows::Meter,
    gateway::Gateway,
    prover::Prover,
    publisher::{Hand, PATIENCE, Programs, Publisher, Steady},
    reconciler::{Reconciler, Wake},
    service::Service,
    status::Status,
    wanted::Ground,
};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
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

/// Alice's uid.
const ALICE: u32 = ACCOUNT_UIDS + 1;

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
        for (name, role) in
            [("alice", Role::Researcher), ("bob", Role::Researcher), ("sato", Role::Staff)]
        {
            let add = Request::AccountAdd {
                name: name.parse().expect("a name"),
                full_name: name.into(),
                affiliation: "x".into(),
                role,
                edition: None,
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

    pub(crate) fn begin(
        &self,
        name: &str,
        act: CardAct,
        guid: Option<CardGuid>,
    ) -> Result<CardBegunView, ApiError> {
        match self.admin(Request::CardBegin { account: account(name), act, guid })? {
            Reply::CardBegun(begun) => Ok(begun),
            other => panic!("{other:?}"),
        }
    }

    /// What a card with `key` answers to `challenge`.
    pub(crate) fn certify(
        &self,
        card: CardId,
        challenge: &str,
        key: &KeyPair,
    ) -> Result<CardCertifiedView, ApiError> {
        match self.admin(signed(card, challenge, key))? {
            Reply::CardCertified(certified) => Ok(certified),
            other => panic!("{other:?}"),
        }
    }

    /// An active card of `name` with a key of its own.
    pub(crate) fn issue(&self, name: &str) -> (CardBegunView, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let begun = self.begin(name, CardAct::Issue, None).expect("begun");
        self.certify(begun.card, &begun.challenge, &key).expect("certified");
        self.admin(Request::CardActivate { card: begun.card }).expect("active");
        (begun, key)
    }

    pub(crate) fn cards(&self, name: &str) -> Vec<CardView> {
        let account = Some(account(name));
        match self.admin(Request::CardList { account }).expect("listed") {
            Reply::Cards(cards) => cards,
            other => panic!("{other:?}"),
        }
    }

    /// Key lines that the gateway shall have for `name`, as a pass would want them now.
    pub(crate) fn wanted_keys(&self, name: &str) -> Vec<String> {
        let now = self.clock.now();
        let wanted = self.daemon.db.read(|r| desired(r, &self.lab, now)).expect("read");
        let gate = &wanted.accounts[&account(name)];
        gate.keys.iter().map(|key| key.key.0.clone()).collect()
    }

    /// Passes until nothing is to be done; says when the next one is due.
    pub(crate) fn settle(&self) -> Option<Timestamp> {
        for _ in 0..20 {
            let plan = self.daemon.reconciler.pass(&mut |_, _| {}).expect("a pass");
            if plan.is_empty() {
                return plan.wake_at;
            }
        }
        panic!("the lab does not settle")
    }

    /// Alice comes in from `source` by the card `card`; sshd's process is `pid`.
    pub(crate) fn logs_in(&self, card: CardId, source: &str, pid: u32) {
        let card = self.cards("alice").into_iter().find(|other| other.id == card).expect("hers");
        let new = NewSession {
            account: card.account,
            source: source.into(),
            port: 50_000,
            fingerprint: card.fingerprint.expect("it has a key"),
            client: String::new(),
            pid,
            run: self.host.observe().expect("light").run.0,
        };
        let now = self.clock.now();
        self.daemon.db.write("sshd", now, |w| w.open_session(&new)).expect("recorded");
        self.host.logs_in(ALICE, pid);
    }

    /// The processes of sessions that are open on the host.
    pub(crate) fn sessions(&self) -> Vec<u32> {
        self.host.observe().expect("light").gate.sessions.into_keys().collect()
    }

    /// Key lines that the gateway has for `name`.
    pub(crate) fn gate_keys(&self, name: &str) -> Vec<String> {
        let seen = self.host.observe().expect("light").gate;
        let gate = seen.accounts.get(&account(name));
        gate.map_or(Vec::new(), |gate| gate.keys.iter().map(|key| key.key.0.clone()).collect())
    }
}

pub(crate) fn account(name: &str) -> AccountName {
    name.parse().expect("a name")
}

pub(crate) fn signed(card: CardId, challenge: &str, key: &KeyPair) -> Request {
    let challenge = hex::decode(challenge).expect("hexadecimal");
    Request::CardCertify {
        card,
        public_key: BASE64_STANDARD.encode(key.subject_public_key_info()),
        signature: BASE64_STANDARD.encode(key.sign(&challenge).expect("signed")),
    }
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
        run: lab.run.clone(),
        reader: (0, 0),
        patience: PATIENCE,
    };
    let publisher =
        Publisher::new(lab, None, &hand, Arc::new(programs), Arc::clone(&db), Arc::clone(&clock));
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
        host_keys: HostKeys::new(gate),
        firewall: Arc::new(Firewall::new(FirewallConfig::of(lab, 1, 2))),
        authority: Arc::new(Authority::open(&lab.authority(), &lab.name).expect("made")),
        card_secret: CardSecret::open(&lab.authority()).expect("made"),
    };
    Daemon { db, service, reconciler }
}

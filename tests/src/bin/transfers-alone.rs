//! A lab's transfers alone, in a guest whose power can be lost with all that was not written: the
//! daemon's part with its database, files and screening, the airlock's two programs before it, and
//! neither libvirt, gateway nor firewall. Whoever connects inside is the one machine, outside its owner.
//!
//! Says `ready` once both sides listen, and before that what of the trace is there.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use nonstop_host::authority::Authority;
use nonstop_model::{
    AccountId, EnvironmentId, EnvironmentTemplate, Lab, MachineId, MachineRole, Password, Period,
    Role, capacity::Room,
};
use nonstop_store::{Db, Grant, GrantedMachine, NewAccount};
use nonstopd::{
    Clock,
    publisher::Steady,
    screening::Confined,
    sealing, server,
    transfers::{Nobody, Parts, Peers, Transfers, Who, doors, doors::Side},
};
use std::{
    fs, io,
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::BorrowedFd,
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

const TEMPLATE: &str = "version: 1\ntitle: alone\nmachines:\n\
    - {role: analyst, image: micro, memory_mib: 96, reach: [airlock]}\n";

/// Users of the guest, which has no others.
const INSIDE: u32 = 64_107;
const OUTSIDE: u32 = 64_108;
const SCREEN: u32 = 64_109;

/// Where clients come in for the outside, which itself listens on loopback addresses alone.
const NEAR: u16 = 9081;

struct RealTime;

impl Clock for RealTime {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn pause(&self, time: Duration) {
        thread::sleep(time);
    }
}

/// Whoever it is, they are the ones there are.
struct TheOnes;

impl Peers for TheOnes {
    fn machine(&self, _connection: BorrowedFd<'_>) -> Result<Who, Nobody> {
        let (environment, machine) = (EnvironmentId(1), MachineId(1));
        Ok(Who::Machine { environment, machine, role: MachineRole::Analyst })
    }

    fn person(&self, _connection: BorrowedFd<'_>) -> Result<Who, Nobody> {
        Ok(Who::Person(AccountId(1)))
    }

    fn lives(&self, _connection: BorrowedFd<'_>) -> bool {
        true
    }
}

fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("usage: transfers-alone LAB.YAML")?;
    let lab = Lab::load(Path::new(&file)).map_err(|e| anyhow::anyhow!("{e:?}"))?;
    for folder in [&lab.state, &lab.run] {
        fs::create_dir_all(folder)?;
    }
    let clock: Arc<dyn Clock> = Arc::new(RealTime);
    let db = Arc::new(Db::open(&lab.database(), clock.now())?);
    let found = db.read(|r| r.verify_trace())?;
    ensure!(found.broken_at.is_none(), "the trace is broken at {:?}", found.broken_at);
    println!("trace {}", found.rows);
    if db.read(|r| r.accounts())?.is_empty() {
        grant(&db, &lab, clock.now())?;
    }
    let authority = Arc::new(Authority::open(&lab.authority(), &lab.name)?);
    let screener = Confined::new(Arc::new(lab.clone()), (SCREEN, SCREEN), Arc::clone(&db));
    let transfers = Transfers::open(Parts {
        lab: lab.clone(),
        db: Arc::clone(&db),
        clock,
        screener: Arc::new(screener),
        peers: Arc::new(TheOnes),
        hand: Arc::new(Steady),
        seal: sealing::seal(&lab, authority),
    })?;
    transfers.run()?;
    let mut programs = Vec::new();
    for (side, word, path, uid) in [
        (Side::Inside, "inside", lab.inside_socket(), INSIDE),
        (Side::Outside, "outside", lab.outside_socket(), OUTSIDE),
    ] {
        let listener = server::listen(&path, Some(uid), 0o660)?;
        let transfers = Arc::clone(&transfers);
        thread::spawn(move || doors::serve(&transfers, side, &listener, uid));
        let user = format!("{uid}:{uid}");
        let program = lab.programs.join("nonstop-airlock");
        let words = [word, "--lab", &file, "--user", &user];
        programs.push(Command::new(program).args(words).spawn().context("start the airlock")?);
    }
    thread::spawn(forward);
    for port in [lab.airlock.port, lab.airlock.outside_port] {
        while !nonstop_testkit::net::listens("self", port) {
            for program in &mut programs {
                ensure!(program.try_wait()?.is_none(), "a program of the airlock has ended");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
    println!("ready");
    loop {
        thread::park();
    }
}

fn grant(db: &Db, lab: &Lab, now: Timestamp) -> Result<()> {
    let machine = GrantedMachine {
        image: "micro".parse().map_err(anyhow::Error::msg)?,
        image_digest: "d".into(),
        guest_user: None,
        password: Password("secret".into()),
        desktop_port: None,
    };
    let account = NewAccount {
        name: "alice".parse()?,
        full_name: "Alice".into(),
        affiliation: "Test".into(),
        role: Role::Researcher,
        edition: None,
        sources: Vec::new(),
        keys: Vec::new(),
    };
    let template = EnvironmentTemplate::parse("alone", TEMPLATE, None);
    let grant = Grant {
        account: account.name.clone(),
        template_name: "alone".parse().map_err(anyhow::Error::msg)?,
        template: template.map_err(|e| anyhow::anyhow!("{e:?}"))?,
        period: Period::new(now, now + Duration::from_secs(86_400))?,
        machines: vec![machine],
        pool: lab.network.pool,
        room: Room { memory_mib: 1 << 20, machines: 8 },
    };
    db.write("sato", now, |w| {
        w.add_account(&account)?;
        w.grant_environment(&grant)
    })?;
    Ok(())
}

/// Leads what comes to [`NEAR`] to the outside at an account's address.
fn forward() -> io::Result<()> {
    for client in TcpListener::bind(("0.0.0.0", NEAR))?.incoming() {
        let (near, far) = (client?, TcpStream::connect("127.64.0.1:8081"));
        // A client that comes too early hears nothing.
        let Ok(far) = far else { continue };
        for (mut from, mut to) in
            [(near.try_clone()?, far.try_clone()?), (far.try_clone()?, near.try_clone()?)]
        {
            thread::spawn(move || {
                let _ended = io::copy(&mut from, &mut to);
                let _gone = to.shutdown(Shutdown::Write);
            });
        }
    }
    Ok(())
}

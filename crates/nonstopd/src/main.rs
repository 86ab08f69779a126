//! `nonstopd`: wires database, host, reconciler and sockets of one lab.

use anyhow::Context;
use clap::Parser;
use nonstop_host::{
    Bells, Host, LocalUsers, RealHost, Sources,
    authority::{Authority, CardSecret},
    firewall::{Firewall, FirewallConfig, LinkCounts},
    gate::{GateConfig, HostKeys},
    images::Images,
};
use nonstop_model::{
    Lab, Resource,
    capacity::Room,
    lab::{ACCOUNT_UIDS, MACHINE_UIDS},
};
use nonstop_reach::observe;
use nonstop_store::Db;
use nonstopd::{
    Clock,
    canaries::{Canaries, Parts},
    clock::{self, SteadyClock},
    displays,
    fetches::Fetches,
    flows::Meter,
    gateway::Gateway,
    heads::Heads,
    injector::{self, Counted, Injector},
    login::Logins,
    prover::Prover,
    publisher::{Hand, PATIENCE, Programs, Publisher, Readers, Steady, takes},
    reconciler::{Reconciler, Wake},
    render::render,
    samples::{SampleReaders, Samples},
    screening::{Confined, Screener},
    sealing,
    server::{self, Door},
    service::Service,
    status::{Status, chain},
    transfers::{
        self, ByKernel, Transfers,
        doors::{self, Side},
    },
    wanted::Ground,
};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};
use tracing::{error, info};

/// Runs a lab: keeps its state, and brings the host to it.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The file that describes the lab.
    #[arg(long, env = "NONSTOP_LAB", default_value = "/etc/nonstop/lab.yaml")]
    lab: PathBuf,
    /// Only print the libvirt XML of this template's segments and machines.
    #[arg(long)]
    render: Option<PathBuf>,
}

/// The user of the servers of data domains, and of what reads files that arrived.
const DATA_USER: &str = "nonstop-data";
/// The user of the servers that give out samples; of the group of the other, too.
const SAMPLES_USER: &str = "nonstop-samples";

fn main() -> miette::Result<()> {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        // A log that lies on a full disk must not end the program.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .init();
    let lab = Lab::load(&args.lab)?;
    if let Some(template) = args.render {
        let xml = render(&lab, &template).map_err(|e| miette::miette!("{e}"))?;
        print!("{xml}");
        return Ok(());
    }
    run(lab).map_err(|e| miette::miette!("{e:#}"))
}

fn run(lab: Lab) -> anyhow::Result<()> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "nonstopd must run as root: start it by systemd, or with sudo"
    );
    folders(&lab)?;
    let _lock = lock(&lab)?;
    let clock = SteadyClock::open(&lab).context("read the clocks")?;
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let db = Arc::new(Db::open(&lab.database(), clock.now())?);
    db.keep_pool(lab.network.pool, clock.now())?;
    let mut editions = lab.data_domains.keys().map(String::as_str);
    let only = editions.next().filter(|_| editions.next().is_none());
    db.keep_editions(only, clock.now())?;
    let users = LocalUsers {
        portal: uid_of(&lab.portal.user)?,
        agent: uid_of("nonstop-agent")?,
        inside: uid_of("nonstop-inside")?,
        outside: uid_of("nonstop-outside")?,
        screen: uid_of("nonstop-screen")?,
    };
    let samples = Samples::new(&lab, sample_readers(&lab)?);
    let run_id = host_run(&lab)?;
    let wake = Arc::new(Wake::default());
    let images = Arc::new(Images::new(lab.images()));
    let on_event = Arc::clone(&wake);
    let authority = Arc::new(Authority::open(&lab.authority(), &lab.name)?);
    let card_secret = CardSecret::open(&lab.authority())?;
    let host = RealHost::start(
        &lab,
        db.lab_uuid(),
        users,
        run_id.clone(),
        Sources { images: Arc::clone(&images), discs: Arc::new(samples.clone()) },
        Arc::clone(&authority),
        Bells {
            wake: Box::new(move || on_event.wake()),
            told: displays::recorder(Arc::clone(&db), Arc::clone(&clock), lab.recordings())?,
        },
    )?;
    let host: Arc<dyn Host> = Arc::new(host);
    let status = Arc::new(Status::default());
    let firewall = Arc::new(Firewall::new(FirewallConfig::of(&lab, users.opening_nothing())));
    let rules = Arc::clone(&firewall);
    let prover = Arc::new(Prover::new(
        Ground::new(lab.clone(), Box::new(move || rules.expected())),
        Box::new(|| observe::kernel(observe::Network::Ours).map_err(|e| chain(&e))),
        Arc::clone(&db),
        Arc::clone(&status),
        Arc::clone(&wake),
        Arc::clone(&clock),
    ));
    let room = room(&lab)?;
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
    let here = lab.data_domains.values().any(|domain| domain.here);
    let reader = if here { Some(ids_of(DATA_USER)?) } else { None };
    if let Some(ids) = reader {
        Fetches::start(&lab, ids, Arc::clone(&db), Arc::clone(&clock))
            .with_context(|| format!("listen at {}", lab.data_socket().display()))?;
    }
    let has_samples = lab.data_domains.values().any(|domain| takes(domain, Resource::Samples));
    let of_samples = if has_samples { Some(ids_of(SAMPLES_USER)?.1) } else { None };
    let publisher = Arc::new(publisher(&lab, reader, of_samples, &db, &clock));
    let meter = Arc::new(Meter::new(
        Arc::clone(&db),
        Arc::clone(&clock),
        run_id.clone(),
        ACCOUNT_UIDS..=MACHINE_UIDS - 1,
        lab.run.join("flows.json"),
    ));
    let counting = Arc::clone(&meter);
    std::thread::spawn(move || counting.keep_counting());
    let gateway =
        Gateway::new(Arc::clone(&db), Arc::clone(&clock), run_id.clone(), Arc::clone(&meter));
    let gateway = Arc::new(gateway);
    let (watched, records) = (Arc::clone(&clock), Arc::clone(&db));
    std::thread::spawn(move || clock::watch(&watched, &records));
    let heads = Heads::new(&lab, Arc::clone(&db), Arc::clone(&clock), Arc::clone(&authority))?;
    let heads = Arc::new(heads);
    let signing = Arc::clone(&heads);
    std::thread::spawn(move || signing.run());
    let writing = Arc::clone(&gateway);
    std::thread::spawn(move || writing.keep_writing());
    let screener: Arc<dyn Screener> =
        Arc::new(Confined::new(Arc::new(lab.clone()), ids_of("nonstop-screen")?, Arc::clone(&db)));
    let transfers = Transfers::open(transfers::Parts {
        lab: lab.clone(),
        db: Arc::clone(&db),
        clock: Arc::clone(&clock),
        screener: Arc::clone(&screener),
        peers: Arc::new(ByKernel::new(lab.clone(), Arc::clone(&db))),
        hand: Arc::new(Steady),
        seal: sealing::seal(&lab, Arc::clone(&authority)),
    })
    .context("look at what was left of transfers")?;
    let service = Arc::new(Service {
        lab: lab.clone(),
        db: Arc::clone(&db),
        status: Arc::clone(&status),
        wake: Arc::clone(&wake),
        clock: Arc::clone(&clock),
        gateway: Arc::clone(&gateway),
        meter: Arc::clone(&meter),
        images,
        host: Arc::clone(&host),
        room,
        prover: Arc::clone(&prover),
        canaries,
        publisher: Arc::clone(&publisher),
        transfers: Arc::clone(&transfers),
        screener,
        host_keys: HostKeys::new(GateConfig::of(&lab)),
        firewall: Arc::clone(&firewall),
        authority,
        card_secret,
        samples: samples.clone(),
    });
    let counting_link = Arc::clone(&firewall);
    let injector = Arc::new(Injector::new(injector::Parts {
        lab: lab.clone(),
        db: Arc::clone(&db),
        host: Arc::clone(&host),
        clock: Arc::clone(&clock),
        status: Arc::clone(&status),
        prover: Some(Arc::clone(&prover)),
        count: Box::new(move |environment, machines| {
            let counted = counting_link.link_counts(environment, machines);
            let counts = counted.map_err(|e| chain(&e))?;
            Ok(counts.map(|LinkCounts { tables, between, refused, left }| Counted {
                tables,
                between,
                refused,
                left,
            }))
        }),
        rules: Some(firewall),
        samples,
        wake: Arc::clone(&wake),
    }));
    let logins = Logins::new(
        Arc::clone(&db),
        Arc::clone(&clock),
        run_id,
        Arc::clone(&gateway),
        Arc::clone(&meter),
        lab.software_keys,
    );
    let logins = Arc::new(logins);
    logins.close_dead()?;
    keep_sessions_true(Arc::clone(&logins));
    let portal =
        Door::Portal { service: Arc::clone(&service), uid: users.portal, port: lab.portal.port };
    open_door(lab.login_socket(), None, 0o600, Door::Login(logins))?;
    open_door(lab.gateway_socket(), None, 0o600, Door::Gateway(gateway))?;
    if !lab.trace.heads.places().is_empty() {
        let (uid, gid) = ids_of(&lab.trace.heads.user)?;
        open_door(lab.heads_socket(), Some(gid), 0o660, Door::Heads { heads, uid })?;
    }
    open_door(lab.portal_socket(), Some(users.portal), 0o660, portal)?;
    let reconciler =
        Arc::new(Reconciler::new(lab.clone(), db, host, clock, status, Arc::clone(&wake)));
    // The first pass closes what may have been left open before anybody can ask for more.
    if let Err(e) = reconciler.pass(&mut |_, _| {}) {
        error!("first pass: {}", chain(&e));
    }
    open_door(lab.admin_socket(), None, 0o600, Door::Admin(service))?;
    transfers.run().context("start a thread")?;
    open_airlock(&lab, &transfers)?;
    let proving = std::thread::Builder::new().name("prover".into());
    proving.spawn(move || prover.run()).context("start a thread")?;
    publisher.run().context("start a thread")?;
    let injecting = std::thread::Builder::new().name("injector".into());
    injecting.spawn(move || injector.run()).context("start a thread")?;
    info!("lab `{}` is up", lab.name);
    wake.wake();
    reconciler.run()
}

/// The users that read samples; none where no data domain of `lab` has any.
fn sample_readers(lab: &Lab) -> anyhow::Result<SampleReaders> {
    if lab.data_domains.values().any(|domain| takes(domain, Resource::Samples)) {
        return Ok(SampleReaders { data: ids_of(DATA_USER)?, samples: ids_of(SAMPLES_USER)? });
    }
    Ok(SampleReaders { data: (0, 0), samples: (0, 0) })
}

/// What publishes the data of `lab`: files are read, and served, by the user `reader`, without rights;
/// samples by members of the group `samples`.
fn publisher(
    lab: &Lab,
    reader: Option<(u32, u32)>,
    samples: Option<u32>,
    db: &Arc<Db>,
    clock: &Arc<dyn Clock>,
) -> Publisher {
    let programs = Programs {
        program: lab.programs.join("nonstop-data"),
        samples: lab.programs.join("nonstop-samples"),
        run: lab.run.join("data"),
        reader: reader.unwrap_or_default(),
        patience: PATIENCE,
    };
    let (db, clock) = (Arc::clone(db), Arc::clone(clock));
    let hand: Arc<dyn Hand> = Arc::new(Steady);
    let readers = Readers { data: reader.map(|(_, gid)| gid), samples };
    Publisher::new(lab, readers, &hand, Arc::new(programs), db, clock)
}

fn open_door(path: PathBuf, gid: Option<u32>, mode: u32, door: Door) -> anyhow::Result<()> {
    let listener = server::listen(&path, gid, mode)
        .with_context(|| format!("listen at {}", path.display()))?;
    std::thread::Builder::new()
        .name("door".into())
        .spawn(move || server::serve(&listener, &door))
        .context("start a thread")?;
    Ok(())
}

/// Opens the doors of the airlock's programs, and makes each its own folder.
fn open_airlock(lab: &Lab, transfers: &Arc<Transfers>) -> anyhow::Result<()> {
    for (side, name, socket) in [
        (Side::Inside, "inside", lab.inside_socket()),
        (Side::Outside, "outside", lab.outside_socket()),
    ] {
        let (uid, gid) = ids_of(&format!("nonstop-{name}"))?;
        let folder = lab.airlock_folder(name);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)))
            .and_then(|()| std::os::unix::fs::chown(&folder, Some(uid), Some(gid)))
            .with_context(|| format!("make the folder {}", folder.display()))?;
        let listener = server::listen(&socket, Some(gid), 0o660)
            .with_context(|| format!("listen at {}", socket.display()))?;
        let transfers = Arc::clone(transfers);
        std::thread::Builder::new()
            .name("airlock".into())
            .spawn(move || doors::serve(&transfers, side, &listener, uid))
            .context("start a thread")?;
    }
    Ok(())
}

fn keep_sessions_true(logins: Arc<Logins>) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(5));
            if let Err(e) = logins.close_dead() {
                error!("close the records of dead sessions: {}", chain(&e));
            }
        }
    });
}

/// Makes the lab's folders: the state is root's alone but for what machines must pass through.
fn folders(lab: &Lab) -> anyhow::Result<()> {
    for (path, mode) in [
        (&lab.state, 0o711),
        (&lab.machines(), 0o711),
        (&lab.images(), 0o755),
        (&lab.quarantine(), 0o700),
        (&lab.recordings(), 0o700),
        (&lab.state.join("airlock"), 0o711),
        (&lab.state.join("data"), 0o711),
        (&lab.run, 0o755),
    ] {
        fs::create_dir_all(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("make the folder {}", path.display()))?;
    }
    let old = rustix::process::umask(rustix::fs::Mode::from(0o077));
    tracing::debug!("umask was {old:?}");
    Ok(())
}

/// There is one reconciler a lab.
fn lock(lab: &Lab) -> anyhow::Result<fs::File> {
    let path = lab.state.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("make {}", path.display()))?;
    file.try_lock().with_context(|| {
        format!("another nonstopd runs this lab (it holds {}): stop it first", path.display())
    })?;
    Ok(file)
}

/// Identifies this run of the host: made anew on the tmpfs after each power cut.
fn host_run(lab: &Lab) -> anyhow::Result<String> {
    let path = lab.run.join("host-run");
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().into()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("read {}", path.display()));
        }
        _ => {}
    }
    let id = format!("{:032x}", rand::random::<u128>());
    let new = path.with_extension("new");
    fs::write(&new, &id)
        .and_then(|()| fs::rename(&new, &path))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(id)
}

/// The uid of a local user, by the system's own look-up.
fn uid_of(user: &str) -> anyhow::Result<u32> {
    ids_of(user).map(|(uid, _)| uid)
}

/// The uid of a local user and the gid of its group.
fn ids_of(user: &str) -> anyhow::Result<(u32, u32)> {
    let output = std::process::Command::new("getent")
        .args(["passwd", user])
        .output()
        .context("run getent")?;
    let line = String::from_utf8_lossy(&output.stdout);
    let id = |field: &str| field.trim().parse().ok().filter(|id| *id != 0);
    let mut ids = line.split(':').skip(2).map_while(id);
    ids.next().zip(ids.next()).with_context(|| {
        format!("there is no user `{user}` without rights: install systemd/sysusers.d/nonstop.conf, or set `portal.user` in lab.yaml")
    })
}

fn room(lab: &Lab) -> anyhow::Result<Room> {
    use procfs::Current;
    let total = procfs::Meminfo::current().context("read /proc/meminfo")?.mem_total;
    let memory_mib = lab.capacity.memory_mib.unwrap_or((total >> 20) * 3 / 4);
    Ok(Room { memory_mib, machines: lab.capacity.machines.into() })
}

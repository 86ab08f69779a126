//! The files of published days over HTTP/1.1: `nonstop-data pcap`, as `nonstop-data serve` starts
//! it in the network of its data domain.
//!
//! ```text
//! GET / HEAD  /                       the days: a page, or JSON by Accept
//!             /index.json             the same for programs
//!             /SHA256SUMS             all hashes
//!             /2026-11-27.pcap        one day, with ranges and conditions
//!             /2026-11-27.pcap.sha256 its hash
//! ```
//!
//! A thread a connection: each waits in `sendfile` for its own client and for nobody else, and the
//! number of seats is bounded ([`seats`]). Before it accepts the first connection the process has
//! no network of its own, sees no file but those of published days, has no rights, and may neither
//! open a socket nor start a program. What it tells goes to descriptors that it was given: one line
//! for each fetch to standard output, requests and errors to standard error.

mod answer;
mod days;
mod fetches;
mod head;
mod listing;
mod log;
mod range;
mod seats;
mod talk;

use crate::user::User;
use answer::Site;
use anyhow::{Context, Result, bail};
use clap::Parser;
use days::Days;
use fetches::Fetches;
use listing::Place;
use nonstop_confine::{Left, TCP, THREADS, confine, refuse_clone3};
use nonstop_model::{Lab, Resource};
use rustix::{
    fs::{Mode, OFlags},
    process::{chdir, chroot, fchdir},
};
use seats::{Seat, Seats};
use std::{
    env,
    fs::{self, DirBuilder, File, Permissions},
    io::Write,
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, exit},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use talk::Shared;

/// Gives the days of a data domain to machines; started by `nonstop-data serve`.
#[derive(Debug, Parser)]
pub struct Args {
    /// The lab's file.
    #[arg(long)]
    lab: PathBuf,
    /// The data domain.
    #[arg(long)]
    domain: String,
}

/// Connections of one segment, and of all.
const SEATS: (usize, usize) = (32, 512);
/// How often what is due is told, and what is no longer published let go of.
const TIDY: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted.
const WAITING: i32 = 4096;
const STACK: usize = 256 << 10;

/// System calls beside those that every process needs. None opens a file but `openat2`, for which
/// the folder of published days is all there is.
const CALLS: &[i64] = &[
    5,   // fstat
    20,  // writev
    40,  // sendfile
    217, // getdents64
    262, // newfstatat
    318, // getrandom
    332, // statx
    437, // openat2
];

/// Serves until it is killed.
pub fn run(args: &Args) -> ExitCode {
    match with_few_arenas().and_then(|()| serve(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes itself anew with a bound on what the C library's allocator keeps for threads: without one
/// it counts the host's processors when threads first meet, which takes a file that is out of reach
/// by then (glibc 2.36: /sys/devices/system/cpu/online).
fn with_few_arenas() -> Result<()> {
    const BOUND: &str = "MALLOC_ARENA_MAX";
    if env::var_os(BOUND).is_some() {
        return Ok(());
    }
    let me = env::current_exe().context("find this program")?;
    let failed = Command::new(me).args(env::args_os().skip(1)).env(BOUND, "2").exec();
    Err(failed).context("start anew")
}

fn serve(args: &Args) -> Result<()> {
    let lab = Lab::load(&args.lab)?;
    let name = &args.domain;
    let domain = lab.data_domains.get(name);
    let domain = domain.with_context(|| format!("the lab has no data domain {name}"))?;
    let (server, at) = domain
        .server_of(Resource::Pcap)
        .with_context(|| format!("data domain {name} has no pcap server"))?;
    let port = *at.tcp.first().with_context(|| format!("{name}/{server} has no TCP port"))?;
    let listener = TcpListener::bind((at.address, port))
        .with_context(|| format!("listen at {}:{port}", at.address))?;
    // The library's 128 are soon taken by one machine; others would wait a second for their turn.
    rustix::net::listen(&listener, WAITING).context("listen")?;
    let user = User::named("nonstop-data")?;
    let folder = folder(&lab.data(name), user)?;
    let host = match port {
        80 => server.to_string(),
        port => format!("{server}:{port}"),
    };
    let shared = Shared {
        site: Site { days: Days::new(folder.into()), place: Place { domain: name.clone(), host } },
        log: log::Log::default(),
        fetches: Fetches::new(name, server, output()?),
    };
    withdraw(user)?;
    let shared = Arc::new(shared);
    let tidied = Arc::clone(&shared);
    thread::Builder::new().stack_size(STACK).spawn(move || tidy(&tidied))?;
    accept(&listener, &shared)
}

/// The folder of published days, which is root's and which its servers may read; it becomes this
/// process's root. Made where nothing was published yet.
fn folder(data: &Path, user: User) -> Result<File> {
    let published = data.join("published");
    let path = published.join("pcap");
    let made = DirBuilder::new().recursive(true).mode(0o755).create(&published);
    made.with_context(|| format!("make {}", published.display()))?;
    if !path.exists() {
        match DirBuilder::new().mode(0o750).create(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(e).with_context(|| format!("make {}", path.display()));
            }
            _ => {}
        }
        fs::set_permissions(&path, Permissions::from_mode(0o750))
            .and_then(|()| std::os::unix::fs::chown(&path, Some(0), Some(user.gid)))
            .with_context(|| format!("give {} to its server", path.display()))?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(&path, flags, Mode::empty())
        .with_context(|| format!("open {}", path.display()))?;
    fchdir(&folder).and_then(|()| chroot(".")).and_then(|()| chdir("/")).context("go there")?;
    Ok(File::from(folder))
}

/// Standard output, to which nobody is ever waited for.
fn output() -> Result<File> {
    let out = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3).context("standard output")?;
    rustix::io::ioctl_fionbio(&out, true).context("standard output")?;
    Ok(File::from(out))
}

/// Gives up everything that is not needed from here on.
fn withdraw(user: User) -> Result<()> {
    refuse_clone3()?;
    confine(Left {
        uid: user.uid,
        gid: user.gid,
        memory_bytes: 4 << 30,
        // It has nothing that it may write but what its log is.
        file_bytes: u64::MAX,
        files: 4 * SEATS.1 as u64 + 2 * days::KEPT as u64 + 64,
        // Of all servers that run as this user: the kernel counts them together.
        threads: 16_384,
        cpu_seconds: None,
        calls: &[THREADS, TCP, CALLS],
    })?;
    // To look for where it was would take files that are out of reach.
    std::panic::set_hook(Box::new(|panic| {
        let _nobody_reads = writeln!(std::io::stderr(), "a bug of ours: {panic}");
    }));
    Ok(())
}

fn tidy(shared: &Shared) {
    loop {
        thread::sleep(TIDY);
        shared.fetches.tell_due(Instant::now());
        shared.site.days.forget();
        if !shared.site.days.is_there() {
            eprintln!("the folder of published days was removed");
            exit(1);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) -> Result<()> {
    let seats = Seats::new(SEATS.0, SEATS.1);
    loop {
        let (stream, address) = match listener.accept() {
            Ok((stream, from)) => match from.ip() {
                IpAddr::V4(address) => (Arc::new(stream), address),
                IpAddr::V6(_) => continue,
            },
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                // Gone before it was accepted, or descriptors that come back with the next end.
                Some(
                    rustix::io::Errno::CONNABORTED
                    | rustix::io::Errno::MFILE
                    | rustix::io::Errno::NFILE
                    | rustix::io::Errno::NOBUFS
                    | rustix::io::Errno::NOMEM,
                ) => {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                }
                _ => bail!("accept a connection: {e}"),
            },
        };
        match seats.take(address, &stream) {
            Some(seat) => begin(shared, stream, address, seat),
            None => refuse(&stream),
        }
    }
}

fn begin(shared: &Arc<Shared>, stream: Arc<TcpStream>, address: Ipv4Addr, seat: Seat) {
    let shared = Arc::clone(shared);
    let talk = move || {
        shared.talk(&stream, address);
        drop(seat);
    };
    // Without a thread the connection is closed; its client tries again.
    drop(thread::Builder::new().stack_size(STACK).spawn(talk));
}

/// Says why, without waiting for anybody.
fn refuse(stream: &TcpStream) {
    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 63\r\n\
        Content-Type: text/plain; charset=utf-8\r\nRetry-After: 2\r\nConnection: close\r\n\r\n\
        your machines have too many connections here: close some first\n";
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    let _client_gone = rustix::net::send(stream, FULL, flags);
}

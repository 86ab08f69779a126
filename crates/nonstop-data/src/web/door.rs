//! The door of a server: where it listens, who comes in, and what it needs before it gives up its
//! rights.

use super::{Shared, Site};
use anyhow::{Context, Result};
use nonstop_confine::with_one_heap;
use nonstop_http::{Seats, refuse, segment};
use nonstop_model::{DataDomain, Server};
use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{ErrorKind, Write},
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{ExitCode, exit},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// What a connection without a seat is told.
const FULL: &str = "your machines have too many connections here: close some first\n";
/// How often what is due is told, and what is no longer published let go of.
const TIDY: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted. The library's 128 are soon taken by one machine; others would
/// wait a second for their turn.
const WAITING: i32 = 4096;

/// How many come in.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    /// Connections of one segment, and of all.
    pub seats: (usize, usize),
    /// Stack of a connection's thread, in bytes.
    pub stack: usize,
}

impl Door {
    /// Answers whoever comes in at `listener` out of `shared`, until accepting fails.
    pub fn open<S: Site>(self, listener: &TcpListener, shared: Shared<S>) -> Result<()> {
        let shared = Arc::new(shared);
        let tidied = Arc::clone(&shared);
        let thread = || thread::Builder::new().stack_size(self.stack);
        thread().spawn(move || tidy(&tidied))?;
        let seats = Seats::new(self.seats.0, self.seats.1);
        loop {
            let (stream, address) =
                nonstop_http::accept(listener).context("accept a connection")?;
            let Some(seat) = seats.take(segment(address), &stream) else {
                refuse(&stream, FULL);
                continue;
            };
            let shared = Arc::clone(&shared);
            let talk = move || {
                shared.talk(&stream, address);
                drop(seat);
            };
            // Without a thread the connection is closed; its client tries again.
            drop(thread().spawn(talk));
        }
    }
}

fn tidy<S: Site>(shared: &Shared<S>) {
    loop {
        thread::sleep(TIDY);
        if !shared.tidy(Instant::now()) {
            eprintln!("the folder of published days was removed");
            exit(1);
        }
    }
}

/// Listens where the server `at` of the data domain `name` is, whose own name is `server`. Also gives
/// how machines reach it: its name, with the port unless that is 80.
pub fn listen(name: &str, server: &str, at: &Server) -> Result<(TcpListener, String)> {
    let port = *at.tcp.first().with_context(|| format!("{name}/{server} has no TCP port"))?;
    let listener = TcpListener::bind((at.address, port))
        .with_context(|| format!("listen at {}:{port}", at.address))?;
    rustix::net::listen(&listener, WAITING).context("listen")?;
    let host = match port {
        80 => server.to_string(),
        port => format!("{server}:{port}"),
    };
    Ok((listener, host))
}

/// The data domain `name` of `lab`.
pub fn place<'a>(lab: &'a nonstop_model::Lab, name: &str) -> Result<&'a DataDomain> {
    lab.data_domains.get(name).with_context(|| format!("the lab has no data domain {name}"))
}

/// The folder `kind` of published days below `data`, which is root's and which the group `readers` may
/// read. Made where nothing was published yet.
pub fn published(data: &Path, kind: &str, readers: u32) -> Result<PathBuf> {
    let published = data.join("published");
    let path = published.join(kind);
    let made = DirBuilder::new().recursive(true).mode(0o755).create(&published);
    made.with_context(|| format!("make {}", published.display()))?;
    if !path.exists() {
        match DirBuilder::new().mode(0o750).create(&path) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(e).with_context(|| format!("make {}", path.display()));
            }
            _ => {}
        }
        fs::set_permissions(&path, Permissions::from_mode(0o750))
            .and_then(|()| std::os::unix::fs::chown(&path, Some(0), Some(readers)))
            .with_context(|| format!("give {} to its servers", path.display()))?;
    }
    Ok(path)
}

/// Runs `serve`, which ends only by an error, in a process that it can be confined in.
pub fn run(serve: impl FnOnce() -> Result<()>) -> ExitCode {
    match with_one_heap(&[]).context("start anew").and_then(|()| serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Standard output, to which nobody is ever waited for.
pub(super) fn output() -> Result<File> {
    let out = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3).context("standard output")?;
    rustix::io::ioctl_fionbio(&out, true).context("standard output")?;
    Ok(File::from(out))
}

/// Has a panic say what it is, and no more: to look for where it was would take files that are out of
/// reach.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let _nobody_reads = writeln!(std::io::stderr(), "a bug of ours: {panic}");
    }));
}

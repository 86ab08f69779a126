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
//! Each connection waits in `sendfile` for its own client ([`web`](crate::web)). Before it accepts the
//! first connection the process has no network of its own, sees no file but those of published days, has
//! no rights, and may neither open a socket nor start a program.

mod answer;
mod days;
mod listing;

use crate::{
    user::User,
    web::{self, Door, Shared},
};
use answer::Site;
use anyhow::{Context, Result};
use clap::Parser;
use days::Days;
use listing::Place;
use nonstop_confine::{Left, TCP, THREADS, confine, refuse_clone3};
use nonstop_model::{Lab, Resource};
use rustix::{
    fs::{Mode, OFlags},
    process::{chdir, chroot, fchdir},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::ExitCode,
};

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

const DOOR: Door = Door { seats: (32, 512), stack: 256 << 10 };

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
    web::run(|| serve(args))
}

fn serve(args: &Args) -> Result<()> {
    let lab = Lab::load(&args.lab)?;
    let name = &args.domain;
    let (server, at) = web::place(&lab, name)?
        .server_of(Resource::Pcap)
        .with_context(|| format!("data domain {name} has no pcap server"))?;
    let (listener, host) = web::listen(name, server, at)?;
    let user = User::named("nonstop-data")?;
    let folder = go_to(&web::published(&lab.data(name), "pcap", user.gid)?)?;
    let place = Place { domain: name.clone(), host };
    let shared = Shared::new(name, server, Site { days: Days::new(folder.into()), place })?;
    withdraw(user)?;
    DOOR.open(&listener, shared)
}

/// Makes the folder of published days this process's root.
fn go_to(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())
        .with_context(|| format!("open {}", path.display()))?;
    fchdir(&folder).and_then(|()| chroot(".")).and_then(|()| chdir("/")).context("go there")?;
    Ok(File::from(folder))
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
        files: 4 * DOOR.seats.1 as u64 + 2 * days::KEPT as u64 + 64,
        // Of all servers that run as this user: the kernel counts them together.
        threads: 16_384,
        cpu_seconds: None,
        calls: &[THREADS, TCP, CALLS],
    })?;
    web::quiet_panics();
    Ok(())
}

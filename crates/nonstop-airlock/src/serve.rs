//! `nonstop-airlock inside|outside`: from a root's process with a listener to one that can do
//! nothing but this.

use crate::{
    dav::Site,
    properties::Properties,
    server::{FILES, accept, listen},
    target::Side,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use nonstop_confine::{
    Left, MESSAGES, TCP, THREADS, confine, keep_only, refuse_clone3, refuse_other_sockets,
    with_one_heap,
};
use nonstop_model::Lab;
use std::{
    fs::{self, DirBuilder, Permissions},
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, exit},
    sync::Arc,
    thread,
    time::Duration,
};

/// What both sides are told.
#[derive(Debug, Parser)]
pub struct Args {
    /// The lab's file.
    #[arg(long, env = "NONSTOP_LAB", default_value = "/etc/nonstop/lab.yaml")]
    lab: PathBuf,
    /// Run as this user and group, by number, rather than as the side's own user.
    #[arg(long, hide = true, value_parser = user)]
    user: Option<User>,
}

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
}

/// System calls beside those that every process needs. Files are opened below the folder of the
/// properties and nowhere else: there are no others.
const CALLS: &[i64] = &[
    4,   // stat
    5,   // fstat
    6,   // lstat
    8,   // lseek
    17,  // pread64
    18,  // pwrite64
    20,  // writev
    21,  // access
    39,  // getpid
    40,  // sendfile
    41,  // socket: unix alone
    42,  // connect
    74,  // fsync
    75,  // fdatasync
    77,  // ftruncate
    79,  // getcwd
    87,  // unlink
    89,  // readlink
    107, // geteuid
    257, // openat
    262, // newfstatat
    263, // unlinkat
    277, // sync_file_range
    332, // statx
];

/// What is freed goes back at once, so that buffers of many clients do not add up.
const BOUNDS: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "1048576")];

/// Serves one side until it is killed.
pub fn serve(side: Side, args: &Args) -> Result<()> {
    with_one_heap(&BOUNDS).context("start anew")?;
    let lab = Lab::load(&args.lab)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "nonstop-airlock is started by root, and gives up everything itself"
    );
    let user = match args.user {
        Some(user) => user,
        None => named(&format!("nonstop-{}", side.as_str()))?,
    };
    let (port, socket) = match side {
        Side::Inside => (lab.airlock.port, lab.inside_socket()),
        Side::Outside => (lab.airlock.outside_port, lab.outside_socket()),
    };
    let listener = listen(side, port)?;
    let own = folder(&lab.airlock_folder(side.as_str()), user)?;
    let run = socket.parent().context("the daemon's socket lies nowhere")?;
    let name = socket.file_name().context("the daemon's socket has no name")?;
    withdraw(run, &own, user)?;
    let properties = Properties::open(Path::new("/own/properties.db"))
        .with_context(|| format!("open the properties in {}", own.display()))?;
    let site = Arc::new(Site::new(side, Path::new("/run").join(name), properties));
    thread::spawn(watch);
    eprintln!("{} listens on port {port}", side.as_str());
    accept(&listener, &site)
}

/// The user `name`, by the system's own look-up.
fn named(name: &str) -> Result<User> {
    let output = Command::new("getent").args(["passwd", name]).output().context("getent")?;
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = line.split(':').skip(2).map_while(|field| field.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(uid), Some(gid)) if uid != 0 => Ok(User { uid, gid }),
        _ => bail!("there is no user `{name}`: install systemd/sysusers.d/nonstop.conf"),
    }
}

fn user(text: &str) -> Result<User, String> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number != 0);
    let (uid, gid) = text.split_once(':').ok_or("expected UID:GID")?;
    match (number(uid), number(gid)) {
        (Some(uid), Some(gid)) => Ok(User { uid, gid }),
        _ => Err("expected UID:GID, neither of them 0".into()),
    }
}

/// The folder of a side, which is its user's alone.
fn folder(path: &Path, user: User) -> Result<PathBuf> {
    let parent = path.parent().context("the folder of properties lies nowhere")?;
    let made = DirBuilder::new().recursive(true).mode(0o711).create(parent);
    made.with_context(|| format!("make {}", parent.display()))?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(e).with_context(|| format!("make {}", path.display()));
        }
        _ => {}
    }
    ensure!(fs::symlink_metadata(path)?.is_dir(), "{} is no folder", path.display());
    fs::set_permissions(path, Permissions::from_mode(0o700))
        .and_then(|()| std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)))
        .with_context(|| format!("give {} to its user", path.display()))?;
    Ok(path.into())
}

/// Gives up everything that is not needed from here on.
fn withdraw(run: &Path, own: &Path, user: User) -> Result<()> {
    keep_only(&[(run, "run"), (own, "own")]).context("leave the rest of the files")?;
    refuse_clone3()?;
    refuse_other_sockets()?;
    confine(Left {
        uid: user.uid,
        gid: user.gid,
        memory_bytes: 4 << 30,
        // How long an upload may be is the daemon's to say.
        file_bytes: u64::MAX,
        files: FILES,
        threads: 1024,
        cpu_seconds: None,
        calls: &[THREADS, MESSAGES, TCP, CALLS],
    })?;
    // To look for where it was would take files that are out of reach.
    std::panic::set_hook(Box::new(|panic| {
        let _nobody_reads = writeln!(std::io::stderr(), "a bug of ours: {panic}");
    }));
    Ok(())
}

/// Ends the program when the folder of the daemon's socket was removed, and so cannot come back here.
fn watch() {
    loop {
        thread::sleep(Duration::from_secs(2));
        if !fs::metadata("/run").is_ok_and(|run| run.nlink() > 0) {
            eprintln!("the folder of the daemon's socket was removed");
            exit(1);
        }
    }
}

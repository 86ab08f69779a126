//! The namespaces that PostgreSQL and the front live in.
//!
//! [`run`] is the outer process: it makes them for all that follows and waits. The keeper is the
//! first process in them. Whoever kills either of the two, by whatever signal, has killed every
//! process of PostgreSQL's with it: the kernel ends a namespace of processes with its first one.

use crate::rdb::places::Places;
use anyhow::{Context as _, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
    io::{FdFlags, fcntl_setfd},
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{Pid, Signal, set_parent_process_death_signal},
    thread::UnshareFlags,
};
use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The verb `rdb`: makes namespaces, starts the keeper in them, hands SIGTERM on and waits.
/// Root, in the network namespace of the data domain, of one thread.
pub fn run(lab: &Path, domain: &str) -> anyhow::Result<()> {
    let stop = stop_flag()?;
    new_namespaces().context("make namespaces of our own")?;
    let mut child = Command::new(std::env::current_exe().context("find our own program")?)
        .args(["rdb-keep", "--lab"])
        .arg(lab)
        .args(["--domain", domain])
        // Its end tells the keeper that this process is gone, even before it could be asked for.
        .stdin(Stdio::piped())
        .spawn()
        .context("start the keeper")?;
    let pid = Pid::from_child(&child);
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().context("wait for the keeper")? {
            match status.success() {
                true => return Ok(()),
                false => bail!("the keeper ended with {status}"),
            }
        }
        if stop.load(Ordering::Relaxed) && !told {
            told = true;
            rustix::process::kill_process(pid, Signal::TERM).context("stop the keeper")?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn new_namespaces() -> rustix::io::Result<()> {
    let flags = UnshareFlags::NEWPID | UnshareFlags::NEWNS | UnshareFlags::NEWIPC;
    #[expect(unsafe_code, reason = "rustix marks it so for CLONE_FILES and CLONE_VM alone")]
    // SAFETY: neither descriptors nor memory are unshared, and there is one thread.
    unsafe {
        rustix::thread::unshare_unsafe(flags)
    }
}

pub(crate) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("hear signals")?;
    }
    Ok(stop)
}

/// Makes this process, the first of its namespace, end with whoever started it, and gives it what
/// its own processes shall see. Only [`run`] starts it.
pub(crate) fn enter() -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut stdin = [PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN)];
    if poll(&mut stdin, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0 {
        bail!("whoever started this is gone");
    }
    if rustix::process::getpid() != Pid::INIT {
        bail!("rdb-keep is started by `nonstop-data rdb` alone");
    }
    private_mounts().context("mount what our processes see")
}

/// /proc of this namespace, and memory that is shared by its processes alone.
fn private_mounts() -> rustix::io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None)?;
    mount("tmpfs", "/dev/shm", "tmpfs", flags, Some(c"mode=1777"))
}

/// Holds the clusters for us and every process that we start, PostgreSQL's included: whoever comes
/// next waits until the last of them is gone.
pub(crate) fn lock(places: &Places) -> anyhow::Result<File> {
    let path = places.words.join("lock");
    let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    let since = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if since.elapsed() > Duration::from_secs(30) {
            bail!("another `nonstop-data rdb` holds {}", path.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    fcntl_setfd(&file, FdFlags::empty())?;
    Ok(file)
}

//! The two lives of the program `nonstop-box`: the outer process that makes the namespaces,
//! and the PID 1 within.
//!
//! Outer: a session of its own, a control group for the box, and a child that becomes
//! `unshare`. Killing it kills that and so PID 1 (`--kill-child`), and the kernel then ends
//! every process of the box, its mounts, links and rules: a power cut. PID 1 also ends when
//! the pipe from whoever started the lab closes, so that nothing outlives a killed test.

use crate::{
    cgroup::Cgroup,
    control::{Reply, Request},
    spec::{BoxSpec, BoxState, CONTROL, write_whole},
    supervisor::Supervisor,
    world,
};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, WaitOptions, wait};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::Path,
    process::{Command, exit},
    sync::Arc,
    thread,
    time::Duration,
};

/// `nonstop-box start SPEC`, and the steps that it takes from there.
pub fn main(args: &[String]) -> Result<()> {
    match args {
        [verb, spec] if verb == "start" => start(Path::new(spec)),
        [verb, spec] if verb == "enter" => enter(Path::new(spec)),
        [verb, spec] if verb == "settle" => settle(Path::new(spec)),
        [verb, spec] if verb == "init" => init(Path::new(spec)),
        _ => bail!("usage: nonstop-box start SPEC"),
    }
}

/// The outer process of the box described in `spec`; ends with it.
fn start(path: &Path) -> Result<()> {
    let spec = BoxSpec::read(path)?;
    // A session of its own: Ctrl-C at the terminal is the lab's to handle, not the box's.
    rustix::process::setsid().context("leave the terminal's session")?;
    let cgroup = Cgroup::find()?;
    if let Some(cgroup) = &cgroup {
        cgroup.remove(&spec.name)?;
    }
    let me = std::env::current_exe().context("find nonstop-box")?;
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(me)
        .arg("enter")
        .arg(path)
        .status()
        .context("start the box")?;
    if let Some(cgroup) = &cgroup {
        cgroup.remove(&spec.name)?;
    }
    if !status.success() {
        bail!("the box ended with {status}");
    }
    Ok(())
}

/// Enters the box's control group, which a cgroup namespace then has as its root.
fn enter(path: &Path) -> Result<()> {
    let spec = BoxSpec::read(path)?;
    if let Some(cgroup) = Cgroup::find()?
        && let Err(e) = cgroup.enter(&spec.name)
    {
        eprintln!("nonstop-box: machines will have no CPU weights: {e:#}");
    }
    become_unshare(&["-C"], "settle", path)
}

/// In the cgroup namespace: on to the other namespaces.
fn settle(path: &Path) -> Result<()> {
    let spec = BoxSpec::read(path)?;
    if let Some(cgroup) = Cgroup::find()? {
        cgroup.settle(&spec.name)?;
    }
    become_unshare(&["-m", "-n", "-p", "-i", "-u", "--fork", "--kill-child=KILL"], "init", path)
}

fn become_unshare(namespaces: &[&str], next: &str, path: &Path) -> Result<()> {
    let me = std::env::current_exe().context("find nonstop-box")?;
    let failed =
        Command::new("unshare").args(namespaces).arg("--").arg(me).arg(next).arg(path).exec();
    Err(failed).context("run unshare")
}

/// The box's PID 1.
fn init(path: &Path) -> Result<()> {
    let spec = BoxSpec::read(path)?;
    // /proc is still the outside's: its "self" is our number out there.
    let outside = fs::read_link("/proc/self").context("find our number outside")?;
    let outside: u32 =
        outside.to_string_lossy().parse().context("understand our number outside")?;
    if std::process::id() != 1 {
        bail!("only `nonstop-box start` starts `nonstop-box init`");
    }
    world::build(&spec)?;
    let listener = UnixListener::bind(CONTROL).context("open the control socket")?;
    let supervisor = Arc::new(Supervisor::new(spec.clone()));
    if spec.lifeline {
        thread::spawn(|| {
            let mut sink = [0; 64];
            while matches!(io::stdin().read(&mut sink), Ok(1..)) {}
            exit(0);
        });
    }
    let reaper = Arc::clone(&supervisor);
    thread::spawn(move || reap(&reaper));
    let keeper = Arc::clone(&supervisor);
    thread::spawn(move || keeper.run());
    write_whole(
        &spec.state_path(),
        serde_json::to_string(&BoxState { init: outside })?.as_bytes(),
    )?;
    for stream in listener.incoming() {
        let supervisor = Arc::clone(&supervisor);
        let stream = stream.context("accept on the control socket")?;
        thread::spawn(move || {
            if let Err(e) = serve(&supervisor, stream) {
                eprintln!("nonstop-box: {e:#}");
            }
        });
    }
    Ok(())
}

/// Buries the dead, ours and those that daemons left to PID 1, as soon as they die: a slow
/// PID 1 makes libvirt's `destroy` take two seconds instead of 0.1.
fn reap(supervisor: &Supervisor) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => supervisor.ended(pid, status),
            // Nobody to wait for yet.
            Ok(None) | Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn serve(supervisor: &Supervisor, stream: UnixStream) -> Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).context("read a request")?;
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => supervisor.answer(&request),
        Err(e) => Reply::Refused(format!("not a request: {e}")),
    };
    writeln!(&stream, "{}", serde_json::to_string(&reply)?).context("answer")
}

/// Whether the process `pid` is gone or only waits to be buried.
pub fn is_gone(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => true,
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
    }
}

/// The process `pid` for signals, unless it is no number of a process.
pub fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

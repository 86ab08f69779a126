//! `cargo xtask demo`: a whole lab in a box on this machine.
//!
//! One process keeps the lab: the one at the terminal, or with `--detach` one in the
//! background. The box hangs on a pipe to it and the tunnels on its life, so however it
//! ends, nothing is left running; `--stop` asks it to end and clears what a killed one or a
//! reboot left on the disk.

mod check;
mod data;
mod files;
mod keeper;
mod people;

use crate::{install, run, stages::Stages, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use files::{DemoJson, Keeper};
use nonstop_testkit::{
    cgroup::Cgroup,
    interrupt,
    labbox::{built_programs, tail},
    net::Cable,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

#[derive(Args)]
pub(crate) struct Options {
    /// Return when the lab is ready; it keeps running
    #[arg(long)]
    detach: bool,
    /// End the lab of this folder
    #[arg(long, conflicts_with_all = ["detach", "check"])]
    stop: bool,
    /// Do the main job once, from an application to a desktop over RDP, and exit
    #[arg(long, conflicts_with = "detach")]
    check: bool,
    /// Where the lab's state lies; target/demo by default
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The background process of `--detach`
    #[arg(long, hide = true)]
    keep: bool,
}

/// Does what the options say.
pub(crate) fn demo(options: &Options) -> Result<()> {
    let dir = match &options.dir {
        Some(dir) => std::path::absolute(dir).context("find the demo's folder")?,
        None => workspace::target()?.join("demo"),
    };
    if options.stop {
        return stop(&dir);
    }
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let dir = fs::canonicalize(&dir).context("find the demo's folder")?;
    if options.keep {
        return keeper::keep_in_background(&dir);
    }
    if let Some(keeper) = Keeper::running(&dir)? {
        if options.check {
            return check_running(&dir);
        }
        bail!(
            "a demo runs in {} already (process {}); end it with `cargo xtask demo --stop{}`",
            dir.display(),
            keeper.pid,
            options.dir.as_ref().map(|d| format!(" --dir {}", d.display())).unwrap_or_default()
        );
    }
    clear(&dir)?;
    let mut stages = Stages::new();
    stages.stage("packages", install::install)?;
    stages.stage("building", workspace::build)?;
    let images = stages.stage("images", workspace::images)?;
    if options.detach {
        stages.stage("starting the lab", || detach(&dir))?;
        stages.print();
        print_how(&dir)?;
        return Ok(());
    }
    let _running = Keeper::register(&dir)?;
    let lab = stages.stage("starting the lab", || keeper::Kept::start(&dir, &images))?;
    if options.check {
        check::main_job(&DemoJson::read(&dir)?, &dir, &mut stages)?;
        stages.print();
        drop(lab);
        return Ok(());
    }
    stages.print();
    print_how(&dir)?;
    eprintln!("Ctrl-C ends the lab.");
    keeper::watch(&lab)?;
    eprintln!("==> ending the lab");
    drop(lab);
    Ok(())
}

fn check_running(dir: &Path) -> Result<()> {
    let mut stages = Stages::new();
    check::main_job(&DemoJson::read(dir)?, dir, &mut stages)?;
    stages.print();
    Ok(())
}

/// Starts the keeper in the background; returns when the lab is ready.
fn detach(dir: &Path) -> Result<()> {
    let log = dir.join("demo.log");
    let out = fs::File::create(&log).with_context(|| format!("open {}", log.display()))?;
    let mut child = Command::new(built_programs()?.join("xtask"))
        .args(["demo", "--keep", "--dir"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .context("start the lab's keeper")?;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("the lab did not start ({status}):\n{}", tail(&log, 20));
        }
        if DemoJson::path(dir).exists() {
            return Ok(());
        }
        if interrupt::interrupted() {
            stop(dir)?;
            child.wait()?;
            interrupt::check()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends the lab in `dir` and removes what a killed keeper or a reboot left. Repeatable.
fn stop(dir: &Path) -> Result<()> {
    let Ok(dir) = fs::canonicalize(dir) else {
        bail!("there is no demo in {}", dir.display());
    };
    if let Some(keeper) = Keeper::running(&dir)? {
        eprintln!("==> ending the lab (process {})", keeper.pid);
        keeper.signal(rustix::process::Signal::TERM);
        let patience = Instant::now() + Duration::from_secs(30);
        while Keeper::running(&dir)?.is_some() {
            if Instant::now() > patience {
                keeper.signal(rustix::process::Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    } else {
        eprintln!("    no lab runs in {}", dir.display());
    }
    clear(&dir)
}

/// Removes everything of a lab that no longer runs, but its state.
fn clear(dir: &Path) -> Result<()> {
    files::end_orphaned_box(dir)?;
    Cable::remove_of(dir)?;
    if let Some(cgroup) = Cgroup::find()? {
        cgroup.remove(&nonstop_testkit::lab::box_name(dir))?;
    }
    files::remove(dir)
}

fn print_how(dir: &Path) -> Result<()> {
    let demo = DemoJson::read(dir)?;
    eprintln!("\nThe lab is ready. On this machine:");
    for (account, url) in &demo.portal {
        let role = demo.accounts.iter().find(|a| &a.name == account).map_or("", |a| &a.role);
        eprintln!("  {url:28} the portal as {account} ({role})");
    }
    for (account, url) in &demo.files {
        let role = demo.accounts.iter().find(|a| &a.name == account).map_or("", |a| &a.role);
        if role == "researcher" {
            eprintln!("  {url:28} files in and out as {account}, in a folder for each environment");
        }
    }
    for account in demo.accounts.iter().filter(|a| !demo.portal.contains_key(&a.name)) {
        let DemoJson { cli, lab, .. } = &demo;
        let name = &account.name;
        eprintln!(
            "  {name} may not log in as the demo does: {cli} --lab {lab} account show {name}"
        );
    }
    eprintln!("  {} --lab {} environment list", demo.cli, demo.lab);
    eprintln!(
        "  {} --lab {} card readers    (a test card waits for `card issue alice`)",
        demo.cli, demo.lab
    );
    eprintln!("  ssh -F {} -N -L 13389:MACHINE:3389 alice", demo.ssh_config);
    eprintln!(
        "In a machine of alice or bob (template macro) or erin (mws-macro: another edition, its own data):"
    );
    eprintln!("  curl http://pcap/    psql -c 'SELECT * FROM days'    ~/Examples/top_ports.py");
    eprintln!(
        "In one of template static-micro: curl http://samples/    ~/Examples/first_look.py SHA256"
    );
    eprintln!("All of it in {}.\n", DemoJson::path(dir).display());
    Ok(())
}

pub(crate) use run::wait_until;

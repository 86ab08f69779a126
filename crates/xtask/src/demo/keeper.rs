//! Keeping a lab: the box, the cable to it, and the accounts' tunnels, as long as this lives.

use super::{
    data,
    files::{self, DemoAccount, DemoJson, Keeper},
    people, wait_until,
};
use crate::workspace;
use anyhow::{Context, Result, bail};
use nonstop_testkit::{init::is_gone, lab::Lab, spec::PROGRAMS, ssh::Tunnel};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A running lab with everything around it. Dropping it ends it all.
pub(crate) struct Kept {
    // Dropped in this order: tunnels before the lab they lead to.
    _tunnels: Vec<Tunnel>,
    lab: Lab,
    dir: PathBuf,
}

impl Kept {
    /// Starts the lab whose state lies in `dir`; returns when everybody can use it.
    pub(crate) fn start(dir: &Path, images: &Path) -> Result<Kept> {
        let memory = memory_mib()?;
        let mut lab = Lab::on_this_machine(dir)?
            .named("demo")
            .capacity(memory, 50)
            .with_reader()
            .images(images)
            .context("take the images")?;
        lab.start()?;
        people::accounts(&lab, dir)?;
        let config = people::ssh_config(&lab, dir)?;
        data::publish(&lab, dir).context("publish the demo's days")?;
        let (tunnels, doors) = people::tunnels(&lab, dir, &config)?;
        let kept = Kept { _tunnels: tunnels, lab, dir: dir.into() };
        let enter = kept.lab.inside()?.prefix().join(" ");
        let cli = files::write_cli(dir, &enter, &format!("{PROGRAMS}/nonstop"))?;
        let account =
            |[name, role, ..]: [&str; 5]| DemoAccount { name: name.into(), role: role.into() };
        DemoJson {
            cli: cli.display().to_string(),
            lab: kept.lab.file().display().to_string(),
            enter,
            ssh_config: config.display().to_string(),
            accounts: people::PEOPLE.map(account).into(),
            portal: doors.portal,
            files: doors.files,
        }
        .write(dir)?;
        Ok(kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(e) = files::remove(&self.dir) {
            eprintln!("xtask: {e:#}");
        }
    }
}

/// Half of the machine's memory, for machines of the lab.
fn memory_mib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: u64 = total
        .and_then(|t| t.split_whitespace().next()?.parse().ok())
        .context("/proc/meminfo tells no MemTotal")?;
    Ok((kib / 1024 / 2).max(1024))
}

/// Returns when somebody wants the lab to end.
///
/// Errors: the box ended by itself.
pub(crate) fn watch(kept: &Kept) -> Result<()> {
    let init = kept.lab.lab_box()?.init();
    wait_until(|| is_gone(init));
    if is_gone(init) {
        bail!("the lab's box has ended; its logs are in {}", kept.dir.join("log").display());
    }
    Ok(())
}

/// The background process of `--detach`.
pub(crate) fn keep_in_background(dir: &Path) -> Result<()> {
    // Fails only for who leads a session of its own already.
    let _no_terminal_either_way = rustix::process::setsid();
    let _running = Keeper::register(dir)?;
    let images = workspace::target()?.join("images/state/images");
    let kept = Kept::start(dir, &images)?;
    watch(&kept)
}

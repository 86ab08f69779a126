//! What a demo writes into its folder: `demo.json` for scripts, `keeper.json` for itself.

use anyhow::{Context, Result};
use nonstop_testkit::{
    init::{is_gone, pid},
    spec::{BoxState, write_whole},
};
use rustix::process::{Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// `demo.json`: how to use the lab. Scripts of others read it, so it keeps its shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DemoJson {
    /// Called as `cli --lab FILE NOUN VERB`, from the machine and from inside the box.
    pub(crate) cli: String,
    /// The lab's `lab.yaml`.
    pub(crate) lab: String,
    /// Words that run a command inside the box.
    pub(crate) enter: String,
    /// A host entry for each account.
    pub(crate) ssh_config: String,
    /// The accounts.
    pub(crate) accounts: Vec<DemoAccount>,
    /// Address of the portal for each account, with its tunnel open.
    pub(crate) portal: BTreeMap<String, String>,
    /// Address of the file transfer for each account, by the same tunnel.
    pub(crate) files: BTreeMap<String, String>,
}

/// An account of the demo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DemoAccount {
    /// Its name, also that of its host entry.
    pub(crate) name: String,
    /// `staff` or `researcher`.
    pub(crate) role: String,
}

impl DemoJson {
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join("demo.json")
    }

    pub(crate) fn read(dir: &Path) -> Result<DemoJson> {
        let path = DemoJson::path(dir);
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
    }

    /// Written last: who sees it may use the lab.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        write_whole(&DemoJson::path(dir), serde_json::to_string_pretty(self)?.as_bytes())
    }
}

/// Writes `D/nonstop`: the CLI, wherever it is called from.
pub(crate) fn write_cli(dir: &Path, enter: &str, program: &str) -> Result<PathBuf> {
    let path = dir.join("nonstop");
    // Relative file names are the caller's, so the working directory is kept where it exists.
    let script = format!(
        "#!/bin/sh\n# The lab's `nonstop`, inside its box.\n\
         [ -S /run/nonstop-box/control.sock ] && exec {program} \"$@\"\n\
         exec {enter} sh -c 'cd \"$1\" 2>/dev/null; shift; exec \"$@\"' sh \"$PWD\" {program} \"$@\"\n"
    );
    write_whole(&path, script.as_bytes())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The process that keeps a lab, recognised after a reboot or a reuse of its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keeper {
    pub(crate) pid: u32,
    started: u64,
    boot: String,
}

/// The note that a lab runs; removed when dropped.
pub(crate) struct Registered {
    path: PathBuf,
}

impl Keeper {
    fn path(dir: &Path) -> PathBuf {
        dir.join("keeper.json")
    }

    fn of(pid: u32) -> Option<Keeper> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Field 22, counted behind the name in brackets, which may contain anything.
        let started = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Keeper { pid, started, boot: boot.trim().into() })
    }

    /// The process that keeps the lab in `dir`, if one does.
    pub(crate) fn running(dir: &Path) -> Result<Option<Keeper>> {
        let Ok(text) = fs::read(Keeper::path(dir)) else { return Ok(None) };
        let noted: Keeper = serde_json::from_slice(&text)
            .with_context(|| format!("parse {}", Keeper::path(dir).display()))?;
        let same = Keeper::of(noted.pid).as_ref() == Some(&noted);
        Ok((same && !is_gone(noted.pid)).then_some(noted))
    }

    /// Notes that this process keeps the lab in `dir`.
    pub(crate) fn register(dir: &Path) -> Result<Registered> {
        let me = Keeper::of(std::process::id()).context("look at ourselves in /proc")?;
        let path = Keeper::path(dir);
        write_whole(&path, serde_json::to_string(&me)?.as_bytes())?;
        Ok(Registered { path })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = pid(self.pid) {
            let _ended_already = kill_process(pid, signal);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _gone_already = fs::remove_file(&self.path);
    }
}

/// Ends a box whose keeper is gone. It ends by itself when its pipe closes; this is for the
/// moment before that, and does nothing after a reboot.
pub(crate) fn end_orphaned_box(dir: &Path) -> Result<()> {
    let Ok(text) = fs::read(dir.join("box.json")) else { return Ok(()) };
    let state: BoxState = serde_json::from_slice(&text).context("read the box's state")?;
    let name = fs::read_to_string(format!("/proc/{}/comm", state.init)).unwrap_or_default();
    if name.trim() == "nonstop-box"
        && let Some(init) = pid(state.init)
    {
        let _ended_already = kill_process(init, Signal::KILL);
        nonstop_testkit::place::wait_for_end(
            "the box's end",
            std::time::Duration::from_secs(20),
            || Ok(is_gone(state.init).then_some(())),
        )?;
    }
    Ok(())
}

/// Removes what only a running lab has. Repeatable.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    for name in ["demo.json", "keeper.json", "box.json", "nonstop", "ssh_config"] {
        match fs::remove_file(dir.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("remove {name}"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_is_not_taken_for_another_process_of_its_number() {
        let dir = std::env::temp_dir().join(format!("xtask-keeper-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("room");
        let registered = Keeper::register(&dir).expect("allowed");
        assert!(Keeper::running(&dir).expect("readable").is_some());
        let mut other = Keeper::of(std::process::id()).expect("we run");
        other.started += 1;
        fs::write(Keeper::path(&dir), serde_json::to_string(&other).expect("plain")).expect("room");
        assert_eq!(Keeper::running(&dir).expect("readable"), None);
        drop(registered);
        assert!(!Keeper::path(&dir).exists());
        fs::remove_dir_all(dir).expect("ours");
    }
}

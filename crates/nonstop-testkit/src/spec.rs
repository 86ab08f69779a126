//! What a box is to hold: written as JSON by the lab, read by the box's PID 1.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where our programs are seen inside every box. The build's own folder may lie under a
/// home that the portal's user cannot enter.
pub const PROGRAMS: &str = "/run/nonstop-box/bin";

/// The control socket inside every box; from outside through `/proc/PID/root`, so its name
/// fits a socket address however deep the lab's folder lies.
pub const CONTROL: &str = "/run/nonstop-box/control.sock";

/// One box.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BoxSpec {
    /// Name on this machine, unique: names the control group.
    pub name: String,
    /// The lab's folder; everything that outlives the box lies in it.
    pub dir: PathBuf,
    /// Our programs as built.
    pub programs: PathBuf,
    /// libvirt's knowledge of QEMU, worth sharing between labs: 2.5 s to find out anew.
    pub libvirt_cache: PathBuf,
    /// Folders that must be reachable by every uid in the box.
    pub reachable: Vec<PathBuf>,
    /// System users of ours, as a real host would have them from sysusers.d.
    pub users: Vec<(String, u32)>,
    /// Files of ours in /etc/pam.d.
    pub pam: Vec<(String, String)>,
    /// Programs to run, in order.
    pub services: Vec<ServiceSpec>,
    /// Ends when this process's stdin does: a box never outlives whoever started it.
    pub lifeline: bool,
}

/// A program that PID 1 keeps running.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Name in the control protocol and of the log file.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// A user of the box without any right; root by default.
    pub uid: Option<u32>,
    /// When the program counts as ready.
    pub ready: Ready,
    /// Services that must be ready first.
    pub needs: Vec<String>,
    /// What is left of its process group is killed when the program ends (systemd's
    /// `KillMode=control-group`); sshd and libvirtd leave sessions and guests alone.
    pub kill_group: bool,
    /// Started with the box.
    pub enabled: bool,
}

/// When a program counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ready {
    /// As soon as it runs.
    Running,
    /// When this unix socket accepts.
    Unix(PathBuf),
    /// When something listens on this TCP port.
    Listens(u16),
    /// When this file is there.
    File(PathBuf),
    /// When every server of data domains listens, in the lab whose `run` folder this is.
    Serving(PathBuf),
}

/// What a running box tells about itself in `box.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxState {
    /// PID 1 of the box, seen from outside.
    pub init: u32,
}

impl BoxSpec {
    /// File of this spec.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("box-spec.json")
    }

    /// Writes the spec where [`BoxSpec::read`] finds it.
    pub fn write(&self) -> Result<PathBuf> {
        let path = BoxSpec::path(&self.dir);
        write_whole(&path, serde_json::to_string_pretty(self)?.as_bytes())?;
        Ok(path)
    }

    /// Reads the spec in `path`.
    pub fn read(path: &Path) -> Result<BoxSpec> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
    }

    /// Where a running box tells its PID 1.
    pub fn state_path(&self) -> PathBuf {
        self.dir.join("box.json")
    }

    /// Where `service`'s output goes.
    pub fn log(&self, service: &str) -> PathBuf {
        self.dir.join("log").join(format!("{service}.log"))
    }
}

/// Writes `path` so that a reader sees all of it or nothing.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, path))
        .with_context(|| format!("write {}", path.display()))
}

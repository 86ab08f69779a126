//! Runs a stage's script where nothing of it can outlive the build.
//!
//! Each runs in mount and pid namespaces of its own, whose first process dies with the builder:
//! `kill -9` of the builder ends every program below it and takes its mounts away.

use crate::{
    build::Progress,
    error::{At, ImageError},
};
use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Installs the packages: leaves a tar.
pub(crate) const PACKAGES: &str = include_str!("packages.sh");
/// Customises the tree: leaves kernel, modules and the raw disk.
pub(crate) const CUSTOMISE: &str = include_str!("customise.sh");
/// Joins the tree's file system and what UEFI firmware starts to one disk.
pub(crate) const FIRMWARE: &str = include_str!("firmware.sh");
/// The scripts of all images, for the inputs' digest.
pub(crate) const SCRIPTS: &str = concat!(include_str!("packages.sh"), include_str!("customise.sh"));

/// A stage about to run.
pub(crate) struct Stage<'a> {
    pub(crate) image: &'a str,
    pub(crate) name: &'static str,
    pub(crate) script: &'static str,
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) log: PathBuf,
}

impl Stage<'_> {
    /// Runs it to its end; `count` turns a line it says into progress.
    pub(crate) fn run(
        self,
        progress: &mut dyn FnMut(Progress),
        mut count: impl FnMut(&str) -> Option<Progress>,
    ) -> Result<(), ImageError> {
        let mut log = File::create(&self.log).at("make", &self.log)?;
        let (reader, writer) = std::io::pipe().at("open a pipe for", &self.log)?;
        let other = writer.try_clone().at("open a pipe for", &self.log)?;
        let mut command = namespaced();
        command
            .args(["sh", "-eu", "-c", self.script, self.name])
            .env_clear()
            .env("PATH", crate::tools::PATH)
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("HOME", "/root")
            .envs(self.env.iter().map(|(k, v)| (*k, v)))
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(other);
        for proxy in ["http_proxy", "https_proxy", "no_proxy"] {
            if let Some(value) = std::env::var_os(proxy) {
                command.env(proxy, value);
            }
        }
        let mut child = command.spawn().at("run", Path::new("setpriv"))?;
        // The pipe ends when the last writer does: ours must go.
        drop(command);

        let mut tail = VecDeque::new();
        for line in BufReader::new(reader).split(b'\n') {
            let line = line.at("read what a program says into", &self.log)?;
            let line = String::from_utf8_lossy(&line);
            writeln!(log, "{line}").at("write", &self.log)?;
            if let Some(step) = count(&line) {
                progress(step);
            }
            if tail.len() == 15 {
                tail.pop_front();
            }
            tail.push_back(line.into_owned());
        }
        let status = child.wait().at("wait for", Path::new("setpriv"))?;
        if status.success() {
            return Ok(());
        }
        Err(ImageError::Stage {
            name: self.image.into(),
            stage: self.name,
            program: "its script".into(),
            status: status.to_string(),
            tail: Vec::from(tail).join("\n"),
            log: self.log,
        })
    }
}

/// A command whose program runs in namespaces that end with the calling thread.
fn namespaced() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child=KILL", "--mount-proc", "--propagation", "private", "--"]);
    command
}

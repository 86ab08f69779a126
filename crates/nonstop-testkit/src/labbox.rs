//! A running box, held from outside.

use crate::{
    cgroup::Cgroup,
    control::{self, Request, ServiceStatus},
    init::is_gone,
    place::{Place, wait_for, wait_for_end},
    spec::{BoxSpec, BoxState},
};
use anyhow::{Context, Result, anyhow, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A running box. Dropping it cuts its power.
#[derive(Debug)]
pub struct LabBox {
    spec: BoxSpec,
    outer: Child,
    init: u32,
}

impl LabBox {
    /// Starts the box `spec`; returns when its PID 1 answers, before its services do.
    ///
    /// Errors: not root, a package is missing, the kernel refused; with what the box said.
    pub fn start(spec: BoxSpec) -> Result<LabBox> {
        fs::create_dir_all(spec.dir.join("log"))
            .with_context(|| format!("make {}", spec.dir.display()))?;
        let _of_a_former_run = fs::remove_file(spec.state_path());
        let path = spec.write()?;
        let log = spec.log("box");
        let out = fs::File::create(&log).with_context(|| format!("open {}", log.display()))?;
        let outer = Command::new(spec.programs.join("nonstop-box"))
            .arg("start")
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("start {}", spec.programs.join("nonstop-box").display()))?;
        let mut started = LabBox { spec, outer, init: 0 };
        started.init = started.first_sign(&log)?;
        Ok(started)
    }

    fn first_sign(&mut self, log: &Path) -> Result<u32> {
        wait_for("the box's PID 1", Duration::from_secs(20), || {
            if let Some(status) = self.outer.try_wait()? {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Ok(Some(Err(anyhow!("the box ended with {status}: {}", said.trim()))));
            }
            let Ok(text) = fs::read(self.spec.state_path()) else { return Ok(None) };
            let state: BoxState = serde_json::from_slice(&text).context("read the box's state")?;
            Ok(Some(Ok(state.init)))
        })?
    }

    /// PID 1 of the box as numbered here.
    pub fn init(&self) -> u32 {
        self.init
    }

    /// The outer process: killing it is a power cut.
    pub fn outer(&self) -> u32 {
        self.outer.id()
    }

    /// Inside the box.
    pub fn inside(&self) -> Place {
        Place::in_box(self.init)
    }

    /// Asks PID 1.
    pub fn ask(&self, request: &Request) -> Result<Vec<ServiceStatus>> {
        control::ask(self.init, request)
    }

    /// Waits until every wanted service is ready.
    ///
    /// Errors: one of them does not get there, with the end of its log.
    pub fn wait_ready(&self, limit: Duration) -> Result<()> {
        let mut late = Vec::new();
        let waited = wait_for("the box's services", limit, || {
            let services = self.ask(&Request::Status)?;
            late = services.into_iter().filter(|s| s.wanted && !s.ready).collect();
            Ok(late.is_empty().then_some(()))
        });
        let Err(e) = waited else { return Ok(()) };
        let Some(first) = late.first() else { return Err(e) };
        bail!(
            "`{}` is not ready after {} s ({} restarts, last end: {}). Its log {} ends:\n{}",
            first.name,
            limit.as_secs(),
            first.restarts,
            first.last_end.as_deref().unwrap_or("none"),
            self.spec.log(&first.name).display(),
            tail(&self.spec.log(&first.name), 15),
        )
    }

    /// Folder, services and users of the box.
    pub fn spec(&self) -> &BoxSpec {
        &self.spec
    }

    /// Cuts the power: `kill -9` of the outer process; returns when nothing is left of it.
    pub fn power_cut(mut self) -> Result<()> {
        self.cut()
    }

    fn cut(&mut self) -> Result<()> {
        // The pid stays ours until we wait for it, so this can hit nobody else.
        let _ended_already = self.outer.kill();
        self.outer.wait().context("wait for the box's end")?;
        if self.init != 0 {
            wait_for_end("the box's end", Duration::from_secs(20), || {
                Ok(is_gone(self.init).then_some(()))
            })?;
        }
        let _state = fs::remove_file(self.spec.state_path());
        if let Some(cgroup) = Cgroup::find()? {
            cgroup.remove(&self.spec.name)?;
        }
        Ok(())
    }
}

impl Drop for LabBox {
    fn drop(&mut self) {
        if let Err(e) = self.cut() {
            eprintln!("nonstop-box: {e:#}");
        }
    }
}

/// The last `lines` of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Where the build put our programs: the folder of the running program, or above `deps` for
/// a test.
pub fn built_programs() -> Result<PathBuf> {
    let me = std::env::current_exe().context("find the running program")?;
    let folder = me.parent().context("the running program has no folder")?;
    let folder = if folder.ends_with("deps") || folder.ends_with("examples") {
        folder.parent().context("the build has no folder")?
    } else {
        folder
    };
    Ok(folder.into())
}

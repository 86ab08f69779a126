//! Ours: a whole lab, a researcher's PC on the street, and what it costs to get a machine.

use crate::bench::{images::copy_images, look, steps, templates::with_templates};
use anyhow::{Context, Result};
use nonstop_testkit::{
    lab::Lab,
    net::free_port,
    pc::Pc,
    place::wait_for,
    ssh::{self, Forward, Tunnel},
};
use serde_json::Value;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Our lab, with alice in it.
pub(super) struct Ours {
    pub(super) lab: Lab,
    alice: Pc,
    host_key: String,
}

/// An environment that was provisioned, and how long that took.
pub(super) struct Provisioned {
    id: String,
    pub(super) running: Duration,
    /// The gateway lets alice through to the desktop.
    pub(super) open: Duration,
    /// Her tunnel is up.
    pub(super) tunnel: Duration,
    pub(super) rdp: Duration,
    pub(super) steps: Vec<steps::Step>,
}

/// Environments asked for at once.
pub(super) struct Crowd {
    ids: Vec<String>,
    /// When the last was approved.
    pub(super) approved: Duration,
    pub(super) running: Duration,
    pub(super) steps: Vec<steps::Step>,
}

/// A guest and its network, as libvirt describes them.
pub(super) struct Description {
    pub(super) domain: String,
    pub(super) network: String,
    pub(super) address: Ipv4Addr,
}

const PATIENCE: Duration = Duration::from_secs(180);

impl Ours {
    /// A lab with the images in `images`, switched on.
    pub(super) fn start(images: &Path) -> Result<Ours> {
        let lab = Lab::temporary("bench-provision")?.yaml("grace_seconds: 1");
        let mut lab = with_templates(lab)?;
        copy_images(images, &lab.state().join("images"))?;
        lab.start()?;
        let alice = lab.researcher("alice", 10)?;
        let host_key = ssh::host_key(&lab.inside()?)?;
        Ok(Ours { lab, alice, host_key })
    }

    fn init(&self) -> Result<u32> {
        Ok(self.lab.lab_box()?.init())
    }

    fn apply(&self, template: &str) -> Result<String> {
        let words = ["request", "apply", "--account", "alice", "--template", template];
        let more = ["--hours", "2", "--purpose", "to measure"];
        text(&self.lab.cli(&[&words[..], &more].concat())?["id"])
    }

    /// Has an environment of `template` approved, and its desktop waited for as alice sees it.
    pub(super) fn provision(&self, template: &str) -> Result<Provisioned> {
        let request = self.apply(template)?;
        let init = self.init()?;
        let logged = self.lab.log("nonstopd").len();
        let (clock, start) = (SystemTime::now(), Instant::now());
        let (approved, running) = thread::scope(|scope| {
            let watch = scope.spawn(|| look::running(init, 1, start, PATIENCE));
            (self.lab.cli(&["request", "approve", &request]), watch.join())
        });
        let id = text(&approved?["id"])?;
        let running = running.map_err(|_| anyhow::anyhow!("the watch panicked"))??;
        let address = self.address(&id)?;
        let open = look::gate_opens(init, address, start, PATIENCE)?;
        let forward = Forward { port: free_port()?, target: format!("{address}:3389") };
        let local = SocketAddr::from(([127, 0, 0, 1], forward.port));
        let _tunnel = self.alice.tunnel(&self.host_key, &[forward])?;
        let tunnel = start.elapsed();
        let rdp = look::rdp_answers(self.alice.holder(), start, PATIENCE, || Some(local))?;
        let log = self.lab.log("nonstopd");
        let steps = steps::steps(log.get(logged..).unwrap_or_default(), clock);
        Ok(Provisioned { id, running, open, tunnel, rdp, steps })
    }

    /// The address of the only machine of the environment `id`.
    fn address(&self, id: &str) -> Result<Ipv4Addr> {
        let shown = self.lab.cli(&["environment", "show", id])?;
        let address = text(&shown["machines"][0]["address"])?;
        address.parse().with_context(|| format!("`{address}` as an address"))
    }

    /// Has `count` environments of `template` approved one right after the other.
    pub(super) fn crowd(&self, template: &str, count: usize) -> Result<Crowd> {
        let requests: Vec<String> =
            (0..count).map(|_| self.apply(template)).collect::<Result<_>>()?;
        let init = self.init()?;
        let logged = self.lab.log("nonstopd").len();
        let line = "lab=$1; shift; for id in \"$@\"; do \
                    \"$PROGRAMS/nonstop\" --lab \"$lab\" request approve \"$id\" || exit 1; done";
        let file = self.lab.file().display().to_string();
        let programs = format!("PROGRAMS={}", nonstop_testkit::spec::PROGRAMS);
        let mut words = vec!["env", &programs, "sh", "-c", line, "sh", &file];
        words.extend(requests.iter().map(String::as_str));
        let (clock, start) = (SystemTime::now(), Instant::now());
        let (approved, running) = thread::scope(|scope| {
            let watch = scope.spawn(|| look::running(init, count, start, PATIENCE));
            let approved = self.lab.enter(&words).map(|_| start.elapsed());
            (approved, watch.join())
        });
        let (approved, running) =
            (approved?, running.map_err(|_| anyhow::anyhow!("the watch panicked"))??);
        let log = self.lab.log("nonstopd");
        let steps = steps::steps(log.get(logged..).unwrap_or_default(), clock);
        let ids = self.environments()?;
        Ok(Crowd { ids, approved, running, steps })
    }

    fn environments(&self) -> Result<Vec<String>> {
        let list = self.lab.cli(&["environment", "list"])?;
        let list = list.as_array().context("`environment list` gave no list")?;
        list.iter().map(|environment| text(&environment["id"])).collect()
    }

    /// Ends what was provisioned; returns when nothing of it is left.
    pub(super) fn end(&self, environment: &Provisioned) -> Result<()> {
        self.end_all(std::slice::from_ref(&environment.id))
    }

    /// Ends a crowd; returns when nothing of it is left.
    pub(super) fn end_crowd(&self, crowd: &Crowd) -> Result<()> {
        self.end_all(&crowd.ids)
    }

    fn end_all(&self, ids: &[String]) -> Result<()> {
        for id in ids {
            self.lab.cli(&["environment", "end", id])?;
        }
        look::none_left(self.init()?, PATIENCE)?;
        wait_for("the environments to be gone", PATIENCE, || {
            Ok(self.environments()?.is_empty().then_some(()))
        })
    }

    /// How libvirt describes all guests that run, and their networks.
    pub(super) fn describe(&self) -> Result<Vec<Description>> {
        let names = self.lab.enter(&["virsh", "-q", "list", "--name"])?;
        let mut all = Vec::new();
        for name in names.split_whitespace() {
            let domain = self.lab.enter(&["virsh", "-q", "dumpxml", "--inactive", name])?;
            let bridge = between(&domain, "<source bridge='", "'")
                .or_else(|| between(&domain, "<source network='", "'"))
                .with_context(|| format!("{name} has no bridge"))?;
            let network = self.lab.enter(&["virsh", "-q", "net-dumpxml", bridge])?;
            let host = network.lines().find(|line| line.contains("<host mac="));
            let address = host
                .and_then(|line| between(line, " ip='", "'")?.parse().ok())
                .with_context(|| format!("{name} has no address"))?;
            all.push(Description { domain, network, address });
        }
        Ok(all)
    }

    /// Keeps asking for the portal's home page through alice's tunnel.
    pub(super) fn visit(&self) -> Result<Visitor> {
        let account = self.lab.cli(&["account", "show", "alice"])?;
        let target = format!("{}:8080", text(&account["address"])?);
        let forward = Forward { port: free_port()?, target };
        let url = format!("http://127.0.0.1:{}/?visit=[1-5000]", forward.port);
        let tunnel = self.alice.tunnel(&self.host_key, &[forward])?;
        let times = self.lab.dir().join("visits");
        let child = self
            .alice
            .place()
            .command("stdbuf")
            .args(["-oL", "curl", "-s", "--noproxy", "*", "--rate", "20/s", "--max-time", "30"])
            .args(["-o", "/dev/null", "-w", "%{http_code} %{time_total}\\n", &url])
            .stdout(fs::File::create(&times).context("note the visits")?)
            .stderr(Stdio::null())
            .spawn()
            .context("start curl")?;
        Ok(Visitor { child, times, _tunnel: tunnel })
    }
}

/// Somebody who looks at the portal twenty times a second.
pub(super) struct Visitor {
    child: Child,
    times: std::path::PathBuf,
    _tunnel: Tunnel,
}

impl Visitor {
    /// Ends the visits; gives how long each took.
    ///
    /// Errors: one of them was not answered with the page.
    pub(super) fn leave(mut self) -> Result<Vec<Duration>> {
        self.end();
        let text = fs::read_to_string(&self.times).context("read the visits")?;
        text.lines().map(visit).collect()
    }

    fn end(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.end();
    }
}

fn visit(line: &str) -> Result<Duration> {
    let seconds = line.strip_prefix("200 ").and_then(|seconds| seconds.parse().ok());
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .with_context(|| format!("the portal did not answer with its page: `{line}`"))
}

/// What stands between `before` and the next `after`.
pub(super) fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(between, _)| between)
}

/// A JSON text or number as text.
fn text(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => anyhow::bail!("expected a text, got {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_without_a_page_is_an_error() {
        assert_eq!(visit("200 0.025").expect("a page"), Duration::from_millis(25));
        assert!(visit("502 0.1").is_err() && visit("000 30.0").is_err());
    }
}

//! A lab with people in it: what they ask for, and what they get.

use crate::{GuestShell, built_images, disguised, disguised_from};
use anyhow::{Context, Result, bail};
use nonstop_testkit::{lab::Lab, pc::Pc, place::wait_for};
use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant},
};

/// A lab that runs, with templates of the tests' own beside the shipped ones.
#[derive(Debug)]
pub struct World {
    /// The lab.
    pub lab: Lab,
}

/// An environment that was granted.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Its id, `e1`.
    pub id: String,
    /// The id of its machine, `m1`.
    pub machine: String,
    /// The machine's address.
    pub address: String,
}

/// How long an environment of small guests may take under load.
const PATIENCE: Duration = Duration::from_secs(120);

/// `micro` whose manifest says that it serves a desktop on this port: what is tried is who can
/// connect to it, not what it shows.
const PROBE_PORT: u16 = 3389;

const PROBE: &str = "version: 1\ntitle: probe\nrdp: guest\nrdp_reason: a test\nmachines:\n\
    - {role: analyst, image: probe, memory_mib: 96}\n";

/// A machine whose screen shows its kernel's text, served by the hypervisor. (`micro` has no driver
/// for its card: all that is seen of it is what the firmware says.) Started without its UEFI:
/// QEMU 10.0 without KVM can hang for ever when a guest resets a card that UEFI has left in a
/// graphics mode.
const SCREEN: &str = "version: 1\ntitle: screen\nrdp: console\nmachines:\n\
    - {role: analyst, image: screen, memory_mib: 256}\n";

impl World {
    /// A lab that is switched on.
    pub fn new(name: &str) -> Result<World> {
        let mut world = World::off(name, "")?;
        world.lab.start()?;
        Ok(world)
    }

    /// A lab that is still off, with more lines in its `lab.yaml`.
    pub fn off(name: &str, yaml: &str) -> Result<World> {
        let lab = Lab::temporary(name)?.images(built_images()?)?;
        let templates = lab.dir().join("templates");
        fs::create_dir_all(&templates)?;
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates");
        for name in ["macro", "micro"] {
            let file = format!("{name}.yaml");
            fs::copy(format!("{shipped}/{file}"), templates.join(&file))?;
        }
        fs::write(templates.join("probe.yaml"), PROBE)?;
        fs::write(templates.join("screen.yaml"), SCREEN)?;
        disguised(&lab, "probe", |manifest| manifest["rdp_port"] = PROBE_PORT.into())?;
        disguised_from(&lab, "debuggee", "screen", |manifest| {
            manifest["test_channel"] = true.into();
        })?;
        Ok(World { lab: lab.templates(templates).yaml(yaml) })
    }

    /// Applies for `template` in the name of `account`; gives the request's id.
    pub fn apply(&self, account: &str, template: &str) -> Result<String> {
        let words = ["request", "apply", "--account", account, "--template", template];
        let more = ["--hours", "2", "--purpose", "to try"];
        let request = self.lab.cli(&[&words[..], &more].concat())?;
        text(&request, "id")
    }

    /// Applies and approves; gives the environment's id.
    pub fn grant(&self, account: &str, template: &str) -> Result<String> {
        let request = self.apply(account, template)?;
        text(&self.lab.cli(&["request", "approve", &request])?, "id")
    }

    /// Applies, approves and waits until it is ready.
    pub fn environment(&self, account: &str, template: &str) -> Result<Environment> {
        let id = self.grant(account, template)?;
        self.ready(&id)
    }

    /// Waits until the environment `id` is ready.
    pub fn ready(&self, id: &str) -> Result<Environment> {
        let shown = self.in_state(id, "ready")?;
        let machine = &shown["machines"][0];
        Ok(Environment {
            id: id.into(),
            machine: text(machine, "id")?,
            address: text(machine, "address")?,
        })
    }

    /// Waits until the environment `id` is in `state`; gives it as shown.
    pub fn in_state(&self, id: &str, state: &str) -> Result<Value> {
        wait_for(&format!("{id} to be {state}"), PATIENCE, || {
            let shown = self.lab.cli(&["environment", "show", id])?;
            if shown["state"] == state {
                return Ok(Some(shown));
            }
            bail!("{id} is {}: {}", shown["state"], shown["problem"])
        })
    }

    /// Waits until the first machine of `id` is in `state`.
    pub fn machine_in(&self, id: &str, state: &str) -> Result<Duration> {
        let started = Instant::now();
        wait_for(&format!("the machine of {id} to be {state}"), PATIENCE, || {
            let shown = self.lab.cli(&["environment", "show", id])?;
            Ok((shown["machines"][0]["state"] == state).then_some(()))
        })?;
        Ok(started.elapsed())
    }

    /// Ends `id` and waits until nothing of it is left; the lab's grace time must be short.
    pub fn end(&self, id: &str) -> Result<()> {
        self.lab.cli(&["environment", "end", id])?;
        self.in_state(id, "gone").map(drop)
    }

    /// A shell in the guest of `environment`, once the guest has its address.
    pub fn shell(&self, environment: &Environment) -> Result<GuestShell> {
        let mut shell = GuestShell::connect(&self.lab, &environment.machine)?;
        wait_for("the guest's address", PATIENCE, || {
            let said = shell.run("ip -4 addr show")?;
            Ok(said.contains(&environment.address).then_some(()))
        })?;
        Ok(shell)
    }

    /// The public host key of the gateway.
    pub fn host_key(&self) -> Result<String> {
        nonstop_testkit::ssh::host_key(&self.lab.inside()?)
    }

    /// The address of an account.
    pub fn address_of(&self, account: &str) -> Result<String> {
        text(&self.lab.cli(&["account", "show", account])?, "address")
    }

    /// Whether a connection from `pc`, through an open tunnel to `port` of its own machine,
    /// reaches something that answers with `word`.
    pub fn reaches(&self, pc: &Pc, port: u16, word: &str) -> Result<bool> {
        let line = format!("echo {word} | timeout 5 nc -w 3 127.0.0.1 {port}");
        let output = pc.output(&["sh", "-c", &line])?;
        Ok(String::from_utf8_lossy(&output.stdout).contains(word))
    }

    /// The same, given a few tries: a server in a guest that was just started needs a moment.
    pub fn reaches_soon(&self, pc: &Pc, port: u16, word: &str) -> Result<bool> {
        for _ in 0..10 {
            if self.reaches(pc, port, word)? {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(false)
    }

    /// What is left of ours in the lab's host: guests, networks, overlays, grants.
    ///
    /// Errors: it cannot be listed.
    pub fn left_over(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for (what, line) in
            [("guest", "virsh -q list --all --name"), ("network", "virsh -q net-list --all --name")]
        {
            let names = self.lab.enter(&["sh", "-c", line])?;
            left.extend(
                names.lines().filter(|l| l.contains("ns")).map(|name| format!("{what} {name}")),
            );
        }
        let links = self.lab.enter(&["sh", "-c", "ls /sys/class/net"])?;
        left.extend(
            links
                .lines()
                .filter(|l| ["nsb", "nst", "nsl", "nsk"].iter().any(|ours| l.starts_with(ours)))
                .map(|name| format!("link {name}")),
        );
        for entry in fs::read_dir(self.lab.state().join("machines"))? {
            left.push(format!("disks of {}", entry?.file_name().display()));
        }
        for entry in fs::read_dir(self.lab.state().join("quarantine"))? {
            let entry = entry?;
            match entry.file_name().to_str() {
                // What was blocked lies there on purpose.
                Some("exports") => {}
                // Files of transfers that the database does not know.
                Some("unknown") => {
                    for file in fs::read_dir(entry.path())? {
                        left.push(format!("quarantined {}", file?.file_name().display()));
                    }
                }
                _ => left.push(format!("quarantined {}", entry.file_name().display())),
            }
        }
        Ok(left)
    }

    /// The checks that hold after whatever happened: one guest and one network for each
    /// environment that is ready, no quarantine, a trace that verifies, and no alarm in it.
    pub fn whole(&self, environments: usize) -> Result<()> {
        let left = self.left_over()?;
        for what in ["guest", "network", "disks"] {
            let count = left.iter().filter(|l| l.starts_with(what)).count();
            if count != environments {
                bail!("{count} of {what} for {environments} environments: {left:?}");
            }
        }
        if let Some(odd) = left.iter().find(|l| l.starts_with("quarantined")) {
            bail!("{odd}");
        }
        let verified = self.lab.cli(&["trace", "verify"])?;
        if !verified["broken_at"].is_null() {
            bail!("the trace is broken: {verified}");
        }
        let alarms = self.alarms()?;
        if !alarms.is_empty() {
            bail!("nobody touched the host, and yet: {alarms:?}");
        }
        Ok(())
    }

    /// What the trace tells of reach that did not hold, and of what somebody changed by hand.
    pub fn alarms(&self) -> Result<Vec<Value>> {
        let trace = self.lab.cli(&["trace", "list", "--limit", "10000"])?;
        let alarm = |row: &Value| {
            let action = row["action"].as_str().unwrap_or_default();
            action == "reach.proof" || action.ends_with(".drift")
        };
        let mut rows = trace.as_array().cloned().unwrap_or_default();
        rows.retain(alarm);
        Ok(rows)
    }
}

fn text(value: &Value, key: &str) -> Result<String> {
    let text = value[key].as_str().with_context(|| format!("no `{key}` in {value}"))?;
    Ok(text.into())
}

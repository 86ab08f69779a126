//! The program that changes the rules of one host, told by lines and answering by lines. It ends with
//! us: its stdin closes.

use anyhow::{Context, Result, bail};
use nonstop_testkit::place::Place;
use serde::Deserialize;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

/// Whoever changes a host's rules.
pub(super) struct Rules {
    child: Child,
    told: ChildStdin,
    said: BufReader<ChildStdout>,
}

/// A machine's card, and what it reaches.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Card {
    pub(super) bridge: String,
    pub(super) tap: String,
    pub(super) mac: String,
    pub(super) address: Ipv4Addr,
    /// The host's address on the bridge.
    pub(super) host: Ipv4Addr,
    /// The data domain's interface.
    pub(super) domain: String,
    pub(super) tcp: SocketAddrV4,
    pub(super) udp: SocketAddrV4,
}

impl Rules {
    /// Starts `fleet` at `place`.
    pub(super) fn start(fleet: &Path, place: &Place) -> Result<Rules> {
        let mut child = place
            .command(fleet)
            .arg("rules")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", fleet.display()))?;
        let told = child.stdin.take().context("talk to the fleet")?;
        let said = BufReader::new(child.stdout.take().context("hear the fleet")?);
        Ok(Rules { child, told, said })
    }

    /// Tells `line`, and gives the answer.
    pub(super) fn ask(&mut self, line: &str) -> Result<Value> {
        writeln!(self.told, "{line}").with_context(|| format!("tell the fleet `{line}`"))?;
        let mut answer = String::new();
        self.said.read_line(&mut answer)?;
        if answer.is_empty() {
            bail!("the fleet ended at `{line}`: what it said stands above");
        }
        serde_json::from_str(&answer).with_context(|| format!("understand `{}`", answer.trim()))
    }

    /// The card of environment `number`, which must be a macro.
    pub(super) fn card(&mut self, number: u32) -> Result<Card> {
        let answer = self.ask(&format!("whoami {number}"))?;
        serde_json::from_value(answer).with_context(|| format!("the card of environment {number}"))
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

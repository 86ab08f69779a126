//! What `ssh` says, understood: how far it got, and why it went no further.
//!
//! The words are those of OpenSSH 8.4 to 10 at `LogLevel DEBUG1`. They are only read to explain: what
//! is not understood is shown as it is.

use crate::trouble::Trouble;
use nonstop_profile::Profile;
use std::collections::VecDeque;

/// How far `ssh` got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It was started.
    Started,
    /// TCP is connected.
    Connected,
    /// The gateway greeted.
    Greeted,
    /// The gateway's key is a pinned one.
    Trusted,
    /// The key was named to the gateway.
    Offered,
    /// The gateway would take that key.
    Accepted,
    /// Logged in.
    LoggedIn,
    /// Ports listen.
    Open,
}

/// What was heard.
#[derive(Debug, Clone)]
pub struct Heard {
    /// How far it got.
    pub phase: Phase,
    shown_key: Option<String>,
    said: VecDeque<String>,
}

/// Lines that are kept.
const LINES: usize = 40;

impl Default for Heard {
    fn default() -> Heard {
        Heard { phase: Phase::Started, shown_key: None, said: VecDeque::new() }
    }
}

impl Heard {
    /// Hears a line.
    pub fn line(&mut self, line: &str) {
        let line = line.trim_end();
        let reached = match line.strip_prefix("debug1: ") {
            Some(word) if word.starts_with("Connection established") => Phase::Connected,
            Some(word) if word.starts_with("Remote protocol version") => Phase::Greeted,
            Some(word) if word.starts_with("Server host key: ") => {
                self.shown_key = word.split(' ').nth(4).map(printable);
                Phase::Greeted
            }
            Some(word) if word.contains("is known and matches the") => Phase::Trusted,
            Some(word) if word.starts_with("Offering public key") => Phase::Offered,
            Some(word) if word.starts_with("Server accepts key") => Phase::Accepted,
            Some(word) if word.starts_with("Entering interactive session") => Phase::Open,
            Some(_) => return,
            None if line.starts_with("Authenticated to ") => Phase::LoggedIn,
            None => {
                self.said.push_back(printable(line));
                if self.said.len() > LINES {
                    self.said.pop_front();
                }
                return;
            }
        };
        self.phase = self.phase.max(reached);
    }

    /// Why `ssh` has ended.
    pub fn trouble(&self, profile: &Profile) -> Trouble {
        let host = || profile.gateway.host.clone();
        let port = profile.gateway.port.get();
        let says = |word: &str| self.said.iter().any(|line| line.contains(word));
        let any = |words: &[&str]| words.iter().any(|word| says(word));
        if any(&[
            "HOST IDENTIFICATION HAS CHANGED",
            "Host key verification failed",
            "host key is known",
        ]) {
            return Trouble::HostKey {
                pinned: profile.host_keys.iter().map(|key| key.fingerprint().to_string()).collect(),
                shown: self.shown_key.clone().unwrap_or_else(|| "?".into()),
            };
        }
        match self.phase {
            Phase::Started if any(&["timed out", "Timeout"]) => Trouble::Silent(host(), port),
            Phase::Started if says("refused") => Trouble::Refused(host(), port),
            Phase::Started
                if any(&[
                    "No route to host",
                    "unreachable",
                    "Network is down",
                    "Cannot assign",
                ]) =>
            {
                Trouble::NoRoute(host())
            }
            Phase::Started if says("Could not resolve") => Trouble::NoName(host()),
            Phase::Connected
                if any(&["reset", "closed", "timed out", "aborted", "Connection", "Exceeded"]) =>
            {
                Trouble::Dropped(host())
            }
            Phase::Greeted | Phase::Trusted if says("Permission denied") => {
                Trouble::CardUnused(self.last())
            }
            Phase::Greeted | Phase::Trusted | Phase::Offered
                if any(&["closed", "reset", "timed out", "Timeout", "aborted"]) =>
            {
                Trouble::Dropped(host())
            }
            Phase::Offered if says("Permission denied") => {
                Trouble::KeyRefused(profile.account.clone())
            }
            Phase::Accepted
                if any(&[
                    "signing failed",
                    "sign failed",
                    "C_Login",
                    "C_Sign",
                    "agent refused",
                    "couldn't prompt",
                    "PIN",
                ]) =>
            {
                Trouble::CardUnused(self.last())
            }
            Phase::Accepted if any(&["timed out", "Timeout", "reset"]) => Trouble::Lost,
            Phase::Accepted => Trouble::AccountRefused(profile.account.clone()),
            Phase::LoggedIn if any(&["Address already in use", "cannot listen to port"]) => {
                Trouble::PortTaken(self.taken().unwrap_or_default())
            }
            Phase::LoggedIn | Phase::Open
                if any(&["closed by remote host", "Received disconnect"]) =>
            {
                Trouble::Ended(host())
            }
            Phase::LoggedIn | Phase::Open => Trouble::Lost,
            Phase::Started
            | Phase::Connected
            | Phase::Greeted
            | Phase::Trusted
            | Phase::Offered => Trouble::Ssh(self.last()),
        }
    }

    /// The port in `bind [127.0.0.1]:4001: Address already in use`.
    fn taken(&self) -> Option<u16> {
        let line = self.said.iter().find(|line| line.starts_with("bind "))?;
        line.split("]:").nth(1)?.split(':').next()?.parse().ok()
    }

    /// The last words, for what is not understood.
    fn last(&self) -> String {
        let from = self.said.len().saturating_sub(3);
        self.said.iter().skip(from).cloned().collect::<Vec<_>>().join("; ")
    }
}

/// What comes from the gateway may hold whatever it likes.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

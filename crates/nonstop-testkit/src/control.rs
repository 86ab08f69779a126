//! How a lab talks to its box's PID 1: one JSON line there, one back, over a unix socket.

use crate::spec::CONTROL;
use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

/// What PID 1 can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The state of every service.
    Status,
    /// Wants the service to run.
    Start {
        /// Its name.
        service: String,
    },
    /// Ends the service (TERM, after ten seconds KILL) and answers when it is gone.
    Stop {
        /// Its name.
        service: String,
    },
    /// Sends a signal to the service's main process and answers at once.
    Signal {
        /// Its name.
        service: String,
        /// Number of the signal.
        signal: i32,
    },
    /// Whether PID 1 starts the service again when it ends by itself.
    AutoRestart {
        /// Its name.
        service: String,
        /// Yes or no.
        on: bool,
    },
}

/// What PID 1 answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; the state of every service afterwards.
    Services(Vec<ServiceStatus>),
    /// Not done, and why.
    Refused(String),
}

/// The state of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Whether PID 1 keeps it running.
    pub wanted: bool,
    /// Its main process, as numbered inside the box.
    pub pid: Option<i32>,
    /// Whether it answers.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended the last time.
    pub last_end: Option<String>,
}

/// Asks the box whose PID 1 is `init` as seen from here.
pub fn ask(init: u32, request: &Request) -> Result<Vec<ServiceStatus>> {
    let path = format!("/proc/{init}/root{CONTROL}");
    let mut stream = UnixStream::connect(&path).context("reach the box's PID 1")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    writeln!(stream, "{}", serde_json::to_string(request)?).context("ask the box's PID 1")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("hear the box's PID 1")?;
    match serde_json::from_str(&line).context("understand the box's PID 1")? {
        Reply::Services(services) => Ok(services),
        Reply::Refused(why) => Err(anyhow!("{why}")),
    }
}

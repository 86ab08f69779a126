//! The host: libvirt, disks, nftables and the gateway's files, observed and changed one step at
//! a time. Whatever is made carries a mark of ours, so that a listing finds what a crash forgot.

pub mod accelerator;
mod access;
pub mod agent;
pub mod authority;
pub mod connections;
pub mod disks;
pub mod displays;
pub mod domain;
pub mod firewall;
pub mod firmware;
pub mod gate;
pub mod images;
pub mod libvirt;
pub mod network;
mod program;
mod real;
pub mod sessions;
pub mod shaping;
pub mod sim;
mod socket;
pub mod tpm;
mod xml;

pub use program::ProgramError;
pub use real::{Bells, LocalUsers, RealHost, Sources};

pub use nonstop_agent::{Kept, Put, PutVerdict};

use nonstop_model::MachineId;
use nonstop_plan::{Observed, Step};
use std::{fs::File, os::fd::OwnedFd};

/// What a host can do. [`RealHost`] is the real one; tests of the daemon simulate another.
pub trait Host: Send + Sync {
    /// Lists everything of ours. Errors: a part that cannot be listed; nothing is guessed.
    fn observe(&self) -> Result<Observed, HostError>;

    /// Does one step. It may be repeated, also after a crash in its middle.
    fn apply(&self, step: &Step) -> Result<Outcome, HostError>;

    /// What the recording `id` holds, decrypted by a confined child, as a pipe.
    fn play_recording(&self, id: u64) -> Result<OwnedFd, HostError>;

    /// Has the agent in the guest of `machine` write all of `file` to `path`, over what is there. Takes
    /// at most [`nonstop_agent::put_patience`], and breaks off soon after it is not `wanted` any more.
    /// What the guest says of it is information, never proof.
    ///
    /// Errors: the child that speaks with the guest cannot be started, or says nothing.
    fn put_file(
        &self,
        machine: MachineId,
        path: &str,
        file: &File,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Put, HostError>;
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What it promises holds.
    Done,
    /// It was begun, or could not be yet; the next pass looks again.
    NotYet,
}

/// A step or an observation that failed: what was being done, the cause, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct HostError {
    /// What was being done, to which thing.
    pub doing: String,
    /// How an admin mends it; empty where nothing better than trying again is known.
    pub help: String,
    /// The cause.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl HostError {
    /// An error while `doing` something, caused by `source`.
    pub fn new(
        doing: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> HostError {
        HostError { doing: doing.into(), help: String::new(), source: Some(source.into()) }
    }

    /// The same with a way to mend it.
    pub fn help(mut self, help: impl Into<String>) -> HostError {
        self.help = help.into();
        self
    }
}

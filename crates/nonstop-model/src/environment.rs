//! Requests, environments and machines: what was asked for, granted, and is wanted.

use crate::{
    account::AccountName,
    ids::{EnvironmentId, MachineId, RequestId},
    image::ImageName,
    lab::MACHINE_UIDS,
    network::{Segment, Slot},
    snapshot::Memory,
    template::{EnvironmentTemplate, MachineRole, TemplateName},
    time::Period,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// What a researcher applies for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Handed out once.
    pub id: RequestId,
    /// Who applies.
    pub account: AccountName,
    /// For which template.
    pub template: TemplateName,
    /// From when until when.
    pub period: Period,
    /// What for, in the researcher's words.
    pub purpose: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// What became of it.
    pub state: RequestState,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum RequestState {
    /// Waits for staff.
    Open,
    /// Staff granted the environment.
    Approved {
        /// Who decided.
        by: String,
        /// What was granted.
        environment: EnvironmentId,
    },
    /// Staff said no.
    Refused {
        /// Who decided.
        by: String,
        /// Why, for the researcher to read.
        reason: String,
    },
}

/// One template, given to one researcher for one period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Handed out once.
    pub id: EnvironmentId,
    /// Whose it is.
    pub account: AccountName,
    /// The template's name.
    pub template_name: TemplateName,
    /// The template as it was when staff granted it.
    pub template: EnvironmentTemplate,
    /// The reservation's period.
    pub period: Period,
    /// Its place in the lab's pool.
    pub slot: Slot,
    /// Its bridge and addresses.
    pub segment: Segment,
    /// What is wanted of it.
    pub state: EnvironmentState,
    /// Its machines, in the template's order.
    pub machines: Vec<Machine>,
}

/// What is wanted of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum EnvironmentState {
    /// Exists during its period.
    Granted,
    /// Access is cut and machines are stopped; disks stay until `destroy_at`.
    Ended {
        /// When its disks go.
        destroy_at: Timestamp,
    },
    /// An observation showed that nothing of it is left.
    Gone,
}

/// Whether a machine should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// It should run.
    On,
    /// It should not.
    Off,
}

/// A VM of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Handed out once; domain, tap, MAC, uid and folder derive from it.
    pub id: MachineId,
    /// What it is for.
    pub role: MachineRole,
    /// The image it was granted with.
    pub image: ImageName,
    /// Digest of that image's manifest: the folder it is read from.
    pub image_digest: String,
    /// Its address on the access segment; None for a machine that is not on it.
    pub address: Option<Ipv4Addr>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub vcpus: u8,
    /// Which generation of what the guest can write it runs on, from 1.
    pub generation: u32,
    /// The generation that its disk was made from; None where that is the image.
    pub origin: Option<u32>,
    /// The memory that its guest goes on with once it is there; None once it does.
    pub resume: Option<Memory>,
    /// Whether it should run.
    pub power: Power,
    /// Until when the guest may shut down by itself once `power` is off.
    pub force_off_at: Timestamp,
    /// Whether a reset was asked for and not yet done.
    pub reset_pending: bool,
    /// The guest's user whose password is ours to set; None where there is no agent.
    pub guest_user: Option<String>,
    /// The password of the current generation.
    pub password: Password,
    /// Whether the guest of the current generation has that password.
    pub prepared: bool,
    /// Port of the guest's own RDP server; None where it offers no desktop.
    pub desktop_port: Option<u16>,
    /// The host's run in which it was last seen running.
    pub seen_in: Option<String>,
}

impl Machine {
    /// The uid its QEMU runs as; never used for another.
    pub fn uid(&self) -> u32 {
        MACHINE_UIDS + self.id.0
    }
}

/// A guest's password. It is never shown by `Debug` nor written by serde.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(***)")
    }
}

impl Serialize for Password {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

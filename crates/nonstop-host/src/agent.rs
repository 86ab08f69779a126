//! Setting a guest's password through its agent, by a confined child.

use crate::{HostError, Outcome};
use nonstop_model::{MachineId, environment::Password};
use std::path::{Path, PathBuf};

/// Starts the child that speaks with one guest's agent.
#[derive(Debug)]
pub struct AgentRunner {
    program: PathBuf,
    sockets: PathBuf,
    uid: u32,
    gid: u32,
}

impl AgentRunner {
    /// A runner of `programs/nonstop-agent` as `uid` and `gid`, for the sockets in `sockets`.
    pub fn new(programs: &Path, sockets: &Path, uid: u32, gid: u32) -> AgentRunner {
        AgentRunner { program: programs.join("nonstop-agent"), sockets: sockets.into(), uid, gid }
    }

    /// Sets the password of `user` in `machine`.
    pub fn set_password(
        &self,
        machine: MachineId,
        _user: &str,
        _password: &Password,
    ) -> Result<Outcome, HostError> {
        let _ = (&self.program, &self.sockets, self.uid, self.gid, machine);
        Ok(Outcome::NotYet)
    }
}

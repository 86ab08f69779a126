//! A guest's agent, spoken to by a confined child (see the crate `nonstop-agent`): nothing that a
//! guest says is read by this process.

use crate::{HostError, Outcome, domain::agent_socket, socket::connect_at_once};
use nonstop_agent::{Task, Verdict};
use nonstop_model::{MachineId, Password};
use std::{
    io::ErrorKind,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// Starts a child for each word with a guest's agent.
#[derive(Debug)]
pub struct AgentRunner {
    program: PathBuf,
    agent_dir: PathBuf,
    user: (u32, u32),
}

impl AgentRunner {
    /// Children are `nonstop-agent` in `programs`, run as `uid` and `gid`; the sockets of guests'
    /// agents lie in `agent_dir`.
    pub fn new(programs: &Path, agent_dir: &Path, uid: u32, gid: u32) -> AgentRunner {
        AgentRunner {
            program: programs.join("nonstop-agent"),
            agent_dir: agent_dir.into(),
            user: (uid, gid),
        }
    }

    /// Asks the guest of `machine` to give `user` this password. Returns within 10.5 s; `NotYet`
    /// when the guest does not answer, after 2 s where it is silent, at once where its QEMU takes no
    /// connection. That it says "done" is information, never proof.
    pub fn set_password(
        &self,
        machine: MachineId,
        user: &str,
        password: &Password,
    ) -> Result<Outcome, HostError> {
        let doing = || format!("set the password of {user} in {machine}");
        let socket = match connect_at_once(&agent_socket(&self.agent_dir, machine)) {
            Ok(socket) => socket,
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::WouldBlock
                ) =>
            {
                return Ok(Outcome::NotYet);
            }
            Err(e) => return Err(HostError::new(doing(), e)),
        };
        socket.set_nonblocking(true).map_err(|e| HostError::new(doing(), e))?;
        let task = Task { user: user.into(), password: password.0.clone() };
        match nonstop_agent::run(&self.program, OwnedFd::from(socket), &task, self.user) {
            Ok(Verdict::Done) => Ok(Outcome::Done),
            Ok(Verdict::NotYet) => Ok(Outcome::NotYet),
            Ok(Verdict::Refused) => Err(HostError::new(doing(), "the guest's agent refused")
                .help("revert the machine, or build its image anew")),
            Err(e) => Err(HostError::new(doing(), e)
                .help("see that nonstop-agent lies in `programs` of lab.yaml and its user exists")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::tests::hung;
    use std::time::{Duration, Instant};

    #[test]
    fn a_qemu_that_hangs_holds_up_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let runner = AgentRunner::new(Path::new("/nowhere"), folder.path(), 1, 1);
        let _hung = hung(&agent_socket(folder.path(), MachineId(1)));
        let (asked, password) = (Instant::now(), Password("secret".into()));
        let outcome = runner.set_password(MachineId(1), "researcher", &password);
        assert!(matches!(outcome, Ok(Outcome::NotYet)), "{outcome:?}");
        assert!(asked.elapsed() < Duration::from_secs(1));
    }
}

//! A guest's agent, spoken to by a confined child (see the crate `nonstop-agent`): nothing that a
//! guest says is read by this process.

use crate::{HostError, Outcome, domain::agent_socket, socket::connect_at_once};
use nonstop_agent::{Put, PutFile, PutVerdict, SetPassword, Verdict};
use nonstop_model::{MachineId, Password};
use std::{
    fs::File,
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
            Err(e) if is_absent(&e) => return Ok(Outcome::NotYet),
            Err(e) => return Err(HostError::new(doing(), e)),
        };
        socket.set_nonblocking(true).map_err(|e| HostError::new(doing(), e))?;
        let task = SetPassword { user: user.into(), password: password.0.clone() };
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

impl AgentRunner {
    /// Has the agent in the guest of `machine` write all of `file` to `path`, for as long as `wanted`.
    /// Returns within [`nonstop_agent::put_patience`] and half a second.
    pub fn put_file(
        &self,
        machine: MachineId,
        path: &str,
        file: &File,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Put, HostError> {
        let doing = || format!("put {path} into {machine}");
        let failed = |e: std::io::Error| HostError::new(doing(), e);
        let socket = match connect_at_once(&agent_socket(&self.agent_dir, machine)) {
            Ok(socket) => socket,
            Err(e) if is_absent(&e) => return Ok(Put::new(PutVerdict::Silent, 0)),
            Err(e) => return Err(failed(e)),
        };
        socket.set_nonblocking(true).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let task = PutFile { path: path.into(), bytes };
        let content = OwnedFd::from(file.try_clone().map_err(failed)?);
        let guest = OwnedFd::from(socket);
        let put = nonstop_agent::run_put(&self.program, guest, content, &task, self.user, wanted);
        put.map_err(|e| {
            HostError::new(doing(), e)
                .help("see that nonstop-agent lies in `programs` of lab.yaml and its user exists")
        })
    }
}

/// Whether nobody is there to speak with.
fn is_absent(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::WouldBlock)
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

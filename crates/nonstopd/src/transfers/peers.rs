//! Who is behind a client's connection that an airlock's program hands over.
//!
//! The programs are not believed: the kernel is asked what the descriptor is.

use super::connection;
use crate::{person, status::chain};
use nonstop_model::{
    AccountId, EnvironmentId, EnvironmentState, EnvironmentTemplate, Lab, MachineId, MachineRole,
    reach::AIRLOCK,
};
use nonstop_store::Db;
use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A machine, inside.
    Machine {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        machine: MachineId,
        /// What it is for.
        role: MachineRole,
    },
    /// A person, outside.
    Person(AccountId),
}

/// A connection that nobody is taken to be behind.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Nobody(pub String);

/// Tells who is behind connections.
pub trait Peers: Send + Sync {
    /// The machine behind `connection`.
    fn machine(&self, connection: BorrowedFd<'_>) -> Result<Who, Nobody>;

    /// The person behind `connection`.
    fn person(&self, connection: BorrowedFd<'_>) -> Result<Who, Nobody>;

    /// Whether whoever was behind `connection` still is.
    fn lives(&self, connection: BorrowedFd<'_>) -> bool;
}

/// Tells by the kernel's word and the lab's addresses.
pub struct ByKernel {
    lab: Lab,
    db: Arc<Db>,
}

impl ByKernel {
    /// For the machines and accounts of `lab`.
    pub fn new(lab: Lab, db: Arc<Db>) -> ByKernel {
        ByKernel { lab, db }
    }
}

impl Peers for ByKernel {
    /// The machine whose address the other end has, if ours is the host's on its segment: a process
    /// of this host can have neither end. Errors: it may not reach the airlock, or there is none.
    fn machine(&self, connection: BorrowedFd<'_>) -> Result<Who, Nobody> {
        let ends = ends(connection)?;
        if ends.ours.port() != self.lab.airlock.port {
            return Err(Nobody("the connection is not to the airlock's port".into()));
        }
        let all = self.db.read(|read| read.environments(self.lab.network.pool, false));
        let all = all.map_err(|e| Nobody(chain(&e)))?;
        let mut granted = all.iter().filter(|e| e.state == EnvironmentState::Granted);
        let environment = granted.find(|e| e.segment.host() == *ends.ours.ip());
        let environment =
            environment.ok_or_else(|| Nobody("the connection is on no segment".into()))?;
        let machine = environment.machines.iter().find(|m| m.address == Some(*ends.theirs.ip()));
        let machine = machine.ok_or_else(|| Nobody("no machine has that address".into()))?;
        if !reaches_airlock(&environment.template, machine.role) {
            return Err(Nobody("the machine's template does not let it reach the airlock".into()));
        }
        Ok(Who::Machine { environment: environment.id, machine: machine.id, role: machine.role })
    }

    fn person(&self, connection: BorrowedFd<'_>) -> Result<Who, Nobody> {
        ends(connection)?;
        let copy = connection.try_clone_to_owned().map_err(|e| Nobody(e.to_string()))?;
        let account = person::account_behind(copy, self.lab.airlock.outside_port);
        account.map(Who::Person).map_err(|e| Nobody(chain(&e)))
    }

    fn lives(&self, connection: BorrowedFd<'_>) -> bool {
        connection::is_established(connection.as_fd())
    }
}

fn ends(connection: BorrowedFd<'_>) -> Result<connection::Ends, Nobody> {
    match connection::ends(connection) {
        Ok(Some(ends)) => Ok(ends),
        Ok(None) => Err(Nobody("that is no living TCP connection of this host".into())),
        Err(e) => Err(Nobody(format!("look at the connection: {e}"))),
    }
}

fn reaches_airlock(template: &EnvironmentTemplate, role: MachineRole) -> bool {
    let machine = template.machine(role);
    machine.is_some_and(|machine| machine.reach.iter().any(|target| target == AIRLOCK))
}

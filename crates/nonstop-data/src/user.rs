//! Users of the programs of data domains, as `systemd/sysusers.d` makes them.

use anyhow::{Context, Result, bail};
use std::process::Command;

/// A user, and the group of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group's.
    pub gid: u32,
}

impl User {
    /// The user `name`, by the system's own look-up.
    ///
    /// Errors: there is none, or it is root.
    pub fn named(name: &str) -> Result<User> {
        let output = Command::new("getent").args(["passwd", name]).output().context("getent")?;
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut numbers = line.split(':').skip(2).map_while(|field| field.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(uid), Some(gid)) if uid != 0 => Ok(User { uid, gid }),
            _ => bail!("there is no user `{name}`: install systemd/sysusers.d/nonstop.conf"),
        }
    }
}

//! Users of the programs of data domains, as `systemd/sysusers.d` makes them.

use anyhow::{Context, Result};
use std::fs;

/// A system user of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    /// Its number.
    pub(crate) uid: u32,
    /// Its group's.
    pub(crate) gid: u32,
}

impl User {
    /// Who runs the servers that machines talk with.
    pub(crate) const SERVERS: &str = "nonstop-data";

    /// The user `name` of this host.
    ///
    /// Errors: there is none, or it is root.
    pub(crate) fn find(name: &str) -> Result<User> {
        let table = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        of(&table, name).with_context(|| {
            format!("there is no user {name}: run `systemd-sysusers` with systemd/sysusers.d")
        })
    }
}

fn of(table: &str, name: &str) -> Option<User> {
    let line = table.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut numbers = line.split(':').skip(2).map(str::parse);
    let user = User { uid: numbers.next()?.ok()?, gid: numbers.next()?.ok()? };
    (user.uid != 0 && user.gid != 0).then_some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name_and_never_root() {
        let table = "root:x:0:0::/:/bin/sh\nnonstop-database:x:7:7::/:\nnonstop-data:x:64103:64104::/:\n\
                     toor:x:0:5::/:\n";
        assert_eq!(of(table, "nonstop-data"), Some(User { uid: 64103, gid: 64104 }));
        assert_eq!(of(table, "root"), None);
        assert_eq!(of(table, "toor"), None);
        assert_eq!(of(table, "nonstop"), None);
    }
}

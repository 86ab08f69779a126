//! Keeping packages from starting daemons while they are installed.
//!
//! Debian asks `/usr/sbin/policy-rc.d` before it starts anything (invoke-rc.d(8)). What was
//! there before comes back afterwards, also on the next run when this one was killed.

use anyhow::{Context, Result};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

const OURS: &str = "#!/bin/sh\n# NONSTOP's installer is at work: nothing is started.\nexit 101\n";

/// While it lives, no package starts a daemon.
pub(crate) struct StartsDenied {
    policy: PathBuf,
    saved: PathBuf,
}

impl StartsDenied {
    /// Denies starts on this machine.
    pub(crate) fn here() -> Result<StartsDenied> {
        StartsDenied::at(Path::new("/usr/sbin/policy-rc.d"))
    }

    fn at(policy: &Path) -> Result<StartsDenied> {
        let denied =
            StartsDenied { policy: policy.into(), saved: policy.with_extension("d.nonstop-saved") };
        let ours = fs::read_to_string(policy).is_ok_and(|text| text == OURS);
        if !ours && policy.exists() {
            // A rename keeps owner, mode and content.
            fs::rename(policy, &denied.saved).context("set policy-rc.d aside")?;
        }
        fs::write(policy, OURS)
            .and_then(|()| fs::set_permissions(policy, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("write {}", policy.display()))?;
        Ok(denied)
    }

    fn restore(&self) -> io::Result<()> {
        if self.saved.exists() {
            fs::rename(&self.saved, &self.policy)
        } else {
            fs::remove_file(&self.policy)
        }
    }
}

impl Drop for StartsDenied {
    fn drop(&mut self) {
        if let Err(e) = self.restore() {
            eprintln!("xtask: bring {} back: {e}", self.policy.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("room");
        folder
    }

    #[test]
    fn what_was_there_comes_back_even_after_a_killed_run() {
        let folder = folder("policy");
        let policy = folder.join("policy-rc.d");
        fs::write(&policy, "#!/bin/sh\nexit 0\n").expect("room");
        let killed = StartsDenied::at(&policy).expect("allowed");
        std::mem::forget(killed);
        let next = StartsDenied::at(&policy).expect("allowed");
        assert_eq!(fs::read_to_string(&policy).expect("there"), OURS);
        drop(next);
        assert_eq!(fs::read_to_string(&policy).expect("there"), "#!/bin/sh\nexit 0\n");
        assert_eq!(fs::read_dir(&folder).expect("there").count(), 1);
        fs::remove_dir_all(folder).expect("ours");
    }

    #[test]
    fn where_nothing_was_nothing_stays() {
        let folder = folder("no-policy");
        drop(StartsDenied::at(&folder.join("policy-rc.d")).expect("allowed"));
        assert_eq!(fs::read_dir(&folder).expect("there").count(), 0);
        fs::remove_dir_all(folder).expect("ours");
    }
}

//! The gateway's host key: made once, and kept on disk.

use super::{doing, remove};
use crate::HostError;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The private key in `folder`.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("ssh_host_ed25519_key")
}

fn public_path(folder: &Path) -> PathBuf {
    folder.join("ssh_host_ed25519_key.pub")
}

/// Makes the key exist. The private key's name appears last, and everything is on disk before.
pub(super) fn ensure(folder: &Path) -> Result<(), HostError> {
    let key = path(folder);
    if key.exists() && public_path(folder).exists() {
        return Ok(());
    }
    let make = || -> io::Result<()> {
        if key.exists() {
            return Err(io::Error::other("the public half is missing: restore it from a backup"));
        }
        let new = folder.join("new");
        let new_public = folder.join("new.pub");
        remove(&new)?;
        remove(&new_public)?;
        let output = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
            .arg(&new)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("ssh-keygen: {}", said.trim())));
        }
        File::open(&new)?.sync_all()?;
        File::open(&new_public)?.sync_all()?;
        fs::rename(&new_public, public_path(folder))?;
        File::open(folder)?.sync_all()?;
        fs::rename(&new, &key)?;
        File::open(folder)?.sync_all()
    };
    make().map_err(|e| {
        HostError::new(format!("make the gateway's host key {}", key.display()), e)
            .help("ssh-keygen of openssh-client must work, and the folder be writable")
    })
}

/// The public key, without its comment.
pub(super) fn public(folder: &Path) -> Result<String, HostError> {
    let path = public_path(folder);
    let line = fs::read_to_string(&path).map_err(doing("read", &path))?;
    Ok(line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

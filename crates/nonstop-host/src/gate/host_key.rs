//! The gateway's host keys: the current one, and the next while it is being changed.
//!
//! While both are there sshd shows the current one to whoever connects, as ever, and then tells
//! clients that have logged in of the next, proving that it holds it (OpenSSH's `UpdateHostKeys`).
//! The current one is first, since a client that knows it alone would turn away from the other.
//! Private keys are moved whole, and public halves are made from them, so a power cut at any instant
//! leaves one state or the next.

use super::{GateConfig, config, doing, remove};
use crate::HostError;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

const CURRENT: &str = "ssh_host_ed25519_key";
const NEXT: &str = "ssh_host_ed25519_key.next";

/// The gateway's public host keys: type and key, as in `known_hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicHostKeys {
    /// The one that every client is shown.
    pub current: String,
    /// The one that takes its place, and since when clients are told of it.
    pub next: Option<(String, SystemTime)>,
}

/// The host keys of a gateway, and their change.
#[derive(Debug)]
pub struct HostKeys {
    config: GateConfig,
    /// Lets one caller at a time change them.
    turn: Mutex<()>,
}

impl HostKeys {
    /// Those of the gateway that `config` describes; touches nothing.
    pub fn new(config: GateConfig) -> HostKeys {
        HostKeys { config, turn: Mutex::default() }
    }

    /// The public keys.
    ///
    /// Errors: there are none before the gateway was prepared.
    pub fn show(&self) -> Result<PublicHostKeys, HostError> {
        let _turn = self.turn();
        public(&self.config.state)
    }

    /// Makes the next key exist, and has sshd offer both. Repeatable: once begun, it stays the
    /// same key until [`HostKeys::finish`].
    ///
    /// A power cut leaves the next key whole or absent; what is open goes on.
    pub fn rotate(&self) -> Result<PublicHostKeys, HostError> {
        let _turn = self.turn();
        make(&self.config.state, NEXT)?;
        config::write(&self.config)?;
        public(&self.config.state)
    }

    /// Puts the next key in the place of the current one, which is gone for good. What is open goes
    /// on; false if there is no next one.
    ///
    /// After a power cut the current key is the old or the new one, whole.
    pub fn finish(&self) -> Result<bool, HostError> {
        let _turn = self.turn();
        let state = &self.config.state;
        if !state.join(NEXT).exists() {
            return Ok(false);
        }
        let next = state.join(NEXT);
        fs::rename(&next, state.join(CURRENT))
            .and_then(|()| File::open(state)?.sync_all())
            .map_err(doing("put in its place", &next))?;
        ensure(state)?;
        config::write(&self.config)?;
        Ok(true)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The private keys in `folder`, in the order in which sshd is to have them.
pub(super) fn paths(folder: &Path) -> Vec<PathBuf> {
    let next = Some(folder.join(NEXT)).filter(|path| path.exists());
    [folder.join(CURRENT)].into_iter().chain(next).collect()
}

/// Makes the current key exist, and public halves agree with the private ones.
pub(super) fn ensure(folder: &Path) -> Result<(), HostError> {
    make(folder, CURRENT)?;
    for name in [CURRENT, NEXT] {
        mend(folder, name).map_err(doing("mend the public half of", &folder.join(name)))?;
    }
    Ok(())
}

fn public(folder: &Path) -> Result<PublicHostKeys, HostError> {
    let read = |name: &str| {
        let path = beside(folder, name);
        let line = fs::read_to_string(&path).map_err(doing("read", &path))?;
        Ok::<_, HostError>(two_words(&line))
    };
    let next = folder.join(NEXT);
    let since = match fs::metadata(&next).and_then(|meta| meta.modified()) {
        Ok(since) => Some(since),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(doing("look at", &next)(e)),
    };
    let next = since.map(|since| Ok((read(NEXT)?, since))).transpose()?;
    Ok(PublicHostKeys { current: read(CURRENT)?, next })
}

/// Makes the key `name` exist. The private key's name appears last, and everything is on disk
/// before.
fn make(folder: &Path, name: &str) -> Result<(), HostError> {
    let key = folder.join(name);
    if key.exists() {
        return Ok(());
    }
    let make = || -> io::Result<()> {
        let (new, new_public) = (folder.join("new"), folder.join("new.pub"));
        remove(&new)?;
        remove(&new_public)?;
        let words = ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"];
        keygen(&words, &new)?;
        File::open(&new)?.sync_all()?;
        File::open(&new_public)?.sync_all()?;
        fs::rename(&new_public, beside(folder, name))?;
        File::open(folder)?.sync_all()?;
        fs::rename(&new, &key)?;
        File::open(folder)?.sync_all()
    };
    make().map_err(|e| {
        HostError::new(format!("make the gateway's host key {}", key.display()), e)
            .help("ssh-keygen of openssh-client must work, and the folder be writable")
    })
}

/// Makes the public half of `name` that of its private one, and be gone with it.
fn mend(folder: &Path, name: &str) -> io::Result<()> {
    let (private, public) = (folder.join(name), beside(folder, name));
    if !private.exists() {
        return remove(&public);
    }
    let should = two_words(&keygen(&["-y", "-f"], &private)?);
    if fs::read_to_string(&public).is_ok_and(|line| two_words(&line) == should) {
        return Ok(());
    }
    let new = folder.join("new.pub");
    fs::write(&new, format!("{should}\n"))?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, &public)?;
    File::open(folder)?.sync_all()
}

fn beside(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.pub"))
}

/// Type and key, without the comment.
fn two_words(line: &str) -> String {
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn keygen(words: &[&str], file: &Path) -> io::Result<String> {
    let output = Command::new("ssh-keygen").args(words).arg(file).stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(format!("ssh-keygen: {}", said.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("one").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn whatever_a_power_cut_leaves_of_a_change_is_one_state_or_the_next() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = dir.path();
        make(state, CURRENT).expect("made");
        make(state, NEXT).expect("made");
        let before = public(state).expect("there");
        let (next, _) = before.next.clone().expect("both");
        assert_ne!(before.current, next);
        // The next one is being made: its public half is there, and the private one is not.
        let elsewhere = state.join("elsewhere");
        fs::rename(state.join(NEXT), &elsewhere).expect("moved");
        ensure(state).expect("mended");
        let cut = public(state).expect("there");
        assert_eq!((cut.current, cut.next), (before.current.clone(), None));
        assert_eq!(names(state).len(), 3, "{:?}", names(state));
        // It is put in its place: the private key has moved, and the public halves have not.
        fs::rename(&elsewhere, state.join(NEXT)).expect("moved");
        ensure(state).expect("mended");
        assert_eq!(public(state).expect("there").next.map(|(key, _)| key), Some(next.clone()));
        fs::rename(state.join(NEXT), state.join(CURRENT)).expect("moved");
        ensure(state).expect("mended");
        let cut = public(state).expect("there");
        assert_eq!((cut.current, cut.next), (next, None));
        assert_eq!(names(state), [CURRENT.to_string(), format!("{CURRENT}.pub")]);
        // Half of a key that nobody finished is not taken for one.
        fs::write(state.join("new"), "half").expect("written");
        make(state, NEXT).expect("made");
        assert!(public(state).expect("there").next.is_some());
    }
}

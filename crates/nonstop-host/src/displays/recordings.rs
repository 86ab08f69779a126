//! Files of recordings, encrypted for a key that only root can read, and the confined children
//! that decrypt them: this program reads nothing of what was recorded.

use super::{
    DisplayConfig,
    processes::{Descriptors, Process, Users},
};
use crate::HostError;
use age::secrecy::ExposeSecret;
use nonstop_display::setup::{PlayerSetup, RecorderSetup};
use rustix::pipe::{PipeFlags, pipe_with};
use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
    time::{Duration, Instant},
};

/// Recordings that are played at once.
const AT_ONCE: usize = 8;

/// How long one may be read.
const LONGEST: Duration = Duration::from_secs(600);

/// Makes the key of recordings exist. Written whole or not at all, the public half last: after a
/// power cut in between a new one is made, with which nothing is encrypted yet.
pub(super) fn prepare(config: &DisplayConfig) -> Result<(), HostError> {
    let doing = || format!("make the key of recordings in {}", config.authority.display());
    let (key, public) = (key_file(config), public_file(config));
    if public.exists() {
        return match key.exists() {
            true => Ok(()),
            false => Err(HostError::new(doing(), "its secret half is missing").help(format!(
                "restore {} from a backup, or remove {}: then recordings of before cannot be read",
                key.display(),
                public.display()
            ))),
        };
    }
    let identity = age::x25519::Identity::generate();
    crate::authority::write_whole(&key, identity.to_string().expose_secret().as_bytes())
        .and_then(|()| {
            crate::authority::write_whole(&public, identity.to_public().to_string().as_bytes())
        })
        .map_err(|e| HostError::new(doing(), e))
}

fn key_file(config: &DisplayConfig) -> PathBuf {
    config.authority.join("recordings.key")
}

fn public_file(config: &DisplayConfig) -> PathBuf {
    config.authority.join("recordings.pub")
}

fn file(config: &DisplayConfig, recording: u64) -> PathBuf {
    config.recordings.join(format!("{recording}.age"))
}

/// The file of a recording, which is appended to, and its recorder's setup.
pub(super) fn file_to_write(
    config: &DisplayConfig,
    recording: u64,
    max_bytes: u64,
) -> io::Result<(OwnedFd, Vec<u8>)> {
    let recipient = fs::read_to_string(public_file(config))?;
    let setup = RecorderSetup { recipient: recipient.trim().into(), max_bytes };
    let file =
        fs::File::options().create(true).append(true).mode(0o600).open(file(config, recording))?;
    Ok((file.into(), serde_json::to_vec(&setup)?))
}

/// Children that decrypt recordings for somebody.
#[derive(Debug, Default)]
pub(super) struct Players(Vec<(Process, Instant)>);

impl Players {
    /// Starts one that writes what `recording` holds into the pipe that is given back.
    pub(super) fn start(
        &mut self,
        config: &DisplayConfig,
        users: &mut Users,
        recording: u64,
    ) -> Result<OwnedFd, HostError> {
        let doing = || format!("play recording {recording}");
        let failed = |e: io::Error| HostError::new(doing(), e);
        self.look_after(users);
        if self.0.len() >= AT_ONCE {
            let why = format!("{AT_ONCE} recordings are being read already");
            return Err(HostError::new(doing(), why).help("try again in a moment"));
        }
        let file = fs::File::open(file(config, recording))
            .map_err(|e| failed(e).help(
                "nothing has been recorded into it yet, or its file is gone: the list says how many \
                 bytes it had",
            ))?;
        let identity = fs::read_to_string(key_file(config)).map_err(failed)?;
        let setup = PlayerSetup { identity: identity.trim().into() };
        let setup = serde_json::to_vec(&setup).map_err(|e| failed(e.into()))?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let descriptors =
            Descriptors { stdin: file.into(), stdout: Some(write), setup: Some(setup) };
        let process =
            Process::start(&config.program, "player", users, descriptors).map_err(failed)?;
        self.0.push((process, Instant::now()));
        Ok(read)
    }

    /// Takes leave of those that are done, and ends those that take too long.
    pub(super) fn look_after(&mut self, users: &mut Users) {
        for (mut process, began) in std::mem::take(&mut self.0) {
            if process.runs() && began.elapsed() < LONGEST {
                self.0.push((process, began));
            } else {
                process.end(users);
            }
        }
    }

    /// Ends all.
    pub(super) fn end(&mut self, users: &mut Users) {
        for (process, _) in self.0.drain(..) {
            process.end(users);
        }
    }
}

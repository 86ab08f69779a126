//! The player: decrypts a recording for whoever may see it, so that `nonstopd` need not read what
//! a recorder, and before it a guest, has written.

use super::{RecorderError, chunks::Opened, duplicate};
use crate::given::read_setup;
use nonstop_confine::{Left, MESSAGES, confine};
use nonstop_display::{recording::Record, setup::PlayerSetup};
use rustix::io::Errno;
use std::{fs::File, io, os::fd::OwnedFd};

/// Room for a few chunks.
const MEMORY_BYTES: u64 = 128 << 20;

/// Writes, as the user `uid`, the records of descriptor 0 to descriptor 1, up to the end of the
/// last whole chunk or until nobody reads any more.
pub fn play(uid: u32) -> Result<(), RecorderError> {
    let setup: PlayerSetup = read_setup()?;
    let identity = setup.identity.parse().map_err(super::ChunkError::Recipient)?;
    let to = duplicate(io::stdout())?;
    let from = File::from(duplicate(io::stdin())?);
    confine(Left {
        uid,
        gid: uid,
        memory_bytes: MEMORY_BYTES,
        file_bytes: 0,
        files: 16,
        threads: 0,
        cpu_seconds: None,
        // fcntl: std's look at a descriptor before it is closed, in debug builds.
        calls: &[MESSAGES, &[72]],
    })?;
    let mut opened = Opened::new(from, identity);
    while let Some((plain, lost)) = opened.next_chunk()? {
        let mut gap = Vec::new();
        if lost {
            Record::Lost.append(&mut gap);
        }
        if !(write(&to, &gap)? && write(&to, &plain)?) {
            return Ok(());
        }
    }
    Ok(())
}

/// False if nobody reads any more.
fn write(to: &OwnedFd, mut bytes: &[u8]) -> io::Result<bool> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::PIPE) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(true)
}

//! Room on PostgreSQL's disk: looked at on the way, since a PostgreSQL that cannot write its log
//! stops altogether.

use super::NotNow;
use rustix::fs::{Mode, OFlags, fstatfs, open};
use std::{os::fd::OwnedFd, path::Path};

/// The disk that the writer's files are on.
#[derive(Debug)]
pub(super) struct Room {
    disk: OwnedFd,
}

/// What is left to the logs of both servers, to the reader that has not followed yet, and to
/// everybody else: a part of the disk, within bounds.
pub(crate) fn reserve_bytes(disk_bytes: u64) -> u64 {
    (disk_bytes / 100 * 7).clamp(256 << 20, 8 << 30)
}

impl Room {
    pub(super) fn of(folder: &Path) -> std::io::Result<Room> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Room { disk: open(folder, flags, Mode::empty())? })
    }

    /// Refuses if there is less than the reserve and `more_bytes`.
    pub(super) fn check(&self, more_bytes: u64) -> Result<(), NotNow> {
        let disk = fstatfs(&self.disk).map_err(|e| NotNow(format!("look at the disk: {e}")))?;
        let block = disk.f_bsize.unsigned_abs();
        let (free, all) = (disk.f_bavail * block, disk.f_blocks * block);
        let wanted = reserve_bytes(all) + more_bytes;
        if free >= wanted {
            return Ok(());
        }
        Err(NotNow(format!(
            "the disk of PostgreSQL has {} MiB free, and {} MiB are kept or needed: free some; \
             nothing of this day is left on it",
            free >> 20,
            wanted >> 20
        )))
    }
}

//! Whether anybody has a file open for writing, by the kernel's own word: it gives a lease for
//! reading only while nobody has (fcntl(2), "Leases").
#![allow(unsafe_code)]

use std::{fs::File, io, os::fd::AsRawFd};

/// Of Linux's `fcntl.h`; the crate leaves it out.
const F_SETSIG: libc::c_int = 10;

/// Whether somebody may be writing `file`; None where its file system gives no leases.
///
/// Whoever opens it for writing meanwhile waits the few microseconds until the lease is given back.
pub(crate) fn is_written(file: &File) -> io::Result<Option<bool>> {
    // The kernel tells the holder of a lease that somebody wants to open the file; SIGIO, which it
    // sends by default, would end the process, SIGURG is ignored by default.
    control(file, F_SETSIG, libc::SIGURG)?;
    match control(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => control(file, libc::F_SETLEASE, libc::F_UNLCK).map(|()| Some(false)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Some(true)),
        // EINVAL: no leases here, as on NFS; ENOLCK: not at the moment.
        Err(e) if [Some(libc::EINVAL), Some(libc::ENOLCK)].contains(&e.raw_os_error()) => Ok(None),
        Err(e) => Err(e),
    }
}

fn control(file: &File, command: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and both commands take an
    // integer, no pointer.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};

    #[test]
    fn a_file_is_being_written_while_somebody_has_it_open_for_that() {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let path = dir.path().join("a");
        fs::write(&path, "x").expect("written");
        let reader = File::open(&path).expect("opens");
        assert_eq!(is_written(&reader).expect("asked"), Some(false));
        let writer = OpenOptions::new().append(true).open(&path).expect("opens");
        assert_eq!(is_written(&reader).expect("asked"), Some(true));
        drop(writer);
        assert_eq!(is_written(&reader).expect("asked"), Some(false));
    }
}

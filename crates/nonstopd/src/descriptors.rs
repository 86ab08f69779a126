//! Open files that a program finds at descriptors 3, 4, ... from its begin.
#![allow(unsafe_code)]

use rustix::io::fcntl_dupfd_cloexec;
use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

/// The first descriptor after those of every program.
const FIRST: i32 = 3;
/// Above all descriptors that are given.
const ABOVE: i32 = 32;

/// Has `command` find `files` at descriptors 3, 4, ... in that order, and no other of this program.
///
/// Errors: there are more than can be given, or this program has no descriptor left.
pub(crate) fn give<'a>(
    command: &mut Command,
    files: impl IntoIterator<Item = BorrowedFd<'a>>,
) -> io::Result<()> {
    let places = FIRST..ABOVE;
    let mut given: Vec<(OwnedFd, i32)> = Vec::new();
    for (at, file) in files.into_iter().enumerate() {
        let place = places.clone().nth(at).ok_or(io::ErrorKind::InvalidInput)?;
        // Where no place of another one is overwritten before that one was taken.
        given.push((fcntl_dupfd_cloexec(file, ABOVE)?, place));
    }
    let each = move || {
        for (file, place) in &given {
            // SAFETY: both are plain numbers; `file` is open, and what was at `place` is of no use to
            // the program, which is about to begin.
            if unsafe { libc::dup2(file.as_fd().as_raw_fd(), *place) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec it calls dup2 and reads errno, both async-signal-safe, and
    // allocates nothing.
    unsafe { command.pre_exec(each) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{Read, Seek, Write},
    };

    #[test]
    fn files_are_found_in_their_order_whatever_numbers_they_had() {
        let mut files: Vec<File> = (0..3).map(|_| tempfile::tempfile().expect("a file")).collect();
        for (at, file) in files.iter_mut().enumerate() {
            write!(file, "{at}").expect("written");
            file.rewind().expect("rewound");
        }
        files.reverse();
        let mut command = Command::new("sh");
        command.args(["-c", "cat <&3; cat <&4; cat <&5; echo x >&4"]);
        give(&mut command, files.iter().map(AsFd::as_fd)).expect("given");
        let said = command.output().expect("runs");
        assert_eq!(String::from_utf8_lossy(&said.stdout), "210");
        files[1].rewind().expect("rewound");
        let mut text = String::new();
        files[1].read_to_string(&mut text).expect("read");
        assert_eq!(text, "1x\n");
    }
}

//! Starting the children, each under a user that no other process has.

use nonstop_display::wire;
use nonstop_model::lab::DISPLAY_UIDS;
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
    pipe::{PipeFlags, pipe_with},
};
use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Users that are lent out. One that comes back is lent again last.
#[derive(Debug)]
pub(super) struct Users {
    lent: BTreeSet<u32>,
    last: u32,
}

impl Users {
    pub(super) fn new() -> Users {
        Users { lent: BTreeSet::new(), last: *DISPLAY_UIDS.end() }
    }

    /// A user that nobody has; None when all are lent.
    fn lend(&mut self) -> Option<u32> {
        let after = self.last + 1..=*DISPLAY_UIDS.end();
        let uid = after.chain(DISPLAY_UIDS).find(|uid| !self.lent.contains(uid))?;
        self.lent.insert(uid);
        self.last = uid;
        Some(uid)
    }
}

/// A child that runs, and its user. Ended with [`Process::end`].
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    uid: u32,
}

/// What stands on the descriptors of a child.
pub(super) struct Descriptors {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: Option<OwnedFd>,
    /// Written into descriptor 2, which then ends.
    pub(super) setup: Option<Vec<u8>>,
}

impl Process {
    /// Starts `program role UID`. It is root until it has confined itself, which is the first
    /// thing it does.
    pub(super) fn start(
        program: &Path,
        role: &str,
        users: &mut Users,
        descriptors: Descriptors,
    ) -> io::Result<Process> {
        let all_lent = || io::Error::other("all users for displays are in use");
        let uid = users.lend().ok_or_else(all_lent)?;
        let spawned =
            descriptors.setup.as_deref().map_or(Ok(Stdio::null()), setup).and_then(|stderr| {
                Command::new(program)
                    .args([role, &uid.to_string()])
                    .env_clear()
                    .current_dir("/")
                    .stdin(descriptors.stdin)
                    .stdout(descriptors.stdout.map_or(Stdio::null(), Stdio::from))
                    .stderr(stderr)
                    .spawn()
            });
        match spawned {
            Ok(child) => Ok(Process { child, uid }),
            Err(e) => {
                users.lent.remove(&uid);
                Err(e)
            }
        }
    }

    /// Whether it runs still.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its exit code, if it ended by itself and not by a signal.
    pub(super) fn code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten()?.code()
    }

    /// Ends it at once, whatever it does; its user is free again.
    pub(super) fn end(mut self, users: &mut Users) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
        users.lent.remove(&self.uid);
    }
}

/// A pipe that holds `text` and then ends; it fits into the pipe.
fn setup(text: &[u8]) -> io::Result<Stdio> {
    if text.len() > nonstop_display::setup::LONGEST {
        return Err(io::Error::other("a setup that is too long"));
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let written = rustix::io::write(&write, text)?;
    if written < text.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(read.into()) }
}

/// Two ends of a link between a broker and a viewer.
pub(super) fn link() -> io::Result<(OwnedFd, OwnedFd)> {
    wire::pair().map_err(io::Error::other)
}

/// A socket on which clients of a display arrive. It does not block.
pub(super) fn listener(address: Ipv4Addr, port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(address, port))?;
    listen(&socket, 32)?;
    Ok(socket)
}

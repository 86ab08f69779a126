//! What puts frames onto a card: a canary in its machine, or `socat` on a cable's end.

use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::{
    io::Write,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

/// What puts frames onto a card. A frame is one write, and the other side's one read: the next one
/// may go only when the last was seen on its way.
#[derive(Debug)]
pub enum Gun {
    /// Into a canary.
    Canary(UnixStream),
    /// Into a program that sends them; it ends with its input.
    Program(Child, Option<ChildStdin>),
}

impl Gun {
    /// The canary's card behind `socket`.
    ///
    /// Errors: nobody is there, or a QEMU that hangs, which is not waited for.
    pub fn canary(socket: &Path) -> Result<Gun> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let to = || format!("reach the canary's card by {}", socket.display());
        let fd =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).with_context(to)?;
        connect(&fd, &SocketAddrUnix::new(socket).with_context(to)?).with_context(to)?;
        let stream = UnixStream::from(fd);
        stream.set_nonblocking(false).with_context(to)?;
        stream.set_write_timeout(Some(Duration::from_secs(5))).with_context(to)?;
        Ok(Gun::Canary(stream))
    }

    /// The interface `name` in the network namespace `net` (a path).
    pub fn interface(net: &str, name: &str) -> Result<Gun> {
        let mut child = Command::new("nsenter")
            .args([&format!("--net={net}"), "--", "socat", "-u", "-b", "65536", "-"])
            .arg(format!("INTERFACE:{name}"))
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("run `nsenter` and `socat`: install util-linux and socat")?;
        let input = child.stdin.take();
        Ok(Gun::Program(child, input))
    }

    /// Sends `frame`.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        // More would be two reads on the other side.
        ensure!(frame.len() <= 1514, "a frame of {} bytes fits no card", frame.len());
        match self {
            Gun::Canary(stream) => stream.write_all(frame).context("hand a frame to a canary"),
            Gun::Program(_, Some(input)) => {
                input.write_all(frame).and_then(|()| input.flush()).context("hand a frame to socat")
            }
            Gun::Program(_, None) => Ok(()),
        }
    }
}

impl Drop for Gun {
    fn drop(&mut self) {
        if let Gun::Program(child, input) = self {
            drop(input.take());
            let _ended_already = child.kill();
            let _reaped = child.wait();
        }
    }
}

//! A root shell in a guest, over the test channel of the image `micro`: it needs no network.

use anyhow::{Context, Result, bail};
use nonstop_testkit::{lab::Lab, place::wait_for};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A root shell in a guest.
#[derive(Debug)]
pub struct GuestShell {
    socket: UnixStream,
    count: u32,
}

/// Without waiting: a QEMU that hangs takes nobody, and a test must say so.
fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

impl GuestShell {
    /// Connects to the guest of `machine` ("m1"); returns when its shell answers.
    pub fn connect(lab: &Lab, machine: &str) -> Result<GuestShell> {
        let root = PathBuf::from(format!("/proc/{}/root", lab.lab_box()?.init()));
        let path = root.join(format!("run/nonstop/agent/{machine}.test.sock"));
        wait_for("the shell of the guest", Duration::from_secs(90), || {
            let socket = connect_at_once(&path).context("connect to the guest")?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut shell = GuestShell { socket, count: 0 };
            shell.run("echo hello").map(|_| Some(shell))
        })
    }

    /// What a server at `address` answers to what the line `request` prints, until it ends the
    /// connection. The guest leaves its own side open till then, as clients do.
    pub fn ask(&mut self, request: &str, address: &str, port: u16) -> Result<String> {
        let line = format!(
            "rm -f /tmp/over; {{ {request}; n=0; while [ ! -e /tmp/over ] && [ $n -lt 600 ]; do \
             n=$((n+1)); sleep 0.1; done; }} | {{ nc {address} {port}; : >/tmp/over; }}"
        );
        self.run_for(&line, Duration::from_secs(90))
    }

    /// Runs one line of shell in the guest and gives what it printed, errors included.
    pub fn run(&mut self, line: &str) -> Result<String> {
        self.run_for(line, Duration::from_secs(30))
    }

    /// The same for a line that may take up to `limit`.
    pub fn run_for(&mut self, line: &str, limit: Duration) -> Result<String> {
        self.count += 1;
        let (from, to) = (format!("<<{}", self.count), format!("{}>>", self.count));
        // The markers are put together in the guest, so that an echo of the line is not one.
        writeln!(
            self.socket,
            "echo '<<'{}; ( {line} ) 2>&1 </dev/null; echo {}'>>'",
            self.count, self.count
        )?;
        let (mut said, started) = (Vec::new(), Instant::now());
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => bail!("the guest's shell ended"),
                Ok(n) => said.extend_from_slice(&buffer[..n]),
                Err(e) if started.elapsed() > limit => {
                    let said = String::from_utf8_lossy(&said).into_owned();
                    return Err(e).with_context(|| format!("guest: {line}: said {said:?}"));
                }
                Err(_) => {
                    // A shell that was not there yet has not read the line: ask again.
                    if said.is_empty() && limit < Duration::from_secs(1) {
                        bail!("the guest's shell does not answer");
                    }
                    if self.count == 1 {
                        bail!("the guest's shell does not answer yet");
                    }
                }
            }
            let text = String::from_utf8_lossy(&said);
            if let (Some(start), Some(end)) = (text.find(&from), text.rfind(&to))
                && start < end
            {
                let output = &text[start + from.len()..end];
                return Ok(output.replace('\r', "").trim().to_string());
            }
        }
    }
}

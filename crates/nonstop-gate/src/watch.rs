//! Starts sshd and has its words heard.
//!
//! sshd writes its log to one end of a pair of datagram sockets: each message arrives whole, with the
//! process that wrote it, and a write that finds no room is dropped by the kernel, so that neither
//! sshd nor a session ever waits for whoever listens. What listens (`ear`) is another process, without
//! rights, started again whenever it ends; the socket outlives it. This process parses nothing: it
//! passes frames on to the daemon, and waits for that as long as it takes.
//!
//! sshd ends with this process, open sessions do not.

use crate::ear::ALIVE_EVERY;
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt},
    process::{Pid, Signal, kill_process},
};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

/// Where the daemon hears.
pub(crate) const SOCKET: &str = "/run/nonstop/gateway.sock";

/// Frames of the ear that are passed on are shorter.
pub(crate) const LONGEST_FRAME: usize = 512 << 10;

/// The ear's user.
const USER: &str = "nonstop-gate";
/// How long the daemon may take to answer, and how soon it is tried again.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(500);
/// How soon an ear that ended is started again.
const PAUSE: Duration = Duration::from_millis(200);
/// Room for messages that nobody has read yet.
const ROOM_BYTES: usize = 4 << 20;

/// Runs `sshd`, a command with its arguments, until it ends.
pub(crate) fn run(daemon: PathBuf, sshd: &[&str]) -> ExitCode {
    match start(daemon, sshd) {
        Ok((sshd, signals)) => attend(sshd, signals),
        Err(e) => {
            eprintln!("nonstop-gate: start {}: {e}", sshd[0]);
            ExitCode::FAILURE
        }
    }
}

fn start(daemon: PathBuf, sshd: &[&str]) -> io::Result<(Child, Signals)> {
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD])?;
    let user = user()?;
    let (said, heard) =
        socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_passcred(&heard, true)?;
    // More than an unprivileged process may have is a right that a unit may not have.
    if sockopt::set_socket_send_buffer_size_force(&said, ROOM_BYTES).is_err() {
        sockopt::set_socket_send_buffer_size(&said, ROOM_BYTES)?;
    }
    fcntl_setfl(&said, fcntl_getfl(&said)? | OFlags::NONBLOCK)?;
    let sshd = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "--"])
        .args(sshd)
        .stdin(Stdio::null())
        .stderr(Stdio::from(said))
        .spawn()?;
    thread::spawn(move || keep_ear(&heard, user, &daemon));
    Ok((sshd, signals))
}

/// Passes signals on to `sshd` until it has ended.
fn attend(mut sshd: Child, mut signals: Signals) -> ExitCode {
    for signal in signals.forever() {
        match sshd.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => {
                // The ear gets the last words.
                thread::sleep(Duration::from_millis(200));
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                eprintln!("nonstop-gate: sshd ended: {status}");
                return code.map_or(ExitCode::FAILURE, ExitCode::from);
            }
            Err(e) => {
                eprintln!("nonstop-gate: wait for sshd: {e}");
                return ExitCode::FAILURE;
            }
        }
        let passed_on = match signal {
            SIGTERM | SIGINT => Signal::TERM,
            SIGHUP => Signal::HUP,
            _ => continue,
        };
        if let Err(e) = kill_process(Pid::from_child(&sshd), passed_on) {
            eprintln!("nonstop-gate: signal sshd: {e}");
        }
    }
    ExitCode::FAILURE
}

/// Has an ear hear what comes, for as long as this process lives.
fn keep_ear(messages: &OwnedFd, user: (u32, u32), daemon: &Path) {
    let mut begin = "anew";
    loop {
        match start_ear(messages, user, begin) {
            Ok((mut ear, mut frames)) => {
                begin = "again";
                let why = relay(&mut frames, daemon);
                drop(ear.kill());
                let status = ear.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
                eprintln!("nonstop-gate: the ear ended ({why}; {status}): it is started again");
            }
            Err(e) => eprintln!("nonstop-gate: start the ear: {e}"),
        }
        thread::sleep(PAUSE);
    }
}

fn start_ear(
    messages: &OwnedFd,
    (uid, gid): (u32, u32),
    begin: &str,
) -> io::Result<(Child, UnixStream)> {
    let (ours, its) = UnixStream::pair()?;
    its.set_nonblocking(true)?;
    ours.set_read_timeout(Some(ALIVE_EVERY * 6))?;
    let ear = Command::new(std::env::current_exe()?)
        .args(["ear", begin, &uid.to_string(), &gid.to_string()])
        .env_clear()
        .stdin(Stdio::from(messages.try_clone()?))
        .stdout(Stdio::from(OwnedFd::from(its)))
        .spawn()?;
    Ok((ear, ours))
}

/// Passes frames on to the daemon; returns why there are no more.
fn relay(frames: &mut UnixStream, daemon: &Path) -> io::Error {
    let mut told = false;
    loop {
        let frame = match frame(frames) {
            Ok(frame) => frame,
            Err(e) => return e,
        };
        while let Err(e) = pass_on(&frame, daemon) {
            if !told {
                eprintln!("nonstop-gate: the daemon does not hear at {}: {e}", daemon.display());
            }
            told = true;
            thread::sleep(AGAIN);
        }
        told = false;
    }
}

fn frame(from: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    if length >= LONGEST_FRAME {
        return Err(io::Error::other("a frame that is too long"));
    }
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

fn pass_on(frame: &[u8], daemon: &Path) -> io::Result<()> {
    let mut socket = UnixStream::connect(daemon)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.write_all(frame)?;
    // One byte says that it is done: the daemon has it.
    socket.read_exact(&mut [0])
}

/// The ear's user and group, by the system's own look-up.
fn user() -> io::Result<(u32, u32)> {
    let output = Command::new("getent").args(["passwd", USER]).output()?;
    let line = String::from_utf8_lossy(&output.stdout);
    let mut ids = line.trim_end().split(':').skip(2).map_while(|id| id.parse().ok());
    match (ids.next(), ids.next()) {
        (Some(uid), Some(gid)) if uid != 0 && gid != 0 => Ok((uid, gid)),
        _ => Err(io::Error::other(format!(
            "there is no user `{USER}` without rights: install systemd/sysusers.d/nonstop.conf"
        ))),
    }
}

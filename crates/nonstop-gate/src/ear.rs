//! Hears sshd, with no right and hardly a system call left: what sshd says is a stranger's choice in
//! part.
//!
//! Messages come on standard input, a datagram socket, each with the process that wrote it; what they
//! mean goes out of standard output in frames of the API; standard error gets them as they are, for
//! the log, at a bounded rate. It waits for nobody: what cannot be passed on is counted (`sorting`).

use crate::sorting::Sorting;
use nonstop_api::heard::{Heard, MOST_AT_ONCE};
use nonstop_confine::{Left, MESSAGES, confine_in_place};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use std::{
    io::{IoSliceMut, Write},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
    process::ExitCode,
    time::{Duration, Instant},
};

/// How often something is told, at most.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// How often it tells that it is there.
pub(crate) const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// So many messages waited: more may have found no room.
const FULL: usize = 300;
/// Messages that are taken in before anything is told.
const AT_ONCE: usize = 1000;
/// Lines of the log a second, and how many may come at once.
const LINES_A_SECOND: f64 = 100.0;
const LINES_AT_ONCE: f64 = 2000.0;

/// Hears until whoever started it is gone.
pub(crate) fn run(anew: bool, uid: &str, gid: &str) -> ExitCode {
    let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { return ExitCode::from(2) };
    if uid == 0 || gid == 0 {
        eprintln!("nonstop-gate: the ear does not run as root");
        return ExitCode::from(2);
    }
    let left = Left {
        uid,
        gid,
        memory_bytes: 256 << 20,
        // The log may be a file.
        file_bytes: 1 << 40,
        files: 3,
        threads: 0,
        cpu_seconds: None,
        calls: &[MESSAGES],
    };
    if let Err(e) = confine_in_place(left) {
        eprintln!("nonstop-gate: confine the ear: {e}");
        return ExitCode::FAILURE;
    }
    let mut sorting = Sorting::default();
    if anew {
        sorting.begin()
    } else {
        sorting.may_have_lost()
    }
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    Ear {
        messages: stdin.as_fd(),
        daemon: stdout.as_fd(),
        sorting,
        telling: Vec::new(),
        told: Instant::now(),
        log: Log { room: LINES_AT_ONCE, since: Instant::now(), left_out: 0 },
    }
    .hear()
}

struct Ear<'a> {
    messages: BorrowedFd<'a>,
    daemon: BorrowedFd<'a>,
    sorting: Sorting,
    /// What is left of the frame that is being told.
    telling: Vec<u8>,
    told: Instant,
    log: Log,
}

impl Ear<'_> {
    fn hear(mut self) -> ExitCode {
        loop {
            let now = Instant::now();
            let due = now.duration_since(self.told);
            if self.telling.is_empty()
                && ((due >= TELL_EVERY && !self.sorting.is_quiet()) || due >= ALIVE_EVERY)
            {
                self.telling = frame(&self.sorting.take(MOST_AT_ONCE, now));
                self.told = now;
            }
            let wait = if self.sorting.is_quiet() { ALIVE_EVERY } else { TELL_EVERY };
            let mut fds = vec![PollFd::new(&self.messages, PollFlags::IN)];
            let wanted = if self.telling.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::new(&self.daemon, wanted));
            // While a frame waits to be taken, only that or a message is worth waking for.
            let wait = match self.telling.is_empty() {
                true => wait.saturating_sub(self.told.elapsed()),
                false => ALIVE_EVERY,
            };
            let wait = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
            match poll(&mut fds, Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return ExitCode::FAILURE,
            }
            let (may_read, daemon) = (fds[0].revents(), fds[1].revents());
            if daemon.intersects(PollFlags::HUP | PollFlags::ERR) {
                return ExitCode::SUCCESS;
            }
            if daemon.contains(PollFlags::OUT) && self.tell().is_err() {
                return ExitCode::FAILURE;
            }
            if may_read.contains(PollFlags::IN) {
                self.take_in();
            }
        }
    }

    /// Writes what the other side takes.
    fn tell(&mut self) -> Result<(), Errno> {
        match rustix::io::write(self.daemon, &self.telling) {
            Ok(sent) => {
                self.telling.drain(..sent);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn take_in(&mut self) {
        let mut buffer = [0; 8192];
        for count in 0..AT_ONCE {
            let Some((length, pid, uid)) = receive(self.messages, &mut buffer) else { return };
            if count == FULL {
                self.sorting.may_have_lost();
            }
            let message = String::from_utf8_lossy(&buffer[..length]);
            self.log.line(&message);
            self.sorting.hear(pid, uid, &message, Instant::now());
        }
    }
}

/// The next message, and who wrote it, as the kernel says.
fn receive(from: BorrowedFd<'_>, buffer: &mut [u8]) -> Option<(usize, u32, u32)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(from, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::DONTWAIT);
    let length = got.ok()?.bytes;
    let writer = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(writer) => Some(writer),
        _ => None,
    })?;
    Some((length, writer.pid.as_raw_nonzero().get().unsigned_abs(), writer.uid.as_raw()))
}

fn frame(heard: &[Heard]) -> Vec<u8> {
    let json = serde_json::to_vec(heard).unwrap_or_else(|_| b"[]".to_vec());
    let length = u32::try_from(json.len()).unwrap_or_default();
    [&length.to_be_bytes()[..], &json].concat()
}

/// The log of sshd, as before, but bounded: strangers write in it.
struct Log {
    room: f64,
    since: Instant,
    left_out: u64,
}

impl Log {
    fn line(&mut self, message: &str) {
        let now = Instant::now();
        let gained = now.duration_since(self.since).as_secs_f64() * LINES_A_SECOND;
        (self.room, self.since) = ((self.room + gained).min(LINES_AT_ONCE), now);
        if self.room < 1.0 {
            self.left_out += 1;
            return;
        }
        self.room -= 1.0;
        let mut text = String::new();
        if self.left_out > 0 {
            text = format!("({} lines more)\n", std::mem::take(&mut self.left_out));
        }
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        text.extend(message.trim_end().chars().map(plain));
        text.push('\n');
        // A log that is full must not end the ear.
        let _not_written = std::io::stderr().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_says_what_it_left_out() {
        let mut log = Log { room: 1.0, since: Instant::now(), left_out: 0 };
        log.line("kept");
        log.line("left out");
        assert_eq!(log.left_out, 1);
    }

    #[test]
    fn the_longest_batch_is_shorter_than_what_is_passed_on() {
        let long = crate::words::text(&"\\".repeat(500));
        let heard = Heard::Refused(nonstop_api::heard::Refusal {
            pid: Some(u32::MAX),
            source: Some(std::net::Ipv4Addr::BROADCAST),
            user: Some(long.clone()),
            why: nonstop_api::heard::RefusedFor::UnknownAccount,
            key: Some(format!("SHA256:{}", "x".repeat(43))),
            client: Some(long),
        });
        assert!(frame(&vec![heard; MOST_AT_ONCE]).len() < crate::watch::LONGEST_FRAME);
    }
}

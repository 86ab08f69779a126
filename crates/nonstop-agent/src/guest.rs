//! The conversation with qemu-guest-agent: a few commands, each answer bounded in time, size and
//! depth. Source of the protocol: `qga/qapi-schema.json` of QEMU 10.0.

use crate::{PATIENCE_MS, SILENCE_MS};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::{
    os::fd::BorrowedFd,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A password that a guest's user is to have.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// The guest's user.
    pub user: String,
    /// The password that the user shall have.
    pub password: String,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The agent says that it has set the password. It may lie: the guest is the researcher's.
    Done,
    /// Nothing that makes sense was answered in time; the guest may still be starting.
    NotYet,
    /// The agent answered with an error.
    Refused,
}

impl Verdict {
    /// The byte that tells it to the parent.
    pub fn byte(self) -> u8 {
        match self {
            Verdict::Done => b'D',
            Verdict::NotYet => b'N',
            Verdict::Refused => b'R',
        }
    }

    /// The verdict that `byte` tells; None for any other byte.
    pub fn from_byte(byte: u8) -> Option<Verdict> {
        [Verdict::Done, Verdict::NotYet, Verdict::Refused].into_iter().find(|v| v.byte() == byte)
    }
}

/// The most that is read from a guest, in bytes, over all answers.
const LONGEST: usize = 64 * 1024;

/// An answer that ends the conversation.
pub(crate) struct GaveUp;

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "return")]
    value: Option<T>,
    error: Option<IgnoredAny>,
}

/// Another in each conversation, as far as two can meet in one channel.
fn number() -> u32 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos() ^ now.as_secs() as u32)
}

/// Asks the agent behind `guest` to set the password, once.
pub fn set_password(task: &SetPassword, guest: BorrowedFd<'_>) -> Verdict {
    Talk::new(guest, 0).set_password(task).unwrap_or(Verdict::NotYet)
}

pub(crate) struct Talk<'a> {
    guest: BorrowedFd<'a>,
    pub(crate) until: Instant,
    heard: Vec<u8>,
    /// How many more bytes are read from the guest.
    left: usize,
}

impl<'a> Talk<'a> {
    /// A conversation with `guest`, which may say `more` bytes than is usual.
    pub(crate) fn new(guest: BorrowedFd<'a>, more: usize) -> Talk<'a> {
        let until = Instant::now() + Duration::from_millis(SILENCE_MS);
        Talk { guest, until, heard: Vec::new(), left: LONGEST + more }
    }
}

impl Talk<'_> {
    /// Waits until the agent answers this conversation, at most [`SILENCE_MS`].
    pub(crate) fn sync(&mut self) -> Result<(), GaveUp> {
        // A conversation that was given up may be answered in the midst of this one: each has a
        // number of its own, and what does not bear it is skipped. The agent sends 0xFF in front of
        // the answer to `guest-sync-delimited`, and may complain of ours before it.
        let number = number();
        let sync = serde_json::json!({
            "execute": "guest-sync-delimited", "arguments": { "id": number },
        });
        self.say(&[&[0xff], sync.to_string().as_bytes(), b"\n"].concat())?;
        loop {
            self.hear_until(0xff)?;
            let line = self.hear_until(b'\n')?;
            let answer = serde_json::from_slice::<Answer<u32>>(&line);
            if answer.is_ok_and(|answer| answer.value == Some(number)) {
                return Ok(());
            }
        }
    }

    fn set_password(&mut self, task: &SetPassword) -> Result<Verdict, GaveUp> {
        self.sync()?;
        self.until += Duration::from_millis(PATIENCE_MS - SILENCE_MS);
        let set = serde_json::json!({
            "execute": "guest-set-user-password",
            "arguments": {
                "username": task.user,
                "password": BASE64_STANDARD.encode(&task.password),
                "crypted": false,
            },
        });
        let done = self.ask::<IgnoredAny>(&set)?.is_some();
        Ok(if done { Verdict::Done } else { Verdict::Refused })
    }

    /// What is answered to `command`; None for an error.
    pub(crate) fn ask<T: for<'de> Deserialize<'de>>(
        &mut self,
        command: &serde_json::Value,
    ) -> Result<Option<T>, GaveUp> {
        self.say(format!("{command}\n").as_bytes())?;
        let answer: Answer<T> = self.hear()?;
        match (answer.value, answer.error) {
            (Some(value), None) => Ok(Some(value)),
            (_, Some(_)) => Ok(None),
            (None, None) => Err(GaveUp),
        }
    }

    fn say(&self, mut words: &[u8]) -> Result<(), GaveUp> {
        while !words.is_empty() {
            self.wait(PollFlags::OUT)?;
            match rustix::io::write(self.guest, words) {
                Ok(n) => words = &words[n..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Err(GaveUp),
            }
        }
        Ok(())
    }

    /// One line of JSON. serde_json goes 128 levels deep at most.
    fn hear<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Answer<T>, GaveUp> {
        let line = self.hear_until(b'\n')?;
        serde_json::from_slice(&line).map_err(|_| GaveUp)
    }

    /// What was said up to `end`, which is taken too.
    fn hear_until(&mut self, end: u8) -> Result<Vec<u8>, GaveUp> {
        loop {
            if let Some(at) = self.heard.iter().position(|byte| *byte == end) {
                let rest = self.heard.split_off(at + 1);
                let mut line = std::mem::replace(&mut self.heard, rest);
                line.pop();
                return Ok(line);
            }
            self.wait(PollFlags::IN)?;
            let mut buffer = [0; 4096];
            match rustix::io::read(self.guest, &mut buffer) {
                Ok(0) => return Err(GaveUp),
                Ok(n) => {
                    self.left = self.left.checked_sub(n).ok_or(GaveUp)?;
                    self.heard.extend_from_slice(&buffer[..n]);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Err(GaveUp),
            }
        }
    }

    fn wait(&self, what: PollFlags) -> Result<(), GaveUp> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(GaveUp);
        }
        let left = Timespec::try_from(left).map_err(|_| GaveUp)?;
        match poll(&mut [PollFd::from_borrowed_fd(self.guest, what)], Some(&left)) {
            Ok(0) => Err(GaveUp),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(_) => Err(GaveUp),
        }
    }
}

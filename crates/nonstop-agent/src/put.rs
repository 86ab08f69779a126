//! A file that the guest's agent writes: opened, written in pieces, closed, and asked for its length
//! by four commands of qemu-guest-agent, and no other. Of its answers one number each is taken.

use crate::{
    SILENCE_MS,
    guest::{GaveUp, Talk},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::{
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

/// The most bytes that an agent is given at once: 64 MiB, and what a zip has around that.
pub const MOST_BYTES: u64 = (64 << 20) + 4096;

/// The longest path in a guest, in bytes.
const LONGEST_PATH: usize = 512;

/// How much goes into one command. An agent reads each whole before it writes; with more than this
/// the guest gains nothing, and takes longer to say that its disk is full.
const PIECE: usize = 256 << 10;

/// The most that is heard for each piece, in bytes.
const ANSWER: usize = 512;

/// How fast a guest must take what it is given, in bytes a second: a slow one without KVM on a busy
/// host takes four times as many.
const LEAST_A_SECOND: u64 = 512 << 10;

/// How long a guest may take for all of `bytes`.
pub fn put_patience(bytes: u64) -> Duration {
    Duration::from_millis(crate::PATIENCE_MS) + Duration::from_secs(bytes / LEAST_A_SECOND)
}

/// A file to be written in a guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutFile {
    /// Where, in the guest's way of writing paths.
    pub path: String,
    /// How many bytes it has.
    pub bytes: u64,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutVerdict {
    /// The agent says that it has written all of it. It may lie.
    Done,
    /// Nothing that makes sense was answered, at once or in time.
    Silent,
    /// The agent does not open the file.
    NotOpened,
    /// It opened the file, and says that it cannot write all of it.
    NotWritten,
    /// It broke off, or said what cannot be, after it had begun.
    BrokeOff,
}

impl PutVerdict {
    const ALL: [(PutVerdict, u8); 5] = [
        (PutVerdict::Done, b'D'),
        (PutVerdict::Silent, b'S'),
        (PutVerdict::NotOpened, b'O'),
        (PutVerdict::NotWritten, b'W'),
        (PutVerdict::BrokeOff, b'B'),
    ];
}

/// What the agent says of the file afterwards, once it has written all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Nothing that makes sense, or it was not asked.
    Unknown,
    /// It cannot open the file any more, as where something in the guest has taken it away.
    Unreadable,
    /// The file has so many bytes.
    Bytes(u64),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// How it ended.
    pub verdict: PutVerdict,
    /// How many bytes the agent says that it wrote: at most as many as there are.
    pub written: u64,
    /// What it says of the file afterwards.
    pub kept: Kept,
}

impl Put {
    /// How many bytes tell it to the parent.
    pub const BYTES: usize = 18;

    /// One that ended so, with nothing said of the file afterwards.
    pub fn new(verdict: PutVerdict, written: u64) -> Put {
        Put { verdict, written, kept: Kept::Unknown }
    }

    /// The bytes that tell it.
    pub fn bytes(self) -> [u8; Put::BYTES] {
        let mut bytes = [0; Put::BYTES];
        let byte = PutVerdict::ALL.into_iter().find(|(verdict, _)| *verdict == self.verdict);
        bytes[0] = byte.map_or(0, |(_, byte)| byte);
        bytes[1..9].copy_from_slice(&self.written.to_le_bytes());
        let (byte, number) = match self.kept {
            Kept::Unknown => (b'?', 0),
            Kept::Unreadable => (b'U', 0),
            Kept::Bytes(number) => (b'K', number),
        };
        bytes[9] = byte;
        bytes[10..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    /// What `bytes` tell of a file of the length `most`; None if that cannot be.
    pub fn from_bytes(bytes: [u8; Put::BYTES], most: u64) -> Option<Put> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
        let (verdict, _) = PutVerdict::ALL.into_iter().find(|(_, word)| *word == bytes[0])?;
        let written = number(1)?;
        let kept = match (bytes[9], number(10)?) {
            (b'?', 0) => Kept::Unknown,
            (b'U', 0) => Kept::Unreadable,
            (b'K', number) => Kept::Bytes(number),
            _ => return None,
        };
        let whole = match verdict {
            PutVerdict::Done => written == most,
            _ => written <= most && kept == Kept::Unknown,
        };
        whole.then_some(Put { verdict, written, kept })
    }
}

#[derive(Deserialize)]
struct Wrote {
    count: u64,
}

#[derive(Deserialize)]
struct Sought {
    position: u64,
}

/// Has the agent behind `guest` write what `content` reads as `task` says. How far it is goes to
/// `tell` from when the file is open: somebody else may end it at any time.
pub fn put(
    task: &PutFile,
    content: BorrowedFd<'_>,
    guest: BorrowedFd<'_>,
    mut tell: impl FnMut(Put),
) -> Put {
    let mut put = Put::new(PutVerdict::Silent, 0);
    if task.bytes > MOST_BYTES || task.path.len() > LONGEST_PATH {
        put.verdict = PutVerdict::NotOpened;
        return put;
    }
    let pieces = usize::try_from(task.bytes).unwrap_or(usize::MAX).div_ceil(PIECE);
    let mut talk = Talk::new(guest, pieces.saturating_mul(ANSWER));
    let until = Instant::now() + put_patience(task.bytes);
    // What it has begun tells more than that it fell silent.
    let _gave_up = talk.put_file(task, content, until, &mut put, &mut tell);
    put
}

impl Talk<'_> {
    fn put_file(
        &mut self,
        task: &PutFile,
        content: BorrowedFd<'_>,
        until: Instant,
        put: &mut Put,
        tell: &mut dyn FnMut(Put),
    ) -> Result<(), GaveUp> {
        self.sync()?;
        self.until = until;
        let open = serde_json::json!({
            "execute": "guest-file-open", "arguments": { "path": task.path, "mode": "wb" },
        });
        let Some(handle) = self.ask::<i64>(&open)? else {
            put.verdict = PutVerdict::NotOpened;
            return Ok(());
        };
        put.verdict = PutVerdict::BrokeOff;
        let (mut piece, mut given) = (vec![0; PIECE], 0);
        while given < task.bytes {
            let left = usize::try_from(task.bytes - given).unwrap_or(usize::MAX);
            let length = read_whole(content, &mut piece[..left.min(PIECE)])?;
            if length == 0 {
                return Err(GaveUp);
            }
            given += length as u64;
            tell(*put);
            if !self.write_piece(handle, &piece[..length], put)? {
                put.verdict = PutVerdict::NotWritten;
                self.close(handle)?;
                return Ok(());
            }
        }
        let closed = self.close(handle)?;
        put.verdict = if closed { PutVerdict::Done } else { PutVerdict::NotWritten };
        if closed {
            self.until = until.min(Instant::now() + Duration::from_millis(SILENCE_MS));
            put.kept = self.kept(&task.path)?;
        }
        Ok(())
    }

    /// How long the agent says that the file at `path` is.
    fn kept(&mut self, path: &str) -> Result<Kept, GaveUp> {
        let open = serde_json::json!({
            "execute": "guest-file-open", "arguments": { "path": path, "mode": "rb" },
        });
        let Some(handle) = self.ask::<i64>(&open)? else { return Ok(Kept::Unreadable) };
        let seek = serde_json::json!({
            "execute": "guest-file-seek",
            "arguments": { "handle": handle, "offset": 0, "whence": "end" },
        });
        let sought = self.ask::<Sought>(&seek)?;
        let _it_is_only_read = self.close(handle)?;
        Ok(sought.map_or(Kept::Unknown, |Sought { position }| Kept::Bytes(position)))
    }

    /// Whether the agent says that it has written all of `piece`.
    fn write_piece(&mut self, handle: i64, piece: &[u8], put: &mut Put) -> Result<bool, GaveUp> {
        let mut rest = piece;
        while !rest.is_empty() {
            let write = serde_json::json!({
                "execute": "guest-file-write",
                "arguments": { "handle": handle, "buf-b64": BASE64_STANDARD.encode(rest) },
            });
            match self.ask::<Wrote>(&write)? {
                None | Some(Wrote { count: 0 }) => return Ok(false),
                Some(Wrote { count }) if count <= rest.len() as u64 => {
                    put.written += count;
                    rest = &rest[usize::try_from(count).map_err(|_| GaveUp)?..];
                }
                // More than it was given.
                Some(_) => return Err(GaveUp),
            }
        }
        Ok(true)
    }

    fn close(&mut self, handle: i64) -> Result<bool, GaveUp> {
        let close = serde_json::json!({
            "execute": "guest-file-close", "arguments": { "handle": handle },
        });
        Ok(self.ask::<IgnoredAny>(&close)?.is_some())
    }
}

/// Reads until `buffer` is full or there is no more.
fn read_whole(from: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, GaveUp> {
    let mut length = 0;
    while length < buffer.len() {
        match rustix::io::read(from, &mut buffer[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Err(GaveUp),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_is_believed_of_the_child() {
        let done = Put::new(PutVerdict::Done, 10);
        for kept in [Kept::Unknown, Kept::Unreadable, Kept::Bytes(0), Kept::Bytes(u64::MAX)] {
            let done = Put { kept, ..done };
            assert_eq!(Put::from_bytes(done.bytes(), 10), Some(done));
            let failed = Put { verdict: PutVerdict::NotWritten, ..done };
            let told = Some(failed).filter(|_| kept == Kept::Unknown);
            assert_eq!(Put::from_bytes(failed.bytes(), 10), told, "of a file that is not whole");
        }
        assert_eq!(Put::from_bytes(done.bytes(), 9), None, "more than there is");
        assert_eq!(Put::from_bytes(done.bytes(), 11), None, "done, and not all of it");
        let mut none = Put::new(PutVerdict::Done, 0).bytes();
        none[0] = b'X';
        assert_eq!(Put::from_bytes(none, 0), None);
        assert_eq!(Put::from_bytes([0; Put::BYTES], 0), None);
    }
}

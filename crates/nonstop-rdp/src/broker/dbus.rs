//! As much of D-Bus as a display needs, for a peer that may be hostile: bytes to messages and back,
//! and one connection over a socket that neither waits nor grows.
//!
//! Written here because the promise is a bound: a message that is longer than the largest picture
//! is refused by its first sixteen bytes, memory grows with what has come and not with what is
//! announced, few descriptors wait, and a peer that does not read our answers is not
//! read either. Format: the D-Bus specification 0.43, little-endian alone (QEMU's own order here).

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use std::{
    collections::VecDeque,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

/// The longest body: the largest picture and its arguments.
const LONGEST_BODY: usize = 4096 * 4096 * 4 + 256;

/// The longest list of header fields.
const LONGEST_FIELDS: usize = 4096;

/// The longest line of the handshake.
const LONGEST_LINE: usize = 512;

/// Files that wait for their messages. Each message of a display has at most one.
const MOST_FILES: usize = 4;

/// Read at once.
const READ_BYTES: usize = 256 << 10;

/// Kept between messages.
const KEPT_BYTES: usize = 16 << 20;

/// Unsent bytes above which the peer is not read, and nothing new is asked of it.
const UNSENT_BYTES: usize = 64 << 10;

/// A connection that is over.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// It was closed.
    #[error("the peer closed")]
    Closed,
    /// It said what no display says.
    #[error("the peer broke the rules: {0}")]
    Malformed(&'static str),
    /// It did not answer in time.
    #[error("the peer did not answer")]
    Mute,
    /// The kernel refused.
    #[error("speak with the peer")]
    Kernel(#[from] Errno),
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A method call.
    Call,
    /// An answer.
    Return,
    /// An answer that is an error.
    Error,
    /// A signal.
    Signal,
}

/// One message, in the buffer where it came.
#[derive(Debug)]
pub struct Message<'a> {
    /// What it is.
    pub kind: Kind,
    /// Whether an answer is wanted.
    pub wants_reply: bool,
    /// The sender's number.
    pub serial: u32,
    /// The number of the call that it answers.
    pub reply_to: u32,
    /// The method or signal.
    pub member: &'a str,
    /// Where that is declared.
    pub interface: &'a str,
    /// Types of the arguments.
    pub signature: &'a str,
    /// The file beside it.
    pub file: Option<OwnedFd>,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The arguments, which must be of these types.
    pub fn args(&self, signature: &str) -> Result<Reader<'a>, Lost> {
        if self.signature != signature {
            return Err(Lost::Malformed("arguments of other types"));
        }
        Ok(Reader { bytes: self.body, at: 0 })
    }
}

/// Reads values one after another.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A number.
    pub fn u32(&mut self) -> Result<u32, Lost> {
        self.align(4)?;
        let bytes = self.take(4)?;
        bytes.try_into().map(u32::from_le_bytes).map_err(|_| CUT)
    }

    /// A number.
    pub fn i32(&mut self) -> Result<i32, Lost> {
        self.u32().map(u32::cast_signed)
    }

    /// Bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Lost> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// Text.
    pub fn text(&mut self) -> Result<&'a str, Lost> {
        let length = self.u32()? as usize;
        self.nul_ended(length)
    }

    /// Types.
    pub fn signature(&mut self) -> Result<&'a str, Lost> {
        let length = self.take(1)?[0];
        self.nul_ended(usize::from(length))
    }

    fn nul_ended(&mut self, length: usize) -> Result<&'a str, Lost> {
        let bytes = self.take(length)?;
        if self.take(1)? != [0] {
            return Err(Lost::Malformed("text without its end"));
        }
        std::str::from_utf8(bytes).map_err(|_| Lost::Malformed("text that is none"))
    }

    fn align(&mut self, to: usize) -> Result<(), Lost> {
        let past = self.at.next_multiple_of(to) - self.at;
        self.take(past).map(|_| ())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Lost> {
        let end = self.at.checked_add(length).ok_or(CUT)?;
        let bytes = self.bytes.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(bytes)
    }
}

const CUT: Lost = Lost::Malformed("a message that is cut");

/// What has come and was not looked at yet.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    files: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Adds what has come.
    pub fn feed(&mut self, bytes: &[u8], file: Option<OwnedFd>) -> Result<(), Lost> {
        self.compact();
        self.bytes.extend_from_slice(bytes);
        self.keep(file)
    }

    /// The next whole message; None until there is one.
    #[expect(clippy::should_implement_trait, reason = "what it gives may borrow or fail")]
    pub fn next(&mut self) -> Result<Option<Message<'_>>, Lost> {
        let Some((fields, total)) = self.frame()? else { return Ok(None) };
        let at = self.start;
        if self.bytes.len() - at < total {
            return Ok(None);
        }
        self.start += total;
        let bytes = &self.bytes[at..at + total];
        let kind = match bytes[1] {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return Err(Lost::Malformed("a message of no kind")),
        };
        let serial = Reader { bytes: &bytes[..12], at: 8 }.u32()?;
        let mut message = Message {
            kind,
            wants_reply: kind == Kind::Call && bytes[2] & 1 == 0,
            serial,
            reply_to: 0,
            member: "",
            interface: "",
            signature: "",
            file: None,
            body: &bytes[16 + fields.next_multiple_of(8)..],
        };
        let mut files = 0;
        let mut reader = Reader { bytes: &bytes[..16 + fields], at: 16 };
        while reader.at < 16 + fields {
            reader.align(8)?;
            let code = reader.take(1)?[0];
            match (reader.signature()?, code) {
                ("u", 5) => message.reply_to = reader.u32()?,
                ("u", 9) => files = reader.u32()?,
                ("u", _) => _ = reader.u32()?,
                ("s", 2) => message.interface = reader.text()?,
                ("s", 3) => message.member = reader.text()?,
                ("s" | "o", _) => _ = reader.text()?,
                ("g", 8) => message.signature = reader.signature()?,
                ("g", _) => _ = reader.signature()?,
                _ => return Err(Lost::Malformed("a header field of another type")),
            }
        }
        match files {
            0 => {}
            1 => {
                message.file = Some(self.files.pop_front().ok_or(Lost::Malformed("no file came"))?)
            }
            _ => return Err(Lost::Malformed("many files")),
        }
        Ok(Some(message))
    }

    /// Length of the header fields and of the whole message, once it is known.
    fn frame(&self) -> Result<Option<(usize, usize)>, Lost> {
        let Some(head) = self.bytes.get(self.start..self.start + 16) else { return Ok(None) };
        if head[0] != b'l' || head[3] != 1 {
            return Err(Lost::Malformed("not D-Bus"));
        }
        let body = Reader { bytes: head, at: 4 }.u32()? as usize;
        let fields = Reader { bytes: head, at: 12 }.u32()? as usize;
        if body > LONGEST_BODY || fields > LONGEST_FIELDS {
            return Err(Lost::Malformed("a message that is too long"));
        }
        Ok(Some((fields, 16 + fields.next_multiple_of(8) + body)))
    }

    /// A line of the handshake, without its end.
    fn line(&mut self) -> Result<Option<String>, Lost> {
        let bytes = &self.bytes[self.start..];
        let Some(end) = bytes.windows(2).take(LONGEST_LINE).position(|two| two == b"\r\n") else {
            if bytes.len() > LONGEST_LINE {
                return Err(Lost::Malformed("a handshake without end"));
            }
            return Ok(None);
        };
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        self.start += end + 2;
        Ok(Some(line))
    }

    /// One turn of reading. True if there may be more.
    fn read(&mut self, from: impl AsFd) -> Result<bool, Lost> {
        self.compact();
        let had = self.bytes.len();
        let wanted = match self.frame()? {
            Some((_, total)) if total > had => total - had,
            _ => 0,
        };
        let room = wanted.clamp(16 << 10, READ_BYTES);
        self.bytes.resize(had + room, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let got =
            recvmsg(from, &mut [IoSliceMut::new(&mut self.bytes[had..])], &mut ancillary, flags);
        let got = match got {
            Ok(got) => got,
            Err(e) => {
                self.bytes.truncate(had);
                return match e {
                    Errno::AGAIN | Errno::INTR => Ok(false),
                    Errno::CONNRESET | Errno::PIPE => Err(Lost::Closed),
                    e => Err(Lost::Kernel(e)),
                };
            }
        };
        self.bytes.truncate(had + got.bytes);
        let mut files = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                files.extend(given);
            }
        }
        if got.bytes == 0 {
            return Err(Lost::Closed);
        }
        if got.flags.contains(ReturnFlags::CTRUNC) || files.len() > 1 {
            return Err(Lost::Malformed("many files"));
        }
        self.keep(files.pop())?;
        Ok(got.bytes == room)
    }

    fn keep(&mut self, file: Option<OwnedFd>) -> Result<(), Lost> {
        self.files.extend(file);
        if self.files.len() > MOST_FILES {
            return Err(Lost::Malformed("files that no message named"));
        }
        Ok(())
    }

    /// Frees what was looked at.
    fn compact(&mut self) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            if self.bytes.capacity() > KEPT_BYTES {
                self.bytes = Vec::new();
            }
        } else {
            self.bytes.drain(..self.start);
        }
        self.start = 0;
    }
}

/// Writes values one after another.
#[derive(Debug, Default, Clone)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A number.
    pub fn u16(mut self, value: u16) -> Self {
        self.align(2);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A number.
    pub fn u32(mut self, value: u32) -> Self {
        self.align(4);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A number.
    pub fn i32(self, value: i32) -> Self {
        self.u32(value.cast_unsigned())
    }

    /// Text.
    pub fn text(self, value: &str) -> Self {
        let mut out = self.u32(u32::try_from(value.len()).expect("our own words are short"));
        out.0.extend(value.as_bytes());
        out.0.push(0);
        out
    }

    /// Bytes.
    pub fn bytes(self, value: &[u8]) -> Self {
        let mut out = self.u32(u32::try_from(value.len()).expect("a picture's bytes fit"));
        out.0.extend(value);
        out
    }

    /// Types.
    pub fn signature(mut self, value: &str) -> Self {
        self.0.push(u8::try_from(value.len()).expect("our own types are short"));
        self.0.extend(value.as_bytes());
        self.0.push(0);
        self
    }

    /// A list, whose elements are aligned to `to` bytes.
    pub fn list(self, to: usize, elements: impl FnOnce(Writer) -> Writer) -> Self {
        let mut out = self.u32(0);
        let length_at = out.0.len() - 4;
        out.align(to);
        let start = out.0.len();
        out = elements(out);
        let length = u32::try_from(out.0.len() - start).expect("our own lists are short");
        out.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        out
    }

    /// Continues at a multiple of `to`.
    pub fn aligned(mut self, to: usize) -> Self {
        self.align(to);
        self
    }

    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }
}

/// What is said in a message of ours.
#[derive(Debug, Default)]
pub struct Said<'a> {
    /// Path of the object; empty in an answer.
    pub path: &'a str,
    /// Interface; empty in an answer.
    pub interface: &'a str,
    /// Method.
    pub member: &'a str,
    /// Name of the error, in an answer that is one.
    pub error: &'a str,
    /// The call that is answered, or 0.
    pub reply_to: u32,
    /// Types of the arguments.
    pub signature: &'a str,
    /// The arguments.
    pub body: Writer,
    /// A file beside it, named by index 0.
    pub file: Option<OwnedFd>,
}

impl Said<'_> {
    /// The bytes of it, numbered `serial`.
    pub fn encode(&self, serial: u32) -> Vec<u8> {
        let kind = match (self.reply_to, self.error) {
            (0, _) => 1,
            (_, "") => 2,
            _ => 3,
        };
        let length = u32::try_from(self.body.0.len()).expect("a body of ours is short");
        let head = Writer(vec![b'l', kind, 0, 1]).u32(length).u32(serial);
        let text = |out: Writer, code: u8, types: &str, value: &str| {
            if value.is_empty() {
                return out;
            }
            let mut out = out.aligned(8);
            out.0.push(code);
            match types {
                "g" => out.signature(types).signature(value),
                _ => out.signature(types).text(value),
            }
        };
        let number = |out: Writer, code: u8, value: u32| {
            if value == 0 {
                return out;
            }
            let mut out = out.aligned(8);
            out.0.push(code);
            out.signature("u").u32(value)
        };
        let mut out = head.list(8, |out| {
            let out = text(out, 1, "o", self.path);
            let out = text(out, 2, "s", self.interface);
            let out = text(out, 3, "s", self.member);
            let out = text(out, 4, "s", self.error);
            let out = number(out, 5, self.reply_to);
            let out = text(out, 8, "g", self.signature);
            number(out, 9, u32::from(self.file.is_some()))
        });
        out.align(8);
        out.0.extend(&self.body.0);
        out.0
    }
}

/// How far the handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handshake {
    Accepting,
    Passing,
    Done,
}

/// A connection: we are the client of its handshake, and peers after it.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    inbox: Inbox,
    unsent: Unsent,
    handshake: Handshake,
}

/// What waits to be sent.
#[derive(Debug, Default)]
pub struct Unsent {
    waiting: VecDeque<(Vec<u8>, usize, Option<OwnedFd>)>,
    bytes: usize,
    serial: u32,
}

impl Unsent {
    /// Says it; the number that it got.
    pub fn say(&mut self, said: Said<'_>) -> u32 {
        self.serial = self.serial.wrapping_add(1).max(1);
        let bytes = said.encode(self.serial);
        self.push(bytes, said.file);
        self.serial
    }

    fn push(&mut self, bytes: Vec<u8>, file: Option<OwnedFd>) {
        self.bytes += bytes.len();
        self.waiting.push_back((bytes, 0, file));
    }
}

impl Connection {
    /// Begins the handshake as the user `uid`.
    pub fn new(socket: OwnedFd, uid: u32) -> Self {
        let mut unsent = Unsent::default();
        let name: String = uid.to_string().bytes().map(|b| format!("{b:02x}")).collect();
        unsent.push(format!("\0AUTH EXTERNAL {name}\r\n").into_bytes(), None);
        let inbox = Inbox::default();
        Self { socket, inbox, unsent, handshake: Handshake::Accepting }
    }

    /// Reads what has come, in one bounded turn, and carries the handshake on.
    pub fn read(&mut self) -> Result<(), Lost> {
        if self.is_choked() {
            return Ok(());
        }
        self.inbox.read(&self.socket)?;
        while self.handshake != Handshake::Done {
            let Some(line) = self.inbox.line()? else { break };
            let (next, answer) = match self.handshake {
                Handshake::Accepting if line.starts_with("OK ") => {
                    (Handshake::Passing, "NEGOTIATE_UNIX_FD\r\n")
                }
                Handshake::Passing if line == "AGREE_UNIX_FD" => (Handshake::Done, "BEGIN\r\n"),
                _ => return Err(Lost::Malformed("the handshake was refused")),
            };
            self.handshake = next;
            self.unsent.push(answer.into(), None);
        }
        Ok(())
    }

    /// Sends what waits, as far as it goes.
    pub fn write(&mut self) -> Result<(), Lost> {
        while let Some((bytes, sent, file)) = self.unsent.waiting.front_mut() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let files: Vec<_> = file.iter().map(AsFd::as_fd).collect();
            if !files.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&files));
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(&self.socket, &[IoSlice::new(&bytes[*sent..])], &mut ancillary, flags) {
                Ok(now) => {
                    self.unsent.bytes -= now;
                    *sent += now;
                    *file = None;
                    if *sent == bytes.len() {
                        self.unsent.waiting.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(Lost::Closed),
                Err(e) => return Err(Lost::Kernel(e)),
            }
        }
        Ok(())
    }

    /// Whether the handshake is done.
    pub fn is_open(&self) -> bool {
        self.handshake == Handshake::Done
    }

    /// Whether the peer leaves our words unread.
    pub fn is_choked(&self) -> bool {
        self.unsent.bytes > UNSENT_BYTES
    }

    /// Whether something waits to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.waiting.is_empty()
    }

    /// The next message that has come, and where answers go.
    #[expect(clippy::should_implement_trait, reason = "what it gives may borrow or fail")]
    pub fn next(&mut self) -> Result<Option<(Message<'_>, &mut Unsent)>, Lost> {
        if self.handshake != Handshake::Done {
            return Ok(None);
        }
        Ok(self.inbox.next()?.map(|message| (message, &mut self.unsent)))
    }

    /// Calls; the number of the call.
    pub fn say(&mut self, said: Said<'_>) -> u32 {
        self.unsent.say(said)
    }

    /// The socket, to wait on.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_said_is_read_back() {
        let said = Said {
            path: "/a/b",
            interface: "c.d",
            member: "E",
            signature: "uiays",
            body: Writer::new().u32(7).i32(-7).bytes(&[1, 2, 3]).text("x"),
            ..Said::default()
        };
        let bytes = said.encode(9);
        let mut inbox = Inbox::default();
        for byte in &bytes[..bytes.len() - 1] {
            inbox.feed(&[*byte], None).expect("fed");
            assert!(inbox.next().expect("well formed").is_none());
        }
        inbox.feed(&bytes[bytes.len() - 1..], None).expect("fed");
        let message = inbox.next().expect("well formed").expect("whole");
        assert_eq!((message.kind, message.serial, message.wants_reply), (Kind::Call, 9, true));
        assert_eq!((message.interface, message.member), ("c.d", "E"));
        let mut args = message.args("uiays").expect("of these types");
        assert_eq!((args.u32().expect("u"), args.i32().expect("i")), (7, -7));
        assert_eq!((args.bytes().expect("ay"), args.text().expect("s")), (&[1, 2, 3][..], "x"));
        assert!(args.u32().is_err());
    }

    #[test]
    fn a_message_longer_than_any_picture_is_refused_by_its_head() {
        let mut head = Said { path: "/", member: "M", ..Said::default() }.encode(1);
        head[4..8].copy_from_slice(&(LONGEST_BODY as u32 + 1).to_le_bytes());
        let mut inbox = Inbox::default();
        inbox.feed(&head[..16], None).expect("fed");
        assert!(matches!(inbox.next(), Err(Lost::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_a_panic(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..8),
            valid: bool
        ) {
            let mut inbox = Inbox::default();
            if valid {
                let body = Writer::new().text("x");
                let said = Said { path: "/", member: "M", signature: "s", body, ..Said::default() };
                let mut bytes = said.encode(1);
                for (at, chunk) in chunks.iter().enumerate() {
                    let to = chunk.len() * (at + 1) % bytes.len();
                    bytes[to] = chunk.first().copied().unwrap_or(1);
                }
                inbox.feed(&bytes, None).expect("fed");
            }
            for chunk in &chunks {
                inbox.feed(chunk, None).expect("fed");
                while let Ok(Some(message)) = inbox.next() {
                    let _ = message.args("s").and_then(|mut args| args.text().map(str::len));
                }
            }
        }
    }
}

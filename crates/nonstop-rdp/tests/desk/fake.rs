//! A QEMU of our own making, which shows what a test wants, right or wrong.

use super::PATIENCE;
use nonstop_rdp::broker::dbus::{Inbox, Kind, Said, Writer};
use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    io::{Errno, pwrite},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use std::{
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

pub const XRGB: u32 = 0x2002_0888;
pub const LISTENER: &str = "org.qemu.Display1.Listener";
pub const LISTENER_MAP: &str = "org.qemu.Display1.Listener.Unix.Map";

/// A call that came: interface, method, and its first numbers.
pub type Heard = (String, Vec<i32>);

/// One connection, as its server.
pub struct Peer {
    pub stream: UnixStream,
    inbox: Inbox,
    serial: u32,
}

impl Peer {
    fn new(stream: UnixStream) -> Self {
        Self { stream, inbox: Inbox::default(), serial: 0 }
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a line");
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
    }

    /// The server's side of the handshake; the user that was named.
    fn handshake(&mut self) -> String {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let auth = self.line();
        let name = auth.strip_prefix("\0AUTH EXTERNAL ").expect("EXTERNAL").to_owned();
        self.stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").expect("said");
        assert_eq!(self.line(), "NEGOTIATE_UNIX_FD");
        self.stream.write_all(b"AGREE_UNIX_FD\r\n").expect("said");
        assert_eq!(self.line(), "BEGIN");
        let digits: Vec<u8> = name
            .as_bytes()
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).expect("hex"), 16).expect("hex"))
            .collect();
        String::from_utf8(digits).expect("a number")
    }

    pub fn send(&mut self, said: Said<'_>) -> u32 {
        self.try_send(said, SendFlags::NOSIGNAL).expect("said")
    }

    pub fn try_send(&mut self, said: Said<'_>, flags: SendFlags) -> Result<u32, Errno> {
        self.serial += 1;
        let bytes = said.encode(self.serial);
        self.try_raw(&bytes, said.file.as_ref().map(AsFd::as_fd), flags)?;
        Ok(self.serial)
    }

    /// Sends these bytes. With `DONTWAIT` some of them may be lost.
    pub fn try_raw(
        &mut self,
        bytes: &[u8],
        file: Option<BorrowedFd<'_>>,
        flags: SendFlags,
    ) -> Result<(), Errno> {
        let files: Vec<_> = file.into_iter().collect();
        let mut sent = 0;
        while sent < bytes.len() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if sent == 0 && !files.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&files));
            }
            let rest = [IoSlice::new(&bytes[sent..])];
            sent += sendmsg(&self.stream, &rest, &mut ancillary, flags)?;
        }
        Ok(())
    }

    /// The next message, whose arguments `read` takes; None when none comes within `limit`.
    pub fn receive(&mut self, limit: Duration) -> Option<Got> {
        let until = Instant::now() + limit;
        loop {
            if let Some(message) = self.inbox.next().expect("D-Bus") {
                let mut numbers = Vec::new();
                let mut text = String::new();
                let types = message.signature.to_owned();
                let mut args = message.args(&types).expect("its own types");
                let plain = types.chars().all(|kind| "uiqhs".contains(kind));
                for kind in types.chars().filter(|_| plain) {
                    match kind {
                        'u' | 'i' => numbers.push(args.i32().expect("a number")),
                        's' => text.push_str(args.text().expect("text")),
                        // Two sixteen-bit numbers lie in one.
                        'q' if numbers.is_empty() => numbers.push(args.i32().expect("numbers")),
                        _ => {}
                    }
                }
                return Some(Got {
                    kind: message.kind,
                    serial: message.serial,
                    reply_to: message.reply_to,
                    member: message.member.to_owned(),
                    numbers,
                    text,
                    file: message.file,
                });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).expect("a limit");
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [0; 4096];
            let mut into = [IoSliceMut::new(&mut bytes)];
            let got = recvmsg(&self.stream, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC);
            let Ok(got) = got else { return None };
            if got.bytes == 0 {
                return None;
            }
            let file = ancillary.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut files) => files.next(),
                _ => None,
            });
            self.inbox.feed(&bytes[..got.bytes], file).expect("fed");
        }
    }

    /// Reads and forgets all that comes from now on.
    pub fn drain(&self) {
        let mut stream = self.stream.try_clone().expect("a descriptor");
        stream.set_read_timeout(None).expect("no limit");
        std::thread::spawn(move || while matches!(stream.read(&mut [0; 65536]), Ok(1..)) {});
    }

    /// Whether the other end has closed.
    pub fn is_closed(&mut self) -> bool {
        while self.receive(Duration::from_millis(1)).is_some() {}
        self.stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a limit");
        matches!(self.stream.read(&mut [0; 64]), Ok(0))
            || self.try_raw(b"", None, SendFlags::NOSIGNAL).is_err()
    }
}

/// A message that came.
#[derive(Debug)]
pub struct Got {
    pub kind: Kind,
    pub serial: u32,
    pub reply_to: u32,
    pub member: String,
    pub numbers: Vec<i32>,
    pub text: String,
    pub file: Option<OwnedFd>,
}

/// A display.
pub struct Fake {
    pub main: Peer,
    pub listener: Peer,
    pub absolute: bool,
    /// What was asked for, but for the answers that are given in passing.
    pub asked: Vec<Heard>,
}

/// The two ends of a new connection.
pub fn socket() -> (UnixStream, OwnedFd) {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("a pair");
    (UnixStream::from(ours), theirs)
}

impl Fake {
    /// Goes through all that comes before the first picture, on `stream`.
    pub fn attached(stream: UnixStream) -> Self {
        let mut main = Peer::new(stream);
        assert_eq!(main.handshake(), "0", "on the main connection as root");
        let register = loop {
            let got = main.receive(PATIENCE).expect("a call");
            if got.member == "RegisterListener" {
                break got;
            }
        };
        let mut listener = Peer::new(UnixStream::from(register.file.expect("a listener")));
        assert_eq!(listener.handshake(), super::UID.to_string(), "as itself on the listener's");
        main.send(Said { reply_to: register.serial, ..Said::default() });
        let interface = Writer::new().text(LISTENER);
        let serial = listener.send(Said {
            path: "/org/qemu/Display1/Listener",
            interface: "org.freedesktop.DBus.Properties",
            member: "GetAll",
            signature: "s",
            body: interface,
            ..Said::default()
        });
        let answer = listener.receive(PATIENCE).expect("an answer");
        assert_eq!((answer.kind, answer.reply_to), (Kind::Return, serial));
        let mut fake = Self { main, listener, absolute: true, asked: Vec::new() };
        fake.answer_one(PATIENCE);
        fake
    }

    /// Says something on the listener's connection; its number.
    pub fn say(
        &mut self,
        interface: &str,
        member: &str,
        signature: &str,
        body: Writer,
        file: Option<OwnedFd>,
    ) -> u32 {
        let path = "/org/qemu/Display1/Listener";
        self.listener.send(Said {
            path,
            interface,
            member,
            signature,
            body,
            file,
            ..Said::default()
        })
    }

    pub fn scanout_map(&mut self, memory: &OwnedFd, offset: u32, form: [u32; 4]) -> u32 {
        let body = form.iter().fold(Writer::new().u32(0).u32(offset), |body, n| body.u32(*n));
        let file = Some(memory.try_clone().expect("a descriptor"));
        self.say(LISTENER_MAP, "ScanoutMap", "huuuuu", body, file)
    }

    pub fn update_map(&mut self, rect: [i32; 4]) -> u32 {
        let body = rect.iter().fold(Writer::new(), |body, n| body.i32(*n));
        self.say(LISTENER_MAP, "UpdateMap", "iiii", body, None)
    }

    pub fn scanout(&mut self, form: [u32; 4], data: &[u8]) -> u32 {
        let body = form.iter().fold(Writer::new(), |body, n| body.u32(*n)).bytes(data);
        self.say(LISTENER, "Scanout", "uuuuay", body, None)
    }

    pub fn update(&mut self, rect: [i32; 4], form: [u32; 2], data: &[u8]) -> u32 {
        let body = rect.iter().fold(Writer::new(), |body, n| body.i32(*n));
        let body = body.u32(form[0]).u32(form[1]).bytes(data);
        self.say(LISTENER, "Update", "iiiiuuay", body, None)
    }

    /// Waits for the answer to a message of the listener's connection.
    pub fn await_answer(&mut self, serial: u32) -> Got {
        loop {
            let got = self.listener.receive(PATIENCE).expect("an answer");
            if got.reply_to == serial {
                return got;
            }
        }
    }

    /// Takes in what was asked, once there is something, until `quiet` passes without anything more,
    /// and answers it.
    pub fn answer(&mut self, quiet: Duration) {
        let mut limit = PATIENCE;
        while self.answer_one(limit) {
            limit = quiet;
        }
    }

    fn answer_one(&mut self, limit: Duration) -> bool {
        let Some(got) = self.main.receive(limit) else { return false };
        let reply_to = got.serial;
        if got.member == "Get" {
            let body = Writer::new().signature("b").aligned(4).u32(self.absolute.into());
            self.main.send(Said { reply_to, signature: "v", body, ..Said::default() });
        } else {
            self.main.send(Said { reply_to, ..Said::default() });
            self.asked.push((got.member, got.numbers));
        }
        true
    }
}

/// Memory as QEMU lends it: writable, not sealed.
pub fn memory(bytes: u64) -> OwnedFd {
    let memory = memfd_create("lent", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let memory = memory.expect("memory");
    ftruncate(&memory, bytes).expect("memory");
    memory
}

/// Paints a pixel.
pub fn paint(memory: &OwnedFd, at: u64, colour: [u8; 3]) {
    pwrite(memory, &[colour[0], colour[1], colour[2], 0xff], at).expect("painted");
}

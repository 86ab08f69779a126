//! QEMU's display: two connections, one to ask it, one on which it tells what it shows.
//!
//! Asked: the console `Console_0` (`RegisterListener`, `SetUIInfo`), its `Keyboard` and `Mouse`.
//! Told: `org.qemu.Display1.Listener`, with shared memory (`Unix.Map`). QEMU's main loop stands
//! still from `RegisterListener` until the second connection is up and its properties are
//! answered, and during each `ScanoutMap`: those are answered in the turn in which they come.
//! Names and types: QEMU 10.0, `ui/dbus-display1.xml`.

use super::{
    dbus::{Connection, Kind, Lost, Message, Said, Writer},
    picture::Screen,
    typing::Typing,
};
use nonstop_display::link::{Button, Input, LARGEST};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

const CONSOLE: &str = "/org/qemu/Display1/Console_0";
const LISTENER: &str = "org.qemu.Display1.Listener";
const LISTENER_MAP: &str = "org.qemu.Display1.Listener.Unix.Map";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// From the connection to the registered listener.
const ATTACH_LIMIT: Duration = Duration::from_secs(10);

/// For each answer. A machine that is saved with its memory does not answer for seconds.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Calls of input that wait for their answers; the rest waits here, where moves are merged.
const MOST_CALLS: usize = 16;

/// Messages that are looked at in one turn, so that a flood does not keep others waiting.
const MOST_MESSAGES: usize = 256;

/// How long an answer to "is the pointer absolute" is believed while the pointer moves.
const BELIEVED: Duration = Duration::from_secs(1);

/// The smallest size that is asked for; 0x0 would unplug the screen.
const SMALLEST: (u16, u16) = (640, 480);

/// A call that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Register,
    IsAbsolute,
    Resize,
    Input,
}

/// What a turn of listening brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// The pointer's look changed.
    pub pointer: bool,
    /// The screen was named: a scanout or its end.
    pub scanout: bool,
    /// There may be more.
    pub more: bool,
}

/// The display of a running QEMU.
#[derive(Debug)]
pub struct Display {
    main: Connection,
    uid: u32,
    listener: Option<Connection>,
    registered: bool,
    began: Instant,
    calls: BTreeMap<u32, (Call, Instant)>,
    absolute: bool,
    absolute_asked: Option<Instant>,
    pointer: Option<(u16, u16)>,
    /// Asked for by the owner's window, not yet by us.
    wanted_size: Option<(u16, u16)>,
}

impl Display {
    /// Speaks on `socket`, whose other end a QEMU of root's libvirt holds, as the user `uid`.
    pub fn new(socket: OwnedFd, uid: u32, now: Instant) -> Self {
        Self {
            // The pair was made by root, and that is whom QEMU sees (SO_PEERCRED).
            main: Connection::new(socket, 0),
            uid,
            listener: None,
            registered: false,
            began: now,
            calls: BTreeMap::new(),
            absolute: true,
            absolute_asked: None,
            pointer: None,
            wanted_size: None,
        }
    }

    /// The connections, to wait on: whether to read and to write.
    pub fn sockets(&self) -> impl Iterator<Item = (&OwnedFd, bool, bool)> {
        [Some(&self.main), self.listener.as_ref()]
            .into_iter()
            .flatten()
            .map(|c| (c.socket(), !c.is_choked(), c.has_unsent()))
    }

    /// One bounded turn: reads what has come on both connections into `screen`, answers, asks.
    pub fn turn(&mut self, screen: &mut Screen, now: Instant) -> Result<Heard, Lost> {
        self.main.read()?;
        self.hear_main()?;
        if self.main.is_open() && self.listener.is_none() {
            self.register(now)?;
        }
        let mut heard = Heard::default();
        if let Some(listener) = &mut self.listener {
            listener.read()?;
            for turn in 1.. {
                let Some((message, unsent)) = listener.next()? else { break };
                let (serial, wants_reply) = (message.serial, message.wants_reply);
                let said = hear(message, screen, &mut heard)?;
                if wants_reply && let Some(said) = said {
                    unsent.say(Said { reply_to: serial, ..said });
                }
                if turn == MOST_MESSAGES {
                    heard.more = true;
                    break;
                }
            }
            listener.write()?;
        }
        self.main.write()?;
        Ok(heard)
    }

    /// Ends a display that does not answer.
    pub fn check_time(&self, now: Instant) -> Result<(), Lost> {
        let late = |since: Instant, limit| now.saturating_duration_since(since) > limit;
        if !self.registered && late(self.began, ATTACH_LIMIT)
            || self.calls.values().any(|(_, since)| late(*since, CALL_LIMIT))
        {
            return Err(Lost::Mute);
        }
        Ok(())
    }

    /// Asks the guest's card for another size, as soon as it may be asked.
    pub fn resize(&mut self, width: u16, height: u16) {
        let clamped = |size: u16, smallest| size.clamp(smallest, LARGEST);
        self.wanted_size = Some((clamped(width, SMALLEST.0), clamped(height, SMALLEST.1)));
    }

    /// Asks for what was wanted and types what waits in `typing`, as far as QEMU keeps up.
    /// `size` is the mode's.
    pub fn ask(&mut self, typing: &mut Typing, size: (u16, u16), now: Instant) -> Result<(), Lost> {
        if !self.registered || self.main.is_choked() {
            return Ok(());
        }
        if self.waiting(Call::Resize) == 0
            && let Some((width, height)) = self.wanted_size.take()
        {
            // Millimetres of a screen of about 100 dots an inch.
            let body = Writer::new().u16(width / 4).u16(height / 4).i32(0).i32(0);
            let body = body.u32(width.into()).u32(height.into());
            self.call(Call::Resize, "Console", "SetUIInfo", "qqiiuu", body, now);
        }
        let believed = self.absolute_asked.is_some_and(|asked| now < asked + BELIEVED);
        if !typing.is_empty() && !believed {
            self.ask_absolute(now);
        }
        while self.waiting(Call::Input) < MOST_CALLS {
            let Some(input) = typing.next() else { break };
            self.type_in(input, size, now);
        }
        self.main.write()
    }

    fn type_in(&mut self, input: Input, (width, height): (u16, u16), now: Instant) {
        let press = |down| if down { "Press" } else { "Release" };
        match input {
            Input::Key { qnum, down } => {
                let body = Writer::new().u32(qnum.into());
                self.call(Call::Input, "Keyboard", press(down), "u", body, now);
            }
            Input::Button { button, down } => {
                let body = Writer::new().u32(button_number(button));
                self.call(Call::Input, "Mouse", press(down), "u", body, now);
            }
            Input::Pointer { x, y } => {
                // QEMU refuses what lies outside the mode.
                let (x, y) = (x.min(width.saturating_sub(1)), y.min(height.saturating_sub(1)));
                let before = self.pointer.replace((x, y));
                if self.absolute {
                    let body = Writer::new().u32(x.into()).u32(y.into());
                    self.call(Call::Input, "Mouse", "SetAbsPosition", "uu", body, now);
                } else if let Some((old_x, old_y)) = before {
                    let moved = |new: u16, old: u16| i32::from(new) - i32::from(old);
                    let body = Writer::new().i32(moved(x, old_x)).i32(moved(y, old_y));
                    self.call(Call::Input, "Mouse", "RelMotion", "ii", body, now);
                }
            }
        }
    }

    fn register(&mut self, now: Instant) -> Result<(), Lost> {
        let (mine, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let serial = self.main.say(Said {
            path: CONSOLE,
            interface: "org.qemu.Display1.Console",
            member: "RegisterListener",
            signature: "h",
            body: Writer::new().u32(0),
            file: Some(theirs),
            ..Said::default()
        });
        self.calls.insert(serial, (Call::Register, now));
        self.listener = Some(Connection::new(mine, self.uid));
        self.ask_absolute(now);
        Ok(())
    }

    fn ask_absolute(&mut self, now: Instant) {
        if self.waiting(Call::IsAbsolute) > 0 {
            return;
        }
        self.absolute_asked = Some(now);
        let serial = self.main.say(Said {
            path: CONSOLE,
            interface: PROPERTIES,
            member: "Get",
            signature: "ss",
            body: Writer::new().text("org.qemu.Display1.Mouse").text("IsAbsolute"),
            ..Said::default()
        });
        self.calls.insert(serial, (Call::IsAbsolute, now));
    }

    fn call(
        &mut self,
        call: Call,
        noun: &str,
        member: &str,
        signature: &str,
        body: Writer,
        now: Instant,
    ) {
        let interface = format!("org.qemu.Display1.{noun}");
        let serial = self.main.say(Said {
            path: CONSOLE,
            interface: &interface,
            member,
            signature,
            body,
            ..Said::default()
        });
        self.calls.insert(serial, (call, now));
    }

    fn waiting(&self, call: Call) -> usize {
        self.calls.values().filter(|(waiting, _)| *waiting == call).count()
    }

    fn hear_main(&mut self) -> Result<(), Lost> {
        for _ in 0..MOST_MESSAGES {
            let Some((message, unsent)) = self.main.next()? else { break };
            match message.kind {
                Kind::Return | Kind::Error => {
                    let Some((call, _)) = self.calls.remove(&message.reply_to) else { continue };
                    let failed = message.kind == Kind::Error;
                    match call {
                        Call::Register if failed => {
                            return Err(Lost::Malformed("the listener was refused"));
                        }
                        Call::Register => self.registered = true,
                        Call::IsAbsolute if !failed => {
                            let mut args = message.args("v")?;
                            if args.signature()? == "b" {
                                self.absolute = args.u32()? == 1;
                            }
                        }
                        // Cards without a driver that can refuse another size, and a pointer
                        // outside a mode that has just changed is refused: no harm.
                        Call::IsAbsolute | Call::Resize | Call::Input => {}
                    }
                }
                Kind::Call if message.wants_reply => {
                    let reply_to = message.serial;
                    unsent.say(Said { reply_to, ..unknown() });
                }
                // Properties that changed: asked anew with the next input.
                Kind::Signal => self.absolute_asked = None,
                Kind::Call => {}
            }
        }
        Ok(())
    }
}

/// Does what QEMU said on the listener's connection to `screen`. The answer, if one is fit.
pub fn hear(
    message: Message<'_>,
    screen: &mut Screen,
    heard: &mut Heard,
) -> Result<Option<Said<'static>>, Lost> {
    if message.kind != Kind::Call {
        return Ok(None);
    }
    match (message.interface, message.member) {
        (PROPERTIES, "GetAll") => {
            let offered = message.args("s")?.text()? == LISTENER;
            return Ok(Some(properties(offered)));
        }
        (LISTENER, "Scanout") => {
            let mut args = message.args("uuuuay")?;
            let size = [args.u32()?, args.u32()?];
            let form = [args.u32()?, args.u32()?];
            screen.scanout(size, form, args.bytes()?)?;
            heard.scanout = true;
        }
        (LISTENER, "Update") => {
            let mut args = message.args("iiiiuuay")?;
            let rect = [args.i32()?, args.i32()?, args.i32()?, args.i32()?];
            let form = [args.u32()?, args.u32()?];
            screen.update(rect, form, args.bytes()?)?;
        }
        (LISTENER_MAP, "ScanoutMap") => {
            let mut args = message.args("huuuuu")?;
            let (_, offset) = (args.u32()?, args.u32()?);
            let size = [args.u32()?, args.u32()?];
            let form = [args.u32()?, args.u32()?];
            let file = message.file.ok_or(Lost::Malformed("memory without a file"))?;
            screen.scanout_map(file, offset, size, form)?;
            heard.scanout = true;
        }
        (LISTENER_MAP, "UpdateMap") => {
            let mut args = message.args("iiii")?;
            screen.update_map([args.i32()?, args.i32()?, args.i32()?, args.i32()?])?;
        }
        (LISTENER, "CursorDefine") => {
            let mut args = message.args("iiiiay")?;
            let shape = [args.i32()?, args.i32()?, args.i32()?, args.i32()?];
            heard.pointer |= screen.define_pointer(shape, args.bytes()?)?;
        }
        (LISTENER, "MouseSet") => {
            let mut args = message.args("iii")?;
            let (_, _, shown) = (args.i32()?, args.i32()?, args.i32()?);
            heard.pointer |= screen.show_pointer(shown != 0);
        }
        (LISTENER, "Disable") => {
            screen.disable();
            heard.scanout = true;
        }
        // OpenGL and DMA-BUF, which were not offered.
        _ => return Ok(Some(unknown())),
    }
    Ok(Some(Said::default()))
}

/// The listener's properties: that it takes shared memory. Other interfaces have none.
fn properties(offered: bool) -> Said<'static> {
    let body = Writer::new().list(8, |list| {
        if !offered {
            return list;
        }
        let value = list.aligned(8).text("Interfaces").signature("as");
        value.list(4, |names| names.text(LISTENER_MAP))
    });
    Said { signature: "a{sv}", body, ..Said::default() }
}

fn unknown() -> Said<'static> {
    let body = Writer::new().text("no such method");
    Said {
        error: "org.freedesktop.DBus.Error.UnknownMethod",
        signature: "s",
        body,
        ..Said::default()
    }
}

/// QEMU's `InputButton`.
fn button_number(button: Button) -> u32 {
    match button {
        Button::Left => 0,
        Button::Middle => 1,
        Button::Right => 2,
        Button::WheelUp => 3,
        Button::WheelDown => 4,
        Button::Side => 5,
        Button::Extra => 6,
    }
}

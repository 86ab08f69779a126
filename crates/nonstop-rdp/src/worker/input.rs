//! What a client types, as a keyboard and a mouse of the guest.
//!
//! Nearly all of it comes by the fast path and is heard here word by word: the server's library
//! would take a middle button for a move, a side button for the left one, and Pause for Ctrl and
//! NumLock. What comes otherwise (the slow path, the channel for advanced input) is the library's.

use super::outbox::Outbox;
use ironrdp_core::{Decode, ReadCursor};
use ironrdp_pdu::input::{
    MousePdu,
    fast_path::{FastPathInputEvent, KeyboardFlags},
    mouse::PointerFlags,
    mouse_rel::PointerRelFlags,
    mouse_x::PointerXFlags,
};
use ironrdp_server::{KeyboardEvent, MouseEvent, RdpServerInputHandler};
use nonstop_display::link::{Button, Input, Told};
use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Types what one session says, for as long as it is the one that looks.
pub(super) struct Typing {
    outbox: Arc<Outbox>,
    keys: Arc<AtomicU64>,
    looks: Box<dyn Fn() -> bool + Send>,
    /// Keys and buttons that are down.
    held: BTreeSet<Held>,
    /// Pause comes as two keys; this is the first of them.
    pause: bool,
}

/// A key or a button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Key(u8),
    Button(Button),
}

impl Typing {
    pub(super) fn new(
        outbox: Arc<Outbox>,
        keys: Arc<AtomicU64>,
        looks: Box<dyn Fn() -> bool + Send>,
    ) -> Typing {
        Typing { outbox, keys, looks, held: BTreeSet::new(), pause: false }
    }

    /// Takes a packet of input by the fast path.
    ///
    /// Errors: it does not make sense; the client is to be left.
    pub(super) fn hear(&mut self, packet: &[u8]) -> io::Result<()> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let (&[head, length], _) = packet.split_first_chunk::<2>().ok_or_else(wrong)?;
        // The two uppermost bits say that it is encrypted again, which TLS makes senseless.
        if head & 0xc0 != 0 {
            return Err(wrong());
        }
        let mut rest = packet.get(if length & 0x80 == 0 { 2 } else { 3 }..).ok_or_else(wrong)?;
        let mut count = usize::from(head >> 2 & 0xf);
        if count == 0 {
            let (&many, after) = rest.split_first().ok_or_else(wrong)?;
            (count, rest) = (many.into(), after);
        }
        let mut cursor = ReadCursor::new(rest);
        for _ in 0..count {
            let event = FastPathInputEvent::decode(&mut cursor).map_err(io::Error::other)?;
            self.event(event);
        }
        Ok(())
    }

    fn event(&mut self, event: FastPathInputEvent) {
        match event {
            FastPathInputEvent::KeyboardEvent(flags, code) => {
                let down = !flags.contains(KeyboardFlags::RELEASE);
                if flags.contains(KeyboardFlags::EXTENDED1) {
                    self.pause = code == PAUSE_FIRST;
                } else if code == PAUSE_SECOND && std::mem::take(&mut self.pause) {
                    self.press(Held::Key(PAUSE), down);
                } else {
                    self.key(code, flags.contains(KeyboardFlags::EXTENDED), down);
                }
            }
            FastPathInputEvent::UnicodeKeyboardEvent(flags, letter) => {
                if !flags.contains(KeyboardFlags::RELEASE) {
                    self.letter(letter);
                }
            }
            FastPathInputEvent::MouseEvent(mouse) => self.mouse_event(mouse),
            FastPathInputEvent::MouseEventEx(mouse) => {
                self.point(mouse.x_position, mouse.y_position);
                let down = mouse.flags.contains(PointerXFlags::DOWN);
                for (flag, button) in [
                    (PointerXFlags::BUTTON1, Button::Side),
                    (PointerXFlags::BUTTON2, Button::Extra),
                ] {
                    if mouse.flags.contains(flag) {
                        self.press(Held::Button(button), down);
                    }
                }
            }
            // The pointer is where the client says; how far it went is not asked.
            FastPathInputEvent::MouseEventRel(mouse) => {
                let down = mouse.flags.contains(PointerRelFlags::DOWN);
                for (flag, button) in [
                    (PointerRelFlags::BUTTON1, Button::Left),
                    (PointerRelFlags::BUTTON2, Button::Right),
                    (PointerRelFlags::BUTTON3, Button::Middle),
                    (PointerRelFlags::XBUTTON1, Button::Side),
                    (PointerRelFlags::XBUTTON2, Button::Extra),
                ] {
                    if mouse.flags.contains(flag) {
                        self.press(Held::Button(button), down);
                    }
                }
            }
            FastPathInputEvent::SyncEvent(_) => self.release_all(),
            FastPathInputEvent::QoeEvent(_) => {}
        }
    }

    fn mouse_event(&mut self, mouse: MousePdu) {
        // A turn of the wheel need not say where the pointer is.
        if mouse.flags.contains(PointerFlags::VERTICAL_WHEEL) {
            return self.wheel(mouse.number_of_wheel_rotation_units);
        }
        if mouse.flags.contains(PointerFlags::HORIZONTAL_WHEEL) {
            return;
        }
        self.point(mouse.x_position, mouse.y_position);
        let down = mouse.flags.contains(PointerFlags::DOWN);
        for (flag, button) in [
            (PointerFlags::LEFT_BUTTON, Button::Left),
            (PointerFlags::RIGHT_BUTTON, Button::Right),
            (PointerFlags::MIDDLE_BUTTON_OR_WHEEL, Button::Middle),
        ] {
            if mouse.flags.contains(flag) {
                self.press(Held::Button(button), down);
            }
        }
    }

    /// A client that comes back to its window: what it held is not held any more. Which locks it
    /// has on is not taken over; they are the guest's.
    fn release_all(&mut self) {
        self.pause = false;
        for held in std::mem::take(&mut self.held) {
            self.say(held, false);
        }
    }

    fn press(&mut self, held: Held, down: bool) {
        if !down {
            if self.held.remove(&held) {
                self.say(held, false);
            }
        } else if self.say(held, true) {
            self.held.insert(held);
            if matches!(held, Held::Key(_)) {
                self.keys.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn say(&self, held: Held, down: bool) -> bool {
        let input = match held {
            Held::Key(qnum) => Input::Key { qnum, down },
            Held::Button(button) => Input::Button { button, down },
        };
        // A broker that has not taken a thousand of these will not take this one either.
        (self.looks)() && self.outbox.tell(Told::Input(input))
    }

    fn point(&self, x: u16, y: u16) {
        if (self.looks)() {
            self.outbox.tell(Told::Input(Input::Pointer { x, y }));
        }
    }

    fn key(&mut self, code: u8, extended: bool, down: bool) {
        // A code is seven bits; QEMU's number has the eighth for an extended key.
        let qnum = (code & 0x7f) | if extended { 0x80 } else { 0 };
        self.press(Held::Key(qnum), down);
    }

    fn letter(&mut self, letter: u16) {
        let Some((code, shift)) = us_key(letter) else { return };
        let shift = shift && !self.held.contains(&Held::Key(LEFT_SHIFT));
        if shift {
            self.key(LEFT_SHIFT, false, true);
        }
        self.key(code, false, true);
        self.key(code, false, false);
        if shift {
            self.key(LEFT_SHIFT, false, false);
        }
    }

    fn wheel(&mut self, value: i16) {
        let button = if value > 0 { Button::WheelUp } else { Button::WheelDown };
        // A notch is 120; a touchpad says less and more often.
        for _ in 0..(value.unsigned_abs() / 120).clamp(u16::from(value != 0), 10) {
            self.say(Held::Button(button), true);
        }
    }
}

/// What the library hears.
pub(super) struct Heard(pub(super) Arc<Mutex<Typing>>);

impl RdpServerInputHandler for Heard {
    fn keyboard(&mut self, event: KeyboardEvent) {
        let mut typing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            KeyboardEvent::Pressed { code, extended } => typing.key(code, extended, true),
            KeyboardEvent::Released { code, extended } => typing.key(code, extended, false),
            // A letter was let go when it was typed.
            KeyboardEvent::UnicodePressed(letter) => typing.letter(letter),
            KeyboardEvent::UnicodeReleased(_) => {}
            KeyboardEvent::Synchronize(_) => typing.release_all(),
        }
    }

    fn mouse(&mut self, event: MouseEvent) {
        let mut typing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut button = |button, down| typing.press(Held::Button(button), down);
        match event {
            MouseEvent::Move { x, y } => typing.point(x, y),
            MouseEvent::LeftPressed => button(Button::Left, true),
            MouseEvent::LeftReleased => button(Button::Left, false),
            MouseEvent::RightPressed => button(Button::Right, true),
            MouseEvent::RightReleased => button(Button::Right, false),
            MouseEvent::MiddlePressed => button(Button::Middle, true),
            MouseEvent::MiddleReleased => button(Button::Middle, false),
            MouseEvent::Button4Pressed => button(Button::Side, true),
            MouseEvent::Button4Released => button(Button::Side, false),
            MouseEvent::Button5Pressed => button(Button::Extra, true),
            MouseEvent::Button5Released => button(Button::Extra, false),
            MouseEvent::VerticalScroll { value } => typing.wheel(value),
            MouseEvent::Scroll { y, .. } => {
                typing.wheel(i16::try_from(y).unwrap_or(if y > 0 { 120 } else { -120 }));
            }
            MouseEvent::RelMove { .. } => {}
        }
    }
}

/// Pause on a keyboard (E1 1D 45), and QEMU's number for it (E0 46, as with Ctrl).
const PAUSE_FIRST: u8 = 0x1d;
const PAUSE_SECOND: u8 = 0x45;
const PAUSE: u8 = 0xc6;

const LEFT_SHIFT: u8 = 0x2a;

/// The key of a US keyboard that types `letter`, and whether with shift.
fn us_key(letter: u16) -> Option<(u8, bool)> {
    const ROWS: [(u8, &str, &str); 4] = [
        (0x02, "1234567890-=", "!@#$%^&*()_+"),
        (0x10, "qwertyuiop[]\n", "QWERTYUIOP{}\r"),
        (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
        (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    ];
    let letter = char::from_u32(letter.into())?;
    match letter {
        ' ' => return Some((0x39, false)),
        '\t' => return Some((0x0f, false)),
        '\r' => return Some((0x1c, false)),
        '\u{8}' => return Some((0x0e, false)),
        _ => {}
    }
    ROWS.iter().find_map(|(first, plain, shifted)| {
        let at = |row: &str| row.chars().position(|c| c == letter);
        let code = |at: usize| u8::try_from(at).ok().map(|at| first + at);
        at(plain)
            .and_then(code)
            .map(|code| (code, false))
            .or_else(|| at(shifted).and_then(code).map(|code| (code, true)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironrdp_core::encode_vec;
    use ironrdp_pdu::input::{
        MouseXPdu,
        fast_path::{FastPathInput, SynchronizeFlags},
    };
    use proptest::prelude::*;

    fn typing() -> (Typing, Arc<Outbox>) {
        let outbox = Arc::new(Outbox::default());
        let typing = Typing::new(Arc::clone(&outbox), Arc::default(), Box::new(|| true));
        (typing, outbox)
    }

    fn heard(events: &[FastPathInputEvent]) -> Vec<Input> {
        let (mut typing, outbox) = typing();
        let packet = FastPathInput::new(events.to_vec()).expect("input");
        typing.hear(&encode_vec(&packet).expect("a packet")).expect("it makes sense");
        let told = outbox.all().into_iter();
        told.filter_map(|told| if let Told::Input(input) = told { Some(input) } else { None })
            .collect()
    }

    fn key(flags: KeyboardFlags, code: u8) -> FastPathInputEvent {
        FastPathInputEvent::KeyboardEvent(flags, code)
    }

    #[test]
    fn pause_is_one_key() {
        let (down, up) = (KeyboardFlags::empty(), KeyboardFlags::RELEASE);
        let first = KeyboardFlags::EXTENDED1;
        let events = [
            key(first, 0x1d),
            key(down, 0x45),
            key(first | up, 0x1d),
            key(up, 0x45),
            key(down, 0x45),
        ];
        let key = |qnum, down| Input::Key { qnum, down };
        assert_eq!(heard(&events), [key(0xc6, true), key(0xc6, false), key(0x45, true)]);
    }

    #[test]
    fn middle_and_side_buttons_are_what_they_are() {
        let mouse = |flags| {
            FastPathInputEvent::MouseEvent(MousePdu {
                flags,
                number_of_wheel_rotation_units: 0,
                x_position: 7,
                y_position: 8,
            })
        };
        let side = FastPathInputEvent::MouseEventEx(MouseXPdu {
            flags: PointerXFlags::BUTTON1 | PointerXFlags::DOWN,
            x_position: 9,
            y_position: 8,
        });
        let middle = PointerFlags::MIDDLE_BUTTON_OR_WHEEL;
        let events = [mouse(middle | PointerFlags::DOWN), mouse(middle), side];
        assert_eq!(
            heard(&events),
            [
                Input::Pointer { x: 7, y: 8 },
                Input::Button { button: Button::Middle, down: true },
                Input::Pointer { x: 7, y: 8 },
                Input::Button { button: Button::Middle, down: false },
                Input::Pointer { x: 9, y: 8 },
                Input::Button { button: Button::Side, down: true },
            ]
        );
    }

    #[test]
    fn who_comes_back_holds_nothing() {
        let sync = FastPathInputEvent::SyncEvent(SynchronizeFlags::empty());
        let events = [key(KeyboardFlags::empty(), 0x2a), sync];
        let key = |down| Input::Key { qnum: 0x2a, down };
        assert_eq!(heard(&events), [key(true), key(false)]);
    }

    proptest! {
        /// Whatever is said: no panic, and every release follows its press.
        #[test]
        fn any_bytes_are_heard(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8)) {
            let (mut typing, outbox) = typing();
            for packet in packets {
                let _wrong = typing.hear(&packet);
            }
            let mut held = BTreeSet::new();
            for told in outbox.all() {
                if let Told::Input(Input::Key { qnum, down }) = told {
                    if down {
                        held.insert(qnum);
                    } else {
                        prop_assert!(held.remove(&qnum));
                    }
                }
            }
        }
    }

    #[test]
    fn letters_find_their_keys() {
        let key = |c: char| us_key(c as u16);
        assert_eq!(key('a'), Some((0x1e, false)));
        assert_eq!(key('A'), Some((0x1e, true)));
        assert_eq!(key('z'), Some((0x2c, false)));
        assert_eq!(key('|'), Some((0x2b, true)));
        assert_eq!(key('`'), Some((0x29, false)));
        assert_eq!(key('/'), Some((0x35, false)));
        assert_eq!(key('0'), Some((0x0b, false)));
        assert_eq!(key('あ'), None);
    }
}

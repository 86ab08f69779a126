//! What a client types, as a keyboard and a mouse of the guest.

use ironrdp_server::{KeyboardEvent, MouseEvent, RdpServerInputHandler};
use nonstop_display::link::{Button, Input, Told};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::mpsc;

/// Types what one session says, for as long as it is the one that looks.
pub(super) struct Typing {
    pub(super) tell: mpsc::Sender<Told>,
    pub(super) keys: Arc<AtomicU64>,
    pub(super) looks: Box<dyn Fn() -> bool + Send>,
}

impl Typing {
    fn input(&self, input: Input) {
        if !(self.looks)() {
            return;
        }
        if matches!(input, Input::Key { down: true, .. }) {
            self.keys.fetch_add(1, Ordering::Relaxed);
        }
        // A broker that has not taken a thousand of these will not take this one either.
        let _lags = self.tell.try_send(Told::Input(input));
    }

    fn key(&self, code: u8, extended: bool, down: bool) {
        // A code is seven bits; QEMU's number has the eighth for an extended key.
        let qnum = (code & 0x7f) | if extended { 0x80 } else { 0 };
        self.input(Input::Key { qnum, down });
    }

    fn button(&self, button: Button, down: bool) {
        self.input(Input::Button { button, down });
    }

    fn wheel(&self, value: i16) {
        let button = if value > 0 { Button::WheelUp } else { Button::WheelDown };
        // A notch is 120; a touchpad says less and more often.
        for _ in 0..(value.unsigned_abs() / 120).clamp(u16::from(value != 0), 10) {
            self.button(button, true);
        }
    }
}

impl RdpServerInputHandler for Typing {
    fn keyboard(&mut self, event: KeyboardEvent) {
        match event {
            KeyboardEvent::Pressed { code, extended } => self.key(code, extended, true),
            KeyboardEvent::Released { code, extended } => self.key(code, extended, false),
            KeyboardEvent::UnicodePressed(letter) => {
                if let Some((code, shift)) = us_key(letter) {
                    if shift {
                        self.key(LEFT_SHIFT, false, true);
                    }
                    self.key(code, false, true);
                    self.key(code, false, false);
                    if shift {
                        self.key(LEFT_SHIFT, false, false);
                    }
                }
            }
            // Lock keys are the guest's; a letter was let go when it was typed.
            KeyboardEvent::UnicodeReleased(_) | KeyboardEvent::Synchronize(_) => {}
        }
    }

    fn mouse(&mut self, event: MouseEvent) {
        match event {
            MouseEvent::Move { x, y } => self.input(Input::Pointer { x, y }),
            MouseEvent::LeftPressed => self.button(Button::Left, true),
            MouseEvent::LeftReleased => self.button(Button::Left, false),
            MouseEvent::RightPressed => self.button(Button::Right, true),
            MouseEvent::RightReleased => self.button(Button::Right, false),
            MouseEvent::MiddlePressed => self.button(Button::Middle, true),
            MouseEvent::MiddleReleased => self.button(Button::Middle, false),
            MouseEvent::Button4Pressed => self.button(Button::Side, true),
            MouseEvent::Button4Released => self.button(Button::Side, false),
            MouseEvent::Button5Pressed => self.button(Button::Extra, true),
            MouseEvent::Button5Released => self.button(Button::Extra, false),
            MouseEvent::VerticalScroll { value } => self.wheel(value),
            MouseEvent::Scroll { y, .. } => {
                self.wheel(i16::try_from(y).unwrap_or(if y > 0 { 120 } else { -120 }));
            }
            // The pointer is where the client says; how far it went is not asked.
            MouseEvent::RelMove { .. } => {}
        }
    }
}

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
    use super::us_key;

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

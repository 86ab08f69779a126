//! Bytes as a hostile peer may choose them, and what must hold whatever they are. Run with random
//! bytes by the tests here and by the fuzz targets in `fuzz/`.

use super::{
    budget::Budget,
    dbus::{Inbox, Said, Writer},
    picture::Screen,
    qemu::{self, Heard},
    viewers::Viewer,
};
use nonstop_display::{
    control::{ViewerId, ViewerKind},
    link::{LARGEST, MOST_RECTS, Rect},
    wire,
};
use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    net::{SendFlags, send},
};
use std::{os::fd::OwnedFd, time::Instant};

/// Takes choices out of bytes; zeros when there are no more.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Mostly a size of a small screen; sometimes anything.
    fn number(&mut self) -> i32 {
        match self.byte() {
            0xff => i32::from_le_bytes(std::array::from_fn(|_| self.byte())),
            0xfe => -i32::from(self.byte()),
            0xfd => i32::from(self.byte()) * 64,
            small => i32::from(small),
        }
    }

    fn numbers(&mut self, count: usize) -> Writer {
        (0..count).fold(Writer::new(), |body, _| {
            let number = self.number();
            body.i32(number)
        })
    }

    /// A size, stride and format: likely to fit each other.
    fn form(&mut self, body: Writer) -> Writer {
        let (stride, format) = (self.number(), self.byte());
        let known = [0x2002_0888, 0x2008_0888, 0x1002_0565, 0x1802_0888, 0x1002_0555];
        let format = known.get(usize::from(format)).copied().unwrap_or(i32::from(format));
        body.i32(stride.saturating_mul(4)).i32(format)
    }

    fn pixels(&mut self, body: Writer) -> Writer {
        let length = usize::from(self.byte()) * 256;
        body.bytes(&vec![self.byte(); length])
    }
}

/// A QEMU that says `bytes`, once as they are and once as messages that they choose.
///
/// Panics if something does not hold.
pub fn display(bytes: &[u8]) {
    let mut screen = Screen::new();
    let mut inbox = Inbox::default();
    for chunk in bytes.chunks(61) {
        if inbox.feed(chunk, None).is_err() || !heard(&mut inbox, &mut screen) {
            break;
        }
    }
    let mut screen = Screen::new();
    let mut inbox = Inbox::default();
    let mut choices = Choices(bytes);
    while !choices.0.is_empty() {
        let (said, file) = message(&mut choices);
        let mut bytes = said.encode(1);
        if choices.byte() == 0x11 {
            let at = choices.number().unsigned_abs() as usize % bytes.len();
            bytes[at] = choices.byte();
        }
        if inbox.feed(&bytes, file).is_err() || !heard(&mut inbox, &mut screen) {
            screen.off();
            inbox = Inbox::default();
        }
        if choices.byte().is_multiple_of(4) {
            copied(&mut screen);
        }
    }
    copied(&mut screen);
}

/// A message of a display, and the file beside it.
fn message(choices: &mut Choices<'_>) -> (Said<'static>, Option<OwnedFd>) {
    let (interface, map) = ("org.qemu.Display1.Listener", "org.qemu.Display1.Listener.Unix.Map");
    let (interface, member, signature, body) = match choices.byte() % 8 {
        0 => {
            let body = choices.numbers(2);
            let body = choices.form(body);
            (interface, "Scanout", "uuuuay", choices.pixels(body))
        }
        1 => {
            let body = choices.numbers(4);
            let body = choices.form(body);
            (interface, "Update", "iiiiuuay", choices.pixels(body))
        }
        2 | 3 => {
            let offset = choices.number();
            let (width, height) = (choices.number(), choices.number());
            let body = Writer::new().i32(0).i32(offset).i32(width).i32(height);
            (map, "ScanoutMap", "huuuuu", choices.form(body))
        }
        4 | 5 => (map, "UpdateMap", "iiii", choices.numbers(4)),
        6 => {
            let body = choices.numbers(4);
            (interface, "CursorDefine", "iiiiay", choices.pixels(body))
        }
        _ if choices.byte() < 0x80 => (interface, "MouseSet", "iii", choices.numbers(3)),
        _ => (interface, "Disable", "", Writer::new()),
    };
    let lent = || {
        let file = memfd_create("lent", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).ok()?;
        ftruncate(&file, 1 << 18).ok()?;
        Some(file)
    };
    let file = if member == "ScanoutMap" { lent() } else { None };
    let beside = file.as_ref().and_then(|file| file.try_clone().ok());
    (Said { path: "/", interface, member, signature, body, file, ..Said::default() }, beside)
}

/// Hears all that came. False when that ends the connection.
fn heard(inbox: &mut Inbox, screen: &mut Screen) -> bool {
    let mut heard = Heard::default();
    loop {
        match inbox.next() {
            Ok(Some(message)) => match qemu::hear(message, screen, &mut heard) {
                Ok(said) => _ = said.map(|said| said.encode(1)),
                Err(_) => return false,
            },
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Brings the picture over: of the mode's size, damage inside it.
fn copied(screen: &mut Screen) {
    let damage = screen.copy().expect("memory that can be read");
    let (width, height) = screen.size();
    assert!((1..=LARGEST).contains(&width) && (1..=LARGEST).contains(&height));
    let picture = screen.picture().expect("a picture");
    assert_eq!((picture.width, picture.height), (width, height));
    assert_eq!(picture.memory.len(), usize::from(width) * usize::from(height) * 4);
    let rects = damage.as_ref().map_or(&[][..], |damage| damage.rects());
    assert!(rects.len() <= MOST_RECTS);
    let inside = |r: &Rect| {
        u32::from(r.x) + u32::from(r.width) <= width.into()
            && u32::from(r.y) + u32::from(r.height) <= height.into()
    };
    assert!(rects.iter().all(inside));
    assert!(!screen.is_stale());
    if let Some(pointer) = screen.pointer() {
        let (width, height) = (usize::from(pointer.width), usize::from(pointer.height));
        assert_eq!(pointer.pixels.len(), width * height * 4);
    }
}

/// A viewer that says `bytes`, in packets.
///
/// Panics if something does not hold.
pub fn viewer(bytes: &[u8]) {
    let (ours, theirs) = wire::pair().expect("a pair");
    let now = Instant::now();
    let budget = Budget::new(Some(1 << 20), now);
    let mut viewer = Viewer::new(ViewerId(0), ViewerKind::Owner, ours, budget);
    let mut screen = Screen::new();
    screen.copy().expect("a card");
    let mut rest = bytes;
    while let Some((length, tail)) = rest.split_first() {
        let (packet, tail) = tail.split_at(usize::from(*length % 16).min(tail.len()));
        rest = tail;
        if send(&theirs, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_err() {
            break;
        }
        let Ok(words) = viewer.hear(now) else { break };
        assert!(words.typed.len() + words.reports.len() <= 64 * 4);
        if viewer.show(screen.picture(), screen.pointer(), now).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_display(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::display(&bytes);
        }

        #[test]
        fn any_viewer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::viewer(&bytes);
        }

        /// Of small numbers, which name messages that parse.
        #[test]
        fn nearly_right_viewers(bytes in proptest::collection::vec(0u8..9, 0..200)) {
            super::viewer(&bytes);
        }
    }
}

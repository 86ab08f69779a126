//! What a client may make the library keep. It gathers the parts of a message until the last has
//! come, however many they are (ironrdp-svc and -dvc 0.8); whoever goes past any honest use of
//! that is left before.

use std::{
    io,
    time::{Duration, Instant},
};

/// The longest message on a channel: what a client offers to bring along of its cache is the
/// longest, with 65 kB.
const LONGEST: usize = 128 << 10;

/// The most bytes, beside typing, in a time: honest clients say what they have drawn.
const MOST: usize = 4 << 20;
const WITHIN: Duration = Duration::from_secs(10);

/// Counts what one client has sent.
#[derive(Debug, Default)]
pub(super) struct Guard {
    since: Option<Instant>,
    bytes: usize,
    /// The channel of dynamic channels: the only one that is listened to beside the session's.
    channel: Option<u16>,
    /// Of the message on it whose last part has not come.
    gathered: usize,
}

impl Guard {
    /// From now on messages come on this channel.
    pub(super) fn watch(&mut self, channel: Option<u16>) {
        self.channel = channel;
    }

    /// Looks at the next packet, before the library does.
    ///
    /// Errors: the client is to be left.
    pub(super) fn look(&mut self, packet: &[u8], now: Instant) -> io::Result<()> {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) > WITHIN {
            (self.since, self.bytes) = (Some(now), 0);
        }
        self.bytes += packet.len();
        let Some(part) = self.channel.and_then(|channel| part(packet, channel)) else {
            return if self.bytes > MOST { Err(too_much()) } else { Ok(()) };
        };
        if self.gathered == 0 && promised(part.content).is_some_and(|bytes| bytes > LONGEST) {
            return Err(too_much());
        }
        self.gathered = if part.last { 0 } else { self.gathered + part.content.len() + 1 };
        if self.gathered > LONGEST || self.bytes > MOST { Err(too_much()) } else { Ok(()) }
    }
}

fn too_much() -> io::Error {
    io::Error::other("more than a client has to say")
}

/// A part of a message.
struct Part<'a> {
    last: bool,
    content: &'a [u8],
}

/// The part that `packet` carries, if it is one of `channel`.
fn part(packet: &[u8], channel: u16) -> Option<Part<'_>> {
    // TPKT, X.224 data, and of MCS the request to send: initiator, channel, priority, length.
    let [3, _, _, _, 2, 0xf0, 0x80, 0x64, _, _, high, low, _, length, rest @ ..] = packet else {
        return None;
    };
    if u16::from_be_bytes([*high, *low]) != channel {
        return None;
    }
    let data = if length & 0x80 == 0 { rest } else { rest.get(1..)? };
    let (_, data) = data.split_first_chunk::<4>()?;
    let (flags, content) = data.split_first_chunk::<4>()?;
    Some(Part { last: u32::from_le_bytes(*flags) & 2 != 0, content })
}

/// How long a message of a dynamic channel will be, if `content` begins one in parts.
fn promised(content: &[u8]) -> Option<usize> {
    let (&head, rest) = content.split_first()?;
    // The kind of message, the size of that length, and the size of the channel's number.
    if head >> 4 != 2 {
        return None;
    }
    let size = |code: u8| match code & 3 {
        0 => 1,
        1 => 2,
        _ => 4,
    };
    let length = rest.get(size(head)..)?;
    let length = length.get(..size(head >> 2).min(length.len()))?;
    Some(length.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(channel: u16, last: bool, content: &[u8]) -> Vec<u8> {
        let data = [&[0, 0, 0, 0, u8::from(last) * 2, 0, 0, 0], content].concat();
        let mut packet = vec![3, 0, 0, 0, 2, 0xf0, 0x80, 0x64, 3, 0xea];
        packet.extend(channel.to_be_bytes());
        packet.push(0x70);
        packet.extend((data.len() as u16 | 0x8000).to_be_bytes());
        packet.extend(data);
        packet
    }

    #[test]
    fn a_message_without_an_end_is_not_gathered() {
        let mut guard = Guard { channel: Some(1004), ..Guard::default() };
        let endless = packet(1004, false, &[0x30; 1600]);
        let taken = (0..1000).take_while(|_| guard.look(&endless, Instant::now()).is_ok()).count();
        assert!((50..90).contains(&taken), "{taken}");
        let mut guard = Guard { channel: Some(1004), ..Guard::default() };
        let promise = packet(1004, true, &[0x28, 1, 0, 0, 0, 0x40, 9, 9, 9]);
        assert!(guard.look(&promise, Instant::now()).is_err());
    }

    #[test]
    fn what_clients_say_of_frames_is_taken_for_hours() {
        let mut guard = Guard { channel: Some(1004), ..Guard::default() };
        let (start, drawn) = (Instant::now(), packet(1004, true, &[0x30, 3, 0, 0, 0, 9]));
        for n in 0..1_000_000 {
            guard.look(&drawn, start + Duration::from_millis(n * 8)).expect("taken");
        }
        let offer = packet(1004, true, &[0x24, 3, 0xf0, 0xff, 9]);
        guard.look(&offer, start + Duration::from_secs(9000)).expect("taken");
        assert!((0..200).any(|_| guard.look(&[7; 60_000], start + WITHIN).is_err()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..40), channel in any::<u16>()) {
            let mut guard = Guard { channel: Some(1004), ..Guard::default() };
            let _left = guard.look(&bytes, Instant::now());
            let _left = guard.look(&packet(1000 + channel % 8, false, &bytes), Instant::now());
        }
    }
}

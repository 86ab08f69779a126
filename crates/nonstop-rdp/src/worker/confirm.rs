//! What a client confirms that it can do, before the library reads it.
//!
//! To a client without the graphics pipeline the library (ironrdp-server 0.13) sends, if it takes
//! surfaces, either all pixels as they are or blurred ones (RemoteFX). If it takes none, it gets
//! bitmaps packed without loss, which every client knows. So no client takes surfaces.

/// The set of abilities that speaks of surfaces, and its length.
const SURFACES: [u8; 4] = [0x1c, 0, 12, 0];

/// A client's confirmation, with its kind of message and the version.
const CONFIRMATION: [u8; 2] = [0x13, 0];

/// Takes surfaces out of what `packet` confirms, if it is that packet.
pub(super) fn without_surfaces(packet: &mut [u8]) {
    // TPKT, X.224 data, and of MCS the request to send: initiator, channel, priority, length.
    let [3, _, _, _, 2, 0xf0, 0x80, 0x64, _, _, _, _, _, length, rest @ ..] = packet else {
        return;
    };
    let rest =
        if *length & 0x80 == 0 { &mut rest[..] } else { rest.get_mut(1..).unwrap_or(&mut []) };
    // Length and kind; source, share, originator; length of the name, length of the sets.
    if rest.get(2..4) != Some(&CONFIRMATION) {
        return;
    }
    let word = |rest: &[u8], at: usize| {
        rest.get(at..at + 2).map(|word| usize::from(u16::from_le_bytes([word[0], word[1]])))
    };
    let Some(name) = word(rest, 12) else { return };
    // After the name: how many sets, two unused bytes, and the sets.
    let mut at = 16 + name + 4;
    while let Some(length) = word(rest, at + 2) {
        if rest.get(at..at + 4) == Some(&SURFACES)
            && let Some(flags) = rest.get_mut(at + 4..at + 8)
        {
            flags.fill(0);
            return;
        }
        at += length.max(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn surfaces_are_taken_out_and_nothing_else() {
        let mut sets = vec![2, 0, 8, 0, 1, 1, 1, 1];
        sets.extend(SURFACES);
        sets.extend([0x52, 0, 0, 0, 9, 9, 9, 9]);
        sets.extend([0x1d, 0, 5, 0, 7]);
        let head = [&[0, 0][..], &CONFIRMATION, &[0; 8], &[3, 0, 0, 0], b"abc", &[3, 0, 0, 0]];
        let mut packet = vec![3, 0, 0, 0, 2, 0xf0, 0x80, 0x64, 3, 0xea, 3, 0xeb, 0x70, 0x80, 60];
        packet.extend(head.concat());
        packet.extend(&sets);
        let mut wanted = packet.clone();
        let at = wanted.len() - 13;
        wanted[at..at + 4].fill(0);
        without_surfaces(&mut packet);
        assert_eq!(packet, wanted);
    }

    proptest! {
        #[test]
        fn any_packet_is_looked_at(mut bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut packet = vec![3, 0, 0, 0, 2, 0xf0, 0x80, 0x64, 3, 0xea, 3, 0xeb, 0x70, 0x80, 60, 0, 0, 0x13, 0];
            packet.extend(&bytes);
            without_surfaces(&mut packet);
            without_surfaces(&mut bytes);
        }
    }
}

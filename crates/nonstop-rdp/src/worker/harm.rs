//! Bytes as a hostile client may choose them, after TLS, and what must hold whatever they are. Run
//! with random bytes by the tests here and by a fuzz target in `fuzz/`.

use super::{
    input::Typing,
    link::Shared,
    outbox::Outbox,
    server::{Session, speak},
    stream::Stream,
};
use nonstop_display::link::{Button, Input, Told};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::io::AsyncWriteExt;

/// What IronRDP's client says up to its session, packet after packet, at 800x600 and with the
/// channel of dynamic channels alone.
const GREETING: &[u8] = include_bytes!("greeting.bin");

/// The number of that channel.
const CHANNEL: u16 = 1004;

/// The packets of a client that behaves, in order: its greeting, and its four dynamic channels.
fn greeting() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut rest = GREETING;
    while let [3, _, high, low, ..] = rest {
        let (packet, after) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        packets.push(packet.to_vec());
        rest = after;
    }
    packets.push(on_channel(CHANNEL, &[0x50, 0, 2, 0]));
    packets.extend((0..4).map(|n| on_channel(CHANNEL, &[0x10, n, 0, 0, 0, 0])));
    // The first version of the graphics pipeline, without flags.
    let advertise = [0x12, 0, 0, 0, 22, 0, 0, 0, 1, 0, 4, 0, 8, 0, 4, 0, 0, 0, 0, 0, 0, 0];
    packets.push(on_channel(CHANNEL, &[&[0x30, 3][..], &advertise].concat()));
    packets
}

fn to_send(channel: u16, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![3, 0, 0, 0, 2, 0xf0, 0x80, 0x64, 0, 1];
    packet.extend(channel.to_be_bytes());
    packet.push(0x70);
    packet.extend((data.len() as u16 | 0x8000).to_be_bytes());
    packet.extend_from_slice(data);
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

fn on_channel(channel: u16, content: &[u8]) -> Vec<u8> {
    let head = [(content.len() as u32).to_le_bytes(), 3_u32.to_le_bytes()].concat();
    to_send(channel, &[&head, content].concat())
}

/// A client says `bytes`: the first tells how far it behaves before that.
///
/// It types what it holds and no more than that, and asks for nothing but a size.
pub fn client(bytes: &[u8]) {
    let mut held = BTreeSet::new();
    let mut down = BTreeSet::new();
    for told in told(bytes) {
        match told {
            Told::Input(Input::Key { qnum, down: true }) => drop(held.insert(qnum)),
            Told::Input(Input::Key { qnum, down: false }) => assert!(held.remove(&qnum)),
            Told::Input(Input::Button { button: Button::WheelUp | Button::WheelDown, .. }) => {}
            Told::Input(Input::Button { button, down: true }) => drop(down.insert(button)),
            Told::Input(Input::Button { button, down: false }) => assert!(down.remove(&button)),
            Told::Input(Input::Pointer { .. }) | Told::Resize { .. } | Told::Opened => {}
            other => panic!("it told {other:?}"),
        }
    }
}

/// What the broker is told by the worker of such a client.
fn told(bytes: &[u8]) -> VecDeque<Told> {
    let (behaves, mut rest) = bytes.split_first().unwrap_or((&0, &[]));
    let greeting = greeting();
    let behaves = usize::from(*behaves) % (greeting.len() + 1);
    let mut words = greeting[..behaves].concat();
    // Each word: how it is wrapped, its length, itself.
    while let [wrap, length, after @ ..] = rest {
        let (word, after) = after.split_at(usize::from(*length).min(after.len()));
        match wrap % 8 {
            0 => words.extend_from_slice(word),
            1 => words.extend(on_channel(CHANNEL, word)),
            2 => words.extend(to_send(1003, word)),
            3 => words.extend(to_send(CHANNEL + u16::from(wrap / 8), word)),
            // Input by the fast path.
            4 => {
                words.extend([4 * (wrap / 16), (word.len() + 2).min(127) as u8]);
                words.extend(&word[..word.len().min(125)]);
            }
            dynamic => {
                let head = [0x30, dynamic - 4];
                words.extend(on_channel(CHANNEL, &[&head, word].concat()));
            }
        }
        rest = after;
    }
    let outbox = Arc::new(Outbox::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(1)
        .build()
        .expect("a runtime");
    let limit = Duration::from_secs(20);
    let conversation = converse(words, Arc::clone(&outbox));
    let listened = runtime.block_on(async { tokio::time::timeout(limit, conversation).await });
    assert!(listened.is_ok(), "the worker has not noticed the end");
    outbox.all()
}

async fn converse(words: Vec<u8>, outbox: Arc<Outbox>) {
    let shared = Arc::new(Shared::default());
    let memory = memfd_create("picture", MemfdFlags::CLOEXEC).expect("memory");
    ftruncate(&memory, 64 * 48 * 4).expect("memory");
    shared.screen().picture((64, 48), 256, memory).expect("a picture");
    let session = Arc::new(Session::new(1, shared, Arc::clone(&outbox)));
    let looks = Arc::clone(&session);
    let looks = Box::new(move || looks.looks());
    let typing = Arc::new(Mutex::new(Typing::new(outbox, Arc::default(), looks)));
    let (ours, theirs) = tokio::io::duplex(16 << 10);
    let stream = Stream::open(theirs, Arc::clone(&typing), Arc::clone(&session.flow));
    let (mut answers, mut says) = tokio::io::split(ours);
    let saying = async {
        // One that is left does not listen any more.
        let _left = says.write_all(&words).await;
        let _left = says.shutdown().await;
    };
    let hearing = async {
        let mut sink = tokio::io::sink();
        let _ended = tokio::io::copy(&mut answers, &mut sink).await;
    };
    let serving = speak(stream, session, typing, None);
    tokio::join!(saying, hearing, serving);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_client_that_behaves_comes_to_its_session_and_types() {
        let types = [4 + 16, 2, 0, 0x1e];
        let key = Told::Input(Input::Key { qnum: 0x1e, down: true });
        let told = told(&[&[16][..], &types].concat());
        let wanted = [Told::Opened, Told::Resize { width: 800, height: 600 }, key];
        assert_eq!(told, wanted);
        assert_eq!(greeting().len(), 16);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_client_is_heard_to_its_end(
            behaves in 0u8..17,
            words in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..12)
        ) {
            let mut bytes = vec![behaves];
            for (wrap, word) in words {
                bytes.extend([wrap, word.len() as u8]);
                bytes.extend(word);
            }
            client(&bytes);
        }
    }
}

//! What an agent answers: `cargo +nightly fuzz run answers` in `crates/nonstop-agent`.
//!
//! Of the bytes the first says what is asked of it and whether it answers the greeting, the second how
//! long a file it is given; the rest is what it says then, before it is gone.
#![no_main]

use nonstop_agent::{Put, PutFile, PutVerdict, SetPassword, put, set_password};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{LazyLock, mpsc},
    thread,
    time::{Duration, Instant},
};

/// So many bytes are given for each that is asked for: the longest file has more than one piece.
const STEP: u64 = 1500;
/// An agent that is gone is waited for no more.
const SLOW: Duration = Duration::from_millis(1500);

static CONTENT: LazyLock<File> = LazyLock::new(|| {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&vec![b'x'; 255 * STEP as usize]).expect("written");
    file
});

/// What an agent does next: with which channel, whether it answers the greeting, and what it says.
type Act = (UnixStream, bool, Vec<u8>);

/// The agent, of one thread for all that it does.
static AGENT: LazyLock<mpsc::Sender<Act>> = LazyLock::new(|| {
    let (tell, told) = mpsc::channel::<Act>();
    thread::spawn(move || {
        told.into_iter().for_each(|(guest, greets, said)| act(guest, greets, &said))
    });
    tell
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [how, length, said @ ..] = bytes else { return };
    let (greets, password) = (how & 1 == 0, how & 2 != 0);
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("set");
    AGENT.send((theirs, greets, said.to_vec())).expect("it lives");
    let began = Instant::now();
    if password {
        let task = SetPassword { user: "researcher".into(), password: "secret".into() };
        let _verdict = set_password(&task, ours.as_fd());
    } else {
        takes(u64::from(*length) * STEP, &ours, greets);
    }
    assert!(began.elapsed() < SLOW, "took {:?}", began.elapsed());
});

/// A file of so many bytes is put, and what is told of that can be.
fn takes(bytes: u64, guest: &UnixStream, greets: bool) {
    (&*CONTENT).rewind().expect("at its start");
    let told = put(&PutFile { path: "/a".into(), bytes }, CONTENT.as_fd(), guest.as_fd(), |_| ());
    assert_eq!(Put::from_bytes(told.bytes(), bytes), Some(told), "the parent believes it");
    let begun = !matches!(told.verdict, PutVerdict::Silent | PutVerdict::NotOpened);
    assert!(begun || told.written == 0, "{told:?}");
    let partly = told.verdict == PutVerdict::BrokeOff || told.verdict == PutVerdict::NotWritten;
    assert!(begun <= greets && (!partly || told.written <= bytes), "{told:?}");
}

/// An agent that answers the greeting or does not, says `said`, and then only hears.
fn act(mut guest: UnixStream, greets: bool, said: &[u8]) {
    let mut told = BufReader::new(guest.try_clone().expect("a copy"));
    let mut line = Vec::new();
    let _gone = told.read_until(b'\n', &mut line);
    if greets {
        let digits = line.iter().filter(|byte| byte.is_ascii_digit()).copied().collect::<Vec<_>>();
        let answer = [b"\xff{\"return\": ", &digits[..], b"}\n"].concat();
        let _gone = guest.write_all(&answer);
    }
    let _gone = guest.write_all(said);
    let _gone = guest.shutdown(Shutdown::Write);
    let _gone = io::copy(&mut told, &mut io::sink());
}

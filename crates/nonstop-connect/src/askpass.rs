//! How `ssh` gets the PIN: it starts this program as its `SSH_ASKPASS`, which asks the one that
//! started `ssh`, over a connection inside this PC, by a word that only `ssh`'s environment has.
//!
//! So the PIN is in no argument, environment or file. `ssh` is told once: what asks again would spend
//! the card's tries.

use crate::card::Pin;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use zeroize::Zeroizing;

/// The environment's word: `PORT:TOKEN`.
const VARIABLE: &str = "NONSTOP_CONNECT_ASKPASS";

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// What may be asked, as `ssh` puts it.
const PROMPT: &str = "Enter PIN for ";

/// Answers one `ssh`, once, until it is dropped.
pub(crate) struct Answerer {
    port: u16,
    token: String,
    over: Arc<AtomicBool>,
}

impl Answerer {
    pub(crate) fn new(pin: Pin) -> io::Result<Answerer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let over = Arc::new(AtomicBool::new(false));
        let (word, ends) = (token.clone(), over.clone());
        thread::spawn(move || answer(&listener, &word, &pin, &ends));
        Ok(Answerer { port, token, over })
    }

    /// Has `ssh` ask this program.
    pub(crate) fn tell(&self, ssh: &mut Command) -> io::Result<()> {
        ssh.env("SSH_ASKPASS", std::env::current_exe()?)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env(VARIABLE, format!("{}:{}", self.port, self.token));
        Ok(())
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _wakes_the_thread = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// One who knows nothing is let go at once or after a while; the PIN goes to the first who knows.
fn answer(listener: &TcpListener, token: &str, pin: &Pin, over: &AtomicBool) {
    for asks in listener.incoming() {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = asks else { continue };
        if knows(&stream, token) {
            let _gone = (&stream).write_all(pin.as_bytes());
            return;
        }
    }
}

fn knows(stream: &TcpStream, token: &str) -> bool {
    let _as_it_is = stream.set_read_timeout(Some(PATIENCE));
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(1024));
    if reader.read_line(&mut line).is_err() {
        return false;
    }
    let Some((word, prompt)) = line.trim_end().split_once(' ') else { return false };
    let differ = word.bytes().zip(token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    word.len() == token.len() && differ == 0 && prompt.starts_with(PROMPT)
}

/// If `ssh` started this program, asks on its behalf and prints the answer; None otherwise.
pub(crate) fn asked_by_ssh() -> Option<ExitCode> {
    let where_to = std::env::var(VARIABLE).ok()?;
    let prompt = std::env::args().nth(1).unwrap_or_default();
    let asked = ask(&where_to, &prompt).and_then(|pin| {
        let mut out = io::stdout().lock();
        out.write_all(&pin).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())
    });
    Some(if asked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ask(where_to: &str, prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let (port, token) = where_to.split_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    let port: u16 = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let line = prompt.lines().next().unwrap_or_default();
    stream.write_all(format!("{token} {line}\n").as_bytes())?;
    let mut pin = Zeroizing::new(Vec::with_capacity(64));
    stream.take(64).read_to_end(&mut pin)?;
    match pin.is_empty() {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(pin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_goes_once_to_who_knows_the_word_and_asks_for_a_pin() {
        let answerer = Answerer::new(Pin::new("123456".into())).expect("listens");
        let at = |token: &str| format!("{}:{token}", answerer.port);
        let wrong = answerer.token.replace(|c: char| c.is_ascii_digit(), "f");
        assert!(ask(&at(&wrong), "Enter PIN for 'alice': ").is_err());
        assert!(ask(&at(""), "Enter PIN for 'alice': ").is_err());
        assert!(ask(&at(&answerer.token), "Are you sure (yes/no)? ").is_err());
        let pin = ask(&at(&answerer.token), "Enter PIN for 'alice': ").expect("answered");
        assert_eq!(pin.as_slice(), b"123456");
        assert!(ask(&at(&answerer.token), "Enter PIN for 'alice': ").is_err());
    }
}

//! One server, started in the network of its data domain and started again whenever it ends.

use super::{board::Board, relay::take};
use crate::lines::{LONGEST_OF_A_LOG, line};
use anyhow::{Context, Result};
use nonstop_api::serving::ServedState;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    io::{BufReader, Read},
    net::SocketAddrV4,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The pause before a server is started again doubles up to the longest, and is the first again
/// once it has run for a while.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const A_WHILE: Duration = Duration::from_secs(5);
/// How often a server is looked after.
const LOOK: Duration = Duration::from_millis(50);
/// How long one that is told to end may take.
const ORDERLY: Duration = Duration::from_secs(30);

/// Keeps one server.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) file: PathBuf,
    pub(super) domain: String,
    /// Its program.
    pub(super) program: PathBuf,
    /// What that is asked for, beside the lab and the data domain.
    pub(super) words: Vec<String>,
    /// What its log calls it.
    pub(super) called: String,
    pub(super) address: SocketAddrV4,
    pub(super) place: usize,
    pub(super) board: Arc<Board>,
    pub(super) relay: SyncSender<Vec<u8>>,
    pub(super) over: Arc<AtomicBool>,
}

/// What a server said last.
type LastWord = Arc<Mutex<String>>;

impl Keeper {
    /// Until this program is to end.
    pub(super) fn keep(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.over() {
            self.board.is(self.place, ServedState::Waiting);
            let Some(network) = self.enter() else { return };
            let begun = Instant::now();
            let why = match self.start() {
                Ok((mut child, word, readers)) => {
                    self.board.is(self.place, ServedState::Starting);
                    let why = self.attend(&mut child, network);
                    for reader in readers {
                        // It ends with the server, whose end it was.
                        let _panicked = reader.join();
                    }
                    let word = word.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    if word.is_empty() { why } else { format!("{why}: {word}") }
                }
                Err(e) => format!("{e:#}"),
            };
            if self.over() {
                return;
            }
            eprintln!("{} {why}", self.name());
            self.board.ended(self.place, why);
            if begun.elapsed() > A_WHILE {
                pause = FIRST_PAUSE;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn name(&self) -> String {
        format!("{}/{}:", self.domain, self.called)
    }

    /// Moves this thread into the network of the data domain once it is there; gives its number.
    fn enter(&self) -> Option<u64> {
        loop {
            if self.over() {
                return None;
            }
            let entered = File::open(self.namespace()).map_err(anyhow::Error::from);
            let entered = entered.and_then(|file| {
                rustix::thread::move_into_link_name_space(file.as_fd(), None)?;
                Ok(file.metadata()?.ino())
            });
            match entered {
                Ok(number) => return Some(number),
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    /// Where `nonstopd` puts it.
    fn namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(format!("nonstop-{}", self.domain))
    }

    fn start(&self) -> Result<(Child, LastWord, Vec<JoinHandle<()>>)> {
        // It ends with this program, whatever it does in between.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(&self.words)
            .arg("--lab")
            .arg(&self.file)
            .args(["--domain", &self.domain])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start it")?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let word = LastWord::default();
        let (name, relay) = (self.name(), self.relay.clone());
        let reports = thread::spawn(move || {
            if let Some(out) = out {
                take(out, &name, &relay);
            }
        });
        let (name, said) = (self.name(), Arc::clone(&word));
        let log = thread::spawn(move || {
            if let Some(err) = err {
                pass_on(err, &name, &said);
            }
        });
        Ok((child, word, vec![reports, log]))
    }

    /// Looks after a server that was started in `network`; says how it ended.
    fn attend(&self, child: &mut Child, network: u64) -> String {
        let mut told = None;
        let mut listens = false;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return format!("ended with {status}"),
                Ok(None) => {}
                Err(e) => return format!("cannot be waited for ({e})"),
            }
            if !listens && is_listening(self.address) {
                listens = true;
                self.board.is(self.place, ServedState::Listens);
            }
            match told {
                None if self.over() || self.is_elsewhere(network) => {
                    told = Some(Instant::now());
                    signal(child, Signal::TERM);
                }
                Some(at) if at.elapsed() > ORDERLY => signal(child, Signal::KILL),
                _ => {}
            }
            thread::sleep(LOOK);
        }
    }

    /// Whether the network of the data domain is another one than `network`.
    fn is_elsewhere(&self, network: u64) -> bool {
        let kind = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        // Only once it is mounted: before that it is an empty file.
        let ours = kind(Path::new("/proc/thread-self/ns/net"));
        let now = kind(&self.namespace());
        now.zip(ours).is_some_and(|(now, ours)| now.0 == ours.0 && now.1 != network)
    }
}

fn signal(child: &Child, signal: Signal) {
    let _ended_already = kill_process(Pid::from_child(child), signal);
}

/// Passes a server's log on, each line with `name` before it, and remembers the last.
fn pass_on(from: impl Read, name: &str, last: &Mutex<String>) {
    let mut from = BufReader::new(from);
    while let Some(line) = line(&mut from, LONGEST_OF_A_LOG) {
        let text = printable(&String::from_utf8_lossy(&line));
        eprintln!("{name} {text}");
        *last.lock().unwrap_or_else(PoisonError::into_inner) = text.chars().take(250).collect();
    }
}

fn printable(text: &str) -> String {
    let plain = |c: char| match c {
        '\t' => String::from(" "),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(plain).collect()
}

/// Whether something listens at `address` in this thread's network. Looks without connecting:
/// servers count connections.
fn is_listening(address: SocketAddrV4) -> bool {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap_or_default();
    shows_listener(&table, address)
}

fn shows_listener(table: &str, address: SocketAddrV4) -> bool {
    // The address as the kernel has it in memory, read as one number.
    let number = u32::from_ne_bytes(address.ip().octets());
    let all = format!("00000000:{:04X}", address.port());
    let one = format!("{number:08X}:{:04X}", address.port());
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next();
        (local == Some(&one) || local == Some(&all)) && words.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_known_by_its_address_and_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 0300500A:0050 00000000:0000 0A 00000000:00000000\n\
            1: 0400500A:1538 0100500A:9C40 01 00000000:00000000\n\
            2: 00000000:1538 00000000:0000 0A 00000000:00000000\n";
        let shows = |address: &str| shows_listener(table, address.parse().expect("an address"));
        assert!(shows("10.80.0.3:80"));
        assert!(!shows("10.80.0.4:80"));
        assert!(!shows("10.80.0.3:81"));
        assert!(shows("10.80.0.9:5432"));
    }
}

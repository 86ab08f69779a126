//! The real child gives files to agents that behave, lie, hang, break off, flood and are full.

use base64::{Engine, prelude::BASE64_STANDARD};
use nonstop_agent::{
    Kept, PATIENCE_MS, Put, PutFile, PutVerdict, SILENCE_MS, put_patience, run_put,
};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// More than a piece, and no multiple of it.
const BYTES: usize = 700_001;

/// What comes of an agent that behaves.
const WHOLE: Put =
    Put { verdict: PutVerdict::Done, written: BYTES as u64, kept: Kept::Bytes(BYTES as u64) };

/// What a guest was told, and what it does about it.
struct Agent {
    guest: UnixStream,
    told: BufReader<UnixStream>,
    written: Vec<u8>,
    /// Whether a file was closed already.
    closed: bool,
}

impl Agent {
    fn new(guest: UnixStream) -> Agent {
        let told = BufReader::new(guest.try_clone().expect("a copy"));
        Agent { guest, told, written: Vec::new(), closed: false }
    }

    /// The next command; None once the child is gone.
    fn hear(&mut self) -> Option<Value> {
        let mut line = Vec::new();
        self.told.read_until(b'\n', &mut line).ok().filter(|read| *read > 0)?;
        let text: Vec<u8> = line.into_iter().filter(|byte| *byte != 0xff).collect();
        Some(serde_json::from_slice(&text).expect("a command is JSON"))
    }

    fn say(&mut self, text: &[u8]) {
        let _gone = self.guest.write_all(text);
    }

    fn answer(&mut self, value: &Value) {
        self.say(format!("{}\n", json!({ "return": value })).as_bytes());
    }

    fn refuse(&mut self) {
        self.say(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n");
    }

    /// Answers as qemu-guest-agent does, until `other` has answered a command itself.
    fn behave(&mut self, mut other: impl FnMut(&mut Agent, &str) -> bool) {
        while let Some(command) = self.hear() {
            let name = command["execute"].as_str().expect("a command has a name").to_string();
            let arguments = &command["arguments"];
            if other(self, &name) {
                continue;
            }
            match name.as_str() {
                "guest-sync-delimited" => {
                    let id = arguments["id"].clone();
                    self.say(b"\xff");
                    self.answer(&id);
                }
                "guest-file-open" => {
                    assert_eq!(arguments["path"], "/home/researcher/Import/a.bin");
                    let reads = arguments["mode"] == "rb";
                    assert!(reads && self.closed || arguments["mode"] == "wb", "{arguments}");
                    self.answer(&json!(1000));
                }
                "guest-file-write" => {
                    let given = arguments["buf-b64"].as_str().expect("bytes");
                    let bytes = BASE64_STANDARD.decode(given).expect("base64");
                    self.written.extend(&bytes);
                    self.answer(&json!({ "count": bytes.len(), "eof": false }));
                }
                "guest-file-seek" => {
                    assert_eq!(arguments, &json!({ "handle": 1000, "offset": 0, "whence": "end" }));
                    let length = self.written.len();
                    self.answer(&json!({ "position": length, "eof": false }));
                }
                "guest-file-close" => {
                    self.closed = true;
                    self.answer(&json!({}));
                }
                other => panic!("`{other}` is not among what may be asked"),
            }
        }
    }
}

fn content() -> Vec<u8> {
    (0..BYTES).map(|n| (n * n % 251) as u8).collect()
}

/// Gives a file to `agent`, which plays the guest.
fn against(agent: impl FnOnce(&mut Agent) + Send + 'static) -> (Put, Duration, Vec<u8>) {
    gives(&content(), agent)
}

/// Gives the first [`BYTES`] of a file that holds `content`.
fn gives(
    content: &[u8],
    agent: impl FnOnce(&mut Agent) + Send + 'static,
) -> (Put, Duration, Vec<u8>) {
    gives_while(&|| true, content, agent)
}

/// The same, for as long as `wanted`.
fn gives_while(
    wanted: &dyn Fn() -> bool,
    content: &[u8],
    agent: impl FnOnce(&mut Agent) + Send + 'static,
) -> (Put, Duration, Vec<u8>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("set");
    let (tell, written) = mpsc::channel();
    thread::spawn(move || {
        let mut guest = Agent::new(theirs);
        agent(&mut guest);
        let _nobody_asks = tell.send(guest.written);
    });
    let mut file: File = tempfile::tempfile().expect("a file");
    file.write_all(content).expect("written");
    file.rewind().expect("at its start");
    let task = PutFile { path: "/home/researcher/Import/a.bin".into(), bytes: BYTES as u64 };
    let program = Path::new(env!("CARGO_BIN_EXE_nonstop-agent"));
    let began = Instant::now();
    let put = run_put(program, ours.into(), OwnedFd::from(file), &task, (64_102, 64_102), wanted);
    let took = began.elapsed();
    let limit = put_patience(BYTES as u64) + Duration::from_millis(1500);
    assert!(took < limit, "took {took:?}");
    let written = written.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    (put.expect("a verdict"), took, written)
}

#[test]
fn an_agent_that_behaves_has_all_of_it_byte_for_byte() {
    let (put, _, written) = against(|agent| agent.behave(|_, _| false));
    assert_eq!(put, WHOLE);
    assert!(written == content(), "what it wrote is what it was given");
}

#[test]
fn of_a_file_that_has_grown_only_as_much_is_given_as_was_asked() {
    let grown = [content(), vec![b'x'; BYTES]].concat();
    let (put, _, written) = gives(&grown, |agent| agent.behave(|_, _| false));
    assert_eq!(put, WHOLE);
    assert!(written == content(), "nothing behind it");
}

#[test]
fn an_agent_that_takes_a_little_at_a_time_is_given_the_rest_again() {
    let (put, _, written) = against(|agent| {
        while let Some(command) = agent.hear() {
            let arguments = &command["arguments"];
            match command["execute"].as_str().expect("a name") {
                "guest-sync-delimited" => {
                    let id = arguments["id"].clone();
                    agent.say(b"\xff");
                    agent.answer(&id);
                }
                "guest-file-open" => agent.answer(&json!(3)),
                "guest-file-write" => {
                    let given = arguments["buf-b64"].as_str().expect("bytes");
                    let bytes = BASE64_STANDARD.decode(given).expect("base64");
                    let taken = bytes.len().min(100_000);
                    agent.written.extend(&bytes[..taken]);
                    agent.answer(&json!({ "count": taken, "eof": false }));
                }
                _ => agent.answer(&json!({})),
            }
        }
    });
    assert_eq!(put.verdict, PutVerdict::Done);
    assert!(written == content());
}

/// What comes of an agent that behaves until the file is closed, and then does `act` at `command`.
fn afterwards(
    command: &'static str,
    act: impl Fn(&mut Agent) + Send + 'static,
) -> (Put, Duration, Vec<u8>) {
    against(move |agent| {
        agent.behave(|agent, name| {
            let now = agent.closed && name == command;
            if now {
                act(agent);
            }
            now
        });
    })
}

#[test]
fn what_the_guest_says_of_the_file_afterwards_is_told() {
    let (put, _, _) = afterwards("guest-file-seek", |agent| {
        agent.answer(&json!({ "position": 3, "eof": false }));
    });
    assert_eq!(put, Put { kept: Kept::Bytes(3), ..WHOLE });
    // Something in the guest has taken it away.
    let (put, _, _) = afterwards("guest-file-open", Agent::refuse);
    assert_eq!(put, Put { kept: Kept::Unreadable, ..WHOLE });
}

#[test]
fn an_agent_that_tells_nothing_of_the_file_afterwards_has_written_it_all_the_same() {
    let unknown = Put { kept: Kept::Unknown, ..WHOLE };
    let (put, _, _) = afterwards("guest-file-seek", Agent::refuse);
    assert_eq!(put, unknown);
    for position in [json!(-1), json!("long"), json!([[[]]])] {
        let (put, _, _) = afterwards("guest-file-seek", move |agent| {
            agent.answer(&json!({ "position": position }));
        });
        assert_eq!(put, unknown);
    }
    let (put, took, _) = afterwards("guest-file-open", |_| {});
    assert_eq!(put, unknown);
    assert!(took < Duration::from_millis(SILENCE_MS + 6000), "took {took:?}");
}

#[test]
fn an_agent_that_is_not_there_is_given_up_soon() {
    let (put, took, _) = against(|agent| while agent.hear().is_some() {});
    assert_eq!(put, Put::new(PutVerdict::Silent, 0));
    assert!(took < Duration::from_millis(SILENCE_MS + 6000), "took {took:?}");
}

#[test]
fn an_agent_that_hangs_in_the_middle_is_given_up_in_its_time() {
    let mut heard = 0;
    let (put, took, _) = against(move |agent| {
        agent.behave(|_, name| {
            heard += usize::from(name == "guest-file-write");
            heard > 1
        });
    });
    assert_eq!(put.verdict, PutVerdict::BrokeOff);
    assert!(put.written > 0 && put.written < BYTES as u64, "{put:?}");
    assert!(took >= Duration::from_millis(PATIENCE_MS - 500), "took {took:?}");
}

#[test]
fn what_is_not_wanted_any_more_is_ended_in_the_middle_and_how_far_it_got_is_known() {
    let pieces = Arc::new(AtomicUsize::new(0));
    let (heard, wanted) = (Arc::clone(&pieces), move || pieces.load(Ordering::SeqCst) < 2);
    // It would go on for its whole time: the second piece is never answered.
    let (put, took, _) = gives_while(&wanted, &content(), move |agent| {
        agent.behave(|_, name| {
            name == "guest-file-write" && heard.fetch_add(1, Ordering::SeqCst) > 0
        });
    });
    assert_eq!(put.verdict, PutVerdict::BrokeOff);
    assert!(put.written > 0 && put.written < BYTES as u64, "{put:?}");
    assert!(took < Duration::from_millis(PATIENCE_MS - 500), "took {took:?}");
    let (put, _, written) = gives_while(&|| false, &content(), |agent| {
        agent.hear();
    });
    assert_eq!((put, written.len()), (Put::new(PutVerdict::Silent, 0), 0), "nothing was given");
}

#[test]
fn a_guest_that_dies_in_the_middle_is_told_as_that() {
    let (put, took, _) = against(|agent| {
        for _ in 0..3 {
            let Some(command) = agent.hear() else { return };
            match command["execute"].as_str().expect("a name") {
                "guest-sync-delimited" => {
                    agent.say(b"\xff");
                    agent.answer(&command["arguments"]["id"].clone());
                }
                "guest-file-open" => agent.answer(&json!(1)),
                _ => agent.answer(&json!({ "count": 1000, "eof": false })),
            }
        }
    });
    assert_eq!(put, Put::new(PutVerdict::BrokeOff, 1000));
    assert!(took < Duration::from_secs(7), "took {took:?}");
}

#[test]
fn a_full_disk_in_the_guest_is_told_as_that_and_the_file_is_closed() {
    let (closed, was_closed) = mpsc::channel();
    let (put, _, _) = against(move |agent| {
        agent.behave(|agent, name| match name {
            "guest-file-write" if !agent.written.is_empty() => {
                agent.refuse();
                true
            }
            "guest-file-close" => {
                let _heard = closed.send(());
                false
            }
            _ => false,
        });
    });
    assert_eq!(put.verdict, PutVerdict::NotWritten);
    assert!(put.written > 0, "what it had taken before");
    was_closed.recv_timeout(Duration::from_secs(1)).expect("the file was closed");
}

#[test]
fn a_folder_that_is_not_there_is_told_as_that() {
    let (put, _, _) = against(|agent| {
        agent.behave(|agent, name| {
            let open = name == "guest-file-open";
            if open {
                agent.refuse();
            }
            open
        });
    });
    assert_eq!(put, Put::new(PutVerdict::NotOpened, 0));
}

#[test]
fn an_agent_that_says_it_wrote_more_than_it_was_given_is_not_believed() {
    for count in [json!(999_999_999_u64), json!(-1), json!("many"), json!(1.5)] {
        let (put, _, _) = against(move |agent| {
            agent.behave(|agent, name| {
                let write = name == "guest-file-write";
                if write {
                    agent.answer(&json!({ "count": count, "eof": false }));
                }
                write
            });
        });
        assert_eq!(put, Put::new(PutVerdict::BrokeOff, 0));
    }
}

#[test]
fn an_agent_that_writes_nothing_again_and_again_is_given_up_at_once() {
    let (put, took, _) = against(|agent| {
        agent.behave(|agent, name| {
            let write = name == "guest-file-write";
            if write {
                agent.answer(&json!({ "count": 0, "eof": true }));
            }
            write
        });
    });
    assert_eq!(put, Put::new(PutVerdict::NotWritten, 0));
    assert!(took < Duration::from_secs(7), "took {took:?}");
}

#[test]
fn an_agent_that_answers_megabytes_is_not_heard_to_their_end() {
    let (put, took, _) = against(|agent| {
        agent.behave(|agent, name| {
            let open = name == "guest-file-open";
            if open {
                for _ in 0..64 {
                    agent.say(&[b'['; 1 << 16]);
                }
            }
            open
        });
    });
    assert_eq!(put.verdict, PutVerdict::Silent);
    assert!(took < Duration::from_secs(3), "took {took:?}");
}

#[test]
fn nothing_is_read_of_what_an_agent_says_in_between_but_answers() {
    let (put, _, _) = against(|agent| {
        agent.behave(|agent, name| {
            let open = name == "guest-file-open";
            if open {
                // Deep, and no answer at all.
                let mut deep = vec![b'['; 2000];
                deep.push(b'\n');
                agent.say(&deep);
            }
            open
        });
    });
    assert_eq!(put.verdict, PutVerdict::Silent);
}

#[test]
fn what_is_too_much_is_given_to_nobody() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let file = tempfile::tempfile().expect("a file");
    let task = PutFile { path: "/a".into(), bytes: nonstop_agent::MOST_BYTES + 1 };
    let program = Path::new(env!("CARGO_BIN_EXE_nonstop-agent"));
    let put = run_put(program, ours.into(), OwnedFd::from(file), &task, (64_102, 64_102), &|| true);
    assert_eq!(put.expect("a verdict").verdict, PutVerdict::NotOpened);
    let mut heard = Vec::new();
    theirs.read_to_end(&mut heard).expect("read");
    assert!(heard.is_empty(), "the guest hears nothing of it");
}

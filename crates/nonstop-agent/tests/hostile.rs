//! The real child against agents that lie, hang, flood and break off.

use nonstop_agent::{PATIENCE_MS, SetPassword, Verdict, run};
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Runs the child against `agent`, which plays the guest.
fn against(agent: impl FnOnce(UnixStream) + Send + 'static) -> Verdict {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let guest = thread::spawn(move || agent(theirs));
    let task = SetPassword { user: "researcher".into(), password: "secret".into() };
    let program = Path::new(env!("CARGO_BIN_EXE_nonstop-agent"));
    let started = Instant::now();
    let verdict = run(program, OwnedFd::from(ours), &task, (64_102, 64_102)).expect("a verdict");
    let limit = Duration::from_millis(PATIENCE_MS + 800);
    assert!(started.elapsed() < limit, "took {:?}", started.elapsed());
    drop(guest);
    verdict
}

/// Answers the first command as qemu-guest-agent does, after `before`.
fn sync(guest: &UnixStream, before: &[u8]) -> BufReader<UnixStream> {
    let mut reader = BufReader::new(guest.try_clone().expect("a copy"));
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).expect("a command");
    let text = String::from_utf8_lossy(&line).into_owned();
    assert!(text.contains("guest-sync-delimited"), "{text}");
    let id: String = text.chars().filter(char::is_ascii_digit).collect();
    let mut guest = guest;
    guest.write_all(before).expect("said");
    guest.write_all(b"\xff").expect("said");
    guest.write_all(format!("{{\"return\": {id}}}\n").as_bytes()).expect("said");
    reader
}

#[test]
fn an_agent_that_behaves_sets_the_password() {
    let verdict = against(|mut guest| {
        let mut reader = sync(&guest, b"");
        let mut line = String::new();
        reader.read_line(&mut line).expect("a command");
        assert!(line.contains("guest-set-user-password") && line.contains("c2VjcmV0"), "{line}");
        guest.write_all(b"{\"return\": {}}\n").expect("said");
    });
    assert_eq!(verdict, Verdict::Done);
}

#[test]
fn an_agent_on_a_busy_host_is_waited_for() {
    let verdict = against(|mut guest| {
        let mut reader = sync(&guest, b"");
        let mut line = String::new();
        reader.read_line(&mut line).expect("a command");
        thread::sleep(Duration::from_secs(3));
        guest.write_all(b"{\"return\": {}}\n").expect("said");
    });
    assert_eq!(verdict, Verdict::Done);
}

#[test]
fn what_an_earlier_conversation_left_is_skipped() {
    let verdict = against(|mut guest| {
        let mut reader = sync(&guest, b"{\"return\": 7}\n{\"return\": {}}\n");
        let mut line = String::new();
        reader.read_line(&mut line).expect("a command");
        guest.write_all(b"{\"return\": {}}\n").expect("said");
    });
    assert_eq!(verdict, Verdict::Done);
}

#[test]
fn late_answers_of_a_conversation_that_was_given_up_are_not_taken_for_this_one() {
    let (ids, numbers) = std::sync::mpsc::channel();
    let given_up = against(move |guest| {
        let mut line = Vec::new();
        BufReader::new(&guest).read_until(b'\n', &mut line).expect("a command");
        let text = String::from_utf8_lossy(&line).into_owned();
        let id: String = text.chars().filter(char::is_ascii_digit).collect();
        ids.send(id).expect("heard");
        thread::sleep(Duration::from_millis(PATIENCE_MS));
    });
    assert_eq!(given_up, Verdict::NotYet);
    let earlier = numbers.recv().expect("a number");
    let verdict = against(move |mut guest| {
        // Its answers come now, and the agent's complaint about the 0xFF that interrupted it.
        let late = format!("\u{1}{{\"return\": {earlier}}}\n{{\"error\": {{\"class\": \"x\"}}}}\n");
        let late: Vec<u8> = late.bytes().map(|b| if b == 1 { 0xff } else { b }).collect();
        let mut reader = sync(&guest, &late);
        let mut line = String::new();
        reader.read_line(&mut line).expect("a command");
        guest.write_all(b"{\"return\": {}}\n").expect("said");
    });
    assert_eq!(verdict, Verdict::Done);
}

#[test]
fn an_agent_that_refuses_is_told_apart_from_one_that_is_silent() {
    let refused = against(|mut guest| {
        let mut reader = sync(&guest, b"");
        let mut line = String::new();
        reader.read_line(&mut line).expect("a command");
        guest.write_all(b"{\"error\": {\"class\": \"GenericError\"}}\n").expect("said");
    });
    assert_eq!(refused, Verdict::Refused);
    let silent = against(|guest| {
        thread::sleep(Duration::from_secs(4));
        drop(guest);
    });
    assert_eq!(silent, Verdict::NotYet);
}

#[test]
fn floods_garbage_depth_and_early_ends_give_no_answer_and_nothing_worse() {
    let flood = against(|mut guest| {
        let block = [b'x'; 65536];
        for _ in 0..1000 {
            if guest.write_all(&block).is_err() {
                return;
            }
        }
    });
    assert_eq!(flood, Verdict::NotYet);
    let deep = against(|mut guest| {
        let _reader = sync(&guest, b"");
        let said = [b"{\"return\":".to_vec(), vec![b'['; 30_000], b"\n".to_vec()].concat();
        let _gone = guest.write_all(&said);
        thread::sleep(Duration::from_millis(200));
    });
    assert_eq!(deep, Verdict::NotYet);
    let early = against(drop);
    assert_eq!(early, Verdict::NotYet);
    let drip = against(|mut guest| {
        let mut byte = [0];
        let _asked = guest.read(&mut byte);
        for _ in 0..100 {
            if guest.write_all(b"{").is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(drip, Verdict::NotYet);
}

#[test]
fn the_child_does_not_run_as_root() {
    let program = env!("CARGO_BIN_EXE_nonstop-agent");
    let status = std::process::Command::new(program).args(["0", "0"]).status().expect("runs");
    assert_eq!(status.code(), Some(2));
}

/// The child that this process has started, found in /proc.
fn child() -> Option<String> {
    let me = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    processes.map(|process| process.path().display().to_string()).find(|path| {
        let stat = std::fs::read_to_string(format!("{path}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let confined = std::fs::read_to_string(format!("{path}/status"))
            .is_ok_and(|status| status.contains("Seccomp:\t2"));
        stat.contains("(nonstop-agent)") && fields.nth(1) == Some(&me) && confined
    })
}

/// Status, limits, interfaces, and whether its network is another than ours.
fn facts_of(path: &str) -> Option<(String, String, String, bool)> {
    let read = |file: &str| std::fs::read_to_string(format!("{path}/{file}")).ok();
    let network = |path: &str| std::fs::read_link(format!("{path}/ns/net")).ok();
    let elsewhere = network(path)? != network("/proc/self")?;
    Some((read("status")?, read("limits")?, read("net/dev")?, elsewhere))
}

#[test]
fn while_it_listens_the_child_can_do_nothing_else() {
    let (found, seen) = std::sync::mpsc::channel();
    let verdict = against(move |guest| {
        let asked = Instant::now();
        // A child of another test will do; it may be gone before it is read.
        let facts = loop {
            if let Some(facts) = child().and_then(|path| facts_of(&path)) {
                break facts;
            }
            assert!(asked.elapsed() < Duration::from_secs(1), "no confined child");
        };
        found.send(facts).expect("told");
        drop(guest);
    });
    assert_eq!(verdict, Verdict::NotYet);
    let (status, limits, interfaces, elsewhere) = seen.recv().expect("found");
    for fact in [
        "Uid:\t64102\t64102\t64102\t64102",
        "Gid:\t64102\t64102\t64102\t64102",
        "Groups:\t \n",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Threads:\t1",
    ] {
        assert!(status.contains(fact), "{fact:?} is not in {status}");
    }
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).expect("a limit");
        line[name.len()..].split_whitespace().next().map(str::to_owned)
    };
    assert_eq!(limit("Max processes").as_deref(), Some("0"));
    assert_eq!(limit("Max file size").as_deref(), Some("0"));
    assert_eq!(limit("Max address space").as_deref(), Some("67108864"));
    assert!(elsewhere && interfaces.lines().count() == 3, "loopback alone: {interfaces}");
}

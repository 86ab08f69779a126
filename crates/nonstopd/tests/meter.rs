//! What two sessions of one person exchange with two targets, counted by the real kernel: processes stand
//! in for sshd's, and move real bytes. Needs root.

use jiff::Timestamp;
use nonstop_store::{Db, NewAccount, NewSession};
use nonstopd::{Clock, SystemClock, flows::Meter, gateway::Gateway};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const UID: u32 = 70_901;
const MEGABYTE: usize = 1_000_000;

/// Not a test by itself: moves bytes as it is told, as a session's process would.
#[test]
fn mover() {
    if std::env::var_os("NONSTOP_TEST_MOVER").is_none() {
        return;
    }
    let mut held = Vec::new();
    println!("\nmover {}", std::process::id());
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let words: Vec<usize> = line.split(' ').map(|w| w.parse().expect("a number")).collect();
        let [port, there, back, hold] = words[..] else { panic!("{line}") };
        let mut stream = TcpStream::connect(("127.0.0.1", port as u16)).expect("connected");
        let mut head = [(there as u64).to_be_bytes(), (back as u64).to_be_bytes()].concat();
        head.resize(there.max(16), 7);
        let mut reading = stream.try_clone().expect("a second handle");
        let reader = thread::spawn(move || {
            let mut got = vec![0; back];
            reading.read_exact(&mut got).expect("received");
        });
        stream.write_all(&head).expect("sent");
        reader.join().expect("no panic");
        if hold == 1 {
            held.push(stream);
        }
        println!("\nmoved");
    }
}

/// A server that takes as much as it is told and gives as much.
fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listening");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut head = [0; 16];
                stream.read_exact(&mut head).expect("a head");
                let number = |at: usize| {
                    u64::from_be_bytes(head[at..at + 8].try_into().expect("eight")) as usize
                };
                let (there, back) = (number(0), number(8));
                let mut rest = vec![0; there.max(16) - 16];
                let mut writing = stream.try_clone().expect("a second handle");
                let writer = thread::spawn(move || writing.write_all(&vec![9; back]));
                stream.read_exact(&mut rest).expect("received");
                drop(writer.join());
                // Open for as long as the other side is.
                drop(stream.read(&mut [0]));
            });
        }
    });
    port
}

/// A session: a process that leads it, and its child under the account's uid.
struct Session {
    id: u64,
    child: u32,
    leader: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Session {
    fn new(db: &Db) -> Session {
        let me = std::env::current_exe().expect("this program");
        let script = format!(
            "setpriv --reuid {UID} --regid {UID} --clear-groups -- {} --exact mover --nocapture; true",
            me.display()
        );
        let mut leader = Command::new("sh")
            .args(["-c", &script])
            .env("NONSTOP_TEST_MOVER", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let new = NewSession {
            account: "alice".parse().expect("a name"),
            source: "192.0.2.1".into(),
            port: 1,
            fingerprint: String::new(),
            client: String::new(),
            pid: leader.id(),
            run: "run".into(),
        };
        let id = db.write("sshd", Timestamp::now(), |w| w.open_session(&new)).expect("recorded");
        let (orders, answers) = (leader.stdin.take().expect("in"), leader.stdout.take());
        let mut answers = BufReader::new(answers.expect("out"));
        let child = wait_for(&mut answers, "mover ").parse().expect("its number");
        Session { id, child, leader, orders, answers }
    }

    /// Moves bytes there and back, and has the daemon told as sshd tells.
    fn moves(&mut self, gateway: &Gateway, port: u16, there: usize, back: usize, hold: bool) {
        writeln!(self.orders, "{port} {there} {back} {}", u8::from(hold)).expect("told");
        wait_for(&mut self.answers, "moved");
        let target = format!("127.0.0.1:{port}");
        let heard = nonstop_api::heard::Heard::Forwarded { child: self.child, count: 1, target };
        gateway.take_in(vec![heard]).expect("taken");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(Command::new("kill").arg(self.child.to_string()).status());
        drop(self.leader.wait());
    }
}

fn wait_for(answers: &mut impl BufRead, begin: &str) -> String {
    for line in answers.lines() {
        if let Some(rest) = line.expect("a line").strip_prefix(begin) {
            return rest.into();
        }
    }
    panic!("the mover ended");
}

#[test]
fn bytes_are_counted_by_session_and_target_each_way_short_connections_and_a_restart_included() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Arc::new(Db::open(&dir.path().join("db"), Timestamp::now()).expect("opens"));
    let new = NewAccount {
        name: "alice".parse().expect("a name"),
        full_name: "Alice".into(),
        affiliation: String::new(),
        role: nonstop_model::Role::Staff,
        edition: None,
        sources: vec![],
        keys: vec![],
    };
    db.write("root", Timestamp::now(), |w| w.add_account(&new)).expect("added");
    let daemon = || {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (of, run) = (Arc::clone(&db), "run".to_string());
        let file = dir.path().join("flows.json");
        let meter = Arc::new(Meter::new(of, Arc::clone(&clock), run.clone(), UID..=UID, file));
        let counting = Arc::clone(&meter);
        // It counts until the test ends: one of before goes on beside, as no daemon would, and
        // writes the same.
        thread::spawn(move || counting.keep_counting());
        (Gateway::new(Arc::clone(&db), clock, run, Arc::clone(&meter)), meter)
    };
    let (gateway, _) = daemon();
    let (first_port, second_port) = (serve(), serve());
    let (mut one, mut two) = (Session::new(&db), Session::new(&db));
    thread::sleep(Duration::from_millis(500));
    for session in [&mut one, &mut two] {
        session.moves(&gateway, first_port, 5 * MEGABYTE, 6 * MEGABYTE, true);
        session.moves(&gateway, second_port, 10 * MEGABYTE, MEGABYTE, false);
        // Too short to be seen open.
        for _ in 0..20 {
            session.moves(&gateway, second_port, 5_000, 100_000, false);
        }
    }
    thread::sleep(Duration::from_secs(2));
    let (gateway, meter) = daemon();
    thread::sleep(Duration::from_secs(1));
    one.moves(&gateway, first_port, 5 * MEGABYTE, 4 * MEGABYTE, true);
    let begun = Instant::now();
    let near = |told: u64, right: usize| told.abs_diff(right as u64) * 100 <= right as u64;
    let first = format!("127.0.0.1:{first_port}");
    let second = format!("127.0.0.1:{second_port}");
    loop {
        let (ones, twos) = (meter.flows(one.id).0, meter.flows(two.id).0);
        let told = |flows: &nonstop_store::Flows, target: &str| {
            let flow = flows.get(target).copied().unwrap_or_default();
            (flow.bytes_in, flow.bytes_out, flow.connections)
        };
        let right = |told: (u64, u64, u64), there, back, connections| {
            near(told.0, there) && near(told.1, back) && told.2 == connections
        };
        if right(told(&ones, &first), 10 * MEGABYTE, 10 * MEGABYTE, 2)
            && right(told(&ones, &second), 10_100_000, 3_000_000, 21)
            && right(told(&twos, &first), 5 * MEGABYTE, 6 * MEGABYTE, 1)
            && right(told(&twos, &second), 10_100_000, 3_000_000, 21)
        {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "one: {ones:#?}\ntwo: {twos:#?}");
        thread::sleep(Duration::from_millis(100));
    }
}

//! A lab with a database, an authority and a clock of its own; the program under its user; a host that
//! heads are posted to.

use jiff::{SignedDuration, Timestamp};
use nonstop_api::{CheckItem, HeadView};
use nonstop_host::authority::Authority;
use nonstop_model::Lab;
use nonstop_store::{Db, StoreError, TraceFilter};
use nonstop_trace::Head;
use nonstopd::{
    Clock,
    heads::{self, Heads, Key},
    server::{self, Door},
};
use serde_json::json;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The user of the program, in tests.
pub(crate) const HEADS_UID: u32 = 64_917;

/// Waits until `done`.
pub(crate) fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A time that goes on when it is told.
pub(crate) struct Played(Mutex<Timestamp>);

impl Played {
    pub(crate) fn time(&self) -> Timestamp {
        *self.0.lock().expect("whole")
    }

    pub(crate) fn pass(&self, time: SignedDuration) {
        *self.0.lock().expect("whole") += time;
    }
}

impl Clock for Played {
    fn now(&self) -> Timestamp {
        self.time()
    }

    fn pause(&self, time: Duration) {
        thread::sleep(time);
    }
}

pub(crate) struct TestLab {
    dir: tempfile::TempDir,
    pub(crate) clock: Arc<Played>,
    db: Arc<Db>,
    authority: Arc<Authority>,
}

/// What runs in the daemon.
pub(crate) struct Serving<'a> {
    lab: &'a TestLab,
    pub(crate) heads: Arc<Heads>,
}

/// The program, killed when it is dropped.
pub(crate) struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().expect("ours");
        self.0.wait().expect("ours");
    }
}

/// A mount, taken away when it is dropped.
pub(crate) struct Mounted(pub(crate) String);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone = Command::new("umount").args(["-l", &self.0]).status();
    }
}

impl TestLab {
    pub(crate) fn new(name: &str) -> TestLab {
        // A file system whose folders can be append-only, and that others may pass through.
        let dir = tempfile::Builder::new().prefix(name).tempdir_in("/dev/shm").expect("a folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("opened");
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().expect("a time");
        let db = Db::open(&dir.path().join("nonstop.db"), now).expect("opens");
        let authority = Authority::open(&dir.path().join("authority"), "test").expect("made");
        TestLab {
            clock: Arc::new(Played(Mutex::new(now))),
            db: Arc::new(db),
            authority: Arc::new(authority),
            dir,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn folder(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("opened");
        path
    }

    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("runs");
        path
    }

    pub(crate) fn key(&self) -> Key {
        Key(Arc::clone(&self.authority))
    }

    /// The lab whose `trace.heads` are `heads`.
    pub(crate) fn lab(&self, heads: &str) -> Lab {
        let at = self.dir.path().display();
        let text = format!(
            "version: 1\nname: 解析室 test\nstate: {at}\nrun: {at}\ntrace:\n  heads: {heads}\n"
        );
        fs::write(self.path("lab.yaml"), &text).expect("written");
        fs::set_permissions(self.path("lab.yaml"), fs::Permissions::from_mode(0o644))
            .expect("readable");
        Lab::parse("lab.yaml", &text).expect("good")
    }

    /// So many rows more in the trace.
    pub(crate) fn work(&self, rows: u32) {
        for n in 0..rows {
            let written = self.db.write("alice", self.clock.time(), |w| {
                w.trace("environment.power", &"e1", json!({ "n": n }))
            });
            written.unwrap_or_else(|e: StoreError| panic!("{e}"));
        }
    }

    /// The daemon's part.
    pub(crate) fn serve(&self, heads: &str) -> Serving<'_> {
        let lab = self.lab(heads);
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let (db, authority) = (Arc::clone(&self.db), Arc::clone(&self.authority));
        let heads = Arc::new(Heads::new(&lab, db, clock, authority).expect("begins"));
        let listener =
            server::listen(&lab.heads_socket(), Some(HEADS_UID), 0o660).expect("listens");
        let door = Door::Heads { heads: Arc::clone(&heads), uid: HEADS_UID };
        thread::spawn(move || server::serve(&listener, &door));
        Serving { lab: self, heads }
    }

    /// The program, as its user.
    pub(crate) fn program(&self) -> Program {
        let mut program = Command::new(env!("CARGO_BIN_EXE_nonstop-heads"));
        program.arg("--lab").arg(self.path("lab.yaml")).stderr(Stdio::null());
        Program(program.uid(HEADS_UID).gid(HEADS_UID).spawn().expect("runs"))
    }
}

impl Serving<'_> {
    pub(crate) fn sign(&self) -> Head {
        let (db, now, key) = (&self.lab.db, self.lab.clock.time(), self.lab.key());
        let head = db.write("nonstopd", now, |w| w.sign_head(&key));
        head.unwrap_or_else(|e: StoreError| panic!("{e}")).expect("something new")
    }

    pub(crate) fn views(&self) -> Vec<HeadView> {
        let views = self.lab.db.read(|read| heads::views(read, 1000));
        views.unwrap_or_else(|e: StoreError| panic!("{e}"))
    }

    /// Places that lack a head, and why.
    pub(crate) fn lacking(&self) -> Vec<String> {
        self.views().into_iter().flat_map(|view| view.unsent).collect()
    }

    pub(crate) fn check(&self, what: &str) -> CheckItem {
        let items = self.lab.db.read(|read| heads::check(read, self.lab.clock.time()));
        let items = items.unwrap_or_else(|e: StoreError| panic!("{e}"));
        items.into_iter().find(|item| item.what.starts_with(what)).expect("it is checked")
    }

    /// What staff are told on every page.
    pub(crate) fn late(&self) -> Vec<String> {
        let late = self.lab.db.read(|read| heads::late_places(read, self.lab.clock.time()));
        late.unwrap_or_else(|e: StoreError| panic!("{e}"))
    }

    /// How often the trace says `action`.
    pub(crate) fn actions(&self, action: &str) -> usize {
        let filter = TraceFilter { action: Some(action.into()), ..TraceFilter::default() };
        let rows = self.lab.db.read(|read| read.trace_filtered(&filter, 1000));
        rows.unwrap_or_else(|e: StoreError| panic!("{e}")).len()
    }
}

/// A host that heads are posted to.
pub(crate) struct Web {
    port: u16,
    posted: Arc<Mutex<Vec<String>>>,
    refuses: Arc<AtomicBool>,
}

impl Web {
    pub(crate) fn start() -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let port = listener.local_addr().expect("an address").port();
        let web = Web { port, posted: Arc::default(), refuses: Arc::default() };
        let (posted, refuses) = (Arc::clone(&web.posted), Arc::clone(&web.refuses));
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.expect("a client");
                let mut reader = BufReader::new(client.try_clone().expect("cloned"));
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line).expect("read") > 2 {
                    if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                        length = n.trim().parse().expect("a number");
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("read");
                let status = if refuses.load(Ordering::SeqCst) {
                    "503 Away"
                } else {
                    posted.lock().expect("whole").push(String::from_utf8(body).expect("text"));
                    "201 Created"
                };
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _gone = client.write_all(answer.as_bytes());
            }
        });
        web
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/heads", self.port)
    }

    pub(crate) fn posted(&self) -> Vec<String> {
        self.posted.lock().expect("whole").clone()
    }

    pub(crate) fn refuse(&self, away: bool) {
        self.refuses.store(away, Ordering::SeqCst);
    }
}

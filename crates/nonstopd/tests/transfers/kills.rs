//! kill -9 at random during uploads and screenings, with real processes.

use crate::lab::{Client, E1, LAB, World, at, client_at, digest, wait};
use nonstop_api::airlock::{Answer, Ask, EntryKind};
use nonstop_model::{ExportState, Lab, Root};
use nonstop_store::{Db, Which};
use nonstopd::publisher::Steady;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

const DIR: &str = "NONSTOP_TEST_TRANSFERS";
const SLOW: &str = "NONSTOP_TEST_TRANSFERS_SLOW_MS";
const UPLOADS: usize = 200;

/// The daemon that is killed; by itself it is none.
#[test]
fn a_daemon_for_as_long_as_it_lives() {
    let Some(dir) = env::var_os(DIR).map(PathBuf::from) else { return };
    let world = World::at(&dir, LAB, Arc::new(Steady));
    world.peers.alone.store(true, Ordering::SeqCst);
    let slow = env::var(SLOW).ok().and_then(|ms| ms.parse().ok()).unwrap_or(15);
    *world.screener.slow.lock().expect("whole") = Duration::from_millis(slow);
    world.transfers.run().expect("threads");
    loop {
        thread::park();
    }
}

struct Daemon(Child);

impl Daemon {
    fn start(dir: &Path) -> Daemon {
        Daemon::slow(dir, 15)
    }

    /// One whose screenings take `ms` milliseconds.
    fn slow(dir: &Path, ms: u64) -> Daemon {
        let mut command = Command::new(env::current_exe().expect("this test"));
        command.args(["--exact", "kills::a_daemon_for_as_long_as_it_lives"]).env(DIR, dir);
        command.env(SLOW, ms.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Daemon(command.spawn().expect("started"))
    }

    fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn content(n: usize) -> Vec<u8> {
    let word = ["PASS", "HOLD", "BLOC"][n % 3];
    let mut bytes = format!("{word} {n} ").into_bytes();
    let length = 1 + (n * 7919) % 60_000;
    bytes.extend((0..length).map(|i| (i * n) as u8));
    bytes
}

/// Looks from outside as fast as it can: only what passed is ever seen, and whole.
fn peep(door: &Path, over: &AtomicBool, looks: &AtomicUsize) {
    let mut client: Option<Client> = None;
    while !over.load(Ordering::SeqCst) {
        let Some(alice) = client.take().or_else(|| client_at(door).ok()) else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let Ok(Answer::Entries(seen)) =
            alice.ask(Ask::List { place: at(E1, Root::Export, ""), after: None })
        else {
            continue;
        };
        for entry in seen {
            let name = entry.name.expect("a file").to_string();
            let n: usize = name[1..].parse().expect("one of ours");
            assert_eq!(n % 3, 0, "{name} did not pass");
            if let Ok(bytes) = alice.get(at(E1, Root::Export, &name)) {
                assert_eq!(bytes, content(n), "{name} is whole");
                let EntryKind::File { tag, .. } = entry.what else { panic!("a folder") };
                assert_eq!(tag, hex::encode(digest(&bytes)));
                looks.fetch_add(1, Ordering::SeqCst);
            }
        }
        client = Some(alice);
    }
}

#[test]
fn two_hundred_uploads_and_a_daemon_that_is_killed_at_random() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let (inside, outside) =
        (dir.path().join("run/inside.sock"), dir.path().join("run/outside.sock"));
    let known: Mutex<BTreeMap<usize, Vec<u8>>> = Mutex::default();
    let (next, over, looks) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    let mut daemon = Daemon::start(dir.path());
    let mut kills = 0;
    thread::scope(|scope| {
        let uploaders: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client: Option<Client> = None;
                    loop {
                        let n = next.fetch_add(1, Ordering::SeqCst);
                        if n >= UPLOADS {
                            return;
                        }
                        let bytes = content(n);
                        // Until it is acknowledged; a name that was taken before the daemon died is
                        // written anew.
                        loop {
                            let Some(machine) = client.take().or_else(|| client_at(&inside).ok())
                            else {
                                thread::sleep(Duration::from_millis(5));
                                continue;
                            };
                            let put = machine.put(at(E1, Root::Export, &format!("f{n}")), &bytes);
                            if put.is_ok() {
                                known.lock().expect("whole").insert(n, bytes);
                                client = Some(machine);
                                break;
                            }
                        }
                        thread::sleep(Duration::from_millis(40));
                    }
                })
            })
            .collect();
        let peeping = scope.spawn(|| peep(&outside, &over, &looks));
        let mut random = StdRng::seed_from_u64(8);
        while uploaders.iter().any(|uploader| !uploader.is_finished()) || kills < 15 {
            // The time to begin is not counted: each life is long enough to do something.
            wait("its doors", || client_at(&inside).ok());
            thread::sleep(Duration::from_millis(random.random_range(100..700)));
            daemon.kill();
            kills += 1;
            daemon = Daemon::start(dir.path());
        }
        for uploader in uploaders {
            uploader.join().expect("acknowledged");
        }
        thread::sleep(Duration::from_secs(2));
        over.store(true, Ordering::SeqCst);
        peeping.join().expect("only what passed was seen");
    });
    daemon.kill();
    assert!(kills >= 15 && looks.load(Ordering::SeqCst) > 0, "{kills} kills, {looks:?} looks");
    settled(dir.path(), &known.into_inner().expect("whole"));
}

/// What must hold in the end.
fn settled(dir: &Path, known: &BTreeMap<usize, Vec<u8>>) {
    let world = World::at(dir, LAB, Arc::new(Steady));
    world.peers.alone.store(true, Ordering::SeqCst);
    world.clock.move_on(10);
    wait("all exports to be done", || {
        world.transfers.work_off();
        let exports = world.db.read(|r| r.exports(None, None, Which::All)).expect("read");
        exports.iter().all(|e| !e.state.is_under_way()).then_some(())
    });
    assert_eq!(known.len(), UPLOADS);
    let exports = world.db.read(|r| r.exports(None, None, Which::All)).expect("read");
    let (machine, alice) = (world.machine(), world.alice());
    for (n, bytes) in known {
        let path = format!("f{n}");
        let sha256 = hex::encode(digest(bytes));
        let newest = exports.iter().filter(|e| e.path.as_str() == path).max_by_key(|e| e.version);
        let newest = newest.unwrap_or_else(|| panic!("{path} became no export"));
        let got = machine.get(at(E1, Root::Export, &path));
        match n % 3 {
            0 => {
                assert_eq!((newest.state, &got), (ExportState::Released, &Ok(bytes.clone())));
                assert_eq!(alice.get(at(E1, Root::Export, &path)).as_ref(), Ok(bytes));
            }
            1 => assert_eq!((newest.state, &got), (ExportState::Held, &Ok(bytes.clone()))),
            _ => {
                assert_eq!(newest.state, ExportState::Blocked, "{path}");
                assert!(got.is_err());
                let kept = world.lab.quarantine().join("exports").join(&sha256);
                assert_eq!(fs::read(kept).expect("kept").as_slice(), bytes);
                continue;
            }
        }
        assert_eq!(&fs::read(world.lab.trace_store().join(sha256)).expect("kept"), bytes);
    }
    let verified = world.db.read(|r| r.verify_trace()).expect("read");
    assert_eq!(verified.broken_at, None);
    let trace = world.trace();
    for export in &exports {
        let of_it = |action: &str| {
            let id = export.id.to_string();
            trace.iter().filter(|row| row.subject == id && row.action == action).count()
        };
        let released = usize::from(export.released_at.is_some());
        assert_eq!((of_it("export.release"), of_it("test.seal")), (released, released));
        assert!(of_it("export.submit") >= 1, "{} has no beginning", export.id);
    }
    crate::sweep::nothing_left_over(&world, "in the end");
}

#[test]
fn what_was_being_screened_when_the_daemon_was_killed_is_screened_once_more_and_no_oftener() {
    const KILLS: usize = 3;
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let inside = dir.path().join("run/inside.sock");
    let mut daemon = Daemon::slow(dir.path(), 60_000);
    let machine = wait("a door", || client_at(&inside).ok());
    for (name, bytes) in [("a", &b"fine"[..]), ("b", b"HOLD"), ("c", b"BLOCKED")] {
        machine.put(at(E1, Root::Export, name), bytes).expect("put");
    }
    let lab = Lab::parse("lab.yaml", LAB).expect("valid");
    let database = dir.path().join("state").join(lab.database().file_name().expect("a name"));
    let begun = |path: &Path| {
        let db = Db::open(path, jiff::Timestamp::now()).expect("opens");
        let rows = db.read(|r| r.trace_rows(10_000)).expect("rows");
        rows.iter().filter(|row| row.action == "export.screen").count()
    };
    for kill in 0..KILLS {
        // A look into the database is taken between daemons alone: two at once are none.
        thread::sleep(Duration::from_secs(3));
        daemon.kill();
        assert!(begun(&database) > kill, "something was being screened at each kill");
        daemon = Daemon::slow(dir.path(), if kill + 1 == KILLS { 15 } else { 60_000 });
    }
    // Long enough for the daemon to look three times for what is not being screened.
    thread::sleep(Duration::from_secs(16));
    daemon.kill();
    let world = World::at(dir.path(), LAB, Arc::new(Steady));
    let exports = world.db.read(|r| r.exports(None, None, Which::All)).expect("read");
    let states: Vec<_> = exports.iter().rev().map(|export| export.state).collect();
    assert_eq!(states, [ExportState::Released, ExportState::Held, ExportState::Blocked]);
    for export in &exports {
        let screened = world.actions(&export.id.to_string());
        let screened = screened.iter().filter(|action| *action == "export.screen").count();
        assert!((1..=KILLS + 1).contains(&screened), "{}: {screened} times", export.id);
    }
}

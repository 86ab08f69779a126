//! Samples that go by a guest's agent: what comes of it is told, and nothing is left behind.

use super::{refusals::HERS, world::*};
use nonstop_api::{
    Request,
    samples::{Order, OrderedItem},
};
use nonstop_host::{Host, HostError, Kept, Outcome, Put, PutVerdict};
use nonstop_model::{EnvironmentId, InjectBy, Injection, InjectionId, InjectionState, MachineId};
use nonstop_plan::{Observed, Step};
use nonstop_store::{FactsAt, Write};
use nonstopd::Clock;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;
use std::{
    fs::{self, File},
    io::Read,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

const J1: InjectionId = InjectionId(1);
const IMPORT: &str = "/home/researcher/Import";
const DONE: Put = Put { verdict: PutVerdict::Done, written: 6, kept: Kept::Bytes(6) };
const SILENT: Put = Put { verdict: PutVerdict::Silent, written: 0, kept: Kept::Unknown };

/// A sample is wanted by the agent of alice's guest, under two names.
fn begun() -> (World, EnvironmentId) {
    let (world, id) = granted();
    wanted(&world, id);
    (world, id)
}

fn granted() -> (World, EnvironmentId) {
    let world = World::new();
    world.has("intermediate", HERS, Some(6));
    let id = world.grant("alice", Some("intermediate"), AGENT);
    world.settle();
    (world, id)
}

fn wanted(world: &World, id: EnvironmentId) -> InjectionId {
    let samples = [(HERS, Some("a.exe")), (HERS, Some("b.exe"))];
    world.inject("alice", id, InjectBy::Agent, &samples).expect("hers").id
}

impl World {
    fn injection(&self, id: InjectionId) -> Injection {
        self.lab.daemon.db.read(|r| r.injection(id)).expect("there")
    }

    /// Gives what is wanted to a guest whose agent does `act`; tells what came of it.
    fn give(
        &self,
        act: impl Fn(MachineId, &str, &File) -> Put + Send + Sync + 'static,
    ) -> Injection {
        let host: Arc<dyn Host> = Arc::new(Guests(Arc::clone(&self.lab.host) as _, act));
        let unbegun = self.lab.daemon.db.read(|r| r.unbegun_injections()).expect("read");
        let wanted = unbegun.iter().find(|one| one.state == InjectionState::Preparing);
        let id = wanted.expect("one is wanted").id;
        self.injector(host).give_and_tell(&self.injection(id));
        self.injection(id)
    }

    /// Why it fails, after which nothing more lies about than before.
    fn fails(&self, act: impl Fn(MachineId, &str, &File) -> Put + Send + Sync + 'static) -> String {
        let before = self.lying();
        let told = self.give(act);
        assert_eq!(told.state, InjectionState::Failed, "{told:?}");
        assert_eq!((told.there_at, self.lying()), (None, before));
        assert_eq!(self.rows().last().expect("rows").action, "sample.failed");
        told.failure.expect("a reason")
    }
}

#[test]
fn each_file_is_given_whole_and_the_guests_words_are_kept_as_such() {
    let (world, id) = begun();
    let given = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&given);
    let told = world.give(move |machine, path, mut file| {
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        taken.lock().expect("whole").push((machine, path.to_string(), text));
        DONE
    });
    let machine = world.debuggee(id);
    let file = |name: &str| (machine, format!("{IMPORT}/{name}"), "sample".to_string());
    assert_eq!(*given.lock().expect("whole"), [file("a.exe"), file("b.exe")]);
    assert_eq!(told.state, InjectionState::There);
    let says = told.guest_says.expect("words");
    assert_eq!(says, format!("it wrote 2 file(s), 12 bytes, in {IMPORT}"));
    assert_eq!(world.rows().last().expect("rows").action, "sample.there");
}

#[test]
fn a_guest_that_has_something_else_there_afterwards_is_quoted() {
    for (kept, doubt) in [
        (Kept::Unknown, String::new()),
        (Kept::Bytes(2), format!("; {IMPORT}/b.exe has 2 bytes there, and not 6")),
        (Kept::Unreadable, format!("; it cannot open {IMPORT}/b.exe any more")),
    ] {
        let (world, _) = begun();
        let told = world.give(move |_, path, _| match path.ends_with("a.exe") {
            true => DONE,
            false => Put { kept, ..DONE },
        });
        assert_eq!(told.state, InjectionState::There);
        let says = told.guest_says.expect("words");
        assert_eq!(says, format!("it wrote 2 file(s), 12 bytes, in {IMPORT}{doubt}"));
    }
}

#[test]
fn where_it_is_asked_for_a_zip_goes_under_its_name() {
    let (world, id) = granted();
    let order = world.path("order");
    world.take(&format!("printf %s \"$question\" >{}\n{TAKE}", order.display()));
    let samples = vec![nonstop_api::samples::InjectItem { sha256: HERS.into(), name: None }];
    let request =
        Request::SampleInject { environment: id, samples, by: InjectBy::Agent, zip: true };
    world.ask("alice", request).expect("hers");
    let told = world.give(|_, path, _| {
        assert_eq!(path, format!("{IMPORT}/{HERS}.bin.zip"));
        DONE
    });
    assert_eq!(told.state, InjectionState::There, "{told:?}");
    // The real program does so: `give::` of its own tests.
    let order = fs::read_to_string(order).expect("ordered");
    let order: Order = serde_json::from_str(&order).expect("an order");
    let item =
        OrderedItem { sha256: HERS.into(), name: format!("{HERS}.bin"), bytes: 6, zip: true };
    assert_eq!(order.items, [item]);
}

#[test]
fn what_an_agent_does_not_do_is_told_as_what_it_is() {
    let put = |verdict, written| move |_: MachineId, _: &str, _: &File| Put::new(verdict, written);
    let (world, id) = begun();
    let tell = |verdict, why: &str, says: Option<&str>| {
        let told = world.fails(put(verdict, 2));
        assert!(told.contains(why), "{told}");
        let last = world.lab.daemon.db.read(|r| r.injections(Some(id), 1)).expect("read").remove(0);
        assert_eq!(last.guest_says.as_deref(), says);
        wanted(&world, id);
    };
    let part = format!("it wrote 2 of 6 bytes of {IMPORT}/a.exe");
    tell(PutVerdict::Silent, "agent does not answer", None);
    tell(
        PutVerdict::NotOpened,
        "could not make the file",
        Some("it cannot open /home/researcher/Import/a.exe"),
    );
    tell(PutVerdict::NotWritten, "is the guest's disk full?", Some(&part));
    tell(PutVerdict::BrokeOff, "broke off", Some(&part));
}

#[test]
fn an_agent_that_does_not_answer_is_asked_a_few_times() {
    let (world, id) = begun();
    let asked = Arc::new(Mutex::new(0));
    let counts = Arc::clone(&asked);
    let why = world.fails(move |_, _, _| {
        *counts.lock().expect("whole") += 1;
        SILENT
    });
    assert!(why.contains("does not answer"), "{why}");
    assert_eq!(*asked.lock().expect("whole"), 4);
    // One that is just being started is waited for, and has the file from its first byte.
    wanted(&world, id);
    let asked = Mutex::new(0);
    let told = world.give(move |_, _, mut file| {
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "sample");
        let mut asked = asked.lock().expect("whole");
        *asked += 1;
        if *asked < 3 { SILENT } else { DONE }
    });
    assert_eq!(told.state, InjectionState::There);
}

#[test]
fn what_writes_samples_out_may_fail_say_nonsense_die_or_lie() {
    let (world, id) = begun();
    let other = "b2".repeat(32);
    for (take, why) in [
        (
            r#"echo '{"error":"the sample is not what its name says"}'"#.to_string(),
            "not what its name says",
        ),
        (r#"printf x >/proc/self/fd/3; echo nonsense"#.into(), "said what cannot be"),
        (r#"printf x >/proc/self/fd/3; exit 1"#.into(), "gave no answer"),
        ("kill -9 $$".into(), "gave no answer"),
        (
            format!(
                r#"printf x >/proc/self/fd/3
            echo '{{"bytes":1,"items":[{{"sha256":"{other}","name":"a","bytes":1}}]}}'"#
            ),
            "said what cannot be",
        ),
        (
            format!(
                r#"printf x >/proc/self/fd/3
            echo '{{"bytes":6,"items":[{{"sha256":"{HERS}","name":"a","bytes":6}}]}}'"#
            ),
            "said what cannot be",
        ),
        ("head -c 200000 /dev/zero | tr '\\0' '['".into(), "gave no answer"),
    ] {
        world.take(&take);
        let told = world.fails(|_, _, _| panic!("the guest is given nothing"));
        assert!(told.contains(why), "{take}: {told}");
        wanted(&world, id);
    }
}

#[test]
fn an_agent_is_given_nothing_of_which_the_begin_is_not_written_down() {
    let (world, _) = begun();
    let to_give = || {
        let all = world.lab.daemon.db.read(|r| r.injections_to_give()).expect("read");
        all.into_iter().map(|injection| injection.id).collect::<Vec<_>>()
    };
    assert_eq!(to_give(), []);
    let now = world.lab.clock.now();
    let begin = |w: &mut Write<'_>| w.injection_witnessed(J1, FactsAt::Begin, &json!({}));
    world.lab.daemon.db.write("nonstopd", now, begin).expect("written");
    assert_eq!(to_give(), [J1]);
}

#[test]
fn what_hangs_is_ended_with_all_that_it_started() {
    let (world, _) = begun();
    let pids = world.path("pids");
    world.take(&format!("echo $$ >{0}; sleep 600 & echo $! >>{0}; wait", pids.display()));
    let began = Instant::now();
    let told = world.fails(|_, _, _| panic!("the guest is given nothing"));
    assert!(told.contains("gave no answer within 6 s"), "{told}");
    assert!(began.elapsed() < Duration::from_secs(20), "took {:?}", began.elapsed());
    let pids = fs::read_to_string(pids).expect("it had begun");
    assert_eq!(pids.lines().count(), 2);
    let lives = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        !status.is_empty() && !status.contains("State:\tZ")
    };
    until(Duration::from_secs(5), || !pids.lines().any(lives));
}

/// A file system of one MiB, for as long as it is held.
struct Small(std::path::PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let _gone = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left_on_it() {
    let (mut world, _) = begun();
    let small = world.path("small");
    fs::create_dir(&small).expect("a folder");
    mount("tmpfs", &small, "tmpfs", MountFlags::empty(), c"size=1m").expect("mounted");
    let small = Small(small);
    // Where files without a name are made; the database lies where it was.
    world.lab.lab.state = small.0.clone();
    world.take(
        "head -c 4000000 /dev/zero 2>/dev/null >/proc/self/fd/3 || \
         echo '{\"error\":\"write it out: No space left on device\"}'",
    );
    let told = world.fails(|_, _, _| panic!("the guest is given nothing"));
    assert!(told.contains("No space left on device"), "{told}");
    let stat = rustix::fs::statvfs(&small.0).expect("asked");
    assert_eq!(stat.f_bavail, stat.f_blocks, "all of it is free again");
}

#[test]
fn a_guest_that_was_reverted_meanwhile_is_not_given_what_was_for_the_one_before() {
    for silent in [true, false] {
        let (world, id) = begun();
        let world = Arc::new(world);
        let given = Arc::new(Mutex::new(Vec::new()));
        let (reverts, tells) = (Arc::clone(&world), Arc::clone(&given));
        let told = world.give(move |_, path, _| {
            tells.lock().expect("whole").push(path.to_string());
            // Its researcher has had enough, and a clean guest runs.
            reverts.revert(id);
            reverts.settle();
            if silent { SILENT } else { DONE }
        });
        assert_eq!((told.state, told.ended_by.as_deref()), (InjectionState::Ended, Some("revert")));
        assert_eq!(*given.lock().expect("whole"), [format!("{IMPORT}/a.exe")]);
        // What the one before had taken is said of it all the same.
        let last = world.rows().last().expect("rows").action.clone();
        let says = (!silent).then(|| format!("it wrote 1 file(s), 6 bytes, in {IMPORT}"));
        assert_eq!(last, if silent { "sample.not_taken" } else { "sample.said" });
        assert_eq!(told.guest_says, says);
    }
}

/// A guest that takes what it is given for as long as that is wanted, and says how far it got.
struct Slow {
    host: Arc<dyn Host>,
    begun: mpsc::SyncSender<()>,
    released: Mutex<mpsc::Receiver<()>>,
}

impl Host for Slow {
    fn observe(&self) -> Result<Observed, HostError> {
        self.host.observe()
    }

    fn apply(&self, step: &Step) -> Result<Outcome, HostError> {
        self.host.apply(step)
    }

    fn play_recording(&self, id: u64) -> Result<OwnedFd, HostError> {
        self.host.play_recording(id)
    }

    fn put_file(
        &self,
        _: MachineId,
        _: &str,
        _: &File,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Put, HostError> {
        self.begun.send(()).expect("somebody waits");
        until(Duration::from_secs(60), || !wanted());
        self.released.lock().expect("whole").recv().expect("it may end");
        Ok(Put::new(PutVerdict::BrokeOff, 2))
    }
}

#[test]
fn what_is_taken_back_on_its_way_ends_at_once_and_what_had_arrived_stays_known() {
    let (world, id) = begun();
    let ((begun, has_begun), (release, released)) = (mpsc::sync_channel(1), mpsc::channel());
    let host = Arc::clone(&world.lab.host) as Arc<dyn Host>;
    let slow = Slow { host, begun, released: Mutex::new(released) };
    let injector = world.injector(Arc::new(slow));
    injector.look().expect("looked");
    has_begun.recv_timeout(Duration::from_secs(60)).expect("it is given");
    world.ask("alice", Request::SampleEject { environment: id }).expect("hers");
    assert_eq!(world.injection(J1).state, InjectionState::Ended);
    // Its child may still be at it: nothing else is begun with this guest.
    let no = world.inject("alice", id, InjectBy::Agent, &[(HERS, None)]).expect_err("not yet");
    assert!(no.message.contains("j1 is just being put before this guest"), "{no:?}");
    let name = "one".parse().expect("a name");
    let no = world.ask("alice", Request::SnapshotTake { id, name, role: None });
    assert!(no.is_err_and(|no| no.message.contains("j1 is just being put")));
    release.send(()).expect("it waits");
    until(Duration::from_secs(60), || world.injection(J1).guest_says.is_some());
    let told = world.injection(J1);
    assert_eq!((told.state, told.ended_by.as_deref()), (InjectionState::Ended, Some("eject")));
    let says = told.guest_says.expect("words");
    assert_eq!(says, format!("it wrote 2 of 6 bytes of {IMPORT}/a.exe"));
    let no = || world.inject("alice", id, InjectBy::Agent, &[(HERS, None)]).err();
    until(Duration::from_secs(60), || no().is_none());
    // It lasts until the guest is another: a part of it is there.
    injector.look().expect("looked");
    let record = world.record("alice", J1).expect("it lasts");
    assert!(record.contains("\"until\": null") && record.contains("2 of 6 bytes"), "{record}");
}

#[test]
fn a_guest_that_hangs_delays_its_own_injection_alone() {
    let (world, hangs) = begun();
    let good = world.grant("alice", Some("intermediate"), AGENT);
    world.settle();
    let second = wanted(&world, good);
    let (release, held) = mpsc::channel::<()>();
    let (held, hanging) = (Mutex::new(held), world.debuggee(hangs));
    let host =
        Guests(Arc::clone(&world.lab.host) as Arc<dyn Host>, move |machine, _: &str, _: &File| {
            if machine == hanging {
                let _released = held.lock().expect("whole").recv();
                return Put::new(PutVerdict::BrokeOff, 0);
            }
            DONE
        });
    let injector = world.injector(Arc::new(host));
    let comes_to = |id, state| {
        until(Duration::from_secs(10), || {
            injector.look().expect("looked");
            world.injection(id).state == state
        });
    };
    comes_to(second, InjectionState::There);
    assert_eq!(world.injection(J1).state, InjectionState::Preparing);
    drop(release);
    comes_to(J1, InjectionState::Failed);
}

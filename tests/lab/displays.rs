//! The desktop from the hypervisor's display: what it shows, what it refuses, whom it disturbs.

use anyhow::{Context, Result, bail, ensure};
use nonstop_testkit::{
    pc::Pc,
    picture::Picture,
    place::wait_for,
    rdp::{Desktop, Session},
    ssh::{Forward, Tunnel},
};
use nonstop_tests::{Environment, World, has_text};
use serde_json::Value;
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// A client at a display, through its person's tunnel.
pub(crate) struct Looking {
    pub(crate) session: Session,
    pub(crate) tunnel: Tunnel,
}

/// Where the display of `environment` is, and the fingerprint of its certificate.
pub(crate) fn display(world: &World, environment: &Environment) -> Result<(String, u16, String)> {
    let shown = world.lab.cli(&["environment", "show", &environment.id])?;
    let desktop = &shown["machines"][0]["desktop"];
    let word = |key: &str| desktop[key].as_str().map(str::to_owned).context("no such word");
    let port = desktop["port"].as_u64().context("no port")?.try_into()?;
    Ok((word("address")?, port, word("fingerprint")?))
}

/// Opens a client of the owner's at its display.
pub(crate) fn look(
    world: &World,
    pc: &Pc,
    port: u16,
    environment: &Environment,
) -> Result<Looking> {
    let (address, its_port, fingerprint) = display(world, environment)?;
    let forward = Forward { port, target: format!("{address}:{its_port}") };
    let tunnel = pc.tunnel(&world.host_key()?, &[forward])?;
    let desktop =
        Desktop { port, fingerprint: Some(&fingerprint), user: "researcher", password: "" };
    let folder = world.lab.dir().join(format!("look-{port}"));
    let session = Session::open(&pc.place(), &desktop, &folder)?;
    Ok(Looking { session, tunnel })
}

/// Waits until the picture is as wanted; gives it and how long that took.
pub(crate) fn see(
    looking: &mut Looking,
    what: &str,
    is: impl Fn(&Picture) -> bool,
) -> Result<(Picture, Duration)> {
    let began = Instant::now();
    let picture = wait_for(what, Duration::from_secs(30), || {
        if let Some(ended) = looking.session.ended()? {
            return Ok(Some(Err(anyhow::anyhow!("the client ended with {ended}"))));
        }
        let picture = looking.session.picture()?;
        if is(&picture) {
            return Ok(Some(Ok(picture)));
        }
        picture.write_png(Path::new(LAST))?;
        bail!("the last picture is {LAST}; the client said: {}", looking.session.said())
    })??;
    Ok((picture, began.elapsed()))
}

/// The last picture that was not as wanted.
const LAST: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/displays-last.png");

fn pids(world: &World, role: &str) -> Result<Vec<u32>> {
    let line = format!("pgrep -f '[n]onstop-rdp {role} ' || true");
    let said = world.lab.enter(&["sh", "-c", &line])?;
    Ok(said.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

fn signal(world: &World, signal: &str, pid: u32) -> Result<()> {
    world.lab.enter(&["kill", &format!("-{signal}"), &pid.to_string()]).map(drop)
}

/// Resident memory of a process of the lab's host, in MiB.
fn resident_mib(world: &World, pid: u32) -> Result<u64> {
    let status = world.lab.enter(&["cat", &format!("/proc/{pid}/status")])?;
    let line = status.lines().find(|l| l.starts_with("VmRSS")).context("no VmRSS")?;
    let kib: u64 = line.split_ascii_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024)
}

pub(crate) fn trace_of(world: &World, action: &str) -> Result<Vec<Value>> {
    let rows = world.lab.cli(&["trace", "list"])?;
    let rows = rows.as_array().context("no rows")?;
    Ok(rows.iter().filter(|row| row["action"] == action).cloned().collect())
}

/// A guest whose text screen scrolls without end.
const FLOOD: &str = "(while :; do dmesg; done > /dev/tty0 2>/dev/null &) ; true";

#[test]
fn a_screen_is_seen_typed_at_counted_and_cut() -> Result<()> {
    let world = World::new("screen")?;
    let alice = world.lab.researcher("alice", 10)?;
    let environment = world.environment("alice", "screen")?;
    let mut looking = look(&world, &alice, 4001, &environment)?;
    let mut shell = world.shell(&environment)?;
    shell.run("for i in 1 2 3 4 5 6 7 8; do echo 'WWWWWWWWWWWWWWWWWWWWWWWW'; done > /dev/tty0")?;
    see(&mut looking, "text of the guest's screen", has_text)?;

    // Keys arrive as the guest's keyboard's.
    looking.session.tool(&["mousemove", "200", "200", "click", "1"])?;
    // A guest that gets no processor for long takes a held key for a repeated one: typed again then.
    let arrived = (0..3).any(|_| {
        let typed = looking
            .session
            .tool(&["type", "--delay", "60", "echo ab >/tmp/typed"])
            .and_then(|_| looking.session.tool(&["key", "Return"]));
        let arrived = wait_for("what was typed to arrive", Duration::from_secs(15), || {
            Ok(shell.run("cat /tmp/typed 2>&1 || true")?.starts_with("ab").then_some(()))
        });
        typed.and(arrived).is_ok()
    });
    ensure!(arrived, "what was typed does not arrive");

    // A viewer whose right has ended gets no further frame: its connection is gone at once.
    world.lab.cli(&["account", "suspend", "alice", "--reason", "lost card"])?;
    let asked = Instant::now();
    wait_for("the client to be cut off", Duration::from_secs(5), || looking.session.ended())?;
    println!("cut {:?} after the suspension was committed", asked.elapsed());
    wait_for("its worker to be gone", Duration::from_secs(1), || {
        Ok(pids(&world, "worker")?.is_empty().then_some(()))
    })?;
    assert_eq!(trace_of(&world, "desktop.open")?.len(), 1);
    let closed = wait_for("the session's figures", Duration::from_secs(20), || {
        Ok(trace_of(&world, "desktop.close")?.pop())
    })?;
    let figure = |name: &str| closed["detail"][name].as_u64().unwrap_or(0);
    assert!(figure("frames") > 0 && figure("bytes_out") > 1000, "{closed}");
    assert!(figure("keys_in") >= 3, "{closed}");
    Ok(())
}

#[test]
fn servers_of_the_guests_own_in_place_of_rdp_get_nothing_out() -> Result<()> {
    let world = World::new("no-bytes")?;
    let alice = world.lab.researcher("alice", 10)?;
    let console = world.environment("alice", "screen")?;
    let raw = world.environment("alice", "probe")?;
    for environment in [&console, &raw] {
        let mut shell = world.shell(environment)?;
        shell
            .run("for p in 3389 22 80; do (nc -ll -p $p -e cat >/dev/null 2>&1 &) ; done ; true")?;
    }
    let (address, port, _) = display(&world, &console)?;
    let targets = [
        (6001, format!("{address}:{port}")),
        (6002, format!("{}:3389", console.address)),
        (6003, format!("{}:22", console.address)),
        (6004, format!("{}:80", console.address)),
        (6005, format!("{address}:3390")),
        (6006, format!("{}:3389", raw.address)),
    ];
    let forwards: Vec<Forward> = targets
        .iter()
        .map(|(port, target)| Forward { port: *port, target: target.clone() })
        .collect();
    let _tunnel = alice.tunnel(&world.host_key()?, &forwards)?;
    // The same through a guest's own server: what the raw way lets out.
    let began = Instant::now();
    let echoed = wait_for("the raw way", Duration::from_secs(20), || {
        let echoed = echo(&alice, 6006)?;
        Ok((echoed == SENT).then_some(echoed))
    })?;
    println!("rdp: guest: {echoed} bytes came back in {:?}", began.elapsed());
    for (port, target) in &targets[..5] {
        assert_eq!(echo(&alice, *port)?, 0, "bytes came back through {target}");
    }
    // Nor does the tunnel's own uid on the host get anywhere near the guest.
    let uid = world.lab.cli(&["account", "show", "alice"])?["uid"].as_u64().context("no uid")?;
    for port in [3389, 22, 80] {
        let line = format!(
            "setpriv --reuid {uid} --regid {uid} --clear-groups nc -z -w 2 {} {port} && echo open; true",
            console.address
        );
        let said = world.lab.enter(&["sh", "-c", &line])?;
        assert!(!said.contains("open"), "reached port {port} of the guest");
    }
    Ok(())
}

const SENT: usize = 1 << 20;

/// How many of a million bytes sent to `port` come back the same.
fn echo(pc: &Pc, port: u16) -> Result<usize> {
    let program = format!(
        "import socket,threading\n\
         data=bytes(range(256))*4096\n\
         got=b''\n\
         try:\n s=socket.create_connection(('127.0.0.1',{port}),3)\n s.settimeout(3)\n \
         threading.Thread(target=lambda: s.sendall(data),daemon=True).start()\n \
         while len(got)<len(data):\n  b=s.recv(65536)\n  if not b: break\n  got+=b\n\
         except OSError: pass\n\
         n=0\n\
         while n<len(got) and got[n]==data[n]: n+=1\n\
         print(n)\n"
    );
    let output = pc.output(&["python3", "-c", &program])?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    said.parse().with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_power_cycle_keeps_the_session_and_a_killed_qemu_comes_back_in_it() -> Result<()> {
    let world = World::new("keeps-session")?;
    let alice = world.lab.researcher("alice", 10)?;
    let environment = world.environment("alice", "screen")?;
    let mut looking = look(&world, &alice, 4001, &environment)?;
    let mut shell = world.shell(&environment)?;
    shell.run("for i in 1 2 3 4 5 6 7 8 9; do echo WWWWWWWWWWWWWWWWWWWWWWWWWW; done >/dev/tty0")?;
    let (before, _) = see(&mut looking, "text of the guest's screen", has_text)?;
    drop(shell);

    let id = environment.id.as_str();
    world.lab.cli(&["environment", "power", id, "off"])?;
    see(&mut looking, "the machine to be shown off", |p| p.difference(&before) > 0.01)?;
    world.machine_in(id, "off")?;
    world.lab.cli(&["environment", "power", id, "on"])?;
    let (off, _) = see(&mut looking, "a picture", |_| true)?;
    let (_, boot) = see(&mut looking, "the boot", |p| p.difference(&off) > 0.005)?;
    println!("power on to the first changed picture: {boot:?}");
    world.machine_in(id, "ready")?;

    world.lab.enter(&["pkill", "-KILL", "qemu-system-x86"])?;
    thread::sleep(Duration::from_millis(500));
    world.machine_in(id, "ready")?;
    let mut shell = world.shell(&environment)?;
    shell.run("for i in 1 2 3 4 5 6 7 8 9; do echo WWWWWWWWWWWWWWWWWWWWWWWWWW; done >/dev/tty0")?;
    see(&mut looking, "text after QEMU was killed", has_text)?;
    if let Some(ended) = looking.session.ended()? {
        bail!("the session did not last: {ended}");
    }
    Ok(())
}

#[test]
fn who_stops_floods_or_knocks_at_one_display_disturbs_no_machine() -> Result<()> {
    let world = World::new("disturbs-nobody")?;
    let alice = world.lab.researcher("alice", 10)?;
    let bob = world.lab.researcher("bob", 11)?;
    let of_alice = world.environment("alice", "screen")?;
    let brokers = pids(&world, "broker")?;
    let [broker] = brokers[..] else { bail!("brokers: {brokers:?}") };
    let of_bob = world.environment("bob", "screen")?;
    let mut alices = look(&world, &alice, 4001, &of_alice)?;
    let mut bobs = look(&world, &bob, 4002, &of_bob)?;
    let mut shell_a = world.shell(&of_alice)?;
    let mut shell_b = world.shell(&of_bob)?;
    shell_b.run("for i in 1 2 3 4 5 6 7 8 9; do echo WWWWWWWWWWWWWWWWWWWW; done >/dev/tty0")?;
    see(&mut bobs, "bob's text", has_text)?;
    shell_a.run(FLOOD)?;
    see(&mut alices, "alice's text", has_text)?;
    let qemu = |world: &World| -> Result<u32> {
        let all = world.lab.enter(&["pgrep", "-o", "qemu-system-x86"])?;
        Ok(all.trim().parse()?)
    };
    let qemu = qemu(&world)?;
    let before = resident_mib(&world, qemu)?;

    // The client stops reading.
    let client = alices.session.pid().to_string();
    nonstop_testkit::place::Place::here().run(&["kill", "-STOP", &client])?;
    thread::sleep(Duration::from_secs(6));
    answers(&mut shell_a, "alice's, whose client is stopped")?;
    nonstop_testkit::place::Place::here().run(&["kill", "-CONT", &client])?;
    // The worker stops.
    let worker = *pids(&world, "worker")?.first().context("no worker")?;
    signal(&world, "STOP", worker)?;
    thread::sleep(Duration::from_secs(4));
    answers(&mut shell_a, "alice's, whose worker is stopped")?;
    answers(&mut shell_b, "bob's")?;
    signal(&world, "CONT", worker)?;
    // The broker stops: it is ended within seconds, and the display served anew.
    signal(&world, "STOP", broker)?;
    let stopped = Instant::now();
    wait_for("another broker", Duration::from_secs(8), || {
        let now = pids(&world, "broker")?;
        Ok((now.len() == 2 && !now.contains(&broker)).then_some(()))
    })?;
    println!("a stopped broker was replaced after {:?}", stopped.elapsed());
    answers(&mut shell_a, "alice's, whose broker was stopped")?;
    world.ready(&of_alice.id)?;
    drop(alices);
    let mut alices = look(&world, &alice, 4003, &of_alice)?;
    see(&mut alices, "alice's text, served anew", has_text)?;

    // A thousand connects a second, and garbage.
    let uid = world.lab.cli(&["account", "show", "alice"])?["uid"].as_u64().context("no uid")?;
    let (address, port, _) = display(&world, &of_alice)?;
    let said = world.lab.enter(&[
        "setpriv",
        "--reuid",
        &uid.to_string(),
        "--regid",
        &uid.to_string(),
        "--clear-groups",
        "/usr/bin/python3",
        "-c",
        &knocking(&address, port),
    ])?;
    println!("knocked: {}", said.trim());
    answers(&mut shell_a, "alice's, under knocking")?;
    answers(&mut shell_b, "bob's, under knocking")?;
    shell_b.run("echo; for i in 1 2 3 4 5 6 7 8 9; do echo MMMMMMMMMMMMMMM; done >/dev/tty0")?;
    see(&mut bobs, "bob's text, still", has_text)?;
    let after = resident_mib(&world, qemu)?;
    println!("QEMU: {before} MiB before, {after} MiB after");
    assert!(after < before + 64, "QEMU grew from {before} to {after} MiB");
    for role in ["broker", "worker"] {
        for pid in pids(&world, role)? {
            let mib = resident_mib(&world, pid)?;
            println!("a {role}: {mib} MiB");
            assert!(mib < 150, "a {role} takes {mib} MiB");
        }
    }
    world.whole(2)
}

/// The guest's serial and monitor are alive.
fn answers(shell: &mut nonstop_tests::GuestShell, whose: &str) -> Result<()> {
    let began = Instant::now();
    let said = shell.run("echo alive")?;
    assert_eq!(said.trim(), "alive", "{whose}");
    assert!(began.elapsed() < Duration::from_secs(3), "{whose} took {:?}", began.elapsed());
    Ok(())
}

/// For three seconds: 1,000 connects a second, every tenth with garbage.
fn knocking(address: &str, port: u16) -> String {
    format!(
        "import socket,time,os\n\
         end=time.time()+3\n\
         n=0\n\
         while time.time()<end:\n \
          try:\n  s=socket.socket(); s.settimeout(0.05); s.connect(('{address}',{port}))\n  \
          s.sendall(os.urandom(200) if n%10==0 else b'')\n  s.close()\n \
          except OSError: pass\n \
          n+=1\n \
          time.sleep(0.0008)\n\
         print(n,'connects')\n"
    )
}

#[test]
fn who_may_look_sees_types_nothing_and_is_cut_when_that_ends() -> Result<()> {
    let world = World::new("second-viewer")?;
    world.lab.researcher("alice", 10)?;
    let bob = world.lab.researcher("bob", 11)?;
    let environment = world.environment("alice", "screen")?;
    let (address, port, fingerprint) = display(&world, &environment)?;
    let forward = Forward { port: 4001, target: format!("{address}:{}", port + 1) };
    // Before anybody says so, bob's tunnel leads nowhere.
    {
        let _tunnel = bob.tunnel(&world.host_key()?, std::slice::from_ref(&forward))?;
        assert_eq!(echo(&bob, 4001)?, 0);
    }
    let words = ["desktop", "view", environment.id.as_str(), "--account", "bob"];
    world.lab.cli(&[&words[..], &["--reason", "to help"]].concat())?;
    let views = world.lab.cli(&["desktop", "views"])?;
    let id = views[0]["id"].as_u64().context("no view is listed")?;
    thread::sleep(Duration::from_secs(1));
    let tunnel = bob.tunnel(&world.host_key()?, &[forward])?;
    let desktop =
        Desktop { port: 4001, fingerprint: Some(&fingerprint), user: "bob", password: "" };
    let session = Session::open(&bob.place(), &desktop, &world.lab.dir().join("bob"))?;
    let mut looking = Looking { session, tunnel };
    let mut shell = world.shell(&environment)?;
    shell.run("for i in 1 2 3 4 5 6 7 8 9; do echo WWWWWWWWWWWWWWWWWWWWW; done > /dev/tty0")?;
    see(&mut looking, "text of alice's screen", has_text)?;
    looking.session.tool(&["type", "--delay", "60", "echo ab >/tmp/typed"])?;
    looking.session.tool(&["key", "Return"])?;
    thread::sleep(Duration::from_secs(2));
    let typed = shell.run("cat /tmp/typed 2>/dev/null || true")?;
    assert_eq!(typed.trim(), "", "bob typed into alice's machine");
    world.lab.cli(&["desktop", "unview", &id.to_string()])?;
    let asked = Instant::now();
    wait_for("bob's worker to be gone", Duration::from_secs(2), || {
        Ok((pids(&world, "worker")?.len() == 1).then_some(()))
    })?;
    println!("cut {:?} after the permission was ended", asked.elapsed());
    // Not only no frame: the client is told, and its person sees that it is over.
    wait_for("bob's client to end", Duration::from_secs(10), || looking.session.ended())?;
    println!("its client ended after {:?}", asked.elapsed());
    let before = looking.session.picture()?;
    shell.run("for i in 1 2 3 4 5 6 7 8 9; do echo; echo MMMMMMMMMMMM; done > /dev/tty0")?;
    thread::sleep(Duration::from_secs(2));
    let frozen = looking.session.ended()?.is_some()
        || looking.session.picture()?.difference(&before) < 0.001;
    assert!(frozen, "bob got a further frame");
    let opened = trace_of(&world, "desktop.view_open")?;
    assert_eq!(opened.len(), 1, "{opened:?}");
    Ok(())
}

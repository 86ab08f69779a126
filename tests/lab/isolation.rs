//! Two researchers, a taken-over portal and an escaped guest: what they must not reach.

use anyhow::Result;
use nonstop_testkit::{place::Place, ssh::Forward};
use nonstop_tests::World;
use std::{fs, time::Duration};

/// A process of the lab's host that runs as `uid`, with all of the host's namespaces.
fn as_uid(world: &World, uid: u32, line: &str) -> Result<String> {
    let uid = uid.to_string();
    let output = world.lab.inside()?.output(&[
        "setpriv",
        "--reuid",
        &uid,
        "--regid",
        &uid,
        "--clear-groups",
        "sh",
        "-c",
        line,
    ])?;
    Ok(format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Whether a TCP connection from the lab's host, as `uid`, is made.
fn connects(world: &World, uid: u32, address: &str, port: u16) -> Result<bool> {
    let line = format!("nc -z -w 2 {address} {port} && echo open");
    Ok(as_uid(world, uid, &line)?.contains("open"))
}

#[test]
fn two_researchers_reach_their_own_and_nothing_of_each_other() -> Result<()> {
    let world = World::new("two-researchers")?;
    let alice = world.lab.researcher("alice", 10)?;
    let bob = world.lab.researcher("bob", 11)?;
    let of_alice = world.environment("alice", "probe")?;
    let of_bob = world.environment("bob", "probe")?;
    for environment in [&of_alice, &of_bob] {
        let mut shell = world.shell(environment)?;
        shell.run(
            "(nc -ll -p 3389 -e cat >/dev/null 2>&1 &) ; (nc -ll -p 4444 -e cat >/dev/null 2>&1 &)",
        )?;
    }
    let host_key = world.host_key()?;
    let (portal_a, portal_b) = (world.address_of("alice")?, world.address_of("bob")?);
    let forward = |port, target: String| Forward { port, target };
    let targets = [
        forward(5001, format!("{}:3389", of_alice.address)),
        forward(5002, format!("{}:3389", of_bob.address)),
        forward(5003, format!("{portal_a}:8080")),
        forward(5004, format!("{portal_b}:8080")),
        forward(5005, format!("{}:4444", of_alice.address)),
        forward(5006, "127.0.0.1:22".into()),
    ];
    // What each gets of: alice's desktop, bob's, alice's portal, bob's, another port, the host.
    for (pc, expected) in [
        (&alice, [true, false, true, false, false, false]),
        (&bob, [false, true, false, true, false, false]),
    ] {
        let _tunnel = pc.tunnel(&host_key, &targets)?;
        for (forward, expected) in targets.iter().zip(expected) {
            let got = if forward.target.ends_with(":8080") {
                pc.http_get(forward.port, "/", &[]).is_ok_and(|reply| reply.status == 200)
            } else if expected {
                world.reaches_soon(pc, forward.port, "hello-there")?
            } else {
                world.reaches(pc, forward.port, "hello-there")?
            };
            assert_eq!(got, expected, "{} to {}", pc.public_key_file().display(), forward.target);
        }
    }

    // From inside: the other machine, the other segment's gateway, every address of the host.
    let mut shell = world.shell(&of_alice)?;
    let host = "10.77.0.1";
    let probes = [
        (of_bob.address.as_str(), 3389),
        ("10.77.0.17", 53),
        (host, 22),
        (host, 8080),
        (portal_a.as_str(), 8080),
        ("198.51.100.1", 22),
        ("198.51.100.10", 22),
        ("198.51.100.11", 22),
    ];
    for (address, port) in probes {
        let said = shell.run(&format!("nc -w 2 {address} {port} </dev/null && echo open"))?;
        assert!(!said.contains("open"), "the guest reached {address}:{port}");
    }
    let said = shell.run(&format!("ping -c 1 -W 2 {}; ping -c 1 -W 2 {host}", of_bob.address))?;
    assert!(!said.contains("1 packets received"), "the guest got an answer: {said}");
    Ok(())
}

#[test]
fn a_random_name_resolves_nowhere_and_no_packet_leaves_the_host() -> Result<()> {
    let world = World::new("dns")?;
    world.lab.researcher("alice", 10)?;
    let environment = world.environment("alice", "micro")?;
    let mut shell = world.shell(&environment)?;

    let capture = world.lab.dir().join("street.pcap");
    let mut tcpdump = world
        .lab
        .inside()?
        .command("tcpdump")
        .args(["-i", "any", "-U", "-w", &capture.display().to_string()])
        .args(["not", "arp", "and", "udp", "port", "53"])
        .stderr(std::process::Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    let said =
        shell.run("nslookup kx7q2-exfil.example.com 10.77.0.1; nslookup kx7q2-exfil 10.77.0.1")?;
    assert!(said.contains("NXDOMAIN") || said.contains("can't find"), "{said}");
    let said = shell.run("nslookup kx7q2-exfil.example.com 192.0.2.53")?;
    assert!(!said.contains("Address: 10."), "{said}");
    std::thread::sleep(Duration::from_secs(1));
    let _stopped = Place::here().run(&["kill", "-INT", &tcpdump.id().to_string()]);
    tcpdump.wait()?;
    let shown = world.lab.enter(&["tcpdump", "-nr", &capture.display().to_string()])?;
    assert!(shown.contains("exfil"), "the capture saw the question at the segment: {shown}");
    let outside: Vec<_> =
        shown.lines().filter(|l| !l.contains("nsb") && !l.contains("nst")).collect();
    assert_eq!(outside, Vec::<&str>::new(), "packets left the segment");
    Ok(())
}

#[test]
fn a_taken_over_portal_opens_no_database_approves_nothing_and_changes_no_trace() -> Result<()> {
    let world = World::new("portal-uid")?;
    let _alice = world.lab.researcher("alice", 10)?;
    let _staff = world.lab.person("sato", "staff", 12)?;
    let request = world.apply("alice", "probe")?;
    let uid: u32 = world.lab.enter(&["id", "-u", "nonstop-portal"])?.trim().parse()?;
    let database = world.lab.state().join("nonstop.db");
    let database = database.display();
    for line in [
        format!("head -c 16 {database} | grep -q SQLite && echo BROKEN"),
        format!("echo x >> {database} && echo BROKEN"),
        "nft list ruleset && echo BROKEN".into(),
        "nft add element inet nonstop desktop '{ 70001 . 10.77.0.2 . 3389 }' && echo BROKEN".into(),
        "ls /run/nonstop/gate/keys && echo BROKEN".into(),
        "echo > /run/userdb/evil.user && echo BROKEN".into(),
    ] {
        let said = as_uid(&world, uid, &line)?;
        assert!(!said.contains("BROKEN"), "{line}: {said}");
    }
    let cli = format!(
        "/run/nonstop-programs/nonstop --lab {} request approve {request}",
        world.lab.file().display()
    );
    let said = as_uid(&world, uid, &cli)?;
    assert!(!said.contains("ready") && !said.contains("preparing"), "{said}");
    // Straight to the portal's socket, with no person behind it, and with a socket of its own.
    let script = r#"
import array, json, socket, struct, sys
def ask(request, fd=None):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(5)
    s.connect("/run/nonstop/portal.sock")
    body = json.dumps(request).encode()
    frame = struct.pack(">I", len(body)) + body
    if fd is None:
        s.sendall(frame)
    else:
        s.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    size = struct.unpack(">I", s.recv(4))[0]
    answer = b""
    while len(answer) < size:
        answer += s.recv(size - len(answer))
    return json.loads(answer)
request, staff = sys.argv[1], sys.argv[2]
approve = {"request": "request_approve", "id": request}
print(ask(approve))
own = socket.socketpair()[0]
print(ask(approve, own.fileno()))
listener = socket.socket(); listener.bind((staff, 0)); listener.listen(1)
client = socket.socket(); client.settimeout(2)
try:
    client.connect(listener.getsockname())
    accepted = listener.accept()[0]
    print(ask(approve, accepted.fileno()))
except OSError as e:
    print("refused by the kernel:", e)
"#;
    let file = world.lab.dir().join("portal.py");
    fs::write(&file, script)?;
    let staff = world.address_of("sato")?;
    let said = as_uid(&world, uid, &format!("python3 {} {request} {staff}", file.display()))?;
    assert_eq!(said.matches("'code': 'forbidden'").count(), 2, "{said}");
    assert!(said.contains("refused by the kernel"), "{said}");
    let requests = world.lab.cli(&["request", "list"])?;
    assert_eq!(requests[0]["state"], "open", "{requests}");
    let verified = world.lab.cli(&["trace", "verify"])?;
    assert!(verified["broken_at"].is_null(), "{verified}");
    Ok(())
}

#[test]
fn an_escaped_guest_reads_nothing_of_others_and_connects_to_nothing() -> Result<()> {
    let world = World::new("qemu-uid")?;
    let alice = world.lab.researcher("alice", 10)?;
    world.lab.researcher("bob", 11)?;
    let own = world.environment("alice", "probe")?;
    let other = world.environment("bob", "probe")?;
    let uid = 80_000 + own.machine[1..].parse::<u32>()?;
    let state = world.lab.state();
    let other_disk = state.join("machines").join(&other.machine).join("1/disk.qcow2");
    assert!(other_disk.exists(), "{}", other_disk.display());
    let state = state.display();
    let ours = state.to_string() + "/machines/" + &own.machine + "/1/disk.qcow2";
    assert!(as_uid(&world, uid, &format!("head -c 3 {ours}"))?.contains("QFI"), "its own disk");
    let pids = world.lab.enter(&["pgrep", "qemu-system"])?;
    let line = |pid: &str| format!("cat /proc/{pid}/environ >/dev/null && echo READ");
    let mut refused = 0;
    for pid in pids.split_whitespace() {
        let status = world.lab.enter(&["cat", &format!("/proc/{pid}/status")])?;
        if !status.contains(&format!("Uid:\t{uid}")) {
            let said = as_uid(&world, uid, &line(pid))?;
            assert!(!said.contains("READ"), "{said}");
            let said = as_uid(&world, uid, &format!("kill -0 {pid} && echo KILLED"))?;
            assert!(!said.contains("KILLED"), "{said}");
            refused += 1;
        }
    }
    assert!(refused >= 1, "there was another QEMU");
    for line in [
        format!("head -c 1 {} >/dev/null && echo BROKEN", other_disk.display()),
        format!("head -c 1 {state}/nonstop.db >/dev/null && echo BROKEN"),
        format!("ls {state}/quarantine && echo BROKEN"),
        format!("ls {state}/machines && echo BROKEN"),
        "ls /run/nonstop/agent && echo BROKEN".into(),
        "ls /run/nonstop/gate/keys && echo BROKEN".into(),
        "test -w /run/nonstop/admin.sock && echo BROKEN".into(),
        "test -w /run/libvirt/libvirt-sock && echo BROKEN".into(),
    ] {
        let said = as_uid(&world, uid, &line)?;
        assert!(!said.contains("BROKEN"), "{line}: {said}");
    }
    let portal = world.address_of("alice")?;
    let mut shell = world.shell(&own)?;
    shell.run("(nc -ll -p 3389 -e cat >/dev/null 2>&1 &)")?;
    let host_key = world.host_key()?;
    let target = format!("{}:3389", own.address);
    let _tunnel = alice.tunnel(&host_key, &[Forward { port: 5001, target }])?;
    assert!(
        world.reaches_soon(&alice, 5001, "positive-control")?,
        "the desktop port is open to alice"
    );
    for who in [uid, 0] {
        for (address, port) in
            [(portal.as_str(), 8080), (own.address.as_str(), 3389), (other.address.as_str(), 3389)]
        {
            assert!(!connects(&world, who, address, port)?, "{who} reached {address}:{port}");
        }
    }
    for (address, port) in [("127.0.0.1", 22), ("198.51.100.10", 22), ("198.51.100.1", 22)] {
        assert!(!connects(&world, uid, address, port)?, "QEMU reached {address}:{port}");
    }
    Ok(())
}

#[test]
fn the_end_of_a_period_cuts_what_is_open_and_a_dead_daemon_lets_nobody_in() -> Result<()> {
    let mut world = World::off("ends-at-once", "lease_seconds: 6")?;
    world.lab.start()?;
    let alice = world.lab.researcher("alice", 10)?;
    let environment = world.environment("alice", "probe")?;
    let mut shell = world.shell(&environment)?;
    shell.run("(nc -ll -p 3389 -e cat >/dev/null 2>&1 &)")?;
    let host_key = world.host_key()?;
    let target = || vec![Forward { port: 5001, target: format!("{}:3389", environment.address) }];
    let mut tunnel = alice.tunnel(&host_key, &target())?;
    assert!(world.reaches_soon(&alice, 5001, "open")?);
    world.lab.cli(&["environment", "end", &environment.id])?;
    let ended = std::time::Instant::now();
    while tunnel.is_open() && ended.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(ended.elapsed() < Duration::from_secs(1), "cut after {:?}", ended.elapsed());
    drop(tunnel);
    let second = world.environment("alice", "probe")?;
    let mut shell = world.shell(&second)?;
    shell.run("(nc -ll -p 3389 -e cat >/dev/null 2>&1 &)")?;
    let target = || vec![Forward { port: 5001, target: format!("{}:3389", second.address) }];
    let tunnel = alice.tunnel(&host_key, &target())?;
    assert!(world.reaches_soon(&alice, 5001, "open-again")?);
    world.lab.auto_restart("nonstopd", false)?;
    world.lab.kill_service("nonstopd", 9)?;
    let another = vec![Forward { port: 5002, ..target()[0].clone() }];
    assert!(alice.tunnel(&host_key, &another).is_err(), "a login without the daemon");
    std::thread::sleep(Duration::from_secs(7));
    assert!(!world.reaches(&alice, 5001, "after-the-lease")?, "the lease has run out");
    drop(tunnel);
    Ok(())
}

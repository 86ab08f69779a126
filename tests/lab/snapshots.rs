//! Named snapshots: memory, disk, UEFI variables and TPM as they were, of a pair at one time; and
//! a daemon that is killed, or a host that loses its power, in the middle.

use crate::displays::{look, see};
use anyhow::{Context, Result, bail};
use nonstop_testkit::place::wait_for;
use nonstop_tests::{Environment, GuestShell, World, disguised_from, has_text};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    thread,
    time::{Duration, Instant},
};

const FIRMWARE: &str = "version: 1\ntitle: firmware\nrdp: none\nmachines:\n\
    - {role: analyst, image: debuggee-test, profile: uefi, memory_mib: 384}\n";

const PAIR: &str = "version: 1\ntitle: pair\nrdp: none\nmachines:\n\
    - {role: debugger, image: micro, memory_mib: 96, networks: [access, link]}\n\
    - {role: debuggee, image: micro, memory_mib: 96, networks: [link]}\n";

const FEW: &str = "version: 1\ntitle: few\nrdp: none\nsnapshots: 1\nmachines:\n\
    - {role: analyst, image: micro, memory_mib: 96}\n";

const VARIABLE: &str = "/sys/firmware/efi/efivars/Taken-7a0e0b5e-5e0c-4c0e-9d0a-6d616c776172";
const LATER: &str = "/sys/firmware/efi/efivars/Later-7a0e0b5e-5e0c-4c0e-9d0a-6d616c776172";

fn world(name: &str) -> Result<World> {
    let mut world = World::off(name, "grace_seconds: 1")?;
    disguised_from(&world.lab, "debuggee", "debuggee-test", |manifest| {
        manifest["test_channel"] = true.into();
    })?;
    for (name, text) in [("firmware", FIRMWARE), ("pair", PAIR), ("few", FEW)] {
        fs::write(world.lab.dir().join(format!("templates/{name}.yaml")), text)?;
    }
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    Ok(world)
}

fn snapshot(world: &World, verb: &str, words: &[&str]) -> Result<Value> {
    world.lab.cli(&[&["environment", "snapshot", verb], words].concat())
}

/// How far the snapshot `name` of `id` is; None if there is none.
fn state(world: &World, id: &str, name: &str) -> Result<Option<String>> {
    let all = snapshot(world, "list", &[id])?;
    let all = all.as_array().context("no list")?;
    let found = all.iter().find(|s| s["name"] == name);
    Ok(found.and_then(|s| s["state"].as_str()).map(Into::into))
}

fn machine<'a>(shown: &'a Value, role: &str) -> Result<&'a Value> {
    let machines = shown["machines"].as_array().context("no machines")?;
    machines.iter().find(|m| m["role"] == role).with_context(|| format!("no {role}"))
}

/// A process that counts in memory, by its pid, and writes how far it is where no disk is; a number is
/// there whole at any time, also when the processors stop in between.
const COUNT: &str = "setsid sh -c 'i=0; while :; do i=$((i+1)); echo $i >/run/new-$$; \
    mv /run/new-$$ /run/count-$$; sleep 0.1; done' >/dev/null 2>&1 </dev/null & echo $!";

fn count(shell: &mut GuestShell, pid: &str) -> Result<u64> {
    let said = shell.run(&format!("kill -0 {pid} && cat /run/count-{pid}"))?;
    said.parse().with_context(|| format!("the process that counts: {said}"))
}

/// Starts it; gives its pid.
fn starts_counting(shell: &mut GuestShell) -> Result<String> {
    let pid = shell.run(COUNT)?;
    wait_for("the first number", Duration::from_secs(30), || Ok(count(shell, &pid).ok()))?;
    Ok(pid)
}

/// Says so unless it goes on counting.
fn counts_on(shell: &mut GuestShell, pid: &str) -> Result<u64> {
    let before = count(shell, pid)?;
    wait_for(&format!("a number after {before}"), Duration::from_secs(20), || {
        let after = count(shell, pid)?;
        Ok((after > before).then_some(after))
    })
}

/// Runs a line that must go well.
fn done(shell: &mut GuestShell, line: &str) -> Result<()> {
    let said = shell.run(&format!("{{ {line}; }} && echo 'it is done'"))?;
    if !said.ends_with("it is done") {
        bail!("{line}: {said}");
    }
    Ok(())
}

/// What is found of what was there at the snapshot, and of what came after it.
fn written(shell: &mut GuestShell) -> Result<[String; 4]> {
    Ok([
        shell.run("cat /root/file")?,
        shell.run(&format!("cat {VARIABLE} | tail -c +5"))?,
        shell.run(&format!("test -e {LATER} && echo there || echo none"))?,
        shell.run("tpm2_nvread 0x1500016 -C o -s 5")?,
    ])
}

const AS_TAKEN: [&str; 4] = ["taken", "taken", "none", "taken"];
const CHANGED: [&str; 4] = ["later", "taken", "there", "later"];

#[test]
fn memory_disk_variables_and_tpm_come_back_as_they_were_taken() -> Result<()> {
    let world = world("taken")?;
    let environment = world.environment("alice", "firmware")?;
    let (id, m) = (environment.id.as_str(), environment.machine.as_str());
    let mut shell = world.shell(&environment)?;
    let pid = starts_counting(&mut shell)?;
    for line in [
        "echo taken >/root/file; sync".to_owned(),
        format!("printf '\\007\\000\\000\\000taken' >{VARIABLE}"),
        "tpm2_nvdefine 0x1500016 -C o -s 5 -a 'ownerread|ownerwrite'".into(),
        "printf taken >/run/word; tpm2_nvwrite 0x1500016 -C o -i /run/word".into(),
    ] {
        done(&mut shell, &line)?;
    }
    counts_on(&mut shell, &pid)?;
    drop(shell);

    let begun = Instant::now();
    snapshot(&world, "take", &[id, "感染前 1", "--wait"])?;
    eprintln!("taken after {:?}", begun.elapsed());
    world.in_state(id, "ready")?;
    eprintln!("and the machine was there again after {:?}", begun.elapsed());
    let mut shell = GuestShell::connect(&world.lab, m)?;
    let taken = counts_on(&mut shell, &pid)?;
    assert_eq!(written(&mut shell)?, AS_TAKEN, "it goes on as if nothing had been");
    lies_closed(&world, &environment)?;

    // Everything is changed, also what is in memory alone.
    for line in [
        "echo later >/root/file; sync".to_owned(),
        format!("printf '\\007\\000\\000\\000later' >{LATER}"),
        "printf later >/run/word; tpm2_nvwrite 0x1500016 -C o -i /run/word".into(),
        format!("kill -9 {pid}; rm /run/count-{pid}; sync"),
    ] {
        done(&mut shell, &line)?;
    }
    assert_eq!(written(&mut shell)?, CHANGED);
    drop(shell);

    for round in 1..=2 {
        let begun = Instant::now();
        snapshot(&world, "return", &[id, "感染前 1", "--wait"])?;
        eprintln!("returned after {:?}", begun.elapsed());
        let mut shell = GuestShell::connect(&world.lab, m)?;
        let back = counts_on(&mut shell, &pid)?;
        assert!(back < taken + 100 * round, "it counts on from {taken}, not {back}");
        assert_eq!(written(&mut shell)?, AS_TAKEN, "return {round}");
        done(&mut shell, "printf again >/root/file; sync")?;
    }
    // What firmware and TPM keep is the snapshot's after a start without its memory, too.
    snapshot(&world, "return", &[id, "感染前 1", "--wait"])?;
    world.lab.cli(&["environment", "power", id, "kill"])?;
    world.machine_in(id, "off")?;
    world.lab.cli(&["environment", "power", id, "on"])?;
    world.machine_in(id, "ready")?;
    let mut shell = world.shell(&environment)?;
    assert_eq!(written(&mut shell)?, AS_TAKEN, "after a cold start");
    assert!(count(&mut shell, &pid).is_err(), "nothing counts after a cold start");
    drop(shell);

    // Clean is clean, with the snapshot kept; deleted, nothing of it is left.
    world.lab.cli(&["environment", "revert", id])?;
    world.in_state(id, "ready")?;
    let mut shell = world.shell(&environment)?;
    assert_ne!(written(&mut shell)?[0], "taken");
    drop(shell);
    assert_eq!(state(&world, id, "感染前 1")?.as_deref(), Some("whole"));
    snapshot(&world, "delete", &[id, "感染前 1"])?;
    wait_for("what was kept to be gone", Duration::from_secs(10), || {
        Ok((fs::read_dir(world.lab.state().join("machines").join(m))?.count() == 1).then_some(()))
    })?;
    world.end(id)?;
    assert_eq!(world.left_over()?, Vec::<String>::new());
    Ok(())
}

/// What is kept can be changed by no QEMU, not even a taken-over one of the machine's own.
fn lies_closed(world: &World, environment: &Environment) -> Result<()> {
    let machine = world.lab.state().join("machines").join(&environment.machine);
    for (file, mode) in [("1", 0o750), ("1/disk.qcow2", 0o440), ("1/ram-s1", 0o600)] {
        let meta = fs::metadata(machine.join(file)).with_context(|| format!("look at {file}"))?;
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, mode), "{file}");
    }
    let listed = snapshot(world, "list", &[&environment.id])?;
    let of_it = &listed[0]["machines"][0];
    assert_eq!((&of_it["memory"], &of_it["role"]), (&true.into(), &"analyst".into()));
    let bytes = of_it["bytes"].as_u64().context("no size")?;
    assert!(bytes > 20 << 20, "{listed}");
    Ok(())
}

/// A stream over the link, from the debuggee to its debugger: numbers, one after the other.
fn stream(world: &World, shown: &Value) -> Result<()> {
    let id = |role| machine(shown, role)?["id"].as_str().context("no id");
    let mut debugger = GuestShell::connect(&world.lab, id("debugger")?)?;
    let mut debuggee = GuestShell::connect(&world.lab, id("debuggee")?)?;
    let address = "for p in /proc/[0-9]*; do grep -q udhcpc $p/cmdline && kill ${p#/proc/}; done";
    done(&mut debugger, &format!("{address}; ip addr add 192.168.99.1/24 dev eth1"))?;
    done(&mut debuggee, &format!("{address}; ip addr add 192.168.99.2/24 dev eth0"))?;
    // One whose input has ended closes the connection.
    debugger.run(
        "setsid sh -c 'sleep 9999 | nc -l -p 7777 >/run/got' >/dev/null 2>&1 </dev/null & \
         until netstat -ltn | grep -q :7777; do sleep 0.1; done",
    )?;
    debuggee.run(
        "setsid sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done | \
         nc 192.168.99.1 7777' >/dev/null 2>&1 </dev/null & echo",
    )?;
    arrives(&mut debugger, 10).map(drop).context("numbers over the link")
}

/// How far the numbers have come; none is missing.
fn got(debugger: &mut GuestShell) -> Result<u64> {
    // They go on coming meanwhile, and the last may be there in part.
    let line = "cp /run/got /run/seen; n=$(wc -l </run/seen); sed -n ${n}p /run/seen; echo $n";
    let said = debugger.run(line)?;
    let mut words = said.split_ascii_whitespace().map(str::parse::<u64>);
    match (words.next(), words.next()) {
        (Some(Ok(last)), Some(Ok(lines))) if last == lines => Ok(last),
        _ => bail!("numbers are missing: {said}"),
    }
}

fn arrives(debugger: &mut GuestShell, after: u64) -> Result<u64> {
    wait_for("more numbers", Duration::from_secs(30), || {
        let now = got(debugger)?;
        Ok((now > after + 5).then_some(now))
    })
}

fn qemu(world: &World, machine: &str) -> Result<String> {
    let line = format!("pgrep -f '[g]uest=nonstop-{machine},'");
    Ok(world.lab.enter(&["sh", "-c", &line])?.trim().into())
}

#[test]
fn a_connection_between_a_pair_survives_being_taken_and_returned_to() -> Result<()> {
    let world = world("pair-taken")?;
    let id = world.grant("alice", "pair")?;
    let shown = world.in_state(&id, "ready")?;
    let of = |role| anyhow::Ok(machine(&shown, role)?["id"].as_str().context("no id")?.to_owned());
    let (one, two) = (of("debugger")?, of("debuggee")?);
    stream(&world, &shown)?;

    let begun = Instant::now();
    snapshot(&world, "take", &[&id, "both", "--wait"])?;
    world.in_state(&id, "ready")?;
    eprintln!("a pair was taken and there again after {:?}", begun.elapsed());
    let mut debugger = GuestShell::connect(&world.lab, &one)?;
    let at_take = got(&mut debugger)?;
    let later = arrives(&mut debugger, at_take)?;
    drop(debugger);

    let begun = Instant::now();
    snapshot(&world, "return", &[&id, "both", "--wait"])?;
    eprintln!("a pair was back after {:?}", begun.elapsed());
    let mut debugger = GuestShell::connect(&world.lab, &one)?;
    let back = got(&mut debugger)?;
    assert!(back < later + 20, "{back} numbers after the return, {later} before it");
    arrives(&mut debugger, back)?;

    // The debuggee alone: its debugger is not touched.
    let before = qemu(&world, &one)?;
    let other = qemu(&world, &two)?;
    snapshot(&world, "return", &[&id, "both", "--machine", "debuggee", "--wait"])?;
    assert_eq!(qemu(&world, &one)?, before, "the debugger goes on");
    assert_ne!(qemu(&world, &two)?, other);
    assert!(debugger.run("echo here")?.contains("here"), "over the same channel");

    // One alone is taken alone, and one that is off without memory.
    snapshot(&world, "take", &[&id, "one", "--machine", "debugger", "--wait"])?;
    world.lab.cli(&["environment", "power", &id, "kill", "--machine", "debuggee"])?;
    wait_for("the debuggee to be off", Duration::from_secs(20), || {
        let shown = world.lab.cli(&["environment", "show", &id])?;
        Ok((machine(&shown, "debuggee")?["state"] == "off").then_some(()))
    })?;
    snapshot(&world, "take", &[&id, "off", "--machine", "debuggee", "--wait"])?;
    let listed = snapshot(&world, "list", &[&id])?;
    assert_eq!(listed[1]["machines"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed[2]["machines"][0]["memory"], false, "{listed}");
    let actions = trace(&world)?;
    for action in ["snapshot.take", "snapshot.taken", "snapshot.return", "machine.resumed"] {
        assert!(actions.iter().any(|a| a == action), "{action}: {actions:?}");
    }
    Ok(())
}

fn trace(world: &World) -> Result<Vec<String>> {
    let rows = world.lab.cli(&["trace", "list", "--limit", "200"])?;
    let rows = rows.as_array().context("no rows")?;
    Ok(rows.iter().filter_map(|row| row["action"].as_str()).map(Into::into).collect())
}

#[test]
fn what_cannot_be_taken_is_refused_with_its_reason() -> Result<()> {
    let world = world("refused")?;
    let environment = world.environment("alice", "few")?;
    let id = environment.id.as_str();
    let refuses =
        |words: &[&str]| world.lab.cli_refuses(&[&["environment", "snapshot"], words].concat());
    snapshot(&world, "take", &[id, "one", "--wait"])?;
    world.in_state(id, "ready")?;
    let said = refuses(&["take", id, "two"])?;
    assert!(said.contains("has 1 snapshots") && said.contains("delete one"), "{said}");
    let said = refuses(&["take", id, "one"])?;
    assert!(said.contains("there is a snapshot `one` already"), "{said}");
    let said = refuses(&["return", id, "none"])?;
    assert!(said.contains("no snapshot `none`"), "{said}");
    let said = refuses(&["return", id, "one", "--machine", "debuggee"])?;
    assert!(said.contains("has no such machine"), "{said}");
    let said = refuses(&["take", id, "../../etc"])?;
    assert!(said.contains("begins with a letter or digit"), "{said}");
    Ok(())
}

#[test]
fn whoever_looks_sees_the_machine_as_it_was_taken_after_a_return() -> Result<()> {
    let world = World::new("looks-back")?;
    let alice = world.lab.researcher("alice", 10)?;
    let environment = world.environment("alice", "screen")?;
    let (id, m) = (environment.id.as_str(), environment.machine.as_str());
    let mut shell = world.shell(&environment)?;
    let print = "for i in 1 2 3 4 5 6 7 8; do echo 'WWWWWWWWWWWWWWWWWWWWWWWW'; done > /dev/tty0";
    shell.run(print)?;
    drop(shell);
    let mut looking = look(&world, &alice, 4001, &environment)?;
    see(&mut looking, "text of the guest's screen", has_text)?;
    snapshot(&world, "take", &[id, "text", "--wait"])?;
    see(&mut looking, "the same text after it was taken", has_text)?;

    let mut shell = GuestShell::connect(&world.lab, m)?;
    shell.run("printf '\\033c' > /dev/tty0")?;
    drop(shell);
    see(&mut looking, "an empty screen", |picture| !has_text(picture))?;
    snapshot(&world, "return", &[id, "text", "--wait"])?;
    let (_, after) = see(&mut looking, "the text that was taken", has_text)?;
    eprintln!("the picture was back {after:?} after the machine was");
    // And it is the picture of the guest that runs.
    let mut shell = GuestShell::connect(&world.lab, m)?;
    shell.run("printf '\\033c' > /dev/tty0")?;
    see(&mut looking, "an empty screen again", |picture| !has_text(picture))?;
    Ok(())
}

/// How many lines of the daemon's log tell of a step of a snapshot, so far.
fn steps(world: &World) -> usize {
    let of_it = ["pause m", "keep the memory", "create generation", "from its memory", "run on"];
    let log = world.lab.log("nonstopd");
    log.lines().filter(|line| of_it.iter().any(|step| line.contains(step))).count()
}

/// Waits until there are `count` such lines, or what was asked for is done.
fn reached(world: &World, count: usize, id: &str, name: &str) -> Result<()> {
    let begun = Instant::now();
    while steps(world) < count {
        if begun.elapsed() > Duration::from_secs(15) {
            let taken = state(world, id, name)?;
            bail!("{} of {count} steps; {name} is {taken:?}", steps(world));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

#[test]
fn a_daemon_killed_in_the_middle_of_taking_and_returning_goes_on_where_it_was() -> Result<()> {
    let world = world("killed-taking")?;
    let environment = world.environment("alice", "micro")?;
    let (id, m) = (environment.id.as_str(), environment.machine.as_str());
    let mut shell = world.shell(&environment)?;
    let pid = starts_counting(&mut shell)?;
    counts_on(&mut shell, &pid)?;
    drop(shell);
    let kill_after = |more: usize, verb: &str| {
        let before = steps(&world);
        snapshot(&world, verb, &[id, "one"])?;
        reached(&world, before + more, id, "one")?;
        world.lab.kill_service("nonstopd", 9)?;
        world.lab.lab_box()?.wait_ready(Duration::from_secs(30))
    };
    let settled = || {
        wait_for("the snapshot to be taken", Duration::from_secs(30), || {
            Ok((state(&world, id, "one")?.as_deref() == Some("whole")).then_some(()))
        })?;
        world.in_state(id, "ready").map(drop)
    };
    for more in 0..=4 {
        kill_after(more, "take")?;
        settled()?;
        counts_on(&mut GuestShell::connect(&world.lab, m)?, &pid)
            .with_context(|| format!("killed after step {more} of taking"))?;
        for after in 0..=2 {
            kill_after(after, "return")?;
            settled()?;
            counts_on(&mut GuestShell::connect(&world.lab, m)?, &pid)
                .with_context(|| format!("killed after step {after} of returning"))?;
        }
        snapshot(&world, "delete", &[id, "one"])?;
    }
    world.whole(1)
}

#[test]
fn a_power_cut_leaves_a_snapshot_whole_or_gone_and_its_machine_comes_back() -> Result<()> {
    let mut world = world("cut-taking")?;
    let environment = world.environment("alice", "micro")?;
    let (id, m) = (environment.id.clone(), environment.machine.clone());
    let mut shell = world.shell(&environment)?;
    done(&mut shell, "printf work | dd of=/dev/vda conv=fsync 2>/dev/null")?;
    drop(shell);
    let mut ends = Vec::new();
    for more in 0..=4 {
        let mut shell = world.shell(&environment)?;
        let pid = starts_counting(&mut shell)?;
        counts_on(&mut shell, &pid)?;
        drop(shell);
        let before = steps(&world);
        snapshot(&world, "take", &[&id, "one"])?;
        reached(&world, before + more, &id, "one")?;
        world.lab.power_cut()?;
        world.lab.start()?;
        let end = wait_for("the snapshot to be whole or gone", Duration::from_secs(30), || {
            Ok(state(&world, &id, "one")?.filter(|state| state != "taking"))
        })?;
        world.ready(&id)?;
        let mut shell = GuestShell::connect(&world.lab, &m)?;
        assert_eq!(shell.run("head -c 4 /dev/vda")?, "work");
        drop(shell);
        if end == "whole" {
            snapshot(&world, "return", &[&id, "one", "--wait"])?;
            let mut shell = GuestShell::connect(&world.lab, &m)?;
            counts_on(&mut shell, &pid).context("as it was taken before the cut")?;
            assert_eq!(shell.run("head -c 4 /dev/vda")?, "work");
        }
        snapshot(&world, "delete", &[&id, "one"])?;
        ends.push(end);
    }
    assert!(ends.contains(&"whole".to_owned()), "{ends:?}");
    world.whole(1)
}

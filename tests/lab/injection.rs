//! A sample before a guest: as people put it there, what its debugger sees of it, what is refused,
//! what is left of it, and what a guest's agent that means harm can disturb.

use crate::portal::{NEAR, page, send};
use anyhow::{Context, Result, bail, ensure};
use nonstop_testkit::{
    pc::Pc,
    place::{Place, wait_for},
    ssh::Forward,
};
use nonstop_tests::{GuestShell, World, desktop_with_shell};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    fs,
    time::{Duration, Instant},
};

/// `dynamic-micro` and the same with an agent, with shells for tests; and a machine that takes none.
/// `screen` is the debuggee's image.
const TEMPLATES: [(&str, &str); 3] = [
    (
        "bait",
        "version: 1\ntitle: bait\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: debugger, image: desk, memory_mib: 768, vcpus: 2, networks: [access, link]}\n\
         - {role: debuggee, image: screen, memory_mib: 256, networks: [link], \
         import: /home/researcher/Import}\n",
    ),
    (
        "agent",
        "version: 1\ntitle: agent\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: debugger, image: micro, memory_mib: 96, networks: [access, link]}\n\
         - {role: debuggee, image: screen, memory_mib: 256, networks: [link], \
         import: /home/researcher/Import, agent: true}\n",
    ),
    (
        "alone",
        "version: 1\ntitle: alone\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96}\n",
    ),
];

/// What the samples do: speak to who answers on the link, and try to leave it. Harmless.
const SCRIPT: &str = "#!/bin/sh\n\
    echo said-by-the-sample | nc -u -w 1 192.168.99.1 4444\n\
    ping -c 1 -W 1 198.51.100.1\nexit 0\n";
/// As long as the goal says.
const BIG: usize = 10_000_000;
/// How long is waited for what takes a second or two on a host with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(90);
/// What runs in place of an agent, as the guest lists it, beside the script that starts it.
const WHOEVER_ACTS: &str = "napping|reading|tr|head";
/// An agent that does not answer is given up after less.
const LIMIT: Duration = Duration::from_secs(240);

struct Samples {
    script: String,
    big: String,
    /// Of no day of this data domain.
    foreign: String,
}

#[test]
fn a_sample_is_put_before_its_guest_runs_there_and_is_gone_after_a_revert() -> Result<()> {
    let (world, samples) = lab("inject")?;
    let alice = visitor(&world, "alice", 10)?;
    let bob = visitor(&world, "bob", 11)?;
    let (e1, e2) = (world.grant("alice", "bait")?, world.grant("bob", "agent")?);
    let e3 = world.grant("bob", "alone")?;
    let shown = world.in_state(&e1, "ready")?;
    let mut debuggee = shell(&world, &shown, "debuggee")?;
    let mut debugger = shell(&world, &shown, "debugger")?;

    by_disc_without_a_network(&world, &alice, &e1, &mut debuggee, &samples)?;
    the_debugger_sees_it(&mut debugger, &mut debuggee)?;
    taken_out_and_replaced(&world, &e1, &mut debuggee, &samples)?;

    let shown = world.in_state(&e2, "ready")?;
    let mut bobs = shell(&world, &shown, "debuggee")?;
    by_agent(&world, &bob, &e2, &mut bobs, &samples)?;
    world.in_state(&e3, "ready")?;
    refusals(&world, &bob, [&e1, &e2, &e3], &samples)?;

    a_revert_removes_it(&world, &e1, &samples)?;
    no_agent_runs_where_none_is_allowed(&world, &e1, &mut bobs)?;
    all_end(&world, &[&e1, &e2, &e3])
}

#[test]
fn an_agent_that_lies_hangs_dies_or_floods_disturbs_nothing_but_its_own_injection() -> Result<()> {
    let (world, samples) = lab("agents")?;
    world.lab.researcher("alice", 10)?;
    world.lab.researcher("bob", 11)?;
    let (bad, good) = (world.grant("alice", "agent")?, world.grant("bob", "agent")?);
    let shown = world.in_state(&bad, "ready")?;
    let mut guest = shell(&world, &shown, "debuggee")?;
    let shown = world.in_state(&good, "ready")?;
    let mut neighbour = shell(&world, &shown, "debuggee")?;
    let said = guest.run(
        "mv /usr/sbin/qemu-ga /usr/sbin/agent && \
         printf '#!/bin/bash\\nexec 3<>\"$4\"\\n. /run/act\\n' >/usr/sbin/qemu-ga && \
         chmod 755 /usr/sbin/qemu-ga && cp /bin/sleep /usr/bin/napping && \
         cp /bin/cat /usr/bin/reading && echo moved",
    )?;
    assert!(said.contains("moved"), "{said}");
    let acts = [
        ("says nothing", "exec napping 3600"),
        ("dies", "head -c 40 <&3 >/dev/null; exit"),
        ("lies", "while read -r line <&3; do echo '{\"return\": 99999999999}' >&3; done"),
        ("answers megabytes", "reading <&3 >/dev/null & exec tr '\\0' x </dev/zero >&3"),
        (
            "is no JSON",
            "reading <&3 >/dev/null & while :; do echo '}]\\xff{{{' >&3; sleep 0.1; done",
        ),
    ];
    for (act, script) in acts {
        let line = format!(
            "cat >/run/act <<'END'\n{script}\nEND\npkill -x 'qemu-ga|{WHOEVER_ACTS}'; echo acts"
        );
        // The line is put together in the guest, since a here-document has several.
        let octal: String = line.bytes().map(|byte| format!("\\{byte:03o}")).collect();
        let said = guest.run(&format!("printf '{octal}' | bash"))?;
        assert!(said.contains("acts"), "{said}");
        let started = Instant::now();
        let begun = inject(&world, &bad, &samples.script, true)?;
        // Meanwhile others get theirs.
        arrives(&world, &good, &samples.script, &mut neighbour, "/home/researcher/Import", true)?;
        neighbour.run("rm -f /home/researcher/Import/*")?;
        let ended = over(&world, &bad, &begun)?;
        eprintln!("an agent that {act}: given up after {:.1} s", started.elapsed().as_secs_f32());
        assert_eq!(ended["state"], "failed", "{act}: {ended}");
        let why = ended["failure"].as_str().context("no reason")?;
        assert!(why.contains("agent"), "{act}: {why}");
        assert_eq!(world.lab.cli(&["environment", "show", &bad])?["state"], "ready", "{act}");
    }
    // A disc needs no agent at all, and a guest with its own again takes samples.
    arrives(&world, &bad, &samples.script, &mut guest, "/media/cdrom", false)?;
    guest.run(&format!(
        "mv /usr/sbin/agent /usr/sbin/qemu-ga; pkill -x 'qemu-ga|{WHOEVER_ACTS}'; echo"
    ))?;

    // No room in the folder.
    neighbour.run("mount -t tmpfs -o size=1m tmpfs /home/researcher/Import")?;
    let begun = inject(&world, &good, &samples.big, true)?;
    let ended = over(&world, &good, &begun)?;
    let why = ended["failure"].as_str().context("it has no room, and is told no reason")?;
    assert!(why.contains("could not write"), "{why}");
    neighbour.run("umount /home/researcher/Import")?;
    arrives(&world, &good, &samples.big, &mut neighbour, "/home/researcher/Import", true)?;
    all_end(&world, &[&bad, &good])
}

/// Ends the environments `ids`; nothing of them is left over, and nothing else was disturbed.
fn all_end(world: &World, ids: &[&String]) -> Result<()> {
    for id in ids {
        world.lab.cli(&["environment", "end", id])?;
    }
    for id in ids {
        world.in_state(id, "gone")?;
    }
    assert_eq!(world.left_over()?, Vec::<String>::new());
    world.whole(0)
}

/// A lab in which two editions have a day of samples each.
fn lab(name: &str) -> Result<(World, Samples)> {
    let mut world = World::off(name, "grace_seconds: 2")?;
    desktop_with_shell(&world.lab, "desk")?;
    for (name, text) in TEMPLATES {
        fs::write(world.lab.dir().join(format!("templates/{name}.yaml")), text)?;
    }
    world.lab.start()?;
    let mut state = 9_u64;
    let noise = (0..BIG).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    });
    let big: Vec<u8> = noise.collect();
    let foreign = b"#!/bin/sh\necho of the other edition\n";
    let samples =
        Samples { script: digest(SCRIPT.as_bytes()), big: digest(&big), foreign: digest(foreign) };
    publish(&world, "intermediate", &[SCRIPT.as_bytes(), &big])?;
    Ok((world, samples))
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn publish(world: &World, domain: &str, samples: &[&[u8]]) -> Result<()> {
    let folder = world.lab.dir().join("brought").join(domain);
    fs::create_dir_all(folder.join("samples"))?;
    for sample in samples {
        fs::write(folder.join("samples").join(digest(sample)), sample)?;
    }
    let file = folder.join("2026-01-31.samples.tar").display().to_string();
    let pack = format!("cd {} && tar -cf {file} samples/*", folder.display());
    Place::here().run(&["sh", "-c", &pack])?;
    world.lab.cli(&["data", "publish", "--wait", "120", "--domain", domain, &file])?;
    Ok(())
}

/// The PC of a researcher whose tunnel leads to the portal.
fn visitor(world: &World, name: &str, place: u8) -> Result<(Pc, nonstop_testkit::ssh::Tunnel)> {
    let pc = world.lab.researcher(name, place)?;
    let target = format!("{}:8080", world.address_of(name)?);
    let tunnel = pc.tunnel(&world.host_key()?, &[Forward { port: NEAR, target }])?;
    wait_for("the portal", Duration::from_secs(30), || page(&pc, "/").map(|_| Some(())))?;
    Ok((pc, tunnel))
}

fn shell(world: &World, shown: &Value, role: &str) -> Result<GuestShell> {
    let machines = shown["machines"].as_array().context("no machines")?;
    let machine = machines.iter().find(|m| m["role"] == role).context("no such machine")?;
    GuestShell::connect(&world.lab, machine["id"].as_str().context("no id")?)
}

/// Sends the portal's form; gives where it leads.
fn by_portal(pc: &Pc, id: &str, from: &str, sha256: &str, more: &[&str]) -> Result<String> {
    let form = format!("/environments/{from}/samples?go=1&s-{sha256}=1");
    let choice = format!("s-{sha256}=1");
    send(pc, &form, &format!("/environments/{id}/inject"), &[&[&*choice], more].concat())
}

fn inject(world: &World, id: &str, sha256: &str, agent: bool) -> Result<String> {
    let mut words = vec!["sample", "inject", id, sha256];
    words.extend(agent.then_some("--agent"));
    let begun = world.lab.cli(&words)?;
    Ok(begun["id"].as_str().context("no id")?.into())
}

fn injection(world: &World, environment: &str, id: &str) -> Result<Value> {
    let all = world.lab.cli(&["sample", "injections", environment])?;
    let found = all.as_array().into_iter().flatten().find(|one| one["id"] == id);
    found.cloned().with_context(|| format!("no {id} in {all}"))
}

/// The injection once it is not under way any more.
fn over(world: &World, environment: &str, id: &str) -> Result<Value> {
    wait_for(&format!("the end of {id}"), LIMIT, || {
        let now = injection(world, environment, id)?;
        Ok((now["state"] != "preparing").then_some(now))
    })
}

/// How long it takes until the guest reads `sha256` in `folder`.
fn readable(guest: &mut GuestShell, folder: &str, sha256: &str) -> Result<Duration> {
    let started = Instant::now();
    wait_for("the sample in the guest", PATIENCE, || {
        let said = guest.run(&format!("sha256sum {folder}/*"))?;
        match said.contains(sha256) {
            true => Ok(Some(())),
            false => bail!("the guest says: {said}"),
        }
    })?;
    Ok(started.elapsed())
}

/// Puts a sample in by the CLI, and waits until its guest has it.
fn arrives(
    world: &World,
    id: &str,
    sha256: &str,
    guest: &mut GuestShell,
    folder: &str,
    agent: bool,
) -> Result<()> {
    let begun = inject(world, id, sha256, agent)?;
    let ended = over(world, id, &begun)?;
    ensure!(ended["state"] == "there", "{ended}");
    readable(guest, folder, sha256).map(drop)
}

/// Waits until the daemon, too, knows the last injection as there: the guest may be faster.
fn known_as_there(world: &World, id: &str) -> Result<()> {
    wait_for("the injection to be known as there", PATIENCE, || {
        let all = world.lab.cli(&["sample", "injections", id])?;
        Ok((all[0]["state"] == "there").then_some(()))
    })
}

type Visitor = (Pc, nonstop_testkit::ssh::Tunnel);

fn by_disc_without_a_network(
    world: &World,
    (pc, _tunnel): &Visitor,
    id: &str,
    guest: &mut GuestShell,
    samples: &Samples,
) -> Result<()> {
    guest.run("ip link set eth0 down")?;
    for (sha256, name) in [(&samples.script, "run me.sh"), (&samples.big, "")] {
        let name = format!("n-{sha256}={name}");
        let started = Instant::now();
        let to = by_portal(pc, id, id, sha256, &["by=disc", &name])?;
        assert!(to.contains("done=injecting"), "{to}");
        readable(guest, "/media/cdrom", sha256)?;
        eprintln!("as a disc: read after {:.2} s", started.elapsed().as_secs_f32());
        known_as_there(world, id)?;
    }
    // A drive tells of a new disc more than once, and the guest mounts it anew each time.
    wait_for("a disc that nobody writes to", PATIENCE, || {
        let files = guest.run("ls /media/cdrom; grep cdrom /proc/mounts; ip -4 addr show eth0")?;
        let usual_name = files.contains(&format!("{}.bin", samples.big));
        let read_only = files.contains(" ro,") && !files.contains("inet ");
        ensure!(usual_name && read_only, "the guest says: {files}");
        Ok(Some(()))
    })?;
    let all = world.lab.cli(&["sample", "injections", id])?;
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all}");
    assert!(all.to_string().contains("\"ended_by\":\"replaced\""), "{all}");
    // The script, again, under its name.
    by_portal(
        pc,
        id,
        id,
        &samples.script,
        &["by=disc", &format!("n-{}=run me.sh", samples.script)],
    )?;
    readable(guest, "/media/cdrom", &samples.script)?;
    Ok(())
}

fn the_debugger_sees_it(debugger: &mut GuestShell, debuggee: &mut GuestShell) -> Result<()> {
    debuggee.run("ip link set eth0 up")?;
    wait_for("the debuggee's address from its debugger", PATIENCE, || {
        debuggee.run(
            "busybox udhcpc -n -q -i eth0 -s /usr/lib/debuggee/lease -t 3 -T 1 >/dev/null 2>&1",
        )?;
        let said = debuggee.run("ip -4 addr show dev eth0")?;
        ensure!(said.contains("192.168.99."), "the debuggee says: {said}");
        Ok(Some(()))
    })?;
    debugger.run("(timeout 600 tcpdump -l -n -A -i eth1 >/tmp/seen 2>/tmp/listens &)")?;
    wait_for("tcpdump to listen", PATIENCE, || {
        Ok(debugger.run("cat /tmp/listens")?.contains("listening on").then_some(()))
    })?;
    debuggee.run("sh '/media/cdrom/run me.sh'")?;
    wait_for("what the sample says, at its debugger", PATIENCE, || {
        let seen = debugger.run("cat /tmp/seen")?;
        let both = seen.contains("said-by-the-sample") && seen.contains("198.51.100.1");
        ensure!(both, "seen: {seen}");
        Ok(Some(()))
    })
}

fn taken_out_and_replaced(
    world: &World,
    id: &str,
    guest: &mut GuestShell,
    samples: &Samples,
) -> Result<()> {
    world.lab.cli(&["sample", "eject", id])?;
    wait_for("an empty drive", PATIENCE, || {
        let said = guest.run("ls -A /media/cdrom; echo listed")?;
        ensure!(said.trim() == "listed", "there is still {said}");
        Ok(Some(()))
    })?;
    // Wrapped, of two samples at once.
    let words = ["sample", "inject", id, &samples.script, &samples.big, "--zip"];
    world.lab.cli(&words)?;
    wait_for("two archives", PATIENCE, || {
        let said = guest.run("ls /media/cdrom; head -c 2 /media/cdrom/*.zip")?;
        let both = [&samples.script, &samples.big].map(|hash| format!("{hash}.bin.zip"));
        ensure!(both.iter().all(|name| said.contains(name)) && said.contains("PK"), "{said}");
        Ok(Some(()))
    })?;
    known_as_there(world, id)?;
    world.lab.cli(&["sample", "inject", id, &samples.script])?;
    readable(guest, "/media/cdrom", &samples.script).map(drop)
}

fn by_agent(
    world: &World,
    (pc, _tunnel): &Visitor,
    id: &str,
    guest: &mut GuestShell,
    samples: &Samples,
) -> Result<()> {
    let started = Instant::now();
    by_portal(pc, id, id, &samples.big, &["by=agent"])?;
    readable(guest, "/home/researcher/Import", &samples.big)?;
    let all = world.lab.cli(&["sample", "injections", id])?;
    eprintln!("by agent, {BIG} bytes: read after {:.2} s", started.elapsed().as_secs_f32());
    let ended = over(world, id, all[0]["id"].as_str().context("no id")?)?;
    assert_eq!(ended["state"], "there", "{ended}");
    assert_eq!(ended["by"], "agent");
    Ok(())
}

/// Each with its reason, and nothing of it in a drive.
fn refusals(
    world: &World,
    (bob, _tunnel): &Visitor,
    [of_alice, of_bob, alone]: [&str; 3],
    samples: &Samples,
) -> Result<()> {
    let refused = |words: &[&str], why: &str| -> Result<()> {
        let words = [&["sample", "inject"], words].concat();
        let said = match world.lab.cli(&words) {
            Ok(done) => bail!("{words:?} was done: {done}"),
            Err(e) => format!("{e:#}"),
        };
        ensure!(said.contains(why), "{words:?}: {said}");
        Ok(())
    };
    let unknown = "0123456789abcdef".repeat(4);
    refused(&[of_alice, &unknown], "no sample")?;
    refused(&[of_alice, &samples.foreign], "no sample")?;
    refused(&[alone, &samples.script], "no machine that samples are put before")?;
    refused(&[of_alice, &samples.script, "--agent"], "agent")?;
    refused(&[of_bob, &samples.script, "--name", "../x"], "name")?;
    let other = by_portal(bob, of_alice, of_bob, &samples.script, &["by=disc"]);
    let other = format!("{:#}", other.expect_err("it is another's"));
    assert!(other.contains("403") || other.contains("404"), "{other}");
    world.lab.cli(&["environment", "power", of_bob, "kill", "--machine", "debuggee"])?;
    refused(&[of_bob, &samples.script], "off")
}

fn a_revert_removes_it(world: &World, id: &str, samples: &Samples) -> Result<()> {
    let before = world.lab.cli(&["sample", "injections", id])?;
    let last = before[0]["id"].as_str().context("no injection")?.to_string();
    assert_eq!(before[0]["state"], "there", "{before}");
    world.lab.cli(&["environment", "revert", id, "--machine", "debuggee"])?;
    let ended = wait_for("the end of the run", PATIENCE, || {
        let now = injection(world, id, &last)?;
        Ok((now["state"] == "ended").then_some(now))
    })?;
    assert_eq!(ended["ended_by"], "revert", "{ended}");
    let shown = wait_for("the debuggee to run anew", PATIENCE, || {
        let shown = world.in_state(id, "ready")?;
        Ok(shown["machines"].to_string().contains("\"generation\":2").then_some(shown))
    })?;
    let mut guest = shell(world, &shown, "debuggee")?;
    std::thread::sleep(Duration::from_secs(3));
    let said = guest.run("ls -A /media/cdrom; cat /sys/block/sr0/size; echo listed")?;
    assert!(!said.contains("bin") && said.contains("listed"), "{said}");

    let file = world.lab.dir().join("record.json").display().to_string();
    let record = wait_for("the record of the run", PATIENCE, || {
        world.lab.cli(&["sample", "record", &last, "--out", &file])?;
        Ok(Some(fs::read(&file)?))
    })?;
    let record = nonstop_trace::Record::read(&record)?;
    let said = record.said();
    assert_eq!(said["samples"][0]["sha256"], *samples.script, "{said}");
    assert_eq!(said["ended_by"], "revert");
    let left = &said["containment"]["left"];
    assert_eq!((&left["known"], &left["packets"]), (&true.into(), &0.into()), "{said}");
    assert_eq!(said["containment"]["end"]["rules"]["current"], true, "{said}");
    let spoken = &said["containment"]["end"]["counts"]["between"];
    assert!(spoken.as_u64() > Some(0), "the sample has spoken to its debugger: {said}");
    // Changed by a word, it is none.
    let forged = fs::read_to_string(&file)?.replacen("revert", "return", 1);
    assert!(nonstop_trace::Record::read(forged.as_bytes()).is_err());
    Ok(())
}

fn no_agent_runs_where_none_is_allowed(
    world: &World,
    id: &str,
    allowed: &mut GuestShell,
) -> Result<()> {
    let shown = world.lab.cli(&["environment", "show", id])?;
    let mut guest = shell(world, &shown, "debuggee")?;
    let said = guest.run("cat /sys/class/virtio-ports/*/name; pidof qemu-ga; echo looked")?;
    assert!(!said.contains("org.nonstop.agent") && said.trim().ends_with("looked"), "{said}");
    let _off = allowed;
    Ok(())
}

//! Data as researchers have them: from inside real desktops of the right templates, and refused
//! to every other machine.

use anyhow::{Context, Result, bail, ensure};
use nonstop_testkit::place::{Place, wait_for};
use nonstop_tests::{GuestShell, World, desktop_with_shell};
use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant},
};

/// `macro` and `mws-macro` as they are shipped, with a shell for tests beside the desktop; one that has
/// samples, too; and the reach of the other templates, with guests that are up in seconds.
const TEMPLATES: [(&str, &str); 5] = [
    (
        "darknet",
        "version: 1\ntitle: darknet\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: desk, memory_mib: 768, vcpus: 2, \
         reach: [live, pcap, rdb, airlock]}\n",
    ),
    (
        "both",
        "version: 1\ntitle: both\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: desk, memory_mib: 768, vcpus: 2, \
         reach: [rdb, samples, reports, airlock]}\n",
    ),
    (
        "mws",
        "version: 1\ntitle: mws\nrdp: none\ndomain: mws\nmachines:\n\
         - {role: analyst, image: desk, memory_mib: 768, vcpus: 2, reach: [pcap, rdb, airlock]}\n",
    ),
    (
        "static",
        "version: 1\ntitle: static\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96, reach: [samples, reports, airlock]}\n",
    ),
    (
        "dynamic",
        "version: 1\ntitle: dynamic\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: debugger, image: micro, memory_mib: 96, networks: [access, link], \
         reach: [reports, airlock]}\n\
         - {role: debuggee, image: micro, memory_mib: 96, networks: [link]}\n",
    ),
];

const DAYS: [&str; 2] = ["2026-01-30", "2026-01-31"];
const YESTERDAY: &str = DAYS[1];
/// Packets of each day: other numbers in each data domain, so that neither is taken for the other.
/// The first of them is a file that no socket buffers whole.
const PACKETS: [(&str, [&str; 2]); 2] =
    [("intermediate", ["400000", "24000"]), ("mws", ["3000", "9000"])];
const SERVERS: [(&str, &str, u16); 4] = [
    ("intermediate/pcap", "10.80.0.3", 80),
    ("intermediate/rdb", "10.80.0.4", 5432),
    ("mws/pcap", "10.81.0.3", 80),
    ("mws/rdb", "10.81.0.4", 5432),
];

/// A program of Python starts within seconds, and without KVM beside others within many.
const LONG: Duration = Duration::from_secs(240);

#[test]
fn days_are_read_from_inside_the_right_machines_and_from_no_other() -> Result<()> {
    let mut world = World::off("data", "")?;
    world.lab = world.lab.with_data();
    desktop_with_shell(&world.lab, "desk")?;
    for (name, text) in TEMPLATES {
        fs::write(world.lab.dir().join(format!("templates/{name}.yaml")), text)?;
    }
    world.lab.start()?;
    publish(&world)?;
    world.lab.researcher("alice", 10)?;
    world.lab.researcher("bob", 11)?;
    world.lab.researcher_of("mws", "erin", 12)?;
    let granted = [
        world.grant("alice", "darknet")?,
        world.grant("bob", "both")?,
        world.grant("erin", "mws")?,
        world.grant("alice", "static")?,
        world.grant("bob", "dynamic")?,
    ];
    let [alice, bob, erin] = [&granted[0], &granted[1], &granted[2]].map(|id| desk(&world, id));
    let (mut alice, mut bob, mut erin) = (alice?, bob?, erin?);

    the_file_and_the_rdb_have_the_same_packets(&mut alice)?;
    the_examples_run(&mut alice)?;
    a_sample_is_looked_at(&world, &mut bob)?;
    an_edition_has_its_own(&mut erin)?;
    world.in_state(&granted[3], "ready")?;
    world.in_state(&granted[4], "ready")?;
    others_are_refused(&world, &granted[3], &granted[4])?;
    two_machines_find_no_way_to_speak(&mut alice, &mut bob)?;
    killed_servers_come_back(&world, &mut alice)?;

    let traced = world.lab.cli(&["trace", "list", "--limit", "1000"])?;
    let fetches = traced.as_array().into_iter().flatten();
    let fetches = fetches.filter(|row| row["action"] == "data.fetch").map(ToString::to_string);
    let fetches: Vec<String> = fetches.collect();
    for (who, what) in [("alice", YESTERDAY), ("erin", YESTERDAY)] {
        let found = fetches.iter().any(|row| row.contains(who) && row.contains(what));
        assert!(found, "{who} fetched {what}: {fetches:#?}");
    }
    Ok(())
}

/// As staff publish what sensors bring.
fn publish(world: &World) -> Result<()> {
    let generate = world.lab.programs().join("nonstop-data").display().to_string();
    for (domain, packets) in PACKETS {
        let head = ["data", "publish", "--wait", "120", "--domain", domain];
        let mut words: Vec<String> = head.map(String::from).into();
        for (day, packets) in DAYS.into_iter().zip(packets) {
            let folder = world.lab.dir().join("sensor").join(domain);
            fs::create_dir_all(&folder)?;
            let file = folder.join(format!("{day}.pcap")).display().to_string();
            let line = ["--domain", domain, "--day", day, "--packets", packets, "--out", &file];
            Place::here().run(&[&[&*generate, "generate"], &line[..]].concat())?;
            words.push(file);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        world.lab.cli(&words)?;
    }
    Ok(())
}

/// A shell of the desktop of the environment `id`, once it has its address.
fn desk(world: &World, id: &str) -> Result<GuestShell> {
    let desk = world.ready(id)?;
    let mut shell = GuestShell::connect(&world.lab, &desk.machine)?;
    wait_for("the guest's address", Duration::from_secs(120), || {
        Ok(shell.run("ip -4 addr show")?.contains(&desk.address).then_some(()))
    })?;
    Ok(shell)
}

/// What `line` prints as the researcher, in the environment that a login gives.
///
/// Errors: it fails.
fn researcher(shell: &mut GuestShell, line: &str) -> Result<String> {
    let (said, good) = tried(shell, line)?;
    ensure!(good, "{line}: {said}");
    Ok(said)
}

/// The same, and whether it went well.
fn tried(shell: &mut GuestShell, line: &str) -> Result<(String, bool)> {
    // Written so that no shell on the way takes anything of it for its own.
    let line_hex: String = line.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
    let run = format!("su - researcher -c \"$(printf '{line_hex}')\"; echo \"exit $?\"");
    let said = shell.run_for(&run, LONG)?;
    match said.rsplit_once("exit ") {
        Some((said, code)) => Ok((said.trim().into(), code == "0")),
        None => bail!("{line}: {said}"),
    }
}

fn the_file_and_the_rdb_have_the_same_packets(shell: &mut GuestShell) -> Result<()> {
    // By hand, with each tool that people take.
    researcher(shell, &format!("curl -fsS -O http://pcap/{YESTERDAY}.pcap"))?;
    researcher(shell, &format!("wget -q -c http://pcap/{YESTERDAY}.pcap.sha256"))?;
    let said = researcher(shell, &format!("sha256sum -c {YESTERDAY}.pcap.sha256"))?;
    assert!(said.ends_with("OK"), "{said}");
    let count = format!("tshark -r {YESTERDAY}.pcap -T fields -e frame.number 2>/dev/null | wc -l");
    assert_eq!(researcher(shell, &count)?, "24000");
    let of_day = format!("time >= '{YESTERDAY}Z' AND time < timestamptz '{YESTERDAY}Z' + '1 day'");
    let query = |what: &str, and: &str| {
        format!("psql -AtX -F ' ' -c \"SELECT {what} FROM packets WHERE {of_day} {and}\"")
    };
    assert_eq!(researcher(shell, &query("count(*)", ""))?, "24000");
    // By one filter on both sides: who knocked at telnet's port, and how often.
    let file = format!(
        "tshark -r {YESTERDAY}.pcap -Y 'tcp.dstport == 23' -T fields -e ip.src 2>/dev/null \
         | sort | uniq -c | tr -s ' ' | sed 's/^ //' | sort"
    );
    let rdb = query("count(*), host(src)", "AND protocol = 6 AND dport = 23 GROUP BY src");
    let (file, rdb) = (researcher(shell, &file)?, researcher(shell, &format!("{rdb} | sort"))?);
    assert!(file.lines().count() > 20, "{file}");
    assert_eq!(file, rdb);
    // And by the script that does it all.
    researcher(shell, &format!("rm {YESTERDAY}.pcap"))?;
    let said = researcher(shell, "~/Examples/fetch_day.sh")?;
    assert!(said.contains("24000 packets in the file, 24000 in the rdb"), "{said}");
    Ok(())
}

fn the_examples_run(shell: &mut GuestShell) -> Result<()> {
    let day = format!("{YESTERDAY}: 24000 packets");
    let said = researcher(shell, "~/Examples/top_ports.py")?;
    for text in [&*day, " 23 ", "share", "█"] {
        assert!(said.contains(text), "`{text}` is not in:\n{said}");
    }
    // The others in one process: pandas takes its time to start without KVM.
    let lines = "import runpy, sys\n\
        for words in sys.stdin.read().splitlines():\n\
        \x20   sys.argv = words.split()\n\
        \x20   print('##', words)\n\
        \x20   runpy.run_path(sys.argv[0], run_name='__main__')\n";
    let words = "scan_sources.py\nscan_sources.py 445 2026-01-30\nhourly_rate.py\nworm_growth.py";
    let run = format!("cd ~/Examples && printf '{words}' | python3 -c \"{lines}\"");
    let said = researcher(shell, &run)?;
    let parts: Vec<&str> = said.split("## ").skip(1).collect();
    for (part, says) in parts.iter().zip([
        &[YESTERDAY, "addresses"][..],
        &["2026-01-30", "445"],
        &[&day, "01-31 23:00 UTC", "sources"],
        &["445", "2026-01-30", "new"],
    ]) {
        for text in says {
            assert!(part.contains(text), "`{text}` is not in:\n{part}");
        }
    }
    assert!(parts.len() == 4 && !said.contains("Warning"), "{said}");
    let said = researcher(shell, "psql -X -f ~/Examples/first_look.sql")?;
    for text in ["tcp_flags", "Partition key", YESTERDAY] {
        assert!(said.contains(text), "`{text}` is not in:\n{said}");
    }
    // As root, and whatever name is given: the machine's address says who asks.
    assert_eq!(shell.run("su - root -c 'psql -AtXc \"SELECT count(*) FROM days\"'")?, "2");
    let said = researcher(shell, "psql -U postgres -AtXc \"SELECT current_user\"")?;
    assert!(said != "postgres", "{said}");
    Ok(())
}

/// By the example that every desktop has: each kind of file that a day may have.
fn a_sample_is_looked_at(world: &World, shell: &mut GuestShell) -> Result<()> {
    let tar = world.lab.dir().join(format!("{YESTERDAY}.samples.tar")).display().to_string();
    let generate = world.lab.programs().join("nonstop-samples").display().to_string();
    Place::here().run(&[
        &generate,
        "generate",
        "--day",
        YESTERDAY,
        "--samples",
        "5",
        "--out",
        &tar,
    ])?;
    world.lab.cli(&["data", "publish", "--wait", "120", "--domain", "intermediate", &tar])?;
    let page = researcher(shell, "curl -fsS 'http://samples/search.json?limit=5'")?;
    let page: Value = serde_json::from_str(&page)?;
    let samples = page["samples"].as_array().context("no samples")?;
    ensure!(samples.len() == 5, "{page}");
    for (number, sample) in samples.iter().enumerate() {
        let hash = sample["sha256"].as_str().context("no hash")?;
        // What its hash begins with is enough.
        let said = researcher(shell, &format!("~/Examples/first_look.py {}", &hash[..12]))?;
        for text in [hash, "checked", "entropy", "report / ", "processes"] {
            ensure!(said.contains(text), "{number}: `{text}` is not in:\n{said}");
        }
    }
    let files =
        researcher(shell, "cd ~/samples && ls -l | grep -c '^-rw-------' && sha256sum *.bin")?;
    ensure!(files.starts_with("5\n"), "not to be run, and nobody else's: {files}");
    for line in files.lines().skip(1) {
        let (sum, name) = line.split_once("  ").context("a sum")?;
        ensure!(name == format!("{sum}.bin"), "{line}");
    }
    let (said, good) = tried(shell, &format!("~/Examples/first_look.py {}", "0".repeat(64)))?;
    ensure!(!good || said.contains("none or not reached"), "{said}");
    Ok(())
}

fn an_edition_has_its_own(shell: &mut GuestShell) -> Result<()> {
    let said = researcher(shell, "~/Examples/fetch_day.sh")?;
    assert!(said.contains("9000 packets in the file, 9000 in the rdb"), "{said}");
    assert_eq!(connects(shell)?, ["mws/pcap", "mws/rdb"]);
    for name in ["live", "reports", "samples"] {
        let (said, found) = tried(shell, &format!("getent hosts {name}"))?;
        assert!(!found, "{name}: {said}");
    }
    Ok(())
}

/// A machine for samples, and a pair: neither the debugger nor the debuggee reaches traffic.
fn others_are_refused(world: &World, other: &str, pair: &str) -> Result<()> {
    let mut other = world.shell(&world.ready(other)?)?;
    assert_eq!(connects(&mut other)?, [""; 0]);
    let said = other.run("nslookup pcap; nslookup rdb")?;
    assert!(!said.contains("10.80."), "{said}");
    let said = other.run("wget -T 4 -O - http://10.80.0.3/")?;
    assert!(said.contains("refused") || said.contains("timed out"), "{said}");

    let shown = world.lab.cli(&["environment", "show", pair])?;
    let machines = shown["machines"].as_array().context("no machines")?;
    for machine in machines.iter().filter_map(|m| m["id"].as_str()) {
        let mut shell = GuestShell::connect(&world.lab, machine)?;
        // The debuggee is not even given an address; it takes one, and a way out.
        shell.run(
            "ip link show eth1 || { ip link set eth0 up; ip addr add 192.168.99.2/24 dev eth0; \
             ip route add default via 192.168.99.1; }",
        )?;
        assert_eq!(connects(&mut shell)?, [""; 0], "{machine}");
    }
    Ok(())
}

/// Which servers of traffic the guest can connect to, by address.
fn connects(shell: &mut GuestShell) -> Result<Vec<&'static str>> {
    let tries = SERVERS.map(|(name, address, port)| {
        // busybox in the small guests, bash in a desktop.
        format!(
            "(if [ -x /bin/bash ]; then timeout 4 bash -c \"</dev/tcp/{address}/{port}\"; \
             else nc -w 4 {address} {port} </dev/null; fi >/dev/null 2>&1 && echo {name}) &"
        )
    });
    let said = shell.run(&format!("{} wait", tries.concat()))?;
    let open = SERVERS.into_iter().map(|(name, ..)| name);
    Ok(open.filter(|name| said.lines().any(|line| line == *name)).collect())
}

/// By the real path: psql in one machine, psql in the other.
fn two_machines_find_no_way_to_speak(alice: &mut GuestShell, bob: &mut GuestShell) -> Result<()> {
    for (statement, why) in [
        ("NOTIFY x, 'y'", "during recovery"),
        ("LISTEN x", "during recovery"),
        ("SELECT pg_notify('x', 'y')", ""),
        ("SELECT pg_advisory_lock(1)", "permission denied"),
        ("SELECT lo_create(0)", ""),
        ("CREATE TEMPORARY TABLE t (a int)", "read-only transaction"),
        ("CREATE TABLE t (a int)", "read-only transaction"),
        ("SELECT pg_terminate_backend(1)", "permission denied"),
        ("SELECT * FROM pg_stat_activity", "permission denied"),
        ("ALTER ROLE CURRENT_USER SET work_mem = 65536", "read-only transaction"),
    ] {
        for shell in [&mut *alice, &mut *bob] {
            let line = format!("psql -X -c \"{statement}\"");
            let (said, good) = tried(shell, &line)?;
            assert!(!good && said.contains("ERROR") && said.contains(why), "{statement}: {said}");
        }
    }
    // Each has a name of its own there, and sees of statistics only itself.
    let names =
        [&mut *alice, bob].map(|shell| researcher(shell, "psql -AtXc \"SELECT current_user\""));
    let [first, second] = names;
    assert_ne!(first?, second?);
    let said = researcher(alice, "psql -AtXc 'SELECT count(*) FROM activity'")?;
    assert_eq!(said, "1", "alice's own connection, and not bob's");
    Ok(())
}

/// While the guest downloads and asks: what it had is whole, what it asks next is answered.
fn killed_servers_come_back(world: &World, shell: &mut GuestShell) -> Result<()> {
    let from = format!("http://pcap/{}.pcap", DAYS[0]);
    let slow = format!("curl -sS --limit-rate 500k -o slow.pcap {from}");
    shell.run(&format!("su - researcher -c '{slow}; echo $? >ended' >/dev/null 2>&1 &"))?;
    wait_for("a part of the file", Duration::from_secs(60), || {
        let size = shell.run("stat -c %s ~researcher/slow.pcap 2>/dev/null || echo 0")?;
        Ok((size.parse::<u64>().unwrap_or(0) > 100_000).then_some(()))
    })?;
    kill(world, "[n]onstop-data pcap")?;
    wait_for("curl to notice", Duration::from_secs(60), || {
        Ok(shell.run("cat ~researcher/ended 2>/dev/null")?.parse::<i32>().is_ok().then_some(()))
    })?;
    assert_ne!(shell.run("cat ~researcher/ended")?, "0", "the download was not cut");
    again(shell, &format!("curl -fsS -C - -o slow.pcap {from}"))?;
    let hash = format!(
        "[ $(sha256sum <slow.pcap | cut -c1-64) = $(curl -fsS {from}.sha256 | cut -c1-64) ]"
    );
    researcher(shell, &hash)?;

    // Every process of PostgreSQL, the writer's too.
    kill(world, "/[p]ostgres -D")?;
    let counted = again(shell, "psql -AtXc \"SELECT count(*) FROM packets\"")?;
    assert_eq!(counted, "424000");
    kill(world, "[n]onstop-data rdb")?;
    let counted = again(shell, "psql -AtXc \"SELECT count(*) FROM packets\"")?;
    assert_eq!(counted, "424000");
    Ok(())
}

fn kill(world: &World, what: &str) -> Result<()> {
    let line = format!("pkill -9 -f '{what}'");
    world.lab.enter(&["sh", "-c", &line]).map(drop).with_context(|| format!("kill {what}"))
}

/// What `line` prints once it goes well.
fn again(shell: &mut GuestShell, line: &str) -> Result<String> {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        match tried(shell, line)? {
            (said, true) => return Ok(said),
            (said, false) if Instant::now() > end => bail!("{line}: {said}"),
            _ => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

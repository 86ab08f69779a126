//! Bad input of any kind: one clear error that says what, where, and how to mend it.

use anyhow::Result;
use nonstop_testkit::place::Place;
use nonstop_tests::{GuestShell, World};
use std::{fs, time::Duration};

#[test]
fn a_wrong_lab_yaml_is_shown_with_line_column_and_the_right_word() -> Result<()> {
    let world = World::off("wrong-lab", "")?;
    let file = world.lab.dir().join("wrong.yaml");
    fs::write(&file, "version: 1\nname: wrong\ngateway:\n  prot: 22\n")?;
    for program in ["nonstopd", "nonstop-portal"] {
        let path = world.lab.programs().join(program).display().to_string();
        let words = [path.as_str(), "--lab", &file.display().to_string()];
        let output = Place::here().output(&words)?;
        let said = unwrapped(&output.stderr);
        assert!(!output.status.success(), "{program} started");
        for part in ["wrong.yaml:4:3", "unknown field `prot`", "did you mean `port`?"] {
            assert!(said.contains(part), "{program} does not say {part}: {said}");
        }
    }
    Ok(())
}

#[test]
fn a_missing_image_is_refused_and_a_changed_one_is_not_started() -> Result<()> {
    let world = World::new("images")?;
    world.lab.researcher("alice", 10)?;
    let templates = world.lab.dir().join("templates");
    let other = fs::read_to_string(templates.join("micro.yaml"))?.replace("micro", "nowhere");
    fs::write(templates.join("nowhere.yaml"), other)?;
    let words = ["request", "apply", "--account", "alice", "--template", "nowhere"];
    let said =
        world.lab.cli_refuses(&[&words[..], &["--hours", "1", "--purpose", "x"]].concat())?;
    assert!(said.contains("nowhere") && said.contains("nonstop image build nowhere"), "{said}");
    assert_eq!(world.lab.cli(&["request", "list"])?, serde_json::json!([]));
    let checked = world.lab.cli_output(&["template", "check"])?;
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(!checked.status.success() && said.contains("nowhere.yaml:8:5"), "{said}");
    let micro = templates.join("micro.yaml").display().to_string();
    let rendered = world.lab.cli(&["template", "check", "--xml", &micro])?;
    let xml = rendered[0]["xml"].as_str().unwrap_or_default();
    for part in ["<network xmlns", "<source bridge='nsb00001'/>", "<name>nonstop-m1</name>"] {
        assert!(xml.contains(part), "{part}: {xml}");
    }
    let templates_seen = world.lab.cli(&["template", "show", "nowhere"])?;
    let help = templates_seen["problem"]["help"].as_str().unwrap_or_default();
    assert!(help.contains("nonstop image build nowhere"), "{templates_seen}");

    let folder = nonstop_tests::disguised(&world.lab, "changed", |_| ())?;
    let other =
        fs::read_to_string(templates.join("micro.yaml"))?.replace("image: micro", "image: changed");
    fs::write(templates.join("changed.yaml"), other)?;
    let kernel = folder.join("initrd");
    let mut content = fs::read(&kernel)?;
    content[100] ^= 1;
    fs::remove_file(&kernel)?;
    fs::write(&kernel, &content)?;
    let id = world.grant("alice", "changed")?;
    let problem = world.lab.wait_for("the problem", Duration::from_secs(20), || {
        let shown = world.lab.cli(&["environment", "show", &id])?;
        Ok(shown["problem"]["message"].as_str().map(String::from))
    })?;
    assert!(problem.contains("SHA-256") && problem.contains("expected"), "{problem}");
    assert_eq!(world.left_over()?.iter().filter(|l| l.starts_with("guest")).count(), 0);
    // Mended by hand, it goes on by itself.
    content[100] ^= 1;
    fs::write(&kernel, &content)?;
    world.ready(&id)?;
    Ok(())
}

#[test]
fn networks_that_overlap_are_refused_where_they_stand_before_anything_is_made() -> Result<()> {
    let world = World::off("overlap", "")?;
    let folder = world.lab.dir().join("new");
    let text = |pool: &str, second: &str| {
        let domain = |name: &str, interface: &str, network: &str, server: &str| {
            format!(
                "  {name}:\n    interface: {interface}\n    network: {network}\n    \
                 servers: {{pcap: {{address: {server}, tcp: [80]}}}}\n"
            )
        };
        let server = second.rsplit_once('.').map(|(start, _)| format!("{start}.200"));
        format!(
            "version: 1\nname: overlap\nstate: {0}/state\nrun: {0}/run\nnetwork:\n  pool: {pool}\n\
             data_domains:\n{1}{2}",
            folder.display(),
            domain("first", "nsd0", "10.80.0.0/24", "10.80.0.2"),
            domain("second", "nsd1", second, &server.unwrap_or_default()),
        )
    };
    let file = world.lab.dir().join("overlap.yaml");
    for (pool, second, place, says) in [
        ("10.77.0.0/16", "10.80.0.128/25", "14:5", "overlaps 10.80.0.0/24 of data domain `first`"),
        ("10.80.0.0/16", "10.81.0.0/24", "10:5", "overlaps the segments' `pool` 10.80.0.0/16"),
    ] {
        fs::write(&file, text(pool, second))?;
        for program in ["nonstopd", "nonstop-portal"] {
            let path = world.lab.programs().join(program).display().to_string();
            let output = Place::here().output(&[&path, "--lab", &file.display().to_string()])?;
            let said = unwrapped(&output.stderr);
            assert!(!output.status.success(), "{program} started");
            for part in [&format!("overlap.yaml:{place}"), says] {
                assert!(said.contains(part), "{program} does not say {part}: {said}");
            }
        }
        assert!(!folder.exists(), "something was made in {}", folder.display());
    }
    Ok(())
}

#[test]
fn a_template_whose_reach_no_data_domain_has_is_refused_where_it_stands() -> Result<()> {
    let world = World::new("no-server")?;
    world.lab.researcher("alice", 10)?;
    let file = world.lab.dir().join("templates/lost.yaml");
    let template = |domain: &str, reach: &str| {
        format!(
            "version: 1\ntitle: lost\nrdp: none\ndomain: {domain}\nmachines:\n\
             - {{role: analyst, image: micro, memory_mib: 96, reach: [{reach}]}}\n"
        )
    };
    for (domain, reach, place, says) in [
        ("intermediate", "pcap, pacp", "6:63", "no server `pacp`: use `pcap`"),
        ("mws", "samples", "6:57", "the data domain `mws` has no server `samples`"),
        ("nowhere", "pcap", "4:1", "the lab has no data domain `nowhere`"),
    ] {
        fs::write(&file, template(domain, reach))?;
        let checked = world.lab.cli_output(&["template", "check"])?;
        let said = unwrapped(&checked.stderr);
        assert!(!checked.status.success(), "{domain}, {reach}");
        for part in [&format!("lost.yaml:{place}"), says] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let apply = ["request", "apply", "--account", "alice", "--template", "lost"];
        let said =
            world.lab.cli_refuses(&[&apply[..], &["--hours", "1", "--purpose", "x"]].concat())?;
        assert!(unwrapped(said.as_bytes()).contains(says), "{said}");
    }
    assert_eq!(world.lab.cli(&["request", "list"])?, serde_json::json!([]));
    assert_eq!(world.left_over()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_request_past_the_labs_room_is_refused_with_what_is_taken() -> Result<()> {
    let world = World::off("room", "")?;
    let mut world = World { lab: world.lab.capacity(200, 10) };
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    let said = world.lab.cli_refuses(&[
        "request",
        "apply",
        "--account",
        "alice",
        "--template",
        "macro",
        "--hours",
        "1",
        "--purpose",
        "x",
    ])?;
    assert!(said.contains("200 MiB") && said.contains("768 MiB"), "{said}");
    world.grant("alice", "micro")?;
    world.grant("alice", "micro")?;
    let third = world.apply("alice", "micro")?;
    let said = world.lab.cli_refuses(&["request", "approve", &third])?;
    assert!(said.contains("192 MiB of it are taken"), "{said}");
    let requests = world.lab.cli(&["request", "list"])?;
    assert_eq!(requests[0]["state"], "open", "it can still be approved later: {requests}");
    Ok(())
}

#[test]
fn keys_names_and_periods_that_make_no_sense_change_nothing() -> Result<()> {
    let world = World::new("nonsense")?;
    let key = world.lab.dir().join("bad.pub");
    fs::write(&key, "command=\"sh\" ssh-ed25519 AAAA\n")?;
    let key = key.display().to_string();
    let add = ["account", "add", "mallory", "--role", "researcher", "--full-name", "M"];
    let with = |more: &[&str]| world.lab.cli_refuses(&[&add[..], more].concat());
    let said = with(&["--affiliation", "x", "--edition", "mws", "--key-file", &key])?;
    assert!(said.contains("key"), "{said}");
    let said = with(&["--affiliation", "x"])?;
    assert!(said.contains("edition") && said.contains("intermediate, mws"), "{said}");
    let said = with(&["--affiliation", "x", "--edition", "mws"])?;
    assert!(said.contains("from which networks") && said.contains("0.0.0.0/0"), "{said}");
    let said = with(&["--affiliation", "x", "--edition", "nowhere"])?;
    assert!(said.contains("no data domain `nowhere`"), "{said}");
    let said = world.lab.cli_refuses(&[
        "account",
        "add",
        "root",
        "--role",
        "staff",
        "--full-name",
        "R",
        "--affiliation",
        "x",
    ])?;
    assert!(said.contains("not an account name"), "{said}");
    assert_eq!(world.lab.cli(&["account", "list"])?, serde_json::json!([]));
    world.lab.researcher("alice", 10)?;
    let said = world.lab.cli_refuses(&[
        "request",
        "apply",
        "--account",
        "alice",
        "--template",
        "micro",
        "--from",
        "2030-01-02T00:00:00Z",
        "--until",
        "2030-01-01T00:00:00Z",
        "--purpose",
        "x",
    ])?;
    assert!(said.contains("must end after it starts"), "{said}");
    assert_eq!(world.lab.cli(&["request", "list"])?, serde_json::json!([]));
    Ok(())
}

#[test]
fn a_full_disk_stops_one_environment_with_a_clear_error_and_loses_nothing() -> Result<()> {
    let mut world = World::off("full-disk", "")?;
    // The lab's machines lie on a small file system of their own.
    let machines = world.lab.state().join("machines");
    fs::create_dir_all(&machines)?;
    let mounted = Mounted::tmpfs(&machines, "4m")?;
    world = World { lab: world.lab.reserve(0) };
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    let first = world.environment("alice", "micro")?;
    let filler = machines.join("filler");
    let _full = fs::write(&filler, vec![0; 8 << 20]);
    let id = world.grant("alice", "micro")?;
    let problem = world.lab.wait_for("the problem", Duration::from_secs(30), || {
        let shown = world.lab.cli(&["environment", "show", &id])?;
        Ok(shown["problem"]["message"].as_str().map(String::from))
    })?;
    assert!(problem.to_lowercase().contains("space"), "{problem}");
    world.machine_in(&first.id, "ready")?;
    fs::remove_file(&filler)?;
    world.ready(&id)?;
    world.lab.power_cut()?;
    drop(mounted);
    Ok(())
}

#[test]
fn who_fills_the_disk_stands_still_before_the_reserve_is_gone_and_nobody_else_does() -> Result<()> {
    let mut world = World::off("reserve", "")?;
    let machines = world.lab.state().join("machines");
    fs::create_dir_all(&machines)?;
    let mounted = Mounted::tmpfs(&machines, "100m")?;
    world = World { lab: world.lab.reserve(80) };
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    world.lab.researcher("bob", 11)?;
    let (greedy, other) =
        (world.environment("alice", "micro")?, world.environment("bob", "micro")?);
    let mut guest = GuestShell::connect(&world.lab, &greedy.machine)?;
    let mut neighbour = GuestShell::connect(&world.lab, &other.machine)?;
    // Half of the reserve is 40 MiB; the guest's disk has 64.
    let filler = machines.join("filler");
    fs::write(&filler, vec![0; 30 << 20])?;
    // Some 10 MiB a second: who writes is looked for once a second.
    let write = "n=0; while :; do n=$(( (n + 1) % 60 )); \
                 dd if=/dev/urandom of=/dev/vda bs=64k count=16 seek=$(( n * 16 )) 2>/dev/null; usleep 80000; done";
    guest.run(&format!("( {write} ) >/dev/null 2>&1 &"))?;
    let problem =
        world.lab.wait_for("the writer to stand still", Duration::from_secs(60), || {
            let shown = world.lab.cli(&["environment", "show", &greedy.id])?;
            Ok(shown["problem"]["message"].as_str().map(String::from))
        })?;
    assert!(problem.contains("nearly full"), "{problem}");
    let stat = world.lab.enter(&["stat", "-f", "-c", "%a", &machines.display().to_string()])?;
    let free_blocks: u64 = stat.trim().parse()?;
    assert!(free_blocks * 4096 > 10 << 20, "{free_blocks} blocks are left of the reserve");
    // The other runs on, changes commit, and what was done is traced.
    assert!(neighbour.run("echo still here")?.contains("still here"));
    assert!(world.lab.cli(&["environment", "show", &other.id])?["problem"].is_null());
    world.lab.cli(&["account", "suspend", "bob", "--reason", "a test"])?;
    let trace = world.lab.cli(&["trace", "list"])?.to_string();
    assert!(trace.contains("machine.hold"), "{trace}");
    // With room again it runs on.
    fs::remove_file(&filler)?;
    world.lab.wait_for("the writer to run on", Duration::from_secs(60), || {
        let shown = world.lab.cli(&["environment", "show", &greedy.id])?;
        Ok(shown["problem"].is_null().then_some(()))
    })?;
    assert!(guest.run("echo awake")?.contains("awake"));
    world.lab.power_cut()?;
    drop(mounted);
    Ok(())
}

/// What a terminal would show, without the breaks of its lines.
fn unwrapped(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said).replace('│', " ");
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A small file system, unmounted with the value.
struct Mounted(String);

impl Mounted {
    fn tmpfs(at: &std::path::Path, size: &str) -> Result<Mounted> {
        let at = at.display().to_string();
        let options = format!("size={size},mode=0711");
        Place::here().run(&["mount", "-t", "tmpfs", "-o", &options, "nonstop-test", &at])?;
        Ok(Mounted(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(e) = Place::here().run(&["umount", "-l", &self.0]) {
            eprintln!("{e:#}");
        }
    }
}

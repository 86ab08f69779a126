//! `nonstop-connect` as a researcher uses it: by card, on a PC of its own, against a real lab.

use anyhow::{Context, Result, bail, ensure};
use nonstop_profile::{Fingerprint, Profile, Sealed};
use nonstop_testkit::{
    card::{CardFile, CardState, FACTORY_MANAGEMENT, FACTORY_PIN, Kind},
    pc::Pc,
    place::{Place, wait_for},
    reader::{Faults, Reader, pkcs11},
    screen::Screen,
};
use nonstop_tests::{World, has_text};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

/// A researcher's desk: a PC with a reader, and the card that the lab knows.
struct Desk {
    pc: Pc,
    reader: Reader,
    card: CardFile,
    program: PathBuf,
}

impl Desk {
    /// A desk whose PC is at 198.51.100.`host`, and the account of its card, which may come from
    /// `source`.
    fn new(world: &World, account: &str, host: u8, source: &str) -> Result<Desk> {
        let pc = world.lab.pc(account, host)?;
        let reader = Reader::of_pc(&pc)?;
        let card = CardFile::create(pc.folder().join("card.json"), &CardState::factory())?;
        let desk = Desk { pc, reader, card, program: world.lab.programs().join("nonstop-connect") };
        let line = desk.make_key()?;
        let file = desk.pc.folder().join("card-key.pub");
        fs::write(&file, line)?;
        let mut add = vec!["account", "add", account, "--role", "researcher", "--full-name"];
        let file = file.display().to_string();
        add.extend([account, "--affiliation", "Test", "--key-file", &file]);
        add.extend(["--edition", "intermediate", "--source", source]);
        world.lab.cli(&add)?;
        Ok(desk)
    }

    /// Makes a key on the card, with a certificate, as a card of an own lab has it; gives its line.
    fn make_key(&self) -> Result<String> {
        let _in = self.reader.insert(&self.card)?;
        let file = |name: &str| self.pc.folder().join(name).display().to_string();
        let words: Vec<_> = FACTORY_MANAGEMENT.iter().map(|b| format!("{b:02x}")).collect();
        fs::write(file("management"), words.join(":"))?;
        let management = format!("PIV_EXT_AUTH_KEY={}", file("management"));
        let tool = ["env", &management, "piv-tool", "-A", "M:9B:03"];
        let generate = ["-s", "00:47:00:9A:05:AC:03:80:01:11"];
        self.reader.place().run(&[&tool[..], &generate].concat())?;
        let key = self.card.read()?.key.context("a key on the card")?;
        fs::write(file("card.pem"), key.public_pem()?)?;
        let (key, other, cert) = (file("card.pem"), file("other.pem"), file("cert.pem"));
        let line = format!(
            "set -e; openssl ecparam -name prime256v1 -genkey -noout -out {other}; \
             openssl req -new -x509 -key {other} -subj /CN=ca -out {other}.crt; \
             openssl req -new -key {other} -subj /CN=alice | openssl x509 -req -CA {other}.crt \
             -CAkey {other} -force_pubkey {key} -days 9 -out {cert}"
        );
        Place::here().run(&["sh", "-c", &line])?;
        let _exit_code_is_bytes =
            self.reader.place().output(&[&tool[..], &["-C", "9A", "-i", &cert]].concat())?;
        let lines = self.reader.place().run(&["ssh-keygen", "-D", &pkcs11()?])?;
        let first = lines.lines().next().context("no key")?;
        Ok(first.split(' ').take(2).collect::<Vec<_>>().join(" ") + "\n")
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.pc.folder().join(name)
    }

    /// Runs the program to its end; gives what it said last.
    fn says(&self, words: &[&str], pin: &str) -> Result<Value> {
        let mut run = self.start(words, pin, None)?;
        let limit = Duration::from_secs(60);
        run.until("an end", limit, |event| event["event"] == "trouble")
    }

    /// Starts the program.
    fn start(&self, words: &[&str], pin: &str, display: Option<&str>) -> Result<Running> {
        let mut command = self.reader.place().command("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.program).args(["--json", "--pin-stdin"]);
        command.arg("--no-browser").args(words);
        command.env("XDG_CONFIG_HOME", self.folder("config")).env("HOME", self.folder("home"));
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        if let Some(display) = display {
            command.env("DISPLAY", display);
        }
        let log = fs::File::create(self.folder("connect.log"))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start nonstop-connect")?;
        let mut stdin = child.stdin.take().context("its input")?;
        let _ended_already = writeln!(stdin, "{pin}");
        let out = BufReader::new(child.stdout.take().context("its output")?);
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Running { child, events, log: self.folder("connect.log") })
    }
}

/// The program while it runs; ended when dropped.
struct Running {
    child: Child,
    events: Receiver<Value>,
    log: PathBuf,
}

impl Running {
    /// Waits for an event that `is` it.
    fn until(&mut self, what: &str, limit: Duration, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let began = Instant::now();
        let mut seen = Vec::new();
        loop {
            match self.events.recv_timeout(limit.saturating_sub(began.elapsed())) {
                Ok(event) if is(&event) => return Ok(event),
                Ok(event) => seen.push(event.to_string()),
                Err(error) => {
                    let said = fs::read_to_string(&self.log).unwrap_or_default();
                    let gone = error == RecvTimeoutError::Disconnected;
                    bail!("no {what} (ended: {gone}): {seen:?}; it said: {said}")
                }
            }
        }
    }

    fn open(&mut self) -> Result<Value> {
        self.until("open tunnel", Duration::from_secs(60), |event| event["event"] == "open")
    }

    /// Ends it as Ctrl-C does.
    fn interrupt(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        Place::here().run(&["kill", "-INT", &pid])?;
        wait_for("it to end", Duration::from_secs(10), || Ok(self.child.try_wait()?.map(drop)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The lab's authority.
fn authority(world: &World) -> Result<KeyPair> {
    let file = world.lab.state().join("authority/ca.key");
    let pem = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    Ok(KeyPair::from_pem(&pem)?)
}

/// A profile of `account`, signed by `authority`, after `change`; gives file and fingerprint.
fn profile(
    world: &World,
    desk: &Desk,
    authority: &KeyPair,
    account: &str,
    change: impl Fn(&mut Value),
) -> Result<(String, String)> {
    let environments = world.lab.cli(&["environment", "list"])?;
    let mut desktops = Vec::new();
    for environment in environments.as_array().into_iter().flatten() {
        let desktop = &environment["machines"][0]["desktop"];
        if desktop["address"].is_string() && environment["account"] == account {
            desktops.push(json!({
                "environment": environment["id"], "role": "analyst", "title": "screen",
                "target": { "address": desktop["address"], "port": desktop["port"] },
                "certificate": desktop["fingerprint"], "user": null, "until": 4_000_000_000u64,
            }));
        }
    }
    let mut payload = json!({
        "lab": "test", "gateway": { "host": world.lab.gateway(), "port": 22 },
        "host_keys": [world.host_key()?], "account": account,
        "portal": { "address": world.address_of(account)?, "port": 8080 },
        "desktops": desktops, "issued_at": 1_700_000_000,
    });
    change(&mut payload);
    let profile: Profile = serde_json::from_value(payload)?;
    let key = authority.subject_public_key_info();
    let file = desk.folder(&format!("{account}.profile"));
    fs::write(&file, Sealed::write(&profile, &key, |bytes| authority.sign(bytes))?)?;
    Ok((file.display().to_string(), Fingerprint::of(&key).to_string()))
}

/// Processes of this PC whose command is `name`.
fn processes(desk: &Desk, name: &str) -> Result<Vec<u32>> {
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let here = network(&desk.pc.holder().to_string());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let Ok(comm) = fs::read_to_string(entry.path().join("comm")) else { continue };
        if comm.trim() == name && network(&pid) == here {
            found.push(pid.parse()?);
        }
    }
    Ok(found)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type()?.is_dir() {
            true => files(&entry.path(), found)?,
            false => found.push(entry.path()),
        }
    }
    Ok(())
}

#[test]
fn a_card_leads_to_portal_and_desktop_and_a_broken_network_is_waited_out() -> Result<()> {
    let world = World::new("connect")?;
    let desk = Desk::new(&world, "alice", 10, "198.51.100.10/32")?;
    // The file that staff hand out, older than the environment: the desktop comes with the fresh one
    // that the portal gives through the tunnel.
    let file = desk.folder("alice.profile").display().to_string();
    let written = world.lab.cli_output(&["account", "profile", "alice", "--out", &file])?;
    ensure!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let authority = Sealed::read(&fs::read(&file)?)?.authority().to_string();
    let environment = world.environment("alice", "screen")?;
    let mut shell = world.shell(&environment)?;
    shell.run("for i in 1 2 3 4 5 6 7 8; do echo 'WWWWWWWWWWWWWWWWWWWWWWWW'; done > /dev/tty0")?;
    let added = desk.start(&["add", &file, "--fingerprint", &authority], "", None)?;
    drop_after(added, |event| event["event"] == "added")?;

    let inserted = desk.reader.insert(&desk.card)?;
    fs::create_dir_all(desk.folder("screen"))?;
    let screen = Screen::open(desk.reader.place(), &desk.folder("screen"), (1280, 800))?;
    let mut run = desk.start(&[], FACTORY_PIN, Some(screen.display()))?;
    let open = run.open()?;
    let url = open["portal"].as_str().context("no portal")?;
    let portal: u16 = url.trim_end_matches('/').rsplit(':').next().context("no port")?.parse()?;
    ensure!(desk.pc.http_get(portal, "/", &[])?.status == 200, "no portal");
    ensure!(open["desktops"].as_array().map(Vec::len) == Some(1), "{open}");
    let name = format!("{}-analyst", environment.id);
    ensure!(open["desktops"][0]["name"] == name.as_str(), "{open}");
    run.until("client", Duration::from_secs(10), |event| event["event"] == "rdp")?;
    wait_for("the desktop", Duration::from_secs(40), || {
        Ok(has_text(&screen.picture()?).then_some(()))
    })?;

    // The PIN is in no argument and no environment of what it started, nor in a file.
    let ssh = processes(&desk, "ssh")?;
    ensure!(ssh.len() == 1, "{ssh:?}");
    for pid in ssh.into_iter().chain(processes(&desk, "xfreerdp3")?) {
        for what in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{what}"))?;
            let text = String::from_utf8_lossy(&text).into_owned();
            ensure!(!text.contains(FACTORY_PIN), "the PIN is in {what} of {pid}");
        }
    }
    let mut kept = Vec::new();
    files(&desk.folder("config"), &mut kept)?;
    let names: Vec<_> = kept.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    for name in &names {
        let known = ["authority", "card.pub", "known_hosts", "profile.json"];
        ensure!(known.contains(name), "{names:?}");
    }
    for path in &kept {
        ensure!(!fs::read_to_string(path)?.contains(FACTORY_PIN), "the PIN is in {path:?}");
    }

    // A break of the network: the same ports lead there again, and the client draws again.
    let street = world.lab.street()?;
    street.unplug("pc10")?;
    let lost = run.until("loss", Duration::from_secs(60), |event| event["event"] == "lost")?;
    ensure!(["lost", "ended"].contains(&lost["kind"].as_str().unwrap_or("")), "{lost}");
    run.until("trying", Duration::from_secs(60), |event| event["kind"] == "no-route")?;
    // Meanwhile the card was taken out; nobody logs in until it is there again.
    drop(inserted);
    street.plug("pc10", desk.pc.holder(), desk.pc.address())?;
    run.until("missing card", Duration::from_secs(60), |event| event["kind"] == "no-card")?;
    let _in = desk.reader.insert(&desk.card)?;
    let again = run.open()?;
    ensure!(again["portal"] == open["portal"], "{again}");
    ensure!(again["desktops"][0]["port"] == open["desktops"][0]["port"], "{again}");
    shell.run("clear > /dev/tty0")?;
    wait_for("an empty desktop", Duration::from_secs(60), || {
        Ok((!has_text(&screen.picture()?)).then_some(()))
    })?;

    run.interrupt()?;
    for name in ["ssh", "xfreerdp3"] {
        wait_for("what it started to end", Duration::from_secs(20), || {
            Ok(processes(&desk, name)?.is_empty().then_some(()))
        })?;
    }
    Ok(())
}

/// Waits for an event, and lets the program end.
fn drop_after(mut run: Running, is: impl Fn(&Value) -> bool) -> Result<()> {
    run.until("its answer", Duration::from_secs(20), is).map(drop)
}

#[test]
fn whatever_is_wrong_is_said_in_one_sentence() -> Result<()> {
    let world = World::new("connect-wrong")?;
    let mut desk = Desk::new(&world, "alice", 10, "198.51.100.10/32")?;
    let ca = authority(&world)?;
    let (file, fingerprint) = profile(&world, &desk, &ca, "alice", |_| {})?;
    let is = |said: &Value, kind: &str| -> Result<()> {
        let sentence = said["says"].as_str().unwrap_or_default();
        ensure!(said["kind"] == kind && !sentence.is_empty(), "wanted {kind}: {said}");
        ensure!(!sentence.contains('\n'), "{said}");
        eprintln!("{kind}: {sentence}");
        Ok(())
    };
    // Before anything is trusted.
    is(&desk.says(&[], "")?, "no-lab")?;
    is(&desk.says(&["add", &file], "")?, "unpinned")?;
    let wrong = Fingerprint::of(b"another").to_string();
    is(&desk.says(&["add", &file, "--fingerprint", &wrong], "")?, "not-trusted")?;
    let added = desk.start(&["add", &file, "--fingerprint", &fingerprint], "", None)?;
    drop_after(added, |event| event["event"] == "added")?;
    let (forged, _) = profile(&world, &desk, &KeyPair::generate()?, "alice", |_| {})?;
    is(&desk.says(&["add", &forged], "")?, "authority")?;

    // The card and its reader.
    is(&desk.says(&["--pkcs11", "/bin/true"], "")?, "module")?;
    is(&desk.says(&[], FACTORY_PIN)?, "no-card")?;
    let state = CardState::of_kind(Kind::Other);
    let other = CardFile::create(desk.folder("other.json"), &state)?;
    let foreign = desk.reader.insert(&other)?;
    is(&desk.says(&[], FACTORY_PIN)?, "unknown-card")?;
    drop(foreign);
    let inserted = desk.reader.insert(&desk.card)?;
    let mut copy = desk.card.read()?;
    copy.objects.insert("5fc102".into(), chuid());
    let twin = CardFile::create(desk.folder("twin.json"), &copy)?;
    let second = desk.reader.insert_faulty(1, &twin, Faults::default())?;
    is(&desk.says(&[], FACTORY_PIN)?, "several-cards")?;
    drop(second);
    is(&desk.says(&["--card", "0000"], FACTORY_PIN)?, "other-card")?;
    is(&desk.says(&[], "123")?, "pin-length")?;
    ensure!(desk.card.read()?.pin.tries == 3, "what is no PIN cost a try");
    let said = desk.says(&[], "654321")?;
    is(&said, "wrong-pin")?;
    ensure!(desk.card.read()?.pin.tries == 2, "one run cost more than one try");
    let said = desk.says(&[], "654321")?;
    is(&said, "wrong-pin")?;
    ensure!(said["says"].as_str().is_some_and(|says| says.contains("one try is left")), "{said}");
    let said = desk.says(&["--lang", "ja"], "654321")?;
    is(&said, "blocked")?;
    is(&desk.says(&[], FACTORY_PIN)?, "blocked")?;
    let mut unblocked = desk.card.read()?;
    (unblocked.pin.tries, unblocked.pin.value) = (3, FACTORY_PIN.into());
    drop(inserted);
    desk.card.write(&unblocked)?;

    // The gateway.
    let inserted = desk.reader.insert(&desk.card)?;
    let mut run = desk.start(&["--no-rdp"], FACTORY_PIN, None)?;
    run.open()?;
    world.lab.cli(&["account", "suspend", "alice", "--reason", "tried out"])?;
    let limit = Duration::from_secs(60);
    let first = run.until("its end", limit, |event| {
        ["ended", "lost"].map(Some).contains(&event["kind"].as_str())
    })?;
    // Whoever is cut off before the gateway could say a word is told of that alone.
    if first["kind"] == "ended" {
        is(&first, "ended")?;
        is(&run.until("its reason", limit, |event| event["kind"] != "ended")?, "closed")?;
    }
    drop(run);
    world.lab.cli(&["account", "suspend", "alice", "--reason", "tried out", "--undo"])?;
    wait_for("a login", Duration::from_secs(20), || {
        let mut run = desk.start(&["--no-rdp"], FACTORY_PIN, None)?;
        run.open().map(|_| Some(()))
    })?;
    world.lab.stop_service("nonstopd")?;
    is(&desk.says(&[], FACTORY_PIN)?, "account-refused")?;
    world.lab.start_service("nonstopd")?;
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHt7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7";
    let newer = |payload: &mut Value| payload["issued_at"] = json!(4_000_000_000u64);
    let (file, _) = profile(&world, &desk, &ca, "alice", |payload| {
        newer(payload);
        payload["host_keys"] = json!([other]);
    })?;
    let said = desk.says(&[&file], FACTORY_PIN)?;
    is(&said, "host-key")?;
    ensure!(said["says"].as_str().is_some_and(|s| s.matches("SHA256:").count() == 2), "{said}");
    let (file, _) = profile(&world, &desk, &ca, "alice", |payload| {
        newer(payload);
        payload["gateway"]["host"] = json!("198.51.100.77");
    })?;
    is(&desk.says(&[&file], FACTORY_PIN)?, "no-route")?;
    let (file, _) = profile(&world, &desk, &ca, "alice", |payload| {
        newer(payload);
        payload["gateway"]["host"] = json!("nowhere.invalid");
    })?;
    is(&desk.says(&[&file], FACTORY_PIN)?, "no-name")?;

    // An account that may come from elsewhere only: from an address that nobody has, and from
    // one that somebody else has.
    let bob = Desk::new(&world, "bob", 11, "203.0.113.0/24")?;
    let (file, fingerprint) = profile(&world, &bob, &ca, "bob", |_| {})?;
    let _in = bob.reader.insert(&bob.card)?;
    let said = bob.says(&[&file, "--fingerprint", &fingerprint], FACTORY_PIN)?;
    is(&said, "silent")?;
    ensure!(said["says"].as_str().is_some_and(|says| says.contains("not be registered")), "{said}");
    Desk::new(&world, "carol", 12, "198.51.100.11/32")?;
    wait_for("the gateway to answer there", Duration::from_secs(20), || {
        let said = bob.says(&[], FACTORY_PIN)?;
        Ok((said["kind"] == "key-refused").then_some(()))
    })?;

    drop(inserted);
    desk.reader.kill()?;
    is(&desk.says(&[], FACTORY_PIN)?, "no-reader")
}

/// Another identity, for a card that is a copy: FASC-N, GUID, expiry, empty signature and error
/// detection code, as SP 800-73 has them.
fn chuid() -> String {
    let expires = hex::encode("20301231");
    format!("3019{}3410{}3508{expires}3e00fe00", "d4".repeat(25), "5a".repeat(16))
}

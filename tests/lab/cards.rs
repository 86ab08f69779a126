//! Cards, from the reader at the lab's desk to the desktop far away, and their end.

use crate::displays::{Looking, display, see, trace_of};
use anyhow::{Context, Result, bail, ensure};
use nonstop_testkit::{
    card::{CardFile, CardState, FACTORY_PIN, Kind, SlotKey},
    pc::Pc,
    place::{Place, wait_for},
    rdp::{Desktop, Session},
    reader::{Faults, Reader, SLOTS, pkcs11},
    ssh::Forward,
};
use nonstop_tests::{Environment, World, has_text};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// An account whose only way in will be a card, and the PC it sits at.
fn person(world: &World, account: &str, role: &str, host: u8) -> Result<Pc> {
    let pc = world.lab.pc(account, host)?;
    let mut words = vec!["account", "add", account, "--role", role, "--full-name", account];
    words.extend(["--affiliation", "Test", "--source", "0.0.0.0/0"]);
    if role == "researcher" {
        words.extend(["--edition", "intermediate"]);
    }
    world.lab.cli(&words)?;
    Ok(pc)
}

fn card(world: &World, name: &str, state: &CardState) -> Result<CardFile> {
    CardFile::create(world.lab.dir().join("cards").join(format!("{name}.json")), state)
}

fn letter_of(world: &World, account: &str) -> PathBuf {
    world.lab.dir().join(format!("{account}.txt"))
}

/// Issues the card in the lab's reader; gives what was recorded.
fn issue(world: &World, account: &str, algorithm: &str) -> Result<Value> {
    let letter = letter_of(world, account).display().to_string();
    world.lab.cli(&["card", "issue", account, "--algorithm", algorithm, "--letter", &letter])
}

/// The PIN in a letter.
fn pin_in(world: &World, account: &str) -> Result<String> {
    let path = letter_of(world, account);
    ensure!(fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600, "others may read a PIN");
    let text = fs::read_to_string(&path)?;
    let pin = text.lines().find_map(|line| line.trim().strip_prefix("PIN: "));
    Ok(pin.context("no PIN in the letter")?.into())
}

fn keys_of(world: &World, account: &str) -> Result<usize> {
    let shown = world.lab.cli(&["account", "show", account])?;
    Ok(shown["keys"].as_array().context("no keys")?.len())
}

/// Alice with an issued card in her own PC's reader, and her PIN.
struct Alice {
    pc: Pc,
    reader: Reader,
    card: CardFile,
    record: Value,
    pin: String,
}

fn alice(world: &World, algorithm: &str) -> Result<Alice> {
    let pc = person(world, "alice", "researcher", 10)?;
    let card = card(world, "alice", &CardState::factory())?;
    let desk = Reader::of_lab(&world.lab)?;
    let record = {
        let _in = desk.insert(&card)?;
        issue(world, "alice", algorithm)?
    };
    let reader = Reader::of_pc(&pc)?;
    let pin = pin_in(world, "alice")?;
    Ok(Alice { pc, reader, card, record, pin })
}

impl Alice {
    fn look(&self, world: &World, port: u16, environment: &Environment) -> Result<Looking> {
        let (address, its_port, fingerprint) = display(world, environment)?;
        let forward = Forward { port, target: format!("{address}:{its_port}") };
        let tunnel = self.reader.tunnel(&self.pc, &self.pin, &world.host_key()?, &[forward])?;
        let fingerprint = Some(fingerprint.as_str());
        let desktop = Desktop { port, fingerprint, user: "researcher", password: "" };
        let folder = world.lab.dir().join(format!("look-{port}"));
        let session = Session::open(&self.pc.place(), &desktop, &folder)?;
        Ok(Looking { session, tunnel })
    }

    /// What ssh says to a login that must be refused.
    fn refused(&self, host_key: &str) -> Result<String> {
        let forward = Forward { port: 4999, target: "127.0.0.1:1".into() };
        match self.reader.tunnel(&self.pc, &self.pin, host_key, &[forward]) {
            Ok(_) => bail!("the card was let in"),
            Err(e) => Ok(format!("{e:#}")),
        }
    }
}

#[test]
fn a_card_from_the_desk_opens_a_desktop_and_its_end_is_the_desktops_within_a_second() -> Result<()>
{
    let world = World::new("card")?;
    let alice = alice(&world, "ec")?;
    // Somebody else may come from anywhere: without, the gateway gives alice no answer at all.
    world.lab.researcher("bob", 11)?;
    let environment = world.environment("alice", "screen")?;
    let host_key = world.host_key()?;
    let _in = alice.reader.insert(&alice.card)?;

    // Stock programs see the key that is recorded.
    let shown = alice.reader.place().run(&["ssh-keygen", "-D", &pkcs11()?])?;
    let recorded = alice.record["key"].as_str().context("a key")?;
    ensure!(shown.contains(recorded), "{shown} is not {recorded}");
    let test = ["pkcs11-tool", "--module", &pkcs11()?, "--login", "--pin", &alice.pin, "--test"];
    ensure!(alice.reader.place().run(&test)?.contains("No errors"));

    let mut looking = alice.look(&world, 4001, &environment)?;
    let mut shell = world.shell(&environment)?;
    shell.run("for i in 1 2 3 4 5 6 7 8; do echo 'WWWWWWWWWWWWWWWWWWWWWWWW'; done > /dev/tty0")?;
    see(&mut looking, "text of the guest's screen", has_text)?;

    let id = alice.record["card"].as_str().context("a card")?;
    world.lab.cli(&["card", "revoke", id, "--reason", "lost"])?;
    let revoked = Instant::now();
    wait_for("the desktop to be cut off", Duration::from_secs(5), || {
        Ok((!looking.tunnel.is_open()).then_some(()))
    })?;
    let cut = revoked.elapsed();
    let before = looking.session.picture()?;
    println!("after the revocation: the tunnel ended {cut:?}");
    ensure!(cut < Duration::from_secs(1), "cut after {cut:?}");
    let said = alice.refused(&host_key)?;
    println!("a new login {:?} after it: {said}", revoked.elapsed());
    ensure!(said.contains("Permission denied"), "{said}");
    shell.run("for i in 1 2 3 4 5 6 7 8; do echo; echo MMMMMMMMMMMM; done > /dev/tty0")?;
    thread::sleep(Duration::from_secs(1));
    let still = looking.session.ended()?.is_some()
        || looking.session.picture()?.difference(&before) < 0.001;
    ensure!(still, "alice got a further frame");
    for action in ["card.begin", "card.certify", "card.active", "card.revoke"] {
        let rows = trace_of(&world, action)?;
        ensure!(rows.len() == 1, "{action}: {rows:?}");
        ensure!(!format!("{rows:?}").contains(&alice.pin), "a PIN in the trace");
    }
    Ok(())
}

#[test]
fn without_the_daemon_no_card_gets_in_and_what_is_open_ends_with_its_lease() -> Result<()> {
    const LEASE: u64 = 6;
    let mut world = World::off("card-lease", &format!("lease_seconds: {LEASE}"))?;
    world.lab.start()?;
    let alice = alice(&world, "rsa")?;
    let environment = world.environment("alice", "screen")?;
    let host_key = world.host_key()?;
    let _in = alice.reader.insert(&alice.card)?;
    let mut looking = alice.look(&world, 4001, &environment)?;
    let mut shell = world.shell(&environment)?;
    shell.run("for i in 1 2 3 4 5 6 7 8; do echo 'WWWWWWWWWWWWWWWWWWWWWWWW'; done > /dev/tty0")?;
    see(&mut looking, "text of the guest's screen", has_text)?;
    world.lab.stop_service("nonstopd")?;
    let stopped = Instant::now();
    let said = alice.refused(&host_key)?;
    println!("a login {:?} after the daemon's end: {said}", stopped.elapsed());
    thread::sleep(Duration::from_secs(LEASE + 1).saturating_sub(stopped.elapsed()));
    let before = looking.session.picture()?;
    shell.run("for i in 1 2 3 4 5 6 7 8; do echo; echo MMMMMMMMMMMM; done > /dev/tty0")?;
    thread::sleep(Duration::from_secs(2));
    let still = looking.session.ended()?.is_some()
        || looking.session.picture()?.difference(&before) < 0.001;
    ensure!(still, "a further frame {:?} after the daemon's end", stopped.elapsed());
    ensure!(!world.reaches(&alice.pc, 4001, "open")?, "the display answers through the tunnel");
    world.lab.start_service("nonstopd")?;
    drop(looking);
    let again = wait_for("alice to get in again", Duration::from_secs(30), || {
        alice.look(&world, 4002, &environment).map(Some)
    });
    again.map(drop)
}

#[test]
fn without_the_daemon_the_end_of_a_period_cuts_what_is_open() -> Result<()> {
    const LEFT: u64 = 15;
    // The lease would last far longer than the period.
    let mut world = World::off("card-period", "lease_seconds: 600")?;
    world.lab.start()?;
    let alice = alice(&world, "ec")?;
    // A desktop of the guest's own: one from the hypervisor freezes with the daemon already.
    let environment = world.environment("alice", "probe")?;
    world.shell(&environment)?.run("(nc -ll -p 3389 -e cat >/dev/null 2>&1 &)")?;
    let host_key = world.host_key()?;
    let _in = alice.reader.insert(&alice.card)?;
    let forward = Forward { port: 4001, target: format!("{}:3389", environment.address) };
    let mut tunnel = alice.reader.tunnel(&alice.pc, &alice.pin, &host_key, &[forward])?;
    ensure!(world.reaches_soon(&alice.pc, 4001, "open")?, "nothing answers in the guest");
    let until = Place::here().run(&["date", "-u", "-d", &format!("+{LEFT} seconds"), "+%FT%TZ"])?;
    let end: f64 = Place::here().run(&["date", "-d", until.trim(), "+%s"])?.trim().parse()?;
    world.lab.cli(&["environment", "extend", &environment.id, "--until", until.trim()])?;
    // The pass that this woke grants until the period's end.
    thread::sleep(Duration::from_secs(2));
    world.lab.stop_service("nonstopd")?;
    // Says the time into the open connection and writes down what comes back.
    const TALK: &str = "exec 3<>/dev/tcp/127.0.0.1/4001; while date +%s.%N >&3; do \
                        read -t 2 said <&3 || break; echo $said; sleep 0.05; done";
    let seconds = (LEFT + 5).to_string();
    let talk = alice.pc.output(&["timeout", &seconds, "bash", "-c", TALK])?;
    let heard = String::from_utf8_lossy(&talk.stdout).into_owned();
    let last: f64 = heard.lines().last().context("nothing came back")?.parse()?;
    println!("the last answer came {:+.3} s from the period's end", last - end);
    ensure!((-1.5..1.0).contains(&(last - end)), "the last answer: {last}, the end: {end}");
    ensure!(tunnel.is_open(), "who ends idle sessions while the daemon is away?");
    ensure!(!world.reaches(&alice.pc, 4001, "after-the-end")?, "a new connection got through");
    println!("a login: {}", alice.refused(&host_key)?);
    Ok(())
}

#[test]
fn a_card_that_is_pulled_out_anywhere_leaves_the_account_as_it_was() -> Result<()> {
    let world = World::new("card-cut")?;
    person(&world, "alice", "researcher", 10)?;
    let desk = Reader::of_lab(&world.lab)?;
    for (round, lose) in [false, true].into_iter().enumerate() {
        let card = card(&world, &format!("cut-{round}"), &CardState::factory())?;
        let letter = letter_of(&world, "alice").display().to_string();
        for n in 1.. {
            let (pull_at, lose_answer) = if lose { (None, Some(n)) } else { (Some(n), None) };
            let faults = Faults { pull_at, lose_answer, slow_ms: 0 };
            let _in = desk.insert_faulty(0, &card, faults)?;
            let output = world.lab.cli_output(&["card", "issue", "alice", "--letter", &letter])?;
            if output.status.success() {
                ensure!(n > 10, "only {n} commands");
                break;
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(said.contains("pulled out") && said.contains("same command"), "{n}: {said}");
            ensure!(keys_of(&world, "alice")? == round, "command {n}: a key more");
            ensure!(!letter_of(&world, "alice").exists(), "command {n}: a letter is left");
        }
        ensure!(keys_of(&world, "alice")? == round + 1, "no key after the last try");
        ensure!(card.read()?.pin.value == pin_in(&world, "alice")?, "not the letter's PIN");
        fs::remove_file(letter_of(&world, "alice"))?;
    }
    // What a finished one says to the same command.
    let card = CardFile::at(world.lab.dir().join("cards/cut-0.json"));
    let _in = desk.insert(&card)?;
    let before = card.read()?;
    let letter = letter_of(&world, "alice").display().to_string();
    let said = world.lab.cli_refuses(&["card", "issue", "alice", "--letter", &letter])?;
    ensure!(said.contains("active") && card.read()? == before, "{said}");
    Ok(())
}

#[test]
fn what_is_wrong_at_the_desk_is_said_and_changes_nothing() -> Result<()> {
    let world = World::new("card-desk")?;
    person(&world, "alice", "researcher", 10)?;
    let letter = letter_of(&world, "alice").display().to_string();
    let issue = ["card", "issue", "alice", "--letter", letter.as_str()];
    let refused = |what: &str| -> Result<()> {
        let said = world.lab.cli_refuses(&issue)?;
        println!("{said}");
        ensure!(said.contains(what), "not {what:?}: {said}");
        ensure!(keys_of(&world, "alice")? == 0, "a key though {what}");
        Ok(())
    };
    refused("pcscd does not answer")?;
    let mut desk = Reader::of_lab(&world.lab)?;
    refused("no card in")?;
    let other = card(&world, "other", &CardState::of_kind(Kind::Other))?;
    let mute = card(&world, "mute", &CardState::of_kind(Kind::Mute))?;
    let first = card(&world, "first", &CardState::factory())?;
    let mut managed = CardState::factory();
    managed.management.key = "17".repeat(24);
    let managed = card(&world, "managed", &managed)?;
    for (card, what) in [
        (&other, "not a PIV card"),
        (&mute, "no sign of life"),
        (&managed, "management key that is neither"),
    ] {
        let _in = desk.insert(card)?;
        refused(what)?;
    }
    let inserted = desk.insert(&first)?;
    let second = desk.insert_faulty(1, &other, Faults::default())?;
    refused("cards in several readers")?;
    let readers = world.lab.cli(&["card", "readers"])?;
    ensure!(readers[0]["content"] == "piv" && readers[1]["content"] == "not-piv", "{readers}");
    // The reader that is named is the one that is taken.
    world.lab.cli(&[&issue[..], &["--reader", SLOTS[0]]].concat())?;
    drop(second);
    let readers = world.lab.cli(&["card", "readers"])?;
    ensure!(readers[0]["card"]["account"] == "alice", "{readers}");
    ensure!(keys_of(&world, "alice")? == 1);

    // Blocked by three wrong PINs, and opened again by the lab alone.
    let pin = pin_in(&world, "alice")?;
    let wrong = if pin == "000000" { "111111" } else { "000000" };
    let verify: String = wrong.bytes().map(|b| format!("{b:02X}")).collect();
    let select = "00A404000BA000000308000010000100";
    for _ in 0..3 {
        let apdu = format!("0020008008{verify}FFFF");
        world.lab.enter(&["opensc-tool", "-s", select, "-s", &apdu])?;
    }
    ensure!(first.read()?.pin.tries == 0);
    fs::remove_file(letter_of(&world, "alice"))?;
    world.lab.cli(&["card", "unblock", "--letter", &letter])?;
    let state = first.read()?;
    ensure!(state.pin.tries == 3 && state.pin.value == pin_in(&world, "alice")?);
    drop(inserted);

    desk.kill()?;
    desk.start_without_readers()?;
    let said = world.lab.cli_refuses(&issue)?;
    ensure!(said.contains("no card reader"), "{said}");
    Ok(())
}

/// A card that somebody else gave a key and a certificate.
fn of_somebody_else(world: &World) -> Result<CardFile> {
    let key = SlotKey::EcP256("5a".repeat(32));
    let file = |name: &str| world.lab.dir().join(name).display().to_string();
    let [public, ca, signed, request, cert] =
        ["public.pem", "other.key", "other.pem", "other.csr", "card.der"].map(file);
    fs::write(&public, key.public_pem()?)?;
    let here = Place::here();
    let mut words =
        vec!["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=other"];
    words.extend(["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", &ca, "-out", &signed]);
    here.run(&words)?;
    here.run(&["openssl", "req", "-new", "-key", &ca, "-subj", "/CN=alice", "-out", &request])?;
    let mut words = vec!["openssl", "x509", "-req", "-in", &request, "-CA", &signed, "-CAkey", &ca];
    words.extend(["-force_pubkey", &public, "-outform", "DER", "-out", &cert, "-days", "9"]);
    here.run(&words)?;
    let cert = fs::read(&cert)?;
    let length = u16::try_from(cert.len())?.to_be_bytes();
    let object = [&[0x70, 0x82][..], &length, &cert, &[0x71, 1, 0, 0xFE, 0]].concat();
    let hex: String = object.iter().map(|b| format!("{b:02x}")).collect();
    let mut state = CardState::factory();
    state.key = Some(key);
    state.objects.insert("5fc105".into(), hex);
    card(world, "other", &state)
}

#[test]
fn a_card_with_a_key_of_its_own_is_enrolled_by_its_pin() -> Result<()> {
    let world = World::new("card-enrol")?;
    let pc = person(&world, "alice", "researcher", 10)?;
    let card = of_somebody_else(&world)?;
    let before = card.read()?;
    let enrol = |pin: &str| {
        let line = format!(
            "echo {pin} | {}/nonstop --lab {} card enrol alice --json",
            nonstop_testkit::spec::PROGRAMS,
            world.lab.file().display()
        );
        world.lab.inside()?.output(&["sh", "-c", &line])
    };
    let desk = Reader::of_lab(&world.lab)?;
    let id = {
        let _in = desk.insert(&card)?;
        let said = enrol("654321")?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        ensure!(said.contains("not the card's PIN") && said.contains("2 tries"), "{said}");
        ensure!(keys_of(&world, "alice")? == 0);
        let said = enrol(FACTORY_PIN)?;
        ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let record: Value = serde_json::from_slice(&said.stdout)?;
        record["card"].as_str().context("a card")?.to_owned()
    };
    ensure!(card.read()? == before, "something was written on it");
    ensure!(keys_of(&world, "alice")? == 1);
    let reader = Reader::of_pc(&pc)?;
    {
        let _in = reader.insert(&card)?;
        let portal = format!("{}:8080", world.address_of("alice")?);
        let forward = Forward { port: 4003, target: portal };
        let _tunnel = reader.tunnel(&pc, FACTORY_PIN, &world.host_key()?, &[forward])?;
        ensure!(pc.http_get(4003, "/", &[])?.status == 200);
    }
    world.lab.cli(&["card", "revoke", &id, "--reason", "lost"])?;
    let _in = desk.insert(&card)?;
    let said = enrol(FACTORY_PIN)?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.contains("key"), "a revoked card's key came in again: {said}");
    ensure!(keys_of(&world, "alice")? == 0);
    Ok(())
}

#[test]
fn the_demos_reader_has_a_fresh_card_that_can_be_issued() -> Result<()> {
    let World { lab } = World::off("card-demo", "")?;
    let mut world = World { lab: lab.with_reader() };
    world.lab.start()?;
    person(&world, "alice", "researcher", 10)?;
    let readers = wait_for("the card to be seen", Duration::from_secs(10), || {
        let readers = world.lab.cli(&["card", "readers"])?;
        Ok((readers[0]["content"] == "piv").then_some(readers))
    })?;
    ensure!(readers[0]["certificate"] == false && readers[1]["content"] == "empty", "{readers}");
    issue(&world, "alice", "ec")?;
    ensure!(keys_of(&world, "alice")? == 1);
    world.lab.power_cut()?;
    world.lab.start()?;
    let readers = wait_for("the card to be seen again", Duration::from_secs(10), || {
        let readers = world.lab.cli(&["card", "readers"])?;
        Ok((readers[0]["content"] == "piv").then_some(readers))
    })?;
    ensure!(readers[0]["card"]["account"] == "alice", "{readers}");
    Ok(())
}

//! The test card in the real pcscd, read by OpenSC: what others build on.

use anyhow::{Context, Result};
use nonstop_testkit::{
    card::{CardFile, CardState, FACTORY_MANAGEMENT, Kind},
    net::Namespace,
    reader::{Faults, Reader, pkcs11},
};
use std::{fs, time::Instant};

/// A reader in a network of its own, and a folder for its cards.
struct Desk {
    dir: tempfile::TempDir,
    reader: Reader,
    _network: Namespace,
}

fn desk() -> Result<Desk> {
    let dir = tempfile::tempdir()?;
    let network = Namespace::new()?;
    let reader = Reader::in_network(network.holder(), dir.path())?;
    Ok(Desk { dir, reader, _network: network })
}

impl Desk {
    fn card(&self, state: &CardState) -> Result<CardFile> {
        CardFile::create(self.dir.path().join("card.json"), state)
    }
}

#[test]
fn a_card_goes_in_and_out_and_stays_what_it_was() -> Result<()> {
    let mut desk = desk()?;
    let card = desk.card(&CardState::factory())?;
    for _ in 0..2 {
        let _in = desk.reader.insert(&card)?;
        let said = desk.reader.place().run(&["opensc-tool", "-n"])?;
        assert!(said.contains("Personal Identity Verification Card"), "{said}");
    }
    let _in = desk.reader.insert_faulty(1, &card, Faults::default())?;
    assert_eq!(desk.reader.slots()?, [false, true]);
    desk.reader.kill()?;
    desk.reader.start_without_readers()?;
    desk.reader.kill()?;
    desk.reader.start()?;
    assert_eq!(desk.reader.slots()?, [false, false]);
    assert_eq!(card.read()?, CardState::factory());
    Ok(())
}

#[test]
fn a_card_that_is_pulled_out_has_done_the_command_or_not() -> Result<()> {
    let desk = desk()?;
    let card = desk.card(&CardState::factory())?;
    let wrong = [
        "opensc-tool",
        "-s",
        "00A404000BA000000308000010000100",
        "-s",
        "0020008008303030303030FFFF",
    ];
    let faults = Faults { pull_at: Some(1), ..Faults::default() };
    let mut gone = desk.reader.insert_faulty(0, &card, faults)?;
    assert!(!desk.reader.place().output(&wrong)?.status.success());
    assert!(!gone.is_in());
    assert_eq!(card.read()?, CardState::factory());
    let _in = desk.reader.insert(&card)?;
    let said = desk.reader.place().run(&wrong)?;
    assert!(said.contains("SW1=0x63, SW2=0xC2"), "{said}");
    assert_eq!(card.read()?.pin.tries, 2);
    Ok(())
}

#[test]
fn opensc_writes_and_uses_a_card_of_either_algorithm() -> Result<()> {
    let pkcs11 = pkcs11()?;
    for (reference, kind) in [("11", "ecdsa-sha2-nistp256"), ("07", "ssh-rsa")] {
        let desk = desk()?;
        let card = desk.card(&CardState::factory())?;
        let _in = desk.reader.insert(&card)?;
        let place = desk.reader.place();
        let key = desk.dir.path().join("management");
        let words: Vec<_> = FACTORY_MANAGEMENT.iter().map(|b| format!("{b:02x}")).collect();
        fs::write(&key, words.join(":"))?;
        let management = format!("PIV_EXT_AUTH_KEY={}", key.display());
        let tool = ["env", &management, "piv-tool", "-A", "M:9B:03"];
        // `piv-tool -G` of OpenSC 0.23 fails with EC keys under OpenSSL 3.
        let generate = format!("00:47:00:9A:05:AC:03:80:01:{reference}");
        let begun = Instant::now();
        place.run(&[&tool[..], &["-s", &generate]].concat())?;
        eprintln!("{kind}: made in {} ms", begun.elapsed().as_millis());
        let key = card.read()?.key.context("a key on the card")?;
        let public = desk.dir.path().join("public.pem");
        fs::write(&public, key.public_pem()?)?;
        // A certificate over that key, by another one; OpenSC finds keys by certificates.
        let cert = certificate(&desk, &public.display().to_string())?;
        // Its exit code is the number of bytes written.
        place.output(&[&tool[..], &["-C", "9A", "-i", &cert]].concat())?;
        assert!(card.read()?.objects.contains_key("5fc105"));
        assert_eq!(card.read()?.key, Some(key));
        let said = place.run(&["ssh-keygen", "-D", &pkcs11])?;
        assert!(said.contains(kind), "{said}");
        let said = place.run(&[
            "pkcs11-tool",
            "--module",
            &pkcs11,
            "--login",
            "--pin",
            "123456",
            "--test",
        ])?;
        assert!(said.contains("No errors"), "{said}");
        assert!(
            !place
                .output(&["pkcs11-tool", "--module", &pkcs11, "--login", "--pin", "654321", "-O"])?
                .status
                .success()
        );
        assert_eq!(card.read()?.pin.tries, 2);
    }
    Ok(())
}

fn certificate(desk: &Desk, public: &str) -> Result<String> {
    let file = |name: &str| desk.dir.path().join(name).display().to_string();
    let (ca, ca_cert, request, cert) =
        (file("ca.pem"), file("ca.crt"), file("r.csr"), file("c.pem"));
    let here = nonstop_testkit::place::Place::here();
    here.run(&[
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        &ca,
        "-out",
        &ca_cert,
        "-subj",
        "/CN=ca",
    ])?;
    here.run(&["openssl", "req", "-new", "-key", &ca, "-subj", "/CN=alice", "-out", &request])?;
    here.run(&[
        "openssl",
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &ca_cert,
        "-CAkey",
        &ca,
        "-force_pubkey",
        public,
        "-out",
        &cert,
        "-days",
        "9",
    ])?;
    Ok(cert)
}

#[test]
fn cards_that_are_not_piv_are_seen() -> Result<()> {
    let desk = desk()?;
    let card = desk.card(&CardState::of_kind(Kind::Other))?;
    let _in = desk.reader.insert(&card)?;
    let said = desk.reader.place().output(&["opensc-tool", "-n"])?;
    assert!(!String::from_utf8_lossy(&said.stdout).contains("Identity"), "{said:?}");
    let mute =
        CardFile::create(desk.dir.path().join("mute.json"), &CardState::of_kind(Kind::Mute))?;
    let _mute = desk.reader.insert_faulty(1, &mute, Faults::default())?;
    Ok(())
}

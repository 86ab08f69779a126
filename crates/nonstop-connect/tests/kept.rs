//! What a PC keeps of labs, and what it makes of what `ssh` says.

use nonstop_connect::{
    Lang,
    heard::{Heard, Phase},
    store::{Kept, Store},
    trouble::{Tries, Trouble},
};
use nonstop_profile::{Fingerprint, Profile, Sealed};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHt7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7";

fn profile(change: impl Fn(&mut Value)) -> Profile {
    let mut value = json!({
        "lab": "Tokyo", "gateway": { "host": "192.0.2.1", "port": 22 }, "host_keys": [KEY],
        "account": "alice", "portal": { "address": "127.64.0.1", "port": 8080 },
        "desktops": [], "issued_at": 1000,
    });
    change(&mut value);
    serde_json::from_value(value).expect("a profile")
}

fn sealed(key: &KeyPair, profile: &Profile) -> Vec<u8> {
    let authority = key.subject_public_key_info();
    Sealed::write(profile, &authority, |b| key.sign(b)).expect("sealed").into_bytes()
}

fn yes(_: &Profile, _: &Fingerprint) -> Result<(), Trouble> {
    Ok(())
}

fn never(_: &Profile, _: &Fingerprint) -> Result<(), Trouble> {
    panic!("nobody is asked about an authority that is trusted")
}

#[test]
fn a_lab_is_known_by_its_authority_from_the_first_profile_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(folder.path().join("config"));
    let (key, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let file = sealed(&key, &profile(|_| {}));

    let no = |_: &Profile, authority: &Fingerprint| Err(Trouble::NotTrusted(*authority));
    assert!(matches!(store.take(&file, "x", no), Err(Trouble::NotTrusted(_))));
    assert!(store.labs(|_| {}).is_empty(), "what was not trusted was kept");

    let kept = store.take(&file, "x", yes).expect("kept");
    let hosts = fs::read_to_string(kept.known_hosts()).expect("written");
    assert_eq!(hosts, format!("{} {KEY}\n", kept.alias()));
    for (path, mode) in [(kept.folder.clone(), 0o700), (kept.known_hosts(), 0o600)] {
        assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, mode);
    }

    // Another authority for the same lab, and another lab beside it.
    let forged = sealed(&other, &profile(|_| {}));
    assert!(matches!(store.take(&forged, "x", never), Err(Trouble::Authority { .. })));
    let second = sealed(&other, &profile(|p| p["lab"] = "Osaka".into()));
    store.take(&second, "x", yes).expect("another lab");
    assert_eq!(store.labs(|_| {}).len(), 2);

    // Younger ones take its place, older ones do not.
    let younger = sealed(&key, &profile(|p| p["issued_at"] = 2000.into()));
    store.take(&younger, "x", never).expect("younger");
    assert!(matches!(store.take(&file, "x", never), Err(Trouble::Older(..))));

    store.forget(&kept).expect("forgotten");
    assert_eq!(store.labs(|_| {}).len(), 1);
    store.take(&forged, "x", yes).expect("after it was forgotten");
}

#[test]
fn what_was_changed_on_the_pc_is_told_and_not_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(folder.path().into());
    let (key, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let kept: Kept = store.take(&sealed(&key, &profile(|_| {})), "x", yes).expect("kept");
    fs::write(kept.folder.join("profile.json"), sealed(&other, &profile(|_| {}))).expect("written");
    let mut told = Vec::new();
    assert!(store.labs(|trouble| told.push(trouble)).is_empty());
    assert!(matches!(told.as_slice(), [Trouble::Profile(..)]), "{told:?}");
}

/// What OpenSSH 10.0 says, in the order in which it does.
fn heard(lines: &str) -> Heard {
    let mut heard = Heard::default();
    for line in lines.lines() {
        heard.line(&format!("{}\r", line.trim()));
    }
    heard
}

const CONNECTED: &str = "debug1: Connecting to 192.0.2.1 [192.0.2.1] port 22.
    debug1: Connection established.";
const GREETED: &str = "debug1: Connecting to 192.0.2.1 [192.0.2.1] port 22.
    debug1: Connection established.
    debug1: Remote protocol version 2.0, remote software version OpenSSH_10.0
    debug1: Server host key: ssh-ed25519 SHA256:Bk2sFPbZQOSEzPbmBlAXJ/V4Y2fBxUhOXZSMyOGCBMQ";
const OFFERED: &str = "debug1: Connection established.
    debug1: Remote protocol version 2.0, remote software version OpenSSH_10.0
    debug1: Host 'nonstop-01' is known and matches the ED25519 host key.
    debug1: Offering public key: PIV AUTH pubkey ECDSA SHA256:x token agent";
const ACCEPTED: &str = "debug1: Offering public key: x
    debug1: Server accepts key: x ECDSA SHA256:x token";

#[test]
fn the_reason_why_ssh_ended_is_understood() {
    let profile = profile(|_| {});
    for (lines, kind) in [
        ("ssh: connect to host 192.0.2.1 port 22: Connection timed out", "silent"),
        ("ssh: connect to host 192.0.2.1 port 22: Operation timed out", "silent"),
        ("ssh: connect to host 192.0.2.1 port 22: Connection refused", "refused"),
        ("ssh: connect to host 192.0.2.1 port 22: No route to host", "no-route"),
        ("ssh: connect to host 192.0.2.1 port 22: Network is unreachable", "no-route"),
        ("ssh: Could not resolve hostname gate: Name or service not known", "no-name"),
        ("command-line line 0: Bad configuration option: x", "ssh"),
    ] {
        assert_eq!(heard(lines).trouble(&profile).kind(), kind, "{lines}");
    }
    for (before, last, kind) in [
        (CONNECTED, "kex_exchange_identification: read: Connection reset by peer", "dropped"),
        (CONNECTED, "kex_exchange_identification: Connection closed by remote host", "dropped"),
        (
            GREETED,
            "No ED25519 host key is known for x and you have requested strict checking.
            Host key verification failed.",
            "host-key",
        ),
        (GREETED, "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @", "host-key"),
        (OFFERED, "alice@192.0.2.1: Permission denied (publickey).", "key-refused"),
        (OFFERED, "Connection closed by 192.0.2.1 port 22", "dropped"),
        (ACCEPTED, "Connection closed by 192.0.2.1 port 22", "account-refused"),
        (ACCEPTED, "C_Login failed: 160", "card-unused"),
        (
            ACCEPTED,
            "sign_and_send_pubkey: signing failed for ECDSA \"x\": error in libcrypto
            alice@192.0.2.1: Permission denied (publickey).",
            "card-unused",
        ),
        (GREETED, "alice@192.0.2.1: Permission denied (publickey).", "card-unused"),
        (
            "Authenticated to 192.0.2.1 ([192.0.2.1]:22) using \"publickey\".",
            "bind [127.0.0.1]:4001: Address already in use",
            "port-taken",
        ),
        (
            "debug1: Entering interactive session.",
            "Timeout, server 192.0.2.1 not responding.",
            "lost",
        ),
        (
            "debug1: Entering interactive session.",
            "client_loop: send disconnect: Broken pipe",
            "lost",
        ),
        (
            "debug1: Entering interactive session.",
            "Connection to 192.0.2.1 closed by remote host.",
            "ended",
        ),
    ] {
        let heard = heard(&format!("{before}\n{last}"));
        assert_eq!(heard.trouble(&profile).kind(), kind, "{last}");
    }
    let changed = heard(&format!("{GREETED}\nHost key verification failed.")).trouble(&profile);
    let said = changed.says(Lang::En);
    assert!(said.contains("SHA256:Bk2sFPbZ") && said.matches("SHA256:").count() == 2, "{said}");
    assert_eq!(heard("debug1: Entering interactive session.").phase, Phase::Open);
    let taken = "Authenticated to x using y.\nbind [127.0.0.1]:4001: Address already in use";
    assert_eq!(heard(taken).trouble(&profile), Trouble::PortTaken(4001));
}

/// A gateway that is none may say anything.
#[test]
fn nothing_that_comes_from_a_gateway_reaches_the_terminal_as_it_is() {
    let heard = heard("debug1: Connection established.\nevil \u{1b}[2J\u{7} words");
    let said = heard.trouble(&profile(|_| {})).says(Lang::En);
    assert!(!said.contains(|c: char| c.is_control()), "{said:?}");
}

#[test]
fn tries_are_told_as_far_as_the_card_tells() {
    let says = |tries| Trouble::WrongPin(tries).says(Lang::En);
    assert!(says(Tries::All).contains("more than one try is left"));
    assert!(says(Tries::Last).contains("one try is left"));
    assert!(says(Tries::None).contains("blocked"));
    assert!(Trouble::WrongPin(Tries::Last).says(Lang::Ja).contains("残り1回"));
}

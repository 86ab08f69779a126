//! What a profile may say, and what is refused.

use nonstop_profile::{
    Account, Address, CertificateDigest, Desktop, EnvironmentName, FILE_BYTES, Fingerprint,
    Gateway, Host, HostKey, Moment, OpenError, Plain, Port, Profile, RoleName, Sealed, Target,
    UserName,
};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::{Value, json};
use std::net::IpAddr;

const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHt7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7";

fn profile() -> Profile {
    let target = |address: &str, port| Target {
        address: address.parse::<IpAddr>().expect("an address").try_into().expect("a host's"),
        port: Port::new(port).expect("a port"),
    };
    Profile {
        lab: "解析室 東京".parse().expect("plain"),
        gateway: Gateway {
            host: "gate.lab.example".parse().expect("a host"),
            port: Port::new(22).expect("a port"),
        },
        host_keys: vec![ED25519.parse().expect("a key")],
        account: "alice".parse().expect("an account"),
        portal: target("127.64.0.1", 8080),
        transfer: Some(target("127.64.0.1", 8081)),
        desktops: vec![Desktop {
            environment: "e3".parse().expect("an environment"),
            role: "analyst".parse().expect("a role"),
            title: "Darknet traffic (macro)".parse().expect("plain"),
            target: target("127.65.0.3", 3389),
            certificate: Some("ab".repeat(32).parse().expect("a digest")),
            user: None,
            until: Moment::from_seconds(1_795_900_000).expect("in time"),
        }],
        issued_at: Moment::from_seconds(1_795_800_000).expect("in time"),
    }
}

fn seal(key: &KeyPair, profile: &Profile) -> String {
    let authority = key.subject_public_key_info();
    Sealed::write(profile, &authority, |bytes| key.sign(bytes)).expect("sealed")
}

fn trusted(key: &KeyPair) -> Fingerprint {
    Fingerprint::of(&key.subject_public_key_info())
}

/// A file that says `payload`, whatever that is, with a right signature.
fn forged(key: &KeyPair, payload: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let signature = key.sign(&[b"nonstop profile 1\n", payload].concat()).expect("signed");
    json!({
        "payload": BASE64_STANDARD.encode(payload),
        "signature": BASE64_STANDARD.encode(signature),
        "authority": BASE64_STANDARD.encode(key.subject_public_key_info()),
    })
    .to_string()
}

fn opened(key: &KeyPair, payload: &[u8]) -> Result<Profile, OpenError> {
    Sealed::read(forged(key, payload).as_bytes())?.open(&trusted(key))
}

#[test]
fn a_profile_that_the_authority_signed_is_read_as_it_was_written() {
    let key = KeyPair::generate().expect("a key");
    let file = seal(&key, &profile());
    let sealed = Sealed::read(file.as_bytes()).expect("signed");
    assert_eq!(sealed.authority(), trusted(&key));
    assert_eq!(sealed.open(&trusted(&key)).expect("trusted"), profile());
}

#[test]
fn a_profile_of_another_authority_is_refused_with_both_fingerprints() {
    let (key, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let sealed = Sealed::read(seal(&other, &profile()).as_bytes()).expect("signed, by somebody");
    let refused = sealed.open(&trusted(&key)).expect_err("not the one that is trusted").to_string();
    for fingerprint in [trusted(&key), trusted(&other)] {
        assert!(refused.contains(&fingerprint.to_string()), "{refused}");
    }
}

#[test]
fn no_byte_of_a_file_can_be_changed() {
    let key = KeyPair::generate().expect("a key");
    let file = seal(&key, &profile());
    for at in (0..file.len()).step_by(3) {
        let mut bytes = file.clone().into_bytes();
        bytes[at] ^= 1;
        let read = Sealed::read(&bytes).and_then(|sealed| sealed.open(&trusted(&key)));
        // A blank between the fields may be another.
        assert!(read.is_err() || file.as_bytes()[at].is_ascii_whitespace(), "byte {at}");
    }
}

#[test]
fn a_file_from_before_there_was_a_file_transfer_is_still_read() {
    let key = KeyPair::generate().expect("a key");
    let mut older = serde_json::to_value(profile()).expect("JSON");
    older.as_object_mut().expect("an object").remove("transfer");
    let read = opened(&key, older.to_string().as_bytes()).expect("read");
    assert_eq!(read, Profile { transfer: None, ..profile() });
}

#[test]
fn a_signature_of_a_certificate_is_none_of_a_profile() {
    let key = KeyPair::generate().expect("a key");
    let mut file: Value = serde_json::from_str(&seal(&key, &profile())).expect("JSON");
    let payload = serde_json::to_vec(&profile()).expect("JSON");
    use base64::{Engine, prelude::BASE64_STANDARD};
    file["signature"] = BASE64_STANDARD.encode(key.sign(&payload).expect("signed")).into();
    let refused = Sealed::read(file.to_string().as_bytes()).expect_err("signed as something else");
    assert!(matches!(refused, OpenError::Signature), "{refused}");
}

#[test]
fn whatever_could_become_an_option_or_a_command_is_refused_in_every_word() {
    let key = KeyPair::generate().expect("a key");
    let good = serde_json::to_value(profile()).expect("JSON");
    assert!(opened(&key, good.to_string().as_bytes()).is_ok());
    let words = [
        "/lab",
        "/gateway/host",
        "/host_keys/0",
        "/account",
        "/portal/address",
        "/transfer/address",
        "/desktops/0/environment",
        "/desktops/0/role",
        "/desktops/0/title",
        "/desktops/0/target/address",
        "/desktops/0/certificate",
        "/desktops/0/user",
    ];
    let hostile = [
        "",
        " ",
        "-",
        "-oProxyCommand=touch x",
        "-o",
        "--help",
        "/v:evil",
        "a\nb",
        "a\r\nHost *",
        "a\0b",
        "a\tb",
        "a\u{1b}[2Jb",
        "`id`",
        "$(id)",
        "$HOME",
        "${HOME}",
        "%h",
        "%d/x",
        "a%b",
        "a'b",
        "a\"b",
        "a;b",
        "a|b",
        "a&b",
        "a<b",
        "a>b",
        "a*b",
        "a?b",
        "a\\b",
        "~root",
        "a@b",
        "a=b",
        "a#b",
        "a!b",
        "\u{202e}abc",
        "a\u{200b}b",
        "a\u{2066}b",
        "a\u{feff}b",
        "\u{3164}",
        "a\u{2028}b",
        "a\u{85}b",
        " a",
        "a ",
        "../x",
        "a,b\u{7f}",
    ];
    for word in words {
        for text in hostile {
            let mut payload = good.clone();
            *payload.pointer_mut(word).expect("a word of a profile") = text.into();
            let read = opened(&key, payload.to_string().as_bytes());
            let refused = matches!(&read, Err(OpenError::Word(_)));
            assert!(refused, "{word} took {text:?}: {read:?}");
            // What is said of it can be shown.
            let said = read.expect_err("refused").to_string();
            assert!(!said.contains(|c: char| c.is_control()), "{word}, {text:?}: {said:?}");
        }
    }
}

#[test]
fn hosts_have_one_form_each() {
    for good in [
        "gate",
        "gate.lab.example",
        "a-b.example",
        "xn--u9j.example",
        "3com.example",
        "192.0.2.1",
        "127.64.0.1",
        "2001:db8::1",
        "::1",
        "a.b.c.d",
    ] {
        assert_eq!(good.parse::<Host>().expect(good).to_string(), good);
    }
    for bad in [
        "Gate.example",
        "gate.example.",
        ".example",
        "a..b",
        "a_b",
        "-a",
        "a-",
        "a.-b",
        "127.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "127.0.0.01",
        "0.0.0.0",
        "0.1.2.3",
        "255.255.255.255",
        "224.0.0.1",
        "::",
        "ff02::1",
        "::ffff:127.0.0.1",
        "2001:DB8::1",
        "2001:db8:0::1",
        "[::1]",
        "fe80::1%eth0",
        "gate:22",
        "alice@gate",
        "gate,other",
        "gate other",
        "ゲート",
        "１２７.0.0.1",
        "gate.123",
        "localhost\u{2024}x",
        "ssh://gate",
        "gate/x",
    ] {
        assert!(bad.parse::<Host>().is_err(), "{bad} was taken for a host");
    }
    let long = format!("{}.example", "a".repeat(64));
    assert!(long.parse::<Host>().is_err());
    assert!(vec!["abcdefg"; 40].join(".").parse::<Host>().is_err());
    assert!(Address::try_from("gate.example".to_string()).is_err());
}

#[test]
fn host_keys_are_whole_and_of_known_kinds() {
    let key: HostKey = ED25519.parse().expect("a key");
    assert_eq!((key.to_string().as_str(), key.kind()), (ED25519, "ssh-ed25519"));
    let base64 = ED25519.split_once(' ').expect("two words").1;
    for bad in [
        format!("{ED25519} comment"),
        format!("{ED25519}\n"),
        format!("{ED25519}\n@cert-authority * {ED25519}"),
        format!("no-pty {ED25519}"),
        format!("@cert-authority * {ED25519}"),
        format!("ssh-ed25519  {base64}"),
        format!("ssh-rsa {base64}"),
        format!("ecdsa-sha2-nistp256 {base64}"),
        format!("ssh-dss {base64}"),
        format!("ssh-ed25519 {}", &base64[..base64.len() - 4]),
        format!("ssh-ed25519 {base64}AAAA"),
        "ssh-ed25519 ".into(),
        "ssh-ed25519".into(),
        "ssh-ed25519 ////AAAA".into(),
    ] {
        assert!(bad.parse::<HostKey>().is_err(), "{bad} was taken for a host key");
    }
}

#[test]
fn the_fingerprint_of_a_host_key_is_what_ssh_shows() {
    let folder = std::env::temp_dir().join(format!("nonstop-profile-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let file = folder.join(kind);
        let words = ["-q", "-N", "", "-C", "", "-t", kind, "-f", &file.display().to_string()];
        assert!(
            std::process::Command::new("ssh-keygen").args(words).status().expect("runs").success()
        );
        let public = file.with_extension("pub");
        let line = std::fs::read_to_string(&public).expect("made");
        let key: HostKey = line.trim().parse().expect(kind);
        assert_eq!(key.to_string(), line.trim());
        let shown = std::process::Command::new("ssh-keygen").arg("-lf").arg(&public).output();
        let shown = String::from_utf8(shown.expect("runs").stdout).expect("text");
        assert!(shown.contains(&key.fingerprint().to_string()), "{shown}");
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn files_that_are_no_profile_are_refused() {
    let key = KeyPair::generate().expect("a key");
    let good = serde_json::to_value(profile()).expect("JSON");
    let text = good.to_string();
    let changed = |change: fn(&mut Value)| {
        let mut payload = good.clone();
        change(&mut payload);
        opened(&key, payload.to_string().as_bytes())
    };
    // Fields: one more, one less, one twice.
    assert!(changed(|p| p["proxy_command"] = "x".into()).is_err());
    assert!(changed(|p| p["gateway"]["user"] = "root".into()).is_err());
    assert!(changed(|p| p["desktops"][0]["target"]["via"] = "x".into()).is_err());
    assert!(changed(|p| drop(p.as_object_mut().expect("an object").remove("account"))).is_err());
    let twice = text.replacen("{", "{\"account\":\"bob\",", 1);
    assert!(opened(&key, twice.as_bytes()).expect_err("twice").to_string().contains("duplicate"));
    assert!(opened(&key, format!("{text}{text}").as_bytes()).is_err());
    // Numbers that are none.
    for port in [json!(0), json!(-1), json!(65_536), json!("22"), json!(22.5)] {
        let mut payload = good.clone();
        payload["gateway"]["port"] = port;
        assert!(opened(&key, payload.to_string().as_bytes()).is_err());
    }
    assert!(changed(|p| p["issued_at"] = json!(u64::MAX)).is_err());
    // Too few and too many.
    assert!(changed(|p| p["host_keys"] = json!([])).is_err());
    assert!(changed(|p| p["host_keys"] = json!([ED25519, ED25519])).is_err());
    assert!(
        changed(|p| {
            let desktop = p["desktops"][0].clone();
            p["desktops"] = json!([desktop, desktop]);
        })
        .expect_err("twice")
        .to_string()
        .contains("e3-analyst")
    );
    let many = |p: &mut Value| {
        let desktop = p["desktops"][0].clone();
        let other = |n: u32| {
            let mut desktop = desktop.clone();
            desktop["environment"] = format!("e{n}").into();
            desktop
        };
        p["desktops"] = (0..65).map(other).collect();
    };
    assert!(changed(many).is_err());
    // Files.
    for file in ["", "{}", "[]", "null", "{\"payload\":1}"] {
        assert!(matches!(Sealed::read(file.as_bytes()), Err(OpenError::Form(_))), "{file}");
    }
    let file = seal(&key, &profile());
    let more = file.replacen('{', "{\"note\":\"\",", 1);
    assert!(matches!(Sealed::read(more.as_bytes()), Err(OpenError::Form(_))));
    let long = format!("{file}{}", " ".repeat(FILE_BYTES));
    assert!(matches!(Sealed::read(long.as_bytes()), Err(OpenError::Long(_))));
    assert!(Sealed::read(&[0xff; 100]).is_err());
}

#[test]
fn what_would_be_refused_is_not_sealed() {
    let key = KeyPair::generate().expect("a key");
    let mut without = profile();
    without.host_keys.clear();
    let authority = key.subject_public_key_info();
    assert!(Sealed::write(&without, &authority, |bytes| key.sign(bytes)).is_err());
    let other = KeyPair::generate().expect("a key");
    assert!(Sealed::write(&profile(), &authority, |bytes| other.sign(bytes)).is_err());
}

mod any {
    use super::*;
    use proptest::prelude::*;

    /// Whether `text` can stand between other words of a command, of a line of `ssh`'s
    /// configuration and of an `.rdp` file without meaning anything there.
    fn is_harmless(text: &str) -> bool {
        !text.starts_with('-')
            && !text.contains(|c: char| c.is_control() || "%`$'\"\\;|&<>*?~#!=@".contains(c))
    }

    proptest! {
        #[test]
        fn whatever_parses_is_harmless_and_its_own_text(text in "\\PC{0,40}|[-a-z0-9.:%_/ ]{0,40}") {
            macro_rules! holds {
                ($($word:ty),*) => {$(
                    if let Ok(word) = text.parse::<$word>() {
                        prop_assert!(is_harmless(&text), "{text:?} is a {}", stringify!($word));
                        prop_assert_eq!(word.to_string(), text.clone());
                    }
                )*};
            }
            holds!(Account, EnvironmentName, RoleName, UserName, Plain, Host, CertificateDigest);
        }

        #[test]
        fn whatever_a_lab_says_can_be_made_plain(text in any::<String>()) {
            let instead: Plain = "lab".parse().expect("plain");
            let shown = Plain::from_any(&text, &instead);
            prop_assert!(is_harmless(shown.as_str()));
        }

        #[test]
        fn no_bytes_make_the_reader_fall(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Sealed::read(&bytes).is_err());
            let key = String::from_utf8_lossy(&bytes).parse::<HostKey>();
            prop_assert!(key.is_err());
        }

        #[test]
        fn fingerprints_are_read_as_they_are_shown(bytes in any::<[u8; 16]>()) {
            let fingerprint = Fingerprint::of(&bytes);
            prop_assert_eq!(fingerprint.to_string().parse::<Fingerprint>(), Ok(fingerprint));
        }
    }
}

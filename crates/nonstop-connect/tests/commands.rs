//! The command lines of each system, as they are made from a profile.

use nonstop_connect::{
    desktop::{Client, RDP_SETTINGS, rdp_file},
    os::Os,
    ssh::{Forward, Identity, arguments},
};
use nonstop_profile::{Moment, Port, Profile, Target};
use serde_json::json;
use std::{collections::HashMap, ffi::OsString, net::IpAddr, path::Path};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHt7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7";

fn profile() -> Profile {
    serde_json::from_value(json!({
        "lab": "Tokyo", "gateway": { "host": "gate.lab.example", "port": 2222 },
        "host_keys": [KEY], "account": "alice",
        "portal": { "address": "127.64.0.1", "port": 8080 },
        "desktops": [
            { "environment": "e3", "role": "analyst", "title": "macro",
              "target": { "address": "127.65.0.3", "port": 3389 },
              "certificate": "ab".repeat(32), "user": null, "until": 1_795_900_000 },
            { "environment": "e4", "role": "analyst", "title": "macro, its own server",
              "target": { "address": "10.77.0.20", "port": 3389 },
              "certificate": null, "user": "researcher", "until": 1_795_900_000 },
        ],
        "issued_at": 1_795_800_000,
    }))
    .expect("a profile")
}

fn forwards() -> Vec<Forward> {
    let v6 = "2001:db8::7".parse::<IpAddr>().expect("an address").try_into().expect("a host's");
    vec![
        Forward { port: 40_001, target: profile().portal },
        Forward { port: 40_002, target: profile().desktops[0].target },
        Forward {
            port: 40_003,
            target: Target { address: v6, port: Port::new(3389).expect("a port") },
        },
    ]
}

fn ssh(os: Os, folder: &str, module: &str) -> String {
    let slash = if os == Os::Windows { r"\" } else { "/" };
    let file = |name: &str| format!("{folder}{slash}{name}");
    let (hosts, public) = (file("known_hosts"), file("card.pub"));
    let identity = Identity::Card { module: Path::new(module), public: Path::new(&public) };
    let hosts = Path::new(&hosts);
    let words = arguments(os, &profile(), "nonstop-0123456789abcdef", hosts, identity, &forwards());
    words.expect("made").join("\n").replace("-o\n", "-o ").replace("-L\n", "-L ")
}

#[test]
fn the_tunnel_on_linux() {
    let module = Os::Linux.modules()[0];
    insta::assert_snapshot!(ssh(Os::Linux, "/home/alice/.config/nonstop-connect/0123", module));
}

#[test]
fn the_tunnel_on_macos() {
    let folder = "/Users/alice/Library/Application Support/nonstop-connect/0123";
    let words = ssh(Os::MacOs, folder, Os::MacOs.modules()[0]);
    let paths = words.lines().filter(|line| line.contains('"')).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(paths);
}

#[test]
fn the_tunnel_on_windows() {
    let folder = r"C:\Users\alice\AppData\Roaming\nonstop-connect\0123";
    let words = ssh(Os::Windows, folder, Os::Windows.modules()[0]);
    let paths = words.lines().filter(|line| line.contains('"')).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(paths);
}

/// The system's own `ssh` takes every word of it, and understands what is meant.
#[test]
fn the_ssh_that_is_here_understands_its_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("a b 100%");
    std::fs::create_dir(&folder).expect("made");
    let (hosts, public) = (folder.join("known_hosts"), folder.join("card.pub"));
    let identity = Identity::Card { module: Path::new("/usr/lib/a b/x.so"), public: &public };
    let words = arguments(Os::Linux, &profile(), "nonstop-0123", &hosts, identity, &forwards());
    let output = std::process::Command::new("ssh").arg("-G").args(words.expect("made")).output();
    let output = output.expect("ssh runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).expect("text");
    let shown = said.replace(&folder.display().to_string(), "FOLDER");
    for line in [
        "host gate.lab.example",
        "hostname gate.lab.example",
        "port 2222",
        "user alice",
        "hostkeyalias nonstop-0123",
        "pkcs11provider /usr/lib/a b/x.so",
        "identityagent none",
        "identitiesonly yes",
        "stricthostkeychecking true",
        "updatehostkeys false",
        "controlmaster false",
        "forwardagent no",
        "exitonforwardfailure yes",
        "localforward [127.0.0.1]:40001 [127.64.0.1]:8080",
        "localforward [127.0.0.1]:40002 [127.65.0.3]:3389",
        "localforward [127.0.0.1]:40003 [2001:db8::7]:3389",
    ] {
        assert!(shown.lines().any(|said| said == line), "no {line:?} in {shown}");
    }
    // `%%` is one `%` where it is used, which -G does not show.
    assert!(shown.contains("userknownhostsfile "), "{shown}");
    assert!(!shown.contains("proxycommand") && !shown.contains("proxyjump"), "{shown}");
}

fn clients(os: Os, programs: &[&str], variables: &[(&str, &str)], apps: &[&str]) -> Option<Client> {
    let folder = tempfile::tempdir().expect("a folder");
    for program in programs {
        let file = folder.path().join(program);
        std::fs::write(&file, "").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&file, mode).expect("set");
    }
    let mut all: HashMap<&str, OsString> =
        variables.iter().map(|(name, value)| (*name, (*value).into())).collect();
    all.insert("PATH", folder.path().into());
    let apps: Vec<_> = apps.iter().map(|app| format!("/Applications/{app}.app")).collect();
    let is_there = |path: &Path| apps.iter().any(|app| Path::new(app) == path);
    Client::find(os, &|name| all.get(name).cloned(), &is_there)
}

fn shown(client: Option<Client>) -> String {
    let Some(client) = client else { return "none".into() };
    let profile = profile();
    let command = |n: usize| {
        let (program, words) =
            client.command(&profile.desktops[n], &profile.account, 40_002, "FOLDER/e3-analyst.rdp");
        let program = program.file_name().expect("a name").to_string_lossy().into_owned();
        [&[program], words.as_slice()].concat().join(" ")
    };
    format!("{}\n{}", command(0), command(1))
}

#[test]
fn rdp_clients_of_each_system() {
    let x11 = [("DISPLAY", ":0")];
    let wayland = [("WAYLAND_DISPLAY", "wayland-0")];
    let all = ["xfreerdp", "xfreerdp3", "wlfreerdp"];
    insta::assert_snapshot!(
        [
            ("Linux, X11", clients(Os::Linux, &all, &x11, &[])),
            ("Linux, X11, FreeRDP 2", clients(Os::Linux, &["xfreerdp"], &x11, &[])),
            ("Linux, Wayland", clients(Os::Linux, &all, &wayland, &[])),
            ("Linux, no screen", clients(Os::Linux, &all, &[], &[])),
            ("macOS", clients(Os::MacOs, &["open", "xfreerdp3"], &[], &["Windows App"])),
            ("macOS, older", clients(Os::MacOs, &["open"], &[], &["Microsoft Remote Desktop"])),
            ("macOS, none of Microsoft's", clients(Os::MacOs, &["open", "xfreerdp3"], &[], &[])),
            ("Windows", clients(Os::Windows, &["mstsc.exe"], &[], &[])),
        ]
        .map(|(system, client)| format!("{system}:\n{}", shown(client)))
        .join("\n\n")
    );
}

#[test]
fn an_rdp_file_switches_every_redirection_off() {
    let file = rdp_file(&profile().desktops[0], 40_002);
    insta::assert_snapshot!(file.replace("\r\n", "\n"));
    assert!(rdp_file(&profile().desktops[1], 40_002).contains("username:s:researcher\r\n"));
}

/// The portal's files, as its own tests have reviewed them, have the same settings.
#[test]
fn an_rdp_file_of_the_portal_says_the_same() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../nonstop-portal/src/desktop.rs");
    let source = std::fs::read_to_string(source).expect("the portal's source");
    for line in RDP_SETTINGS {
        assert!(source.contains(&format!("\"{line}\"")), "the portal's files lack {line}");
    }
    let settings = source.matches(":i:").count() + source.matches(":s:").count();
    // And none that would be missing here: address, user, prompt are the three that vary.
    assert_eq!(settings, RDP_SETTINGS.len() + 3, "the portal's files have one more");
}

#[test]
fn the_configuration_lies_where_each_system_has_it() {
    let folder = |os: Os, variables: &[(&str, &str)]| {
        let all: HashMap<&str, OsString> =
            variables.iter().map(|(name, value)| (*name, (*value).into())).collect();
        os.folder(&|name| all.get(name).cloned()).map(|path| path.display().to_string())
    };
    let home = ("HOME", "/home/a");
    let is = |text: &str| Some(text.to_string());
    assert_eq!(folder(Os::Linux, &[home]), is("/home/a/.config/nonstop-connect"));
    assert_eq!(folder(Os::Linux, &[home, ("XDG_CONFIG_HOME", "/c")]), is("/c/nonstop-connect"));
    assert_eq!(
        folder(Os::Linux, &[home, ("XDG_CONFIG_HOME", "relative")]),
        is("/home/a/.config/nonstop-connect")
    );
    assert_eq!(
        folder(Os::MacOs, &[home]),
        is("/home/a/Library/Application Support/nonstop-connect")
    );
    assert_eq!(folder(Os::Windows, &[home]), None);
    let moment = Moment::from_seconds(0).expect("in time");
    assert_eq!(moment.to_string(), "1970-01-01 00:00 UTC");
}

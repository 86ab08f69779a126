//! What the units of `systemd/` must say for the programs to find each other on a real host.

use std::{fs, path::Path};

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd").join(name);
    fs::read_to_string(path).expect("the unit is there")
}

/// Settings that give a unit a mount namespace of its own (systemd.exec(5), 252 to 257).
const OWN_MOUNTS: [&str; 22] = [
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateDevices",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "ProtectProc",
    "ProcSubset",
    "ProtectHostname",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "TemporaryFileSystem",
    "RootDirectory",
    "PrivateIPC",
    "MountAPIVFS",
];

/// What it mounts under /run/netns would be seen by nobody else, and gone at its next start.
#[test]
fn the_networks_of_data_domains_are_made_where_their_servers_see_them() {
    let daemon = unit("nonstopd.service");
    assert!(daemon.lines().any(|line| line == "PrivateMounts=no"));
    for setting in OWN_MOUNTS {
        let sets = daemon.lines().any(|line| line.split('=').next() == Some(setting));
        assert!(!sets, "{setting} gives the daemon mounts of its own");
    }
}

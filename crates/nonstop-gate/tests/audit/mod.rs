//! What ssh-audit has to say of the gateway's cryptography.

use crate::lab::{Lab, in_a_box};
use std::{env, path::PathBuf, process::Command};

/// ssh-audit as `cargo xtask test` installs it.
fn ssh_audit() -> PathBuf {
    let beside = || {
        let program = env::current_exe().expect("this program");
        let target = program.ancestors().nth(3).expect("the build's folder").to_path_buf();
        target.join("tools/ssh-audit-3.9.0/bin/ssh-audit")
    };
    let program = env::var_os("NONSTOP_SSH_AUDIT").map_or_else(beside, PathBuf::from);
    assert!(
        program.exists(),
        "{} is missing: `cargo xtask test` installs it (or name it in NONSTOP_SSH_AUDIT)",
        program.display()
    );
    program
}

/// What it says at this level of a gateway of its own: it is refused for a while afterwards.
fn audit(level: &str) -> (bool, String) {
    let lab = Lab::with_share(64, 60);
    lab.open("alice");
    let found = Command::new(ssh_audit())
        .args(["--no-colors", "--level", level, "127.0.0.1:2222"])
        .output()
        .expect("ssh-audit runs");
    let said = [found.stdout, found.stderr].concat();
    (found.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn ssh_audit_finds_nothing_to_warn_of() {
    in_a_box("audit::ssh_audit_finds_nothing_to_warn_of", || {
        let (good, said) = audit("warn");
        assert!(good && said.trim().is_empty(), "{said}");
    });
}

#[test]
fn ssh_audit_has_looked_at_what_the_gateway_offers() {
    in_a_box("audit::ssh_audit_has_looked_at_what_the_gateway_offers", || {
        let (good, said) = audit("info");
        assert!(good && !said.contains("[warn]") && !said.contains("[fail]"), "{said}");
        for name in ["mlkem768x25519-sha256", "ssh-ed25519", "aes256-gcm@openssh.com", "-etm@"] {
            assert!(said.contains(name), "{name}: {said}");
        }
    });
}

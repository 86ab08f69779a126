//! The command line of `ssh`, from the system, the profile and paths: nothing of the person's own
//! configuration, no agent, no shared connection, no shell; one key, and the host keys of the profile.

use crate::{os::Os, trouble::Trouble};
use nonstop_profile::{Profile, Target};
use std::{path::Path, process::Command};

/// A port of this PC and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// On 127.0.0.1.
    pub port: u16,
    /// As seen from the gateway.
    pub target: Target,
}

/// What logs in.
#[derive(Debug, Clone, Copy)]
pub enum Identity<'a> {
    /// A card: its module, and its public key, by which `ssh` knows it among others.
    Card {
        /// The PKCS#11 module.
        module: &'a Path,
        /// A file with its public key.
        public: &'a Path,
    },
    /// A key file, in a lab that is a demo.
    File(&'a Path),
}

/// The arguments that open the tunnel. `alias` names the host keys in `known_hosts`.
///
/// Errors: a path with letters that `ssh` cannot be told.
pub fn arguments(
    os: Os,
    profile: &Profile,
    alias: &str,
    known_hosts: &Path,
    identity: Identity<'_>,
    forwards: &[Forward],
) -> Result<Vec<String>, Trouble> {
    let hosts = expanded(os, known_hosts)?;
    let mut options: Vec<String> = [
        "BatchMode=no",
        "PreferredAuthentications=publickey",
        "PubkeyAuthentication=yes",
        "PasswordAuthentication=no",
        "KbdInteractiveAuthentication=no",
        "HostbasedAuthentication=no",
        "IdentityAgent=none",
        "IdentitiesOnly=yes",
        "AddKeysToAgent=no",
        "StrictHostKeyChecking=yes",
        "VerifyHostKeyDNS=no",
        "UpdateHostKeys=no",
        "CheckHostIP=no",
        "CanonicalizeHostname=no",
        "ControlMaster=no",
        "ControlPath=none",
        "ProxyCommand=none",
        "ProxyJump=none",
        "PermitLocalCommand=no",
        "ForwardAgent=no",
        "ForwardX11=no",
        "Tunnel=no",
        "GatewayPorts=no",
        "ExitOnForwardFailure=yes",
        "ConnectTimeout=15",
        "ConnectionAttempts=1",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
        "LogLevel=DEBUG1",
    ]
    .map(String::from)
    .into();
    options.push(format!("HostKeyAlias={alias}"));
    options.push(format!("UserKnownHostsFile={hosts}"));
    // The same: there is no name for "none" that every ssh understands.
    options.push(format!("GlobalKnownHostsFile={hosts}"));
    match identity {
        Identity::Card { module, public } => {
            options.push(format!("PKCS11Provider={}", plain(os, module)?));
            options.push(format!("IdentityFile={}", expanded(os, public)?));
        }
        Identity::File(key) => options.push(format!("IdentityFile={}", expanded(os, key)?)),
    }
    let mut words: Vec<String> = ["-F", "none", "-N", "-T"].map(String::from).into();
    for option in options {
        words.extend(["-o".into(), option]);
    }
    for forward in forwards {
        words.extend(["-L".into(), format!("127.0.0.1:{}:{}", forward.port, forward.target)]);
    }
    let gateway = &profile.gateway;
    words.extend(["-p".into(), gateway.port.to_string()]);
    words.extend(["-l".into(), profile.account.to_string()]);
    words.extend(["--".into(), gateway.host.to_string()]);
    Ok(words)
}

/// A path for an option in which `ssh` expands `%` and `${`.
fn expanded(os: Os, path: &Path) -> Result<String, Trouble> {
    let text = text(path)?;
    if text.contains("${") {
        return Err(Trouble::Path(text));
    }
    let text = match os {
        // ssh reads a backslash as an escape; Windows takes either.
        Os::Windows => text.replace('\\', "/"),
        Os::Linux | Os::MacOs => text,
    };
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

/// A path for an option that `ssh` takes as it is, but for a leading `$`.
fn plain(os: Os, path: &Path) -> Result<String, Trouble> {
    let text = text(path)?;
    Ok(match os {
        // Windows finds a module by backslashes alone; ssh takes two for one, as does Windows.
        Os::Windows => format!("\"{}\"", text.replace('\\', r"\\")),
        Os::Linux | Os::MacOs => format!("\"{text}\""),
    })
}

fn text(path: &Path) -> Result<String, Trouble> {
    let shown = || Trouble::Path(path.display().to_string());
    let text = path.to_str().ok_or_else(shown)?;
    let absolute = path.is_absolute() || text.get(1..3) == Some(r":\");
    match absolute && !text.contains(|c: char| c.is_control() || c == '"') {
        true => Ok(text.into()),
        false => Err(shown()),
    }
}

/// Looks whether `program` is recent enough; gives its version.
pub(crate) fn version(program: &Path) -> Result<String, Trouble> {
    let output =
        Command::new(program).arg("-V").output().map_err(|e| Trouble::file(program, &e))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let version = said.split([',', ' ']).next().unwrap_or_default().trim().to_string();
    match is_recent(&version) {
        true => Ok(version),
        false => Err(Trouble::OldSsh(version)),
    }
}

/// Whether it knows `SSH_ASKPASS_REQUIRE` (8.4): `OpenSSH_9.2p1`, `OpenSSH_for_Windows_9.5p1`.
fn is_recent(version: &str) -> bool {
    let Some(version) = version.strip_prefix("OpenSSH_") else { return false };
    let numbers = version.strip_prefix("for_Windows_").unwrap_or(version);
    let mut numbers = numbers.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (8, 4),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssh_that_cannot_be_told_the_pin_is_too_old() {
        for new in ["OpenSSH_10.0p2", "OpenSSH_8.4p1", "OpenSSH_for_Windows_9.5p1"] {
            assert!(is_recent(new), "{new}");
        }
        for old in ["OpenSSH_8.3p1", "OpenSSH_7.4", "OpenSSH_for_Windows_8.1p1", "Sun_SSH_1.1", ""]
        {
            assert!(!is_recent(old), "{old}");
        }
    }

    #[test]
    fn odd_folders_are_quoted_or_refused() {
        let linux = |path: &str| expanded(Os::Linux, Path::new(path));
        assert_eq!(linux("/home/a b/100%/x").expect("fine"), "\"/home/a b/100%%/x\"");
        let windows = Path::new(r"C:\Users\Ã y\x");
        assert_eq!(expanded(Os::Windows, windows).expect("fine"), "\"C:/Users/Ã y/x\"");
        assert_eq!(plain(Os::Windows, windows).expect("fine"), r#""C:\\Users\\Ã y\\x""#);
        for bad in ["relative", "/a\"b", "/a\nb", "/${HOME}/x", "-oProxyCommand=x"] {
            assert!(matches!(linux(bad), Err(Trouble::Path(_))), "{bad}");
        }
    }
}

//! `sshd_config`: forwarding to what a key line permits, and nothing else.

use super::{GateConfig, doing, host_key, write_whole};
use crate::HostError;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    process::Command,
};

/// Writes the configuration with the host keys that are there, has sshd check it, and has one that
/// runs read it, if it says something else than before. Repeatable.
pub(super) fn write(config: &GateConfig) -> Result<(), HostError> {
    let path = config.run.join("sshd_config");
    let text = render(config.listen, &host_key::paths(&config.state), &config.run);
    let known = fs::read_to_string(&path).is_ok_and(|before| before == text);
    write_whole(&path, &text, 0o644, 0).map_err(doing("write", &path))?;
    check_sshd(&path)?;
    if !known && let Some(sshd) = listener(config, &path) {
        // What it has let in goes on; it listens anew within milliseconds.
        kill_process(sshd, Signal::HUP)
            .map_err(|e| HostError::new("have sshd read its configuration", e))?;
    }
    Ok(())
}

/// The sshd that runs with the configuration at `path`.
fn listener(config: &GateConfig, path: &Path) -> Option<Pid> {
    let pid = fs::read_to_string(config.run.join("sshd.pid")).ok()?.trim().parse().ok()?;
    // One that has ended may have left its number to another.
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = title.contains("sshd") && title.contains(path.to_str()?);
    Pid::from_raw(pid).filter(|_| ours)
}

/// The configuration of an sshd that listens at `listen`.
fn render(listen: SocketAddrV4, host_keys: &[PathBuf], run: &Path) -> String {
    let host_keys: Vec<String> =
        host_keys.iter().map(|key| format!("HostKey {}", key.display())).collect();
    SSHD_CONFIG
        .replace("@LISTEN@", &listen.to_string())
        .replace("@HOST_KEYS@", &host_keys.join("\n"))
        .replace("@RUN@", &run.display().to_string())
}

/// Checks that the PAM service is there and asks our hook before it lets anybody in.
pub(super) fn check_pam(path: &Path) -> Result<(), HostError> {
    let refuse = |why: String| {
        HostError::new(format!("check the gateway's PAM service {}", path.display()), why)
            .help("install systemd/pam.d/nonstop-sshd there: without it PAM asks nobody")
    };
    let text = fs::read_to_string(path).map_err(|e| refuse(e.to_string()))?;
    let first_of_account = text.lines().map(str::trim).find(|line| line.starts_with("account"));
    let asks = first_of_account.is_some_and(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        ["required", "requisite"].contains(words.get(1).unwrap_or(&""))
            && words.get(2) == Some(&"pam_exec.so")
            && words.iter().any(|word| word.ends_with("/nonstop-gate"))
    });
    if asks {
        Ok(())
    } else {
        Err(refuse("its first `account` line does not require the program nonstop-gate".into()))
    }
}

/// Has sshd read its configuration.
fn check_sshd(path: &Path) -> Result<(), HostError> {
    let refuse = |why: String| {
        HostError::new(format!("have sshd check {}", path.display()), why)
            .help("install openssh-server 10 or later (on Debian 12 from bookworm-backports)")
    };
    // Where it puts its children before a login; systemd makes it for the host's own sshd only.
    let chroot = Path::new("/run/sshd");
    super::folder_with_mode(chroot, 0o755).map_err(super::doing("make the folder", chroot))?;
    let output = Command::new("/usr/sbin/sshd")
        .arg("-t")
        .arg("-f")
        .arg(path)
        .output()
        .map_err(|e| refuse(e.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(refuse(String::from_utf8_lossy(&output.stderr).trim().into()))
    }
}

const SSHD_CONFIG: &str = "\
# Written by nonstopd at each start; changes are lost.
AddressFamily inet
ListenAddress @LISTEN@
@HOST_KEYS@
PidFile @RUN@/sshd.pid

# Who: an account whose key file the daemon wrote, and PAM's hook lets in.
UsePAM yes
PAMServiceName nonstop-sshd
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
GSSAPIAuthentication no
KerberosAuthentication no
PermitEmptyPasswords no
PermitRootLogin no
StrictModes yes
AuthorizedKeysFile @RUN@/keys/%u
AuthorizedKeysCommand none
AuthorizedPrincipalsCommand none
AuthorizedPrincipalsFile none
TrustedUserCAKeys none

# What: the forwardings that the key line permits. A key line's permitopen counts only while
# PermitOpen is `any`; `restrict,port-forwarding` alone would still allow commands.
MaxSessions 0
DisableForwarding no
AllowTcpForwarding local
PermitOpen any
PermitListen none
GatewayPorts no
AllowAgentForwarding no
AllowStreamLocalForwarding no
X11Forwarding no
PermitTunnel no
PermitTTY no
PermitUserRC no
PermitUserEnvironment no
ForceCommand /bin/false
PrintMotd no
PrintLastLog no
Banner none
VersionAddendum none
UseDNS no
Compression no

# Cryptography: what `ssh-audit -l warn` finds nothing against. No certificates of users: they
# carry no permitopen. Clients need OpenSSH 8.5 or PuTTY 0.78 for these key exchanges.
KexAlgorithms mlkem768x25519-sha256,sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com
Ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr
MACs hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com
HostKeyAlgorithms ssh-ed25519
PubkeyAcceptedAlgorithms ssh-ed25519,sk-ssh-ed25519@openssh.com,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256
RequiredRSASize 2048

# Crowds. PerSourceMaxStartups never counts down in 10.0; many people share one NAT.
LoginGraceTime 20
MaxStartups 200:30:400
PerSourcePenalties authfail:5s noauth:1s grace-exceeded:10s max:60s
TCPKeepAlive yes
ClientAliveInterval 5
ClientAliveCountMax 2

# What nonstop-gate listens for: clients, reasons of refusals, what sessions get and do not get.
LogLevel VERBOSE
LogVerbose kex.c:kex_exchange_identification():*,*:auth_authorise_keyopts():*,channels.c:channel_post_connecting():*,serverloop.c:server_input_channel_open():*,serverloop.c:server_input_global_request():*
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_this() {
        let listen = "192.0.2.1:22".parse().expect("an address");
        let keys = [PathBuf::from("/var/lib/nonstop/key")];
        let text = render(listen, &keys, Path::new("/run/nonstop/gate"));
        insta::assert_snapshot!("sshd_config", text);
    }
}

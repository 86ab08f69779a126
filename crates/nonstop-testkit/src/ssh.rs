//! The stock ssh client as researchers use it: a key, a configuration with the gateway's
//! host key pinned, and tunnels.

use crate::{
    net::listens,
    place::{Place, wait_for},
    spec::write_whole,
};
use anyhow::{Context, Result, anyhow};
use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

/// Makes an ed25519 key in `file` (and `file.pub`) unless there is one; gives the public one.
pub fn key(file: &Path, comment: &str) -> Result<PathBuf> {
    let public = file.with_extension("pub");
    if !file.exists() {
        let path = file.display().to_string();
        Place::here().run(&[
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            comment,
            "-f",
            &path,
        ])?;
    }
    Ok(public)
}

/// The gateway's public host key, asked from the host itself and not over the network.
pub fn host_key(inside: &Place) -> Result<String> {
    let config = inside.run(&["cat", "/run/nonstop/gate/sshd_config"])?;
    let file = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("HostKey "))
        .context("the gateway's sshd_config names no HostKey")?;
    let public = inside.run(&["ssh-keygen", "-y", "-f", file.trim()])?;
    Ok(public.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

/// One host entry: `ssh -F FILE ALIAS` reaches the gateway as `account`.
pub fn host_entry(
    alias: &str,
    account: &str,
    gateway: (Ipv4Addr, u16),
    key: &Path,
    known_hosts: &Path,
) -> String {
    format!(
        "Host {alias}\n    HostName {}\n    Port {}\n    User {account}\n    \
         IdentityFile \"{}\"\n    IdentitiesOnly yes\n    IdentityAgent none\n    \
         UserKnownHostsFile \"{}\"\n    GlobalKnownHostsFile /dev/null\n    \
         HostKeyAlias nonstop-lab\n    StrictHostKeyChecking yes\n    BatchMode yes\n    \
         ControlPath none\n    ExitOnForwardFailure yes\n    ConnectTimeout 10\n    \
         ServerAliveInterval 5\n    ServerAliveCountMax 2\n\n",
        gateway.0,
        gateway.1,
        key.display(),
        known_hosts.display(),
    )
}

/// As [`host_entry`], but with the card behind the PKCS#11 module `module`, and no other key.
/// Whoever runs it answers for the PIN: see [`askpass`].
pub fn card_entry(
    alias: &str,
    account: &str,
    gateway: (Ipv4Addr, u16),
    module: &str,
    known_hosts: &Path,
) -> String {
    let entry = host_entry(alias, account, gateway, Path::new("none"), known_hosts);
    // `IdentitiesOnly yes` would hide the keys of cards; `BatchMode yes` asks for no PIN.
    entry
        .replace(
            "IdentityFile \"none\"",
            &format!("IdentityFile none\n    PKCS11Provider {module}"),
        )
        .replace("IdentitiesOnly yes", "IdentitiesOnly no")
        .replace("BatchMode yes", "BatchMode no\n    NumberOfPasswordPrompts 1")
}

/// Writes a program into `folder` that tells ssh `pin`, and gives its path.
pub fn askpass(folder: &Path, pin: &str) -> Result<PathBuf> {
    private_folder(folder)?;
    let path = folder.join("askpass");
    fs::write(&path, format!("#!/bin/sh\necho {pin}\n"))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Pins the gateway's key in `known_hosts`.
pub fn pin(known_hosts: &Path, host_key: &str) -> Result<()> {
    write_whole(known_hosts, format!("nonstop-lab {host_key}\n").as_bytes())
}

/// A port of 127.0.0.1 that leads through the gateway to `target` ("address:port").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// Where it leads.
    pub target: String,
}

/// An open `ssh -N -L ...`; closed when dropped.
#[derive(Debug)]
pub struct Tunnel {
    child: Child,
    log: PathBuf,
}

impl Tunnel {
    /// Opens a tunnel from `place`, with the host entry `alias` of `config`; returns when
    /// its ports listen. `holder` is a process of the place's network namespace, or `self`.
    /// What ssh says goes to `log`.
    ///
    /// The tunnel ends with the thread that opened it.
    /// Errors: the gateway refused, with what ssh said.
    pub fn open(
        place: &Place,
        holder: &str,
        config: &Path,
        alias: &str,
        forwards: &[Forward],
        log: &Path,
    ) -> Result<Tunnel> {
        Tunnel::open_asking(place, holder, config, alias, forwards, log, None)
    }

    /// As [`Tunnel::open`], where ssh asks `askpass` for what it needs to know.
    pub fn open_asking(
        place: &Place,
        holder: &str,
        config: &Path,
        alias: &str,
        forwards: &[Forward],
        log: &Path,
        askpass: Option<&Path>,
    ) -> Result<Tunnel> {
        let out = fs::File::create(log).with_context(|| format!("open {}", log.display()))?;
        let mut command = place.command("setpriv");
        if let Some(program) = askpass {
            command.env("SSH_ASKPASS", program).env("SSH_ASKPASS_REQUIRE", "force");
        }
        command.args(["--pdeathsig", "KILL", "ssh", "-N", "-F"]).arg(config);
        for forward in forwards {
            command.arg("-L").arg(format!("127.0.0.1:{}:{}", forward.port, forward.target));
        }
        let child =
            command.arg(alias).stdout(Stdio::null()).stderr(out).spawn().context("start ssh")?;
        let mut tunnel = Tunnel { child, log: log.into() };
        wait_for("the tunnel", Duration::from_secs(15), || {
            if let Some(status) = tunnel.child.try_wait()? {
                return Ok(Some(Err(anyhow!("ssh ended with {status}: {}", tunnel.said()))));
            }
            let up = forwards.iter().all(|f| listens(holder, f.port));
            Ok(up.then_some(Ok(())))
        })??;
        Ok(tunnel)
    }

    /// Whether ssh still runs.
    pub fn is_open(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What ssh said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default().trim().into()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Makes `folder` for secrets: readable by its owner alone.
pub fn private_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("make {}", folder.display()))
}

//! The gateway's files: what a stock sshd reads to let people in, and its sessions.
//!
//! An account is three things on a tmpfs: a user record and a group record, which NSS finds
//! through libnss-systemd, and a key file. The key file comes last and goes first. Without the
//! daemon that writes them, nobody gets in after a power cut.

mod config;
mod files;
mod host_key;

pub use host_key::{HostKeys, PublicHostKeys};

use crate::{HostError, sessions::Sessions};
use files::{key_file, parse_key_file, records};
use nonstop_model::{
    AccountName, Lab,
    lab::{ACCOUNT_UIDS, MACHINE_UIDS},
};
use nonstop_plan::{AccountGate, GateState};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    net::SocketAddrV4,
    ops::RangeInclusive,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// Where the gateway's files lie.
#[derive(Debug, Clone)]
pub struct GateConfig {
    /// Configuration and key files; on a tmpfs.
    pub run: PathBuf,
    /// The host key's folder; on a disk.
    pub state: PathBuf,
    /// Where nss-systemd looks for user records; on a tmpfs.
    pub userdb: PathBuf,
    /// Where sshd listens.
    pub listen: SocketAddrV4,
    /// The PAM service that runs our hook.
    pub pam: PathBuf,
    /// The uids of accounts.
    pub account_uids: RangeInclusive<u32>,
}

impl GateConfig {
    /// The places of `lab`.
    pub fn of(lab: &Lab) -> GateConfig {
        GateConfig {
            run: lab.run.join("gate"),
            state: lab.state.join("gate"),
            userdb: "/run/userdb".into(),
            listen: SocketAddrV4::new(lab.gateway.address, lab.gateway.port),
            pam: "/etc/pam.d/nonstop-sshd".into(),
            account_uids: ACCOUNT_UIDS..=MACHINE_UIDS - 1,
        }
    }
}

/// The gateway of a lab.
#[derive(Debug)]
pub struct Gate {
    config: GateConfig,
    sessions: Sessions,
}

impl Gate {
    /// The gateway that `config` describes; touches nothing.
    pub fn new(config: GateConfig) -> Gate {
        let sessions = Sessions::new(
            config.run.join("uids"),
            config.run.join("sshd_config"),
            config.account_uids.clone(),
        );
        Gate { config, sessions }
    }

    /// Makes folders, host key and `sshd_config` exist, and has sshd check them. Repeatable; the
    /// host key is made once and is whole or absent after a power cut.
    ///
    /// Errors: the PAM service is missing or runs no hook, since sshd would then let people in
    /// without asking; sshd is missing or older than 10.
    pub fn prepare(&self) -> Result<(), HostError> {
        let config = &self.config;
        config::check_pam(&config.pam)?;
        for (folder, mode) in [
            (&config.run, 0o711),
            (&self.keys(), 0o711),
            (&config.run.join("uids"), 0o700),
            (&config.userdb, 0o755),
            (&config.state, 0o700),
        ] {
            folder_with_mode(folder, mode).map_err(doing("make the folder", folder))?;
        }
        self.sweep().map_err(doing("clear away old files in", &self.keys()))?;
        host_key::ensure(&config.state)?;
        config::write(config)
    }

    /// Lists the accounts that sshd sees, and who has an open session.
    pub fn observe(&self) -> Result<GateState, HostError> {
        let mut state = GateState::default();
        let keys = self.keys();
        for name in names_in(&keys).map_err(doing("list", &keys))? {
            match self.read(&name) {
                Some(gate) => {
                    state.accounts.insert(name, gate);
                }
                None => {
                    state.broken.insert(name);
                }
            }
        }
        let userdb = &self.config.userdb;
        let recorded = files::recorded_names(userdb).map_err(doing("list", userdb))?;
        state.broken.extend(recorded.into_iter().filter(|n| !state.accounts.contains_key(n)));
        state.sessions = self.sessions.open()?;
        Ok(state)
    }

    /// Writes an account's records and then its key file, each whole or not at all. Repeatable.
    ///
    /// Errors: the host has a user of that name or number, or does not look into `/run/userdb`;
    /// then no key file is left.
    pub fn open(&self, gate: &AccountGate) -> Result<(), HostError> {
        let doing = || format!("open the gate to {}", gate.name);
        let io = |e: io::Error| HostError::new(doing(), e);
        if !self.config.account_uids.contains(&gate.uid) {
            let why = format!("uid {} is not one of accounts", gate.uid);
            return Err(HostError::new(doing(), why));
        }
        for record in records(gate) {
            record.check_free(&self.config.userdb).map_err(io)?;
        }
        let uids = self.config.run.join("uids").join(gate.name.as_str());
        write_whole(&uids, &gate.uid.to_string(), 0o600, 0).map_err(io)?;
        for record in records(gate) {
            record.ensure(&self.config.userdb).map_err(io)?;
        }
        if let Err((why, help)) = resolves(gate) {
            self.close(&gate.name)?;
            return Err(HostError::new(doing(), why).help(help));
        }
        write_whole(&self.key_path(&gate.name), &key_file(gate), 0o640, gate.uid).map_err(io)
    }

    /// Removes an account's key file and records, then ends its sessions. Repeatable.
    pub fn close(&self, account: &AccountName) -> Result<(), HostError> {
        let io = |e: io::Error| HostError::new(format!("close the gate to {account}"), e);
        remove(&self.key_path(account)).map_err(io)?;
        let userdb = &self.config.userdb;
        let uid =
            self.sessions.uid_of(account.as_str()).or_else(|| files::recorded_uid(userdb, account));
        files::remove_records(userdb, account, &self.config.account_uids).map_err(io)?;
        uid.map_or(Ok(()), |uid| self.sessions.end(uid))
    }

    /// Ends every session of `uid`, logins in progress included. When it returns, none of its
    /// forwarded connections is left.
    pub fn end_sessions(&self, uid: u32) -> Result<(), HostError> {
        self.sessions.end(uid)
    }

    /// Ends the session of `uid` that sshd's process `leader` leads, and none of the others.
    pub fn end_session(&self, leader: u32, uid: u32) -> Result<(), HostError> {
        self.sessions.end_one(leader, uid)
    }

    fn keys(&self) -> PathBuf {
        self.config.run.join("keys")
    }

    fn key_path(&self, account: &AccountName) -> PathBuf {
        self.keys().join(account.as_str())
    }

    /// What the files of `name` say; None unless all are just as we write them.
    fn read(&self, name: &AccountName) -> Option<AccountGate> {
        let path = self.key_path(name);
        let gate = parse_key_file(&fs::read_to_string(&path).ok()?)?;
        let meta = fs::symlink_metadata(&path).ok()?;
        let owned = meta.is_file()
            && (meta.uid(), meta.gid(), meta.mode() & 0o7777) == (0, gate.uid, 0o640);
        let whole = owned
            && gate.name == *name
            && records(&gate).iter().all(|record| record.is_whole(&self.config.userdb))
            && self.sessions.uid_of(name.as_str()) == Some(gate.uid);
        whole.then_some(gate)
    }

    /// Removes what a crash left of writing, and what is no account's.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.keys())? {
            let entry = entry?;
            let account = entry.file_name().to_str().is_some_and(is_account);
            if !account {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn is_account(name: &str) -> bool {
    name.parse::<AccountName>().is_ok()
}

fn names_in(folder: &Path) -> io::Result<BTreeSet<AccountName>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        if let Some(name) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Checks that the host knows the account's name and number as these of each other.
fn resolves(gate: &AccountGate) -> Result<(), (String, &'static str)> {
    let (name, uid) = (gate.name.as_str(), gate.uid.to_string());
    let output = Command::new("getent")
        .args(["passwd", name, &uid])
        .output()
        .map_err(|e| (format!("run getent: {e}"), "install libc-bin"))?;
    let found = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = found.lines().collect();
    let ours = |line: &&str| {
        let mut fields = line.split(':');
        fields.next() == Some(name) && fields.nth(1) == Some(&uid)
    };
    match lines.iter().find(|line| !ours(line)) {
        Some(other) => {
            let other = other.split(':').take(3).collect::<Vec<_>>().join(":");
            Err((
                format!("the host has a user of that name or number already: {other}"),
                "give the account another name, or the host's user another name or number",
            ))
        }
        None if lines.len() == 2 => Ok(()),
        None => Err((
            "the host does not find users in /run/userdb".into(),
            "install libnss-systemd, and put `systemd` behind `files` for passwd and group in \
             /etc/nsswitch.conf",
        )),
    }
}

fn folder_with_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Puts `text` at `path` in one step, as root's and of the group `gid`.
fn write_whole(path: &Path, text: &str, mode: u32, gid: u32) -> io::Result<()> {
    let new = beside(path);
    remove(&new)?;
    fs::write(&new, text)?;
    std::os::unix::fs::chown(&new, Some(0), Some(gid))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
    fs::rename(&new, path)
}

fn link_whole(path: &Path, target: &str) -> io::Result<()> {
    let new = beside(path);
    remove(&new)?;
    symlink(target, &new)?;
    fs::rename(&new, path)
}

/// A name that sshd and NSS never ask for.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn doing<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> HostError + 'a {
    move |e| HostError::new(format!("{what} {}", path.display()), e)
}

//! An account as files: two records with links, and a key file that says whose it is.

use super::{link_whole, remove, write_whole};
use jiff::Timestamp;
use nonstop_model::AccountName;
use nonstop_plan::{AccountGate, GateKey};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs, io,
    ops::RangeInclusive,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

const MARK: &str = "# nonstop ";
const REAL_NAME: &str = "NONSTOP account";

/// The key file of `gate`. Its first line is what it was made from.
pub(super) fn key_file(gate: &AccountGate) -> String {
    let json = serde_json::to_string(gate).expect("an account's gate is plain data");
    let mut options = vec!["restrict".to_owned()];
    // Without any permitopen a key line would reach everything.
    if !gate.targets.is_empty() {
        options.push("port-forwarding".into());
    }
    options.extend(gate.targets.iter().map(|(to, port)| format!("permitopen=\"{to}:{port}\"")));
    if !gate.sources.is_empty() {
        let sources: Vec<String> = gate.sources.iter().map(|net| net.to_string()).collect();
        options.push(format!("from=\"{}\"", sources.join(",")));
    }
    let options = options.join(",");
    let mut text = format!("{MARK}{json}\n");
    for GateKey { key, until } in &gate.keys {
        let until = until.map_or_else(String::new, |until| format!(",{}", expiry(until)));
        text += &format!("{options}{until} {}\n", key.0);
    }
    text
}

/// The option by which sshd refuses a key from `until` on, the daemon being there or not. It counts
/// whole seconds.
fn expiry(until: Timestamp) -> String {
    format!("expiry-time=\"{}\"", until.strftime("%Y%m%d%H%M%SZ"))
}

/// What a key file was made from; None if it is not just as [`key_file`] makes it.
pub(super) fn parse_key_file(text: &str) -> Option<AccountGate> {
    let gate: AccountGate = serde_json::from_str(text.lines().next()?.strip_prefix(MARK)?).ok()?;
    (key_file(&gate) == text).then_some(gate)
}

/// A file or link in the folder of user records.
pub(super) struct Record {
    name: String,
    content: Content,
}

enum Content {
    Text(String),
    Link(String),
}

/// The records of an account, links behind what they point to.
pub(super) fn records(gate: &AccountGate) -> [Record; 4] {
    let (name, uid) = (&gate.name, gate.uid);
    // `locked` is not looked at under pam_permit; being there is what counts.
    let user = json!({
        "userName": name, "uid": uid, "gid": uid, "realName": REAL_NAME,
        "homeDirectory": "/nonexistent", "shell": "/usr/sbin/nologin", "disposition": "regular",
    });
    let group = json!({
        "groupName": name, "gid": uid, "description": REAL_NAME, "disposition": "regular",
    });
    let text = |value: Value| Content::Text(format!("{value}\n"));
    [
        Record { name: format!("{name}.user"), content: text(user) },
        Record { name: format!("{name}.group"), content: text(group) },
        Record { name: format!("{uid}.user"), content: Content::Link(format!("{name}.user")) },
        Record { name: format!("{uid}.group"), content: Content::Link(format!("{name}.group")) },
    ]
}

impl Record {
    /// Whether it is in `folder` just as it should be.
    pub(super) fn is_whole(&self, folder: &Path) -> bool {
        let path = folder.join(&self.name);
        match &self.content {
            Content::Link(target) => fs::read_link(path).is_ok_and(|t| t == Path::new(target)),
            Content::Text(text) => {
                let owned = fs::symlink_metadata(&path).is_ok_and(|meta| {
                    meta.is_file() && meta.uid() == 0 && meta.permissions().mode() & 0o7777 == 0o644
                });
                owned && fs::read_to_string(path).is_ok_and(|t| t == *text)
            }
        }
    }

    /// Fails if its name in `folder` is taken by another account or by somebody else.
    pub(super) fn check_free(&self, folder: &Path) -> io::Result<()> {
        let path = folder.join(&self.name);
        let taken = match &self.content {
            Content::Text(_) => fs::read_to_string(&path).is_ok_and(|text| !is_ours(&text)),
            // Behind a link of ours that leads nowhere there is nobody any more.
            Content::Link(target) => match fs::read_link(&path) {
                Ok(other) => other != Path::new(target) && path.exists(),
                Err(_) => path.exists(),
            },
        };
        if taken {
            let behind = fs::canonicalize(&path).unwrap_or(path);
            let why = format!("{} is another's: {}", self.name, behind.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Ok(())
    }

    /// Makes it be in `folder` just so.
    pub(super) fn ensure(&self, folder: &Path) -> io::Result<()> {
        if self.is_whole(folder) {
            return Ok(());
        }
        let path = folder.join(&self.name);
        match &self.content {
            Content::Text(text) => write_whole(&path, text, 0o644, 0),
            Content::Link(target) => link_whole(&path, target),
        }
    }
}

/// Names with records of ours in `folder`. Others may keep users there too.
pub(super) fn recorded_names(folder: &Path) -> io::Result<BTreeSet<AccountName>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().and_then(|name| name.strip_suffix(".user")) else {
            continue;
        };
        if let Ok(name) = name.parse()
            && fs::read_to_string(entry.path()).is_ok_and(|text| is_ours(&text))
        {
            names.insert(name);
        }
    }
    Ok(names)
}

/// The uid in the record of `name` in `folder`, if that is ours.
pub(super) fn recorded_uid(folder: &Path, name: &AccountName) -> Option<u32> {
    let text = fs::read_to_string(folder.join(format!("{name}.user"))).ok()?;
    let record: Value = serde_json::from_str(&text).ok().filter(|_| is_ours(&text))?;
    record["uid"].as_u64()?.try_into().ok()
}

fn is_ours(record: &str) -> bool {
    serde_json::from_str::<Value>(record).is_ok_and(|record| {
        [&record["realName"], &record["description"]].contains(&&json!(REAL_NAME))
    })
}

/// Removes the records of `name` from `folder`, and links of uids in `uids` to them.
pub(super) fn remove_records(
    folder: &Path,
    name: &AccountName,
    uids: &RangeInclusive<u32>,
) -> io::Result<()> {
    let user = folder.join(format!("{name}.user"));
    match fs::read_to_string(&user) {
        Ok(text) if !is_ours(&text) => return Ok(()),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let targets = ["user", "group"].map(|kind| format!("{name}.{kind}"));
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let uid = file_name.to_str().and_then(|name| name.split('.').next()?.parse::<u32>().ok());
        let links = fs::read_link(entry.path());
        if uid.is_some_and(|uid| uids.contains(&uid))
            && links.is_ok_and(|to| targets.iter().any(|target| to == Path::new(target)))
        {
            remove(&entry.path())?;
        }
    }
    // The record with the mark goes last, so that a crash in between is found again.
    remove(&folder.join(format!("{name}.group")))?;
    remove(&user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_model::PublicKey;

    fn gate() -> AccountGate {
        AccountGate {
            name: "alice".parse().expect("a name"),
            uid: 70_001,
            address: "127.64.0.1".parse().expect("an address"),
            keys: vec![
                GateKey { key: PublicKey("ssh-ed25519 AAAA".into()), until: None },
                GateKey {
                    key: PublicKey("ssh-rsa BBBB".into()),
                    until: Some("2030-01-02T03:04:05.6Z".parse().expect("a time")),
                },
            ],
            sources: vec!["192.0.2.0/24".parse().expect("a network")],
            targets: vec![
                ("10.77.0.2".parse().expect("an address"), 3389),
                ("127.64.0.1".parse().expect("an address"), 8080),
            ],
        }
    }

    #[test]
    fn a_key_line_restricts_to_the_targets_and_sources() {
        let text = key_file(&gate());
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let options = "restrict,port-forwarding,permitopen=\"10.77.0.2:3389\",\
                       permitopen=\"127.64.0.1:8080\",from=\"192.0.2.0/24\"";
        assert_eq!(
            lines,
            [
                format!("{options} ssh-ed25519 AAAA"),
                format!("{options},expiry-time=\"20300102030405Z\" ssh-rsa BBBB"),
            ]
        );
        assert_eq!(parse_key_file(&text), Some(gate()));
        assert_eq!(parse_key_file(&text.replace("8080\",", "8081\",")), None);
    }

    #[test]
    fn without_a_target_nothing_is_forwarded() {
        let text = key_file(&AccountGate { targets: vec![], ..gate() });
        assert!(!text.contains("port-forwarding"), "{text}");
    }
}

//! Accounts: researchers and staff. Admins are local users of the host and have none.

use crate::{card::CardKey, ids::AccountId, network::ACCOUNT_NET, template::EnvironmentTemplate};
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// A login name: a lower-case letter, then at most 23 lower-case letters, digits or `-`.
///
/// It is a user name of the gateway, a file name, and a word of a configuration
/// file, so nothing that needs quoting anywhere is allowed.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct AccountName(String);

/// A text that cannot be an account's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an account name: use a lower-case letter, then up to 23 lower-case letters, digits or `-`"
)]
pub struct AccountNameError(String);

/// Names of the host's own users that no account may take.
const RESERVED: &[&str] =
    &["root", "daemon", "bin", "sys", "sync", "nobody", "sshd", "messagebus", "tss", "www-data"];

impl FromStr for AccountName {
    type Err = AccountNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let good = text.len() <= 24
            && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
            && text.bytes().all(letters)
            && !RESERVED.contains(&text)
            && !text.starts_with("nonstop")
            && !text.starts_with("systemd")
            && !text.starts_with("libvirt");
        if good {
            Ok(AccountName(text.into()))
        } else {
            Err(AccountNameError(text.chars().take(60).collect()))
        }
    }
}

impl AccountName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<AccountName> for String {
    fn from(name: AccountName) -> String {
        name.0
    }
}

impl TryFrom<String> for AccountName {
    type Error = AccountNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Works in environments of their own.
    Researcher,
    /// Approves, issues cards, reviews.
    Staff,
}

impl Role {
    /// The word of tables, pages and log.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Researcher => "researcher",
            Role::Staff => "staff",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "researcher" => Ok(Role::Researcher),
            "staff" => Ok(Role::Staff),
            _ => Err(format!("`{text}` is not a role: use `researcher` or `staff`")),
        }
    }
}

/// Whether an account may log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountState {
    /// May log in while it has a key.
    Active,
    /// Everything open was cut; can be made active again.
    Suspended,
    /// Ended for good; its uid and address are never given again.
    Removed,
}

impl AccountState {
    /// The word of tables, pages and log.
    pub fn as_str(self) -> &'static str {
        match self {
            AccountState::Active => "active",
            AccountState::Suspended => "suspended",
            AccountState::Removed => "removed",
        }
    }
}

impl FromStr for AccountState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "active" => Ok(AccountState::Active),
            "suspended" => Ok(AccountState::Suspended),
            "removed" => Ok(AccountState::Removed),
            _ => Err(format!("`{text}` is not a state of an account")),
        }
    }
}

/// One line of an OpenSSH public key, without options: `ssh-ed25519 AAAA… comment`.
///
/// Whoever makes one has checked its type and encoding; the line holds no newline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey(pub String);

/// A person's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Handed out once; the uid and the loopback address derive from it.
    pub id: AccountId,
    /// The login name.
    pub name: AccountName,
    /// Name of the person.
    pub full_name: String,
    /// Where the person works.
    pub affiliation: String,
    /// What it may do.
    pub role: Role,
    /// The data domain that it works on; None for staff, and for a researcher who has none yet.
    pub edition: Option<String>,
    /// Whether it may log in.
    pub state: AccountState,
    /// Networks the person comes from; empty means any.
    pub sources: Vec<Ipv4Net>,
    /// The keys of its active cards, also of those whose time is over: see [`CardKey::opens`].
    pub keys: Vec<CardKey>,
    /// The uid that its forwarded connections are opened with.
    pub uid: u32,
    /// The loopback address on which the portal knows it.
    pub address: Ipv4Addr,
}

impl Account {
    /// Whether its environments may be made of `template`: one of its edition, or one that reaches
    /// no data domain.
    pub fn may_use(&self, template: &EnvironmentTemplate) -> bool {
        template.domain.is_none() || template.domain == self.edition
    }
}

/// The loopback address of the account `id`; None past the end of 127.64.0.0/10.
pub fn address(id: AccountId) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from(u32::from(ACCOUNT_NET.network()).checked_add(id.0)?);
    (id.0 > 0 && id.0 < 1 << 22).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(edition: Option<&str>) -> Account {
        Account {
            id: AccountId(1),
            name: AccountName("alice".into()),
            full_name: String::new(),
            affiliation: String::new(),
            role: Role::Researcher,
            edition: edition.map(String::from),
            state: AccountState::Active,
            sources: Vec::new(),
            keys: Vec::new(),
            uid: 70_001,
            address: Ipv4Addr::LOCALHOST,
        }
    }

    #[test]
    fn an_account_uses_templates_of_its_edition_and_those_of_none() {
        let template = |domain: &str| {
            let text = format!(
                "version: 1\ntitle: t\n{domain}\nmachines:\n- {{role: analyst, image: micro, \
                 memory_mib: 96}}\n"
            );
            EnvironmentTemplate::parse("t.yaml", &text, None).expect("a template")
        };
        let (mws, none) = (template("domain: mws"), template(""));
        let uses = |edition| (account(edition).may_use(&mws), account(edition).may_use(&none));
        assert_eq!(uses(Some("mws")), (true, true));
        assert_eq!(uses(Some("intermediate")), (false, true));
        assert_eq!(uses(None), (false, true));
    }

    #[test]
    fn names_that_need_quoting_or_belong_to_the_host_are_refused() {
        for bad in ["", "Alice", "-a", "a b", "a\n", "root", "sshd", "ø", "nonstop-portal"] {
            assert!(bad.parse::<AccountName>().is_err(), "{bad:?}");
        }
        assert!("alice-2".parse::<AccountName>().is_ok());
    }
}

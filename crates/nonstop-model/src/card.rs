//! Cards: the only way in from outside. A card is issued at the lab's reader, has one key for as
//! long as it lives, and no key is ever a second card's.
//!
//! ```text
//! Issuing ── certified, then everything is on the card ──> Active ──> Revoked
//!    └──────────────────── given up ────────────────────────────────────^
//! ```
//!
//! Of a card whose time is over nothing is written: it is `Active` and expired, and opens nothing.

use crate::{
    account::{AccountName, PublicKey},
    ids::CardId,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The GUID in the CHUID of a card (NIST SP 800-73): 16 bytes, written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CardGuid(pub [u8; 16]);

/// A text that is not a card's GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the GUID of a card: expected 32 hexadecimal digits")]
pub struct CardGuidError(String);

impl CardGuid {
    /// Whether it is all zeros, as on cards that nobody has given one.
    pub fn is_unset(self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for CardGuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for CardGuid {
    type Err = CardGuidError;

    fn from_str(text: &str) -> Result<Self, CardGuidError> {
        let bad = || CardGuidError(text.chars().take(40).collect());
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut guid = [0; 16];
        for (byte, at) in guid.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad())?;
        }
        Ok(CardGuid(guid))
    }
}

impl From<CardGuid> for String {
    fn from(guid: CardGuid) -> String {
        guid.to_string()
    }
}

impl TryFrom<String> for CardGuid {
    type Error = CardGuidError;

    fn try_from(text: String) -> Result<Self, CardGuidError> {
        text.parse()
    }
}

/// How far a card is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CardState {
    /// Begun at a reader; opens nothing yet. It can go on there, or be given up.
    Issuing,
    /// Logs in, until it expires.
    Active,
    /// Ended for good; its key is never taken again.
    Revoked,
}

impl CardState {
    /// The word of tables, pages and log.
    pub fn as_str(self) -> &'static str {
        match self {
            CardState::Issuing => "issuing",
            CardState::Active => "active",
            CardState::Revoked => "revoked",
        }
    }
}

impl FromStr for CardState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "issuing" => Ok(CardState::Issuing),
            "active" => Ok(CardState::Active),
            "revoked" => Ok(CardState::Revoked),
            _ => Err(format!("`{text}` is not a state of a card")),
        }
    }
}

/// What holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CardKind {
    /// An IC card that speaks PIV.
    Piv,
    /// A file. Logs in only where `software_keys` is on.
    KeyFile,
}

impl CardKind {
    /// The word of tables, pages and log.
    pub fn as_str(self) -> &'static str {
        match self {
            CardKind::Piv => "piv",
            CardKind::KeyFile => "key_file",
        }
    }
}

impl FromStr for CardKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "piv" => Ok(CardKind::Piv),
            "key_file" => Ok(CardKind::KeyFile),
            _ => Err(format!("`{text}` is not a kind of card")),
        }
    }
}

/// What an admin does at the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CardAct {
    /// Makes the key on the card, and the card the lab's own: its management key and PUK derive
    /// from the lab's secret.
    Issue,
    /// Takes a card that has a key already; its secrets stay those of whoever made it.
    Enrol,
}

impl CardAct {
    /// The word of tables, pages and log.
    pub fn as_str(self) -> &'static str {
        match self {
            CardAct::Issue => "issue",
            CardAct::Enrol => "enrol",
        }
    }
}

impl FromStr for CardAct {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "issue" => Ok(CardAct::Issue),
            "enrol" => Ok(CardAct::Enrol),
            _ => Err(format!("`{text}` is not done with a card: use `issue` or `enrol`")),
        }
    }
}

/// What kind of key a card has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256.
    EcP256,
    /// ECDSA on NIST P-384; key files alone.
    EcP384,
    /// ECDSA on NIST P-521; key files alone.
    EcP521,
    /// Ed25519; key files alone.
    Ed25519,
    /// RSA with a modulus of so many bits.
    Rsa(u16),
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyAlgorithm::EcP256 => f.pad("ec-p256"),
            KeyAlgorithm::EcP384 => f.pad("ec-p384"),
            KeyAlgorithm::EcP521 => f.pad("ec-p521"),
            KeyAlgorithm::Ed25519 => f.pad("ed25519"),
            KeyAlgorithm::Rsa(bits) => f.pad(&format!("rsa-{bits}")),
        }
    }
}

impl FromStr for KeyAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rsa = || text.strip_prefix("rsa-")?.parse().ok().map(KeyAlgorithm::Rsa);
        match text {
            "ec-p256" => Ok(KeyAlgorithm::EcP256),
            "ec-p384" => Ok(KeyAlgorithm::EcP384),
            "ec-p521" => Ok(KeyAlgorithm::EcP521),
            "ed25519" => Ok(KeyAlgorithm::Ed25519),
            _ => rsa().ok_or_else(|| format!("`{text}` is not an algorithm of keys")),
        }
    }
}

impl From<KeyAlgorithm> for String {
    fn from(algorithm: KeyAlgorithm) -> String {
        algorithm.to_string()
    }
}

impl TryFrom<String> for KeyAlgorithm {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A card, as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Which.
    pub id: CardId,
    /// Whose.
    pub account: AccountName,
    /// What holds the key.
    pub kind: CardKind,
    /// How far it is.
    pub state: CardState,
    /// What was done at the reader; None where somebody gave the public key alone.
    pub act: Option<CardAct>,
    /// What its CHUID says; None where it says nothing, or nobody has looked.
    pub guid: Option<CardGuid>,
    /// What kind of key it has; None before there is one.
    pub algorithm: Option<KeyAlgorithm>,
    /// Its public key; None before there is one.
    pub key: Option<PublicKey>,
    /// `SHA256:…` of its key; None before there is one.
    pub fingerprint: Option<String>,
    /// Whether the card has signed what nonstopd asked it to.
    pub proven: bool,
    /// When it was begun.
    pub issued_at: Timestamp,
    /// From when on it opens nothing; None for never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, or given up.
    pub revoked_at: Option<Timestamp>,
    /// By whom.
    pub revoked_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl Card {
    /// Whether its time is over at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// The key of an active card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardKey {
    /// Of which.
    pub card: CardId,
    /// What holds it.
    pub kind: CardKind,
    /// The line of OpenSSH.
    pub key: PublicKey,
    /// `SHA256:…`
    pub fingerprint: String,
    /// From when on it opens nothing; None for never.
    pub expires_at: Option<Timestamp>,
}

impl CardKey {
    /// Whether it logs in at `now`, in a lab that takes key files or does not.
    pub fn opens(&self, now: Timestamp, software_keys: bool) -> bool {
        let taken = match self.kind {
            CardKind::Piv => true,
            CardKind::KeyFile => software_keys,
        };
        taken && self.expires_at.is_none_or(|end| now < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_survives_its_own_text_and_nothing_else_is_one() {
        let guid = CardGuid(*b"0123456789abcdef");
        assert_eq!(guid.to_string(), "30313233343536373839616263646566");
        assert_eq!(guid.to_string().parse(), Ok(guid));
        for bad in
            ["", "3031", "+0313233343536373839616263646566", "é031323334353637383961626364656"]
        {
            assert!(bad.parse::<CardGuid>().is_err(), "{bad:?}");
        }
        assert!(CardGuid([0; 16]).is_unset() && !guid.is_unset());
    }

    #[test]
    fn an_algorithm_survives_its_own_text() {
        for text in ["ec-p256", "ec-p384", "ec-p521", "ed25519", "rsa-2048", "rsa-4096"] {
            let algorithm: KeyAlgorithm = text.parse().expect("one of ours");
            assert_eq!(algorithm.to_string(), text);
        }
        assert!("rsa-".parse::<KeyAlgorithm>().is_err() && "dss".parse::<KeyAlgorithm>().is_err());
    }

    #[test]
    fn a_key_opens_until_its_end_and_a_file_only_where_files_are_taken() {
        let at = |second| Timestamp::from_second(second).expect("small");
        let key = |kind, end: Option<i64>| CardKey {
            card: CardId(1),
            kind,
            key: PublicKey("ssh-ed25519 AAAA".into()),
            fingerprint: "SHA256:a".into(),
            expires_at: end.map(at),
        };
        assert!(key(CardKind::Piv, None).opens(at(9), false));
        assert!(key(CardKind::Piv, Some(10)).opens(at(9), false));
        assert!(!key(CardKind::Piv, Some(10)).opens(at(10), true));
        assert!(key(CardKind::KeyFile, None).opens(at(9), true));
        assert!(!key(CardKind::KeyFile, None).opens(at(9), false));
    }
}

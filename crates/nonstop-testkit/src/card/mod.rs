//! A PIV card for tests and the demo: SP 800-73-4 over the protocol of vsmartcard's `vpcd`.
//!
//! A card is a file: what a person puts into another reader is the same file there. It is
//! written whole after each command that changes it, so that a card that is pulled out at any
//! instant is what a card would be. It is written apart from `nonstop-card` on purpose, down to
//! the TLV: what one side misreads, the other one shows.
//!
//! No secret is kept from whoever reads the file: never a card for real use.

mod applet;
mod keys;
mod tlv;
pub mod vpcd;

use crate::spec::write_whole;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub use applet::Applet;
pub use keys::SlotKey;

/// The PIN of a card from its maker.
pub const FACTORY_PIN: &str = "123456";
/// The PUK of a card from its maker.
pub const FACTORY_PUK: &str = "12345678";
/// The management key of a card from its maker.
pub const FACTORY_MANAGEMENT: [u8; 24] =
    [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];

/// What is in the plastic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A PIV card.
    Piv,
    /// A card of another kind: it knows no PIV application.
    Other,
    /// A card that gives no answer to reset.
    Mute,
}

/// A PIN or PUK with its counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// As sent, without padding.
    pub value: String,
    /// Wrong ones that are left.
    pub tries: u8,
    /// What a right one sets `tries` to.
    pub limit: u8,
}

/// The key that may write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Management {
    /// SP 800-78: 0x03 3DES, 0x08, 0x0A, 0x0C AES-128, -192, -256.
    pub algorithm: u8,
    /// Hexadecimal.
    pub key: String,
    /// Knows SET MANAGEMENT KEY, which no standard has.
    pub can_change: bool,
}

/// What a card keeps without power.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardState {
    /// What is in the plastic.
    pub kind: Kind,
    /// The holder's PIN.
    pub pin: Secret,
    /// What unblocks it.
    pub puk: Secret,
    /// Who may write.
    pub management: Management,
    /// Data objects by tag, hexadecimal.
    pub objects: BTreeMap<String, String>,
    /// The key in slot 9A.
    pub key: Option<SlotKey>,
}

impl CardState {
    /// A card as it comes from its maker, with a 3DES management key.
    pub fn factory() -> CardState {
        let secret = |value: &str| Secret { value: value.into(), tries: 3, limit: 3 };
        CardState {
            kind: Kind::Piv,
            pin: secret(FACTORY_PIN),
            puk: secret(FACTORY_PUK),
            management: Management {
                algorithm: 0x03,
                key: hex::encode(FACTORY_MANAGEMENT),
                can_change: true,
            },
            objects: BTreeMap::new(),
            key: None,
        }
    }

    /// A card of another kind.
    pub fn of_kind(kind: Kind) -> CardState {
        CardState { kind, ..CardState::factory() }
    }

    /// With this management algorithm, the key as many bytes of the factory's as it takes.
    pub fn managed_by(mut self, algorithm: u8) -> CardState {
        let bytes = match algorithm {
            0x08 => FACTORY_MANAGEMENT[..16].to_vec(),
            0x0C => [&FACTORY_MANAGEMENT[..], &FACTORY_MANAGEMENT[..8]].concat(),
            _ => FACTORY_MANAGEMENT.to_vec(),
        };
        self.management.algorithm = algorithm;
        self.management.key = hex::encode(bytes);
        self
    }

    /// Without the command that changes the management key.
    pub fn fixed_management(mut self) -> CardState {
        self.management.can_change = false;
        self
    }
}

/// A card's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardFile {
    path: PathBuf,
}

impl CardFile {
    /// The card in `path`, which holds one already.
    pub fn at(path: impl Into<PathBuf>) -> CardFile {
        CardFile { path: path.into() }
    }

    /// Puts `state` into `path`, whatever was there.
    pub fn create(path: impl Into<PathBuf>, state: &CardState) -> Result<CardFile> {
        let file = CardFile { path: path.into() };
        if let Some(folder) = file.path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        file.write(state)?;
        Ok(file)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the card keeps.
    pub fn read(&self) -> Result<CardState> {
        let text = fs::read(&self.path).with_context(|| format!("read {}", self.path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parse {}", self.path.display()))
    }

    /// Writes what the card keeps: all of it or nothing.
    pub fn write(&self, state: &CardState) -> Result<()> {
        write_whole(&self.path, &serde_json::to_vec_pretty(state)?)
    }
}

/// `nonstop-testcard --card FILE [--port PORT] [--factory KIND] [--pull-at N | --lose-answer N]
/// [--slow MS]`: plays the card until it is pulled out, or the program is ended.
///
/// `--factory` makes the file anew where there is none: `piv`, `aes`, `other` or `mute`.
/// Errors: no vpcd, a broken file, words that are not known.
pub fn main(args: &[String]) -> Result<()> {
    let mut card = None;
    let mut port = vpcd::PORT;
    let mut factory = None;
    let mut faults = vpcd::Faults::default();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--card" => card = Some(CardFile::at(value)),
            "--port" => port = value.parse().context("--port")?,
            "--factory" => factory = Some(value.as_str()),
            "--pull-at" => faults.pull_at = Some(value.parse().context("--pull-at")?),
            "--lose-answer" => faults.lose_answer = Some(value.parse().context("--lose-answer")?),
            "--slow" => faults.slow_ms = value.parse().context("--slow")?,
            _ => bail!("{word} is not known"),
        }
    }
    let card = card.context("--card FILE names the card")?;
    if let Some(kind) = factory
        && !card.path().exists()
    {
        let state = match kind {
            "piv" => CardState::factory(),
            "aes" => CardState::factory().managed_by(0x0C),
            "other" => CardState::of_kind(Kind::Other),
            "mute" => CardState::of_kind(Kind::Mute),
            _ => bail!("--factory {kind}: piv, aes, other or mute"),
        };
        CardFile::create(card.path(), &state)?;
    }
    vpcd::play(&card, port, faults)
}

//! Screening: what a machine's checks find in a file that is to leave, and what follows from it.
//!
//! Programs that hold the bytes say what they are ([`Measured`], [`Remark`]); the daemon adds what it
//! knows ([`Facts`]); [`judge`] makes of both, by the lab's [`Policy`], a [`Verdict`] and findings that
//! a person can act on. Nothing here looks at a file.

mod judge;
mod kind;
mod policy;
mod words;

pub use judge::judge;
pub use kind::{Group, Kind};
pub(crate) use policy::fault;
pub use policy::{EditionScreening, Policy, Review, Screening};

use crate::data_domain::Resource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// What the machine's checks say of a file; of several, the greatest counts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may leave.
    #[serde(alias = "allow")]
    Pass,
    /// A person decides.
    Hold,
    /// It does not leave.
    Block,
}

impl Verdict {
    /// As it stands in `lab.yaml`, in the database and in lists.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Hold => "hold",
            Verdict::Block => "block",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pass" | "allow" => Ok(Verdict::Pass),
            "hold" => Ok(Verdict::Hold),
            "block" => Ok(Verdict::Block),
            _ => Err(format!("`{text}` is no verdict: use pass, hold or block")),
        }
    }
}

/// Which rule found something: one of [`RuleId::OURS`], or `yara.` or `program.` and a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RuleId(String);

/// A text that is no [`RuleId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no rule: a rule is 1 to 100 letters, digits and `._-`")]
pub struct RuleIdError(String);

impl RuleId {
    /// The bytes equal those of a protected resource.
    pub const PROTECTED: &str = "protected";
    /// Larger than one export, a day or the period may be.
    pub const SIZE: &str = "size";
    /// Its name holds characters that cannot be seen, or that turn others round.
    pub const NAME: &str = "name";
    /// What it is by its content.
    pub const TYPE: &str = "type";
    /// Its name says something else than its content.
    pub const MISMATCH: &str = "mismatch";
    /// A container of files.
    pub const ARCHIVE: &str = "archive";
    /// As dense as compressed or encrypted bytes, without being of a type that explains it.
    pub const COMPRESSED: &str = "compressed";
    /// Bytes stand behind the end of what it is.
    pub const APPENDED: &str = "appended";
    /// It cannot be followed to the end of what it is, or much of it is no part of that.
    pub const MALFORMED: &str = "malformed";
    /// Encrypted.
    pub const ENCRYPTED: &str = "encrypted";
    /// The lab wants a person to look at every file.
    pub const REVIEW: &str = "review";
    /// A check could not be carried out.
    pub const FAILED: &str = "screening-failed";
    /// A rule of the lab's folder cannot be read.
    pub const BROKEN: &str = "rules-broken";

    /// The rules that are always there.
    pub const OURS: [&str; 13] = [
        RuleId::PROTECTED,
        RuleId::SIZE,
        RuleId::NAME,
        RuleId::TYPE,
        RuleId::MISMATCH,
        RuleId::ARCHIVE,
        RuleId::COMPRESSED,
        RuleId::APPENDED,
        RuleId::MALFORMED,
        RuleId::ENCRYPTED,
        RuleId::REVIEW,
        RuleId::FAILED,
        RuleId::BROKEN,
    ];

    /// One of ours.
    pub(crate) fn ours(word: &'static str) -> RuleId {
        RuleId(word.into())
    }

    /// The rule.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is told of it where the file itself must not be known yet: one of a closed set, so that who
    /// looked at the file cannot tell of it by a name. Of the lab's YARA rules it is `yara`, of a
    /// program's findings `program.` and the program, of our own the rule.
    pub fn outside(&self) -> &str {
        match self.0.split_once('.') {
            Some((sort @ "yara", _)) => sort,
            Some(("program", rest)) => {
                let own = rest.find('.').unwrap_or(rest.len());
                &self.0[.."program.".len() + own]
            }
            _ => RuleId::OURS.iter().find(|ours| **ours == self.0).unwrap_or(&RuleId::FAILED),
        }
    }
}

impl FromStr for RuleId {
    type Err = RuleIdError;

    fn from_str(text: &str) -> Result<Self, RuleIdError> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if (1..=100).contains(&text.len()) && text.bytes().all(fine) {
            return Ok(RuleId(text.into()));
        }
        Err(RuleIdError(text.chars().filter(|c| !c.is_control()).take(100).collect()))
    }
}

impl TryFrom<String> for RuleId {
    type Error = RuleIdError;

    fn try_from(text: String) -> Result<Self, RuleIdError> {
        text.parse()
    }
}

impl From<RuleId> for String {
    fn from(rule: RuleId) -> String {
        rule.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A sentence in both languages of the lab's pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// In English.
    pub en: String,
    /// In Japanese.
    pub ja: String,
}

impl Words {
    /// The sentence in Japanese, or in English.
    pub fn said(&self, japanese: bool) -> &str {
        if japanese { &self.ja } else { &self.en }
    }
}

/// What one rule found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule.
    pub rule: RuleId,
    /// What follows from it in this lab.
    pub verdict: Verdict,
    /// What it is, in one sentence.
    pub says: Words,
    /// How to mend it; may be empty.
    pub mend: Words,
}

/// What one pass over the bytes found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// How many bytes.
    pub bytes: u64,
    /// SHA-256 of all of them, in hex.
    pub sha256: String,
    /// What they are.
    pub kind: Kind,
    /// How a text is encoded, such as `utf-8`; None for what is no text.
    pub encoding: Option<String>,
    /// How many pieces of 64 KiB are as dense as compressed or encrypted bytes.
    pub dense_pieces: u64,
}

/// What a rule of the lab's folder, or a deeper look of ours, found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// The rule.
    pub rule: RuleId,
    /// What it would have follow; `lab.yaml` may say otherwise.
    pub verdict: Verdict,
    /// What it is; may be empty.
    pub says: Words,
    /// How to mend it; may be empty.
    pub mend: Words,
}

/// A check that could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// [`RuleId::FAILED`] or [`RuleId::BROKEN`].
    pub rule: RuleId,
    /// What happened to which check, for whoever runs the lab.
    pub what: String,
}

/// Which way a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Into an environment.
    Import,
    /// Out of it.
    Export,
}

/// What is known of a file without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Which way it goes.
    pub way: Way,
    /// Its name, folders included.
    pub name: String,
    /// The environment's data domain; None where its template has none.
    pub edition: Option<String>,
    /// What the environment's machines reach.
    pub resources: BTreeSet<Resource>,
    /// Bytes that the environment exported this day before, this file not counted.
    pub day_bytes: u64,
    /// Bytes that it exported in its period before, this file not counted.
    pub period_bytes: u64,
}

/// All that a verdict is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// None if the bytes could not be measured; there is a failure then.
    pub measured: Option<Measured>,
    /// Whether the bytes are those of a protected resource.
    pub protected: bool,
    /// What rules found.
    pub remarks: Vec<Remark>,
    /// What could not be done.
    pub failures: Vec<Failure>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_only_words_are_told_that_no_looker_chooses() {
        for (rule, told) in [
            ("malformed", "malformed"),
            ("yara.Packer_0123456789abcdef", "yara"),
            ("program.addresses.many", "program.addresses"),
            ("program.addresses", "program.addresses"),
            ("of-tomorrow", "screening-failed"),
        ] {
            let rule: RuleId = rule.parse().expect("a rule");
            assert_eq!(rule.outside(), told);
        }
    }
}

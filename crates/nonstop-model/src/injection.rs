//! Samples that are put before a guest: by a disc that the hypervisor shows, or by the guest's agent.

use crate::ids::{EnvironmentId, InjectionId, MachineId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// The most samples of one injection.
pub const MOST_ITEMS: usize = 16;

/// The most bytes of the samples on one disc: what a CD holds.
pub const MOST_DISC_BYTES: u64 = 700 << 20;

/// The most bytes that a guest's agent is given.
pub const MOST_AGENT_BYTES: u64 = 64 << 20;

/// The longest name of a file, in bytes; a disc has it whole, with `.zip` behind it too.
pub const LONGEST_NAME: usize = 99;

/// How samples reach a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InjectBy {
    /// A read-only disc in its drive: every guest, and nothing in it has to help.
    Disc,
    /// Its agent writes them into the template's `import` folder, where the template allows one.
    Agent,
}

impl InjectBy {
    /// The word of tables, pages and log.
    pub fn as_str(self) -> &'static str {
        match self {
            InjectBy::Disc => "disc",
            InjectBy::Agent => "agent",
        }
    }

    /// The most bytes of samples that go this way at once.
    pub fn most_bytes(self) -> u64 {
        match self {
            InjectBy::Disc => MOST_DISC_BYTES,
            InjectBy::Agent => MOST_AGENT_BYTES,
        }
    }
}

impl fmt::Display for InjectBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for InjectBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disc" => Ok(InjectBy::Disc),
            "agent" => Ok(InjectBy::Agent),
            _ => Err(format!("`{text}` is not a way into a guest: use `disc` or `agent`")),
        }
    }
}

/// How far an injection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InjectionState {
    /// It is wanted.
    Preparing,
    /// The guest has it before it.
    There,
    /// It did not get there; the reason is told.
    Failed,
    /// It was there, or wanted, and is not any more.
    Ended,
}

impl InjectionState {
    /// The word of tables, pages and log.
    pub fn as_str(self) -> &'static str {
        match self {
            InjectionState::Preparing => "preparing",
            InjectionState::There => "there",
            InjectionState::Failed => "failed",
            InjectionState::Ended => "ended",
        }
    }
}

impl FromStr for InjectionState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "preparing" => Ok(InjectionState::Preparing),
            "there" => Ok(InjectionState::There),
            "failed" => Ok(InjectionState::Failed),
            "ended" => Ok(InjectionState::Ended),
            _ => Err(format!("`{text}` is not a state of an injection")),
        }
    }
}

/// One sample of an injection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectedItem {
    /// Its SHA-256, as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// The name of its file in the guest; with a zip, the archive has `.zip` behind it.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Samples that were put before one guest, all at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// Handed out once.
    pub id: InjectionId,
    /// The environment.
    pub environment: EnvironmentId,
    /// The machine of it.
    pub machine: MachineId,
    /// The generation of what that machine can write.
    pub generation: u32,
    /// The data domain that the samples are from.
    pub domain: String,
    /// Who asked.
    pub by_person: String,
    /// How.
    pub by: InjectBy,
    /// Whether each is wrapped in a zip archive with the password `infected`.
    pub zip: bool,
    /// What.
    pub items: Vec<InjectedItem>,
    /// How far it is.
    pub state: InjectionState,
    /// When it was asked for.
    pub at: Timestamp,
    /// When it was before the guest.
    pub there_at: Option<Timestamp>,
    /// When it was not any more, or had failed.
    pub ended_at: Option<Timestamp>,
    /// What ended it: `revert`, `return`, `eject`, `replaced` or `environment end`.
    pub ended_by: Option<String>,
    /// Why it failed.
    pub failure: Option<String>,
    /// What the guest's agent said; information, never proof.
    pub guest_says: Option<String>,
}

impl Injection {
    /// Whether it is wanted, or there.
    pub fn lives(&self) -> bool {
        matches!(self.state, InjectionState::Preparing | InjectionState::There)
    }
}

/// A disc that is wanted in a machine's drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disc {
    /// Which injection it is; its file is named by it.
    pub injection: InjectionId,
    /// The data domain that has the samples.
    pub domain: String,
    /// What is on it.
    pub items: Vec<InjectedItem>,
    /// Whether each is wrapped in a zip archive.
    pub zip: bool,
    /// Whether it was seen in the drive.
    pub there: bool,
}

/// The name of a disc's image in the folder of its machine's generation.
pub fn disc_file(injection: InjectionId) -> String {
    format!("disc-{injection}.iso")
}

/// The injection whose image has the name `file`.
pub fn disc_of(file: &str) -> Option<InjectionId> {
    file.strip_prefix("disc-")?.strip_suffix(".iso")?.parse().ok()
}

/// The name that a sample has where nobody chose another.
pub fn usual_name(sha256: &str) -> String {
    format!("{sha256}.bin")
}

/// Errors, in one sentence: `text` is not a SHA-256 as this lab writes them.
pub fn check_sha256(text: &str) -> Result<(), String> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == 64 && text.bytes().all(hex) {
        Ok(())
    } else {
        Err("a sample is named by its SHA-256: 64 lower-case hexadecimal digits".into())
    }
}

/// Errors, in one sentence: `name` is not a name of a file that every guest takes as it is.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+ ()".contains(&b);
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(format!("the name of a file has 1 to {LONGEST_NAME} characters"));
    }
    if !name.bytes().all(plain) {
        return Err("the name of a file has letters, digits, spaces and `._-+()` alone".into());
    }
    if name.starts_with(['.', ' ', '-']) || name.ends_with(['.', ' ']) {
        return Err(
            "the name of a file does not begin with `.`, `-` or a space, nor end with `.` \
                    or a space"
                .into(),
        );
    }
    let stem = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let numbered = |device: &str| {
        stem.strip_prefix(device).is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit())
    };
    let device = ["CON", "PRN", "AUX", "NUL"].contains(&stem.trim_end());
    if device || numbered("COM") || numbered("LPT") {
        return Err(format!("`{name}` is the name of a device on Windows"));
    }
    Ok(())
}

/// Errors, in one sentence: two of `names` are one where letters of either size are the same.
pub fn check_distinct<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(format!("two files have the name `{name}`: give each its own"));
        }
    }
    Ok(())
}

/// Where `name` lies in the folder `import` of a guest, in its way of writing paths.
pub fn path_in(import: &str, name: &str) -> String {
    let windows = !import.starts_with('/');
    let separator = if windows { '\\' } else { '/' };
    format!("{}{separator}{name}", import.trim_end_matches(separator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_that_linux_and_windows_take_them_as_they_are() {
        for good in ["a.exe", "invoice (2).pdf.js", "x", &"a".repeat(99), "COM10", "console.bin"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".hidden",
            "-rf",
            "a/b",
            "a\\b",
            "..",
            "a\nb",
            "日本",
            "nul",
            "com1.exe",
            "a.",
            "a ",
            " a",
            "a:b",
            "LPT9",
            "a\0b",
            "con .txt",
            &"a".repeat(100),
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(check_name(&usual_name(&"a1".repeat(32))), Ok(()));
    }

    #[test]
    fn two_names_are_one_where_windows_would_say_so() {
        assert!(check_distinct(["a.exe", "A.EXE"].into_iter()).is_err());
        assert!(check_distinct(["a.exe", "b.exe"].into_iter()).is_ok());
    }

    #[test]
    fn a_path_is_written_as_its_guest_writes_it() {
        assert_eq!(path_in("/home/researcher/Import", "a"), "/home/researcher/Import/a");
        assert_eq!(path_in("C:\\Import", "a.exe"), "C:\\Import\\a.exe");
    }

    #[test]
    fn an_image_is_known_by_its_name() {
        assert_eq!(disc_of(&disc_file(InjectionId(7))), Some(InjectionId(7)));
        assert_eq!(disc_of("disc-j7.iso.new"), None);
        assert_eq!(disc_of("disk.qcow2"), None);
    }
}

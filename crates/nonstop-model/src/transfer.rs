//! Files that go into an environment and come out of it: their names, and how far an export is.
//!
//! A *name* is what people see, a path below one of an environment's roots. What it holds is a
//! *blob*: bytes that never change, once they are there.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The longest name of one entry, in bytes.
pub const LONGEST_NAME: usize = 255;

/// The longest path below a root, in bytes.
pub const LONGEST_PATH: usize = 1024;

/// How deep folders may lie.
pub const DEEPEST: usize = 32;

/// One of the trees of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Root {
    /// What was brought from outside.
    Import,
    /// What a machine wants to give, and outside what was released of it.
    Export,
    /// What the lab itself made.
    Capture,
}

impl Root {
    /// As it stands in URLs and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Root::Import => "import",
            Root::Export => "export",
            Root::Capture => "capture",
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name or path that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A part of it is empty.
    #[error("a name must not be empty")]
    Empty,
    /// `.` or `..`.
    #[error("`.` and `..` are no names")]
    Dots,
    /// It holds a `/`, or a character that cannot be shown.
    #[error("a name must not hold `/` or control characters")]
    Control,
    /// One name is too long.
    #[error("a name may have {LONGEST_NAME} bytes")]
    LongName,
    /// The whole path is too long.
    #[error("a path may have {LONGEST_PATH} bytes")]
    LongPath,
    /// Too many folders in each other.
    #[error("folders may lie {DEEPEST} deep")]
    Deep,
}

/// The name of one file or folder: UTF-8 as it was given, 1 to 255 bytes, no `/`, no control
/// characters, not `.` or `..`.
///
/// Two names are one only if all their bytes are equal: neither case nor the form of Unicode counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EntryName(String);

impl EntryName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether programs make such files on the way to another, or for themselves: office programs,
    /// editors, browsers, file managers. They are kept, and never exported.
    pub fn is_temporary(&self) -> bool {
        let name = self.0.as_str();
        let lower = name.to_lowercase();
        let begins = [
            ".~lock.",
            "~$",
            "._",
            ".goutputstream-",
            ".#",
            ".nfs",
            ".fuse_hidden",
            ".trash",
            "~wrl",
            "~wrd",
            "~rf",
            ".sb-",
        ];
        let ends =
            ["~", ".tmp", ".temp", ".part", ".partial", ".crdownload", ".swp", ".swo", ".swx"];
        let whole = [
            ".ds_store",
            "thumbs.db",
            "desktop.ini",
            "4913",
            "lost+found",
            ".directory",
            ".hidden",
        ];
        let lock = lower.starts_with('#') && lower.ends_with('#') && lower.len() > 1;
        lock || whole.contains(&lower.as_str())
            || begins.iter().any(|part| lower.starts_with(part))
            || ends.iter().any(|part| lower.ends_with(part))
    }
}

impl FromStr for EntryName {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        match text {
            "" => Err(PathError::Empty),
            "." | ".." => Err(PathError::Dots),
            _ if text.contains(|c: char| c == '/' || c.is_control()) => Err(PathError::Control),
            _ if text.len() > LONGEST_NAME => Err(PathError::LongName),
            _ => Ok(EntryName(text.into())),
        }
    }
}

impl TryFrom<String> for EntryName {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<EntryName> for String {
    fn from(name: EntryName) -> String {
        name.0
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path below a root: names with `/` between them; empty for the root itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EntryPath(String);

impl EntryPath {
    /// The root itself.
    pub const ROOT: EntryPath = EntryPath(String::new());

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The folder it lies in, and its name there; None for the root.
    pub fn split(&self) -> Option<(EntryPath, EntryName)> {
        let (parent, name) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        if name.is_empty() {
            return None;
        }
        Some((EntryPath(parent.into()), EntryName(name.into())))
    }

    /// What `name` is called that lies in it.
    ///
    /// Errors: `LongPath`, `Deep`.
    pub fn join(&self, name: &EntryName) -> Result<EntryPath, PathError> {
        if self.is_root() {
            return Ok(EntryPath(name.0.clone()));
        }
        format!("{}/{name}", self.0).parse()
    }

    /// Whether it is `folder`, or lies somewhere below it.
    pub fn is_within(&self, folder: &EntryPath) -> bool {
        folder.is_root()
            || self
                .0
                .strip_prefix(&folder.0)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Its names, from the root on.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }
}

impl FromStr for EntryPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Ok(EntryPath::ROOT);
        }
        if text.len() > LONGEST_PATH {
            return Err(PathError::LongPath);
        }
        let mut depth = 0;
        for name in text.split('/') {
            name.parse::<EntryName>()?;
            depth += 1;
        }
        if depth > DEEPEST {
            return Err(PathError::Deep);
        }
        Ok(EntryPath(text.into()))
    }
}

impl TryFrom<String> for EntryPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<EntryPath> for String {
    fn from(path: EntryPath) -> String {
        path.0
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes that lie in a store; 128 random bits in hex, so that its order tells nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BlobId(String);

/// A text that is no [`BlobId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 digits of hex in lower case")]
pub struct BlobIdError;

impl BlobId {
    /// The one of these `bits`.
    pub fn from_bits(bits: u128) -> BlobId {
        BlobId(format!("{bits:032x}"))
    }

    /// The digits: also the name of its file.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BlobId {
    type Err = BlobIdError;

    fn from_str(text: &str) -> Result<Self, BlobIdError> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.len() == 32 && hex { Ok(BlobId(text.into())) } else { Err(BlobIdError) }
    }
}

impl TryFrom<String> for BlobId {
    type Error = BlobIdError;

    fn try_from(text: String) -> Result<Self, BlobIdError> {
        text.parse()
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> String {
        id.0
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far an export is.
///
/// ```text
/// Submitted -> Screening -> Released | Held | Blocked        by the machine's verdict
///     |            |           |        |
///     +--------> Withdrawn <---|--------+                    the name was deleted or written anew
///                              |        +-> Released | Refused   by a person
///                              +-> Revoked                       by a person
/// ```
///
/// What is withdrawn while it is being screened, and then blocked, is `Blocked`: nobody hides an
/// attempt by taking it back. After a crash `Screening` is `Submitted` again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportState {
    /// Waits to be screened.
    Submitted,
    /// Is being screened.
    Screening,
    /// A person has to decide.
    Held,
    /// It does not leave; its bytes lie in the quarantine.
    Blocked,
    /// Outside may see it.
    Released,
    /// A person said no.
    Refused,
    /// Its name was deleted, or written anew, before it was released.
    Withdrawn,
    /// It was released, and is not to be had any more.
    Revoked,
}

impl ExportState {
    /// As it stands in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            ExportState::Submitted => "submitted",
            ExportState::Screening => "screening",
            ExportState::Held => "held",
            ExportState::Blocked => "blocked",
            ExportState::Released => "released",
            ExportState::Refused => "refused",
            ExportState::Withdrawn => "withdrawn",
            ExportState::Revoked => "revoked",
        }
    }

    /// Whether anything may still happen to it without a person.
    pub fn is_under_way(self) -> bool {
        matches!(self, ExportState::Submitted | ExportState::Screening)
    }

    /// Whether it goes when its name does: not yet released, nor ended.
    pub fn can_be_withdrawn(self) -> bool {
        self.is_under_way() || self == ExportState::Held
    }
}

impl fmt::Display for ExportState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_kept_and_impossible_ones_refused_with_the_reason() {
        for name in [
            "結果 その1.csv",
            "CON",
            "a.",
            "ﬀ\u{301}",
            "が",
            "か\u{3099}",
            "-rf",
            "%2e%2e",
            "...",
            "a\\b",
        ] {
            assert_eq!(name.parse::<EntryName>().map(String::from), Ok(name.into()));
        }
        assert_eq!("..".parse::<EntryName>(), Err(PathError::Dots));
        assert_eq!("a\nb".parse::<EntryName>(), Err(PathError::Control));
        assert_eq!("".parse::<EntryName>(), Err(PathError::Empty));
        assert_eq!("あ".repeat(86).parse::<EntryName>(), Err(PathError::LongName));
        assert_eq!("a//b".parse::<EntryPath>(), Err(PathError::Empty));
        assert_eq!("a/../b".parse::<EntryPath>(), Err(PathError::Dots));
        assert_eq!("/a".parse::<EntryPath>(), Err(PathError::Empty));
        assert_eq!(["a"; 33].join("/").parse::<EntryPath>(), Err(PathError::Deep));
        assert_eq!(["abcdefghij"; 100].join("/").parse::<EntryPath>(), Err(PathError::LongPath));
    }

    #[test]
    fn a_path_splits_into_its_folder_and_name() {
        let path: EntryPath = "a/b/c".parse().expect("a path");
        let (parent, name) = path.split().expect("not the root");
        assert_eq!((parent.as_str(), name.as_str()), ("a/b", "c"));
        assert_eq!(parent.join(&name), Ok(path.clone()));
        assert!(path.is_within(&parent) && path.is_within(&EntryPath::ROOT));
        assert!(!"a/bc".parse::<EntryPath>().expect("a path").is_within(&parent));
        assert_eq!(EntryPath::ROOT.split(), None);
    }

    #[test]
    fn files_on_the_way_to_another_are_told_by_their_names() {
        for name in
            ["~$Bericht.docx", ".~lock.a.odt#", "a.TMP", "x.part", ".DS_Store", "a.txt~", "#a#"]
        {
            assert!(name.parse::<EntryName>().expect("a name").is_temporary(), "{name}");
        }
        for name in ["a.docx", "tmp", "#1", "part.csv", "a~b", ".profile", "結果.csv"] {
            assert!(!name.parse::<EntryName>().expect("a name").is_temporary(), "{name}");
        }
    }
}

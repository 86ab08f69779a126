//! What these programs say on standard output: one line of JSON, of bounded length.

use serde::Serialize;
use std::{io::Write, process::ExitCode};

/// The longest line, in bytes.
pub const LONGEST: usize = 256 << 10;
/// The longest text within it that a rule or a reason may have, in bytes.
pub const LONGEST_TEXT: usize = 500;
/// The bytes of all remarks together, so that they fit into the line beside rules that are broken.
const LONGEST_REMARKS: usize = 192 << 10;
/// How many remarks are said; more than these nobody reads.
pub const MOST_REMARKS: usize = 100;

/// What one program says last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// What one pass over the bytes found.
    Measured(Measured),
    /// What deeper looks and the lab's rules found.
    Found(Found),
    /// It could not be done, and why.
    Failed {
        /// One sentence.
        reason: String,
    },
}

/// What one pass over the bytes found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// How many bytes.
    pub bytes: u64,
    /// SHA-256 of all of them, in hex.
    pub sha256: String,
    /// What they are.
    pub kind: &'static str,
    /// How a text is encoded.
    pub encoding: Option<&'static str>,
    /// How many pieces of 64 KiB are as dense as compressed or encrypted bytes.
    pub dense_pieces: u64,
}

/// What deeper looks and the lab's rules found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What a container is, seen from within.
    pub kind: Option<&'static str>,
    /// What was found; the gravest, where that is more than can be said.
    pub remarks: Vec<Remark>,
    /// Whether there was more.
    pub more: bool,
    /// Rules that cannot be read, and why.
    pub broken: Vec<String>,
}

impl Found {
    /// Leaves out what is too much to be said, the mildest first, and tells that there was more.
    pub fn cut(&mut self) {
        self.remarks.sort_by_key(Remark::mildness);
        let length = |remark: &Remark| serde_json::to_vec(remark).map_or(LONGEST, |it| it.len());
        let mut room = LONGEST_REMARKS;
        let fits = |remark: &&Remark| match room.checked_sub(length(remark) + 1) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        let said = self.remarks.iter().take(MOST_REMARKS).take_while(fits).count();
        self.more |= said < self.remarks.len();
        self.remarks.truncate(said);
    }
}

impl Remark {
    /// Which are left out last: 0 for what blocks.
    fn mildness(&self) -> u8 {
        match self.verdict.as_str() {
            "block" => 0,
            "pass" => 2,
            // What nobody understands holds.
            _ => 1,
        }
    }
}

/// What one rule found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The rule.
    pub rule: String,
    /// pass, hold or block.
    pub verdict: String,
    /// What it is, in English.
    pub says: String,
    /// What it is, in Japanese.
    pub says_ja: String,
    /// How to mend it, in English.
    pub mend: String,
    /// How to mend it, in Japanese.
    pub mend_ja: String,
}

impl Said {
    /// It could not be done.
    pub fn failed(reason: impl std::fmt::Display) -> Said {
        Said::Failed { reason: plain(&reason.to_string()) }
    }

    /// Says it. The exit code is 0 unless it says that something failed, or could not be said.
    pub fn say(&self) -> ExitCode {
        let Ok(mut line) = serde_json::to_vec(self) else { return ExitCode::FAILURE };
        line.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        let said = stdout.write_all(&line).and_then(|()| stdout.flush());
        match (said, self) {
            (Ok(()), Said::Measured(_) | Said::Found(_)) => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

/// `text` on one line, of at most [`LONGEST_TEXT`] bytes.
pub fn plain(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(LONGEST_TEXT));
    line
}

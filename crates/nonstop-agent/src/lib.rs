//! Speaking with a guest's agent through a confined child.
//!
//! Everything that a guest says is hostile input, so it is parsed by a process that can do
//! nothing else: the program `nonstop-agent`, a user of its own without files, network or
//! new processes, for ten seconds, or for as long as a file takes that it gives the guest. Its parent
//! believes it one of a few words, and two numbers.

mod guest;
mod put;
mod runner;

pub use guest::{SetPassword, Verdict, set_password};
pub use put::{Kept, MOST_BYTES, Put, PutFile, PutVerdict, put, put_patience};
pub use runner::{RunError, run, run_put};

use serde::{Deserialize, Serialize};

/// What the child is to do.
#[derive(Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// Have a password set; the child answers with the byte of a [`Verdict`].
    SetPassword(SetPassword),
    /// Have a file written, which is standard error; the child answers with the bytes of a [`Put`], again
    /// and again: the last is how it ended.
    PutFile(PutFile),
}

/// How long a guest may take to answer at all, in milliseconds: most likely it still starts.
pub const SILENCE_MS: u64 = 2000;

/// How long a guest may take for everything, in milliseconds. Hashing a password takes a guest
/// without KVM 0.4 to 1.5 s, on a busy host three times as long; given up too early it would be
/// begun again and again, each time behind the one before, and never end.
pub const PATIENCE_MS: u64 = 10_000;

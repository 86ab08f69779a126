//! Speaking with a guest's agent through a confined child.
//!
//! Everything that a guest says is hostile input, so it is parsed by a process that can do
//! nothing else: the program `nonstop-agent`, a user of its own without files, network or
//! new processes, for ten seconds. Its parent believes it one of three words.

mod guest;
mod runner;

pub use guest::{Task, Verdict, carry_out};
pub use runner::{RunError, run};

/// How long a guest may take to answer at all, in milliseconds: most likely it still starts.
pub const SILENCE_MS: u64 = 2000;

/// How long a guest may take for everything, in milliseconds. Hashing a password takes a guest
/// without KVM 0.4 to 1.5 s, on a busy host three times as long; given up too early it would be
/// begun again and again, each time behind the one before, and never end.
pub const PATIENCE_MS: u64 = 10_000;

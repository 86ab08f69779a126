//! Speaking with a guest's agent through a confined child.
//!
//! Everything that a guest says is hostile input, so it is parsed by a process that can do
//! nothing else: the program `nonstop-agent`, a user of its own without files, network or
//! new processes, for two seconds. Its parent believes it one of three words.

mod confine;
mod guest;
mod runner;

pub use confine::{ConfineError, confine};
pub use guest::{Task, Verdict, carry_out};
pub use runner::{RunError, run};

/// How long a guest may take to answer, in milliseconds.
pub const PATIENCE_MS: u64 = 2000;

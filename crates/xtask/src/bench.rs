//! `cargo xtask bench NAME`: ours beside a peer, measured in turn in the same run.
//!
//! A comparison is a program of its own in `crates/xtask/src/bench/`, which prints one JSON
//! line on stdout and talks on stderr.

use anyhow::{Result, bail};

/// Runs the comparison `name`.
///
/// Errors: there is none of that name.
pub(crate) fn bench(name: &str) -> Result<()> {
    bail!("there is no comparison `{name}` yet")
}

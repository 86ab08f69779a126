//! One flag for the whole program: somebody wants it to end.
//!
//! Everything here that waits looks at it, so that Ctrl-C is obeyed in mid-start and the
//! box, the cable and the tunnels are dropped in order.

use anyhow::{Result, bail};
use std::sync::atomic::{AtomicBool, Ordering};

static WANTED: AtomicBool = AtomicBool::new(false);

/// Wants the program to end.
pub fn interrupt() {
    WANTED.store(true, Ordering::SeqCst);
}

/// Whether somebody wants the program to end.
pub fn interrupted() -> bool {
    WANTED.load(Ordering::SeqCst)
}

/// An error once somebody wants the program to end.
pub fn check() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

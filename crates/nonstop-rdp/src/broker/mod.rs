//! The broker of a desktop: it alone speaks with QEMU, and shows what QEMU shows to the viewers.

use crate::confine::{ConfineError, Left, confine};

/// A broker that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It could not be confined.
    #[error("confine the broker")]
    Confine(#[from] ConfineError),
}

/// Serves the desktop whose `nonstopd` speaks on descriptor 0, until that ends.
pub fn run(uid: u32) -> Result<(), BrokerError> {
    confine(Left { uid, memory_bytes: 512 << 20, file_bytes: 65 << 20, files: 64, calls: &[] })?;
    Ok(())
}

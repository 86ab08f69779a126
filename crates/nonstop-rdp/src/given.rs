//! What a process is started with: JSON on descriptor 2.

use nonstop_display::setup::LONGEST;
use serde::de::DeserializeOwned;
use std::{io, os::fd::AsFd};

/// A setup that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// The kernel refused.
    #[error("read the setup")]
    Io(#[from] io::Error),
    /// It is longer than any of ours.
    #[error("the setup is too long")]
    TooLong,
    /// It is no setup of this process.
    #[error("the setup makes no sense")]
    Json(#[from] serde_json::Error),
}

/// Reads descriptor 2 to its end and puts `/dev/null` in its place. Before the confinement: the
/// words are `nonstopd`'s, and nothing can be opened after it.
pub fn read_setup<T: DeserializeOwned>() -> Result<T, GivenError> {
    let mut text = Vec::new();
    let stderr = io::stderr();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(stderr.as_fd(), &mut buffer) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(GivenError::Io(e.into())),
        }
        if text.len() > LONGEST {
            return Err(GivenError::TooLong);
        }
    }
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stderr(&null).map_err(io::Error::from)?;
    Ok(serde_json::from_slice(&text)?)
}

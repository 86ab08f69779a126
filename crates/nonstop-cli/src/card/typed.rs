//! A PIN that somebody types, unseen.

use crate::error::CliError;
use nonstop_card::Pin;
use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};
use std::io;
use zeroize::Zeroizing;

/// Asks for the PIN of the card in `reader`; from a pipe, its first line.
///
/// Errors: stdin cannot be read, or what came is no PIN.
pub(super) fn pin(reader: &str) -> Result<Pin, CliError> {
    let stdin = io::stdin();
    let before = isatty(&stdin).then(|| tcgetattr(&stdin).ok()).flatten();
    if let Some(before) = &before {
        eprint!("PIN of the card in {reader}: ");
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &unseen).map_err(|e| broken(e.into()))?;
    }
    let mut line = Zeroizing::new(String::new());
    let read = stdin.read_line(&mut line);
    if let Some(before) = &before {
        tcsetattr(&stdin, OptionalActions::Flush, before).map_err(|e| broken(e.into()))?;
        eprintln!();
    }
    read.map_err(broken)?;
    Pin::parse(line.trim_end_matches(['\n', '\r'])).map_err(|e| CliError::Misused(e.to_string()))
}

fn broken(source: io::Error) -> CliError {
    CliError::Read { path: "/dev/stdin".into(), source }
}

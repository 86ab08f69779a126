//! The browser, as the system starts it.

use crate::os::{Os, Variable};
use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// The command that shows `url`; None where there is no screen.
pub(crate) fn command(os: Os, url: &str, variable: Variable<'_>) -> Option<(PathBuf, Vec<String>)> {
    match os {
        Os::Linux => {
            let screen =
                ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(|name| variable(name).is_some());
            let opener = os.program("xdg-open", variable).filter(|_| screen)?;
            Some((opener, vec![url.into()]))
        }
        Os::MacOs => Some((os.program("open", variable)?, vec![url.into()])),
        // Not `start`, which is the shell's.
        Os::Windows => Some((
            os.program("rundll32", variable)?,
            vec!["url.dll,FileProtocolHandler".into(), url.into()],
        )),
    }
}

/// Starts it; whether it could be.
pub(crate) fn open(os: Os, url: &str) -> bool {
    let Some((program, words)) = command(os, url, &|name| std::env::var_os(name)) else {
        return false;
    };
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Ok(mut opener) => {
            // It ends by itself, and may wait for the browser.
            std::thread::spawn(move || opener.wait());
            true
        }
        Err(_) => false,
    }
}

//! What the person at the terminal wants meanwhile: an end, other desktops.

use crate::{Request, trouble::Trouble};
use std::{
    io::{self, BufRead, IsTerminal},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

static STOPPED: AtomicBool = AtomicBool::new(false);
static ASKING: AtomicBool = AtomicBool::new(false);
/// Somebody pressed Enter, to have new desktops looked for.
static LOOK: AtomicBool = AtomicBool::new(false);

/// Whether somebody wants it to end.
pub(crate) fn stopped() -> bool {
    STOPPED.load(Ordering::SeqCst)
}

/// Ctrl-C and its like end what was started; while a PIN is asked for, nothing was.
pub(super) fn end_on_signals() -> Result<(), Trouble> {
    let handler = || {
        STOPPED.store(true, Ordering::SeqCst);
        if ASKING.load(Ordering::SeqCst) {
            echo_again();
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).map_err(|e| Trouble::Ssh(e.to_string()))
}

/// From now on Enter has new desktops looked for, where the terminal is not needed for the PIN.
pub(super) fn look_on_enter(request: &Request) -> bool {
    let free = !request.pin_stdin && !request.ask_each_time && io::stdin().is_terminal();
    if free {
        thread::spawn(|| {
            for _ in io::stdin().lock().lines().map_while(Result::ok) {
                LOOK.store(true, Ordering::SeqCst);
            }
        });
    }
    free
}

/// Has the terminal show again what is typed.
fn echo_again() {
    #[cfg(unix)]
    if let Ok(terminal) = std::fs::File::open("/dev/tty") {
        let _best_effort = std::process::Command::new("stty").arg("echo").stdin(terminal).status();
    }
    eprintln!();
}

/// Whether somebody wants new desktops looked for; asked once.
pub(super) fn looks() -> bool {
    LOOK.swap(false, Ordering::SeqCst)
}

/// Runs `ask`, which leaves the terminal's echo off when a signal ends it.
pub(super) fn while_asking<T>(ask: impl FnOnce() -> T) -> T {
    ASKING.store(true, Ordering::SeqCst);
    let said = ask();
    ASKING.store(false, Ordering::SeqCst);
    said
}

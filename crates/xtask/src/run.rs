//! Commands that end when we are told to end.

use anyhow::{Context, Result, bail};
use nonstop_testkit::{init, interrupt};
use rustix::process::{Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    io,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// From now on Ctrl-C, TERM and HUP end the program in order.
pub(crate) fn catch_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("catch signals")?;
    thread::spawn(move || {
        for _ in signals.forever() {
            interrupt::interrupt();
        }
    });
    Ok(())
}

/// Sleeps until somebody wants the program to end or `over` says so.
pub(crate) fn wait_until(mut over: impl FnMut() -> bool) {
    while !interrupt::interrupted() && !over() {
        thread::sleep(Duration::from_millis(200));
    }
}

/// Runs `command` with its talk on our stderr; an exit code other than 0 is an error that
/// names `what`. When we are told to end, so is it.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    let status = status(what, command.stdout(Stdio::from(io::stderr())))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}

/// Runs `command` to its end, or to ours.
pub(crate) fn status(what: &str, command: &mut Command) -> Result<ExitStatus> {
    interrupt::check()?;
    let mut child =
        command.stdin(Stdio::null()).spawn().with_context(|| format!("start {what}"))?;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("wait for {what}"))? {
            interrupt::check()?;
            return Ok(status);
        }
        if interrupt::interrupted() {
            end(&mut child)?;
            interrupt::check()?;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// TERM, and KILL where that is not heard within ten seconds.
fn end(child: &mut Child) -> Result<()> {
    if let Some(pid) = init::pid(child.id()) {
        let _ended_already = kill_process(pid, Signal::TERM);
    }
    let patience = Instant::now() + Duration::from_secs(10);
    while child.try_wait()?.is_none() {
        if Instant::now() > patience {
            child.kill()?;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_what_failed() {
        let e = run("the build", &mut Command::new("false")).expect_err("false fails");
        assert!(e.to_string().starts_with("the build failed"), "{e}");
    }
}

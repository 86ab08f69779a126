//! Places: where a command runs. Here, inside a lab's box, or on a researcher's PC.
//!
//! A place is no more than words put before a command (`nsenter ...`), so the same
//! helpers work on the user's own machine and in any set of namespaces.

use crate::interrupt;
use anyhow::{Context, Result, bail};
use std::{
    ffi::OsStr,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Where a command runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    prefix: Vec<String>,
}

impl Place {
    /// The caller's own namespaces.
    pub fn here() -> Place {
        Place::default()
    }

    /// All namespaces of a box whose PID 1 is `init` as seen from here.
    pub fn in_box(init: u32) -> Place {
        let init = init.to_string();
        let words = ["nsenter", "-t", &init, "-m", "-n", "-p", "-i", "-u", "-C", "--"];
        Place { prefix: words.map(String::from).into() }
    }

    /// The network namespace of the process `holder`; files and processes stay ours.
    pub fn in_network(holder: u32) -> Place {
        let holder = holder.to_string();
        let words = ["nsenter", "-t", &holder, "-n", "--"];
        Place { prefix: words.map(String::from).into() }
    }

    /// The network and mount namespaces of the process `holder`; processes stay ours.
    pub fn with_mounts(holder: u32) -> Place {
        let holder = holder.to_string();
        let words = ["nsenter", "-t", &holder, "-n", "-m", "--"];
        Place { prefix: words.map(String::from).into() }
    }

    /// The words that stand before a command.
    pub fn prefix(&self) -> &[String] {
        &self.prefix
    }

    /// A command that will run `program` here; nothing of the caller's stdin reaches it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.prefix.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.stdin(Stdio::null());
        command
    }

    /// Runs `words` here to the end, whatever comes out.
    pub fn output<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<Output> {
        let (program, args) = words.split_first().context("an empty command")?;
        self.command(program).args(args).output().with_context(|| format!("run {}", shown(words)))
    }

    /// Runs `words` here and gives their output; an exit code other than 0 is an error
    /// that carries what was said on stderr.
    pub fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<String> {
        let output = self.output(words)?;
        if !output.status.success() {
            bail!(
                "{} ended with {}: {}",
                shown(words),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a line of words split at blanks: `place.line("ip link set lo up")`.
    pub fn line(&self, words: &str) -> Result<String> {
        self.run(&words.split_whitespace().collect::<Vec<_>>())
    }
}

fn shown<S: AsRef<OsStr>>(words: &[S]) -> String {
    words.iter().map(|w| w.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Asks `look` again and again until it has an answer; `what` names the thing in the error.
///
/// Errors: the last one of `look`, or none when it only ever said "not yet"; at once when
/// somebody wants the program to end.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    poll(what, limit, interrupt::check, look)
}

/// As [`wait_for`], but for clearing away: it is not cut short by an interrupt.
pub fn wait_for_end<T>(
    what: &str,
    limit: Duration,
    look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    poll(what, limit, || Ok(()), look)
}

fn poll<T>(
    what: &str,
    limit: Duration,
    go_on: impl Fn() -> Result<()>,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        go_on()?;
        let last = look();
        match last {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if start.elapsed() > limit => {
                bail!("waited {:.1} s for {what} in vain", limit.as_secs_f32())
            }
            Err(e) if start.elapsed() > limit => {
                return Err(e)
                    .with_context(|| format!("waited {:.1} s for {what}", limit.as_secs_f32()));
            }
            Ok(None) | Err(_) => {}
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_tells_what_it_said() {
        let e = Place::here().run(&["sh", "-c", "echo broken >&2; exit 3"]).expect_err("fails");
        assert!(e.to_string().contains("broken") && e.to_string().contains('3'), "{e}");
    }

    #[test]
    fn waiting_ends_with_the_last_reason() {
        let e = wait_for::<()>("a miracle", Duration::from_millis(20), || bail!("none today"))
            .expect_err("never comes");
        assert_eq!(format!("{e:#}"), "waited 0.0 s for a miracle: none today");
    }
}

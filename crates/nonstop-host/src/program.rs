//! Running `nft`, `tc`, `ip` and `sh` with a script on stdin, with what they say on stderr kept: it is
//! the only reason that is given when a change fails.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

/// A program could not be run, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It did not run.
    #[error("run `{program}`")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} refused: {stderr}")]
    Refused {
        /// Which.
        program: &'static str,
        /// What it said, and how it ended.
        stderr: String,
    },
}

/// Runs `program` with `args` and `stdin`; gives what it says on stdout.
pub(crate) fn output(
    program: &'static str,
    args: &[&str],
    stdin: &str,
) -> Result<Vec<u8>, ProgramError> {
    let failed = |source| ProgramError::Run { program, source };
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // They say no more than a few hundred bytes before they have read all of a script, so this cannot
    // block for ever. A broken pipe means that one has given up already: its own words say why.
    if let Some(mut pipe) = child.stdin.take()
        && let Err(e) = pipe.write_all(stdin.as_bytes())
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(failed(e));
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stderr = format!("{} ({})", stderr.trim(), output.status);
        Err(ProgramError::Refused { program, stderr })
    }
}

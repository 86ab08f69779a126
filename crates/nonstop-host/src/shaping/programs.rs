//! Running `sh`, `tc`, `ip` and `nft`, and their listings in a form that can be compared.

use serde_json::Value;
use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

/// A program could not be run, or refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramError {
    /// It did not run.
    #[error("run `{program}`")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("the kernel refused: {stderr}")]
    Refused {
        /// What it said.
        stderr: String,
    },
    /// A listing of it is none.
    #[error("understand nft's listing")]
    Listing(#[from] serde_json::Error),
    /// All was taken, and something else stands there.
    #[error("the kernel lists `{found}` where `{wanted}` was wanted")]
    Differs {
        /// What was wanted.
        wanted: String,
        /// What is there.
        found: String,
    },
}

/// Runs `program` with `args` and `stdin`; gives what it says on stdout.
pub(super) fn run(
    program: &'static str,
    args: &[&str],
    stdin: &str,
) -> Result<String, ProgramError> {
    let failed = |source| ProgramError::Run { program, source };
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Scripts of ours say nothing before they have been read, up to a few hundred bytes of listings.
    if let Some(mut pipe) = child.stdin.take()
        && let Err(e) = pipe.write_all(stdin.as_bytes())
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(failed(e));
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(ProgramError::Refused { stderr: format!("{} ({})", stderr.trim(), output.status) })
    }
}

/// A listing of [`super::render::list`] without what differs from load to load, in a fixed order.
pub(super) fn sorted_listing(
    listed: Result<String, ProgramError>,
) -> Result<Vec<String>, ProgramError> {
    let mut lines = Vec::new();
    for line in listed?.lines() {
        if line.starts_with('{') {
            let mut table: Value = serde_json::from_str(line)?;
            let objects = table["nftables"].as_array_mut().map(std::mem::take);
            let objects = objects.unwrap_or_default().into_iter();
            lines.extend(objects.filter(|object| object.get("metainfo").is_none()).map(
                |mut object| {
                    normalise(&mut object);
                    object.to_string()
                },
            ));
            continue;
        }
        // Counts packets.
        let words: Vec<&str> = line.split_whitespace().collect();
        let counts = words.iter().position(|word| *word == "direct_packets_stat");
        let skipped = |at: usize| counts.is_some_and(|from| at == from || at == from + 1);
        let kept = words.iter().enumerate().filter(|(at, _)| !skipped(*at)).map(|(_, word)| *word);
        lines.push(kept.collect::<Vec<_>>().join(" "));
    }
    lines.sort();
    Ok(lines)
}

/// Removes handles, and orders what a map holds.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("handle");
            fields.values_mut().for_each(normalise);
            for list in ["set", "elem", "dev"] {
                if let Some(Value::Array(members)) = fields.get_mut(list) {
                    members.sort_by_key(Value::to_string);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(normalise),
        _ => {}
    }
}

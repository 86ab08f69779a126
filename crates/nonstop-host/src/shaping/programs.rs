//! What `sh`, `tc`, `ip` and `nft` list, in a form that can be compared.

use crate::program::{self, ProgramError};
use serde_json::Value;

/// What the kernel has is not what was wanted, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShapingError {
    /// A program could not be run, or refused.
    #[error(transparent)]
    Program(#[from] ProgramError),
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
) -> Result<String, ShapingError> {
    let said = program::output(program, args, stdin)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// A listing of [`super::render::list`] without what differs from load to load, in a fixed order.
pub(super) fn sorted_listing(
    listed: Result<String, ShapingError>,
) -> Result<Vec<String>, ShapingError> {
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

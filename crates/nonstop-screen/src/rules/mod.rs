//! `nonstop-screen rules`: what containers are from within, and the lab's YARA rules.
//!
//! Rules are read before rights are given up, and understood after that. One that cannot be
//! understood is told and left out; the others count.

mod yara;

use crate::{
    child::{Given, confined},
    input::Stdin,
    look::{self, Seen},
    mapped,
    said::{Found, Remark, Said, plain},
};
use std::{path::PathBuf, process::ExitCode, time::Duration};

pub use yara::{Rules, Source};

/// Looks into the file on standard input, and applies rules to it. Run as root; it gives that up
/// before the first byte.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    given: Given,
    /// What the file is by how it begins, as `measure` said.
    #[arg(long, default_value = "unknown")]
    kind: String,
    /// A file of YARA rules.
    #[arg(long = "rule", value_name = "FILE")]
    rules: Vec<PathBuf>,
}

/// Looks into standard input.
pub fn run(args: &Args) -> ExitCode {
    let input = match Stdin::open() {
        Ok(input) => input,
        Err(reason) => return Said::failed(reason).say(),
    };
    let size = crate::input::Bytes::size(&input);
    let mut broken = Vec::new();
    let sources: Vec<Source> = args
        .rules
        .iter()
        .filter_map(|path| match Source::read(path) {
            Ok(source) => Some(source),
            Err(e) => {
                broken.push(plain(&format!("{}: {e}", path.display())));
                None
            }
        })
        .collect();
    if let Err(e) = confined(args.given, false, size) {
        return Said::failed(format!("nonstop-screen was not let go of its rights: {e}")).say();
    }
    let bytes = match mapped::stdin(size) {
        Ok(bytes) => bytes,
        Err(e) => return Said::failed(format!("map the file: {e}")).say(),
    };
    match found(bytes, &args.kind, &sources, Duration::from_secs(args.given.cpu_seconds)) {
        Ok(mut found) => {
            found.broken.extend(broken);
            Said::Found(found).say()
        }
        Err(reason) => Said::failed(reason).say(),
    }
}

/// What is found in `bytes`, which are of `kind`.
///
/// Errors: they cannot be read, or rules did not come to their end in `time`.
pub fn found(
    bytes: &[u8],
    kind: &str,
    sources: &[Source],
    time: Duration,
) -> Result<Found, String> {
    let seen = look::look(bytes, kind).map_err(|e| format!("look into the file: {e}"))?;
    let mut found = Found { kind: seen.kind, ..Found::default() };
    found.remarks = remarks_of(&seen);
    if sources.is_empty() {
        return Ok(found);
    }
    let rules = Rules::understand(sources);
    found.broken.extend(rules.broken().iter().cloned());
    found.remarks.extend(rules.matches(bytes, seen.kind.unwrap_or(kind), time)?);
    found.cut();
    Ok(found)
}

/// Bytes behind the end of a picture that say nothing: padding of writers.
const PADDING: u64 = 16;

fn remarks_of(seen: &Seen) -> Vec<Remark> {
    let remark = |rule: &str, verdict: &str, says: String, says_ja: String| Remark {
        rule: rule.into(),
        verdict: verdict.into(),
        says,
        says_ja,
        ..Remark::default()
    };
    let mut remarks = Vec::new();
    if let Some((en, ja)) = seen.encrypted {
        remarks.push(remark("encrypted", "block", en.into(), ja.into()));
    }
    if let Some((en, ja)) = seen.malformed {
        remarks.push(remark("malformed", "hold", en.into(), ja.into()));
    }
    if seen.appended > PADDING {
        let n = seen.appended;
        let (en, ja) =
            (format!("{n} bytes stand behind its end"), format!("終端の後ろに {n} バイトあります"));
        remarks.push(remark("appended", "hold", en, ja));
    }
    remarks
}

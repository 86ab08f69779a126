//! Running `nft`, with what it says on stderr kept: the crate `nftables` loses its complaint when a
//! change fails, and its types know neither `uid` nor an element's limit.

use serde_json::Value;
use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

/// `nft` could not be run, or refused.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program did not run.
    #[error("run `{program}`")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("nft refused: {stderr}")]
    Refused {
        /// What it said.
        stderr: String,
    },
    /// Its listing is not what it should be.
    #[error("understand nft's listing")]
    Listing(#[source] serde_json::Error),
}

/// Runs `script` as one transaction.
pub(super) fn run(script: &str) -> Result<(), NftError> {
    output("nft", &["-f", "-"], script).map(drop)
}

/// Our table of `family` as `nft -j` lists it; None if there is none.
pub(super) fn list(family: &str) -> Result<Option<Value>, NftError> {
    list_object(&["table", family, "nonstop"])
}

/// A set of our table `inet`; None if there is none.
pub(super) fn list_set(name: &str) -> Result<Option<Value>, NftError> {
    list_object(&["set", "inet", "nonstop", name])
}

fn list_object(words: &[&str]) -> Result<Option<Value>, NftError> {
    match output("nft", &[&["-j", "list"], words].concat(), "") {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(NftError::Listing),
        Err(NftError::Refused { stderr }) if stderr.contains("No such file or directory") => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Our tables as they are listed after `rules` is loaded into an empty network namespace,
/// which is gone afterwards.
pub(super) fn list_elsewhere(rules: &str) -> Result<Vec<Value>, NftError> {
    const LOAD_AND_LIST: &str = "nft -f - && for family in inet bridge arp; do \
         nft -j list table $family nonstop || exit 1; done";
    let json = output("unshare", &["--net", "--", "sh", "-c", LOAD_AND_LIST], rules)?;
    serde_json::Deserializer::from_slice(&json)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(NftError::Listing)
}

fn output(program: &'static str, args: &[&str], stdin: &str) -> Result<Vec<u8>, NftError> {
    let failed = |source| NftError::Run { program, source };
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // nft reads all of its script before it says anything, so this cannot block for ever. A
    // broken pipe means that it has given up already: its own words say why.
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
        Err(NftError::Refused { stderr: format!("{} ({})", stderr.trim(), output.status) })
    }
}

//! Running `nft`, with what it says on stderr kept: the crate `nftables` loses its complaint when a
//! change fails, and its types know neither `uid` nor an element's limit.

use crate::program::{ProgramError, output};
use serde_json::Value;

/// `nft` could not be run, or refused.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// It says so.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Its listing is not what it should be.
    #[error("understand nft's listing")]
    Listing(#[source] serde_json::Error),
}

/// Runs `script` as one transaction.
pub(super) fn run(script: &str) -> Result<(), NftError> {
    output("nft", &["-f", "-"], script)?;
    Ok(())
}

/// Our table of `family` as `nft -j` lists it; None if there is none.
pub(super) fn list(family: &str) -> Result<Option<Value>, NftError> {
    list_object(&["table", family, "nonstop"])
}

/// A set of our table of `family`; None if there is none.
pub(super) fn list_set(family: &str, name: &str) -> Result<Option<Value>, NftError> {
    list_object(&["set", family, "nonstop", name])
}

/// Which tables there are, without what is in them.
pub(super) fn list_tables() -> Result<Option<Value>, NftError> {
    list_object(&["tables"])
}

fn list_object(words: &[&str]) -> Result<Option<Value>, NftError> {
    match output("nft", &[&["-j", "list"], words].concat(), "") {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(NftError::Listing),
        Err(ProgramError::Refused { stderr, .. })
            if stderr.contains("No such file or directory") =>
        {
            Ok(None)
        }
        Err(e) => Err(e.into()),
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

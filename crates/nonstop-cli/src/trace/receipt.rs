//! `nonstop trace check-receipt`: whether a receipt is true, as far as a receipt can show.

use super::show;
use crate::{error::CliError, print, print_json};
use nonstop_profile::Fingerprint;
use nonstop_trace::{LONGEST_RECEIPT, Receipt, contents::hash_of};
use std::{fs::File, io::Read, path::Path};

pub(super) fn check(
    file: &Path,
    data: Option<&Path>,
    authority: Option<&Fingerprint>,
    json: bool,
) -> Result<(), CliError> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|f| f.take(LONGEST_RECEIPT as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| CliError::Read { path: file.into(), source })?;
    let mut faults = Vec::new();
    let receipt =
        Receipt::read(&bytes).map_err(|e| faults.push(format!("it is forged or torn: {e}")));
    if let Ok(receipt) = &receipt {
        let signed = receipt.head().authority().fingerprint();
        if let Some(trusted) = authority.filter(|trusted| **trusted != signed) {
            faults.push(format!("it is signed by {signed}, and the lab's authority is {trusted}"));
        }
        if let Some(data) = data {
            faults.extend(other_data(receipt, data)?);
        }
    }
    let good = faults.is_empty();
    if json {
        let receipt = receipt.as_ref().ok();
        print_json(&serde_json::json!({
            "good": good,
            "faults": faults,
            "authority_checked": authority.is_some(),
            "data_checked": data.is_some(),
            "authority": receipt.map(|r| r.head().authority().fingerprint()),
            "receipt": receipt,
        }));
    } else {
        if let Ok(receipt) = &receipt {
            print(&show::receipt(receipt));
        }
        faults.iter().for_each(|fault| print(&format!("NOT TRUE: {fault}")));
    }
    if !good {
        return Err(CliError::NotGood(format!("{} is not true", file.display())));
    }
    if !json {
        print(match (authority, data) {
            (None, _) => {
                "whole in itself; whose signature it is was not looked at: name `--authority`, as the lab publishes it"
            }
            (Some(_), None) => "true: the lab signed it",
            (Some(_), Some(_)) => "true: the lab signed it, and it is of that file",
        });
    }
    Ok(())
}

/// How `data` is not what `receipt` is of.
fn other_data(receipt: &Receipt, data: &Path) -> Result<Option<String>, CliError> {
    let read = |source| CliError::Read { path: data.into(), source };
    let mut bytes = 0;
    // A link is followed here: it is the caller's own file.
    let data = std::fs::canonicalize(data).map_err(read)?;
    let found = hash_of(&data, &mut |n| bytes += n).map_err(read)?;
    let released = receipt.released();
    let same = found == released.sha256 && bytes == released.bytes;
    Ok((!same).then(|| {
        format!("{} has {bytes} bytes and the SHA-256 {found}: it is another file", data.display())
    }))
}

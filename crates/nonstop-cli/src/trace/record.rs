//! `nonstop trace check-record`: whether the record of a run is true, as far as it can show that
//! itself.

use crate::{error::CliError, print, print_json, table::plain};
use nonstop_profile::Fingerprint;
use nonstop_trace::{LONGEST_RECORD, Record};
use serde_json::Value;
use std::{fs::File, io::Read, path::Path};

pub(super) fn check(
    file: &Path,
    authority: Option<&Fingerprint>,
    json: bool,
) -> Result<(), CliError> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|f| f.take(LONGEST_RECORD as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| CliError::Read { path: file.into(), source })?;
    let mut faults = Vec::new();
    let record =
        Record::read(&bytes).map_err(|e| faults.push(format!("it is forged or torn: {e}")));
    let signed = record.as_ref().ok().map(|record| record.head().authority().fingerprint());
    if let (Some(signed), Some(trusted)) = (&signed, authority)
        && signed != trusted
    {
        faults.push(format!("it is signed by {signed}, and the lab's authority is {trusted}"));
    }
    let good = faults.is_empty();
    if json {
        print_json(&serde_json::json!({
            "good": good,
            "faults": faults,
            "authority_checked": authority.is_some(),
            "authority": signed,
            "injection": record.as_ref().ok().map(Record::injection),
            "over": record.as_ref().ok().map(is_over),
            "record": record.as_ref().ok().map(Record::said),
        }));
    } else {
        if let Ok(record) = &record {
            print(&told(record));
        }
        faults.iter().for_each(|fault| print(&plain(&format!("NOT TRUE: {fault}"))));
    }
    if !good {
        return Err(CliError::NotGood(format!("{} is not true", file.display())));
    }
    if !json {
        print(match authority {
            None => {
                "whole in itself; whose signature it is was not looked at: name `--authority`, as the lab publishes it"
            }
            Some(_) => "true: the lab signed it",
        });
    }
    Ok(())
}

/// What a record says, a line each, and who signed that when.
fn told(record: &Record) -> String {
    let head = record.head();
    let lasted = if is_over(record) { "" } else { ", which was not over when this was signed" };
    let mut lines = vec![format!("the run of {}{lasted}", record.injection())];
    walk(record.said(), "", &mut lines);
    lines.push(format!("row {} of the trace of {}, {}", head.seq(), head.lab(), head.hash()));
    lines.push(format!("signed {} by {}", head.at(), head.authority().fingerprint()));
    lines.iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n")
}

/// Whether it is the last word on its run.
fn is_over(record: &Record) -> bool {
    !record.said()["until"].is_null()
}

/// The fields of `value`, which is at `path`. A record that was read is bounded.
fn walk(value: &Value, path: &str, lines: &mut Vec<String>) {
    let below = |name: &str| match path {
        "" => name.to_string(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(name, value)| walk(value, &below(name), lines));
        }
        Value::Array(all) if !all.is_empty() => {
            let numbered = all.iter().enumerate();
            numbered.for_each(|(at, value)| walk(value, &below(&(at + 1).to_string()), lines));
        }
        Value::String(text) => lines.push(format!("  {path}: {}", crate::words::revealed(text))),
        Value::Null => lines.push(format!("  {path}: -")),
        other => lines.push(format!("  {path}: {other}")),
    }
}

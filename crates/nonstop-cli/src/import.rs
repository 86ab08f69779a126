//! `nonstop import`: what was brought into environments.

use crate::{
    error::CliError,
    print, print_json,
    table::Table,
    words::{revealed, size, time, word},
};
use clap::Subcommand;
use nonstop_api::{Client, ImportView, Reply, Request};
use nonstop_model::{AccountName, EnvironmentId, Lab};

#[derive(Debug, Subcommand)]
pub(crate) enum ImportVerb {
    /// List imports, newest first, with type and hash.
    List {
        /// Also those that were removed.
        #[arg(long)]
        all: bool,
        /// Only those of this environment.
        #[arg(long)]
        environment: Option<EnvironmentId>,
        /// Only those of this person.
        #[arg(long)]
        account: Option<AccountName>,
    },
}

/// Asks what `verb` says, and prints the answer.
pub(crate) fn run(lab: &Lab, verb: &ImportVerb, json: bool) -> Result<(), CliError> {
    let client = Client::new(lab.admin_socket());
    let ImportVerb::List { all, environment, account } = verb;
    let asked = Request::ImportList { environment: *environment, all: *all };
    let Reply::Imports(mut imports) = client.call(&asked)? else { return Err(CliError::Otherwise) };
    imports.retain(|i| account.as_ref().is_none_or(|account| i.account == *account));
    if json {
        print_json(&imports);
    } else {
        print(&listed(&imports, crate::width()));
    }
    Ok(())
}

/// Imports as a table.
pub(crate) fn listed(all: &[ImportView], width: Option<usize>) -> String {
    let mut table = Table::new([
        "IMPORT",
        "STATE",
        "ENVIRONMENT",
        "ACCOUNT",
        "BROUGHT",
        "SIZE",
        "TYPE",
        "SHA256",
        "FILE",
    ]);
    for i in all {
        let found: Vec<_> = i.findings.iter().map(|f| f.rule.as_str()).collect();
        let found =
            if found.is_empty() { String::new() } else { format!(": {}", found.join(", ")) };
        table.row([
            i.id.to_string(),
            format!("{}{found}", word(&i.state)),
            i.environment.to_string(),
            i.account.to_string(),
            time(i.at),
            size(i.bytes),
            i.content_type.clone().unwrap_or("-".into()),
            i.sha256.as_deref().map_or("-".into(), |hash| hash.chars().take(12).collect()),
            revealed(i.path.as_str()),
        ]);
    }
    table.text(width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn imports_have_type_and_hash_once_they_were_looked_at() {
        let import = |id: &str, path: &str, state: &str| {
            let seen = state != "looking";
            json!({
                "id": id, "environment": "e1", "account": "alice", "path": path, "bytes": 8192,
                "at": "2030-01-01T00:30:00Z", "sha256": seen.then(|| "12".repeat(32)),
                "content_type": seen.then_some("text/x-python"), "state": state,
                "findings": if state == "refused" { json!([{
                    "rule": "yara.eicar", "verdict": "block", "says": "a", "mend": "b",
                }]) } else { json!([]) },
            })
        };
        let all = json!([
            import("i3", "道具/plot.py", "looking"),
            import("i2", "yp\u{202e}trap", "refused"),
            import("i1", "plot.py", "visible"),
        ]);
        let all: Vec<ImportView> = serde_json::from_value(all).expect("imports");
        insta::assert_snapshot!(listed(&all, None));
    }
}

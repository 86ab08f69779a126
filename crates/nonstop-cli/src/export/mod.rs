//! `nonstop export`: what leaves the lab, who looks at it, and what was decided.

mod fetch;
pub(crate) mod show;

use self::show::{preview, sheet};
use crate::{error::CliError, print, print_json, render::render};
use clap::Subcommand;
use nonstop_api::{Client, ExportView, Reply, Request};
use nonstop_model::{AccountName, EnvironmentId, ExportId, ExportState, Lab};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum ExportVerb {
    /// List exports, newest first: those under way, those that wait, and the latest released ones.
    List {
        /// Only those that wait for a person, the longest first.
        #[arg(long)]
        waiting: bool,
        /// Also those that have ended.
        #[arg(long, conflicts_with = "waiting")]
        all: bool,
        /// Only those in this state, such as `held` or `blocked`, ended ones too.
        #[arg(long, value_parser = state, conflicts_with = "waiting")]
        state: Option<ExportState>,
        /// Only those of this environment.
        #[arg(long)]
        environment: Option<EnvironmentId>,
        /// Only those of this person.
        #[arg(long)]
        account: Option<AccountName>,
    },
    /// Show one: what it is, what was found and how to mend it, the owner's note, earlier exports of
    /// the same person, what was decided.
    Show {
        /// Which.
        id: ExportId,
        /// Also what it looks like: text, a table, or its first bytes, made anew by a confined
        /// program. A picture is shown by the portal.
        #[arg(long)]
        preview: bool,
    },
    /// Write the bytes of one into a file that nobody else reads; kept in the trace. They may be
    /// hostile: open them where that does no harm.
    Fetch {
        /// Which.
        id: ExportId,
        /// The file, which must not be there yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Put it in the place of a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// Let a held export out.
    Release {
        /// Which.
        id: ExportId,
        /// Why; kept in the trace.
        #[arg(long)]
        reason: String,
    },
    /// Keep a held export in, for good.
    Refuse {
        /// Which.
        id: ExportId,
        /// Why, for the researcher to read inside the machine.
        #[arg(long)]
        reason: String,
    },
    /// Take a released export back from where it is fetched. What was fetched, was fetched.
    Revoke {
        /// Which.
        id: ExportId,
        /// Why, for the researcher to read.
        #[arg(long)]
        reason: String,
    },
    /// Say what an export is, for those who decide on it.
    Note {
        /// Which.
        id: ExportId,
        /// At most 1,000 characters; empty takes the note away.
        note: String,
    },
    /// The receipt of a release: what was released, signed by the lab. It can be published, and
    /// `nonstop trace check-receipt` checks it anywhere.
    Receipt {
        /// Which.
        id: ExportId,
        /// Where to write it; else it is printed.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Keep the bytes of one in the trace store whatever `trace.keep_days` of lab.yaml says.
    Keep {
        /// Which.
        id: ExportId,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Leave them to `trace.keep_days` again instead.
        #[arg(long)]
        undo: bool,
    },
}

fn state(word: &str) -> Result<ExportState, String> {
    serde_json::from_value(serde_json::Value::String(word.into())).map_err(|_| {
        "use submitted, screening, held, blocked, released, refused, withdrawn or revoked".into()
    })
}

/// Asks what `verb` says, and prints the answer.
pub(crate) fn run(lab: &Lab, verb: &ExportVerb, json: bool) -> Result<(), CliError> {
    let client = Client::new(lab.admin_socket());
    match verb {
        ExportVerb::Fetch { id, out, force } => return fetch::run(&client, *id, out, *force, json),
        ExportVerb::Show { id, preview: true } => return show_with_preview(&client, *id, json),
        _ => {}
    }
    let mut reply = client.call(&request(verb))?;
    if let (Reply::Receipt(file), ExportVerb::Receipt { out: Some(out), .. }) = (&reply, verb) {
        return std::fs::write(out, file)
            .map_err(|source| CliError::Write { path: out.clone(), source });
    }
    if let (Reply::Receipt(file), true) = (&reply, json) {
        // A receipt is JSON already.
        print(file);
        return Ok(());
    }
    if let (Reply::Exports(all), ExportVerb::List { state, account, .. }) = (&mut reply, verb) {
        all.retain(|x| state.is_none_or(|state| x.state == state));
        all.retain(|x| account.as_ref().is_none_or(|account| x.account == *account));
    }
    if json {
        print_json(&value(&reply));
    } else {
        print(&render(&reply, crate::width()));
    }
    Ok(())
}

fn value(reply: &Reply) -> serde_json::Value {
    let value = serde_json::to_value(reply).expect("our types have string keys");
    value.get("value").cloned().unwrap_or_else(|| serde_json::json!({}))
}

fn show_with_preview(client: &Client, id: ExportId, json: bool) -> Result<(), CliError> {
    let shown: ExportView = match client.call(&Request::ExportShow { id })? {
        Reply::Export(view) => view,
        _ => return Err(CliError::Otherwise),
    };
    // A picture that comes beside the answer stays unread: a terminal shows none.
    let seen = match client.call(&Request::ExportPreview { id })? {
        Reply::Preview(seen) => seen,
        _ => return Err(CliError::Otherwise),
    };
    if json {
        print_json(&serde_json::json!({ "export": shown, "preview": seen }));
    } else {
        print(&format!("{}\n\n{}", sheet(&shown), preview(&seen, crate::width())));
    }
    Ok(())
}

fn request(verb: &ExportVerb) -> Request {
    match verb {
        ExportVerb::List { waiting, all, state, environment, .. } => Request::ExportList {
            environment: *environment,
            waiting: *waiting,
            all: *all || state.is_some(),
        },
        ExportVerb::Show { id, .. } => Request::ExportShow { id: *id },
        ExportVerb::Fetch { id, .. } => Request::ExportFetch { id: *id },
        ExportVerb::Release { id, reason } => {
            Request::ExportRelease { id: *id, reason: reason.clone() }
        }
        ExportVerb::Refuse { id, reason } => {
            Request::ExportRefuse { id: *id, reason: reason.clone() }
        }
        ExportVerb::Revoke { id, reason } => {
            Request::ExportRevoke { id: *id, reason: reason.clone() }
        }
        ExportVerb::Note { id, note } => Request::ExportNote { id: *id, note: note.clone() },
        ExportVerb::Receipt { id, .. } => Request::ExportReceipt { id: *id },
        ExportVerb::Keep { id, reason, undo } => {
            Request::ExportKeep { id: *id, keep: !undo, reason: reason.clone() }
        }
    }
}

//! `nonstop trace`: who did what, and whether that is still what it was.
//!
//! What verifies trusts the lab as little as it can: rows come byte for byte, from the daemon or from
//! a copied database, and are held here against heads and receipts that were kept elsewhere.

mod receipt;
mod record;
pub(crate) mod show;
mod verify;

use crate::{error::CliError, print, print_json, render::render, words::instant};
use clap::Subcommand;
use jiff::Timestamp;
use nonstop_api::{Client, Reply, Request, TraceWanted};
use nonstop_model::{AccountName, ExportId, Lab};
use nonstop_profile::Fingerprint;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum TraceVerb {
    /// List the trace, newest first.
    List {
        /// At most so many rows.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Only rows about this export.
        #[arg(long, conflicts_with_all = ["account", "about"])]
        export: Option<ExportId>,
        /// Only rows of this person, or about them.
        #[arg(long, conflicts_with = "about")]
        account: Option<AccountName>,
        /// Only rows about this thing, such as `e3`, `m7` or `admin:root`.
        #[arg(long)]
        about: Option<String>,
        /// Only rows of this action, such as `export.release`; `export.` is all that begin so.
        #[arg(long)]
        action: Option<String>,
        /// Only rows from then on, such as 2030-01-31T09:00:00Z, or 2030-01-31T09:00 on this host's
        /// clock.
        #[arg(long, value_parser = instant)]
        since: Option<Timestamp>,
        /// Only rows before then.
        #[arg(long, value_parser = instant)]
        until: Option<Timestamp>,
    },
    /// List signed heads, newest first, and which second places have them.
    Heads {
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Print them as they are sent, a line each, to be kept elsewhere.
        #[arg(long)]
        raw: bool,
    },
    /// Check the hash chain, and that the trace is still the one that heads and receipts were made
    /// of that were kept elsewhere. Exit code 1 if anything is wrong. Where a copied database and
    /// the authority are named, neither lab nor daemon is needed.
    Verify(VerifyArgs),
    /// Check the receipt of a release; needs neither lab nor daemon. Exit code 1 if it is not true.
    CheckReceipt {
        /// The receipt.
        file: PathBuf,
        /// The file that it should be of.
        #[arg(long, value_name = "FILE")]
        data: Option<PathBuf>,
        /// The fingerprint of the lab's authority, `SHA256:...`, as the lab publishes it; without it
        /// the receipt is only checked in itself.
        #[arg(long)]
        authority: Option<Fingerprint>,
    },
    /// Check the record of a run, as `nonstop sample record` and the portal give it; needs neither
    /// lab nor daemon. Exit code 1 if it is not true.
    CheckRecord {
        /// The record.
        file: PathBuf,
        /// The fingerprint of the lab's authority, `SHA256:...`, as the lab publishes it; without it
        /// the record is only checked in itself.
        #[arg(long)]
        authority: Option<Fingerprint>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// A file or folder of heads that was kept elsewhere; may be repeated. Mails are taken as they are.
    #[arg(long, value_name = "PATH")]
    heads: Vec<PathBuf>,
    /// A receipt that was kept elsewhere; may be repeated.
    #[arg(long, value_name = "FILE")]
    receipt: Vec<PathBuf>,
    /// Also read the bytes of every export, and look whether they have the hash that the trace says,
    /// or a record of their deletion.
    #[arg(long)]
    files: bool,
    /// The state folder that these bytes lie in; the lab's by default.
    #[arg(long, value_name = "FOLDER", requires = "files")]
    state: Option<PathBuf>,
    /// A copy of the lab's database, instead of asking the daemon. A `-wal` file beside it counts.
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// The fingerprint of the lab's authority, `SHA256:...`, as it was written down elsewhere; may be
    /// repeated where it was changed. Without it the daemon is asked.
    #[arg(long)]
    authority: Vec<Fingerprint>,
}

/// Whether `verb` needs neither the lab's file nor its daemon.
pub(crate) fn is_offline(verb: &TraceVerb) -> bool {
    match verb {
        TraceVerb::CheckReceipt { .. } | TraceVerb::CheckRecord { .. } => true,
        TraceVerb::Verify(args) => args.database.is_some(),
        TraceVerb::List { .. } | TraceVerb::Heads { .. } => false,
    }
}

/// Does what `verb` says without a lab.
pub(crate) fn run_offline(verb: &TraceVerb, json: bool) -> Result<(), CliError> {
    match verb {
        TraceVerb::CheckReceipt { file, data, authority } => {
            receipt::check(file, data.as_deref(), authority.as_ref(), json)
        }
        TraceVerb::CheckRecord { file, authority } => record::check(file, authority.as_ref(), json),
        TraceVerb::Verify(args) => verify::offline(args, json),
        TraceVerb::List { .. } | TraceVerb::Heads { .. } => {
            Err(CliError::Misused("that is answered by the daemon".into()))
        }
    }
}

/// Does what `verb` says.
pub(crate) fn run(lab: &Lab, verb: &TraceVerb, json: bool) -> Result<(), CliError> {
    let client = Client::new(lab.admin_socket());
    let request = match verb {
        TraceVerb::Verify(args) => return verify::online(lab, &client, args, json),
        TraceVerb::CheckReceipt { .. } | TraceVerb::CheckRecord { .. } => {
            return Err(CliError::Misused("that needs no lab".into()));
        }
        TraceVerb::Heads { limit, .. } => Request::TraceHeads { limit: *limit },
        TraceVerb::List { limit, export, account, about, action, since, until } => {
            let export = export.map(|id| id.to_string());
            let account = account.as_ref().map(ToString::to_string);
            let about = export.or(account).or_else(|| about.clone());
            let action = action.clone();
            let wanted = TraceWanted { about, action, since: *since, until: *until };
            Request::TraceList { limit: *limit, wanted }
        }
    };
    let reply = client.call(&request)?;
    match (&reply, verb) {
        (Reply::Heads(all), TraceVerb::Heads { raw: true, .. }) => {
            print(&all.iter().map(|head| head.document.as_str()).collect::<String>());
        }
        (Reply::Heads(all), _) if json => print_json(all),
        (Reply::Trace(rows), _) if json => print_json(rows),
        _ => print(&render(&reply, crate::width())),
    }
    Ok(())
}

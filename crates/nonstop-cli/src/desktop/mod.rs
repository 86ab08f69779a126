//! `nonstop desktop`: displays, who looks at them, and recordings of them.

pub(crate) mod show;

use crate::{
    error::CliError,
    print, print_json,
    render::render,
    table::Table,
    words::{instant, word},
};
use clap::Subcommand;
use jiff::Timestamp;
use nonstop_api::{Client, EnvironmentView, Reply, Request};
use nonstop_model::{AccountName, EnvironmentId, Lab, MachineRole};
use serde::Serialize;
use std::{path::PathBuf, time::Duration};

#[derive(Debug, Subcommand)]
pub(crate) enum DesktopVerb {
    /// List desktops: whether they come as pictures (console) or the raw way (guest), and why.
    List,
    /// List open sessions at displays, with what went through.
    Sessions {
        /// Of this environment alone.
        environment: Option<EnvironmentId>,
        /// Also closed ones.
        #[arg(long)]
        all: bool,
        /// Only those that used up their bytes of an hour, in the last day.
        #[arg(long)]
        over_budget: bool,
    },
    /// List who else may see displays.
    Views,
    /// Let a person see a display, without typing.
    View {
        /// Which environment.
        environment: EnvironmentId,
        /// The machine's role.
        #[arg(long, default_value = "analyst")]
        machine: MachineRole,
        /// Who may look.
        #[arg(long)]
        account: AccountName,
        /// Why; kept in the trace.
        #[arg(long)]
        reason: String,
        /// For so many minutes.
        #[arg(long, default_value_t = 60, conflicts_with = "until")]
        minutes: u32,
        /// Until when, such as 2030-01-31T09:00:00Z, or 2030-01-31T09:00 on this host's clock.
        #[arg(long, value_parser = instant)]
        until: Option<Timestamp>,
    },
    /// End that.
    Unview {
        /// Number of the permission, from `desktop views`.
        id: u64,
    },
    /// Record a display from now on: pictures and what is typed, encrypted.
    Record {
        /// Which environment.
        environment: EnvironmentId,
        /// The machine's role.
        #[arg(long, default_value = "analyst")]
        machine: MachineRole,
        /// Why; kept in the trace.
        #[arg(long)]
        reason: String,
    },
    /// End a recording; what it holds stays.
    Stop {
        /// Number of the recording.
        id: u64,
    },
    /// List recordings.
    Recordings,
    /// Write what a recording holds into a folder: pictures as PNG and what was typed as JSON.
    Play {
        /// Number of the recording.
        id: u64,
        /// Why; kept in the trace.
        #[arg(long)]
        reason: String,
        /// The folder, which is made.
        #[arg(long)]
        out: PathBuf,
    },
}

/// A desktop, for `desktop list`.
#[derive(Debug, Serialize)]
struct Listed {
    environment: EnvironmentId,
    account: AccountName,
    machine: MachineRole,
    rdp: String,
    address: Option<String>,
    fingerprint: Option<String>,
    why: String,
}

/// Asks what `verb` says, and prints the answer.
pub(crate) fn run(lab: &Lab, verb: &DesktopVerb, json: bool) -> Result<(), CliError> {
    let client = Client::new(lab.admin_socket());
    if let DesktopVerb::Play { id, reason, out } = verb {
        return crate::play::run(&client, *id, reason, out, json);
    }
    let reply = client.call(&request(verb))?;
    if let Reply::Environments(all) = &reply {
        let rows: Vec<Listed> = all.iter().flat_map(listed).collect();
        if json {
            print_json(&rows);
        } else {
            print(&list(&rows));
        }
        return Ok(());
    }
    if json {
        let value = serde_json::to_value(&reply).expect("our types have string keys");
        print_json(&value.get("value").cloned().unwrap_or_else(|| serde_json::json!({})));
    } else {
        print(&render(&reply, crate::width()));
    }
    Ok(())
}

fn request(verb: &DesktopVerb) -> Request {
    match verb {
        DesktopVerb::List => Request::EnvironmentList { all: false },
        DesktopVerb::Sessions { environment, all, over_budget } => Request::DesktopSessions {
            environment: *environment,
            all: *all,
            over_budget: *over_budget,
        },
        DesktopVerb::Views => Request::ViewList,
        DesktopVerb::View { environment, machine, account, reason, minutes, until } => {
            let length = Duration::from_secs(u64::from(*minutes) * 60);
            let now = Timestamp::now();
            Request::ViewOpen {
                id: *environment,
                role: *machine,
                account: account.clone(),
                reason: reason.clone(),
                until: until.unwrap_or_else(|| now.saturating_add(length).unwrap_or(now)),
            }
        }
        DesktopVerb::Unview { id } => Request::ViewEnd { id: *id },
        DesktopVerb::Record { environment, machine, reason } => {
            Request::RecordingBegin { id: *environment, role: *machine, reason: reason.clone() }
        }
        DesktopVerb::Stop { id } => Request::RecordingEnd { id: *id },
        DesktopVerb::Recordings => Request::RecordingList,
        DesktopVerb::Play { id, reason, .. } => {
            Request::RecordingPlay { id: *id, reason: reason.clone() }
        }
    }
}

fn listed(environment: &EnvironmentView) -> impl Iterator<Item = Listed> + '_ {
    environment.machines.iter().map(|machine| Listed {
        environment: environment.id,
        account: environment.account.clone(),
        machine: machine.role,
        rdp: word(&environment.rdp),
        address: machine.desktop.as_ref().map(|d| format!("{}:{}", d.address, d.port)),
        fingerprint: machine.desktop.as_ref().and_then(|d| d.fingerprint.clone()),
        why: environment.rdp_reason.clone(),
    })
}

fn list(rows: &[Listed]) -> String {
    let mut table =
        Table::new(["ENVIRONMENT", "ACCOUNT", "MACHINE", "DESKTOP", "TARGET", "WHY THE RAW WAY"]);
    for row in rows {
        table.row([
            row.environment.to_string(),
            row.account.to_string(),
            row.machine.to_string(),
            row.rdp.clone(),
            row.address.clone().unwrap_or_else(|| "-".into()),
            row.why.clone(),
        ]);
    }
    table.text(crate::width())
}

//! `nonstop data`: days of data, brought, published, listed, and loaded again.

mod bring;
mod folder;
pub(crate) mod show;

use self::show::listed;
use crate::{error::CliError, print, print_json, table::plain};
use bring::bring_all;
use clap::Subcommand;
use jiff::civil::Date;
use nonstop_api::{
    BegunView, CallError, Client, DataDomainView, ErrorCode, PublicationView, Reply, Request,
};
use nonstop_model::{
    Lab, PublicationId,
    publication::{day_of, kind_of},
};
use serde_json::json;
use show::{how_far, is_over, published, table};
use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

#[derive(Debug, Subcommand)]
pub(crate) enum DataVerb {
    /// Publish files, or what lies in the inboxes now. A day is seen whole or not at all; one that
    /// was published before is replaced. Exit code 1 if a file was not fit, with the reason.
    Publish {
        /// Files, named YYYY-MM-DD.pcap, .pcapng or .samples.tar; or folders of samples, named
        /// YYYY-MM-DD, with `samples/` and `reports/`. They are copied into the inbox.
        files: Vec<PathBuf>,
        /// For this data domain; needed for files where there is more than one.
        #[arg(long)]
        domain: Option<String>,
        #[command(flatten)]
        wait: Patience,
    },
    /// List days with their size, packets and hash; what is on its way; what was not fit, and why.
    List {
        /// Of this data domain alone.
        #[arg(long)]
        domain: Option<String>,
    },
    /// Load published days into PostgreSQL again: those that it lacks.
    Load {
        /// These days instead.
        days: Vec<Date>,
        /// Of this data domain alone.
        #[arg(long)]
        domain: Option<String>,
        #[command(flatten)]
        wait: Patience,
    },
}

/// How long to wait until it is done.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Patience {
    /// Return as soon as it is begun.
    #[arg(long)]
    no_wait: bool,
    /// Wait at most so many seconds instead of until it is done.
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_wait")]
    wait: Option<u64>,
}

/// Asking PostgreSQL for its days may take a while.
const PATIENCE: Duration = Duration::from_secs(330);
/// How long a daemon that is started anew may take.
const RESTART: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Does what `verb` says.
pub(crate) fn run(lab: &Lab, verb: &DataVerb, json: bool) -> Result<(), CliError> {
    let client = Client::new(lab.admin_socket()).timeout(PATIENCE);
    match verb {
        DataVerb::Publish { files, domain, wait } => {
            let begun = match files.is_empty() {
                true => match client
                    .call(&Request::DataPublish { domain: domain.clone(), file: None })?
                {
                    Reply::Begun(begun) => begun,
                    _ => return Err(CliError::Otherwise),
                },
                false => bring_all(lab, &client, files, domain.as_deref(), *wait)?,
            };
            let publications = finish(&client, begun.publications, *wait)?;
            let begun = BegunView { publications, ..begun };
            if json {
                print_json(&begun);
            } else {
                print(&published(&begun));
            }
            judge(&begun.publications)
        }
        DataVerb::List { domain } => {
            let domains = list(&client, domain.as_deref())?;
            if json {
                print_json(&domains);
            } else {
                print(&listed(&domains, crate::width()));
            }
            Ok(())
        }
        DataVerb::Load { days, domain, wait } => {
            let request = Request::DataLoad { domain: domain.clone(), days: days.clone() };
            let Reply::Publications(wanted) = client.call(&request)? else {
                return Err(CliError::Otherwise);
            };
            let publications = finish(&client, wanted, *wait)?;
            if json {
                print_json(&json!({ "publications": publications }));
            } else if publications.is_empty() {
                print("nothing to load: the rdb has all days");
            } else {
                print(&table(&publications, crate::width()));
            }
            judge(&publications)
        }
    }
}

/// Asks, and asks again while the daemon is being started anew: what it was asked for is not lost
/// with it. Only for what may be asked twice.
fn ask(client: &Client, request: &Request) -> Result<Reply, CallError> {
    let mut broke: Option<Instant> = None;
    loop {
        match client.call(request) {
            Err(e @ (CallError::Connect { .. } | CallError::Wire(_))) => {
                if broke.is_some_and(|broke| broke.elapsed() > RESTART) {
                    return Err(e);
                }
                if broke.is_none() {
                    eprintln!("{e}: asked again for {} s", RESTART.as_secs());
                }
                broke.get_or_insert_with(Instant::now);
                thread::sleep(LOOK);
            }
            answer => return answer,
        }
    }
}

fn list(client: &Client, domain: Option<&str>) -> Result<Vec<DataDomainView>, CliError> {
    match ask(client, &Request::DataList { domain: domain.map(Into::into) })? {
        Reply::DataDomains(domains) => Ok(domains),
        _ => Err(CliError::Otherwise),
    }
}

/// Has `file` of the inbox published; None if it waits behind another of its day and is not waited
/// for.
fn begin(
    client: &Client,
    domain: &str,
    file: &str,
    newest: PublicationId,
    wait: Patience,
) -> Result<Option<PublicationView>, CliError> {
    let begun = Instant::now();
    let mut said = String::new();
    let request = Request::DataPublish { domain: Some(domain.into()), file: Some(file.into()) };
    loop {
        // Taken by a daemon that could not say so, it is found by `taken`.
        let waits = match ask(client, &request) {
            Ok(Reply::Begun(begun)) => return Ok(begun.publications.into_iter().next()),
            Ok(_) => return Err(CliError::Otherwise),
            // The watcher may have been faster.
            Err(CallError::Refused(e)) if e.code == ErrorCode::NotFound => {
                return taken(client, domain, file, newest)?.map(Some).ok_or_else(|| {
                    CliError::NotGood(format!("`{file}` is no longer in the inbox: {e}"))
                });
            }
            Err(CallError::Refused(e)) if e.code == ErrorCode::Conflict => e.message,
            Err(e) => return Err(e.into()),
        };
        if waits != said {
            eprintln!("{file}: {}", plain(&waits));
            said = waits;
        }
        let over = wait.wait.is_some_and(|seconds| begun.elapsed() > Duration::from_secs(seconds));
        if wait.no_wait || over {
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// What became of `file` since the publication `newest`.
fn taken(
    client: &Client,
    domain: &str,
    file: &str,
    newest: PublicationId,
) -> Result<Option<PublicationView>, CliError> {
    let domains = list(client, Some(domain))?;
    let of_day = |domain: &DataDomainView| {
        let same = (kind_of(file), day_of(file));
        let days = domain.days.iter().filter(|day| (day.kind, Some(day.day)) == same);
        days.map(|day| day.publication).collect::<Vec<_>>()
    };
    let rows = domains.iter().flat_map(|d| d.under_way.iter().chain(&d.rejected));
    let rows = rows.filter(|row| row.file == file).map(|row| row.id);
    let ids = rows.chain(domains.iter().flat_map(of_day)).filter(|id| *id > newest);
    let ids: Vec<_> = ids.max().into_iter().collect();
    match ask(client, &Request::DataPublications { ids })? {
        Reply::Publications(rows) => Ok(rows.into_iter().next()),
        _ => Err(CliError::Otherwise),
    }
}

/// Waits until all of `publications` have arrived, and shows on stderr how far they are.
fn finish(
    client: &Client,
    publications: Vec<PublicationView>,
    wait: Patience,
) -> Result<Vec<PublicationView>, CliError> {
    if wait.no_wait || publications.is_empty() {
        return Ok(publications);
    }
    let (begun, mut said) = (Instant::now(), String::new());
    let ids: Vec<_> = publications.iter().map(|row| row.id).collect();
    loop {
        let request = Request::DataPublications { ids: ids.clone() };
        let Reply::Publications(rows) = ask(client, &request)? else {
            return Err(CliError::Otherwise);
        };
        let Some(first) = rows.iter().find(|row| !is_over(row)) else { return Ok(rows) };
        let line = format!("{} of {}: {}", first.file, first.domain, how_far(first));
        if line != said {
            eprintln!("{:5.1} s  {}", begun.elapsed().as_secs_f32(), plain(&line));
            said = line;
        }
        if wait.wait.is_some_and(|seconds| begun.elapsed() > Duration::from_secs(seconds)) {
            let message = format!("it is not done after {} s: {said}", begun.elapsed().as_secs());
            let help = first.problem.as_ref().map(|problem| problem.help.clone());
            let help = help.filter(|help| !help.is_empty());
            return Err(CliError::Refused { message, help });
        }
        thread::sleep(LOOK);
    }
}

/// Fails if one of `rows` was rejected.
fn judge(rows: &[PublicationView]) -> Result<(), CliError> {
    let rejected: Vec<_> = rows.iter().filter(|row| row.state == "rejected").collect();
    let Some(first) = rejected.first() else { return Ok(()) };
    let message = format!(
        "{} of {} files were rejected: {}: {}",
        rejected.len(),
        rows.len(),
        plain(&first.file),
        plain(first.reason.as_deref().unwrap_or_default())
    );
    let help = "the file lies in the folder of rejected ones, which `nonstop data list` names; mend \
                it and publish it again";
    Err(CliError::Refused { message, help: Some(help.into()) })
}

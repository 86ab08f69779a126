//! `nonstop data`: days of data, brought, published, listed, and loaded again.

use crate::{
    error::CliError,
    print, print_json,
    render::{time, word},
    table::{Table, plain},
};
use clap::Subcommand;
use jiff::civil::Date;
use nonstop_api::{
    BegunView, CallError, Client, DataDomainView, ErrorCode, Problem, PublicationView, Reply,
    Request,
};
use nonstop_model::{
    Lab, PublicationId,
    publication::{UPLOAD, day_of},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

#[derive(Debug, Subcommand)]
pub(crate) enum DataVerb {
    /// Publish files, or what lies in the inboxes now. A day is seen whole or not at all; one that
    /// was published before is replaced. Exit code 1 if a file was not fit, with the reason.
    Publish {
        /// Files, named YYYY-MM-DD.pcap or .pcapng; they are copied into the inbox.
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

fn list(client: &Client, domain: Option<&str>) -> Result<Vec<DataDomainView>, CliError> {
    match client.call(&Request::DataList { domain: domain.map(Into::into) })? {
        Reply::DataDomains(domains) => Ok(domains),
        _ => Err(CliError::Otherwise),
    }
}

/// Copies `files` into the inbox, one after the other, and has each published.
fn bring_all(
    lab: &Lab,
    client: &Client,
    files: &[PathBuf],
    domain: Option<&str>,
    wait: Patience,
) -> Result<BegunView, CliError> {
    let mut domains = list(client, domain)?;
    // A refusal of the daemon says why a data domain that was named publishes nothing.
    if domain.is_none() {
        domains.retain(|domain| domain.publishes);
    }
    let [to] = &domains[..] else {
        let names: Vec<_> = domains.iter().map(|domain| domain.name.as_str()).collect();
        return Err(CliError::Misused(match names.is_empty() {
            true => "no data domain is published here: see `data_domains` of lab.yaml".into(),
            false => format!("say for which data domain: --domain {}", names.join(" or --domain ")),
        }));
    };
    let mut begun = BegunView { publications: Vec::new(), left: Vec::new() };
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            CliError::Misused(format!("{} has no name that can be published", path.display()))
        })?;
        if !to.publishes {
            let request = Request::DataPublish { domain: Some(to.name.clone()), file: None };
            client.call(&request)?;
            return Err(CliError::Otherwise);
        }
        let newest = newest(&list(client, Some(&to.name))?);
        bring(lab, to, path, name)?;
        begun.publications.extend(begin(client, &to.name, name, newest, wait)?);
    }
    Ok(begun)
}

/// The number of the newest publication in `domains`.
fn newest(domains: &[DataDomainView]) -> PublicationId {
    let ids = domains.iter().flat_map(|domain| {
        let days = domain.days.iter().map(|day| day.publication);
        let rows = domain.under_way.iter().chain(&domain.rejected).map(|row| row.id);
        days.chain(rows)
    });
    ids.max().unwrap_or(PublicationId(0))
}

/// Copies `path` into the inbox of `to`, where it appears whole.
fn bring(lab: &Lab, to: &DataDomainView, path: &Path, name: &str) -> Result<(), CliError> {
    let inbox = PathBuf::from(&to.inbox_folder);
    let failed = |source: io::Error, help: &str| CliError::Bring {
        path: path.into(),
        inbox: inbox.clone(),
        source,
        help: help.into(),
    };
    let mut file =
        File::open(path).map_err(|source| CliError::Read { path: path.into(), source })?;
    let about = file.metadata().map_err(|source| CliError::Read { path: path.into(), source })?;
    if !about.is_file() {
        return Err(CliError::Misused(format!("{} is no file", path.display())));
    }
    let reserve = lab.capacity.reserve_mib << 20;
    if to.free_bytes < about.len().saturating_add(reserve) {
        let help = format!(
            "{} MiB are free, {} MiB are kept in reserve (`capacity.reserve_mib`): make room",
            to.free_bytes >> 20,
            lab.capacity.reserve_mib
        );
        return Err(failed(ErrorKind::StorageFull.into(), &help));
    }
    let upload = inbox.join(format!("{UPLOAD}{}-{name}", std::process::id()));
    let copied = File::create_new(&upload).and_then(|mut new| io::copy(&mut file, &mut new));
    let placed = copied.and_then(|_| {
        renameat_with(CWD, &upload, CWD, inbox.join(name), RenameFlags::NOREPLACE)
            .map_err(io::Error::from)
    });
    placed.map_err(|e| {
        // What was copied of it is of no use.
        let _gone = fs::remove_file(&upload);
        let help = match e.kind() {
            ErrorKind::AlreadyExists => {
                "a file of that name waits there: `nonstop data list` shows it, and `nonstop data \
                 publish` without a file takes it"
            }
            ErrorKind::StorageFull => "make room on the disk of the lab's `state`",
            _ => "run it as root on the lab's host, while nonstopd runs",
        };
        failed(e, help)
    })
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
        let waits = match client.call(&request) {
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
        let days = domain.days.iter().filter(|day| Some(day.day) == day_of(file));
        days.map(|day| day.publication).collect::<Vec<_>>()
    };
    let rows = domains.iter().flat_map(|d| d.under_way.iter().chain(&d.rejected));
    let rows = rows.filter(|row| row.file == file).map(|row| row.id);
    let ids = rows.chain(domains.iter().flat_map(of_day)).filter(|id| *id > newest);
    let ids: Vec<_> = ids.max().into_iter().collect();
    match client.call(&Request::DataPublications { ids })? {
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
        let Reply::Publications(rows) = client.call(&request)? else {
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

fn is_over(row: &PublicationView) -> bool {
    let on_its_way = ["taken", "checked", "loaded"].contains(&row.state.as_str());
    !on_its_way && !row.load_wanted
}

/// How far a publication is, in words.
fn how_far(row: &PublicationView) -> String {
    if let Some(problem) = &row.problem {
        return format!("waits: {}", problem.message);
    }
    match &row.doing {
        Some(doing) if doing.of > 0 => {
            format!("{} {} %", doing.what, doing.bytes.min(doing.of) * 100 / doing.of)
        }
        Some(doing) => doing.what.clone(),
        None => row.state.clone(),
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

fn published(begun: &BegunView) -> String {
    let mut text = match begun.publications.is_empty() {
        true => "nothing to publish\n".into(),
        false => table(&begun.publications, crate::width()),
    };
    for left in &begun.left {
        text += &format!(
            "left in the inbox of {}: {}: {}\n",
            left.domain,
            plain(&left.name),
            left.note
        );
    }
    text
}

fn table(rows: &[PublicationView], width: Option<usize>) -> String {
    let columns = ["PUBLICATION", "DOMAIN", "FILE", "STATE", "PACKETS", "BYTES", "NOTE"];
    let mut table = Table::new(columns);
    for row in rows {
        let number = |n: Option<u64>| n.map_or("-".into(), |n| n.to_string());
        table.row([
            row.id.to_string(),
            row.domain.clone(),
            row.file.clone(),
            row.state.clone(),
            number(row.content.as_ref().map(|content| content.packets)),
            number(row.content.as_ref().map(|content| content.bytes)),
            note(row),
        ]);
    }
    table.text(width)
}

fn note(row: &PublicationView) -> String {
    match &row.reason {
        Some(reason) => reason.clone(),
        None if is_over(row) => String::new(),
        None => how_far(row),
    }
}

/// Data domains as text.
pub(crate) fn listed(domains: &[DataDomainView], width: Option<usize>) -> String {
    let mut text = String::new();
    for domain in domains {
        if !text.is_empty() {
            text.push('\n');
        }
        let offers: Vec<_> = domain.offers.iter().map(word).collect();
        text += &format!("{}: {}\n", domain.name, offers.join(", "));
        if !domain.publishes {
            text +=
                "  nothing is published here: its servers are the lab's own, or offer no days\n";
            continue;
        }
        let keeps = domain.keep_days.map_or("for ever".into(), |days| format!("{days} days"));
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        text += &format!(
            "  kept {keeps}; {} MiB of files, {} MiB of rdb, {} MiB free\n  inbox {}\n",
            mib(domain.published_bytes),
            domain.rdb_bytes.map_or("no".into(), |bytes| mib(bytes).to_string()),
            mib(domain.free_bytes),
            domain.inbox_folder,
        );
        text += &days(domain, width);
        if !domain.under_way.is_empty() {
            text += &format!("under way\n{}", table(&domain.under_way, width));
        }
        if !domain.inbox.is_empty() {
            text += "in the inbox\n";
        }
        for file in &domain.inbox {
            let bytes = file.bytes.map_or(String::new(), |bytes| format!(", {bytes} bytes"));
            let note = if file.note.is_empty() { "" } else { ": " };
            text += &format!("  {}{bytes}{note}{}\n", plain(&file.name), file.note);
        }
        if !domain.rejected.is_empty() {
            text += &format!("rejected, in {}\n", domain.rejected_folder);
        }
        for row in &domain.rejected {
            let reason = row.reason.as_deref().unwrap_or_default();
            text += &format!(
                "  {}-{} at {}: {}\n",
                row.id,
                plain(&row.file),
                time(row.changed_at),
                plain(reason)
            );
        }
        for Problem { message, help } in &domain.problems {
            let help = if help.is_empty() { String::new() } else { format!("\n  {}", plain(help)) };
            text += &format!("problem: {}{help}\n", plain(message));
        }
    }
    text
}

fn days(domain: &DataDomainView, width: Option<usize>) -> String {
    if domain.days.is_empty() {
        return "  no day is published\n".into();
    }
    let columns = ["DAY", "BYTES", "PACKETS", "FIRST", "LAST", "RDB", "PUBLISHED", "SHA-256"];
    let mut table = Table::new(columns);
    for day in &domain.days {
        let rdb = match (day.rows, day.loaded) {
            _ if day.load_wanted => "loading".into(),
            (_, Some(false)) => "missing".into(),
            (Some(rows), _) => rows.to_string(),
            (None, Some(true)) => "loaded".into(),
            (None, None) => "-".into(),
        };
        table.row([
            day.day.to_string(),
            day.content.bytes.to_string(),
            day.content.packets.to_string(),
            time(day.content.first),
            time(day.content.last),
            rdb,
            time(day.published_at),
            day.content.sha256.clone(),
        ]);
    }
    table.text(width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_api::{DayView, InboxView, ProgressView};
    use nonstop_model::{CaptureFormat, Content, Resource};

    fn publication(id: u32, state: &str) -> PublicationView {
        PublicationView {
            id: PublicationId(id),
            domain: "intermediate".into(),
            kind: Resource::Pcap,
            day: Some(Date::constant(2030, 2, 1)),
            file: "2030-02-01.pcap".into(),
            by: "watcher".into(),
            state: state.into(),
            taken_at: "2030-02-02T00:10:00Z".parse().expect("a time"),
            changed_at: "2030-02-02T00:11:00Z".parse().expect("a time"),
            content: None,
            reason: None,
            doing: None,
            problem: None,
            load_wanted: false,
        }
    }

    fn domain() -> DataDomainView {
        let content = Content {
            format: CaptureFormat::Pcap,
            bytes: 123_456_789,
            packets: 1_500_000,
            first: "2030-01-30T15:00:00Z".parse().expect("a time"),
            last: "2030-01-31T14:59:59.9Z".parse().expect("a time"),
            sha256: "ab".repeat(32),
        };
        let doing = ProgressView {
            what: "check".into(),
            bytes: 34,
            of: 100,
            since: "2030-02-02T00:10:01Z".parse().expect("a time"),
        };
        DataDomainView {
            name: "intermediate".into(),
            publishes: true,
            offers: vec![Resource::Pcap, Resource::Rdb],
            utc_offset_minutes: 540,
            keep_days: Some(30),
            inbox_folder: "/var/lib/nonstop/data/intermediate/inbox/pcap".into(),
            rejected_folder: "/var/lib/nonstop/data/intermediate/rejected/pcap".into(),
            days: vec![DayView {
                day: Date::constant(2030, 1, 31),
                file: "2030-01-31.pcap".into(),
                content,
                published_at: "2030-02-01T00:12:00Z".parse().expect("a time"),
                publication: PublicationId(3),
                rows: Some(1_500_000),
                loaded: Some(false),
                load_wanted: false,
                fault: None,
            }],
            under_way: vec![PublicationView { doing: Some(doing), ..publication(5, "taken") }],
            rejected: vec![PublicationView {
                reason: Some("record 7 is cut off\u{1b}[2J".into()),
                ..publication(4, "rejected")
            }],
            inbox: vec![InboxView {
                domain: "intermediate".into(),
                name: "link".into(),
                bytes: None,
                note: "a link: bring the file itself".into(),
            }],
            problems: vec![Problem {
                message: "the `rdb` does not have 2030-01-31".into(),
                help: "run `nonstop data load --domain intermediate`".into(),
            }],
            published_bytes: 123_456_789,
            rdb_bytes: Some(5 << 20),
            free_bytes: 1 << 40,
        }
    }

    #[test]
    fn a_data_domain_is_listed_with_days_what_is_on_its_way_and_what_was_not_fit() {
        let elsewhere = DataDomainView {
            name: "partner".into(),
            publishes: false,
            offers: vec![Resource::Pcap],
            ..domain()
        };
        let text = listed(&[domain(), elsewhere], None);
        insta::assert_snapshot!(text);
        assert!(!text.contains('\u{1b}'), "a terminal acts on none of it");
    }

    #[test]
    fn a_rejected_file_fails_the_command_with_its_reason() {
        let bad = PublicationView { reason: Some("torn".into()), ..publication(4, "rejected") };
        let e = judge(&[publication(5, "published"), bad]).expect_err("fails");
        assert_eq!(e.to_string(), "1 of 2 files were rejected: 2030-02-01.pcap: torn");
        assert!(judge(&[publication(5, "published")]).is_ok());
    }
}

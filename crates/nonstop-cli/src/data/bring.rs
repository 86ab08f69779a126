//! Files brought into an inbox, where each appears whole.

use super::{Patience, begin, list};
use crate::error::CliError;
use nonstop_api::{BegunView, Client, DataDomainView, Request};
use nonstop_model::{
    Lab, PublicationId,
    publication::{UPLOAD, day_of},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// Copies `files` into the inbox, one after the other, and has each published.
pub(super) fn bring_all(
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
    // What cannot be published is not copied first.
    if day_of(name).is_none() {
        return Err(CliError::Misused(format!(
            "{} is named after no day: name it YYYY-MM-DD.pcap or YYYY-MM-DD.pcapng",
            path.display()
        )));
    }
    // A pipe would be waited for.
    let about =
        fs::metadata(path).map_err(|source| CliError::Read { path: path.into(), source })?;
    if !about.is_file() {
        return Err(CliError::Misused(format!("{} is no file", path.display())));
    }
    let mut file =
        File::open(path).map_err(|source| CliError::Read { path: path.into(), source })?;
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

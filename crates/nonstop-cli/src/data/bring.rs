//! Files brought into an inbox, where each appears whole.

use super::{Patience, begin, folder::Folder, list};
use crate::{error::CliError, table::plain};
use nonstop_api::{BegunView, Client, DataDomainView, Request};
use nonstop_model::{
    Lab, PublicationId,
    publication::{UPLOAD, day_of},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
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
        if !to.publishes {
            let request = Request::DataPublish { domain: Some(to.name.clone()), file: None };
            client.call(&request)?;
            return Err(CliError::Otherwise);
        }
        let newest = newest(&list(client, Some(&to.name))?);
        let day = Brought::at(path)?;
        bring(lab, to, path, &day)?;
        begun.publications.extend(begin(client, &to.name, &day.name, newest, wait)?);
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

/// What is brought, open.
struct Brought {
    name: String,
    bytes: u64,
    source: Source,
}

enum Source {
    File(File),
    /// It becomes an archive on its way.
    Folder(Folder),
}

impl Brought {
    /// What lies at `path`. What cannot be published is said before anything is copied.
    fn at(path: &Path) -> Result<Brought, CliError> {
        let unread = |source| CliError::Read { path: path.into(), source };
        // A pipe would be waited for.
        let about = fs::metadata(path);
        if about.as_ref().is_ok_and(fs::Metadata::is_dir) {
            let folder = Folder::at(path)?;
            let (name, bytes) = (folder.name.clone(), folder.bytes());
            return Ok(Brought { name, bytes, source: Source::Folder(folder) });
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if day_of(name).is_none() {
            return Err(CliError::Misused(format!(
                "{} is named after no day: name it YYYY-MM-DD.pcap, YYYY-MM-DD.pcapng or \
                 YYYY-MM-DD.samples.tar",
                path.display()
            )));
        }
        if !about.map_err(unread)?.is_file() {
            return Err(CliError::Misused(format!("{} is no file", path.display())));
        }
        let file = File::open(path).map_err(unread)?;
        let bytes = file.metadata().map_err(unread)?.len();
        Ok(Brought { name: name.into(), bytes, source: Source::File(file) })
    }

    fn copy(&self, mut to: &File) -> io::Result<u64> {
        match &self.source {
            Source::File(file) => io::copy(&mut &*file, &mut to),
            Source::Folder(folder) => {
                let name = plain(&self.name);
                folder.write(io::BufWriter::with_capacity(PIECE, to), |bytes, of| {
                    eprintln!("{name}: {} % copied into the inbox", bytes * 100 / of.max(1));
                })
            }
        }
    }
}

/// What is written of an archive at once, in bytes.
const PIECE: usize = 1 << 20;

/// Copies what lies at `path`, and is open as `day`, into the inbox of `to`, where it appears whole.
fn bring(lab: &Lab, to: &DataDomainView, path: &Path, day: &Brought) -> Result<(), CliError> {
    let inbox = PathBuf::from(&to.inbox_folder);
    let failed = |source: io::Error, help: &str| CliError::Bring {
        path: path.into(),
        inbox: inbox.clone(),
        source,
        help: help.into(),
    };
    let reserve = lab.capacity.reserve_mib << 20;
    if to.free_bytes < day.bytes.saturating_add(reserve) {
        let help = format!(
            "{} MiB are free, {} MiB are kept in reserve (`capacity.reserve_mib`): make room",
            to.free_bytes >> 20,
            lab.capacity.reserve_mib
        );
        return Err(failed(ErrorKind::StorageFull.into(), &help));
    }
    place(day, &inbox).map_err(|e| {
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

/// Copies `day` into `inbox` beside its name, and gives it that.
fn place(day: &Brought, inbox: &Path) -> io::Result<()> {
    let name = &day.name;
    let upload = inbox.join(format!("{UPLOAD}{}-{name}", std::process::id()));
    // Samples are for nobody else on this host, from the first byte on.
    let new = File::options().write(true).create_new(true).mode(0o600).open(&upload);
    let copied = new.and_then(|new| day.copy(&new));
    let placed = copied.and_then(|_| {
        renameat_with(CWD, &upload, CWD, inbox.join(name), RenameFlags::NOREPLACE)
            .map_err(io::Error::from)
    });
    if placed.is_err() {
        // What was copied of it is of no use.
        let _gone = fs::remove_file(&upload);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::Permissions, os::unix::fs::PermissionsExt, thread};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_brought_is_for_its_owner_alone_from_its_first_byte() {
        let dir = tempfile::tempdir().expect("a folder");
        let (from, inbox) = (dir.path().join("2030-01-31"), dir.path().join("inbox"));
        fs::create_dir_all(from.join("samples")).expect("made");
        fs::create_dir(&inbox).expect("made");
        let sample = from.join("samples").join("ab".repeat(32));
        fs::write(&sample, "a sample").expect("written");
        // Whatever rights the files have that it is made of.
        fs::set_permissions(&sample, Permissions::from_mode(0o666)).expect("set");
        place(&Brought::at(&from).expect("a day"), &inbox).expect("placed");
        assert_eq!(mode(&inbox.join("2030-01-31.samples.tar")), 0o600);
        // While it is being copied, too: a pipe gives nothing yet.
        let (pipe, hold) = io::pipe().expect("a pipe");
        let source = Source::File(File::from(std::os::fd::OwnedFd::from(pipe)));
        let day = Brought { name: "2030-02-01.pcap".into(), bytes: 0, source };
        let (to, upload) = (inbox.clone(), format!("{UPLOAD}{}-{}", std::process::id(), day.name));
        let placing = thread::spawn(move || place(&day, &to));
        while !inbox.join(&upload).exists() {
            thread::yield_now();
        }
        assert_eq!(mode(&inbox.join(&upload)), 0o600);
        drop(hold);
        placing.join().expect("no panic").expect("placed");
        assert_eq!(mode(&inbox.join("2030-02-01.pcap")), 0o600);
    }
}

//! What is shown of data domains: days, what is on its way, what is wrong.

use super::folders_failed;
use crate::{
    publisher::{Arrived, DayFault, DomainBoard, plain, publishes},
    service::{Service, refusal},
};
use jiff::civil::Date;
use nonstop_api::{
    ApiError, DataDomainView, DayView, InboxView, Problem, ProgressView, PublicationView,
};
use nonstop_model::{DataDomain, Publication, PublicationState, Resource};
use std::{collections::BTreeSet, fs, path::Path};

/// Files of a folder that are counted.
const COUNTED: usize = 100_000;

impl Service {
    pub(super) fn domain_view(
        &self,
        name: &str,
        domain: &DataDomain,
    ) -> Result<DataDomainView, ApiError> {
        let servers = domain.servers.iter();
        let mut view = DataDomainView {
            name: name.into(),
            publishes: publishes(domain),
            offers: servers
                .filter_map(|(name, server)| server.resource(name))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            utc_offset_minutes: domain.utc_offset_minutes,
            keep_days: domain.keep_days,
            inbox_folder: String::new(),
            rejected_folder: String::new(),
            days: Vec::new(),
            under_way: Vec::new(),
            rejected: Vec::new(),
            inbox: Vec::new(),
            problems: Vec::new(),
            published_bytes: 0,
            rdb_bytes: None,
            free_bytes: 0,
        };
        let Some((_, ground)) = self.publisher.grounds().find(|(known, _)| *known == name) else {
            return Ok(view);
        };
        let (published, under_way, rejected) = self
            .db
            .read(|read| {
                let under_way = read.publications_under_way(name)?;
                Ok((read.published(name)?, under_way, read.rejected(name)?))
            })
            .map_err(refusal)?;
        let board = self.publisher.domain_board(name);
        view.inbox_folder = ground.folders.inbox().display().to_string();
        view.rejected_folder = ground.folders.all_rejected().display().to_string();
        let loaded = board.loaded.as_ref().and_then(|loaded| loaded.as_ref().ok());
        view.days = published
            .iter()
            .filter_map(|row| {
                let is_its =
                    |fault: &&DayFault| (fault.kind, Some(fault.day)) == (row.kind, row.day);
                let fault = board.faults.iter().find(is_its);
                let mut day = day_view(row, fault.map(|fault| fault.what.clone()))?;
                let has_rdb = ground.has_rdb() && row.kind == Resource::Pcap;
                day.loaded = loaded.filter(|_| has_rdb).map(|loaded| {
                    let same = |d: &&nonstop_api::told::LoadedDay| d.sha256 == day.content.sha256;
                    loaded.iter().filter(|d| d.day == day.day).any(|d| same(&d))
                });
                Some(day)
            })
            .collect();
        view.under_way = under_way.iter().map(|row| self.publication_view(row)).collect();
        view.rejected = rejected.iter().map(|row| self.publication_view(row)).collect();
        let arrivals = ground.folders.arrivals().map_err(folders_failed)?;
        let arrivals = arrivals.iter();
        view.inbox =
            arrivals.map(|a| inbox_view(name, &a.name.to_string_lossy(), &a.what)).collect();
        view.published_bytes = view.days.iter().map(|day| day.content.bytes).sum();
        view.rdb_bytes = ground.has_rdb().then(|| bytes_under(&self.lab.data(name).join("rdb")));
        view.free_bytes = ground.folders.free_bytes().map_err(folders_failed)?;
        view.problems = problems(&board, &view);
        Ok(view)
    }

    pub(super) fn publication_view(&self, row: &Publication) -> PublicationView {
        let under_way = row.state.is_under_way();
        let load_wanted = matches!(row.state, PublicationState::Published { load: true, .. });
        let goes_on = under_way || load_wanted;
        let doing = self.publisher.progress(row.id).filter(|_| goes_on);
        let trouble = self.publisher.trouble(row.id).filter(|_| goes_on);
        PublicationView {
            id: row.id,
            domain: row.domain.clone(),
            kind: row.kind,
            day: row.day,
            file: row.file.clone(),
            by: row.by.clone(),
            state: row.state.word().into(),
            taken_at: row.taken_at,
            changed_at: row.changed_at,
            content: row.state.content().cloned(),
            reason: match &row.state {
                PublicationState::Rejected { reason } => Some(reason.clone()),
                _ => None,
            },
            doing: doing.map(|progress| ProgressView {
                what: progress.doing.into(),
                bytes: progress.bytes,
                of: progress.of,
                since: progress.since,
            }),
            problem: trouble
                .map(|trouble| Problem { message: trouble.message, help: trouble.help }),
            load_wanted,
        }
    }
}

fn day_view(row: &Publication, fault: Option<String>) -> Option<DayView> {
    let PublicationState::Published { content, rows, load, .. } = &row.state else { return None };
    let day = row.day?;
    Some(DayView {
        kind: row.kind,
        day,
        file: content.published_name(day),
        content: content.clone(),
        published_at: row.changed_at,
        publication: row.id,
        rows: *rows,
        loaded: None,
        load_wanted: *load,
        fault,
    })
}

pub(super) fn inbox_view(domain: &str, name: &str, what: &Arrived) -> InboxView {
    let (bytes, note) = match what {
        Arrived::Unfit(why) => (None, *why),
        Arrived::File { bytes, written: true, .. } => (Some(*bytes), "somebody is writing it"),
        Arrived::File { bytes, .. } => (Some(*bytes), ""),
    };
    InboxView { domain: domain.into(), name: plain(name), bytes, note: note.into() }
}

fn problems(board: &DomainBoard, view: &DataDomainView) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(message) = &board.stands_still {
        let help = "look at `data` under the lab's `state`, and at the log of nonstopd";
        problems.push(Problem { message: message.clone(), help: help.into() });
    }
    if let Some(Err(trouble)) = &board.loaded {
        let message = format!("the `rdb` does not say what it has: {}", trouble.message);
        let help = "see `nonstop check` and the log of the service `data`";
        problems.push(Problem { message, help: help.into() });
    }
    let lacking = view.days.iter().filter(|day| day.loaded == Some(false) && !day.load_wanted);
    let lacking: Vec<_> = lacking.map(|day| day.day.to_string()).collect();
    if !lacking.is_empty() {
        problems.push(Problem {
            message: format!("the `rdb` does not have {}", lacking.join(", ")),
            help: format!("run `nonstop data load --domain {}`", view.name),
        });
    }
    let of_packets = view.days.iter().filter(|day| day.kind == Resource::Pcap);
    let known: BTreeSet<Date> = of_packets.map(|day| day.day).collect();
    let coming = view.under_way.iter().filter(|row| row.kind == Resource::Pcap);
    let coming: BTreeSet<Date> = coming.filter_map(|row| row.day).collect();
    let loaded = board.loaded.iter().flatten().flatten().map(|day| day.day);
    let strange = loaded.filter(|day| !known.contains(day) && !coming.contains(day));
    let strange: Vec<_> = strange.map(|day| day.to_string()).collect();
    if !strange.is_empty() {
        problems.push(Problem {
            message: format!("the `rdb` has {}, which are not published", strange.join(", ")),
            help: "a restored backup may not know them: publish these days again".into(),
        });
    }
    problems.extend(board.faults.iter().map(|fault| Problem {
        message: match fault.kind {
            Resource::Samples => format!("{} of samples: {}", fault.day, fault.what),
            _ => format!("{}: {}", fault.day, fault.what),
        },
        help: match view.days.iter().any(|day| (day.kind, day.day) == (fault.kind, fault.day)) {
            true => "`nonstop data publish` with the file of that day".into(),
            false => String::new(),
        },
    }));
    problems
}

/// Bytes of the files under `folder`, as far as they are counted.
fn bytes_under(folder: &Path) -> u64 {
    let (mut bytes, mut seen, mut open) = (0, 0, vec![folder.to_path_buf()]);
    while let Some(folder) = open.pop() {
        // What goes while it is counted is not missed.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(about) = entry.path().symlink_metadata() else { continue };
            seen += 1;
            if seen > COUNTED {
                return bytes;
            }
            if about.is_dir() {
                open.push(entry.path());
            }
            bytes += about.len();
        }
    }
    bytes
}

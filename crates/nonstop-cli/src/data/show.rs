//! What there is of data, as text.

use crate::{
    table::{Table, plain},
    words::{time, word},
};
use nonstop_api::{BegunView, DataDomainView, Problem, PublicationView};
use nonstop_model::{Content, Holds, Resource};

pub(super) fn is_over(row: &PublicationView) -> bool {
    let on_its_way = ["taken", "checked", "loaded"].contains(&row.state.as_str());
    !on_its_way && !row.load_wanted
}

/// How far a publication is, in words.
pub(super) fn how_far(row: &PublicationView) -> String {
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

pub(super) fn published(begun: &BegunView) -> String {
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

pub(super) fn table(rows: &[PublicationView], width: Option<usize>) -> String {
    let columns = ["PUBLICATION", "DOMAIN", "FILE", "STATE", "HOLDS", "BYTES", "NOTE"];
    let mut table = Table::new(columns);
    for row in rows {
        table.row([
            row.id.to_string(),
            row.domain.clone(),
            row.file.clone(),
            row.state.clone(),
            row.content.as_ref().map_or("-".into(), holds),
            row.content.as_ref().map_or("-".into(), |content| content.bytes.to_string()),
            note(row),
        ]);
    }
    table.text(width)
}

/// What a file holds, in words.
fn holds(content: &Content) -> String {
    let counted = |n: u64, one: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    };
    match &content.holds {
        Holds::Packets(packets) => counted(packets.packets, "packet"),
        Holds::Samples { samples, reports } => {
            format!("{}, {}", counted(*samples, "sample"), counted(*reports, "report"))
        }
    }
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
                "  {}/{}-{} at {}: {}\n",
                row.kind,
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
    let has = |kind| domain.days.iter().any(|day| day.kind == kind);
    let packets = has(Resource::Pcap).then(|| days_of_packets(domain, width));
    let samples = has(Resource::Samples).then(|| days_of_samples(domain, width));
    [packets, samples].into_iter().flatten().collect::<Vec<_>>().join("samples and reports\n")
}

fn days_of_samples(domain: &DataDomainView, width: Option<usize>) -> String {
    let mut table = Table::new(["DAY", "BYTES", "SAMPLES", "REPORTS", "PUBLISHED", "SHA-256"]);
    for day in &domain.days {
        let Holds::Samples { samples, reports } = day.content.holds else { continue };
        table.row([
            day.day.to_string(),
            day.content.bytes.to_string(),
            samples.to_string(),
            reports.to_string(),
            time(day.published_at),
            day.content.sha256.clone(),
        ]);
    }
    table.text(width)
}

fn days_of_packets(domain: &DataDomainView, width: Option<usize>) -> String {
    let columns = ["DAY", "BYTES", "PACKETS", "FIRST", "LAST", "RDB", "PUBLISHED", "SHA-256"];
    let mut table = Table::new(columns);
    for day in &domain.days {
        let Some(packets) = day.content.packets() else { continue };
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
            packets.packets.to_string(),
            time(packets.first),
            time(packets.last),
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
    use crate::data::judge;
    use jiff::civil::Date;
    use nonstop_api::{DayView, InboxView, ProgressView};
    use nonstop_model::{CaptureFormat, Packets, PublicationId};

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
        let packets = Packets {
            format: CaptureFormat::Pcap,
            packets: 1_500_000,
            first: "2030-01-30T15:00:00Z".parse().expect("a time"),
            last: "2030-01-31T14:59:59.9Z".parse().expect("a time"),
        };
        let content = |holds| Content { bytes: 123_456_789, sha256: "ab".repeat(32), holds };
        let day = DayView {
            kind: Resource::Pcap,
            day: Date::constant(2030, 1, 31),
            file: "2030-01-31.pcap".into(),
            content: content(Holds::Packets(packets)),
            published_at: "2030-02-01T00:12:00Z".parse().expect("a time"),
            publication: PublicationId(3),
            rows: Some(1_500_000),
            loaded: Some(false),
            load_wanted: false,
            fault: None,
        };
        let samples = DayView {
            kind: Resource::Samples,
            file: "2030-01-31.samples.tar".into(),
            content: content(Holds::Samples { samples: 12, reports: 1 }),
            publication: PublicationId(2),
            rows: None,
            loaded: None,
            ..day.clone()
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
            offers: vec![Resource::Pcap, Resource::Samples, Resource::Reports, Resource::Rdb],
            utc_offset_minutes: 540,
            keep_days: Some(30),
            inbox_folder: "/var/lib/nonstop/data/intermediate/inbox/pcap".into(),
            rejected_folder: "/var/lib/nonstop/data/intermediate/rejected".into(),
            days: vec![day, samples],
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
    fn what_became_of_files_says_what_each_holds() {
        let days = domain().days;
        let content = |n: usize| Some(days[n].content.clone());
        let rows = [
            PublicationView { content: content(0), ..publication(3, "published") },
            PublicationView {
                content: content(1),
                kind: Resource::Samples,
                file: "2030-01-31.samples.tar".into(),
                ..publication(2, "published")
            },
            publication(5, "taken"),
        ];
        let text = table(&rows, None);
        assert!(
            text.contains("1500000 packets") && text.contains("12 samples, 1 report "),
            "{text}"
        );
    }

    #[test]
    fn a_rejected_file_fails_the_command_with_its_reason() {
        let bad = PublicationView { reason: Some("torn".into()), ..publication(4, "rejected") };
        let e = judge(&[publication(5, "published"), bad]).expect_err("fails");
        assert_eq!(e.to_string(), "1 of 2 files were rejected: 2030-02-01.pcap: torn");
        assert!(judge(&[publication(5, "published")]).is_ok());
    }
}

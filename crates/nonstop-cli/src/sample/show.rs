//! Samples and injections as text for people. Pure: what it says is reviewed as snapshots.
//!
//! Names, families and what a guest says are others' words: nothing of them is obeyed by a terminal,
//! and what would hide is shown as its number.

use crate::{
    table::{Table, plain},
    words::{revealed, time},
};
use jiff::civil::Date;
use nonstop_api::samples::{InjectionView, SamplePage, SampleView};

/// Digits of a hash in a table: enough to name a sample by.
const SHORT: usize = 16;

/// Samples as a table.
pub(crate) fn listed(page: &SamplePage, width: Option<usize>) -> String {
    let columns = ["SHA256", "TYPE", "SIZE", "LAST SEEN", "REPORTS", "FAMILY", "TAGS"];
    let mut table = Table::new(columns);
    for s in &page.samples {
        table.row([
            short(&s.sha256),
            or_dash(&s.kind),
            s.bytes.map_or("reports only".into(), crate::words::size),
            s.last_seen.map_or("-".into(), |day| day.to_string()),
            s.reports.to_string(),
            or_dash(&s.family),
            or_dash(&s.tags.join(", ")),
        ]);
    }
    table.text(width)
}

fn short(sha256: &str) -> String {
    sha256.chars().take(SHORT).collect()
}

/// Somebody else's words on one line, or a dash.
fn or_dash(text: &str) -> String {
    match text {
        "" => "-".into(),
        text => words(text),
    }
}

fn words(text: &str) -> String {
    plain(&revealed(text))
}

/// One sample on a sheet.
pub(super) fn sample(s: &SampleView) -> String {
    let day = |day: Option<Date>| day.map_or("-".into(), |day| day.to_string());
    let days: Vec<_> = s.days.iter().map(ToString::to_string).collect();
    let bytes = s.bytes.map_or("not here, only its reports".into(), |n| format!("{n} bytes"));
    [
        plain(&s.sha256),
        format!("  size        {bytes}"),
        format!("  type        {}", or_dash(&s.kind)),
        format!("  family      {}", or_dash(&s.family)),
        format!("  tags        {}", or_dash(&s.tags.join(", "))),
        format!("  seen        first {}, last {}", day(s.first_seen), day(s.last_seen)),
        format!("  from        {}", or_dash(&s.source)),
        format!("  reports     {}", s.reports),
        format!("  days        {}", or_dash(&days.join(", "))),
    ]
    .join("\n")
}

/// Injections as a table.
pub(crate) fn injections(all: &[InjectionView], width: Option<usize>) -> String {
    let columns = ["INJECTION", "STATE", "ENVIRONMENT", "BY", "WAY", "ASKED", "ENDED", "FILES"];
    let mut table = Table::new(columns);
    for i in all {
        let files: Vec<_> = i.items.iter().map(|item| words(&item.name)).collect();
        table.row([
            i.id.to_string(),
            i.state.as_str().into(),
            format!("{} {}", i.environment, i.machine),
            words(&i.by_person),
            way(i).into(),
            time(i.at),
            i.ended_at.map_or("-".into(), time),
            files.join(", "),
        ]);
    }
    table.text(width)
}

fn way(i: &InjectionView) -> &'static str {
    match (i.by.as_str(), i.zip) {
        ("disc", false) => "disc",
        ("disc", true) => "disc, zip",
        (_, false) => "agent",
        (_, true) => "agent, zip",
    }
}

/// One injection on a sheet.
pub(crate) fn sheet(i: &InjectionView) -> String {
    let mut lines = vec![
        format!(
            "{}  {} {} by {}: {}",
            i.id,
            i.environment,
            i.machine,
            words(&i.by_person),
            i.state.as_str()
        ),
        format!("  way         {}", way(i)),
        format!("  from        {}", words(&i.domain)),
        format!("  generation  {}", i.generation),
        format!("  asked       {}", time(i.at)),
    ];
    lines.extend(i.there_at.map(|at| format!("  there       {}", time(at))));
    let by = i.ended_by.as_deref().map_or(String::new(), |by| format!(", by {}", words(by)));
    lines.extend(i.ended_at.map(|at| format!("  ended       {}{by}", time(at))));
    for item in &i.items {
        lines.push(format!("  {}  {} bytes", words(&item.name), item.bytes));
        lines.push(format!("      {}", plain(&item.sha256)));
    }
    lines.extend(i.failure.as_ref().map(|why| format!("  failed: {}", words(why))));
    lines.extend(
        i.guest_says
            .as_ref()
            .map(|says| format!("  the guest says (which proves nothing): {}", words(says))),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn page() -> SamplePage {
        serde_json::from_value(json!({
            "samples": [
                {
                    "sha256": "ab".repeat(32), "bytes": 123_456, "kind": "pe",
                    "family": "Examplebot", "tags": ["botnet", "telnet"],
                    "first_seen": "2029-11-02", "last_seen": "2029-12-30",
                    "days": ["2029-12-30", "2029-11-02"], "source": "honeypot 4", "reports": 2,
                },
                {
                    "sha256": "cd".repeat(32), "bytes": null, "kind": "",
                    "family": "x\u{202e}exe.\u{1b}[2J", "tags": ["a\nb"], "first_seen": null,
                    "last_seen": null, "days": [], "source": "", "reports": 1,
                },
            ],
            "after": null,
        }))
        .expect("a page")
    }

    #[test]
    fn samples_are_listed_and_shown_with_nothing_that_a_terminal_obeys() {
        let page = page();
        insta::assert_snapshot!(listed(&page, None));
        let sheets: Vec<_> = page.samples.iter().map(sample).collect();
        insta::assert_snapshot!(sheets.join("\n\n"));
    }

    #[test]
    fn injections_say_how_far_they_are_and_whose_words_are_whose() {
        let injection = |more: serde_json::Value| -> InjectionView {
            let mut view = json!({
                "id": "j3", "environment": "e4", "machine": "debuggee", "generation": 3,
                "domain": "intermediate", "by_person": "alice", "by": "agent", "zip": true,
                "state": "there",
                "items": [
                    { "sha256": "ab".repeat(32), "name": "invoice.exe", "bytes": 123_456 },
                    { "sha256": "cd".repeat(32), "name": "a\u{202e}fdp.exe", "bytes": 68 },
                ],
                "at": "2030-01-01T00:00:00Z", "there_at": "2030-01-01T00:00:02Z",
                "ended_at": null, "ended_by": null, "failure": null,
                "guest_says": "123524 bytes are there\u{1b}[31m\nj3 is proven",
            });
            let fields = view.as_object_mut().expect("a map");
            fields.extend(more.as_object().expect("a map").clone());
            serde_json::from_value(view).expect("an injection")
        };
        let all = [
            injection(json!({})),
            injection(json!({
                "id": "j2", "by": "disc", "zip": false, "state": "ended", "guest_says": null,
                "ended_at": "2030-01-01T00:10:00Z", "ended_by": "revert",
            })),
            injection(json!({
                "id": "j1", "state": "failed", "there_at": null, "guest_says": null,
                "ended_at": "2030-01-01T00:00:31Z", "failure": "the agent did not answer in 30 s",
            })),
        ];
        insta::assert_snapshot!(injections(&all, None));
        insta::assert_snapshot!(all.iter().map(sheet).collect::<Vec<_>>().join("\n\n"));
    }
}

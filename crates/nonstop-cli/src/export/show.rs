//! Exports as text for people. Pure: what it says is reviewed as snapshots.

use crate::{
    table::{Table, plain},
    words::{revealed, time, word},
};
use jiff::Timestamp;
use nonstop_api::{ExportAbout, ExportView, PreviewView};
use nonstop_model::ExportState;

/// Exports as a table, at `now`; what has no name yet for whoever asks shows a dash.
pub(crate) fn listed(all: &[ExportView], now: Timestamp, width: Option<usize>) -> String {
    let mut table = Table::new([
        "EXPORT",
        "STATE",
        "WAITS",
        "ENVIRONMENT",
        "ACCOUNT",
        "SUBMITTED",
        "SIZE",
        "TYPE",
        "RULES",
        "FILE",
    ]);
    for x in all {
        let about = x.about.as_ref();
        table.row([
            x.id.to_string(),
            word(&x.state),
            waits(x, now),
            x.environment.to_string(),
            x.account.to_string(),
            time(x.submitted_at),
            about.map_or("-".into(), |about| crate::words::size(about.bytes)),
            about.and_then(|about| about.content_type.clone()).unwrap_or("-".into()),
            if x.rules.is_empty() { "-".into() } else { x.rules.join(", ") },
            about.map_or("-".into(), file),
        ]);
    }
    table.text(width)
}

/// How long it has waited for what comes next; empty where nothing does.
fn waits(x: &ExportView, now: Timestamp) -> String {
    if !x.state.can_be_withdrawn() {
        return String::new();
    }
    let since = if x.state == ExportState::Held { x.changed_at } else { x.submitted_at };
    match now.duration_since(since).as_secs().max(0) {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        seconds => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A name with its version, and with characters that do not show made to.
fn file(about: &ExportAbout) -> String {
    match about.version {
        1 => revealed(about.path.as_str()),
        version => format!("{} (version {version})", revealed(about.path.as_str())),
    }
}

/// One export on a sheet.
pub(crate) fn sheet(x: &ExportView) -> String {
    let mut lines = vec![
        format!("{}  {}  of {}: {}", x.id, x.environment, x.account, word(&x.state)),
        format!("  template      {}, {} machine", plain(&x.template), x.machine),
        format!("  submitted     {}", time(x.submitted_at)),
        format!("  {:<13} {}", format!("{} at", word(&x.state)), time(x.changed_at)),
    ];
    if let Some(about) = &x.about {
        let known =
            |text: &Option<String>| text.as_deref().map_or("not screened yet".into(), plain);
        lines.push(format!("  file          {}", file(about)));
        lines.push(format!("  size          {} bytes", about.bytes));
        lines.push(format!("  type          {}", known(&about.content_type)));
        lines.push(format!("  sha256        {}", known(&about.sha256)));
        if let Some(digest) = &about.rules_digest {
            let took = about.screened_ms.map_or(String::new(), |ms| format!(", in {ms} ms"));
            lines.push(format!("  screened      by rules {}{took}", plain(digest)));
        }
    } else {
        lines.push("  file          told once it is released".into());
        lines.push(format!("  rules         {}", x.rules.join(", ")));
    }
    if let Some(note) = &x.note {
        lines.push(format!("  owner's note  {}", revealed(&plain(note))));
    }
    if let Some(about) = &x.about {
        for f in &about.findings {
            lines.push(format!(
                "  {} by {}: {}",
                plain(&f.verdict),
                plain(&f.rule),
                plain(&f.says)
            ));
            if !f.mend.is_empty() {
                lines.push(format!("      mend it: {}", plain(&f.mend)));
            }
        }
        if about.findings.is_empty() && about.sha256.is_some() {
            lines.push("  no rule found anything".into());
        }
        for d in &about.decisions {
            let why = if d.reason.is_empty() { String::new() } else { format!(": {}", d.reason) };
            let line = format!("{} by {} at {}{why}", word(&d.state), d.by, time(d.at));
            lines.push(format!("  {}", plain(&line)));
        }
    }
    if x.decidable {
        lines.push(format!(
            "  decide        nonstop export release {0} --reason WHY, or nonstop export refuse {0} \
             --reason WHY",
            x.id
        ));
    }
    lines.extend(x.undecidable.as_ref().map(|why| format!("  in the way    {}", plain(why))));
    let earlier = x.about.as_ref().map_or(&[][..], |about| &about.earlier);
    if !earlier.is_empty() {
        lines.push("\n  others of the same person".into());
        let mut table = Table::new(["  EXPORT", "STATE", "SUBMITTED", "SIZE", "FILE"]);
        for e in earlier {
            table.row([
                format!("  {}", e.id),
                word(&e.state),
                time(e.submitted_at),
                crate::words::size(e.bytes),
                revealed(e.path.as_str()),
            ]);
        }
        lines.push(table.text(None));
    }
    lines.join("\n")
}

/// What a file looks like; nothing in it is obeyed by a terminal.
pub(crate) fn preview(seen: &PreviewView, width: Option<usize>) -> String {
    let more = |cut: &bool| if *cut { "\n… and more" } else { "" };
    match seen {
        PreviewView::Text { encoding, text, cut } => {
            let lines: Vec<_> = text.lines().map(revealed).collect();
            format!("text, {}:\n{}{}", plain(encoding), lines.join("\n"), more(cut))
        }
        PreviewView::Table { rows, cut } => {
            let lines: Vec<_> = rows
                .iter()
                .map(|row| row.iter().map(|c| revealed(&plain(c))).collect::<Vec<_>>().join(" | "))
                .map(|line| crate::table::cut(&line, width.unwrap_or(usize::MAX)))
                .collect();
            format!("table:\n{}{}", lines.join("\n"), more(cut))
        }
        PreviewView::Picture { width, height } => {
            format!("a picture of {width} x {height} pixels; the portal shows it")
        }
        PreviewView::Bytes { hex } => {
            let digits: Vec<char> = hex.chars().filter(char::is_ascii_hexdigit).collect();
            let lines: Vec<_> = digits.chunks(64).map(|c| c.iter().collect::<String>()).collect();
            format!("its first bytes:\n{}", lines.join("\n"))
        }
        PreviewView::None { why } => format!("no preview: {}", plain(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn export(id: &str, state: &str, more: Value) -> ExportView {
        let mut value = json!({
            "id": id, "environment": "e1", "template": "macro", "account": "alice",
            "machine": "analyst", "state": state, "submitted_at": "2030-01-01T00:00:00Z",
            "changed_at": "2030-01-01T00:00:02Z", "rules": [], "note": null, "about": null,
            "decidable": false, "undecidable": null,
        });
        for (name, field) in more.as_object().expect("an object") {
            value[name] = field.clone();
        }
        serde_json::from_value(value).expect("an export")
    }

    fn about(path: &str) -> Value {
        json!({
            "path": path, "version": 2, "bytes": 123_456, "sha256": "ab".repeat(32),
            "content_type": "application/zip", "screened_ms": 41, "rules_digest": "cd".repeat(32),
            "findings": [{
                "rule": "archive", "verdict": "hold", "says": "it is an archive: \u{1b}[31mzip",
                "mend": "export the files in it one by one",
            }],
            "decisions": [], "earlier": [{
                "id": "x1", "state": "released", "path": "ab\u{202e}fdp.exe", "bytes": 5,
                "submitted_at": "2029-12-31T00:00:00Z",
            }],
        })
    }

    #[test]
    fn a_list_says_what_waits_how_long_and_no_name_that_is_not_to_be_told() {
        let held = json!({ "rules": ["archive", "yara.packer"], "about": about("結果/a.zip") });
        let all = [
            export("x3", "held", held),
            export("x2", "blocked", json!({ "rules": ["protected"] })),
            export("x1", "screening", json!({})),
        ];
        let now = "2030-01-01T03:30:02Z".parse().expect("a time");
        insta::assert_snapshot!(listed(&all, now, None));
    }

    #[test]
    fn a_sheet_has_what_a_decision_needs_and_nothing_that_a_terminal_obeys() {
        let held = json!({
            "rules": ["archive"], "about": about("a\u{202e}piz.exe"), "decidable": true,
            "note": "plots,\nnothing else \u{1b}[2J",
        });
        insta::assert_snapshot!(sheet(&export("x3", "held", held)));
        let mut refused = about("a.zip");
        refused["decisions"] = json!([{
            "state": "refused", "by": "sato", "at": "2030-01-01T01:00:00Z", "reason": "sources",
        }]);
        refused["earlier"] = json!([]);
        let refused = json!({
            "about": refused, "undecidable": "sato refused it at 2030-01-01T01:00:00Z",
        });
        insta::assert_snapshot!(sheet(&export("x4", "refused", refused)));
        insta::assert_snapshot!(sheet(&export("x5", "held", json!({ "rules": ["review"] }))));
    }

    #[test]
    fn a_preview_is_plain_text() {
        let text = json!({
            "preview": "text", "encoding": "Shift_JIS", "text": "if x:\u{202e}\n\u{1b}]0;a\u{7}\n\tb",
            "cut": true,
        });
        let table =
            json!({ "preview": "table", "rows": [["a", "b\nc"], ["1", "2"]], "cut": false });
        let bytes = json!({ "preview": "bytes", "hex": "7f454c46".repeat(9) });
        let all = [text, table, bytes, json!({ "preview": "picture", "width": 3, "height": 4 })];
        let all = all.map(|seen| preview(&serde_json::from_value(seen).expect("one"), None));
        insta::assert_snapshot!(all.join("\n\n"));
    }
}

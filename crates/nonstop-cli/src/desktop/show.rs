//! Displays as text for people: who was at them, who may see them, what was recorded.

use crate::{table::Table, words::time};
use nonstop_api::{DesktopSessionView, RecordingView, ViewGrantView};

/// Sessions at displays as a table.
pub(crate) fn sessions(all: &[DesktopSessionView], width: Option<usize>) -> String {
    let mut table = Table::new([
        "SESSION", "MACHINE", "ACCOUNT", "AS", "OPENED", "CLOSED", "FRAMES", "BYTES", "KEYS",
        "REMARK",
    ]);
    for s in all {
        let remark = match (s.over_budget, s.note.as_str()) {
            (true, "") => "over its budget".into(),
            (true, note) => format!("over its budget; {note}"),
            (false, note) => note.into(),
        };
        table.row([
            s.id.to_string(),
            format!("{} {}", s.environment, s.role),
            s.account.to_string(),
            if s.types { "owner" } else { "viewer" }.into(),
            time(s.opened_at),
            s.closed_at.map_or("open".into(), time),
            s.frames.to_string(),
            s.bytes_out.to_string(),
            s.keys_in.to_string(),
            remark,
        ]);
    }
    table.text(width)
}

/// Permissions to see as a table.
pub(crate) fn views(all: &[ViewGrantView], width: Option<usize>) -> String {
    let mut table =
        Table::new(["VIEW", "MACHINE", "SEEN BY", "GIVEN BY", "UNTIL", "TARGET", "WHY"]);
    for v in all {
        table.row([
            v.id.to_string(),
            format!("{} {}", v.environment, v.role),
            v.account.to_string(),
            v.granted_by.clone(),
            time(v.until),
            format!("{}:{}", v.desktop.address, v.desktop.port),
            v.reason.clone(),
        ]);
    }
    table.text(width)
}

/// Recordings as a table.
pub(crate) fn recordings(all: &[RecordingView], width: Option<usize>) -> String {
    let mut table =
        Table::new(["RECORDING", "MACHINE", "OF", "BY", "BEGUN", "ENDED", "BYTES", "WHY", "NOTE"]);
    for r in all {
        table.row([
            r.id.to_string(),
            format!("{} {}", r.environment, r.role),
            r.owner.to_string(),
            r.wanted_by.clone(),
            time(r.begun_at),
            r.ended_at.map_or("goes on".into(), time),
            r.bytes.to_string(),
            r.reason.clone(),
            r.note.clone(),
        ]);
    }
    table.text(width)
}

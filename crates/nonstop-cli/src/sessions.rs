//! Sessions at the gateway, refused logins, logins a day, and the clock, as text.

use crate::{
    table::Table,
    words::{size, time},
};
use nonstop_api::{ClockView, DayOfLoginsView, RefusedLoginsView, RepeatedView, SessionView};

/// Sessions as a table.
pub(crate) fn listed(sessions: &[SessionView], width: Option<usize>) -> String {
    let mut table = Table::new([
        "SESSION", "ACCOUNT", "FROM", "SINCE", "CLOSED", "IN", "OUT", "CLIENT", "CARD", "REMARK",
    ]);
    for s in sessions {
        let (bytes_in, bytes_out) = s.bytes();
        let uncounted = if s.uncounted { "not all bytes were counted" } else { "" };
        let remark = [s.ended.as_str(), uncounted].map(str::to_string);
        table.row([
            s.id.to_string(),
            s.account.to_string(),
            s.source.clone(),
            time(s.opened_at),
            s.closed_at.map_or("open".into(), time),
            size(bytes_in),
            size(bytes_out),
            s.client.clone(),
            s.card.map_or_else(|| s.key.clone(), |card| card.to_string()),
            remark.into_iter().filter(|r| !r.is_empty()).collect::<Vec<_>>().join("; "),
        ]);
        for flow in &s.flows {
            let mut cells = [const { String::new() }; 10];
            cells[2] = format!("  {}", flow.target);
            cells[3] = format!("{} connections", flow.connections);
            cells[5] = size(flow.bytes_in);
            cells[6] = size(flow.bytes_out);
            table.row(cells);
        }
    }
    table.text(width)
}

/// Refused logins as tables.
pub(crate) fn refused(refused: &RefusedLoginsView, width: Option<usize>) -> String {
    let mut text = format!("{} refused since {}\n", refused.all, time(refused.since));
    for (heading, often) in [("ACCOUNT", &refused.by_user), ("FROM", &refused.by_source)] {
        if !often.is_empty() {
            text += "\nagain and again:\n";
            text += &repeated(heading, often, width);
        }
    }
    let mut table = Table::new(["LAST", "TRIES", "ACCOUNT", "FROM", "WHY", "CLIENT", "KEY"]);
    for r in &refused.rows {
        table.row([
            time(r.last_at),
            r.tries.to_string(),
            r.user.clone(),
            r.source.clone(),
            r.reason.clone(),
            r.client.clone(),
            r.key.clone(),
        ]);
    }
    text + "\n" + &table.text(width)
}

fn repeated(heading: &str, often: &[RepeatedView], width: Option<usize>) -> String {
    let mut table = Table::new(["TRIES", "LAST", heading]);
    for r in often {
        table.row([r.tries.to_string(), time(r.last_at), r.what.clone()]);
    }
    table.text(width)
}

/// Logins a day as a table.
pub(crate) fn logins(days: &[DayOfLoginsView]) -> String {
    let mut table = Table::new(["DAY", "LOGINS", "20-DAY AVERAGE"]);
    for day in days {
        table.row([day.day.clone(), day.logins.to_string(), format!("{:.2}", day.average)]);
    }
    if days.is_empty() { String::new() } else { format!("\n{}", table.text(None)) }
}

/// The clock.
pub(crate) fn clock(clock: &ClockView) -> String {
    let state = match (&clock.held, clock.held_since) {
        (Some(why), Some(since)) => format!(
            "not believed ({why}) since {}: run `nonstop clock confirm` once it is right",
            time(since)
        ),
        _ => "believed".into(),
    };
    format!(
        "time of the lab     {}\nwall clock          {}, {} s ahead\nwall clock          {state}",
        time(clock.trusted),
        time(clock.wall),
        clock.ahead_seconds
    )
}

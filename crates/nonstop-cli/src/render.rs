//! Replies as text for people. Pure: what it says is reviewed as snapshots.

use crate::table::{Table, plain};
use nonstop_api::{EnvironmentView, Problem, Reply, RequestView};
use nonstop_model::{Period, RequestState};
use serde::Serialize;

/// The word that a value has in JSON: one name for a thing everywhere.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => format!("{other:?}"),
    }
}

/// `reply` as text.
pub(crate) fn render(reply: &Reply) -> String {
    match reply {
        Reply::Done => "done".into(),
        Reply::Me(me) => format!(
            "{} in the lab `{}`\ngateway {}:{} {}",
            me.actor,
            me.lab.name,
            me.lab.connect.host,
            me.lab.connect.port,
            me.lab.connect.fingerprint,
        ),
        Reply::Addresses(addresses) => {
            addresses.iter().map(|a| format!("{a}\n")).collect::<String>()
        }
        Reply::Account(a) => {
            let sources: Vec<_> = a.sources.iter().map(ToString::to_string).collect();
            let from = if sources.is_empty() { "anywhere".into() } else { sources.join(", ") };
            [
                format!("{} ({})", a.name, plain(&a.full_name)),
                format!("affiliation  {}", plain(&a.affiliation)),
                format!("role         {}", word(&a.role)),
                format!("state        {}", word(&a.state)),
                format!("comes from   {from}"),
                format!("address      {} (uid {})", a.address, a.uid),
                format!("keys         {}", a.keys.join("\n             ")),
            ]
            .join("\n")
        }
        Reply::Accounts(accounts) => {
            let mut table = Table::new(["ACCOUNT", "ROLE", "STATE", "NAME", "AFFILIATION"]);
            for a in accounts {
                table.row([
                    a.name.to_string(),
                    word(&a.role),
                    word(&a.state),
                    a.full_name.clone(),
                    a.affiliation.clone(),
                ]);
            }
            table.to_string()
        }
        Reply::Templates(templates) => {
            let mut table = Table::new(["TEMPLATE", "DESKTOP", "MACHINES", "MIB", "TITLE"]);
            for t in templates {
                let roles: Vec<_> = t.machines.iter().map(ToString::to_string).collect();
                table.row([
                    t.name.as_str().into(),
                    word(&t.rdp),
                    roles.join(", "),
                    t.memory_mib.to_string(),
                    t.title.clone(),
                ]);
            }
            table.to_string()
        }
        Reply::Request(request) => requests(std::slice::from_ref(request)),
        Reply::Requests(all) => requests(all),
        Reply::Environment(one) => environment(one),
        Reply::Environments(all) => {
            let mut table =
                Table::new(["ENVIRONMENT", "ACCOUNT", "TEMPLATE", "STATE", "PERIOD", "PROBLEM"]);
            for e in all {
                table.row([
                    e.id.to_string(),
                    e.account.to_string(),
                    e.template.as_str().into(),
                    word(&e.state),
                    period(&e.period),
                    e.problem.as_ref().map_or(String::new(), |p| p.message.clone()),
                ]);
            }
            table.to_string()
        }
        Reply::Sessions(sessions) => {
            let mut table = Table::new(["SESSION", "ACCOUNT", "FROM", "OPENED", "CLOSED", "KEY"]);
            for s in sessions {
                table.row([
                    s.id.to_string(),
                    s.account.to_string(),
                    s.source.clone(),
                    time(s.opened_at),
                    s.closed_at.map_or("open".into(), time),
                    s.key.clone(),
                ]);
            }
            table.to_string()
        }
        Reply::Trace(rows) => {
            let mut table = Table::new(["ROW", "AT", "WHO", "WHAT", "TO", "DETAIL"]);
            for row in rows {
                table.row([
                    row.seq.to_string(),
                    time(row.at),
                    row.actor.clone(),
                    row.action.clone(),
                    row.subject.clone(),
                    row.detail.to_string(),
                ]);
            }
            table.to_string()
        }
        Reply::TraceVerified(found) => match found.broken_at {
            None => format!("{} rows, whole; head {}", found.rows, found.head),
            Some(row) => format!("broken at row {row}; {} rows before it are whole", found.rows),
        },
        Reply::Plan(plan) => {
            let mut lines: Vec<_> = plan.steps.clone();
            if lines.is_empty() {
                lines.push("nothing to do".into());
            }
            lines.extend(plan.problems.iter().map(problem));
            lines.join("\n")
        }
        Reply::Reach(rows) => {
            let mut table = Table::new(["FROM", "TO", "BY", "NOW"]);
            for row in rows {
                let now = if row.granted { "open" } else { "closed" };
                table.row([row.from.clone(), row.to.clone(), row.by.clone(), now.into()]);
            }
            table.to_string()
        }
        Reply::Check(items) => {
            let line = |item: &nonstop_api::CheckItem| {
                let mark = if item.good { "good   " } else { "MISSING" };
                let help =
                    if item.good { String::new() } else { format!("\n        {}", item.help) };
                format!("{mark} {}: {}{help}", item.what, plain(&item.found))
            };
            items.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Reply::Stats(s) => [
            format!("active accounts     {}", s.accounts),
            format!("environments        {}", s.environments),
            format!("running machines    {}", s.machines),
            format!("open sessions       {}", s.sessions),
            format!("memory granted      {} of {} MiB", s.memory_mib, s.capacity_memory_mib),
            format!("quarantined         {}", s.quarantined),
            format!("rows of trace       {}", s.trace_rows),
        ]
        .join("\n"),
    }
}

fn requests(all: &[RequestView]) -> String {
    let mut table = Table::new(["REQUEST", "ACCOUNT", "TEMPLATE", "STATE", "PERIOD", "PURPOSE"]);
    for r in all {
        let state = match &r.state {
            RequestState::Open => "open".to_string(),
            RequestState::Approved { environment, .. } => format!("approved: {environment}"),
            RequestState::Refused { reason, .. } => format!("refused: {reason}"),
        };
        table.row([
            r.id.to_string(),
            r.account.to_string(),
            r.template.as_str().into(),
            state,
            period(&r.period),
            r.purpose.clone(),
        ]);
    }
    table.to_string()
}

fn environment(e: &EnvironmentView) -> String {
    let mut lines = vec![
        format!("{}  {}  of {}: {}", e.id, e.template.as_str(), e.account, word(&e.state)),
        format!("  {}", plain(&e.title)),
        format!("  {}", period(&e.period)),
    ];
    lines.extend(e.destroy_at.map(|at| format!("  its disks are destroyed at {}", time(at))));
    lines.extend(e.problem.as_ref().map(problem));
    for m in &e.machines {
        let generation = m.generation;
        lines.push(format!("  {} {}: {}, generation {generation}", m.id, m.role, word(&m.state)));
        if let Some(desktop) = &m.desktop {
            let user = desktop.user.as_deref().unwrap_or("-");
            let password = desktop.password.as_deref().unwrap_or("-");
            let (address, port) = (desktop.address, desktop.port);
            lines.push(format!("    desktop {address}:{port}, user {user}, password {password}"));
        }
    }
    lines.join("\n")
}

fn problem(problem: &Problem) -> String {
    let help =
        if problem.help.is_empty() { String::new() } else { format!("\n    {}", problem.help) };
    format!("  in the way: {}{help}", plain(&problem.message))
}

fn period(period: &Period) -> String {
    format!("{} to {}", time(period.from()), time(period.until()))
}

/// A time to the second.
fn time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_reads_like_a_sheet() {
        let json = serde_json::json!({
            "reply": "environment", "value": {
                "id": "e1", "account": "alice", "template": "macro", "title": "Linux", "title_ja": "",
                "period": { "from": "2030-01-01T00:00:00Z", "until": "2030-01-02T00:00:00Z" },
                "state": "preparing", "destroy_at": null, "rdp": "guest",
                "problem": { "message": "start m1: no memory", "help": "end another environment" },
                "machines": [{
                    "id": "m1", "role": "analyst", "power": "on", "state": "starting",
                    "address": "10.77.0.2", "generation": 1,
                    "desktop": { "address": "10.77.0.2", "port": 3389, "user": "researcher",
                                 "password": "secret" },
                }],
            },
        });
        let reply: Reply = serde_json::from_value(json).expect("a reply");
        insta::assert_snapshot!(render(&reply), @r"
        e1  macro  of alice: preparing
          Linux
          2030-01-01 00:00:00Z to 2030-01-02 00:00:00Z
          in the way: start m1: no memory
            end another environment
          m1 analyst: starting, generation 1
            desktop 10.77.0.2:3389, user researcher, password secret
        ");
    }
}

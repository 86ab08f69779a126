//! Replies as text for people. Pure: what it says is reviewed as snapshots.

use crate::{
    data::show as data,
    desktop::show as desktop,
    export::show as export,
    gateway, import,
    sample::show as sample,
    sessions,
    table::{Table, cut, plain},
    trace::show as trace,
    words::{time, word},
};
use nonstop_api::{
    AccountView, CardView, CheckItem, EnvironmentView, Problem, Reply, RequestView, SnapshotView,
};
use nonstop_model::{Bandwidth, Period, RequestState, SegmentKind, SnapshotState};
use unicode_width::UnicodeWidthStr;

fn card_table(cards: &[CardView]) -> Table<8> {
    let columns = ["CARD", "ACCOUNT", "KIND", "STATE", "KEY", "PROVEN", "EXPIRES", "FINGERPRINT"];
    let mut table = Table::new(columns);
    for card in cards {
        let state = if card.expired { "expired".into() } else { word(&card.state) };
        table.row([
            card.id.to_string(),
            card.account.to_string(),
            word(&card.kind),
            state,
            card.algorithm.map_or("-".into(), |algorithm| algorithm.to_string()),
            if card.proven { "yes" } else { "no" }.into(),
            card.expires_at.map_or("never".into(), |end| end.strftime("%F").to_string()),
            card.fingerprint.clone().unwrap_or("-".into()),
        ]);
    }
    table
}

/// An edition, or a dash.
fn or_none(edition: &Option<String>) -> String {
    edition.as_deref().map_or("-".into(), plain)
}

/// What somebody may move through the gateway.
fn bandwidth(account: &AccountView) -> String {
    let whose = match account.bandwidth {
        Bandwidth::Default => "the default",
        Bandwidth::Unlimited | Bandwidth::Kbit(_) => "set for this account",
    };
    match account.bandwidth_kbit {
        Some(kbit) => format!("{kbit} kbit/s each way, {whose}"),
        None => format!("no limit, {whose}"),
    }
}

/// `reply` as text; tables at most `width` columns wide.
pub(crate) fn render(reply: &Reply, width: Option<usize>) -> String {
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
            let from = if a.from_anywhere() { "anywhere".into() } else { sources.join(", ") };
            [
                format!("{} ({})", a.name, plain(&a.full_name)),
                format!("affiliation  {}", plain(&a.affiliation)),
                format!("role         {}", word(&a.role)),
                format!("edition      {}", or_none(&a.edition)),
                format!("state        {}", word(&a.state)),
                format!("comes from   {from}"),
                format!("bandwidth    {}", bandwidth(a)),
                format!("address      {} (uid {})", a.address, a.uid),
                match a.keys.as_slice() {
                    [] => "cards        none that logs in: `nonstop card issue`".into(),
                    keys => format!("cards        {}", keys.join("\n             ")),
                },
            ]
            .join("\n")
        }
        Reply::Accounts(accounts) => {
            let columns = ["ACCOUNT", "ROLE", "EDITION", "STATE", "CARDS", "NAME", "AFFILIATION"];
            let mut table = Table::new(columns);
            for a in accounts {
                table.row([
                    a.name.to_string(),
                    word(&a.role),
                    or_none(&a.edition),
                    word(&a.state),
                    a.keys.len().to_string(),
                    a.full_name.clone(),
                    a.affiliation.clone(),
                ]);
            }
            table.text(width)
        }
        Reply::Cards(cards) => card_table(cards).text(width),
        Reply::Card(card) => card_table(std::slice::from_ref(card)).text(width),
        Reply::CardBegun(begun) => format!("{} begun", begun.card),
        Reply::CardCertified(certified) => certified.fingerprint.clone(),
        Reply::CardPuk(puk) => puk.puk.clone(),
        Reply::Profile(file) | Reply::Receipt(file) | Reply::Record(file) => file.trim_end().into(),
        Reply::Exports(all) => export::listed(all, jiff::Timestamp::now(), width),
        Reply::Export(one) => export::sheet(one),
        Reply::Preview(seen) => export::preview(seen, width),
        Reply::Imports(all) => import::listed(all, width),
        Reply::Samples(page) => sample::listed(page, width),
        Reply::Injection(one) => sample::sheet(one),
        Reply::Injections(all) => sample::injections(all, width),
        Reply::Heads(all) => trace::heads(all, width),
        Reply::Templates(templates) => {
            let columns = ["TEMPLATE", "EDITION", "DESKTOP", "MACHINES", "MIB", "TITLE", "PROBLEM"];
            let mut table = Table::new(columns);
            for t in templates {
                let roles: Vec<_> = t.machines.iter().map(ToString::to_string).collect();
                table.row([
                    t.name.as_str().into(),
                    t.edition.clone().unwrap_or_else(|| "all".into()),
                    word(&t.rdp),
                    roles.join(", "),
                    t.memory_mib.to_string(),
                    t.title.clone(),
                    t.problem.as_ref().map_or(String::new(), |p| p.message.clone()),
                ]);
            }
            table.text(width)
        }
        Reply::Request(request) => requests(std::slice::from_ref(request), None),
        Reply::Requests(all) => requests(all, width),
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
                    minutes(&e.period),
                    e.problem.as_ref().map_or(String::new(), |p| p.message.clone()),
                ]);
            }
            table.text(width)
        }
        Reply::HostKeys(keys) => gateway::host_keys(keys, width),
        Reply::SourcesRefused(all) => gateway::refused(all, width),
        Reply::Sessions(all) => sessions::listed(all, width),
        Reply::RefusedLogins(refused) => sessions::refused(refused, width),
        Reply::Snapshots(all) => snapshots(all, width),
        Reply::DesktopSessions(all) => desktop::sessions(all, width),
        Reply::Views(all) => desktop::views(all, width),
        Reply::Recordings(all) => desktop::recordings(all, width),
        Reply::Recording(one) => desktop::recordings(std::slice::from_ref(one), width),
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
            table.text(width)
        }
        Reply::TraceVerified(found) => match found.broken_at {
            None => format!("{} rows, whole; head {}", found.rows, found.head),
            Some(row) => format!("broken at row {row}; {} rows were looked at", found.rows),
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
            table.text(width)
        }
        Reply::DataDomains(all) => data::listed(all, width),
        Reply::Proof(_)
        | Reply::Probe(_)
        | Reply::Begun(_)
        | Reply::Publications(_)
        | Reply::Offers(_) => String::new(),
        Reply::Clock(clock) => sessions::clock(clock),
        Reply::Check(items) => check(items),
        Reply::Stats(s) => [
            format!("active accounts     {}", s.accounts),
            format!("environments        {}", s.environments),
            format!("running machines    {}", s.machines),
            format!("open sessions       {}", s.sessions),
            format!("memory granted      {} of {} MiB", s.memory_mib, s.capacity_memory_mib),
            format!("quarantined         {}", s.quarantined),
            format!("rows of trace       {}", s.trace_rows),
            format!(
                "refused logins      {} in a day, repeated by {}",
                s.refused_logins, s.repeated_refusals
            ),
            sessions::logins(&s.logins),
        ]
        .join("\n"),
    }
}

/// What was checked: what is good in one line, what is missing with the way to mend it.
pub(crate) fn check(items: &[CheckItem]) -> String {
    let widest = items.iter().map(|item| item.what.width()).max().unwrap_or(0);
    let line = |item: &CheckItem| {
        let mark = if item.good { "ok     " } else { "MISSING" };
        let gap = " ".repeat(widest - item.what.width());
        let help = match item.good || item.help.is_empty() {
            true => String::new(),
            false => format!("\n         mend it: {}", plain(&item.help)),
        };
        format!("{mark}  {}{gap}  {}{help}", item.what, plain(&item.found))
    };
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn requests(all: &[RequestView], width: Option<usize>) -> String {
    let mut table = Table::new(["REQUEST", "ACCOUNT", "TEMPLATE", "STATE", "PERIOD", "PURPOSE"]);
    for r in all {
        let state = match &r.state {
            RequestState::Open => "open".to_string(),
            RequestState::Approved { environment, .. } => format!("approved: {environment}"),
            RequestState::Refused { reason, .. } => cut(&format!("refused: {reason}"), 32),
        };
        table.row([
            r.id.to_string(),
            r.account.to_string(),
            r.template.as_str().into(),
            state,
            minutes(&r.period),
            r.purpose.clone(),
        ]);
    }
    table.text(width)
}

fn snapshots(all: &[SnapshotView], width: Option<usize>) -> String {
    let mut table = Table::new(["SNAPSHOT", "TAKEN", "MACHINES", "MIB", "STATE"]);
    for s in all {
        let machines = s.machines.iter().map(|m| match m.memory {
            true => format!("{} with memory", m.role),
            false => m.role.to_string(),
        });
        let state = match &s.state {
            SnapshotState::Taking => "being taken".into(),
            SnapshotState::Whole => "whole".into(),
            SnapshotState::Failed { why } => format!("failed: {why}"),
            SnapshotState::Deleted => "deleted".into(),
        };
        table.row([
            s.name.to_string(),
            time(s.asked_at),
            machines.collect::<Vec<_>>().join(", "),
            s.bytes.div_ceil(1 << 20).to_string(),
            state,
        ]);
    }
    table.text(width)
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
        let networks = m.networks.iter().map(|kind| match (kind, m.address) {
            (SegmentKind::Access, Some(address)) => format!("access as {address}"),
            (kind, _) => kind.to_string(),
        });
        let networks: Vec<_> = networks.collect();
        if !networks.is_empty() {
            lines.push(format!("    on {}", networks.join(", ")));
        }
        if !m.reach.is_empty() {
            lines.push(format!("    reaches {}", m.reach.join(", ")));
        }
        lines.extend(m.import.as_ref().map(|folder| format!("    samples into {}", plain(folder))));
        if let Some(desktop) = &m.desktop {
            let user = desktop.user.as_deref().unwrap_or("-");
            let password = desktop.password.as_deref().unwrap_or("-");
            let (address, port) = (desktop.address, desktop.port);
            lines.push(match &desktop.fingerprint {
                Some(fingerprint) => {
                    format!("    desktop {address}:{port}, certificate sha256:{fingerprint}")
                }
                None => {
                    format!("    desktop {address}:{port}, user {user}, password {password}")
                }
            });
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

/// A period for a table: to the minute.
fn minutes(period: &Period) -> String {
    let minute = |at: jiff::Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
    format!("{} to {}Z", minute(period.from()), minute(period.until()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shown(kind: &str, value: Value) -> String {
        let reply = serde_json::from_value(json!({ "reply": kind, "value": value }));
        render(&reply.expect("a reply"), Some(100))
    }

    fn environment() -> Value {
        json!({
            "id": "e1", "account": "alice", "template": "macro", "title": "Linux", "title_ja": "",
            "period": { "from": "2030-01-01T00:00:00Z", "until": "2030-01-02T00:00:00Z" },
            "state": "preparing", "destroy_at": null, "rdp": "guest",
            "problem": { "message": "start m1: no memory", "help": "end another environment" },
            "machines": [{
                "id": "m1", "role": "analyst", "power": "on", "state": "starting",
                "address": "10.77.0.2", "networks": ["access", "link"], "generation": 1,
                "reach": ["reports", "airlock"], "import": "/home/researcher/Import",
                "desktop": { "address": "10.77.0.2", "port": 3389, "user": "researcher",
                             "password": "secret" },
            }],
        })
    }

    fn account(name: &str, full_name: &str) -> Value {
        json!({
            "name": name, "full_name": full_name, "affiliation": "Example University",
            "role": "researcher", "edition": "intermediate", "state": "active",
            "sources": ["192.0.2.0/24"],
            "keys": ["SHA256:abc", "SHA256:def"], "uid": 70001, "address": "127.64.0.1",
            "bandwidth": "default", "bandwidth_kbit": 10000,
            "added_at": "2030-01-01T00:00:00Z",
        })
    }

    #[test]
    fn an_environment_reads_like_a_sheet() {
        insta::assert_snapshot!(shown("environment", environment()));
    }

    #[test]
    fn no_list_shows_a_password() {
        let list = shown("environments", json!([environment()]));
        insta::assert_snapshot!(list);
        assert!(!list.contains("secret"));
    }

    #[test]
    fn accounts_line_up_whatever_the_language() {
        let both = json!([account("alice", "Alice Example"), account("sato", "佐藤 花子")]);
        insta::assert_snapshot!(shown("accounts", both));
        insta::assert_snapshot!(shown("account", account("alice", "Alice\u{1b}[2J Example")));
    }

    #[test]
    fn requests_say_what_became_of_them() {
        let request = |id: &str, state: Value| {
            let mut value = json!({
                "id": id, "account": "alice", "template": "macro",
                "period": { "from": "2030-01-01T00:00:00Z", "until": "2030-01-02T00:00:00Z" },
                "purpose": "scans on 23/tcp since the new botnet appeared\nand others",
                "made_at": "2029-12-31T00:00:00Z",
            });
            for (name, field) in state.as_object().expect("an object") {
                value[name] = field.clone();
            }
            value
        };
        insta::assert_snapshot!(shown(
            "requests",
            json!([
                request("r3", json!({ "state": "open" })),
                request("r2", json!({ "state": "approved", "by": "sato", "environment": "e1" })),
                request("r1", json!({ "state": "refused", "by": "sato", "reason": "no data" })),
            ])
        ));
    }

    #[test]
    fn snapshots_say_what_they_hold_and_why_one_failed() {
        insta::assert_snapshot!(shown(
            "snapshots",
            json!([
                { "id": "s1", "environment": "e1", "name": "before", "state": "whole",
                  "asked_at": "2030-01-01T00:00:00Z", "bytes": 130_000_000,
                  "machines": [
                      { "machine": "m1", "role": "debugger", "memory": true, "bytes": 1 },
                      { "machine": "m2", "role": "debuggee", "memory": false, "bytes": 1 },
                  ] },
                { "id": "s2", "environment": "e1", "name": "later", "state": "failed",
                  "why": "no space", "asked_at": "2030-01-01T01:00:00Z", "bytes": 0,
                  "machines": [] },
            ])
        ), @r"
        SNAPSHOT  TAKEN                 MACHINES                        MIB  STATE
        before    2030-01-01 00:00:00Z  debugger with memory, debuggee  124  whole
        later     2030-01-01 01:00:00Z                                  0    failed: no space
        ");
    }

    #[test]
    fn what_is_missing_stands_out_with_the_way_to_mend_it() {
        insta::assert_snapshot!(shown(
            "check",
            json!([
                { "what": "sshd", "good": true, "found": "/usr/sbin/sshd", "help": "install it" },
                { "what": "image desktop", "good": false, "found": "not built",
                  "help": "run `nonstop image build desktop`" },
            ])
        ));
    }

    #[test]
    fn the_rest_reads_well() {
        let all = [
            shown(
                "me",
                json!({
                    "account": null, "actor": "admin:root",
                    "lab": { "name": "lab", "software_keys": true, "connect": {
                        "host": "gate.example", "port": 22, "host_key": "ssh-ed25519 AAAA",
                        "fingerprint": "SHA256:abc", "portal_port": 8080 } },
                }),
            ),
            shown(
                "templates",
                json!([
                    { "name": "macro", "title": "macro: Linux", "title_ja": "", "rdp": "guest",
                      "machines": ["analyst"], "memory_mib": 768 },
                ]),
            ),
            shown(
                "sessions",
                json!([
                    { "id": 7, "account": "alice", "source": "192.0.2.1", "key": "SHA256:abc",
                      "opened_at": "2030-01-01T00:00:00Z", "closed_at": null },
                ]),
            ),
            shown(
                "trace",
                json!([
                    { "seq": 1, "at": "2030-01-01T00:00:00Z", "actor": "sato",
                      "action": "request.approve", "subject": "r1", "detail": { "environment": "e1" },
                      "hash": "00" },
                ]),
            ),
            shown("trace_verified", json!({ "rows": 3, "head": "abc", "broken_at": null })),
            shown("trace_verified", json!({ "rows": 3, "head": "abc", "broken_at": 4 })),
            shown("plan", json!({ "steps": [], "problems": [] })),
            shown(
                "plan",
                json!({
                    "steps": ["make segment nsb00001"],
                    "problems": [{ "message": "e1: no memory", "help": "end another" }],
                }),
            ),
            shown(
                "reach",
                json!([
                    { "from": "alice", "to": "portal", "by": "tcp 127.64.0.1:8080", "granted": true },
                ]),
            ),
            shown(
                "stats",
                json!({
                    "accounts": 3, "environments": 1, "machines": 1, "sessions": 2, "memory_mib": 768,
                    "capacity_memory_mib": 4096, "quarantined": 0, "trace_rows": 17,
                }),
            ),
        ];
        insta::assert_snapshot!(all.join("\n\n"));
    }
}

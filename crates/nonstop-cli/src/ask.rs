//! What is asked of the daemon, and waiting for an environment.

use crate::{
    args::{
        AccountVerb, ClockVerb, EnvironmentVerb, HostKeyVerb, LabVerb, Noun, ReachVerb,
        RequestVerb, SessionVerb, SnapshotVerb, TemplateVerb,
    },
    error::CliError,
    print, print_json,
    render::render,
    words::Wait,
};
use jiff::Timestamp;
use nonstop_api::{Client, EnvironmentStateView, EnvironmentView, Problem, Reply, Request};
use nonstop_model::{EnvironmentId, Lab, Period, SnapshotName, SnapshotState};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Asks what `noun` says, and prints the answer.
pub(crate) fn run(lab: &Lab, noun: &Noun, json: bool) -> Result<(), CliError> {
    let client = Client::new(lab.admin_socket());
    let reply = client.call(&request(noun)?)?;
    wait_for_snapshot(&client, noun)?;
    let reply = match (reply, wait(noun)) {
        (Reply::Environment(view), Some(seconds)) => {
            Reply::Environment(wait_until_ready(&client, view.id, seconds)?)
        }
        (Reply::Templates(all), _) => match noun {
            Noun::Template(TemplateVerb::Show { name }) => {
                let one: Vec<_> = all.into_iter().filter(|t| t.name == *name).collect();
                if one.is_empty() {
                    return Err(CliError::NotGood(format!("there is no template `{name}`")));
                }
                Reply::Templates(one)
            }
            _ => Reply::Templates(all),
        },
        (Reply::Environments(mut all), _) => {
            // A list is looked at in company and kept in logs: it shows no secret, to scripts too.
            let machines = all.iter_mut().flat_map(|e| &mut e.machines);
            machines.filter_map(|m| m.desktop.as_mut()).for_each(|d| d.password = None);
            Reply::Environments(all)
        }
        (reply, _) => reply,
    };
    if let (Reply::Profile(file), Noun::Account(AccountVerb::Profile { out: Some(out), .. })) =
        (&reply, noun)
    {
        return std::fs::write(out, file)
            .map_err(|source| CliError::Write { path: out.clone(), source });
    }
    if json {
        let value = serde_json::to_value(&reply).expect("our types have string keys");
        let value = value.get("value").cloned().unwrap_or_else(|| serde_json::json!({}));
        // `show` is about one thing, though the daemon is asked for all.
        let one = matches!(noun, Noun::Template(TemplateVerb::Show { .. }));
        print_json(if one { &value[0] } else { &value });
    } else {
        print(&render(&reply, crate::width()));
    }
    Ok(())
}

fn wait(noun: &Noun) -> Option<u64> {
    match noun {
        Noun::Request(RequestVerb::Approve { wait: Wait { wait }, .. })
        | Noun::Environment(EnvironmentVerb::Show { wait: Wait { wait }, .. }) => *wait,
        _ => None,
    }
}

fn request(noun: &Noun) -> Result<Request, CliError> {
    Ok(match noun {
        Noun::Account(verb) => account(verb)?,
        Noun::Template(_) => Request::TemplateList,
        Noun::Request(verb) => request_verb(verb)?,
        Noun::Environment(verb) => environment(verb),
        Noun::Session(SessionVerb::List { failures: Some(hours), .. }) => {
            Request::RefusedLogins { hours: *hours }
        }
        Noun::Session(SessionVerb::List { all, failures: None }) => {
            Request::SessionList { all: *all }
        }
        Noun::Session(SessionVerb::Refused) => Request::SourcesRefused,
        Noun::Lab(LabVerb::HostKey(HostKeyVerb::Show)) => Request::LabHostKeys,
        Noun::Lab(LabVerb::HostKey(HostKeyVerb::Rotate)) => Request::LabHostKeyRotate,
        Noun::Lab(LabVerb::HostKey(HostKeyVerb::Finish)) => Request::LabHostKeyFinish,
        Noun::Clock(ClockVerb::Show) => Request::ClockShow,
        Noun::Clock(ClockVerb::Confirm) => Request::ClockConfirm,
        Noun::Session(SessionVerb::End { id }) => Request::SessionEnd { id: *id },
        Noun::Reach(ReachVerb::Show) => Request::ReachShow,
        Noun::Plan => Request::Plan,
        Noun::Stats => Request::Stats,
        Noun::Whoami => Request::WhoAmI,
        Noun::Image(_)
        | Noun::Lab(_)
        | Noun::Check
        | Noun::Card(_)
        | Noun::Desktop(_)
        | Noun::Data(_)
        | Noun::Sample(_)
        | Noun::Trace(_)
        | Noun::Export(_)
        | Noun::Import(_)
        | Noun::Reach(ReachVerb::Prove { .. }) => {
            return Err(CliError::Misused("that is answered elsewhere".into()));
        }
    })
}

fn account(verb: &AccountVerb) -> Result<Request, CliError> {
    Ok(match verb {
        AccountVerb::Add { name, role, full_name, affiliation, edition, source, key_file } => {
            Request::AccountAdd {
                name: name.clone(),
                full_name: full_name.clone(),
                affiliation: affiliation.clone(),
                role: *role,
                edition: edition.clone(),
                sources: source.clone(),
                keys: key_file.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
            }
        }
        AccountVerb::List => Request::AccountList,
        AccountVerb::Show { name } => Request::AccountShow { name: name.clone() },
        AccountVerb::Suspend { name, reason, undo } => {
            Request::AccountSuspend { name: name.clone(), suspend: !undo, reason: reason.clone() }
        }
        AccountVerb::Edition { name, edition, reason } => Request::AccountEdition {
            name: name.clone(),
            edition: edition.clone(),
            reason: reason.clone(),
        },
        AccountVerb::Bandwidth { name, bandwidth, reason } => Request::AccountBandwidth {
            name: name.clone(),
            bandwidth: *bandwidth,
            reason: reason.clone(),
        },
        AccountVerb::Sources { name, sources, reason } => Request::AccountSources {
            name: name.clone(),
            sources: sources.clone(),
            reason: reason.clone(),
        },
        AccountVerb::Profile { name, .. } => Request::ProfileShow { account: Some(name.clone()) },
        AccountVerb::Remove { name } => Request::AccountRemove { name: name.clone() },
    })
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|source| CliError::Read { path: path.to_path_buf(), source })
}

fn request_verb(verb: &RequestVerb) -> Result<Request, CliError> {
    Ok(match verb {
        RequestVerb::Apply { account, template, hours, from, until, purpose } => {
            let from = from.unwrap_or_else(Timestamp::now);
            let length = Duration::from_secs(u64::from(hours.unwrap_or(0)) * 3600);
            let until = until.unwrap_or_else(|| from.saturating_add(length).unwrap_or(from));
            let period = Period::new(from, until).map_err(|e| CliError::Misused(e.to_string()))?;
            Request::RequestApply {
                account: Some(account.clone()),
                template: template.clone(),
                period,
                purpose: purpose.clone(),
            }
        }
        RequestVerb::List => Request::RequestList,
        RequestVerb::Approve { id, .. } => Request::RequestApprove { id: *id },
        RequestVerb::Refuse { id, reason } => {
            Request::RequestRefuse { id: *id, reason: reason.clone() }
        }
    })
}

fn environment(verb: &EnvironmentVerb) -> Request {
    match verb {
        EnvironmentVerb::List { all } => Request::EnvironmentList { all: *all },
        EnvironmentVerb::Show { id, .. } => Request::EnvironmentShow { id: *id },
        EnvironmentVerb::Power { id, action, machine } => {
            Request::EnvironmentPower { id: *id, role: *machine, action: *action }
        }
        EnvironmentVerb::Revert { id, machine } => {
            Request::EnvironmentRevert { id: *id, role: *machine }
        }
        EnvironmentVerb::Snapshot(verb) => snapshot(verb),
        EnvironmentVerb::Extend { id, until } => {
            Request::EnvironmentExtend { id: *id, until: *until }
        }
        EnvironmentVerb::End { id } => Request::EnvironmentEnd { id: *id },
    }
}

fn snapshot(verb: &SnapshotVerb) -> Request {
    match verb {
        SnapshotVerb::Take { id, name, machine, .. } => {
            Request::SnapshotTake { id: *id, name: name.clone(), role: *machine }
        }
        SnapshotVerb::List { id } => Request::SnapshotList { id: *id },
        SnapshotVerb::Return { id, name, machine, .. } => {
            Request::SnapshotReturn { id: *id, name: name.clone(), role: *machine }
        }
        SnapshotVerb::Delete { id, name } => {
            Request::SnapshotDelete { id: *id, name: name.clone() }
        }
    }
}

/// Waits for what was asked for, where that is wanted.
fn wait_for_snapshot(client: &Client, noun: &Noun) -> Result<(), CliError> {
    match noun {
        Noun::Environment(EnvironmentVerb::Snapshot(SnapshotVerb::Take {
            id,
            name,
            wait: Some(seconds),
            ..
        })) => wait_until_taken(client, *id, name, *seconds),
        Noun::Environment(EnvironmentVerb::Snapshot(SnapshotVerb::Return {
            id,
            wait: Some(seconds),
            ..
        })) => wait_until_ready(client, *id, *seconds).map(drop),
        _ => Ok(()),
    }
}

fn wait_until_taken(
    client: &Client,
    id: EnvironmentId,
    name: &SnapshotName,
    seconds: u64,
) -> Result<(), CliError> {
    let started = Instant::now();
    loop {
        let Reply::Snapshots(all) = client.call(&Request::SnapshotList { id })? else {
            return Err(CliError::NotGood("nonstopd answered something else".into()));
        };
        match all.into_iter().find(|s| s.name == *name).map(|s| s.state) {
            Some(SnapshotState::Whole) => return Ok(()),
            Some(SnapshotState::Failed { why }) => {
                return Err(CliError::Refused {
                    message: format!("the snapshot `{name}` could not be taken: {why}"),
                    help: None,
                });
            }
            Some(SnapshotState::Deleted) | None => {
                return Err(CliError::NotGood(format!("the snapshot `{name}` was deleted")));
            }
            Some(SnapshotState::Taking) => {}
        }
        if started.elapsed() > Duration::from_secs(seconds) {
            return Err(CliError::NotGood(format!("`{name}` is not taken after {seconds} s")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How long the same problem may stay before waiting is given up; the daemon tries again at
/// least every 15 s.
const PROBLEM_STAYS: Duration = Duration::from_secs(60);

/// Shows on stderr how far `id` is, until it is ready, has ended, or a problem stays.
fn wait_until_ready(
    client: &Client,
    id: EnvironmentId,
    seconds: u64,
) -> Result<EnvironmentView, CliError> {
    let started = Instant::now();
    let mut said = String::new();
    let mut trouble: Option<(Problem, Instant)> = None;
    loop {
        let Reply::Environment(view) = client.call(&Request::EnvironmentShow { id })? else {
            return Err(CliError::NotGood("nonstopd answered something else".into()));
        };
        let machines: Vec<_> = view
            .machines
            .iter()
            .map(|m| format!("{} {}", m.role, crate::words::word(&m.state)))
            .collect();
        let line = match &view.problem {
            Some(problem) => format!("{id}: {}", problem.message),
            None => format!("{id}: {}", machines.join(", ")),
        };
        let line = crate::table::plain(&line);
        if line != said {
            eprintln!("{:5.1} s  {line}", started.elapsed().as_secs_f32());
            said = line;
        }
        match view.state {
            EnvironmentStateView::Ready => return Ok(view),
            EnvironmentStateView::Ended | EnvironmentStateView::Gone => {
                return Err(CliError::NotGood(format!("{id} has ended")));
            }
            EnvironmentStateView::Waiting | EnvironmentStateView::Preparing => {}
        }
        trouble = match (trouble, view.problem) {
            (Some((old, since)), Some(new)) if old == new => Some((old, since)),
            (_, new) => new.map(|problem| (problem, Instant::now())),
        };
        if let Some((problem, since)) = &trouble
            && since.elapsed() > PROBLEM_STAYS
        {
            return Err(CliError::Refused {
                message: format!("{id} is not ready: {}", problem.message),
                help: (!problem.help.is_empty()).then(|| problem.help.clone()),
            });
        }
        if started.elapsed() > Duration::from_secs(seconds) {
            return Err(CliError::NotGood(format!("{id} is not ready after {seconds} s: {said}")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

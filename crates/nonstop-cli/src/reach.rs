//! `nonstop reach prove`: the proof that the daemon makes, or one made here without it.

use crate::{error::CliError, print, print_json, table::plain, words::time};
use nonstop_api::{CallError, Client, ErrorCode, ProofColour, ProofView, Reply, Request};
use nonstop_model::Lab;
use nonstop_reach::{
    Proof,
    observe::{self, Network},
    probe::Report,
    prove,
    wanted::Saved,
};
use serde_json::json;
use std::{
    fs::{self, File},
    io::{BufReader, IsTerminal},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// How long the daemon may take: a huge lab is proven in a minute.
const PATIENCE: Duration = Duration::from_secs(600);

/// After so long something is said about it.
const TALK: Duration = Duration::from_secs(1);

/// Between the two readings of a proof made here.
const BETWEEN: Duration = Duration::from_millis(300);

/// Proves, prints the proof, and fails unless it holds.
pub(crate) fn run(lab: &Lab, local: bool, probe: bool, json: bool) -> Result<(), CliError> {
    // The proof comes after the probe, so that what was changed meanwhile is in it.
    let probed = if probe { Some(self::probe(lab)?) } else { None };
    let made =
        with_talk(
            "proving what may talk to what",
            || {
                if local { here(lab) } else { by_daemon(lab) }
            },
        )?;
    if json {
        let mut value = made.json();
        if let Some(report) = &probed {
            value["probe"] = serde_json::to_value(report).expect("a report has string keys");
        }
        print_json(&value);
    } else {
        print(&made.text());
        if let Some(report) = &probed {
            print(&format!("\nPROBED\n{}", report.table()));
        }
    }
    match made.colour() {
        ProofColour::Green if probed.as_ref().is_some_and(|report| !report.holds) => {
            Err(CliError::NotGood("the probe shows something else than what the lab wants".into()))
        }
        ProofColour::Green => Ok(()),
        ProofColour::Red if made.proof.holds => Err(CliError::NotGood(
            "it holds again, but did not at the first look: see what is gone meanwhile".into(),
        )),
        ProofColour::Red => {
            Err(CliError::NotGood("what gets through is not what the lab wants".into()))
        }
        ProofColour::Unproven => {
            Err(CliError::NotGood("it is not proven what gets through".into()))
        }
    }
}

/// A proof, and what the daemon says about it.
struct Made {
    proof: Proof,
    /// None for one made here.
    view: Option<ProofView>,
    /// Since when what is wanted is as it was taken from the daemon's file.
    wanted_at: Option<String>,
    /// Of a proof made here: what differed at the first reading alone.
    passing: Vec<String>,
    took: Duration,
}

impl Made {
    fn colour(&self) -> ProofColour {
        match &self.view {
            Some(view) => view.colour,
            None if !self.proof.differences.is_empty() => ProofColour::Red,
            None if self.proof.holds => ProofColour::Green,
            None => ProofColour::Unproven,
        }
    }

    fn json(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(&self.proof).expect("a proof has string keys");
        value["colour"] = json!(self.colour());
        value["holds"] = json!(self.colour() == ProofColour::Green);
        value["took_ms"] = json!(self.took.as_millis() as u64);
        value["count"] = json!(self.proof.count());
        if let Some(view) = &self.view {
            value["at"] = json!(view.at);
            value["took_ms"] = json!(view.took_ms);
            value["passing"] = json!(view.passing);
            value["drifts"] = json!(view.drifts);
        }
        if let Some(at) = &self.wanted_at {
            value["wanted_at"] = json!(at);
            value["at_first_alone"] = json!(self.passing);
        }
        value
    }

    fn text(&self) -> String {
        // What the kernel's names hold is not for a terminal to act on.
        let table = self.proof.table();
        let mut text: String = table.lines().map(|line| plain(line) + "\n").collect();
        if !self.proof.stand_ins.is_empty() {
            let names = plain(&self.proof.stand_ins.join(", "));
            text += &format!("\nOnly a listener stands for: {names}\n");
        }
        let Some(view) = &self.view else {
            if !self.passing.is_empty() {
                text += "\nAT THE FIRST LOOK ALONE (put right, or just being changed)\n";
            }
            self.passing.iter().for_each(|what| text += &format!("  {}\n", plain(what)));
            let at = self.wanted_at.as_deref().unwrap_or_default();
            text += &format!(
                "\nProven here, without the daemon, in {} ms, beside what it has wanted since {at}\n",
                self.took.as_millis()
            );
            return text;
        };
        if !view.passing.is_empty() {
            text += "\nGONE MEANWHILE\n";
        }
        for passing in &view.passing {
            let (seen, gone) = (second(passing.seen_at), second(passing.gone_by));
            text += &format!("  was there at {seen}, gone by {gone}: {}\n", plain(&passing.what));
        }
        if !view.drifts.is_empty() {
            text += "\nPUT RIGHT LATELY\n";
        }
        for drift in &view.drifts {
            text += &format!("  {}: {}\n", second(drift.at), plain(&drift.what));
        }
        text + &format!("\nProven at {} in {} ms\n", time(view.at), view.took_ms)
    }
}

fn second(at: jiff::Timestamp) -> String {
    at.strftime("%H:%M:%S.%3fZ").to_string()
}

fn by_daemon(lab: &Lab) -> Result<Made, CliError> {
    let begun = Instant::now();
    let client = Client::new(lab.admin_socket()).timeout(PATIENCE);
    let (reply, file) = client.call_for_file(&Request::ReachProve)?;
    let Reply::Proof(Some(view)) = reply else { return Err(CliError::Otherwise) };
    let proof = serde_json::from_reader(BufReader::new(File::from(file)))
        .map_err(|e| CliError::Broke(e.into()))?;
    let (wanted_at, passing) = (None, Vec::new());
    Ok(Made { proof, view: Some(view), wanted_at, passing, took: begun.elapsed() })
}

/// Has the isolation probed, or waits for a probe that is running, and tells how far it is.
fn probe(lab: &Lab) -> Result<Report, CliError> {
    let client = Client::new(lab.admin_socket()).timeout(PATIENCE);
    match client.call(&Request::ReachProbe) {
        Ok(_) => {}
        Err(CallError::Refused(e)) if e.code == ErrorCode::Conflict => {
            eprintln!("a probe is running already; this is how it goes");
        }
        Err(e) => return Err(e.into()),
    }
    let (terminal, mut said) = (std::io::stderr().is_terminal(), String::new());
    loop {
        let Reply::Probe(view) = client.call(&Request::ReachProbed)? else {
            return Err(CliError::Otherwise);
        };
        if view.since.is_some() {
            if view.how_far != said {
                match terminal {
                    true => eprint!("\rprobing: {:60}", view.how_far),
                    false => eprintln!("probing: {}", view.how_far),
                }
                said = view.how_far;
            }
            thread::sleep(Duration::from_millis(300));
            continue;
        }
        if terminal {
            eprintln!();
        }
        if let Some(problem) = view.last.and_then(|last| last.problem) {
            return Err(CliError::NotGood(format!("{} ({})", problem.message, problem.help)));
        }
        let (_, file) = client.call_for_file(&Request::ReachProbed)?;
        return serde_json::from_reader(BufReader::new(File::from(file)))
            .map_err(|e| CliError::Broke(e.into()));
    }
}

/// Reads the kernel here. What differs counts if it still does a moment later, beside what is
/// wanted then: a daemon that runs may be changing it.
fn here(lab: &Lab) -> Result<Made, CliError> {
    let begun = Instant::now();
    let (mut saved, mut proof) = reading(lab)?;
    let mut passing = Vec::new();
    if !proof.holds {
        thread::sleep(BETWEEN);
        let first = proof;
        (saved, proof) = reading(lab)?;
        passing = first.differences;
        passing.retain(|what| !proof.differences.contains(what));
    }
    Ok(Made { proof, view: None, wanted_at: Some(saved.at), passing, took: begun.elapsed() })
}

fn reading(lab: &Lab) -> Result<(Saved, Proof), CliError> {
    let path = lab.wanted();
    let json = match fs::read(&path) {
        Ok(json) => json,
        Err(source) => return Err(CliError::NotWanted { path, source }),
    };
    let saved: Saved = serde_json::from_slice(&json)
        .map_err(|e| CliError::NotWanted { path, source: e.into() })?;
    let kernel = observe::kernel(Network::Ours).map_err(CliError::Kernel)?;
    let proof = prove(&kernel, &saved.wanted).map_err(|e| CliError::NotGood(e.to_string()))?;
    Ok((saved, proof))
}

/// Does `work`, and says on stderr that it goes on if it takes a while.
fn with_talk<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (done, told) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let (begun, terminal) = (Instant::now(), std::io::stderr().is_terminal());
            let mut said = false;
            while told.recv_timeout(TALK) == Err(RecvTimeoutError::Timeout) {
                let seconds = begun.elapsed().as_secs();
                match (terminal, said) {
                    (true, _) => eprint!("\r{what}: {seconds} s "),
                    (false, false) => eprintln!("{what} …"),
                    (false, true) => {}
                }
                said = true;
            }
            if terminal && said {
                eprintln!();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_api::{DriftView, PassingView};
    use nonstop_reach::{matrix::Cell, question::What};

    fn proof() -> Proof {
        let cell = |to: &str, allowed: &str, reachable: &str| Cell {
            from: "e1/analyst".into(),
            to: to.into(),
            what: What::Tcp,
            allowed: allowed.into(),
            reachable: reachable.into(),
            not_proven: None,
            agrees: allowed == reachable,
            rule: "inet nonstop to_server #2: accept".into(),
        };
        Proof {
            holds: false,
            cells: vec![
                cell("intermediate/pcap", "tcp 80", "tcp 80"),
                cell("e2/analyst", "-", "tcp 22"),
            ],
            differences: vec!["unknown port evil\u{1b}[2J on nsl00001".into()],
            stand_ins: vec!["airlock".into(), "intermediate/pcap".into()],
            ..Proof::default()
        }
    }

    fn view(colour: ProofColour) -> ProofView {
        let at = "2030-01-01T03:29:20.1Z".parse().expect("a time");
        ProofView {
            colour,
            at,
            took_ms: 412,
            cells: 2,
            machines: 2,
            differences: Vec::new(),
            not_proven: Vec::new(),
            passing: vec![PassingView {
                what: "unknown bridge nsb00009".into(),
                seen_at: at,
                gone_by: "2030-01-01T03:29:20.9Z".parse().expect("a time"),
            }],
            drifts: vec![DriftView { at, what: "address 10.5.5.1/24 was put on nsl00001".into() }],
            open: Vec::new(),
            closed: Vec::new(),
            between: Vec::new(),
            stand_ins: Vec::new(),
            left_out: 0,
        }
    }

    #[test]
    fn a_proof_is_told_with_what_is_gone_and_what_was_put_right() {
        let took = Duration::from_millis(412);
        let made = Made {
            proof: proof(),
            view: Some(view(ProofColour::Red)),
            wanted_at: None,
            passing: Vec::new(),
            took,
        };
        insta::assert_snapshot!(made.text());
        let json = made.json();
        assert_eq!((&json["holds"], &json["colour"]), (&json!(false), &json!("red")));
        assert_eq!(json["passing"][0]["what"], "unknown bridge nsb00009");
        assert!(!made.text().contains('\u{1b}'), "a terminal acts on none of it");
    }

    #[test]
    fn what_the_daemon_saw_pass_by_fails_although_it_holds_now() {
        let proof = Proof { holds: true, ..Proof::default() };
        let here = Made {
            proof,
            view: None,
            wanted_at: Some("2030-01-01T03:29:20Z".into()),
            passing: vec!["unknown bridge nsb00009".into()],
            took: Duration::ZERO,
        };
        assert_eq!(here.colour(), ProofColour::Green);
        insta::assert_snapshot!(here.text());
        let by_daemon = Made { view: Some(view(ProofColour::Red)), ..here };
        assert_eq!(by_daemon.colour(), ProofColour::Red);
        assert_eq!(by_daemon.json()["holds"], false);
    }
}

//! `nonstop trace verify`: rows, from the daemon or a copied database, held against their chain, and
//! against what was signed of them and kept elsewhere.

use super::{VerifyArgs, show};
use crate::{error::CliError, print, print_json};
use nonstop_api::{Client, Reply, Request};
use nonstop_model::Lab;
use nonstop_profile::Fingerprint;
use nonstop_trace::{
    Contents, Copy, CopyError, Evidence, Fault, Head, Report, Verifier,
    stream::{self, Item},
};
use std::{
    fs::File,
    io::{self, BufReader, IsTerminal},
    path::Path,
    time::{Duration, Instant},
};

/// Where heads stand that the trace's own database holds.
const OWN: &str = "the lab's own database";

/// A copied database, without lab and daemon.
pub(super) fn offline(args: &VerifyArgs, json: bool) -> Result<(), CliError> {
    let path = args.database.as_deref().expect("asked for by the caller");
    if args.authority.is_empty() {
        return Err(CliError::Misused(
            "whose signatures count? Name `--authority SHA256:...` as it was written down elsewhere, \
             such as in a PIN letter or on the lab's pages"
                .into(),
        ));
    }
    if args.files && args.state.is_none() {
        let message =
            "where do the bytes lie? Name `--state FOLDER`, which holds `trace` and `quarantine`";
        return Err(CliError::Misused(message.into()));
    }
    let contents = args.state.as_deref().map(Contents::list);
    let copy = Copy::open(path).map_err(|e| copied(path, e))?;
    let mut evidence = Evidence::new(args.authority.clone(), Some(copy.lab().into()));
    let mut own = Own::default();
    copy.heads(|_, head| own.take(head, &args.authority)).map_err(|e| copied(path, e))?;
    gather(args, own, &mut evidence);
    let mut check = Check::new(&evidence, contents, 0);
    copy.rows(|row| check.row(row)).map_err(|e| copied(path, e))?;
    check.end(json)
}

/// The lab's own trace, as its daemon hands it over.
pub(super) fn online(
    lab: &Lab,
    client: &Client,
    args: &VerifyArgs,
    json: bool,
) -> Result<(), CliError> {
    let contents = args.files.then(|| Contents::list(args.state.as_deref().unwrap_or(&lab.state)));
    let mut trusted = args.authority.clone();
    if trusted.is_empty() {
        let Reply::Me(me) = client.call(&Request::WhoAmI)? else { return Err(CliError::Otherwise) };
        let said = me.lab.authority_fingerprint;
        trusted.push(said.parse().map_err(|_| CliError::Otherwise)?);
    }
    let (_, stream) = client.call_for_file(&Request::TraceStream)?;
    let cut = |source| CliError::Read { path: lab.admin_socket(), source };
    let mut from = BufReader::with_capacity(1 << 16, File::from(stream));
    // Heads come before rows; what was kept elsewhere is read in between.
    let (mut own, mut lab_uuid, mut rows, mut first) = (Own::default(), None, 0, None);
    let begun = read_until_rows(&mut from, |item| match item {
        Item::Lab { uuid, rows: all } => (lab_uuid, rows) = (Some(uuid), all),
        Item::Head { line } => own.take(Head::read(&line).map_err(|e| e.to_string()), &trusted),
        Item::Row(row) => first = Some(row),
        Item::End => {}
    });
    let ended = begun.map_err(cut)?;
    let mut evidence = Evidence::new(trusted, lab_uuid);
    gather(args, own, &mut evidence);
    let mut check = Check::new(&evidence, contents, rows);
    first.iter().for_each(|row| check.row(row));
    if !ended {
        let rest = stream::read(from, |item| {
            if let Item::Row(row) = item {
                check.row(&row);
            }
        });
        rest.map_err(cut)?;
    }
    check.end(json)
}

/// Hands items to `f` up to the first row or the end; true at the end.
fn read_until_rows(from: &mut BufReader<File>, mut f: impl FnMut(Item)) -> io::Result<bool> {
    loop {
        let item = stream::next(&mut *from)?;
        let (row, end) = (matches!(item, Item::Row(_)), item == Item::End);
        f(item);
        if row || end {
            return Ok(end);
        }
    }
}

/// Heads that the trace's own database holds.
#[derive(Default)]
struct Own {
    heads: Vec<Head>,
    refused: Vec<String>,
}

impl Own {
    fn take(&mut self, head: Result<Head, String>, trusted: &[Fingerprint]) {
        match head {
            Ok(head) if trusted.contains(&head.authority().fingerprint()) => self.heads.push(head),
            Ok(head) => {
                let by = head.authority().fingerprint();
                self.refused.push(format!("the head of row {} is signed by {by}", head.seq()));
            }
            Err(why) => self.refused.push(format!("a head in it is none: {why}")),
        }
    }
}

/// Reads what was kept elsewhere, and adds what the lab holds itself.
fn gather(args: &VerifyArgs, own: Own, evidence: &mut Evidence) {
    args.heads.iter().for_each(|path| evidence.read_heads(path));
    args.receipt.iter().for_each(|path| evidence.read_receipt(path));
    evidence.own(&own.heads, own.refused, OWN);
}

fn copied(path: &Path, source: CopyError) -> CliError {
    CliError::Copy { path: path.into(), source }
}

/// A check under way.
struct Check<'a> {
    verifier: Verifier<'a>,
    contents: Option<Contents>,
    progress: Progress,
    /// How many rows there are; 0 where that is not known.
    rows: u64,
    seen: u64,
}

impl<'a> Check<'a> {
    fn new(evidence: &'a Evidence, contents: Option<Contents>, rows: u64) -> Check<'a> {
        let (verifier, progress) = (Verifier::new(evidence), Progress::new());
        Check { verifier, contents, progress, rows, seen: 0 }
    }

    fn row(&mut self, row: &nonstop_trace::Row) {
        self.verifier.row(row);
        if let Some(contents) = &mut self.contents {
            contents.row(row);
        }
        self.seen += 1;
        let (seen, rows) = (self.seen, self.rows);
        self.progress.say(|| match rows {
            0 => format!("{seen} rows"),
            rows => format!("{seen} of {rows} rows"),
        });
    }

    fn end(self, json: bool) -> Result<(), CliError> {
        let report = self.verifier.finish();
        let (known, files) = match self.contents {
            None => (None, Vec::new()),
            Some(contents) => {
                let (known, mut read, mut progress) = (contents.known(), 0, self.progress);
                let faults = contents.check(|bytes| {
                    read += bytes;
                    progress.say(|| format!("{} MiB of exports", read >> 20));
                });
                (Some(known), faults)
            }
        };
        let good = report.good() && files.is_empty();
        if json {
            let mut value = serde_json::to_value(&report).expect("our types have string keys");
            value["good"] = good.into();
            value["contents"] = known.into();
            value["faults"] = serde_json::to_value(&files).expect("our types have string keys");
            print_json(&value);
        } else {
            print(&text(&report, known, &files));
        }
        if good {
            Ok(())
        } else {
            Err(CliError::NotGood("the trace is not what it should be".into()))
        }
    }
}

fn text(report: &Report, known: Option<usize>, faults: &[Fault]) -> String {
    let mut lines = vec![show::report(report)];
    lines.extend(faults.iter().map(show::fault));
    if let Some(known) = known.filter(|_| faults.is_empty()) {
        lines.push(format!(
            "the bytes of exports ({known} different ones) are there or their deletion is on record"
        ));
    }
    lines.join("\n")
}

/// How far it is, on a terminal, now and then.
struct Progress {
    said_at: Instant,
    shown: bool,
}

impl Progress {
    fn new() -> Progress {
        Progress { said_at: Instant::now(), shown: io::stderr().is_terminal() }
    }

    fn say(&mut self, text: impl FnOnce() -> String) {
        if self.shown && self.said_at.elapsed() > Duration::from_secs(1) {
            self.said_at = Instant::now();
            eprintln!("{}", text());
        }
    }
}

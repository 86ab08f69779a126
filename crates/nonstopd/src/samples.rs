//! Samples of published days, read by children: `nonstop-samples find`, `disc` and `take`, one short
//! life for each thing to do. Of what one says hashes, numbers and texts for people are taken, once
//! they are bounded.

use crate::{descriptors, publisher::plain};
use nonstop_api::samples::{
    Answer, Order, OrderedItem, SamplePage, SampleQuery, SampleView, Written,
};
use nonstop_host::disks::WriteDiscs;
use nonstop_model::{Disc, InjectedItem, Lab, injection};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long a search may take.
const SEARCH: Duration = Duration::from_secs(6);
/// How long writing out may take beside what its bytes need.
const WRITE: Duration = Duration::from_secs(20);
/// How fast samples are written out at least, in bytes a second.
const LEAST_A_SECOND: u64 = 8 << 20;
/// What is written out beside the bytes of samples at most: of all together, and of each for its names,
/// its zip and the end of its last sector.
const BESIDE: u64 = 1 << 20;
const BESIDE_EACH: u64 = 8 << 10;
/// The longest answer to an order, in bytes.
const LONGEST_WRITTEN: usize = 64 << 10;
/// The most texts of a sample that are passed on, and the longest of each, in characters.
const TEXTS: usize = 64;
/// The name of every disc.
const VOLUME: &str = "SAMPLES";

/// Reads the samples of a lab's data domains.
#[derive(Debug, Clone)]
pub struct Samples {
    program: PathBuf,
    lab: Lab,
    readers: SampleReaders,
    search: Duration,
    write: Duration,
}

/// The users that the children have, and the groups of the same name.
#[derive(Debug, Clone, Copy)]
pub struct SampleReaders {
    /// Reads what is known of samples, and reports.
    pub data: (u32, u32),
    /// Reads samples, too.
    pub samples: (u32, u32),
}

/// A question without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// It makes no sense, and asking again is of no use.
    #[error("{0}")]
    Refused(String),
    /// It could not be answered now.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for NoAnswer {
    fn from(why: String) -> NoAnswer {
        NoAnswer::Failed(why)
    }
}

impl Samples {
    /// Children are `nonstop-samples` in the lab's `programs`, and read as `readers`.
    pub fn new(lab: &Lab, readers: SampleReaders) -> Samples {
        Samples {
            program: lab.programs.join("nonstop-samples"),
            lab: lab.clone(),
            readers,
            search: SEARCH,
            write: WRITE,
        }
    }

    /// The same, where a child may take `search` to search, and `write` to write out beside what its
    /// bytes need.
    pub fn patient(self, search: Duration, write: Duration) -> Samples {
        Samples { search, write, ..self }
    }

    /// The samples of `domain` that `query` asks for. Errors: why not, for a person.
    pub fn find(&self, domain: &str, query: &SampleQuery) -> Result<SamplePage, NoAnswer> {
        let (most, longest) = (SampleQuery::MOST, SamplePage::LONGEST);
        let page: SamplePage = self.ask("find", domain, query, None, self.search, longest)?;
        let plausible = page.samples.len() <= most as usize
            && page.samples.iter().all(|sample| injection::check_sha256(&sample.sha256).is_ok());
        if !plausible {
            return Err(NoAnswer::Failed("nonstop-samples find said what cannot be".into()));
        }
        Ok(SamplePage {
            samples: page.samples.into_iter().map(shown).collect(),
            after: page.after.map(|after| plain(&after)),
        })
    }

    /// The one sample of `domain` with this hash; None if there is none.
    pub fn one(&self, domain: &str, sha256: &str) -> Result<Option<SampleView>, String> {
        let query = SampleQuery { hash: sha256.into(), limit: 1, ..SampleQuery::default() };
        let page = self.find(domain, &query).map_err(|e| e.to_string())?;
        Ok(page.samples.into_iter().find(|sample| sample.sha256 == sha256))
    }

    /// Writes one sample of `domain` to `file`, which is empty, wrapped in a zip archive if `zip`.
    pub fn take(
        &self,
        domain: &str,
        item: &InjectedItem,
        zip: bool,
        file: &File,
    ) -> Result<(), String> {
        let order = order([item].into_iter(), zip);
        self.write_out("take", domain, &order, file)
    }

    fn write_out(
        &self,
        verb: &str,
        domain: &str,
        order: &Order,
        file: &File,
    ) -> Result<(), String> {
        let bytes = order.items.iter().fold(0, |sum: u64, item| sum.saturating_add(item.bytes));
        let each = BESIDE_EACH.saturating_mul(order.items.len() as u64);
        let most = bytes.saturating_add(BESIDE).saturating_add(each);
        let patience = self.write + Duration::from_secs(bytes / LEAST_A_SECOND);
        let written: Written = self
            .ask(verb, domain, order, Some((file, most)), patience, LONGEST_WRITTEN)
            .map_err(|e| e.to_string())?;
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        let same = written.items.iter().map(|item| &item.sha256);
        if written.bytes == length && same.eq(order.items.iter().map(|item| &item.sha256)) {
            Ok(())
        } else {
            Err(format!("nonstop-samples {verb} said what cannot be"))
        }
    }

    fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        verb: &str,
        domain: &str,
        question: &Q,
        output: Option<(&File, u64)>,
        patience: Duration,
        longest: usize,
    ) -> Result<A, NoAnswer> {
        let days = self.lab.data(domain).join("published/samples");
        let start = |e| {
            let program = self.program.display();
            format!(
                "start {program}: {e} (`programs` of lab.yaml names the folder of our programs)"
            )
        };
        let data = self.readers.data;
        let (uid, gid) = if output.is_some() { self.readers.samples } else { data };
        let mut command = Command::new(&self.program);
        command
            .arg(verb)
            .arg("--data")
            .arg(&days)
            .args(["--uid", &uid.to_string(), "--gid", &gid.to_string()])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own, by which what it has started ends with it.
            .process_group(0);
        if let Some((file, most)) = output {
            command.args(["--group", &data.1.to_string(), "--most", &most.to_string()]);
            descriptors::give(&mut command, [file.as_fd()]).map_err(start)?;
        }
        let mut child = command.spawn().map_err(start)?;
        let question = serde_json::to_vec(question).map_err(|e| e.to_string())?;
        let answer = hear(&mut child, question, patience, longest);
        end(child);
        let seconds = patience.as_secs();
        let line = answer.ok_or_else(|| {
            format!("nonstop-samples {verb} gave no answer within {seconds} s: try again")
        })?;
        match serde_json::from_slice(&line) {
            Ok(Answer::Done(answer)) => Ok(answer),
            Ok(Answer::Refused { refused }) => Err(NoAnswer::Refused(plain(&refused))),
            Ok(Answer::Error { error }) => Err(NoAnswer::Failed(plain(&error))),
            Err(_) => Err(format!("nonstop-samples {verb} said what cannot be").into()),
        }
    }
}

impl WriteDiscs for Samples {
    fn write(&self, disc: &Disc, file: &File) -> Result<(), String> {
        self.write_out("disc", &disc.domain, &order(disc.items.iter(), disc.zip), file)
    }
}

fn order<'a>(items: impl Iterator<Item = &'a InjectedItem>, zip: bool) -> Order {
    let item = |item: &InjectedItem| OrderedItem {
        sha256: item.sha256.clone(),
        name: item.name.clone(),
        bytes: item.bytes,
        zip,
    };
    Order { items: items.map(item).collect(), volume: VOLUME.into() }
}

/// What `child` answers to `question`, of at most `longest` bytes; None if it does not in time.
fn hear(
    child: &mut Child,
    question: Vec<u8>,
    patience: Duration,
    longest: usize,
) -> Option<Vec<u8>> {
    let (mut input, output) = (child.stdin.take()?, child.stdout.take()?);
    thread::spawn(move || {
        let _it_may_be_gone = input.write_all(&question);
    });
    let (say, heard) = mpsc::channel();
    thread::spawn(move || {
        let mut answer = Vec::new();
        let read = output.take(longest as u64 + 1).read_to_end(&mut answer);
        let _nobody_waits = say.send(read.map(|_| answer));
    });
    let answer = heard.recv_timeout(patience).ok()?.ok()?;
    (!answer.is_empty() && answer.len() <= longest).then_some(answer)
}

/// Ends `child` and what it has started.
fn end(mut child: Child) {
    let _nobody_is_left = kill_process_group(Pid::from_child(&child), Signal::KILL);
    let _reaped = child.wait();
}

/// What is said of a sample, as texts for people.
fn shown(sample: SampleView) -> SampleView {
    let SampleView { kind, family, tags, source, mut days, .. } = sample;
    days.truncate(366);
    SampleView {
        kind: plain(&kind),
        family: plain(&family),
        tags: tags.iter().take(TEXTS).map(|tag| plain(tag)).collect(),
        source: plain(&source),
        days,
        ..sample
    }
}

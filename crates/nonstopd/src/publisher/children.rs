//! The programs that touch the bytes: `nonstop-data`, and `nonstop-samples` for days of samples, one
//! short life for each thing to do.
//!
//! What one says is a few lines of bounded length. Of them numbers and the hash are taken, after a
//! look whether they can be true; reasons are shown to people.

use super::Made;
use crate::descriptors::give;
use jiff::{Timestamp, civil::Date};
use nonstop_api::told::{self, Days, LoadedDay, Told};
use nonstop_model::{CaptureFormat, Content, Holds, Packets, PublicationId};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::{fd::AsFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long a program may say nothing, on a real host.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// The longest reason that is kept, in characters.
const REASON: usize = 500;
/// Lines that wait to be read.
const WAITING: usize = 16;

/// What one publication is about, as its programs are told.
#[derive(Debug, Clone)]
pub struct Job {
    /// The data domain.
    pub domain: String,
    /// The day.
    pub day: Date,
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// The publication.
    pub id: PublicationId,
}

/// Why something could not be done now; it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// What happened.
    pub message: String,
    /// How to mend it; may be empty.
    pub help: String,
    /// Whether a program died over the file that it read: killed, out of memory or at a fault of its own.
    pub died: bool,
}

impl Trouble {
    /// Trouble with a way to mend it.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Trouble {
        Trouble { message: message.into(), help: help.into(), died: false }
    }
}

/// What came of reading a file to its last record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is whole, and of its day.
    Good(Content),
    /// It cannot be published, and why.
    Refused(String),
}

/// Hears how far it is: bytes, of how many.
pub type Heard<'a> = &'a dyn Fn(u64, u64);

/// What reads files and speaks with PostgreSQL.
pub trait Children: Send + Sync {
    /// Reads `file` to its last record.
    fn check(&self, job: &Job, file: &File, heard: Heard<'_>) -> Result<Verdict, Trouble>;

    /// Reads `file`, a day of samples, to its last member, and writes `made` of it.
    fn check_samples(
        &self,
        job: &Job,
        file: &File,
        made: &Made,
        heard: Heard<'_>,
    ) -> Result<Verdict, Trouble>;

    /// Loads `file` beside the day that is there; gives its rows. Repeatable.
    fn load(&self, job: &Job, sha256: &str, file: &File, heard: Heard<'_>) -> Result<u64, Trouble>;

    /// Puts what was loaded in place of the day that is there, in one transaction. Repeatable.
    fn swap(&self, job: &Job) -> Result<u64, Trouble>;

    /// Removes a day. Repeatable.
    fn drop_day(&self, domain: &str, day: Date) -> Result<(), Trouble>;

    /// The days that are there.
    fn days(&self, domain: &str) -> Result<Vec<LoadedDay>, Trouble>;
}

/// The programs of the lab.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `nonstop-data`.
    pub program: PathBuf,
    /// `nonstop-samples`.
    pub samples: PathBuf,
    /// The lab's folder `RUN/data`.
    pub run: PathBuf,
    /// User and group that files are read as.
    pub reader: (u32, u32),
    /// How long one may say nothing before it is ended.
    pub patience: Duration,
}

impl Children for Programs {
    fn check(&self, job: &Job, file: &File, heard: Heard<'_>) -> Result<Verdict, Trouble> {
        let mut words = of_day(job, "check");
        words.extend(["--uid".into(), self.reader.0.to_string()]);
        words.extend(["--gid".into(), self.reader.1.to_string()]);
        match self.run(&words, Some(file), None, heard)? {
            Told::Checked(checked) => match believable(job, file, checked) {
                Some(content) => Ok(Verdict::Good(content)),
                None => Err(self.unexpected("check")),
            },
            Told::Refused { reason } => Ok(Verdict::Refused(plain(&reason))),
            Told::Failed { reason } => Err(Trouble::new(plain(&reason), "")),
            Told::Progress { .. } | Told::Done { .. } | Told::Packed(_) => {
                Err(self.unexpected("check"))
            }
        }
    }

    fn check_samples(
        &self,
        job: &Job,
        file: &File,
        made: &Made,
        heard: Heard<'_>,
    ) -> Result<Verdict, Trouble> {
        let verb = "check-samples";
        let mut words = of_day(job, verb);
        words.extend(["--uid".into(), self.reader.0.to_string()]);
        words.extend(["--gid".into(), self.reader.1.to_string()]);
        let samples = Programs { program: self.samples.clone(), ..self.clone() };
        match samples.run(&words, Some(file), Some(made), heard)? {
            Told::Packed(checked) => match believable_samples(file, made, checked) {
                Some(content) => Ok(Verdict::Good(content)),
                None => Err(samples.unexpected(verb)),
            },
            Told::Refused { reason } => Ok(Verdict::Refused(plain(&reason))),
            Told::Failed { reason } => Err(Trouble::new(plain(&reason), "")),
            Told::Progress { .. } | Told::Done { .. } | Told::Checked(_) => {
                Err(samples.unexpected(verb))
            }
        }
    }

    fn load(&self, job: &Job, sha256: &str, file: &File, heard: Heard<'_>) -> Result<u64, Trouble> {
        let mut words = of_day(job, "load");
        words.extend(["--domain".into(), job.domain.clone()]);
        words.extend(["--publication".into(), job.id.to_string()]);
        words.extend(["--sha256".into(), sha256.into()]);
        words.extend(self.socket(&job.domain));
        self.done("load", self.run(&words, Some(file), None, heard)?)
    }

    fn swap(&self, job: &Job) -> Result<u64, Trouble> {
        let mut words = vec!["swap".into(), "--domain".into(), job.domain.clone()];
        words.extend(["--day".into(), job.day.to_string()]);
        words.extend(["--publication".into(), job.id.to_string()]);
        words.extend(self.socket(&job.domain));
        self.done("swap", self.run(&words, None, None, &|_, _| {})?)
    }

    fn drop_day(&self, domain: &str, day: Date) -> Result<(), Trouble> {
        let mut words = vec!["drop".into(), "--day".into(), day.to_string()];
        words.extend(self.socket(domain));
        self.done("drop", self.run(&words, None, None, &|_, _| {})?).map(drop)
    }

    fn days(&self, domain: &str) -> Result<Vec<LoadedDay>, Trouble> {
        let mut words = vec!["days".into()];
        words.extend(self.socket(domain));
        let (mut child, complaint) = self.spawn(&words, None, None)?;
        let lines = lines_of(&mut child, told::LONGEST_DAYS);
        let said = lines.recv_timeout(self.patience);
        let (_, complaint) = end(child, complaint);
        let nothing = |_| Trouble::new(format!("{} days: {complaint}", self.name()), "");
        let line = said.map_err(nothing)?;
        if let Ok(Told::Failed { reason }) = serde_json::from_str(&line) {
            return Err(Trouble::new(plain(&reason), ""));
        }
        let days: Days = serde_json::from_str(&line).map_err(|_| self.unexpected("days"))?;
        Ok(days.days)
    }
}

impl Programs {
    fn socket(&self, domain: &str) -> [String; 2] {
        let folder = self.run.join(domain).join("rdb-load");
        ["--socket".into(), folder.display().to_string()]
    }

    fn spawn(
        &self,
        words: &[String],
        file: Option<&File>,
        made: Option<&Made>,
    ) -> Result<(Child, Complaint), Trouble> {
        let failed = |e| {
            let message = format!("start {}: {e}", self.program.display());
            Trouble::new(message, "`programs` of lab.yaml names the folder of our programs")
        };
        let input = match file {
            Some(file) => Stdio::from(file.try_clone().map_err(failed)?),
            None => Stdio::null(),
        };
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, by which what it has started ends with it.
            .process_group(0);
        if let Some(made) = made {
            give(&mut command, made.files().map(AsFd::as_fd)).map_err(failed)?;
        }
        let mut child = command.spawn().map_err(failed)?;
        let said = child.stderr.take();
        let complaint = thread::spawn(move || said.map(last_line).unwrap_or_default());
        Ok((child, complaint))
    }

    /// Runs the program, and gives the last line that it says.
    fn run(
        &self,
        words: &[String],
        file: Option<&File>,
        made: Option<&Made>,
        heard: Heard<'_>,
    ) -> Result<Told, Trouble> {
        let verb = words.first().map_or("", String::as_str);
        let (mut child, complaint) = self.spawn(words, file, made)?;
        let lines = lines_of(&mut child, told::LONGEST);
        let mut last = None;
        let silent = loop {
            match lines.recv_timeout(self.patience) {
                Ok(line) => match serde_json::from_str(&line) {
                    Ok(Told::Progress { bytes, of }) => heard(bytes, of),
                    Ok(told) => last = Some(told),
                    Err(_) => {
                        let _it_is_not_believed = end(child, complaint);
                        return Err(self.unexpected(verb));
                    }
                },
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => break true,
            }
        };
        let (ended, complaint) = end(child, complaint);
        if silent {
            let seconds = self.patience.as_secs();
            let name = self.name();
            let message = format!("{name} {verb} said nothing for {seconds} s and was ended");
            return Err(Trouble::new(message, "look at the load of the host and of its disks"));
        }
        last.ok_or_else(|| {
            let (ended, died) = match ended {
                Ok(status) => (status.to_string(), died(status)),
                Err(e) => (e.to_string(), false),
            };
            let how = if complaint.is_empty() { ended } else { complaint };
            let message = format!("{} {verb} ended without a word: {how}", self.name());
            Trouble { died, ..Trouble::new(message, "") }
        })
    }

    /// The program's name, for people.
    fn name(&self) -> String {
        plain(&self.program.file_name().unwrap_or_default().to_string_lossy())
    }

    fn done(&self, verb: &str, told: Told) -> Result<u64, Trouble> {
        match told {
            Told::Done { rows } => Ok(rows),
            Told::Failed { reason } | Told::Refused { reason } => {
                Err(Trouble::new(plain(&reason), ""))
            }
            Told::Progress { .. } | Told::Checked(_) | Told::Packed(_) => {
                Err(self.unexpected(verb))
            }
        }
    }

    fn unexpected(&self, verb: &str) -> Trouble {
        let name = self.name();
        let message = format!("{name} {verb} said what cannot be");
        Trouble::new(message, format!("are nonstopd and {name} of one version?"))
    }
}

fn of_day(job: &Job, verb: &str) -> Vec<String> {
    [verb, "--day", &job.day.to_string(), "--from", &job.from.to_string()]
        .into_iter()
        .chain(["--until", &job.until.to_string()])
        .map(String::from)
        .collect()
}

/// The lines that `child` says, of at most `longest` bytes; one that is longer is the last.
fn lines_of(child: &mut Child, longest: usize) -> Receiver<String> {
    let (say, lines) = mpsc::sync_channel(WAITING);
    let Some(output) = child.stdout.take() else { return lines };
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        loop {
            let mut line = Vec::new();
            let read = output.by_ref().take(longest as u64 + 1).read_until(b'\n', &mut line);
            if !read.is_ok_and(|bytes| bytes > 0) {
                return;
            }
            let over = line.len() > longest;
            let line = String::from_utf8_lossy(&line).into_owned();
            if say.send(line).is_err() || over {
                return;
            }
        }
    });
    lines
}

/// Hears what a program complains of, to its end.
type Complaint = JoinHandle<String>;

/// The last line of what `said` says, however much that is.
fn last_line(mut said: impl Read) -> String {
    let mut tail = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = said.read(&mut piece) {
        tail.extend_from_slice(&piece[..read]);
        tail.drain(..tail.len().saturating_sub(2 * REASON));
    }
    plain(String::from_utf8_lossy(&tail).trim().lines().last().unwrap_or_default())
}

/// Ends `child` and what it has started, unless it has ended; gives how, and what it complained.
fn end(mut child: Child, complaint: Complaint) -> (io::Result<ExitStatus>, String) {
    let group = Pid::from_child(&child);
    // It has closed its output, or must go: a moment to end by itself keeps its own exit code.
    for _ in 0..50 {
        if let Ok(Some(_)) = child.try_wait() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _nobody_is_left = kill_process_group(group, Signal::KILL);
    (child.wait(), complaint.join().unwrap_or_default())
}

/// Whether a program that ended so did not end by itself.
fn died(status: ExitStatus) -> bool {
    /// What Rust ends with at a panic.
    const PANIC: i32 = 101;
    status.code().is_none_or(|code| code == PANIC)
}

/// What was said of `file`, if it can be true.
fn believable(job: &Job, file: &File, checked: told::Checked) -> Option<Content> {
    let format: Option<CaptureFormat> = checked.format.parse().ok();
    let within = |at: Timestamp| (job.from..job.until).contains(&at);
    let length = file.metadata().map(|file| file.len()).unwrap_or_default();
    let good = checked.bytes == length
        && checked.packets > 0
        && checked.first <= checked.last
        && within(checked.first)
        && within(checked.last)
        && is_sha256(&checked.sha256);
    let told::Checked { packets, first, last, .. } = checked;
    match format {
        Some(format) if good => Some(Content {
            bytes: checked.bytes,
            sha256: checked.sha256,
            holds: Holds::Packets(Packets { format, packets, first, last }),
        }),
        _ => None,
    }
}

/// The same of a day of samples.
fn believable_samples(file: &File, made: &Made, checked: told::Packed) -> Option<Content> {
    let length = |file: &File| file.metadata().map(|file| file.len()).unwrap_or_default();
    let told::Packed { samples, reports, bytes, sha256 } = checked;
    // A member of an archive takes a block at least: there are no more of them than there is room.
    let count = samples.saturating_add(reports);
    let good = bytes == length(file)
        && (1..=bytes / TAR_BLOCK).contains(&count)
        && length(&made.index) > 0
        && is_sha256(&sha256);
    good.then_some(Content { bytes, sha256, holds: Holds::Samples { samples, reports } })
}

/// Bytes of a block of an archive.
const TAR_BLOCK: u64 = 512;

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A text of a program, for people: one line, printable, not too long.
pub(crate) fn plain(text: &str) -> String {
    let line = text.replace(|c: char| c.is_control(), " ");
    crate::prover::cut(line.trim(), REASON)
}

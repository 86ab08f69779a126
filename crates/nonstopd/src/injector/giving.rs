//! What goes by a guest's agent: given to it, with what came of that.

use super::Injector;
use crate::status::{Status, chain};
use nonstop_host::{Kept, Put, PutVerdict};
use nonstop_model::{InjectedItem, Injection, InjectionId, InjectionState, injection::path_in};
use nonstop_store::StoreError;
use std::{
    fs::{self, File},
    io::{Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    time::Duration,
};
use tracing::{error, info, warn};

/// How many times an agent that does not answer is asked, and how long to wait between.
const TRIES: u32 = 4;
const BETWEEN: Duration = Duration::from_millis(500);

impl Injector {
    /// Gives `injection` to the guest's agent, and records what came of it, also where it was ended
    /// meanwhile. Until then nothing else goes before this guest, and it is not kept.
    pub fn give_and_tell(&self, injection: &Injection) {
        let giving = Giving::new(&self.parts.status, injection);
        let (id, mut given) = (injection.id, Given::default());
        let result = self.give(injection, &mut given);
        let (now, says) = (self.parts.clock.now(), given.says());
        let told = self.parts.db.write("nonstopd", now, |w| {
            if given.nothing() {
                w.injection_reached_nothing(id)?;
            }
            match &result {
                Ok(()) => w.injection_there(id, says.as_deref())?,
                Err(why) => w.injection_failed(id, &why.0, says.as_deref())?,
            }
            // Whoever sees what came of it finds the guest free.
            drop(giving);
            Ok::<(), StoreError>(())
        });
        match (&result, told) {
            (_, Err(e)) => error!("record what became of {id}: {}", chain(&e)),
            (Ok(()), Ok(())) => info!("{id} was given to its guest"),
            (Err(why), Ok(())) => warn!("{id} was not given to its guest: {}", why.0),
        }
        self.parts.wake.wake();
    }

    fn give(&self, injection: &Injection, given: &mut Given) -> Result<(), Failed> {
        let environment = self.environment(injection).map_err(|e| Failed::of(chain(&e)))?;
        let machine = environment.machines.iter().find(|m| m.id == injection.machine);
        let machine = machine.ok_or_else(|| Failed::of("its machine is gone"))?;
        let template = environment.template.machine(machine.role);
        let import = template.and_then(|template| template.import.clone());
        let import = import.ok_or_else(|| Failed::of("its template names no folder `import`"))?;
        given.import = import;
        for item in &injection.items {
            let file = self.taken(injection, item)?;
            let name = match injection.zip {
                true => format!("{}.zip", item.name),
                false => item.name.clone(),
            };
            let path = path_in(&given.import, &name);
            let put = self.put(injection, &path, &file, given)?;
            let bytes = file.metadata().map_or(0, |file| file.len());
            given.last = said(put, &path, bytes);
            judged(put, &path)?;
            given.files += 1;
            given.written += put.written;
            given.doubts += &doubt(put, &path, bytes);
        }
        Ok(())
    }

    /// A file without a name that holds `item`, as the guest is to have it.
    fn taken(&self, injection: &Injection, item: &InjectedItem) -> Result<File, Failed> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(TMPFILE);
        let state = &self.parts.lab.state;
        let mut file = options
            .open(state)
            .map_err(|e| Failed::of(format!("make a file in {}: {e}", state.display())))?;
        let (domain, zip) = (&injection.domain, injection.zip);
        self.parts.samples.take(domain, item, zip, &file).map_err(Failed::of)?;
        file.seek(SeekFrom::Start(0)).map_err(|e| Failed::of(e.to_string()))?;
        Ok(file)
    }

    fn put(
        &self,
        injection: &Injection,
        path: &str,
        file: &File,
        given: &mut Given,
    ) -> Result<Put, Failed> {
        let mut tries = 0;
        loop {
            let mut again = file;
            again.seek(SeekFrom::Start(0)).map_err(|e| Failed::of(e.to_string()))?;
            // The guest of a generation to which it was reverted meanwhile has to stay clean.
            self.reaches(injection.id, given)?;
            let wanted = || self.is_wanted(injection.id);
            let put = self.parts.host.put_file(injection.machine, path, file, &wanted);
            given.reached |= put.as_ref().map_or(true, |put| took(*put));
            let put = put.map_err(|e| Failed::of(chain(&e)))?;
            tries += 1;
            // Somebody else may just speak with it, or it has only just been started.
            if put.verdict != PutVerdict::Silent || tries == TRIES {
                return Ok(put);
            }
            self.parts.clock.pause(BETWEEN);
        }
    }

    /// Errors: it was ended meanwhile.
    fn reaches(&self, id: InjectionId, given: &mut Given) -> Result<(), Failed> {
        let now = self.parts.clock.now();
        let before = self.parts.db.write("nonstopd", now, |w| w.injection_reaches(id));
        let before = before.map_err(|e| Failed::of(chain(&e)))?;
        let before = before.ok_or_else(|| Failed::of("it was ended meanwhile"))?;
        // A daemon that was killed may have given it something.
        given.reached |= before && !given.begun;
        given.begun = true;
        Ok(())
    }

    /// Whether it was not ended meanwhile, as far as that can be known.
    fn is_wanted(&self, id: InjectionId) -> bool {
        let now = self.parts.db.read(|read| read.injection(id));
        now.map_or(true, |now| now.state == InjectionState::Preparing)
    }
}

/// `O_TMPFILE` of Linux on x86-64: a file without a name.
const TMPFILE: i32 = rustix::fs::OFlags::TMPFILE.bits().cast_signed();

/// Marks an injection as one that is being given, also when its thread panics.
struct Giving<'a> {
    status: &'a Status,
    injection: &'a Injection,
}

impl Giving<'_> {
    fn new<'a>(status: &'a Status, injection: &'a Injection) -> Giving<'a> {
        status.gives(injection.machine, injection.id);
        Giving { status, injection }
    }
}

impl Drop for Giving<'_> {
    fn drop(&mut self) {
        self.status.gave(self.injection.machine, self.injection.id);
    }
}

/// What a guest was given so far, as its agent says.
#[derive(Default)]
struct Given {
    import: String,
    /// Files that it has whole, and the bytes of these.
    files: usize,
    written: u64,
    doubts: String,
    /// What it says of the last file, if that is not whole.
    last: Option<String>,
    /// Whether the agent was asked at all, and whether it may have taken a part of a sample.
    begun: bool,
    reached: bool,
}

impl Given {
    fn nothing(&self) -> bool {
        self.begun && !self.reached
    }

    fn says(&self) -> Option<String> {
        let Given { import, files, written, doubts, .. } = self;
        let whole = format!("it wrote {files} file(s), {written} bytes, in {import}{doubts}");
        let whole = Some(whole).filter(|_| *files > 0);
        let both: Vec<String> = whole.into_iter().chain(self.last.clone()).collect();
        Some(both.join("; ")).filter(|says| !says.is_empty())
    }
}

/// Why samples did not get into a guest.
struct Failed(String);

impl Failed {
    fn of(why: impl Into<String>) -> Failed {
        Failed(why.into())
    }
}

/// Whether a part of the file may be in the guest: a piece may have got there without an answer.
fn took(put: Put) -> bool {
    match put.verdict {
        PutVerdict::Silent | PutVerdict::NotOpened => false,
        PutVerdict::Done | PutVerdict::NotWritten | PutVerdict::BrokeOff => true,
    }
}

/// What the guest says of the file at `path`, `bytes` long, if it does not have all of it.
fn said(put: Put, path: &str, bytes: u64) -> Option<String> {
    match put.verdict {
        PutVerdict::Done | PutVerdict::Silent => None,
        PutVerdict::NotOpened => Some(format!("it cannot open {path}")),
        PutVerdict::NotWritten | PutVerdict::BrokeOff => {
            Some(format!("it wrote {} of {bytes} bytes of {path}", put.written))
        }
    }
}

/// Errors: not all of the file at `path` was taken.
fn judged(put: Put, path: &str) -> Result<(), Failed> {
    Err(Failed::of(match put.verdict {
        PutVerdict::Done => return Ok(()),
        PutVerdict::Silent => {
            "the guest's agent does not answer: is it running, and in the image? By disc nothing \
             in the guest has to help"
                .to_string()
        }
        PutVerdict::NotOpened => format!("the guest's agent could not make the file {path}"),
        PutVerdict::NotWritten => {
            format!("the guest's agent could not write all of {path}: is the guest's disk full?")
        }
        PutVerdict::BrokeOff => {
            format!("the guest's agent broke off, or said what cannot be, while it wrote {path}")
        }
    }))
}

/// What the guest says against its own words of a file at `path`, `bytes` long; empty if nothing.
fn doubt(put: Put, path: &str, bytes: u64) -> String {
    match put.kept {
        Kept::Bytes(kept) if kept != bytes => {
            format!("; {path} has {kept} bytes there, and not {bytes}")
        }
        Kept::Unreadable => format!("; it cannot open {path} any more"),
        Kept::Bytes(_) | Kept::Unknown => String::new(),
    }
}

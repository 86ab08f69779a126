//! Screening of files that leave, and previews of them: the daemon starts the programs that hold the
//! bytes, takes their answers itself, and makes the verdict.
//!
//! It reads no byte of a file. What a program says is bounded, and believed only where it can be true;
//! one that dies, hangs or says nonsense leaves a file held, never released.

mod child;
mod heard;
mod rules;

pub use child::{Child, Ended};
pub use rules::{LabRules, RulesSeen};

use nonstop_api::PreviewView;
use nonstop_model::{
    Lab,
    screening::{
        About, Facts, Failure, Finding, Kind, Measured, Policy, Remark, RuleId, Verdict, Way, judge,
    },
};
use nonstop_store::{Db, StoreError};
use ring::digest::{Context, SHA256};
use rustix::fs::fstat;
use std::{
    io,
    os::{fd::OwnedFd, unix::fs::FileExt},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::warn;

/// What screens files and shows them.
pub trait Screener: Send + Sync {
    /// Screens `file`, which nobody can write any more, and tells what was found. It takes as long
    /// as it takes, up to a bound; what could not be done is a finding that holds the file.
    fn screen(&self, file: OwnedFd, about: &About) -> Screened;

    /// The begin of `file`, made anew for a person to look at.
    fn preview(&self, file: OwnedFd) -> Preview;
}

/// What came of a screening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screened {
    /// The gravest of the findings' verdicts.
    pub verdict: Verdict,
    /// What was found, the gravest first.
    pub findings: Vec<Finding>,
    /// SHA-256 of the bytes, in hex; empty if they cannot be read, which is a failure.
    pub sha256: String,
    /// How many bytes.
    pub bytes: u64,
    /// What they are.
    pub kind: Kind,
    /// How a text is encoded.
    pub encoding: Option<String>,
    /// SHA-256, in hex, over the rules that were in force.
    pub rules_digest: String,
    /// How long it took.
    pub took: Duration,
    /// What could not be done, for whoever runs the lab.
    pub failures: Vec<Failure>,
}

/// What a person sees of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// What it is.
    pub view: PreviewView,
    /// The picture, as PNG that our own program wrote; of pictures alone.
    pub png: Option<Vec<u8>>,
}

/// Whether bytes of this SHA-256 are a protected resource.
pub type Protected = dyn Fn(&str) -> Result<bool, StoreError> + Send + Sync;

/// Screens in confined children.
pub struct Confined {
    lab: Arc<Lab>,
    child: Child,
    protected: Box<Protected>,
}

impl Confined {
    /// One for `lab`, whose children run as `user` (user and group) and whose published data `db`
    /// knows.
    pub fn new(lab: Arc<Lab>, user: (u32, u32), db: Arc<Db>) -> Confined {
        let protected = move |sha256: &str| db.read(|read| read.is_published(sha256));
        Confined::with(lab, user, Box::new(protected))
    }

    /// The same, with another notion of what is protected.
    pub fn with(lab: Arc<Lab>, user: (u32, u32), protected: Box<Protected>) -> Confined {
        let child = Child {
            program: lab.programs.join("nonstop-screen"),
            user,
            memory_mib: lab.screening.memory_mib,
        };
        Confined { lab, child, protected }
    }

    /// What one pass over the bytes found, if it can be true.
    fn measure(&self, file: &OwnedFd, bytes: u64) -> Result<Measured, String> {
        let patience = self.lab.screening.patience(bytes);
        let said = self.child.run(&["measure"], Some(file), heard::LONGEST, patience)?;
        let measured = heard::measured(&said)?;
        if measured.bytes != bytes {
            return Err("nonstop-screen measure said what cannot be: the file's length".into());
        }
        Ok(measured)
    }
}

impl Screener for Confined {
    fn screen(&self, file: OwnedFd, about: &About) -> Screened {
        let begun = Instant::now();
        let file = std::fs::File::from(file);
        let bytes = fstat(&file).map_or(0, |stat| stat.st_size.unsigned_abs());
        let fd = OwnedFd::from(file);
        let rules = LabRules::read(&self.lab.screening.rules);
        let mut facts = Facts {
            measured: None,
            protected: false,
            remarks: Vec::new(),
            failures: rules.failures(),
        };
        let mut kind = Kind::UNKNOWN;
        match self.measure(&fd, bytes) {
            Ok(measured) => {
                kind = measured.kind;
                facts.measured = Some(measured);
            }
            Err(what) => facts.failures.push(failed("measure", &what)),
        }
        let sha256 = match &facts.measured {
            Some(measured) => measured.sha256.clone(),
            // Where the child that hashes died of the file, its bytes are to be kept by their hash
            // all the same.
            None => hash(&fd).unwrap_or_else(|e| {
                facts.failures.push(failed("hash", &e.to_string()));
                String::new()
            }),
        };
        if !sha256.is_empty() {
            match (self.protected)(&sha256) {
                Ok(protected) => facts.protected = protected,
                Err(e) => facts.failures.push(failed("protected", &crate::status::chain(&e))),
            }
        }
        if let Some(measured) = &mut facts.measured
            && (about.way == Way::Export || self.lab.screening.imports_scan)
        {
            let looked = rules.look(&self.child, &self.lab.screening, &fd, measured);
            measured.kind = looked.kind.unwrap_or(measured.kind);
            kind = measured.kind;
            facts.remarks = looked.remarks;
            facts.failures.extend(looked.failures);
        }
        for failure in &facts.failures {
            warn!(rule = %failure.rule, "screening: {}", failure.what);
        }
        let policy = Policy::of(&self.lab, about.edition.as_deref());
        let (verdict, findings) = judge(about, &facts, &policy);
        Screened {
            verdict,
            findings,
            sha256,
            bytes,
            kind,
            encoding: facts.measured.and_then(|measured| measured.encoding),
            rules_digest: rules.digest(&self.lab.screening),
            took: begun.elapsed(),
            failures: facts.failures,
        }
    }

    fn preview(&self, file: OwnedFd) -> Preview {
        let nothing = |why: &str| {
            warn!("preview: {why}");
            Preview { view: PreviewView::Bytes { hex: String::new() }, png: None }
        };
        let patience = Duration::from_secs(self.lab.screening.seconds.min(30).into());
        match self.child.run(&["preview"], Some(&file), heard::LONGEST_PREVIEW, patience) {
            Ok(said) => heard::preview(&said).unwrap_or_else(|why| nothing(&why)),
            Err(why) => nothing(&why),
        }
    }
}

/// A check that could not be carried out.
fn failed(which: &str, what: &str) -> Failure {
    let rule: RuleId = RuleId::FAILED.parse().expect("a rule of ours");
    Failure { rule, what: format!("{which}: {what}") }
}

/// What rules found in one file.
#[derive(Debug, Default)]
struct Looked {
    kind: Option<Kind>,
    remarks: Vec<Remark>,
    failures: Vec<Failure>,
}

/// SHA-256 of `file`, in hex, by the daemon itself.
///
/// Errors: it cannot be read to its end; a hash of less would be another file's.
fn hash(file: &OwnedFd) -> io::Result<String> {
    let file = std::fs::File::from(file.try_clone()?);
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(hex::encode(hash.finish())),
            Ok(n) => {
                hash.update(&buffer[..n]);
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_cannot_be_read_has_no_hash() {
        let folder: OwnedFd = File::open("/proc/self").expect("opens").into();
        assert!(hash(&folder).is_err(), "the hash of nothing is told of a folder");
        // Its first page is mapped by nobody.
        let memory: OwnedFd = File::open("/proc/self/mem").expect("opens").into();
        assert!(hash(&memory).is_err());
        let nothing: OwnedFd = File::open("/dev/null").expect("opens").into();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash(&nothing).expect("read"), empty);
    }
}

//! Heads and receipts that were kept elsewhere: which hash the lab has signed for which row.

use crate::{
    head::{Head, HeadError},
    receipt::{Receipt, ReceiptError},
    row::Hash,
};
use nonstop_profile::Fingerprint;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// The most that is read of one file.
const LONGEST_FILE: u64 = 64 << 20;

/// Lines of one file that are refused one by one; how many more there are is told.
const MOST_REFUSED: u64 = 20;

/// How a line begins that holds a head; what else stands in a file, as around it in a mail, is no
/// part of it.
const HEAD: &str = "{\"nonstop_head\"";

/// Where a head was read: a file, or the database itself.
pub type Source = String;

/// Something that was brought as evidence, and is none.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// It cannot be read.
    #[error("read it")]
    Read(#[from] io::Error),
    /// It is no head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// It is no receipt, or a forged one.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// There is nothing in it.
    #[error("it holds no head")]
    Nothing,
    /// Another lab's authority, or a forger's.
    #[error("it is signed by {0}, which is not an authority that is trusted")]
    Untrusted(Fingerprint),
    /// The right authority, and another database.
    #[error("it is of the lab {found}, and this trace is of {lab}")]
    OtherLab {
        /// The trace's.
        lab: String,
        /// Its own.
        found: String,
    },
}

/// What the lab has signed, by row.
#[derive(Debug)]
pub struct Evidence {
    trusted: Vec<Fingerprint>,
    lab: Option<String>,
    points: BTreeMap<u64, Vec<(Hash, Source)>>,
    own: Vec<(u64, Hash, Source)>,
    heads: usize,
    receipts: usize,
    refused: Vec<(Source, String)>,
}

impl Evidence {
    /// None yet. It must be signed by one of `trusted`, and be of the lab with the UUID `lab`; where
    /// that is None, of one lab, whichever comes first.
    pub fn new(trusted: Vec<Fingerprint>, lab: Option<String>) -> Evidence {
        let (points, own, refused) = (BTreeMap::new(), Vec::new(), Vec::new());
        Evidence { trusted, lab, points, own, heads: 0, receipts: 0, refused }
    }

    /// The UUID of the lab that it is of, if that is known.
    pub fn lab(&self) -> Option<&str> {
        self.lab.as_deref()
    }

    /// How many heads were taken.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// How many receipts were taken.
    pub fn receipts(&self) -> usize {
        self.receipts
    }

    /// What was brought and is none, and why.
    pub fn refused(&self) -> &[(Source, String)] {
        &self.refused
    }

    /// Rows and their hashes, as signed, by row.
    pub(crate) fn points(&self) -> &BTreeMap<u64, Vec<(Hash, Source)>> {
        &self.points
    }

    /// Takes a head.
    pub fn head(&mut self, head: &Head, source: &str) -> Result<(), EvidenceError> {
        self.believe(head)?;
        self.point(head.seq(), head.hash(), source);
        self.heads += 1;
        Ok(())
    }

    /// Takes a receipt: its head, and the hash before.
    pub fn receipt(&mut self, receipt: &Receipt, source: &str) -> Result<(), EvidenceError> {
        let head = receipt.head();
        self.believe(head)?;
        self.point(head.seq(), head.hash(), source);
        self.point(head.seq() - 1, receipt.before(), source);
        self.receipts += 1;
        Ok(())
    }

    /// Takes heads that the trace's own database holds, which whoever rewrites it can sign anew: they
    /// are held against it, too, and vouch for nothing. `refused` are those that are none.
    pub fn own(&mut self, heads: &[Head], refused: Vec<String>, source: &str) {
        for head in heads {
            match self.believe(head) {
                Ok(()) => self.own.push((head.seq(), head.hash(), source.into())),
                Err(e) => self.refuse(source.into(), &e),
            }
        }
        self.refused.extend(refused.into_iter().map(|why| (source.into(), why)));
    }

    /// The lab's own heads, by row.
    pub(crate) fn own_points(&self) -> &[(u64, Hash, Source)] {
        &self.own
    }

    /// Takes what `path` holds: a file of heads, a line each, or a folder of such files. What is none
    /// is kept among the refused.
    pub fn read_heads(&mut self, path: &Path) {
        let source = path.display().to_string();
        if let Err(e) = self.try_heads(path, &source) {
            self.refuse(source, &e);
        }
    }

    /// Takes the receipt in the file `path`; what is none is kept among the refused.
    pub fn read_receipt(&mut self, path: &Path) {
        let source = path.display().to_string();
        let taken = whole(path).map_err(EvidenceError::from).and_then(|bytes| {
            let receipt = Receipt::read(&bytes)?;
            self.receipt(&receipt, &source)
        });
        if let Err(e) = taken {
            self.refuse(source, &e);
        }
    }

    fn try_heads(&mut self, path: &Path, source: &str) -> Result<(), EvidenceError> {
        if !path.is_dir() {
            return self.heads_of_file(path, source);
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
        files.sort();
        if files.is_empty() {
            return Err(EvidenceError::Nothing);
        }
        for file in files {
            let source = file.display().to_string();
            if let Err(e) = self.heads_of_file(&file, &source) {
                self.refuse(source, &e);
            }
        }
        Ok(())
    }

    fn heads_of_file(&mut self, path: &Path, source: &str) -> Result<(), EvidenceError> {
        let bytes = whole(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines = || {
            let numbered = text.lines().map(str::trim).zip(1..);
            numbered.filter(|(line, _)| line.starts_with(HEAD))
        };
        if lines().next().is_none() {
            return Err(EvidenceError::Nothing);
        }
        let mut refused = 0;
        for (line, number) in lines() {
            let taken = Head::read(line).map_err(EvidenceError::from);
            let Err(e) = taken.and_then(|head| self.head(&head, source)) else { continue };
            // Those behind it may say what it would hide.
            refused += 1;
            if refused <= MOST_REFUSED {
                self.refuse(format!("{source}, line {number}"), &e);
            }
        }
        if let Some(more) = refused.checked_sub(MOST_REFUSED).filter(|more| *more > 0) {
            self.refused.push((source.into(), format!("so are {more} lines more")));
        }
        Ok(())
    }

    pub(crate) fn refuse(&mut self, source: Source, error: &dyn std::error::Error) {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            why = format!("{why}: {error}");
            cause = error.source();
        }
        self.refused.push((source, why));
    }

    fn believe(&mut self, head: &Head) -> Result<(), EvidenceError> {
        let fingerprint = head.authority().fingerprint();
        if !self.trusted.contains(&fingerprint) {
            return Err(EvidenceError::Untrusted(fingerprint));
        }
        let lab = self.lab.get_or_insert_with(|| head.lab().into());
        if *lab != head.lab() {
            return Err(EvidenceError::OtherLab { lab: lab.clone(), found: head.lab().into() });
        }
        Ok(())
    }

    fn point(&mut self, seq: u64, hash: Hash, source: &str) {
        let known = self.points.entry(seq).or_default();
        if known.iter().all(|(other, _)| *other != hash) {
            known.push((hash, source.into()));
        }
    }
}

fn whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(io::Error::other("it is larger than 64 MiB"));
    }
    Ok(bytes)
}

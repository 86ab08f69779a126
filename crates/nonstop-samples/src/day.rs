//! A day as it is read: from the tar that arrived to its four files, in one go.

use crate::{
    archive::{self, ArchiveError, Member, Whole},
    digest::Digest,
    index::{Builder, IndexError, Known},
    kind, limits,
    pack::{self, Place},
    report,
};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, BufReader, Read, Write};

/// The longest line of metadata, in bytes.
const LONGEST_LINE: u64 = 64 << 10;

/// A day that was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// What arrived.
    pub whole: Whole,
    /// Samples in it.
    pub samples: u64,
    /// Reports in it.
    pub reports: u64,
}

/// Where a day goes.
#[derive(Debug)]
pub struct Packer<S: Write, R: Write> {
    samples: pack::Writer<S>,
    reports: pack::Writer<R>,
    index: Builder,
    buffer: Vec<u8>,
    report: Vec<u8>,
}

fn of_index(e: IndexError) -> ArchiveError {
    match e.is_too_large() {
        true => ArchiveError::Refused(
            "what is known of this day is more than fits into the memory of one: bring it as two days"
                .into(),
        ),
        false => ArchiveError::Write(io::Error::other(e)),
    }
}

impl<S: Write, R: Write> Packer<S, R> {
    /// Begins one, whose samples and reports go to these.
    pub fn new(samples: S, reports: R) -> Result<Packer<S, R>, ArchiveError> {
        Ok(Packer {
            samples: pack::Writer::new(samples).map_err(ArchiveError::Write)?,
            reports: pack::Writer::new(reports).map_err(ArchiveError::Write)?,
            index: Builder::new().map_err(of_index)?,
            buffer: vec![0; 256 << 10],
            report: Vec::new(),
        })
    }

    /// Reads `tar` to its end and writes what it has, its index to `index`, and to `hashes` the hash of
    /// each sample and report; `heard` is told of each member how many bytes were read so far.
    ///
    /// Errors: it is no day, with the member and why; what was written is worth nothing then.
    pub fn pack(
        mut self,
        tar: impl Read,
        mut index: impl Write,
        mut hashes: impl Write,
        heard: impl FnMut(u64),
    ) -> Result<Packed, ArchiveError> {
        let whole =
            archive::read(tar, |member, bytes, size| self.member(member, bytes, size), heard)?;
        let (samples, reports) = self.index.counts();
        if samples + reports == 0 {
            let what = "there is no sample and no report in it: bring a day that has some";
            return Err(ArchiveError::Refused(what.into()));
        }
        self.samples.end().map_err(ArchiveError::Write)?;
        self.reports.end().map_err(ArchiveError::Write)?;
        let all: Vec<u8> = self.index.hashes().into_iter().flat_map(|hash| hash.0).collect();
        hashes.write_all(&all).and_then(|()| hashes.flush()).map_err(ArchiveError::Write)?;
        let written = self.index.end(|bytes| index.write_all(bytes).and_then(|()| index.flush()));
        written.map_err(of_index)?.map_err(ArchiveError::Write)?;
        Ok(Packed { whole, samples, reports })
    }

    fn member(
        &mut self,
        member: Member,
        bytes: &mut dyn Read,
        size: u64,
    ) -> Result<(), ArchiveError> {
        match member {
            Member::Sample(digest) => self.sample(digest, member, bytes, size),
            Member::Report(digest, run) => self.report(digest, run, member, bytes),
            Member::Metadata => self.metadata(member, bytes),
        }
    }

    fn sample(
        &mut self,
        digest: Digest,
        member: Member,
        bytes: &mut dyn Read,
        size: u64,
    ) -> Result<(), ArchiveError> {
        let place = Place { digest, at: self.samples.at(), bytes: size };
        let (mut hash, mut mask) = (Sha256::new(), pack::mask(digest, 0));
        let mut kind = None;
        loop {
            // The first piece is as long as a type is told by, if there is as much.
            let n = match kind {
                None => full(bytes, &mut self.buffer[..kind::HEAD]),
                Some(_) => bytes.read(&mut self.buffer),
            };
            let n = n.map_err(ArchiveError::Read)?;
            let piece = &mut self.buffer[..n];
            kind.get_or_insert_with(|| kind::of(piece));
            if n == 0 {
                break;
            }
            hash.update(&*piece);
            self.samples.add(&mut mask, piece).map_err(ArchiveError::Write)?;
        }
        let is = Digest(hash.finalize().into());
        if self.samples.at() - place.at == size && is != digest {
            let what = format!("its bytes have another SHA-256: {is}");
            return Err(ArchiveError::of(member, what));
        }
        self.index.sample(place, kind.unwrap_or("empty"));
        Ok(())
    }

    fn report(
        &mut self,
        digest: Digest,
        run: u32,
        member: Member,
        bytes: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        self.report.clear();
        bytes.read_to_end(&mut self.report).map_err(ArchiveError::Read)?;
        let report = report::read(&self.report).map_err(|e| ArchiveError::of(member, e))?;
        if report.sample != digest {
            let what = format!("it is of another sample, {}", report.sample);
            return Err(ArchiveError::of(member, what));
        }
        let own = Digest(Sha256::digest(&self.report).into());
        let place = Place { digest: own, at: self.reports.at(), bytes: self.report.len() as u64 };
        self.reports.add(&mut pack::mask(own, 0), &mut self.report).map_err(ArchiveError::Write)?;
        self.index.report(run, &report, place).map_err(of_index)
    }

    fn metadata(&mut self, member: Member, bytes: &mut dyn Read) -> Result<(), ArchiveError> {
        let mut lines = BufReader::new(bytes);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = (&mut lines).take(LONGEST_LINE + 1).read_until(b'\n', &mut line);
            if read.map_err(ArchiveError::Read)? == 0 {
                break;
            }
            let of = |what: String| ArchiveError::of(member, format!("line {number}: {what}"));
            if line.len() as u64 > LONGEST_LINE {
                return Err(of(format!("longer than {LONGEST_LINE} bytes")));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            if number > limits::MEMBERS {
                return Err(of("there are too many".into()));
            }
            let (digest, known) = Known::read(&line).map_err(|e| of(e.to_string()))?;
            self.index.known(digest, known);
        }
        Ok(())
    }
}

/// Reads until `buffer` is full or nothing more comes; gives how many bytes those were.
fn full(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;

//! What a sandbox wrote of a run: `report.json` of CAPE or Cuckoo, of which the original is kept and
//! what people search for is taken.
//!
//! Sources of the shapes: `modules/processing` and `lib/cuckoo/common` of Cuckoo 2.0 and CAPEv2. Their
//! writers were fed by malware: nothing is believed but that these are texts, of bounded length. A part
//! that has another shape than theirs has nothing that is searched for, and is kept as it is.

mod gather;
mod part;

use crate::{digest::Digest, json, limits};
use gather::{Summary, Texts};
use part::{merged, part, some_part, word};
use serde::{Deserialize, de::IgnoredAny};
use std::borrow::Cow;

/// Which sandbox wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// CAPE, and what descends from it.
    Cape,
    /// Cuckoo 2.
    Cuckoo,
}

impl Sandbox {
    /// Its word in lists and the index.
    pub fn word(self) -> &'static str {
        match self {
            Sandbox::Cape => "cape",
            Sandbox::Cuckoo => "cuckoo",
        }
    }
}

/// What is found of a report by search; each field a text of words and lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Processes and what they were started with.
    pub processes: String,
    /// Files and folders.
    pub files: String,
    /// Keys and values of the registry.
    pub registry: String,
    /// Mutexes.
    pub mutexes: String,
    /// Names that were resolved or spoken with.
    pub domains: String,
    /// Addresses.
    pub addresses: String,
    /// Names and descriptions of signatures.
    pub signatures: String,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The sample that it says it is of.
    pub sample: Digest,
    /// Who wrote it.
    pub sandbox: Sandbox,
    /// When the run began, as it says; at most 40 characters.
    pub started: String,
    /// The family that it names; empty where it names none.
    pub family: String,
    /// What is searched for.
    pub found: Found,
}

/// A report that is none.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Longer than is read.
    #[error("a report of {0} bytes is more than the {most} that are taken", most = limits::REPORT_BYTES)]
    Long(usize),
    /// Not text.
    #[error("it is no UTF-8 from byte {0} on")]
    Text(usize),
    /// Not JSON, or too deep.
    #[error("it is no JSON that is read here: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON of something else.
    #[error("it is no report of CAPE or Cuckoo: {0}")]
    Shape(&'static str),
}

/// Reads the report `bytes`. Takes memory of a small multiple of them, and time in proportion.
///
/// Of a text with halves of surrogate pairs, and of numbers that are none, as Python writes them, U+FFFD
/// and nothing are found.
pub fn read(bytes: &[u8]) -> Result<Report, ReportError> {
    if bytes.len() as u64 > limits::REPORT_BYTES {
        return Err(ReportError::Long(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| ReportError::Text(e.valid_up_to()))?;
    json::lenient(text, |text| Ok(taken(serde_json::from_str::<Whole<'_>>(text)?.written)))?
}

fn taken(written: Written<'_>) -> Result<Report, ReportError> {
    let hash = written.target.file.sha256.as_deref();
    let hash = hash.ok_or(ReportError::Shape("target.file.sha256 is not there"))?;
    let sample = Digest::read(&hash.to_ascii_lowercase())
        .ok_or(ReportError::Shape("target.file.sha256 is no SHA-256"))?;
    if written.info.is_none() {
        return Err(ReportError::Shape("info is not there"));
    }
    Ok(written.into_report(sample))
}

/// An object, as every part of one that is read.
#[derive(Deserialize)]
#[serde(transparent)]
struct Whole<'a> {
    #[serde(borrow, deserialize_with = "part")]
    written: Written<'a>,
}

/// What is read of it; all else is passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Written<'a> {
    #[serde(borrow, deserialize_with = "some_part")]
    info: Option<Info<'a>>,
    #[serde(borrow, deserialize_with = "part")]
    target: Target<'a>,
    #[serde(deserialize_with = "part")]
    behavior: Behavior,
    #[serde(deserialize_with = "part")]
    network: Network,
    signatures: Texts,
    malfamily: Texts,
    detections: Texts,
    #[serde(rename = "CAPE")]
    cape: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Info<'a> {
    #[serde(borrow, deserialize_with = "word")]
    version: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "word")]
    started: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Target<'a> {
    #[serde(borrow, deserialize_with = "part")]
    file: TargetFile<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TargetFile<'a> {
    #[serde(borrow, deserialize_with = "word")]
    sha256: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Behavior {
    processes: Texts,
    processtree: Texts,
    #[serde(deserialize_with = "part")]
    summary: Summary,
    /// What Cuckoo tells by process, of all of them.
    #[serde(deserialize_with = "merged")]
    generic: Summary,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Network {
    hosts: Texts,
    domains: Texts,
    dns: Texts,
    http: Texts,
    tcp: Texts,
    udp: Texts,
}

impl Written<'_> {
    fn into_report(self, sample: Digest) -> Report {
        let info = self.info.unwrap_or_default();
        let version = info.version.unwrap_or_default();
        let cape = version.to_ascii_uppercase().contains("CAPE")
            || self.cape.is_some()
            || !self.detections.is_empty()
            || !self.malfamily.is_empty();
        let mut summary = self.behavior.summary;
        summary.add(self.behavior.generic);
        let started: String =
            info.started.unwrap_or_default().chars().filter(|c| !c.is_control()).take(40).collect();
        let family = self.malfamily.first().or_else(|| self.detections.first());
        let (hosts, addresses): (Vec<_>, Vec<_>) = [
            self.network.hosts,
            self.network.domains,
            self.network.dns,
            self.network.http,
            self.network.tcp,
            self.network.udp,
            summary.network,
        ]
        .into_iter()
        .flat_map(Texts::into_vec)
        .partition(|text| text.parse::<std::net::IpAddr>().is_err());
        let processes = [self.behavior.processes, self.behavior.processtree, summary.processes];
        Report {
            sample,
            sandbox: if cape { Sandbox::Cape } else { Sandbox::Cuckoo },
            started,
            family: family.map(short).unwrap_or_default(),
            found: Found {
                processes: lines(processes.into_iter().flat_map(Texts::into_vec)),
                files: lines(summary.files.into_vec()),
                registry: lines(summary.registry.into_vec()),
                mutexes: lines(summary.mutexes.into_vec()),
                domains: lines(hosts),
                addresses: lines(addresses),
                signatures: lines(self.signatures.into_vec()),
            },
        }
    }
}

fn short(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    plain[..plain.floor_char_boundary(limits::TEXT_BYTES)].trim().into()
}

/// Each text once, in the order of their first places, a line for each, up to the bound of a field.
fn lines(texts: impl IntoIterator<Item = String>) -> String {
    let mut seen = std::collections::HashSet::new();
    let mut lines = String::new();
    for text in texts {
        if lines.len() + text.len() >= limits::FIELD_BYTES {
            break;
        }
        if seen.insert(text.clone()) {
            lines.push_str(&text);
            lines.push('\n');
        }
    }
    lines
}

#[cfg(test)]
mod tests;

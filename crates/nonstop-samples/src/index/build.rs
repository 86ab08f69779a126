//! An index while its day is read.

use super::{FORMAT, INDEXES, Index, IndexError, SCHEMA};
use crate::{digest::Digest, json, limits, pack::Place, report::Report};
use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::TimeZone,
};
use rusqlite::{Connection, MAIN_DB, params};
use serde::{Deserialize, Deserializer, de};
use std::{borrow::Cow, collections::HashMap};

/// What is written of a sample besides; each may be left out or null, and what else stands there is
/// passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Known {
    sha256: String,
    #[serde(deserialize_with = "or_nothing")]
    family: String,
    #[serde(deserialize_with = "or_nothing")]
    tags: Vec<String>,
    #[serde(deserialize_with = "day")]
    first_seen: Option<Date>,
    #[serde(deserialize_with = "day")]
    last_seen: Option<Date>,
    #[serde(deserialize_with = "or_nothing")]
    source: String,
}

/// A value, or none for null.
fn or_nothing<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A day, or that of a time: in UTC, which a time without a zone is taken to be in.
fn day<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Date>, D::Error> {
    let Some(text) = Option::<Cow<'_, str>>::deserialize(from)? else { return Ok(None) };
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Some(TimeZone::UTC.to_datetime(at).date()));
    }
    let day = text.parse::<DateTime>().map(DateTime::date).or_else(|_| text.parse());
    day.map(Some).map_err(de::Error::custom)
}

/// A line of metadata that is none.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Not text.
    #[error("it is no UTF-8 from byte {0} on")]
    Text(usize),
    /// Not JSON, or of other types.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It names no sample.
    #[error("`sha256` is not 64 lower-case hexadecimal digits")]
    Hash,
    /// Too much of something.
    #[error("{0}")]
    Long(String),
}

impl Known {
    /// Reads a line.
    pub fn read(line: &[u8]) -> Result<(Digest, Known), MetadataError> {
        let text = std::str::from_utf8(line).map_err(|e| MetadataError::Text(e.valid_up_to()))?;
        let known: Known = json::lenient(text, |text| serde_json::from_str(text))?;
        let digest = Digest::read(&known.sha256).ok_or(MetadataError::Hash)?;
        let words = [("family", &known.family), ("source", &known.source)];
        let tags = known.tags.iter().map(|tag| ("a tag", tag));
        for (what, word) in words.into_iter().chain(tags) {
            if word.len() > limits::TEXT_BYTES || word.contains(char::is_control) {
                let most = limits::TEXT_BYTES;
                let told = format!("{what} is not printable text of at most {most} bytes");
                return Err(MetadataError::Long(told));
            }
        }
        if known.tags.len() > limits::TAGS {
            return Err(MetadataError::Long(format!("more than {} tags", limits::TAGS)));
        }
        Ok((digest, known))
    }
}

/// What is gathered of a sample until its day was read.
#[derive(Debug, Default)]
struct Gathered {
    place: Option<Place>,
    kind: &'static str,
    known: Known,
    /// Of the first report that names one; what the metadata says goes before it.
    family: String,
    reports: u32,
}

/// Makes an index in memory.
#[derive(Debug)]
pub struct Builder {
    db: Connection,
    numbers: HashMap<Digest, usize>,
    samples: Vec<(Digest, Gathered)>,
    reports: Vec<Digest>,
}

impl Builder {
    /// An empty one. From here on it takes memory, and no file.
    pub fn new() -> Result<Builder, IndexError> {
        let db = Connection::open_in_memory()?;
        db.execute_batch(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4000;
             PRAGMA user_version = {FORMAT}; {SCHEMA}
             -- Words are kept in memory as long, so that they are sorted once.
             INSERT INTO report_text (report_text, rank) VALUES ('hashsize', 100000000);
             BEGIN"
        ))?;
        // SQLite takes the seed of its random numbers from a file when it first wants some.
        let _seeded: i64 = db.query_row("SELECT random()", [], |row| row.get(0))?;
        Ok(Builder { db, numbers: HashMap::new(), samples: Vec::new(), reports: Vec::new() })
    }

    fn of(&mut self, digest: Digest) -> (usize, &mut Gathered) {
        let number = *self.numbers.entry(digest).or_insert_with(|| {
            self.samples.push((digest, Gathered::default()));
            self.samples.len() - 1
        });
        (number, &mut self.samples[number].1)
    }

    /// The day has a sample of the type `kind`, whose bytes lie at `place` in its pack.
    pub fn sample(&mut self, place: Place, kind: &'static str) {
        let (_, gathered) = self.of(place.digest);
        (gathered.place, gathered.kind) = (Some(place), kind);
    }

    /// The day has `report`, by its `run`, which lies at `place` in its pack.
    pub fn report(&mut self, run: u32, report: &Report, place: Place) -> Result<(), IndexError> {
        let (number, gathered) = self.of(report.sample);
        gathered.reports += 1;
        if gathered.family.is_empty() {
            gathered.family.clone_from(&report.family);
        }
        self.reports.push(place.digest);
        let id = self.reports.len() as i64;
        self.db
            .prepare_cached("INSERT INTO reports VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                id,
                number as i64,
                run,
                place.digest.0,
                place.at,
                place.bytes,
                report.sandbox.word(),
                report.started
            ])?;
        let found = &report.found;
        self.db
            .prepare_cached(
                "INSERT INTO report_text (rowid, processes, files, registry, mutexes, domains, \
                 addresses, signatures) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                id,
                found.processes,
                found.files,
                found.registry,
                found.mutexes,
                found.domains,
                found.addresses,
                found.signatures
            ])?;
        Ok(())
    }

    /// The day's metadata has `known` of `digest`; the last line of a sample counts.
    pub fn known(&mut self, digest: Digest, known: Known) {
        self.of(digest).1.known = known;
    }

    /// How many samples and reports there are so far.
    pub fn counts(&self) -> (u64, u64) {
        let samples = self.samples.iter().filter(|(_, gathered)| gathered.place.is_some());
        (samples.count() as u64, self.reports.len() as u64)
    }

    /// The hash of each sample and each report whose bytes the day has, ascending, none twice.
    pub fn hashes(&self) -> Vec<Digest> {
        let samples = self.samples.iter().filter(|(_, gathered)| gathered.place.is_some());
        let mut hashes: Vec<Digest> =
            samples.map(|(digest, _)| *digest).chain(self.reports.iter().copied()).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }

    /// Has `take` take the whole index as the bytes of its file.
    pub fn end<T>(self, take: impl FnOnce(&[u8]) -> T) -> Result<T, IndexError> {
        let Builder { db, samples, .. } = self;
        {
            let mut sample = db.prepare(
                "INSERT INTO samples VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?;
            let mut tag = db.prepare("INSERT OR IGNORE INTO tags VALUES (?1, ?2)")?;
            for (number, (digest, of)) in samples.iter().enumerate() {
                let known = &of.known;
                let family = if known.family.is_empty() { &of.family } else { &known.family };
                sample.execute(params![
                    number as i64,
                    digest.0,
                    of.place.map(|place| place.at),
                    of.place.map(|place| place.bytes),
                    of.kind,
                    family,
                    known.tags.join("\n"),
                    known.first_seen.map(|day| day.to_string()),
                    known.last_seen.map(|day| day.to_string()),
                    known.source,
                    of.reports
                ])?;
                for word in &known.tags {
                    tag.execute(params![word, number as i64])?;
                }
            }
        }
        db.execute_batch(&format!("COMMIT; {INDEXES} ANALYZE"))?;
        // A copy where the memory is in pieces, and the memory itself where it is not.
        Ok(take(&db.serialize(MAIN_DB)?))
    }

    /// The same, to be searched at once.
    pub fn into_index(self) -> Result<Index, IndexError> {
        self.end(|bytes| {
            let mut db = Connection::open_in_memory()?;
            db.deserialize_read_exact(MAIN_DB, bytes, bytes.len(), true)?;
            Index::of(db)
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is known by a line with `more` in it.
    fn known(more: &serde_json::Value) -> Result<Known, String> {
        let mut line = json!({ "sha256": "ab".repeat(32) });
        let more = more.as_object().expect("an object").clone();
        line.as_object_mut().expect("an object").extend(more);
        let read = Known::read(line.to_string().as_bytes());
        read.map(|(_, known)| known).map_err(|e| e.to_string())
    }

    #[test]
    fn null_says_nothing() {
        let null = json!({ "family": null, "tags": null, "source": null, "first_seen": null,
            "last_seen": null, "other": null });
        assert_eq!(known(&null), known(&json!({})));
        assert!(known(&json!({ "sha256": null })).is_err());
        for (what, wrong) in [("family", json!(7)), ("tags", json!("a")), ("source", json!({}))] {
            assert!(known(&json!({ what: wrong })).is_err(), "{what}");
        }
    }

    #[test]
    fn a_time_is_seen_on_its_day_in_utc() {
        for (text, day) in [
            ("2026-11-27", "2026-11-27"),
            ("2026-11-27 23:30:00", "2026-11-27"),
            ("2026-11-27T23:30:00.125Z", "2026-11-27"),
            ("2026-11-27T23:30:00-05:00", "2026-11-28"),
            ("2026-11-27 08:30:00+09:00", "2026-11-26"),
        ] {
            let known = known(&json!({ "first_seen": text, "last_seen": text })).expect(text);
            let day = Some(day.parse().expect("a day"));
            assert_eq!((known.first_seen, known.last_seen), (day, day), "{text}");
        }
        for wrong in [json!("yesterday"), json!("2026-13-01"), json!(1_764_000_000), json!([])] {
            assert!(known(&json!({ "first_seen": wrong })).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_as_python_and_windows_write_it_is_read() {
        let hash = "ab".repeat(32);
        let line = format!(r#"{{"sha256":"{hash}","source":"a\udc80","score":NaN}}"#);
        let (digest, known) = Known::read(format!("\u{feff}{line}\r\n").as_bytes()).expect("known");
        assert_eq!((digest.to_string(), known.source), (hash, "a\u{fffd}".into()));
        assert!(matches!(Known::read(b"{\"a\":\"\xff\"}"), Err(MetadataError::Text(6))));
    }
}

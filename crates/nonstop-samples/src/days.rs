//! All published days: a folder for each in one folder, exchanged as a whole.
//!
//! A day is opened once and kept; whether it is still the day is asked by the number of its folder,
//! which cannot become another's while it is held open here.

use crate::{
    digest::Digest,
    index::{Index, IndexError, KeptReport, Sample},
};
use jiff::civil::Date;
use nonstop_api::day::{INDEX, REPORTS_PACK, SAMPLES_PACK};
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How often a day is opened anew that is exchanged meanwhile.
const TRIES: usize = 5;

/// A day that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DayError {
    /// Its folder or a file in it.
    #[error("open {0}")]
    Open(PathBuf, #[source] io::Error),
    /// Its index.
    #[error("the day {0}")]
    Index(Date, #[source] IndexError),
}

/// One version of a day.
#[derive(Debug)]
pub struct Day {
    /// Which.
    pub day: Date,
    folder: File,
    index: Mutex<Index>,
    /// The same, opened a second time: who looks a hash up waits for no search.
    by_hash: Mutex<Index>,
    samples: Option<File>,
    reports: File,
}

impl Day {
    /// Its index, for as long as the lock is held.
    pub fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it knows of `digest`.
    pub fn sample(&self, digest: Digest) -> Result<Option<Sample>, DayError> {
        self.look_up(|index| index.sample(digest))
    }

    /// The hashes that begin as `low` and end before or as `high`, up to two of them.
    pub fn between(&self, low: Digest, high: Digest) -> Result<Vec<Digest>, DayError> {
        self.look_up(|index| index.between(low, high))
    }

    /// The reports that it has of `digest`, by their runs.
    pub fn reports(&self, digest: Digest) -> Result<Vec<KeptReport>, DayError> {
        self.look_up(|index| index.reports(digest))
    }

    fn look_up<T>(
        &self,
        asked: impl FnOnce(&Index) -> Result<T, IndexError>,
    ) -> Result<T, DayError> {
        let index = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
        asked(&index).map_err(|e| DayError::Index(self.day, e))
    }

    /// The pack of its samples; none where this process is not to have their bytes.
    pub fn samples_pack(&self) -> Option<&File> {
        self.samples.as_ref()
    }

    /// The pack of its reports.
    pub fn reports_pack(&self) -> &File {
        &self.reports
    }

    fn is(&self, found: &fs::Metadata) -> bool {
        self.folder.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
    }
}

/// All published days of a data domain.
#[derive(Debug)]
pub struct Days {
    folder: PathBuf,
    bytes: bool,
    kept: Mutex<HashMap<Date, Arc<Day>>>,
}

impl Days {
    /// Those in `folder`; with the bytes of samples only where `bytes` says so.
    pub fn new(folder: &Path, bytes: bool) -> Days {
        Days { folder: folder.into(), bytes, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Date, Arc<Day>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether bytes of samples can be had.
    pub fn with_bytes(&self) -> bool {
        self.bytes
    }

    /// The version of `day` that is published now; None if there is none.
    pub fn get(&self, day: Date) -> Result<Option<Arc<Day>>, DayError> {
        let path = self.folder.join(day.to_string());
        for _ in 0..TRIES {
            let found = match fs::symlink_metadata(&path) {
                Ok(found) => found,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.kept().remove(&day);
                    return Ok(None);
                }
                Err(e) => return Err(DayError::Open(path, e)),
            };
            if let Some(kept) = self.kept().get(&day).filter(|kept| kept.is(&found)) {
                return Ok(Some(Arc::clone(kept)));
            }
            match open(&path, day, self.bytes) {
                // Its parts are of one version only if none came between.
                Ok(opened) if fs::symlink_metadata(&path).is_ok_and(|now| opened.is(&now)) => {
                    let opened = Arc::new(opened);
                    self.kept().insert(day, Arc::clone(&opened));
                    return Ok(Some(opened));
                }
                Ok(_) => {}
                Err(_) if !fs::symlink_metadata(&path).is_ok_and(|now| same(&now, &found)) => {}
                Err(e) => return Err(e),
            }
        }
        Err(DayError::Open(path, io::ErrorKind::NotFound.into()))
    }

    /// Every day that is published now, the newest first; and those that cannot be read.
    pub fn all(&self) -> io::Result<(Vec<Arc<Day>>, Vec<DayError>)> {
        let mut days = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            days.extend(entry?.file_name().to_str().and_then(day_of));
        }
        days.sort_by_key(|day| std::cmp::Reverse(*day));
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for day in days {
            match self.get(day) {
                Ok(day) => found.extend(day),
                Err(e) => wrong.push(e),
            }
        }
        Ok((found, wrong))
    }

    /// Lets go of what is no longer published, so that its room on the disk becomes free.
    pub fn forget(&self) {
        let kept: Vec<Arc<Day>> = self.kept().values().map(Arc::clone).collect();
        for day in kept {
            let now = fs::symlink_metadata(self.folder.join(day.day.to_string()));
            if !now.is_ok_and(|now| day.is(&now)) {
                self.kept().remove(&day.day);
            }
        }
    }
}

fn same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The day that `name` is, written as days are.
pub fn day_of(name: &str) -> Option<Date> {
    let day: Date = name.parse().ok()?;
    (day.to_string() == name).then_some(day)
}

fn open(path: &Path, day: Date, bytes: bool) -> Result<Day, DayError> {
    let file = |name: &str| {
        let path = path.join(name);
        File::open(&path).map_err(|e| DayError::Open(path, e))
    };
    let folder = file(".")?;
    let samples = bytes.then(|| file(SAMPLES_PACK)).transpose()?;
    let reports = file(REPORTS_PACK)?;
    let index = || Index::open(&path.join(INDEX)).map_err(|e| DayError::Index(day, e));
    let (index, by_hash) = (Mutex::new(index()?), Mutex::new(index()?));
    Ok(Day { day, folder, index, by_hash, samples, reports })
}

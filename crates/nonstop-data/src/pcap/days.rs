//! The folder of published days: each day is a folder in it that is exchanged as a whole.
//!
//! A day's folder is opened once, and note and file are taken from what was opened: so hash, length,
//! listing and bytes are of one version, and a download that is under way goes on with the one it
//! began with. Opened days are kept; whether one is still the day is asked by the number of its
//! folder, which cannot become another's while it is held open here.

use jiff::{Timestamp, civil::Date};
use nonstop_api::day::Day;
use nonstop_http::Version;
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, fstat, openat2, statat},
    io::Errno,
};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    mem::MaybeUninit,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Days that are kept open, at two descriptors each.
pub(super) const KEPT: usize = 4096;

/// How often a day is opened anew that is exchanged meanwhile.
const TRIES: usize = 5;

/// All published days.
#[derive(Debug)]
pub(super) struct Days {
    folder: OwnedFd,
    kept: Mutex<HashMap<Date, Arc<Open>>>,
}

/// One version of a day.
#[derive(Debug)]
pub(super) struct Open {
    /// What was written down when it was published.
    pub(super) note: Day,
    /// Its file.
    pub(super) file: File,
    /// Its version: the file's hash, and when it was published, to the second.
    pub(super) version: Version,
    folder: OwnedFd,
}

/// A day that cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum DayError {
    /// Its folder or file cannot be read.
    #[error("open {0}")]
    Open(Date, #[source] io::Error),
    /// What lies there is not what was published.
    #[error("{0}: {1}; `nonstop data publish` the day again")]
    Wrong(Date, String),
}

impl Days {
    /// Those in `folder`.
    pub(super) fn new(folder: OwnedFd) -> Days {
        Days { folder, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Date, Arc<Open>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the folder itself is still there, and not only held open here.
    pub(super) fn is_there(&self) -> bool {
        fstat(&self.folder).is_ok_and(|found| found.st_nlink > 0)
    }

    /// The version of `day` that is published now; None if there is none.
    pub(super) fn get(&self, day: Date) -> Result<Option<Arc<Open>>, DayError> {
        for _ in 0..TRIES {
            let found = match self.number(day) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    self.kept().remove(&day);
                    return Ok(None);
                }
                Err(e) => return Err(DayError::Open(day, e.into())),
            };
            if let Some(kept) = self.kept().get(&day).filter(|kept| kept.is(&found)) {
                return Ok(Some(Arc::clone(kept)));
            }
            match open(self.folder.as_fd(), day) {
                Ok(opened) => {
                    let opened = Arc::new(opened);
                    let mut kept = self.kept();
                    if kept.len() >= KEPT {
                        kept.clear();
                    }
                    kept.insert(day, Arc::clone(&opened));
                    return Ok(Some(opened));
                }
                // Exchanged or removed between two steps: look again.
                Err(DayError::Open(_, e)) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Err(DayError::Open(day, Errno::NOENT.into()))
    }

    fn number(&self, day: Date) -> Result<Stat, Errno> {
        statat(&self.folder, day.to_string(), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Every day that is published now, the newest first; and those that cannot be served.
    pub(super) fn all(&self) -> io::Result<(Vec<Arc<Open>>, Vec<DayError>)> {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        let listing = below(self.folder.as_fd(), ".", OFlags::DIRECTORY)?;
        let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
        let mut entries = RawDir::new(&listing, &mut buffer);
        while let Some(entry) = entries.next() {
            let Some(day) = entry?.file_name().to_str().ok().and_then(day_of) else { continue };
            match self.get(day) {
                Ok(day) => found.extend(day),
                Err(e) => wrong.push(e),
            }
        }
        found.sort_by_key(|open| std::cmp::Reverse(open.note.day));
        Ok((found, wrong))
    }

    /// Lets go of what is no longer published, so that its room on the disk becomes free.
    pub(super) fn forget(&self) {
        let kept: Vec<Date> = self.kept().keys().copied().collect();
        for day in kept {
            let now = self.number(day);
            let mut kept = self.kept();
            let is = |open: &Arc<Open>| now.as_ref().is_ok_and(|found| open.is(found));
            if kept.get(&day).is_some_and(|open| !is(open)) {
                kept.remove(&day);
            }
        }
    }
}

/// The day that `name` is, written as days are.
pub(super) fn day_of(name: &str) -> Option<Date> {
    let day: Date = name.parse().ok()?;
    (day.to_string() == name).then_some(day)
}

impl Open {
    fn is(&self, found: &Stat) -> bool {
        fstat(&self.folder)
            .is_ok_and(|own| (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino))
    }
}

fn open(folder: impl AsFd, day: Date) -> Result<Open, DayError> {
    let failed = |e: io::Error| DayError::Open(day, e);
    let wrong = |what: &str| DayError::Wrong(day, what.into());
    let folder = below(folder, &day.to_string(), OFlags::DIRECTORY).map_err(failed)?;
    let note = File::from(below(&folder, Day::FILE, OFlags::NONBLOCK).map_err(failed)?);
    let mut text = Vec::new();
    let most = u64::try_from(Day::LONGEST).unwrap_or(u64::MAX);
    note.take(most + 1).read_to_end(&mut text).map_err(failed)?;
    let note: Day = serde_json::from_slice(&text)
        .map_err(|e| DayError::Wrong(day, format!("its {} is broken ({e})", Day::FILE)))?;
    let whole = note.day == day
        && ["pcap", "pcapng"].contains(&note.format.as_str())
        && note.file == format!("{day}.{}", note.format)
        && note.sha256.len() == 64
        && note.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !whole || text.len() > Day::LONGEST {
        return Err(wrong("its day.json is of something else"));
    }
    let file = File::from(below(&folder, &note.file, OFlags::NONBLOCK).map_err(failed)?);
    let found = fstat(&file).map_err(|e| failed(e.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(wrong("its file is none"));
    }
    if u64::try_from(found.st_size) != Ok(note.bytes) {
        return Err(wrong("its file has another length than the one published"));
    }
    let modified = Timestamp::from_second(note.published.as_second()).unwrap_or(note.published);
    Ok(Open {
        version: Version { etag: format!("\"{}\"", note.sha256), modified },
        note,
        file,
        folder,
    })
}

/// What is `name` in `folder` and lies below it, and is no link to elsewhere.
fn below(folder: impl AsFd, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(openat2(folder, name, flags, Mode::empty(), resolve)?)
}

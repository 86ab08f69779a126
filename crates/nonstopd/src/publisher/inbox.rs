//! The inbox of a data domain: what lies in it, and what of it can be taken.

use super::{
    folders::{Folders, absent_is_fine, open_quietly},
    lease::is_written,
};
use nonstop_model::publication::{LONGEST_FILE_NAME, UPLOAD};
use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

/// What lies in an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Its name.
    pub name: OsString,
    /// What it is.
    pub what: Arrived,
}

/// What can lie in an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrived {
    /// A file that can be taken.
    File {
        /// Its name, which is text.
        name: String,
        /// Its length.
        bytes: u64,
        /// When it was changed last.
        modified: SystemTime,
        /// Somebody has it open for writing.
        written: bool,
    },
    /// Something that is left where it is, and why.
    Unfit(&'static str),
}

/// An upload that nobody goes on with is removed after so long.
const ABANDONED: Duration = Duration::from_secs(3600);
impl Folders {
    /// What lies in the inbox, the oldest first; uploads that nobody goes on with are removed.
    pub fn arrivals(&self) -> io::Result<Vec<Arrival>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.inbox())? {
            let entry = entry?;
            let name = entry.file_name();
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(UPLOAD.as_bytes()) {
                self.sweep_upload(&entry.path())?;
            }
            let ends = |end: &str| bytes.ends_with(end.as_bytes());
            if bytes.starts_with(b".") || ends(".part") || ends(".tmp") {
                continue;
            }
            if let Some(what) = arrived(&entry.path(), &name)? {
                found.push(Arrival { name, what });
            }
        }
        found.sort_by_key(|arrival| match &arrival.what {
            Arrived::File { modified, .. } => (Some(*modified), arrival.name.clone()),
            Arrived::Unfit(_) => (None, arrival.name.clone()),
        });
        Ok(found)
    }

    fn sweep_upload(&self, path: &Path) -> io::Result<()> {
        let Some(file) = open_quietly(path)? else { return Ok(()) };
        let about = file.metadata()?;
        let old = about.modified()?.elapsed().is_ok_and(|age| age > ABANDONED);
        if about.is_file() && old && is_written(&file)? == Some(false) {
            self.hand.about_to("remove an abandoned upload")?;
            absent_is_fine(fs::remove_file(path))?;
        }
        Ok(())
    }

    /// Whether a file `name` can be taken from the inbox now.
    pub fn arrival(&self, name: &str) -> io::Result<Option<Arrived>> {
        let plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        if !plain {
            return Ok(None);
        }
        arrived(&self.inbox().join(name), OsStr::new(name))
    }
}

/// What is at `path` of an inbox; None if it is gone.
fn arrived(path: &Path, name: &OsStr) -> io::Result<Option<Arrived>> {
    let about = match path.symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        about => about?,
    };
    let text = name.to_str().filter(|name| !name.contains(|c: char| c.is_control()));
    let unfit = |why| Ok(Some(Arrived::Unfit(why)));
    if about.is_symlink() {
        return unfit("a link: bring the file itself");
    }
    if about.is_dir() {
        return unfit("a folder: put files into the inbox itself");
    }
    if !about.is_file() {
        return unfit("no file, but a pipe, socket or device");
    }
    if about.nlink() > 1 {
        return unfit("a file with other names in the file system: bring a copy");
    }
    let Some(text) = text.filter(|name| name.len() <= LONGEST_FILE_NAME) else {
        return unfit("a name that is too long or no plain text: rename it");
    };
    let Some(file) = open_quietly(path)? else { return Ok(None) };
    Ok(Some(Arrived::File {
        name: text.into(),
        bytes: about.len(),
        modified: about.modified()?,
        written: is_written(&file)?.unwrap_or(false),
    }))
}

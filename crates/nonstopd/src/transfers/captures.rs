//! What the lab itself made for an environment: a folder of root's, which machines read.

use super::asks::Held;
use jiff::Timestamp;
use nonstop_api::airlock::{Entry, EntryKind};
use nonstop_model::EntryPath;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
};

/// What is called `path` in `folder`.
pub(super) fn look(folder: &Path, path: &EntryPath) -> io::Result<(Entry, Held)> {
    let file = open(folder, path)?;
    let found = file.metadata()?;
    let name = path.as_str().rsplit('/').next().and_then(|name| name.parse().ok());
    let entry = entry(name, &found).ok_or(ErrorKind::NotFound)?;
    let held = if found.is_dir() { Held::Folder } else { Held::Open(file) };
    Ok((entry, held))
}

/// What lies in the folder `path` of `folder`, by name; what has a name that is not kept is left out.
pub(super) fn list(folder: &Path, path: &EntryPath) -> io::Result<Vec<Entry>> {
    let opened = match open(folder, path) {
        // Nothing was made for it yet.
        Err(e) if e.kind() == ErrorKind::NotFound && path.is_root() => return Ok(Vec::new()),
        other => other?,
    };
    let mut entries = Vec::new();
    for found in fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd()))? {
        let found = found?;
        let Some(name) = found.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(whole) = path.join(&name) else { continue };
        let Ok(file) = open(folder, &whole) else { continue };
        entries.extend(entry(Some(name), &file.metadata()?));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Opens it without following any link, or waiting for anybody.
fn open(folder: &Path, path: &EntryPath) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let root =
        openat2(CWD, folder, flags | OFlags::DIRECTORY, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    let path = if path.is_root() { "." } else { path.as_str() };
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(openat2(root, path, flags, Mode::empty(), within)?.into())
}

fn entry(name: Option<nonstop_model::EntryName>, found: &Metadata) -> Option<Entry> {
    let modified = Timestamp::new(found.mtime(), i32::try_from(found.mtime_nsec()).ok()?).ok()?;
    let (ino, size) = (found.ino(), found.len());
    let what = if found.is_dir() {
        EntryKind::Folder
    } else if found.is_file() {
        EntryKind::File {
            bytes: size,
            tag: format!("{ino:x}-{size:x}-{}", modified.as_nanosecond()),
        }
    } else {
        return None;
    };
    let id = format!("c{ino:x}");
    Some(Entry { id, name, what, created_at: modified, modified_at: modified })
}

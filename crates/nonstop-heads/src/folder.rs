//! A folder: a file a head, made once and never written again.
//!
//! No file is renamed or removed, so that the folder may be append-only. What a power cut or a full disk
//! left of a file is the beginning of its one line, which is completed the next time.

use crate::Refused;
use nonstop_api::heads::Parcel;
use rustix::fs::OFlags;
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Puts `head` into `folder`, which must be there: one that is made here would hide that nothing is
/// mounted.
///
/// Once it returns, the file is whole after a power cut. Repeatable.
pub(crate) fn put(folder: &Path, head: &Parcel) -> Result<(), Refused> {
    if head.file.contains('/') || head.file.starts_with('.') || head.file.is_empty() {
        return Err(Refused(format!("`{}` is no name of a head", head.file)));
    }
    let path = folder.join(&head.file);
    let doing = || format!("write {}", path.display());
    put_at(&path, head.line.as_bytes()).map_err(|e| Refused::io(doing(), &e))?;
    // The folder may be one that its writers cannot read.
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(e) if e.kind() != io::ErrorKind::PermissionDenied => Err(Refused::io(doing(), &e)),
        _ => Ok(()),
    }
}

fn put_at(path: &Path, line: &[u8]) -> io::Result<()> {
    let append = |options: &mut OpenOptions| {
        options.append(true).mode(0o644).custom_flags(flags()).open(path)
    };
    let (mut file, there) = match append(OpenOptions::new().create_new(true)) {
        Ok(file) => (file, 0),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let there = whole(path, line.len())?;
            if !line.starts_with(&there) {
                return Err(io::Error::other("another file has that name"));
            }
            (append(&mut OpenOptions::new())?, there.len())
        }
        Err(e) => return Err(e),
    };
    file.write_all(&line[there..])?;
    file.sync_all()
}

fn whole(path: &Path, longest: usize) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(flags()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("another thing has that name"));
    }
    let mut bytes = Vec::new();
    file.take(longest as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// No link is followed, and no pipe waited for.
fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed()
}

//! The bytes of an export, in a file that nobody else reads.
//!
//! They come by descriptor and go under a name of ours first, so that the file is there whole, with
//! the hash that was screened, or not at all.

use crate::{error::CliError, print, print_json};
use nonstop_api::{Client, Reply, Request};
use nonstop_model::ExportId;
use rustix::fs::{CWD, RenameFlags};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Writes export `id` into `out`, and says with which hash.
pub(super) fn run(
    client: &Client,
    id: ExportId,
    out: &Path,
    force: bool,
    json: bool,
) -> Result<(), CliError> {
    // Before anything is put into the trace.
    if !force && out.symlink_metadata().is_ok() {
        return Err(taken(out));
    }
    let (reply, file) = client.call_for_file(&Request::ExportFetch { id })?;
    let Reply::Export(view) = reply else { return Err(CliError::Otherwise) };
    let wanted = view.about.and_then(|about| about.sha256);
    let (bytes, sha256) = keep(File::from(file), out, wanted.as_deref(), force)?;
    if json {
        print_json(&json!({ "export": id, "out": out, "bytes": bytes, "sha256": sha256 }));
    } else {
        print(&format!("{bytes} bytes of {id} are in {}\nsha256 {sha256}", out.display()));
    }
    Ok(())
}

fn taken(out: &Path) -> CliError {
    CliError::Refused {
        message: format!("{} is there already", out.display()),
        help: Some("name another file, or replace it with --force".into()),
    }
}

/// Copies `from` to `out`, mode 0600, in one step; a link at `out` is replaced and not followed.
/// Gives how many bytes it has, and their SHA-256.
///
/// Errors: `out` is there and `force` is not said; the bytes are not those of `sha256`.
fn keep(
    mut from: File,
    out: &Path,
    sha256: Option<&str>,
    force: bool,
) -> Result<(u64, String), CliError> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| CliError::Write { path, source }
    };
    let part = beside(out).map_err(at(out))?;
    let made = File::options().write(true).create_new(true).mode(0o600).open(&part);
    let mut file = made.map_err(at(&part))?;
    let kept = copy(&mut from, &mut file)
        .and_then(|read| file.sync_all().map(|()| read))
        .map_err(at(&part))
        .and_then(|(bytes, found)| match sha256 {
            Some(wanted) if wanted != found => Err(CliError::NotGood(format!(
                "the bytes have the hash {found} and not {wanted}, which was screened: nothing was \
                 written; look with `nonstop trace verify`"
            ))),
            _ => Ok((bytes, found)),
        })
        .and_then(|read| {
            let flags = if force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            match rustix::fs::renameat_with(CWD, &part, CWD, out, flags) {
                Ok(()) => Ok(read),
                Err(rustix::io::Errno::EXIST) => Err(taken(out)),
                Err(e) => Err(at(out)(e.into())),
            }
        });
    if kept.is_err() {
        // What it was called is known to nobody: no reason to leave half a file.
        let _gone = std::fs::remove_file(&part);
    }
    kept
}

/// A name in the folder of `out` that nobody else uses.
fn beside(out: &Path) -> io::Result<PathBuf> {
    let name = out.file_name().ok_or_else(|| io::Error::other("that is no name of a file"))?;
    let mut part = OsString::from(".");
    part.push(name);
    part.push(format!(".{}.part", std::process::id()));
    Ok(out.with_file_name(part))
}

fn copy(from: &mut File, to: &mut File) -> io::Result<(u64, String)> {
    let (mut digest, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, hex::encode(digest.finalize())));
        }
        digest.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn source(folder: &Path) -> File {
        std::fs::write(folder.join("source"), "abc").expect("written");
        File::open(folder.join("source")).expect("open")
    }

    #[test]
    fn a_file_is_there_whole_and_its_owners_alone_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("結果.csv");
        let kept = keep(source(folder.path()), &out, Some(ABC), false).expect("kept");
        assert_eq!(kept, (3, ABC.into()));
        assert_eq!(out.metadata().expect("there").mode() & 0o777, 0o600);

        let other = folder.path().join("other");
        let wrong = keep(source(folder.path()), &other, Some("00"), false).expect_err("not those");
        assert!(wrong.to_string().contains("which was screened"), "{wrong}");
        let names = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(names, 2, "the source and the first one");
    }

    #[test]
    fn a_file_that_is_there_stays_unless_it_is_forced_and_no_link_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (out, precious) = (folder.path().join("out"), folder.path().join("precious"));
        std::fs::write(&precious, "mine").expect("written");
        symlink(&precious, &out).expect("a link");
        let refused = keep(source(folder.path()), &out, None, false).expect_err("it is there");
        assert!(refused.to_string().contains("is there already"), "{refused}");
        keep(source(folder.path()), &out, None, true).expect("forced");
        assert_eq!(std::fs::read(&precious).expect("there"), b"mine");
        assert_eq!(std::fs::read(&out).expect("there"), b"abc");
        assert!(!out.is_symlink());
    }
}

//! A folder of samples and reports, brought as the one archive that a day arrives as.

use crate::error::CliError;
use nonstop_model::publication::{SAMPLES, day_of};
use rustix::fs::{Mode, OFlags, open};
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// What stands beside the folders of a day.
const METADATA: &str = "metadata.jsonl";
/// The folders of a day.
const FOLDERS: [&str; 2] = ["samples", "reports"];
/// How often it is told how far it is.
const TELL: Duration = Duration::from_secs(1);
/// Bytes of a block of an archive.
const BLOCK: u64 = 512;

/// A folder that is going to be a day.
#[derive(Debug)]
pub(super) struct Folder {
    /// The name of its archive.
    pub(super) name: String,
    members: Vec<(String, PathBuf, u64)>,
}

impl Folder {
    /// The folder at `path`, which is named after its day and holds `samples/`, `reports/` and perhaps
    /// `metadata.jsonl`.
    ///
    /// Errors: it holds something else, or its name is no day.
    pub(super) fn at(path: &Path) -> Result<Folder, CliError> {
        let unread = |source| CliError::Read { path: path.into(), source };
        let whole = fs::canonicalize(path).map_err(unread)?;
        let name = whole.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = format!("{name}{SAMPLES}");
        if day_of(&name).is_none() {
            let path = path.display();
            return Err(CliError::Misused(format!(
                "{path} is named after no day: name a folder of samples YYYY-MM-DD"
            )));
        }
        let mut members = Vec::new();
        for (name, path, about) in entries(&whole)? {
            match name.as_str() {
                METADATA if about.is_file() => members.push((name, path, about.len())),
                folder if about.is_dir() && FOLDERS.contains(&folder) => {
                    for (inner, path, about) in entries(&path)? {
                        if !about.is_file() {
                            return Err(strange(&path));
                        }
                        members.push((format!("{folder}/{inner}"), path, about.len()));
                    }
                }
                _ => return Err(strange(&path)),
            }
        }
        if members.iter().all(|(name, ..)| name == METADATA) {
            let message = format!("{} holds neither samples nor reports", path.display());
            return Err(CliError::Misused(message));
        }
        Ok(Folder { name, members })
    }

    /// Length of its archive in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let members = self.members.iter().map(|(.., bytes)| BLOCK + bytes.next_multiple_of(BLOCK));
        members.sum::<u64>() + 2 * BLOCK
    }

    /// Writes its archive to `to`; `tell` hears now and then of how many bytes of how many.
    pub(super) fn write(&self, to: impl Write, mut tell: impl FnMut(u64, u64)) -> io::Result<u64> {
        let (mut done, of, mut told) = (0, self.bytes(), Instant::now());
        let mut archive = tar::Builder::new(to);
        for (name, path, bytes) in &self.members {
            let failed =
                |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = open(path, flags, Mode::empty()).map_err(io::Error::from);
            let file = file.map(File::from).map_err(failed)?;
            let mut header = tar::Header::new_ustar();
            header.set_size(*bytes);
            header.set_mode(0o444);
            header.set_path(name).map_err(failed)?;
            header.set_cksum();
            let whole = Whole { file, left: *bytes };
            archive.append(&header, whole).map_err(failed)?;
            done += BLOCK + bytes.next_multiple_of(BLOCK);
            if told.elapsed() > TELL {
                told = Instant::now();
                tell(done, of);
            }
        }
        archive.into_inner()?.flush()?;
        Ok(of)
    }
}

/// What lies in `folder`, by name.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf, fs::Metadata)>, CliError> {
    let unread = |source| CliError::Read { path: folder.into(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|_| strange(&path))?;
        let about = path.symlink_metadata().map_err(unread)?;
        found.push((name, path, about));
    }
    found.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    Ok(found)
}

fn strange(path: &Path) -> CliError {
    CliError::Misused(format!(
        "{} is nothing that a day of samples has: samples/SHA256, reports/SHA256.json and \
         {METADATA} alone, and no links",
        path.display()
    ))
}

/// A file that has the length that was announced, or fails.
struct Whole {
    file: File,
    left: u64,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "it became shorter meanwhile"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder(named: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(named);
        for inner in FOLDERS {
            fs::create_dir_all(path.join(inner)).expect("made");
        }
        (dir, path)
    }

    #[test]
    fn a_folder_becomes_one_archive_of_the_length_that_was_said() {
        let (_dir, path) = folder("2030-01-31");
        fs::write(path.join("samples/aa"), vec![7; 1025]).expect("written");
        fs::write(path.join("reports/aa.json"), "{}").expect("written");
        fs::write(path.join(METADATA), "").expect("written");
        let found = Folder::at(&path).expect("a day");
        assert_eq!(found.name, "2030-01-31.samples.tar");
        let mut bytes = Vec::new();
        found.write(&mut bytes, |_, _| {}).expect("written");
        assert_eq!(bytes.len() as u64, found.bytes());
        let mut archive = tar::Archive::new(&bytes[..]);
        let members: Vec<_> = archive
            .entries()
            .expect("an archive")
            .map(|member| {
                let mut member = member.expect("a member");
                let name = member.path().expect("a name").display().to_string();
                let mut bytes = Vec::new();
                member.read_to_end(&mut bytes).expect("read");
                (name, bytes)
            })
            .collect();
        let expected = [
            ("metadata.jsonl".to_string(), Vec::new()),
            ("reports/aa.json".to_string(), b"{}".to_vec()),
            ("samples/aa".to_string(), vec![7; 1025]),
        ];
        assert_eq!(members, expected);
    }

    #[test]
    fn what_is_no_day_is_said_before_anything_is_copied() {
        let (_dir, path) = folder("holiday");
        assert!(Folder::at(&path).expect_err("no day").to_string().contains("after no day"));
        let (_dir, path) = folder("2030-01-31");
        assert!(Folder::at(&path).expect_err("empty").to_string().contains("neither"));
        symlink("/etc/passwd", path.join("samples/aa")).expect("a link");
        assert!(Folder::at(&path).expect_err("a link").to_string().contains("samples/aa"));
        fs::remove_file(path.join("samples/aa")).expect("removed");
        fs::write(path.join("notes.txt"), "x").expect("written");
        assert!(Folder::at(&path).expect_err("strange").to_string().contains("notes.txt"));
    }

    #[test]
    fn a_file_that_becomes_shorter_ends_the_archive() {
        let (_dir, path) = folder("2030-01-31");
        let sample = path.join("samples/aa");
        fs::write(&sample, vec![7; 1025]).expect("written");
        let found = Folder::at(&path).expect("a day");
        fs::write(&sample, "x").expect("written");
        let failed = found.write(io::sink(), |_, _| {}).expect_err("shorter");
        assert!(failed.to_string().contains("became shorter"), "{failed}");
    }
}

//! The files that hold what was brought and given, and the stores by SHA-256.
//!
//! A content comes to be as a file without a name, to which nobody but whoever got its descriptor can
//! write. It gets a name once nobody can: `.new-` first, and its own once its row is committed, so
//! that a power cut tells an upload that nobody acknowledged from a file whose row a restored backup
//! does not know. Each effect is announced to a [`Hand`].

use crate::publisher::{Hand, is_written};
use nonstop_model::{BlobId, Lab, Root};
use nonstop_store::ByHash;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat, open, statvfs},
    io::Errno,
};
use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufReader, ErrorKind, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

const NEW: &str = ".new-";

/// Why a content was not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    /// Somebody has it open for writing.
    #[error("somebody can still write to the file")]
    Written,
    /// The file system cannot tell whether somebody has it open for writing.
    #[error("the file system of the lab's `state` gives no leases: use ext4, xfs or btrfs")]
    NoLeases,
    /// Another content lies under that SHA-256.
    #[error("another content lies under the same SHA-256")]
    Another,
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The folders.
#[derive(Clone)]
pub(super) struct Contents {
    imports: PathBuf,
    exports: PathBuf,
    trace: PathBuf,
    blocked: PathBuf,
    unknown: PathBuf,
    hand: Arc<dyn Hand>,
}

impl Contents {
    pub(super) fn new(lab: &Lab, hand: Arc<dyn Hand>) -> Contents {
        Contents {
            imports: lab.imports().join("files"),
            exports: lab.exports().join("files"),
            trace: lab.trace_store(),
            blocked: lab.quarantine().join("exports"),
            unknown: lab.quarantine().join("unknown"),
            hand,
        }
    }

    /// Makes them, each root's alone.
    pub(super) fn make(&self) -> io::Result<()> {
        for path in [&self.imports, &self.exports, &self.trace, &self.blocked, &self.unknown] {
            fs::create_dir_all(path)?;
            fs::set_permissions(path, Permissions::from_mode(0o700))?;
        }
        for parent in [&self.imports, &self.exports].into_iter().filter_map(|path| path.parent()) {
            fs::set_permissions(parent, Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    fn folder(&self, root: Root) -> &Path {
        match root {
            Root::Import => &self.imports,
            Root::Export | Root::Capture => &self.exports,
        }
    }

    /// Bytes that are free where they lie.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(&self.exports)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// A new file without a name: to look at, and to write to. Nobody can open it once more.
    pub(super) fn blank(&self, root: Root) -> io::Result<(File, OwnedFd)> {
        self.hand.about_to("make a file")?;
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let theirs = open(self.folder(root), flags, Mode::RUSR | Mode::WUSR)?;
        let ours = File::open(by_descriptor(&theirs))?;
        Ok((ours, theirs))
    }

    /// Empties `file`, however it came to be.
    pub(super) fn empty(file: &File) -> io::Result<()> {
        OpenOptions::new().write(true).open(by_descriptor(file))?.set_len(0)
    }

    /// Whether somebody can write to `file`.
    pub(super) fn is_written(file: &File) -> Result<bool, KeepError> {
        is_written(file)?.ok_or(KeepError::NoLeases)
    }

    /// Gives `file`, to which nobody can write any more, the name of `id`, for a row that is going to
    /// be committed. It and its name are on the disk afterwards.
    pub(super) fn keep(&self, root: Root, id: &BlobId, file: &File) -> Result<(), KeepError> {
        if Contents::is_written(file)? {
            return Err(KeepError::Written);
        }
        self.hand.about_to("sync a content")?;
        file.set_permissions(Permissions::from_mode(0o400))?;
        file.sync_all()?;
        self.hand.about_to("link a content")?;
        let folder = self.folder(root);
        let name = folder.join(format!("{NEW}{id}"));
        linkat(CWD, by_descriptor(file), CWD, &name, AtFlags::SYMLINK_FOLLOW)
            .map_err(io::Error::from)?;
        Ok(self.sync(root)?)
    }

    /// What was named, or removed, in the folder of `root` is so on the disk afterwards.
    pub(super) fn sync(&self, root: Root) -> io::Result<()> {
        self.hand.about_to("sync the folder of contents")?;
        File::open(self.folder(root))?.sync_all()
    }

    /// The row of `id` is committed: it gets its own name. Repeatable.
    pub(super) fn settle(&self, root: Root, id: &BlobId) -> io::Result<()> {
        self.hand.about_to("name a content")?;
        let folder = self.folder(root);
        match fs::rename(folder.join(format!("{NEW}{id}")), folder.join(id.as_str())) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Removes the file of `id`. Repeatable.
    pub(super) fn remove(&self, root: Root, id: &BlobId) -> io::Result<()> {
        self.hand.about_to("remove a content")?;
        let folder = self.folder(root);
        for path in [folder.join(id.as_str()), folder.join(format!("{NEW}{id}"))] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, root: Root, id: &BlobId) -> PathBuf {
        let settled = self.folder(root).join(id.as_str());
        if settled.exists() { settled } else { self.folder(root).join(format!("{NEW}{id}")) }
    }

    /// Opens the content `id` to read.
    pub(super) fn open(&self, root: Root, id: &BlobId) -> io::Result<File> {
        File::open(self.folder(root).join(id.as_str())).or_else(|_| File::open(self.path(root, id)))
    }

    /// Lets the content `id` of an export lie in `kept` under its SHA-256, too; on the disk
    /// afterwards. Repeatable. Errors: `Another` if something else lies there.
    pub(super) fn keep_by_hash(
        &self,
        kept: ByHash,
        sha256: &str,
        id: &BlobId,
    ) -> Result<(), KeepError> {
        self.hand.about_to("link a content by its hash")?;
        let store = self.store(kept);
        let (from, to) = (self.path(Root::Export, id), store.join(sha256));
        match fs::hard_link(&from, &to) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                if !same(&from, &to)? {
                    return Err(KeepError::Another);
                }
            }
            other => other?,
        }
        self.hand.about_to("sync the folder of hashes")?;
        File::open(store)?.sync_all()?;
        Ok(())
    }

    /// Opens what lies in `kept` under `sha256` to read.
    pub(super) fn open_by_hash(&self, kept: ByHash, sha256: &str) -> io::Result<File> {
        File::open(self.store(kept).join(sha256))
    }

    fn store(&self, kept: ByHash) -> &Path {
        match kept {
            ByHash::Trace => &self.trace,
            ByHash::Quarantine => &self.blocked,
        }
    }

    /// What lies in the folder of `root` by its own name, and what has a name of its own to come.
    pub(super) fn there(&self, root: Root) -> io::Result<(BTreeSet<BlobId>, BTreeSet<BlobId>)> {
        let (mut settled, mut new) = (BTreeSet::new(), BTreeSet::new());
        for found in fs::read_dir(self.folder(root))? {
            let name = found?.file_name();
            let Some(name) = name.to_str() else { continue };
            let (set, digits) = match name.strip_prefix(NEW) {
                Some(digits) => (&mut new, digits),
                None => (&mut settled, name),
            };
            if let Ok(id) = digits.parse() {
                set.insert(id);
            }
        }
        Ok((settled, new))
    }

    /// How many files were put aside, and where.
    pub(super) fn aside(&self) -> io::Result<(usize, PathBuf)> {
        Ok((fs::read_dir(&self.unknown)?.count(), self.unknown.clone()))
    }

    /// Puts the file of `id`, whose row is not known, aside: nothing is deleted that a restored
    /// backup does not know.
    pub(super) fn put_aside(&self, root: Root, id: &BlobId) -> io::Result<()> {
        self.hand.about_to("put an unknown content aside")?;
        fs::rename(self.folder(root).join(id.as_str()), self.unknown.join(format!("{root}-{id}")))
    }
}

fn by_descriptor(file: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Whether two files hold the same bytes.
fn same(a: &Path, b: &Path) -> io::Result<bool> {
    let (a, b) = (File::open(a)?, File::open(b)?);
    let (of_a, of_b) = (a.metadata()?, b.metadata()?);
    if (of_a.dev(), of_a.ino()) == (of_b.dev(), of_b.ino()) {
        return Ok(true);
    }
    if of_a.len() != of_b.len() {
        return Ok(false);
    }
    let (mut a, mut b) =
        (BufReader::with_capacity(1 << 16, a), BufReader::with_capacity(1 << 16, b));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = a.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

/// Whether `error` says that the disk is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG];
    error.kind() == ErrorKind::StorageFull
        || error.raw_os_error().is_some_and(|code| full.iter().any(|e| e.raw_os_error() == code))
}

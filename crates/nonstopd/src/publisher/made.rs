//! What the check of a day of samples makes of it: four files without a name until the check is
//! over, then beside the archive that they were made from.

use super::folders::{Folders, is_there, sync_folder};
use jiff::civil::Date;
use nonstop_api::day::{HASHES, INDEX, REPORTS_PACK, SAMPLES_PACK};
use nonstop_model::{PublicationId, Resource};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
};

/// The files that a check writes, open and without a name: what is not kept is gone with them.
#[derive(Debug)]
pub struct Made {
    /// The bytes of samples.
    pub pack: File,
    /// The bytes of reports.
    pub reports: File,
    /// Where both are found.
    pub index: File,
    /// The hash of each of both.
    pub hashes: File,
}

impl Made {
    /// Their names in the folder of a published day, in order.
    pub const NAMES: [&str; 4] = [SAMPLES_PACK, REPORTS_PACK, INDEX, HASHES];

    /// They, in that order.
    pub fn files(&self) -> [&File; 4] {
        [&self.pack, &self.reports, &self.index, &self.hashes]
    }

    /// Brings what was written of samples so far to the disk, while the rest is made: a day of
    /// gigabytes would else wait for all of it at its end.
    ///
    /// An error is told only here: the kernel says it once, and what it was about is lost.
    pub fn sync_so_far(&self) -> io::Result<()> {
        self.pack.sync_data()
    }
}

/// The SHA-256 of a sample or report.
pub(super) type Hash = [u8; 32];

/// Hashes of a day that are held in memory at once: of more than a check takes.
const MOST_HASHES: u64 = 4_000_000;

/// What `file` lists: at most `most` hashes, ascending, none twice.
///
/// Errors: it is no such list; whoever wrote it is of another version, or was taken over.
pub(super) fn hashes(file: &File, most: u64) -> io::Result<Vec<Hash>> {
    const BYTES: u64 = size_of::<Hash>() as u64;
    let none = || {
        let what = "the hashes that were made of the day are no ascending list of hashes";
        io::Error::new(ErrorKind::InvalidData, what)
    };
    let bytes = file.metadata()?.len();
    if bytes == 0 || bytes % BYTES != 0 || bytes / BYTES > most.min(MOST_HASHES) {
        return Err(none());
    }
    let mut hashes = vec![Hash::default(); usize::try_from(bytes / BYTES).map_err(|_| none())?];
    file.read_exact_at(hashes.as_flattened_mut(), 0)?;
    hashes.is_sorted_by(|one, next| one < next).then_some(hashes).ok_or_else(none)
}

impl Folders {
    /// The hashes of what `day` has, as it is shown; `most` of them.
    pub(super) fn shown_hashes(&self, day: Date, most: u64) -> io::Result<Vec<Hash>> {
        hashes(&File::open(self.shown_at(Resource::Samples, day).join(HASHES))?, most)
    }

    /// Files for what is made of the file of `id`.
    pub fn new_made(&self, id: PublicationId) -> io::Result<Made> {
        let new = || {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            open(self.taken(id), flags, Mode::RUSR).map(File::from)
        };
        Ok(Made { pack: new()?, reports: new()?, index: new()?, hashes: new()? })
    }

    /// Gives `made` a place beside the file of `id`, on the disk whole. Repeatable: what lay there of
    /// an earlier check is replaced.
    pub fn keep_made(&self, id: PublicationId, made: &Made) -> io::Result<()> {
        // The name that makes them whole comes last.
        for (name, file) in Made::NAMES.into_iter().zip(made.files()) {
            let place = self.made(id, name);
            self.hand.about_to("write down what was made of the day")?;
            // A pack of samples has readers of its own, who are among the others, too.
            let group = match name {
                SAMPLES_PACK => self.readers.samples,
                _ => self.readers.data,
            };
            fchown(file, Some(0), group.or(Some(0)))?;
            file.set_permissions(Permissions::from_mode(0o440))?;
            file.sync_all()?;
            if is_there(&place)? {
                self.hand.about_to("remove what an earlier check made of the day")?;
                fs::remove_file(&place)?;
            }
            self.hand.about_to("give what was made of the day its place")?;
            let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
            linkat(CWD, nameless, CWD, &place, AtFlags::SYMLINK_FOLLOW)?;
        }
        sync_folder(&self.taken(id))
    }

    /// Whether all that is made of the file of `id` lies there.
    pub(super) fn is_made(&self, id: PublicationId) -> io::Result<bool> {
        for name in Made::NAMES {
            if !is_there(&self.made(id, name))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives what was made of the file of `id` a place in `folder`; gives the lengths.
    pub(super) fn place_made(&self, id: PublicationId, folder: &Path) -> io::Result<[u64; 4]> {
        let mut bytes = [0; 4];
        for (name, bytes) in Made::NAMES.into_iter().zip(&mut bytes) {
            self.hand.about_to("give what was made of the day its place in the new folder")?;
            let made = self.made(id, name);
            *bytes = made.symlink_metadata()?.len();
            fs::hard_link(made, folder.join(name))?;
        }
        Ok(bytes)
    }

    /// With a dot before it, as no file that is taken has.
    fn made(&self, id: PublicationId, name: &str) -> PathBuf {
        self.taken(id).join(format!(".{name}"))
    }
}

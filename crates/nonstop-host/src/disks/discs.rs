//! Images of discs with samples: `machines/m7/3/disc-j12.iso`, beside what the guest has written in
//! that generation and gone with it. Root writes them, through a confined child; the uid of the
//! machine's QEMU may read them.

use super::{Disks, Made, absent_is_none, entries, sync};
use crate::HostError;
use nonstop_model::{
    Disc, InjectionId, MachineId,
    injection::{disc_file, disc_of},
};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    os::{
        fd::AsRawFd,
        unix::fs::{PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
};

/// Writes the image of a disc; done by a child that can do nothing else.
pub trait WriteDiscs: Send + Sync {
    /// Writes `disc` to `file`, which is empty, with samples of the hashes that it names. Errors: why
    /// not, for a person.
    fn write(&self, disc: &Disc, file: &File) -> Result<(), String>;
}

impl Disks {
    /// The image of a disc of a machine's generation.
    pub fn disc(&self, machine: MachineId, generation: u32, disc: InjectionId) -> PathBuf {
        self.generation(machine, generation).join(disc_file(disc))
    }

    /// Makes the image of `disc` exist, for `uid` to read. Repeatable. A power cut leaves the whole
    /// file or none.
    ///
    /// Errors: no space, also under the reserve; `writer` does not write it.
    pub fn make_disc(
        &self,
        machine: MachineId,
        generation: u32,
        uid: u32,
        disc: &Disc,
        writer: &dyn WriteDiscs,
    ) -> Result<(), HostError> {
        let doing = || format!("make the disc {} of {machine}", disc.injection);
        let target = self.disc(machine, generation, disc.injection);
        if target.exists() {
            return Ok(());
        }
        let bytes = disc.items.iter().map(|item| item.bytes).sum();
        self.enough_space(bytes)
            .and_then(|()| write(&target, uid, disc, writer))
            .map_err(|e| self.failed(doing(), e))
    }

    /// Makes the image of `disc` not exist. Repeatable.
    pub fn drop_disc(
        &self,
        machine: MachineId,
        generation: u32,
        disc: InjectionId,
    ) -> Result<(), HostError> {
        let file = self.disc(machine, generation, disc);
        let gone = absent_is_none(fs::remove_file(&file)).map(drop);
        gone.map_err(|e| HostError::new(format!("remove {}", file.display()), e))
    }
}

fn write(target: &Path, uid: u32, disc: &Disc, writer: &dyn WriteDiscs) -> Made {
    let folder = target.parent().ok_or("a file without a folder")?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(open(folder, flags, Mode::from_raw_mode(0o600))?);
    writer.write(disc, &file)?;
    file.set_permissions(Permissions::from_mode(0o440))?;
    fchown(&file, None, Some(uid))?;
    file.sync_all()?;
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, open, CWD, target, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e.into()),
        Ok(()) | Err(_) => {}
    }
    Ok(sync(folder)?)
}

/// The discs whose images lie in the folder of a generation.
pub(super) fn discs_in(folder: &Path) -> io::Result<Vec<InjectionId>> {
    Ok(entries(folder)?.into_iter().filter_map(|(name, _)| disc_of(&name)).collect())
}

/// Shows in `new` all discs that lie in `from`: a guest that goes on there has one in its drive.
pub(super) fn link_discs(from: &Path, new: &Path) -> io::Result<()> {
    for disc in discs_in(from)? {
        fs::hard_link(from.join(disc_file(disc)), new.join(disc_file(disc)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::tests::{machine, place};
    use std::{
        io::Write,
        os::unix::fs::MetadataExt,
        sync::atomic::{AtomicUsize, Ordering},
    };

    const M7: MachineId = MachineId(7);
    const J3: InjectionId = InjectionId(3);

    struct Says(Result<&'static [u8], &'static str>, AtomicUsize);

    impl WriteDiscs for Says {
        fn write(&self, _: &Disc, mut file: &File) -> Result<(), String> {
            self.1.fetch_add(1, Ordering::SeqCst);
            file.write_all(self.0?).map_err(|e| e.to_string())
        }
    }

    fn disc() -> Disc {
        Disc { injection: J3, domain: "lab".into(), items: Vec::new(), zip: false, there: false }
    }

    #[test]
    fn a_disc_is_whole_read_by_its_machine_alone_and_made_once() {
        let place = place(0);
        let folder = place.disks.generation(M7, 1);
        fs::create_dir_all(&folder).expect("made");
        let (uid, says) = (machine(1).uid, Says(Ok(b"an image"), AtomicUsize::new(0)));
        for _ in 0..2 {
            place.disks.make_disc(M7, 1, uid, &disc(), &says).expect("made");
        }
        assert_eq!(says.1.load(Ordering::SeqCst), 1, "made once");
        let file = place.disks.disc(M7, 1, J3);
        let meta = fs::metadata(&file).expect("there");
        assert_eq!((meta.gid(), meta.mode() & 0o7777), (uid, 0o440));
        assert_eq!(fs::read(&file).expect("read"), b"an image");
        assert_eq!(place.disks.kept().expect("listed").discs, [(M7, 1, J3)].into());
        for _ in 0..2 {
            place.disks.drop_disc(M7, 1, J3).expect("gone");
        }
        assert!(place.disks.kept().expect("listed").discs.is_empty());
    }

    #[test]
    fn a_disc_that_is_not_written_leaves_nothing() {
        let place = place(0);
        let folder = place.disks.generation(M7, 1);
        fs::create_dir_all(&folder).expect("made");
        let says = Says(Err("no sample with this hash"), AtomicUsize::new(0));
        let failed = place.disks.make_disc(M7, 1, machine(1).uid, &disc(), &says);
        let failed = failed.expect_err("not written");
        assert_eq!(failed.source.expect("a cause").to_string(), "no sample with this hash");
        assert_eq!(fs::read_dir(&folder).expect("there").count(), 0);
    }
}

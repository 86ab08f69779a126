//! What is kept of a machine beside its current generation: earlier generations that others are
//! made from, and the memory of guests, `machines/m7/3/ram-s12` for the snapshot s12.
//!
//! Root reads and writes here in folders of which parts belong to the uid of a guest's QEMU, which
//! that guest may have taken over: no link is followed, and no qcow2 is opened.

use super::{
    Cause, DISKLESS, Disks, Made, NVRAM, OVERLAY, TPM, absent_is_none,
    discs::{discs_in, link_discs},
    entries, give, sync,
};
use crate::{HostError, libvirt::is_whole};
use nonstop_model::{ImageManifest, InjectionId, MachineId, Memory};
use nonstop_plan::{DesiredMachine, Saved};
use rustix::{
    fs::{Mode, OFlags, open},
    process::geteuid,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown},
    path::{Path, PathBuf},
    process::Command,
};

/// What is kept, and how much room all of it takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// Memory of guests.
    pub memory: BTreeMap<(MachineId, Memory), Saved>,
    /// Images of discs with samples.
    pub discs: BTreeSet<(MachineId, u32, InjectionId)>,
    /// Bytes on the disk by generation.
    pub bytes: BTreeMap<(MachineId, u32), u64>,
}

/// How the names begin of the files that swtpm 0.7 keeps: permanent, volatile and saved state.
const TPM_STATE: &str = "tpm2-00.";

/// Files of a TPM that are counted: whoever took it over can make any number.
const COUNTED: usize = 16;

/// What a taken-over QEMU could leave where root copies: larger things are not variables or the
/// state of a TPM.
const LARGEST_COPY: u64 = 16 << 20;

impl Disks {
    /// The memory of a guest that is kept.
    pub fn memory(&self, machine: MachineId, memory: Memory) -> PathBuf {
        self.generation(machine, memory.generation).join(format!("ram-{}", memory.snapshot))
    }

    fn begun(&self, machine: MachineId, memory: Memory) -> PathBuf {
        self.memory(machine, memory).with_extension("new")
    }

    /// Lists memory, and counts what each generation takes.
    pub fn kept(&self) -> Result<Listed, HostError> {
        self.list_kept().map_err(|e| {
            HostError::new(format!("count what lies in {}", self.machines.display()), e)
        })
    }

    fn list_kept(&self) -> io::Result<Listed> {
        let mut listed = Listed::default();
        for (name, path) in entries(&self.machines)? {
            let Ok(machine) = name.parse::<MachineId>() else { continue };
            for (name, path) in entries(&path)? {
                let Ok(generation) = name.parse() else { continue };
                // It may go while it is looked at.
                let bytes = absent_is_none(bytes_in(&path))?.unwrap_or(0);
                listed.bytes.insert((machine, generation), bytes);
                let discs = discs_in(&path)?;
                listed.discs.extend(discs.into_iter().map(|disc| (machine, generation, disc)));
                for (name, _) in entries(&path)? {
                    let Some(rest) = name.strip_prefix("ram-") else { continue };
                    let (id, saved) = match rest.strip_suffix(".new") {
                        Some(id) => (id, Saved::Begun),
                        None => (rest, Saved::Whole),
                    };
                    let Ok(snapshot) = id.parse() else { continue };
                    let key = (machine, Memory { generation, snapshot });
                    let known = listed.memory.entry(key).or_insert(saved);
                    if saved == Saved::Whole {
                        *known = saved;
                    }
                }
            }
        }
        Ok(listed)
    }

    /// Errors: beside the reserve there is no room for `mib` of memory.
    pub fn room_for(&self, machine: MachineId, mib: u64) -> Result<(), HostError> {
        let doing = || format!("keep the memory of {machine}");
        self.enough_space(mib << 20).map_err(|e| self.failed(doing(), e))
    }

    /// The file that the memory of `machine`'s guest is to be written to, made anew. It is root's,
    /// and in a folder in which no QEMU can put another in its place.
    pub fn begin_memory(&self, machine: MachineId, memory: Memory) -> Result<PathBuf, HostError> {
        let (folder, file) =
            (self.generation(machine, memory.generation), self.begun(machine, memory));
        let made = close(&folder).and_then(|()| {
            absent_is_none(fs::remove_file(&file))?;
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)
        });
        match made {
            Ok(_) => Ok(file),
            Err(e) => Err(self.failed(format!("make {}", file.display()), e.into())),
        }
    }

    /// Makes the memory that was written known as whole, and what the guest had written beside
    /// it lasting. Repeatable.
    ///
    /// Errors: it was not written to its end; what there is of it is gone then.
    pub fn finish_memory(&self, machine: MachineId, memory: Memory) -> Result<(), HostError> {
        let doing = || format!("keep the memory of {machine}");
        self.finish(machine, memory).map_err(|e| self.failed(doing(), e))
    }

    fn finish(&self, machine: MachineId, memory: Memory) -> Made {
        let folder = self.generation(machine, memory.generation);
        let (begun, whole) = (self.begun(machine, memory), self.memory(machine, memory));
        let Some(mut file) = absent_is_none(File::open(&begun))? else {
            return match whole.exists() {
                true => Ok(()),
                false => Err("its guest ended before".into()),
            };
        };
        let mut head = Vec::new();
        file.by_ref().take(16).read_to_end(&mut head)?;
        if !is_whole(&head) {
            fs::remove_file(&begun)?;
            return Err("it was interrupted".into());
        }
        lchown(&begun, Some(geteuid().as_raw()), Some(rustix::process::getegid().as_raw()))?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.sync_all()?;
        sync_written(&folder)?;
        fs::rename(&begun, &whole)?;
        Ok(sync(&folder)?)
    }

    /// Makes kept memory not exist. Repeatable.
    pub fn drop_memory(&self, machine: MachineId, memory: Memory) -> Result<(), HostError> {
        for file in [self.memory(machine, memory), self.begun(machine, memory)] {
            absent_is_none(fs::remove_file(&file))
                .map_err(|e| HostError::new(format!("remove {}", file.display()), e))?;
        }
        Ok(())
    }

    /// Fills the folder `new` of a generation from the one that `machine` says it is made from,
    /// which is frozen: nothing but root can write to its disk from here on.
    pub(super) fn fill_from(
        &self,
        new: &Path,
        machine: &DesiredMachine,
        image: &ImageManifest,
        origin: u32,
    ) -> Made {
        let from = self.generation(machine.id, origin);
        let uid = machine.uid;
        close(&from)?;
        if image.disk.is_none() {
            File::create(new.join(DISKLESS))?.sync_all()?;
        } else {
            let below = from.join(OVERLAY);
            chown(&below, Some(geteuid().as_raw()), Some(uid))?;
            fs::set_permissions(&below, Permissions::from_mode(0o440))?;
            let overlay = new.join(OVERLAY);
            // Told the size, it does not open what it is made from.
            let qemu_img = Command::new("qemu-img")
                .args(["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b"])
                .arg(&below)
                .arg(&overlay)
                .arg(image.disk_bytes.to_string())
                .output()
                .map_err(|e| format!("qemu-img cannot be started: {e}"))?;
            if !qemu_img.status.success() {
                return Err(String::from_utf8_lossy(&qemu_img.stderr).trim().into());
            }
            give(&overlay, 0o600, uid)?;
        }
        sync_written(&from)?;
        link_discs(&from, new)?;
        if machine.profile.has_nvram() {
            copy(&from.join(NVRAM), &new.join(NVRAM), uid)?;
        }
        if machine.profile.has_tpm() {
            let tpm = new.join(TPM);
            fs::create_dir(&tpm)?;
            let states = entries(&from.join(TPM))?.into_iter();
            for (name, path) in states.filter(|(name, _)| name.starts_with(TPM_STATE)).take(4) {
                copy(&path, &tpm.join(name), uid)?;
            }
            give(&tpm, 0o700, uid)?;
        }
        Ok(())
    }
}

/// Takes a generation's folder from the uid of its QEMU, which goes on reading what it has there.
fn close(folder: &Path) -> io::Result<()> {
    chown(folder, Some(geteuid().as_raw()), None)?;
    fs::set_permissions(folder, Permissions::from_mode(0o750))
}

/// Opens a file that a QEMU may have put there: no link, no pipe, nothing that keeps one waiting.
fn open_plain(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let named = |e: io::Error| io::Error::new(e.kind(), format!("open {}: {e}", path.display()));
    let file = open(path, flags, Mode::empty()).map_err(|e| named(e.into()))?;
    let file = File::from(file);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(ErrorKind::InvalidInput, format!("{} is no plain file", path.display())))
}

/// Copies a small file for `uid` alone; it is on the disk then.
fn copy(from: &Path, to: &Path, uid: u32) -> Result<(), Cause> {
    let source = open_plain(from)?;
    if source.metadata()?.len() > LARGEST_COPY {
        return Err(format!("{} is too large", from.display()).into());
    }
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut source.take(LARGEST_COPY), &mut target)?;
    Ok(give(to, 0o600, uid)?)
}

/// Makes lasting what a guest that has ended wrote.
fn sync_written(folder: &Path) -> io::Result<()> {
    let files = [folder.join(OVERLAY), folder.join(NVRAM)];
    let of_tpm = entries(&folder.join(TPM))?.into_iter().take(COUNTED).map(|(_, path)| path);
    for path in files.into_iter().chain(of_tpm) {
        match open_plain(&path) {
            Ok(file) => file.sync_all()?,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// What the files in `folder`, and one folder below, take on the disk. Links count as such.
fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for (_, path) in entries(folder)? {
        let Some(meta) = absent_is_none(fs::symlink_metadata(&path))? else { continue };
        bytes += meta.blocks() * 512;
        if meta.is_dir() {
            for (_, path) in entries(&path)?.into_iter().take(COUNTED) {
                let meta = absent_is_none(fs::symlink_metadata(&path))?;
                bytes += meta.map_or(0, |meta| meta.blocks() * 512);
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{Place, place, uefi},
        *,
    };
    use nonstop_model::SnapshotId;
    use nonstop_plan::Disk;
    use std::os::unix::fs::symlink;

    const M7: MachineId = MachineId(7);
    const S1: Memory = Memory { generation: 1, snapshot: SnapshotId(1) };

    /// A machine with firmware that has written something in its first generation.
    fn written() -> Place {
        let place = place(0);
        let (machine, image) = uefi(1);
        place.disks.create(&machine, &image, place.dir.path()).expect("made");
        let kept = |name: &str| place.disks.tpm(M7, 1).join(name);
        for (path, text) in [
            (place.disks.nvram(M7, 1), "a variable"),
            (kept("tpm2-00.permall"), "a value"),
            (kept(".lock"), ""),
        ] {
            fs::write(&path, text).expect("written");
            give(&path, 0o600, machine.uid).expect("given");
        }
        place
    }

    fn next(place: &Place) -> Result<(), HostError> {
        let (machine, image) = uefi(2);
        let machine = DesiredMachine { origin: Some(1), ..machine };
        place.disks.create(&machine, &image, place.dir.path())
    }

    fn seen(path: &Path) -> (u32, u32, u32) {
        let meta = fs::metadata(path).expect("there");
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    }

    #[test]
    fn what_is_made_from_a_generation_has_all_of_it_and_freezes_it() {
        let place = written();
        next(&place).expect("made");
        next(&place).expect("made again");
        assert_eq!(place.seen(), [(1, Disk::Whole), (2, Disk::Whole)]);
        let (root, uid) = (geteuid().as_raw(), uefi(1).0.uid);
        let disk = |generation| place.disks.overlay(M7, generation);
        assert_eq!(seen(&disk(1)), (root, uid, 0o440), "read by its group, written by nobody");
        assert_eq!(seen(&place.inside("machines/m7/1")), (root, uid, 0o750));
        assert_eq!(seen(&disk(2)), (uid, uid, 0o600));
        assert_eq!(seen(&place.disks.nvram(M7, 2)), (uid, uid, 0o600));
        assert_eq!(fs::read(place.disks.nvram(M7, 2)).expect("there"), b"a variable");
        let value = place.disks.tpm(M7, 2).join("tpm2-00.permall");
        assert_eq!(fs::read(&value).expect("there"), b"a value");
        assert_eq!(seen(&value), (uid, uid, 0o600));
        assert_eq!(fs::read_dir(place.disks.tpm(M7, 2)).expect("there").count(), 1);
        let info = Command::new("qemu-img").args(["info", "-U"]).arg(disk(2)).output();
        let info = String::from_utf8(info.expect("installed").stdout).expect("text");
        let below = format!("backing file: {}", disk(1).display());
        assert!(info.contains(&below) && info.contains("16 MiB"), "{info}");
    }

    #[test]
    fn links_that_a_taken_over_qemu_leaves_are_not_followed() {
        let place = written();
        let secret = place.inside("secret");
        fs::write(&secret, "root's").expect("written");
        let nvram = place.disks.nvram(M7, 1);
        fs::remove_file(&nvram).expect("removed");
        symlink(&secret, &nvram).expect("a link");
        let e = next(&place).expect_err("no plain file");
        let cause = e.source.expect("a cause").to_string();
        assert!(cause.contains("nvram"), "{cause}");
        assert_eq!(place.seen(), [(1, Disk::Whole)], "nothing is left of the attempt");
        let begun = place.inside("machines/m7/1/ram-s1.new");
        symlink(&secret, &begun).expect("a link");
        place.disks.begin_memory(M7, S1).expect("made anew");
        assert!(fs::symlink_metadata(&begun).expect("there").is_file());
        assert_eq!(fs::read(&secret).expect("there"), b"root's");
    }

    #[test]
    fn memory_is_known_as_whole_once_it_was_written_to_its_end() {
        let place = written();
        let memory = |place: &Place| place.disks.kept().expect("listed").memory;
        assert!(place.disks.finish_memory(M7, S1).is_err(), "nothing was written");
        let file = place.disks.begin_memory(M7, S1).expect("made");
        assert_eq!(seen(&file).2, 0o600);
        assert_eq!(memory(&place), BTreeMap::from([((M7, S1), Saved::Begun)]));
        fs::write(&file, b"LibvirtQemudPart and a part").expect("written");
        let e = place.disks.finish_memory(M7, S1).expect_err("a part");
        assert!(e.source.expect("a cause").to_string().contains("interrupted"));
        assert_eq!(memory(&place), BTreeMap::new());
        let file = place.disks.begin_memory(M7, S1).expect("made");
        fs::write(&file, b"LibvirtQemudSave and all").expect("written");
        place.disks.finish_memory(M7, S1).expect("whole");
        place.disks.finish_memory(M7, S1).expect("repeatable");
        assert_eq!(memory(&place), BTreeMap::from([((M7, S1), Saved::Whole)]));
        let bytes = place.disks.kept().expect("listed").bytes[&(M7, 1)];
        assert!(bytes > 100_000, "{bytes}");
        place.disks.drop_memory(M7, S1).expect("gone");
        place.disks.drop_memory(M7, S1).expect("repeatable");
        assert_eq!(memory(&place), BTreeMap::new());
        assert_eq!(place.seen(), [(1, Disk::Whole)]);
    }

    #[test]
    fn without_room_beside_the_reserve_the_reason_is_said() {
        let place = written();
        place.disks.room_for(M7, 1).expect("a MiB");
        let e = place.disks.room_for(M7, 1 << 40).expect_err("no disk is that large");
        let cause = e.source.as_ref().expect("a cause").to_string();
        assert!(cause.starts_with("no space: ") && cause.contains("this needs"), "{cause}");
        assert!(e.help.starts_with("free space on the file system of"), "{}", e.help);
    }
}

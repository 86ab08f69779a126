//! What is kept of a machine beside its current generation: earlier generations that others are
//! made from, and the memory of guests, `machines/m7/3/ram-s12` for the snapshot s12.
//!
//! Root reads and writes here in folders of which parts belong to the uid of a guest's QEMU, which
//! that guest may have taken over: no link is followed, and no qcow2 is opened.

use super::{
    Cause, DISKLESS, Disks, Made, NVRAM, OVERLAY, TPM, absent_is_none, entries, give, sync,
};
use crate::{HostError, libvirt::is_whole};
use nonstop_model::{ImageManifest, MachineId, Memory};
use nonstop_plan::{DesiredMachine, Saved};
use rustix::{
    fs::{Mode, OFlags, open},
    process::geteuid,
};
use std::{
    collections::BTreeMap,
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
    let file = File::from(open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(ErrorKind::InvalidInput, format!("{} is no plain file", path.display())))
}

/// Copies a small file for `uid` alone; it is on the disk then.
fn copy(from: &Path, to: &Path, uid: u32) -> Result<(), Cause> {
    let source = open_plain(from).map_err(|e| format!("open {}: {e}", from.display()))?;
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

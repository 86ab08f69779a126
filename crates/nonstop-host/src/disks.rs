//! What guests can write: a folder for each machine and generation, with the overlay in it.
//!
//! `machines/m7/3/` is made as `machines/m7/.new-3/`, synced and renamed, and removed by way of
//! `machines/m7/.old-3/`: a power cut leaves it whole, or partial and known as such. Each belongs
//! to the uid of its machine's QEMU; others may pass `machines/` and `m7/` but not list them.

use crate::{HostError, access::open_to_others};
use jiff::Timestamp;
use nonstop_model::{ImageManifest, MachineId};
use nonstop_plan::{DesiredMachine, Disk};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

/// The folders of machines, and that of things nobody wants.
#[derive(Debug)]
pub struct Disks {
    machines: PathBuf,
    quarantine: PathBuf,
    reserve_bytes: u64,
}

/// Below this much free space no overlay is made, so that database and trace can still grow.
#[derive(Debug, thiserror::Error)]
#[error("no space: {free_mib} MiB are free in {dir}, and {reserve_mib} MiB are kept in reserve")]
struct NoSpace {
    dir: String,
    free_mib: u64,
    reserve_mib: u64,
}

const OVERLAY: &str = "disk.qcow2";

/// What stands in the folder of a machine whose image has no disk, so that the folder is whole.
const DISKLESS: &str = "diskless";

impl Disks {
    /// The disks below `machines`; `quarantine` takes what is moved aside and must lie on the
    /// same file system. Both are made when needed.
    pub fn new(
        machines: impl Into<PathBuf>,
        quarantine: impl Into<PathBuf>,
        reserve_bytes: u64,
    ) -> Disks {
        Disks { machines: machines.into(), quarantine: quarantine.into(), reserve_bytes }
    }

    /// The overlay of a machine's generation.
    pub fn overlay(&self, machine: MachineId, generation: u32) -> PathBuf {
        self.generation(machine, generation).join(OVERLAY)
    }

    fn machine(&self, machine: MachineId) -> PathBuf {
        self.machines.join(machine.to_string())
    }

    fn generation(&self, machine: MachineId, generation: u32) -> PathBuf {
        self.machine(machine).join(generation.to_string())
    }

    /// Lists all generations. An empty folder of a machine is a partial generation 0, so that
    /// whoever removes leftovers removes it too.
    pub fn observe(&self) -> Result<BTreeMap<(MachineId, u32), Disk>, HostError> {
        self.list().map_err(|e| {
            HostError::new(format!("list the disks in {}", self.machines.display()), e)
        })
    }

    fn list(&self) -> io::Result<BTreeMap<(MachineId, u32), Disk>> {
        let mut disks = BTreeMap::new();
        for (name, path) in entries(&self.machines)? {
            let Ok(machine) = name.parse::<MachineId>() else { continue };
            let inside = entries(&path)?;
            if inside.is_empty() {
                disks.insert((machine, 0), Disk::Partial);
            }
            for (name, path) in inside {
                if let Some(number) = name.strip_prefix(".new-").or(name.strip_prefix(".old-")) {
                    if let Ok(generation) = number.parse() {
                        disks.entry((machine, generation)).or_insert(Disk::Partial);
                    }
                } else if let Ok(generation) = name.parse() {
                    let whole = path.join(OVERLAY).exists() || path.join(DISKLESS).exists();
                    let disk = if whole { Disk::Whole } else { Disk::Partial };
                    disks.insert((machine, generation), disk);
                }
            }
        }
        Ok(disks)
    }

    /// Makes the overlay of `machine`'s generation exist, backed by `image` in `image_dir`.
    ///
    /// Repeatable. A power cut leaves the whole folder, or a part that `observe` calls partial.
    /// Errors: no space, also under the reserve; nothing is left of the attempt then.
    pub fn create(
        &self,
        machine: &DesiredMachine,
        image: &ImageManifest,
        image_dir: &Path,
    ) -> Result<(), HostError> {
        let (id, generation) = (machine.id, machine.generation);
        let doing = || format!("make the disk of {id}, generation {generation}");
        let target = self.generation(id, generation);
        if target.join(OVERLAY).exists() || target.join(DISKLESS).exists() {
            return Ok(());
        }
        self.make_folder(id).map_err(|e| self.failed(doing(), e.into()))?;
        self.enough_space().map_err(|e| self.failed(doing(), e))?;
        open_to_others(&self.machine(id)).map_err(|closed| closed.while_doing(doing()))?;
        let new = self.machine(id).join(format!(".new-{generation}"));
        let made = self.fill(&new, machine.uid, image, image_dir).and_then(|()| {
            fs::rename(&new, &target)?;
            sync(&self.machine(id))?;
            Ok(sync(&self.machines)?)
        });
        made.map_err(|e| {
            let _ = remove_tree(&new);
            let _ = fs::remove_dir(self.machine(id));
            self.failed(doing(), e)
        })
    }

    /// The folder of a machine, which uids may pass and not list; whatever the umask is.
    fn make_folder(&self, machine: MachineId) -> io::Result<()> {
        let folder = self.machine(machine);
        fs::create_dir_all(&folder)?;
        for dir in [&self.machines, &folder] {
            fs::set_permissions(dir, Permissions::from_mode(0o711))?;
        }
        Ok(())
    }

    fn fill(&self, new: &Path, uid: u32, image: &ImageManifest, image_dir: &Path) -> Made {
        remove_tree(new)?;
        DirBuilder::new().mode(0o700).create(new)?;
        match &image.disk {
            None => File::create(new.join(DISKLESS))?.sync_all()?,
            Some(base) => {
                let overlay = new.join(OVERLAY);
                let qemu_img = Command::new("qemu-img")
                    .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
                    .arg(image_dir.join(&base.file))
                    .arg(&overlay)
                    .output()
                    .map_err(|e| format!("qemu-img cannot be started: {e}"))?;
                if !qemu_img.status.success() {
                    return Err(String::from_utf8_lossy(&qemu_img.stderr).trim().into());
                }
                let file = File::open(&overlay)?;
                file.set_permissions(Permissions::from_mode(0o600))?;
                chown(&overlay, Some(uid), Some(uid))?;
                file.sync_all()?;
            }
        }
        chown(new, Some(uid), Some(uid))?;
        Ok(sync(new)?)
    }

    fn enough_space(&self) -> Made {
        let stat = rustix::fs::statvfs(&self.machines)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= self.reserve_bytes {
            return Ok(());
        }
        Err(Box::new(NoSpace {
            dir: self.machines.display().to_string(),
            free_mib: free >> 20,
            reserve_mib: self.reserve_bytes.div_ceil(1 << 20),
        }))
    }

    fn failed(&self, doing: String, cause: Cause) -> HostError {
        let full = cause.is::<NoSpace>() || {
            let text = cause.to_string();
            // qemu-img passes on the words of strerror.
            text.contains("No space left on device") || text.contains("Disk quota exceeded")
        };
        let help = format!(
            "free space on the file system of {}: end environments (`nonstop environment list`), or empty {}",
            self.machines.display(),
            self.quarantine.display()
        );
        HostError::new(doing, cause).help(if full { help } else { String::new() })
    }

    /// Makes what `machine` wrote in `generation` not exist, whole or partial, and its folder
    /// too once nothing is in it. Repeatable. A power cut leaves a part called partial.
    pub fn destroy(&self, machine: MachineId, generation: u32) -> Result<(), HostError> {
        let doing = || format!("destroy the disk of {machine}, generation {generation}");
        self.remove(machine, generation).map_err(|e| HostError::new(doing(), e))
    }

    fn remove(&self, machine: MachineId, generation: u32) -> io::Result<()> {
        let folder = self.machine(machine);
        let old = folder.join(format!(".old-{generation}"));
        remove_tree(&old)?;
        if absent_is_none(fs::rename(self.generation(machine, generation), &old))?.is_some() {
            sync(&folder)?;
        }
        remove_tree(&old)?;
        remove_tree(&folder.join(format!(".new-{generation}")))?;
        self.remove_if_empty(machine)
    }

    fn remove_if_empty(&self, machine: MachineId) -> io::Result<()> {
        match fs::remove_dir(self.machine(machine)) {
            Ok(()) => sync(&self.machines),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Moves what `machine` wrote in `generation` to the quarantine, under a name with the time,
    /// owned by root. Repeatable: where there is nothing, nothing is moved.
    ///
    /// A power cut leaves it in one place or the other. Errors: the name is taken.
    pub fn quarantine(&self, machine: MachineId, generation: u32) -> Result<(), HostError> {
        let now = Timestamp::now();
        let name = format!("{machine}-{generation}-{}", now.strftime("%Y%m%dT%H%M%SZ"));
        let target = self.quarantine.join(name);
        let doing = || format!("move generation {generation} of {machine} to {}", target.display());
        self.set_aside(machine, generation, &target).map_err(|e| HostError::new(doing(), e))
    }

    fn set_aside(&self, machine: MachineId, generation: u32, target: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.quarantine)?;
        let source = self.generation(machine, generation);
        let moved = renameat_with(CWD, &source, CWD, target, RenameFlags::NOREPLACE);
        if absent_is_none(moved.map_err(io::Error::from))?.is_none() {
            return Ok(());
        }
        sync(&self.quarantine)?;
        sync(&self.machine(machine))?;
        for (_, file) in entries(target)? {
            chown(file, Some(0), Some(0))?;
        }
        chown(target, Some(0), Some(0))?;
        self.remove_if_empty(machine)
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;
type Made = Result<(), Cause>;

/// Names and paths in a folder; none where there is no folder.
fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let Some(listing) = absent_is_none(fs::read_dir(dir))? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    absent_is_none(fs::remove_dir_all(dir)).map(|_| ())
}

/// What the folder lists survives a power cut from here on.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

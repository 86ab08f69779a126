//! What guests can write: a folder for each machine and generation, with the overlay in it and,
//! where its profile has them, UEFI variables and what its TPM keeps. Nothing that a guest writes
//! lies elsewhere, so that a revert, which takes the next generation, carries nothing over.
//!
//! `machines/m7/3/` is made as `machines/m7/.new-3/`, synced and renamed, and removed by way of
//! `machines/m7/.old-3/`: a power cut leaves it whole, or partial and known as such. Each belongs
//! to the uid of its machine's QEMU, but for the folder itself, in which only root makes things;
//! others may pass `machines/` and `m7/` but not list them.

mod discs;
mod kept;

pub use discs::WriteDiscs;
pub use kept::Listed;

use crate::{HostError, access::open_to_others, firmware::Firmware};
use jiff::Timestamp;
use nonstop_model::{ImageManifest, ImageName, MachineId, MachineProfile};
use nonstop_plan::{DesiredMachine, Disk, DiskRoom};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown, lchown},
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
#[error(
    "no space: {free_mib} MiB are free in {dir}, {reserve_mib} MiB are kept in reserve, and \
     this needs {needed_mib} MiB"
)]
struct NoSpace {
    dir: String,
    free_mib: u64,
    reserve_mib: u64,
    needed_mib: u64,
}

/// Errors: an image that the firmware of `profile` cannot start.
pub fn starts(profile: MachineProfile, image: &ImageManifest) -> Result<(), NotUefi> {
    if profile.boots_from_disk() && !image.uefi {
        return Err(NotUefi { image: image.name.clone(), profile });
    }
    Ok(())
}

/// Firmware would find nothing to start on its disk.
#[derive(Debug, thiserror::Error)]
#[error(
    "the image `{image}` does not start by UEFI firmware, which the profile {profile} has: \
     use profile linux in the template, or an image whose recipe says `boot: uefi`"
)]
pub struct NotUefi {
    image: ImageName,
    profile: MachineProfile,
}

const OVERLAY: &str = "disk.qcow2";
const NVRAM: &str = "nvram";
const TPM: &str = "tpm";

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

    /// The UEFI variables of a machine's generation, where its profile has some.
    pub fn nvram(&self, machine: MachineId, generation: u32) -> PathBuf {
        self.generation(machine, generation).join(NVRAM)
    }

    /// The folder of what the TPM of a machine's generation keeps, where its profile has one.
    pub fn tpm(&self, machine: MachineId, generation: u32) -> PathBuf {
        self.generation(machine, generation).join(TPM)
    }

    fn machine(&self, machine: MachineId) -> PathBuf {
        self.machines.join(machine.to_string())
    }

    /// The folder of a machine's generation.
    pub fn generation(&self, machine: MachineId, generation: u32) -> PathBuf {
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

    /// Makes the folder of `machine`'s generation exist: its overlay, backed by `image` in
    /// `image_dir`, and fresh UEFI variables and an empty TPM where its profile has them; or all
    /// of it from the generation that it is made from.
    ///
    /// Repeatable. A power cut leaves the whole folder, or a part that `observe` calls partial.
    /// Errors: the image does not start under the profile's firmware, there is no firmware here,
    /// no space, also under the reserve; nothing is left of the attempt then.
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
        open_to_others(&self.machine(id)).map_err(|closed| closed.while_doing(doing()))?;
        let new = self.machine(id).join(format!(".new-{generation}"));
        let filled = || self.fill(&new, machine, image, image_dir);
        let made = self.enough_space(0).and_then(|()| filled()).and_then(|()| {
            // What an earlier removal left must not hide behind the new one.
            remove_tree(&self.machine(id).join(format!(".old-{generation}")))?;
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

    fn fill(
        &self,
        new: &Path,
        machine: &DesiredMachine,
        image: &ImageManifest,
        image_dir: &Path,
    ) -> Made {
        let uid = machine.uid;
        starts(machine.profile, image)?;
        remove_tree(new)?;
        DirBuilder::new().mode(0o700).create(new)?;
        match machine.origin {
            Some(origin) => self.fill_from(new, machine, image, origin)?,
            None => fill_fresh(new, machine, image, image_dir)?,
        }
        chown(new, None, Some(uid))?;
        fs::set_permissions(new, Permissions::from_mode(0o750))?;
        Ok(sync(new)?)
    }

    /// How much room there is beside the reserve.
    pub fn room(&self) -> Result<DiskRoom, HostError> {
        let doing = || format!("measure the free space of {}", self.machines.display());
        let free = self.free_bytes().map_err(|e| HostError::new(doing(), e))?;
        Ok(DiskRoom::of(free, self.reserve_bytes))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.machines)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn enough_space(&self, more_bytes: u64) -> Made {
        let free = self.free_bytes()?;
        let needed = self.reserve_bytes.saturating_add(more_bytes);
        if free >= needed {
            return Ok(());
        }
        Err(Box::new(NoSpace {
            dir: self.machines.display().to_string(),
            free_mib: free >> 20,
            reserve_mib: self.reserve_bytes.div_ceil(1 << 20),
            needed_mib: more_bytes.div_ceil(1 << 20),
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
        take_back(target)?;
        self.remove_if_empty(machine)
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;
type Made = Result<(), Cause>;

/// Fills the folder of a generation that has nothing of any before.
fn fill_fresh(
    new: &Path,
    machine: &DesiredMachine,
    image: &ImageManifest,
    image_dir: &Path,
) -> Made {
    let (profile, uid) = (machine.profile, machine.uid);
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
            give(&overlay, 0o600, uid)?;
        }
    }
    if profile.has_nvram() {
        let nvram = new.join(NVRAM);
        Firmware::of_host()?.fresh_variables(&nvram)?;
        give(&nvram, 0o600, uid)?;
    }
    if profile.has_tpm() {
        let tpm = new.join(TPM);
        fs::create_dir(&tpm)?;
        give(&tpm, 0o700, uid)?;
    }
    Ok(())
}

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

/// Gives a file or folder to `uid` alone; it is on the disk then.
fn give(path: &Path, mode: u32, uid: u32) -> io::Result<()> {
    let file = File::open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    chown(path, Some(uid), Some(uid))?;
    file.sync_all()
}

/// Makes root the owner of `dir` and all in it. Links, which a guest's QEMU could have left, are
/// not followed.
fn take_back(dir: &Path) -> io::Result<()> {
    for (_, path) in entries(dir)? {
        if fs::symlink_metadata(&path)?.is_dir() {
            take_back(&path)?;
        } else {
            lchown(path, Some(0), Some(0))?;
        }
    }
    lchown(dir, Some(0), Some(0))
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use nonstop_model::{EnvironmentId, Power, image::ImageFile};
    use std::os::unix::fs::MetadataExt;

    pub(super) struct Place {
        pub(super) dir: tempfile::TempDir,
        pub(super) disks: Disks,
    }

    pub(super) fn place(reserve_bytes: u64) -> Place {
        let dir = tempfile::tempdir().expect("a folder");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("a mode");
        let base = dir.path().join("base.qcow2");
        let status = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .args([base.as_os_str(), "16M".as_ref()])
            .status();
        assert!(status.expect("qemu-img is installed").success());
        let disks =
            Disks::new(dir.path().join("machines"), dir.path().join("quarantine"), reserve_bytes);
        Place { dir, disks }
    }

    impl Place {
        fn create(&self, generation: u32) -> Result<(), HostError> {
            self.disks.create(&machine(generation), &image(), self.dir.path())
        }

        pub(super) fn seen(&self) -> Vec<(u32, Disk)> {
            let seen = self.disks.observe().expect("listed");
            seen.into_iter().map(|((_, generation), disk)| (generation, disk)).collect()
        }

        pub(super) fn inside(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }
    }

    fn image() -> ImageManifest {
        let file =
            |file: &str| ImageFile { file: file.into(), sha256: String::new(), size_bytes: 1 };
        ImageManifest {
            version: 1,
            name: "micro".parse().expect("a name"),
            disk: Some(file("base.qcow2")),
            disk_bytes: 16 << 20,
            uefi: false,
            kernel: file("kernel"),
            initrd: file("initrd"),
            cmdline: String::new(),
            agent: false,
            test_channel: false,
            card_ports: false,
            user: None,
            rdp_port: None,
            packages: Vec::new(),
        }
    }

    pub(crate) fn machine(generation: u32) -> DesiredMachine {
        // Other uids need root, as the daemon is; without it the overlay stays ours.
        let uid = if rustix::process::geteuid().is_root() {
            80_007
        } else {
            rustix::process::geteuid().as_raw()
        };
        DesiredMachine {
            id: MachineId(7),
            environment: EnvironmentId(3),
            role: nonstop_model::MachineRole::Analyst,
            image: image().name,
            image_digest: String::new(),
            profile: Default::default(),
            uid,
            address: "10.77.0.2".parse().ok(),
            networks: vec![nonstop_model::SegmentKind::Access],
            reach: Vec::new(),
            limits: Default::default(),
            memory_mib: 96,
            vcpus: 1,
            generation,
            power: Power::On,
            force_off_at: Timestamp::UNIX_EPOCH,
            reset_pending: false,
            preparation: None,
            desktop: None,
            viewers: Vec::new(),
            origin: None,
            resume: None,
            frozen: Vec::new(),
            agent: true,
            drive: false,
            disc: None,
            seen_in: None,
        }
    }

    #[test]
    fn an_overlay_belongs_to_its_machine_and_can_be_made_again() {
        let place = place(0);
        place.create(1).expect("made");
        place.create(1).expect("made again");
        place.create(2).expect("made beside it");
        assert_eq!(place.seen(), [(1, Disk::Whole), (2, Disk::Whole)]);
        let look = |path| fs::metadata(place.inside(path)).expect("there");
        let modes = ["machines", "machines/m7", "machines/m7/1", "machines/m7/1/disk.qcow2"]
            .map(|path| format!("{:o}", look(path).mode() & 0o7777));
        assert_eq!(modes, ["711", "711", "750", "600"]);
        assert_eq!(look("machines/m7/1").uid(), rustix::process::geteuid().as_raw());
        assert_eq!(look("machines/m7/1").gid(), machine(1).uid);
        assert_eq!(look("machines/m7/1/disk.qcow2").uid(), machine(1).uid);
        let overlay = place.disks.overlay(MachineId(7), 1);
        assert_eq!(overlay, place.inside("machines/m7/1/disk.qcow2"));
    }

    pub(super) fn uefi(generation: u32) -> (DesiredMachine, ImageManifest) {
        let machine = DesiredMachine { profile: MachineProfile::Uefi, ..machine(generation) };
        (machine, ImageManifest { uefi: true, ..image() })
    }

    #[test]
    fn variables_and_tpm_are_the_machines_own_and_those_of_one_generation() {
        let place = place(0);
        for generation in [1, 2] {
            let (machine, image) = uefi(generation);
            place.disks.create(&machine, &image, place.dir.path()).expect("made");
        }
        let look = |path: &str| {
            let meta = fs::metadata(place.inside(path)).expect("there");
            (format!("{:o}", meta.mode() & 0o7777), meta.uid())
        };
        let uid = machine(1).uid;
        assert_eq!(look("machines/m7/1/nvram"), ("600".into(), uid));
        assert_eq!(look("machines/m7/1/tpm"), ("700".into(), uid));
        let (nvram, tpm) = (place.disks.nvram(MachineId(7), 1), place.disks.tpm(MachineId(7), 1));
        fs::write(&nvram, "a variable of the guest's").expect("written");
        fs::write(tpm.join("tpm2-00.permall"), "a value of the guest's").expect("written");
        // The next generation has none of it, and the first one's goes as a whole.
        let fresh = fs::read(place.disks.nvram(MachineId(7), 2)).expect("there");
        assert!(fresh.starts_with(b"QFI\xfb"), "a qcow2 with fresh variables");
        assert_eq!(fs::read_dir(place.disks.tpm(MachineId(7), 2)).expect("there").count(), 0);
        place.disks.destroy(MachineId(7), 1).expect("destroyed");
        assert!(!nvram.exists() && !tpm.exists());
    }

    #[test]
    fn an_image_that_firmware_cannot_start_is_refused_and_nothing_is_left() {
        let place = place(0);
        let (machine, _) = uefi(1);
        let error = place.disks.create(&machine, &image(), place.dir.path()).expect_err("refused");
        let cause = error.source.expect("a cause").to_string();
        assert!(cause.contains("does not start by UEFI firmware"), "{cause}");
        assert_eq!(place.seen(), []);
    }

    #[test]
    fn what_a_power_cut_left_of_making_or_removing_is_partial_and_can_go() {
        let place = place(0);
        place.create(3).expect("made");
        fs::rename(place.inside("machines/m7/3"), place.inside("machines/m7/.old-3")).expect("cut");
        fs::create_dir(place.inside("machines/m7/.new-4")).expect("cut");
        fs::create_dir(place.inside("machines/m7/5")).expect("a folder without a disk");
        let partial = [(3, Disk::Partial), (4, Disk::Partial), (5, Disk::Partial)];
        assert_eq!(place.seen(), partial);
        place.create(4).expect("made over the part");
        for generation in [3, 4, 5, 5] {
            place.disks.destroy(MachineId(7), generation).expect("destroyed");
        }
        assert_eq!(place.seen(), []);
        assert!(!place.inside("machines/m7").exists());
    }

    #[test]
    fn the_empty_folder_of_a_machine_is_a_leftover_too() {
        let place = place(0);
        fs::create_dir_all(place.inside("machines/m7")).expect("cut");
        assert_eq!(place.seen(), [(0, Disk::Partial)]);
        place.disks.destroy(MachineId(7), 0).expect("destroyed");
        assert_eq!(place.seen(), []);
    }

    #[test]
    fn under_the_reserve_nothing_is_made_and_the_reason_is_said() {
        let place = place(1 << 60);
        let e = place.create(1).expect_err("no disk is that large");
        let cause = e.source.as_ref().expect("a cause").to_string();
        assert!(cause.starts_with("no space: ") && cause.contains("in reserve"), "{cause}");
        assert!(e.help.starts_with("free space on the file system of"), "{}", e.help);
        assert!(!place.inside("machines/m7").exists());
    }

    #[test]
    fn a_missing_base_leaves_nothing_behind() {
        let place = place(0);
        fs::remove_file(place.inside("base.qcow2")).expect("removed");
        let e = place.create(1).expect_err("there is no base");
        let cause = e.source.as_ref().expect("a cause").to_string();
        assert!(cause.contains("base.qcow2") && cause.contains("No such file"), "{cause}");
        assert!(!place.inside("machines/m7").exists());
    }

    #[test]
    fn the_quarantine_takes_the_disk_and_closes_it() {
        let place = place(0);
        let (machine, of_firmware) = uefi(1);
        place.disks.create(&machine, &of_firmware, place.dir.path()).expect("made");
        let kept = place.disks.tpm(MachineId(7), 1).join("tpm2-00.permall");
        give(&File::create(&kept).map(|_| kept).expect("made"), 0o600, machine.uid).expect("given");
        if !rustix::process::geteuid().is_root() {
            assert!(place.disks.quarantine(MachineId(7), 1).is_err(), "it becomes root's");
            return;
        }
        place.disks.quarantine(MachineId(7), 1).expect("moved");
        place.disks.quarantine(MachineId(7), 1).expect("moved again");
        assert!(!place.inside("machines/m7").exists());
        let (name, path) = entries(&place.inside("quarantine")).expect("listed").remove(0);
        assert!(name.starts_with("m7-1-2"), "{name}");
        for inside in ["disk.qcow2", "nvram", "tpm", "tpm/tpm2-00.permall", ""] {
            assert_eq!(fs::metadata(path.join(inside)).expect("there").uid(), 0, "{inside}");
        }
        // Nothing that was set aside is ever written over.
        place.create(1).expect("made");
        let e = place.disks.set_aside(MachineId(7), 1, &path).expect_err("the name is taken");
        assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        assert_eq!(place.seen(), [(1, Disk::Whole)]);
    }
}

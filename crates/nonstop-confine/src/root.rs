//! A root of one's own that holds nothing but some folders.

use crate::ConfineError;
use rustix::{
    fs::{CWD, Mode, OFlags, mkdirat, openat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
        OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change,
        move_mount, open_tree,
    },
    process::{chdir, chroot, fchdir},
    thread::{UnshareFlags, unshare_unsafe},
};
use std::{os::fd::OwnedFd, path::Path};

/// Leaves this process, which must be root's and of one thread, in a root where the folders
/// `keep` are there under the names given, and nothing else is. Nobody else's root is touched.
///
/// A folder that is removed and made again elsewhere is not seen here.
pub fn keep_only(keep: &[(&Path, &str)]) -> Result<(), ConfineError> {
    let flags = UnshareFlags::NEWNS;
    #[expect(unsafe_code, reason = "rustix marks it so for CLONE_FILES and CLONE_VM alone")]
    // SAFETY: neither descriptors nor memory are unshared, and there is one thread.
    unsafe { unshare_unsafe(flags) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let trees = keep
        .iter()
        .map(|(folder, _)| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(CWD, *folder, flags)
        })
        .collect::<Result<Vec<OwnedFd>, _>>()?;
    let system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("mode", "0755"), ("size", "64k")] {
        fsconfig_set_string(&system, key, value)?;
    }
    fsconfig_create(&system)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&root, "", CWD, "/", onto)?;
    for ((_, name), tree) in keep.iter().zip(&trees) {
        mkdirat(&root, *name, Mode::from_raw_mode(0o755))?;
        let there = openat(&root, *name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let into = onto | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(tree, "", &there, "", into)?;
    }
    fchdir(&root)?;
    chroot(".")?;
    chdir("/")?;
    Ok(())
}

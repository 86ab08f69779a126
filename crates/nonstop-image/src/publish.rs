//! Makes a built image visible: whole, synced, read-only, in one rename.

use crate::{
    error::{At, ImageError},
    store::{ImageStore, sha256_of},
};
use nonstop_model::image::{ImageFile, ImageManifest};
use rustix::fs::RenameFlags;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, Permissions},
    io::{ErrorKind, Write},
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
};

/// The manifest's entry for a file that was just built.
pub(crate) fn describe(dir: &Path, file: &str) -> Result<ImageFile, ImageError> {
    let path = dir.join(file);
    let size_bytes = fs::metadata(&path).at("look at", &path)?.len();
    Ok(ImageFile { file: file.into(), sha256: sha256_of(&path)?, size_bytes })
}

/// Moves the files in `built` (those that `manifest` names) into the store and makes the
/// image current; gives its digest.
///
/// Repeatable. A power cut at any instant leaves the image that was current, or this one.
pub(crate) fn publish(
    store: &ImageStore,
    built: &Path,
    manifest: &ImageManifest,
    inputs: &str,
) -> Result<String, ImageError> {
    let json = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
    let digest = hex::encode(Sha256::digest(&json));
    let home = store.dir().join(manifest.name.as_str());
    fs::create_dir_all(&home).at("make folder", &home)?;

    let path = built.join("image.json");
    let mut file = File::create(&path).at("make", &path)?;
    file.write_all(&json).at("write", &path)?;
    drop(file);
    let names = manifest.files().map(|f| f.file.as_str()).chain(["image.json"]);
    for name in names {
        let path = built.join(name);
        // Each QEMU has a uid of its own and shares these: readable by all, writable by none.
        chown(&path, Some(0), Some(0)).at("give to root", &path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o444)).at("make read-only", &path)?;
        sync(&path)?;
    }
    chown(built, Some(0), Some(0)).at("give to root", built)?;
    fs::set_permissions(built, Permissions::from_mode(0o555)).at("make read-only", built)?;
    sync(built)?;

    let path = store.path(&manifest.name, &digest);
    match rustix::fs::renameat_with(
        rustix::fs::CWD,
        built,
        rustix::fs::CWD,
        &path,
        RenameFlags::NOREPLACE,
    ) {
        Ok(()) => {}
        // The same image was built before. If it is sound, this build proved it; if not,
        // this build mends it: running guests keep the files they have open.
        Err(rustix::io::Errno::EXIST) => {
            if store.verify(&manifest.name, &digest).is_err() {
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    built,
                    rustix::fs::CWD,
                    &path,
                    RenameFlags::EXCHANGE,
                )
                .at("exchange for the mended image", &path)?;
            }
            remove_tree(built)?;
        }
        Err(e) => return Err(e).at("move the image to", &path),
    }
    sync(&home)?;
    write_whole(&home.join(format!("{digest}.inputs")), inputs.as_bytes())?;
    switch(&home, &digest)?;
    Ok(digest)
}

/// The inputs' digest with which the image was last built.
pub(crate) fn inputs_of(
    store: &ImageStore,
    manifest: &ImageManifest,
    digest: &str,
) -> Option<String> {
    let file = store.dir().join(manifest.name.as_str()).join(format!("{digest}.inputs"));
    fs::read_to_string(file).ok()
}

/// Points `current` to `digest` in one step.
fn switch(home: &Path, digest: &str) -> Result<(), ImageError> {
    let fresh = home.join(".current.new");
    match fs::remove_file(&fresh) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).at("remove", &fresh),
        _ => {}
    }
    symlink(digest, &fresh).at("make link", &fresh)?;
    let link = home.join("current");
    fs::rename(&fresh, &link).at("switch", &link)?;
    sync(home)
}

fn write_whole(path: &Path, content: &[u8]) -> Result<(), ImageError> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh).at("make", &fresh)?;
    file.write_all(content).at("write", &fresh)?;
    file.sync_all().at("sync", &fresh)?;
    fs::rename(&fresh, path).at("rename", path)
}

/// Waits until a file or folder is on the disk.
pub(crate) fn sync(path: &Path) -> Result<(), ImageError> {
    File::open(path).and_then(|f| f.sync_all()).at("sync", path)
}

/// Removes a folder of ours, also a finished, read-only one; fine when it is not there.
pub(crate) fn remove_tree(path: &Path) -> Result<(), ImageError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

/// Tiny images for the tests of this crate.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Writes the files of a tiny image and gives their manifest.
    pub(crate) fn manifest(dir: &Path, kernel: &str) -> ImageManifest {
        for (name, content) in [("kernel", kernel), ("initrd", "initrd"), ("disk.qcow2", "disk")] {
            fs::write(dir.join(name), content).expect("write");
        }
        ImageManifest {
            version: 1,
            name: "micro".parse().expect("a name"),
            disk: Some(describe(dir, "disk.qcow2").expect("describe")),
            disk_bytes: 4,
            uefi: false,
            kernel: describe(dir, "kernel").expect("describe"),
            initrd: describe(dir, "initrd").expect("describe"),
            cmdline: "console=ttyS0".into(),
            test_channel: true,
            card_ports: false,
            agent: false,
            user: None,
            rdp_port: None,
            packages: vec!["busybox-static 1".into()],
        }
    }

    /// Publishes a tiny image with that kernel.
    pub(crate) fn built(store: &ImageStore, kernel: &str) -> String {
        let out = store.dir().join(".build-micro/out");
        fs::create_dir_all(&out).expect("mkdir");
        let manifest = manifest(&out, kernel);
        publish(store, &out, &manifest, "inputs").expect("publish")
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};
    use std::os::unix::fs::MetadataExt;

    fn store() -> (tempfile::TempDir, ImageStore) {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = ImageStore::new(dir.path().join("images"));
        (dir, store)
    }

    #[test]
    fn a_new_image_takes_over_and_the_old_one_stays_for_those_who_use_it() {
        let (_dir, store) = store();
        let old = built(&store, "kernel one");
        let new = built(&store, "kernel two");
        let name = "micro".parse().expect("a name");
        assert_ne!(old, new);
        assert_eq!(store.current(&name).expect("current").0, new);
        store.verify(&name, &old).expect("the old image is as it was");
        assert!(!store.dir().join("micro/.current.new").exists());
    }

    #[test]
    fn nobody_can_write_into_a_finished_image() {
        let (_dir, store) = store();
        let digest = built(&store, "kernel");
        let folder = store.path(&"micro".parse().expect("a name"), &digest);
        let mode = |path: &Path| fs::metadata(path).map(|m| (m.mode() & 0o7777, m.uid()));
        assert_eq!(mode(&folder).expect("stat"), (0o555, 0));
        for file in ["image.json", "kernel", "initrd", "disk.qcow2"] {
            assert_eq!(mode(&folder.join(file)).expect("stat"), (0o444, 0), "{file}");
        }
    }

    #[test]
    fn the_same_image_again_is_the_same_and_leaves_nothing_over() {
        let (_dir, store) = store();
        assert_eq!(built(&store, "kernel"), built(&store, "kernel"));
        assert!(!store.dir().join(".build-micro/out").exists());
    }

    #[test]
    fn building_again_mends_a_damaged_image() {
        let (_dir, store) = store();
        let digest = built(&store, "kernel");
        let name = "micro".parse().expect("a name");
        let kernel = store.path(&name, &digest).join("kernel");
        fs::remove_file(&kernel).expect("remove");
        fs::write(&kernel, "torn").expect("write");
        store.verify(&name, &digest).expect_err("damaged");
        assert_eq!(built(&store, "kernel"), digest);
        store.verify(&name, &digest).expect("mended");
    }

    /// Ends a build before each of its effects and looks at what is visible then.
    #[test]
    fn a_build_killed_at_any_point_shows_the_old_image_or_the_new_one() {
        let name = "micro".parse().expect("a name");
        // What lies there when the process dies: nothing of the new image, a part of its files,
        // all files, all moved but the link, and a link begun.
        for died in 0..5 {
            let (_dir, store) = store();
            let old = built(&store, "kernel one");
            let out = store.dir().join(".build-micro/out");
            if died > 0 {
                fs::create_dir_all(&out).expect("mkdir");
                fs::write(out.join("kernel"), "ker").expect("write");
            }
            if died > 1 {
                manifest(&out, "kernel two");
            }
            if died > 2 {
                let json = serde_json::to_vec_pretty(&manifest(&out, "kernel two")).expect("JSON");
                let digest = hex::encode(Sha256::digest(&json));
                fs::write(out.join("image.json"), json).expect("write");
                fs::rename(&out, store.path(&name, &digest)).expect("rename");
            }
            if died > 3 {
                symlink("anything", store.dir().join("micro/.current.new")).expect("link");
            }
            let (current, _) = store.current(&name).expect("the old image");
            assert_eq!(current, old, "died at {died}");
            store.verify(&name, &current).expect("whole");
            for image in store.list().expect("list") {
                store.verify(&name, &image.digest).expect("whatever is listed is whole");
            }
            // The next build goes through.
            let new = built(&store, "kernel two");
            assert_eq!(store.current(&name).expect("current").0, new, "died at {died}");
            store.verify(&name, &new).expect("whole");
        }
    }
}

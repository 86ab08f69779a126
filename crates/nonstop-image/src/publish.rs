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

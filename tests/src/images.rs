//! Images for labs: the built ones, and these in disguise.

use anyhow::{Context, Result};
use nonstop_testkit::lab::Lab;
use sha2::{Digest, Sha256};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// The built images, as `cargo xtask test` names them to its tests.
pub fn built_images() -> Result<PathBuf> {
    std::env::var_os("NONSTOP_IMAGES")
        .map(PathBuf::from)
        .context("NONSTOP_IMAGES is not set: run the tests by `cargo xtask test`")
}

/// Puts an image called `name` into the lab: the files of `micro` under a manifest that `change`
/// has changed. Returns its folder.
pub fn disguised(
    lab: &Lab,
    name: &str,
    change: impl FnOnce(&mut serde_json::Value),
) -> Result<PathBuf> {
    disguised_from(lab, "micro", name, change)
}

/// The same, from the image `base`.
pub fn disguised_from(
    lab: &Lab,
    base: &str,
    name: &str,
    change: impl FnOnce(&mut serde_json::Value),
) -> Result<PathBuf> {
    let link = built_images()?.join(base).join("current");
    let base = fs::canonicalize(&link).with_context(|| format!("find {}", link.display()))?;
    let json = fs::read(base.join("image.json")).context("read the manifest")?;
    let mut manifest: serde_json::Value = serde_json::from_slice(&json)?;
    manifest["name"] = name.into();
    change(&mut manifest);
    let json = serde_json::to_vec(&manifest)?;
    let digest = hex::encode(Sha256::digest(&json));
    let home = lab.state().join("images").join(name);
    let folder = home.join(&digest);
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(&base)? {
        let entry = entry?;
        if entry.file_name() != "image.json" {
            place(&entry.path(), &folder.join(entry.file_name()))?;
        }
    }
    fs::write(folder.join("image.json"), json)?;
    let link = home.join("current");
    let _absent = fs::remove_file(&link);
    symlink(&digest, link)?;
    Ok(folder)
}

fn place(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

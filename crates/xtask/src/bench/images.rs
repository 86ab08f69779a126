//! Base images for the labs of benches.

use crate::workspace;
use anyhow::{Context, Result};
use nonstop_testkit::place::Place;
use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// Images that are built by now, or, as for tests, those where `NONSTOP_IMAGES` says.
pub(super) fn images() -> Result<PathBuf> {
    env::var_os("NONSTOP_IMAGES").map_or_else(workspace::images, |path| Ok(path.into()))
}

/// Copies the current images to `target`. Links would not do: the peers' libvirt gives the files
/// another owner, and a file that other labs link and unlink meanwhile looks changed to ours,
/// which then checks its digest anew.
pub(super) fn copy_images(images: &Path, target: &Path) -> Result<()> {
    for name in ["micro", "desktop"] {
        let (from, to) = (image(images, name)?, target.join(name));
        fs::create_dir_all(&to)?;
        let digest = from.file_name().context("an image without a name")?;
        let words = ["cp", "-r", "--reflink=auto", "--"].map(OsStr::new);
        Place::here().run(&[&words[..], &[from.as_os_str(), to.as_os_str()]].concat())?;
        symlink(digest, to.join("current")).context("make the image the current one")?;
    }
    Ok(())
}

/// The folder of the current image `name` among `images`.
pub(super) fn image(images: &Path, name: &str) -> Result<PathBuf> {
    let current = images.join(name).join("current");
    fs::canonicalize(&current).with_context(|| format!("no image in {}", current.display()))
}

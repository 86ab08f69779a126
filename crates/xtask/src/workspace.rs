//! The checkout: building our programs and the images.

use crate::run::run;
use anyhow::{Context, Result, ensure};
use nonstop_testkit::labbox::built_programs;
use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Root of the checkout.
pub(crate) fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::canonicalize(&root).context("find the checkout")
}

/// The build's folder (`target`).
pub(crate) fn target() -> Result<PathBuf> {
    Ok(built_programs()?.parent().context("the build's folder has no parent")?.into())
}

/// `cargo` in the checkout, the same that runs us.
pub(crate) fn cargo() -> Result<Command> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()?).env("CARGO_TARGET_DIR", target()?);
    // Set for us by `cargo run`; in a nested build they would force rebuilding.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        cargo.env_remove(name);
    }
    Ok(cargo)
}

/// Sees that a build has `gib` GiB to grow to, what it has already counted in.
///
/// Errors: it has not, with what there is and where.
pub(crate) fn room(gib: u64) -> Result<()> {
    let target = target()?;
    let stat =
        rustix::fs::statvfs(&target).with_context(|| format!("look at {}", target.display()))?;
    let (free, held) = (stat.f_bavail * stat.f_frsize, size(&target)?);
    ensure!(
        free + held >= gib << 30,
        "{} has {:.1} GiB free beside the {:.1} GiB of this build, which takes {gib} GiB: make room, \
         or set CARGO_TARGET_DIR to where there is some",
        target.display(),
        free as f64 / GIB,
        held as f64 / GIB
    );
    Ok(())
}

const GIB: f64 = (1_u64 << 30) as f64;

/// What the files below `folder` take of the disk, in bytes. Files that go meanwhile are left out.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let Ok(about) = entry.metadata() else { continue };
        bytes += match about.is_dir() {
            true => size(&entry.path()).unwrap_or(0),
            false => about.blocks() * 512,
        };
    }
    Ok(bytes)
}

/// Builds all our programs beside the running one.
pub(crate) fn build() -> Result<()> {
    run("building NONSTOP", cargo()?.args(["build", "--quiet", "--locked", "--workspace"]))
}

/// Builds the images, or finds them built; gives the folder that holds them in the layout of
/// `STATE/images`. Shared by demos and tests: an image never changes after it was built.
pub(crate) fn images() -> Result<PathBuf> {
    let cache = target()?.join("images");
    let state = cache.join("state");
    fs::create_dir_all(&state).with_context(|| format!("make {}", state.display()))?;
    let lab = cache.join("lab.yaml");
    let yaml = format!("version: 1\nname: images\nstate: {}\n", state.display());
    fs::write(&lab, yaml).with_context(|| format!("write {}", lab.display()))?;
    let mut build = Command::new(built_programs()?.join("nonstop"));
    build.arg("--lab").arg(&lab).args([
        "image",
        "build",
        "micro",
        "desktop",
        "debuggee",
        "canary",
        "--recipes",
    ]);
    run("building the images", build.arg(root()?.join("images")))?;
    Ok(state.join("images"))
}

//! Tools of tests that are no package of Debian: of one version, kept beside the build.

use crate::{run, workspace};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What pip is to install, and the hash that it must have.
const SSH_AUDIT: &str = "\
ssh-audit==3.9.0 \
--hash=sha256:3dad48d4678e0de31f6332cc7674f9d7dd1805f86babf3796f41c2fd879cb812
";

/// ssh-audit, installed once into a Python environment of its own; gives the program.
///
/// Errors: neither there nor to be had from the package index.
pub(crate) fn ssh_audit() -> Result<PathBuf> {
    let folder = workspace::target()?.join("tools/ssh-audit-3.9.0");
    let program = folder.join("bin/ssh-audit");
    let whole = folder.join("whole");
    if whole.exists() {
        return Ok(program);
    }
    eprintln!("    installing ssh-audit, once");
    let wanted = folder.join("requirements.txt");
    let mut make = Command::new("python3");
    run::run("python3 -m venv", make.args(["-m", "venv", "--clear"]).arg(&folder))?;
    fs::write(&wanted, SSH_AUDIT).with_context(|| format!("write {}", wanted.display()))?;
    let mut install = Command::new(folder.join("bin/python3"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    install.args(["--only-binary", ":all:", "--require-hashes", "-r"]).arg(&wanted);
    run::run("pip install ssh-audit", &mut install)
        .context("ssh-audit is fetched once from the Python package index (PyPI)")?;
    fs::write(Path::new(&whole), "").with_context(|| format!("write {}", whole.display()))?;
    Ok(program)
}

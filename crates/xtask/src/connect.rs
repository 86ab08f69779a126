//! `nonstop-connect` for the systems of researchers' PCs that are not this one: built for Windows,
//! checked for macOS.
//!
//! The compiler that builds the rest has the standard library of this machine alone. Debian has a
//! compiler with the source of its own, which is downloaded, laid out beside the build and not
//! installed, and makes the standard library of the other system from it (`-Zbuild-std`).

use crate::{install, run::run, workspace};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Linked by Debian's MinGW.
const WINDOWS: &str = "x86_64-pc-windows-gnu";
/// Only checked: nobody may hand out what linking for macOS takes.
const MACOS: &str = "aarch64-apple-darwin";

/// Debian's compiler with its source, by its newest name first (Debian 12 has that of its
/// browsers, which is recent; Debian 13 its own).
const COMPILERS: [[&str; 3]; 2] = [
    ["rustc-web", "libstd-rust-web-dev", "rust-web-src"],
    ["rustc", "libstd-rust-dev", "rust-src"],
];

/// Builds the program for Windows as it is handed out; gives the file.
pub(crate) fn windows() -> Result<PathBuf> {
    install::install_with(&["gcc-mingw-w64-x86-64"])?;
    let compiler = Compiler::there()?;
    compiler.cargo(&["build", "--release"], WINDOWS)?;
    Ok(workspace::target()?.join("other").join(WINDOWS).join("release/nonstop-connect.exe"))
}

/// Builds the program for Windows and checks it for macOS; gives the former.
pub(crate) fn other_systems() -> Result<PathBuf> {
    install::install_with(&["gcc-mingw-w64-x86-64"])?;
    let compiler = Compiler::there()?;
    compiler.cargo(&["build"], WINDOWS)?;
    compiler.cargo(&["check"], MACOS)?;
    Ok(workspace::target()?.join("other").join(WINDOWS).join("debug/nonstop-connect.exe"))
}

/// Debian's compiler, laid out in a folder.
struct Compiler {
    usr: PathBuf,
}

impl Compiler {
    /// The compiler of the last time, or a fresh one.
    fn there() -> Result<Compiler> {
        let folder = workspace::target()?.join("tools/rust-of-debian");
        let compiler = Compiler { usr: folder.join("usr") };
        if compiler.usr.join("bin/rustc").exists() {
            return Ok(compiler);
        }
        let new = folder.with_extension("new");
        if new.exists() {
            fs::remove_dir_all(&new).with_context(|| format!("clear {}", new.display()))?;
        }
        let archives = new.join("archives");
        fs::create_dir_all(archives.join("partial"))
            .with_context(|| format!("make {}", archives.display()))?;
        download(&archives)?;
        for entry in fs::read_dir(&archives).context("list what was downloaded")?.flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "deb") {
                let mut unpack = Command::new("dpkg-deb");
                run("dpkg-deb", unpack.arg("-x").arg(entry.path()).arg(&new))?;
            }
        }
        fs::remove_dir_all(&archives).context("remove what was downloaded")?;
        // Whole or not there.
        fs::rename(&new, &folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(compiler)
    }

    /// `cargo WORDS` of the program for `target`.
    fn cargo(&self, words: &[&str], target: &str) -> Result<()> {
        let mut cargo = workspace::cargo()?;
        cargo
            .args(words)
            .args(["--quiet", "--locked", "--package", "nonstop-connect"])
            .args(["-Zbuild-std=std,panic_abort", "--ignore-rust-version", "--target", target])
            .env("RUSTC", self.usr.join("bin/rustc"))
            .env("LD_LIBRARY_PATH", self.libraries()?)
            // For -Zbuild-std, which stable compilers have and do not offer.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", workspace::target()?.join("other"));
        run(&format!("cargo {} for {target}", words.join(" ")), &mut cargo)
    }

    fn libraries(&self) -> Result<String> {
        let lib = self.usr.join("lib");
        let entries = fs::read_dir(&lib).with_context(|| format!("list {}", lib.display()))?;
        let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        let folders: Vec<_> = folders.map(|path| path.display().to_string()).collect();
        Ok(folders.join(":"))
    }
}

/// Has apt fetch a compiler and what it needs and this machine has not, into `archives`.
fn download(archives: &Path) -> Result<()> {
    for packages in COMPILERS {
        let mut know = Command::new("apt-cache");
        let known = know.arg("show").args(packages).output().context("ask apt-cache")?;
        if !known.status.success() {
            continue;
        }
        let mut apt = Command::new("apt-get");
        apt.args(["-y", "--download-only", "--no-install-recommends", "-o"])
            .arg(format!("Dir::Cache::archives={}", archives.display()))
            .arg("install")
            .args(packages);
        return run("fetching Debian's compiler", &mut apt);
    }
    bail!("apt knows none of Debian's compilers: run `apt-get update`")
}

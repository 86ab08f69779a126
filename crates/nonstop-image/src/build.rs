//! From a recipe to a finished image, in stages, each of which can be interrupted.

use crate::{
    apt::HostApt,
    error::{At, ImageError},
    ext4, initrd, kernel,
    publish::{describe, inputs_of, publish, remove_tree},
    recipe::{Boot, Install, Kind, Recipe, files_below},
    stage::{CUSTOMISE, FIRMWARE, PACKAGES, Stage},
    store::ImageStore,
    tools,
};
use nonstop_model::image::ImageManifest;
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Where a build is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// `packages`, `customise`, `disk`, `initrd` or `check`.
    pub stage: &'static str,
    /// How much of the stage is done, in units of its own.
    pub done: u64,
    /// How much there is, once known.
    pub total: Option<u64>,
    /// What is being done, for people.
    pub text: String,
}

impl Progress {
    fn now(stage: &'static str, text: impl Into<String>) -> Progress {
        Progress { stage, done: 0, total: None, text: text.into() }
    }
}

/// What a caller may ask of a build.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuildOptions {
    /// Build even if the current image came from the same recipe; takes in newer packages.
    pub force: bool,
    /// Keep the installed packages beside the store, so that the next build after a change
    /// of anything but the packages takes seconds: for those who write recipes.
    pub keep_packages: bool,
}

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// SHA-256 of its image.json.
    pub digest: String,
    /// What it consists of.
    pub manifest: ImageManifest,
    /// False when the current image already was of this recipe.
    pub fresh: bool,
}

/// Builds the image whose recipe lies in `recipe_dir` and makes it current in `store`.
///
/// Packages are kept in `cache_dir` and are not fetched twice. Repeatable; an interrupted build
/// goes on from the last finished stage, and nothing of it is visible in the store before the
/// end. Needs root. Errors name the missing program, the recipe's line or the failed stage.
pub fn build(
    recipe_dir: &Path,
    store: &ImageStore,
    cache_dir: &Path,
    options: BuildOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Built, ImageError> {
    let recipe = Recipe::read(recipe_dir)?;
    let inputs = recipe.inputs_digest(recipe_dir)?;
    if !options.force
        && let Some(built) = unchanged(store, &recipe, &inputs, progress)
    {
        return Ok(built);
    }
    tools::check()?;
    if !rustix::process::geteuid().is_root() {
        return Err(ImageError::NotRoot);
    }
    let recipe_dir = recipe_dir.canonicalize().at("find", recipe_dir)?;
    fs::create_dir_all(store.dir()).at("make folder", store.dir())?;
    fs::create_dir_all(cache_dir).at("make folder", cache_dir)?;
    let build = Build {
        recipe: &recipe,
        recipe_dir: &recipe_dir,
        cache: cache_dir.canonicalize().at("find", cache_dir)?,
        work: store
            .dir()
            .canonicalize()
            .at("find", store.dir())?
            .join(format!(".build-{}", recipe.name)),
    };
    let _lock = build.begin(options.force)?;
    let tar = build.packages(progress)?;
    build.customise(&tar, progress)?;
    let manifest = build.finish(&tar, progress)?;
    progress(Progress::now("check", "writing to the disk"));
    let digest = publish(store, &build.out(), &manifest, &inputs)?;
    if !options.keep_packages {
        remove_tree(&build.work)?;
    }
    Ok(Built { digest, manifest, fresh: true })
}

/// The current image if it came from the same inputs and is sound.
fn unchanged(
    store: &ImageStore,
    recipe: &Recipe,
    inputs: &str,
    progress: &mut dyn FnMut(Progress),
) -> Option<Built> {
    let (digest, manifest) = store.current(&recipe.name).ok()?;
    if inputs_of(store, &manifest, &digest)? != inputs {
        return None;
    }
    progress(Progress::now("check", "the recipe is that of the current image; checking its files"));
    store.verify(&recipe.name, &digest).ok()?;
    Some(Built { digest, manifest, fresh: false })
}

/// One build: its recipe and its folders.
struct Build<'a> {
    recipe: &'a Recipe,
    recipe_dir: &'a Path,
    cache: PathBuf,
    work: PathBuf,
}

impl Build<'_> {
    fn out(&self) -> PathBuf {
        self.work.join("out")
    }

    fn name(&self) -> &str {
        self.recipe.name.as_str()
    }

    fn content(&self, reason: String) -> ImageError {
        ImageError::Content { name: self.name().into(), reason }
    }

    /// Takes the build's folder, keeping of an interrupted build what was finished.
    fn begin(&self, afresh: bool) -> Result<File, ImageError> {
        let path = self.cache.join(format!("{}.lock", self.name()));
        let lock = File::create(&path).at("make", &path)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(ImageError::Busy { name: self.name().into(), lock: path });
        }
        if afresh {
            remove_tree(&self.work)?;
        }
        fs::create_dir_all(&self.work).at("make folder", &self.work)?;
        let kept = format!("{}.tar", self.packages_key());
        let kept = [kept.as_str(), &format!("{}.list", self.packages_key())].map(String::from);
        for entry in fs::read_dir(&self.work).at("read folder", &self.work)? {
            let entry = entry.at("read folder", &self.work)?;
            let path = entry.path();
            if kept.iter().any(|k| entry.file_name() == k.as_str()) {
                continue;
            }
            match entry.file_type().at("look at", &path)?.is_dir() {
                true => remove_tree(&path)?,
                false => fs::remove_file(&path).at("remove", &path)?,
            }
        }
        Ok(lock)
    }

    /// What the stage `packages` depends on.
    fn packages_key(&self) -> String {
        let r = self.recipe;
        let all = format!(
            "{:?} {:?} {:?} {:?} {:?} {} {PACKAGES}",
            r.suite, r.install, r.packages, r.exclude, r.include, r.source_date_epoch
        );
        hex::encode(&Sha256::digest(all)[..16])
    }

    /// Folder for one stage's use.
    fn folder(&self, name: &str) -> Result<PathBuf, ImageError> {
        let path = self.work.join(name);
        fs::create_dir(&path).at("make folder", &path)?;
        Ok(path)
    }

    fn packages(&self, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, ImageError> {
        let tar = self.work.join(format!("{}.tar", self.packages_key()));
        let list = tar.with_extension("list");
        if tar.exists() && list.exists() {
            progress(Progress::now("packages", "kept from the interrupted build"));
            return Ok(tar);
        }
        progress(Progress::now("packages", "asking the mirror"));
        let apt = HostApt::read();
        let patterns = |key: &str, paths: &[String]| {
            paths.iter().map(|p| format!("path-{key}={p}\n")).collect::<String>()
        };
        let full = self.recipe.install == Install::Full;
        let mut packages = self.recipe.packages.clone();
        packages.sort();
        let stage = Stage {
            image: self.name(),
            name: "packages",
            script: PACKAGES,
            env: vec![
                ("SUITE", self.recipe.suite.clone()),
                ("MIRROR", apt.mirror),
                ("SECURITY", apt.security),
                ("APT_OPTIONS", apt.options.join("\n")),
                ("PACKAGES", packages.join(",")),
                ("INSTALL", if full { "full" } else { "unpack" }.into()),
                (
                    "DPKG_OPTIONS",
                    patterns("exclude", &self.recipe.exclude)
                        + &patterns("include", &self.recipe.include),
                ),
                ("ARCHIVES", self.cache.join(self.name()).display().to_string()),
                ("TMPDIR", self.folder("tmp")?.display().to_string()),
                ("TAR", tar.display().to_string()),
                ("LIST", list.display().to_string()),
                ("SOURCE_DATE_EPOCH", self.recipe.source_date_epoch.to_string()),
            ],
            log: self.cache.join(format!("{}-packages.log", self.name())),
        };
        let (mut done, mut total) = (0, 0);
        stage.run(progress, |line| {
            // apt says how many it will install; dpkg names each as it is set up.
            if let Some((n, _)) = line.split_once(" newly installed") {
                total += n.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            }
            let what = ["Get:", "Setting up ", "Unpacking "].iter().find(|p| line.starts_with(**p));
            let what = *what?;
            done += u64::from(what == "Setting up ");
            let text = match what {
                "Get:" => format!("fetching {}", line.split(' ').nth(4).unwrap_or("")),
                _ => line.trim_end_matches("...").trim_end().to_owned(),
            };
            Some(Progress { stage: "packages", done, total: (total > 0).then_some(total), text })
        })?;
        Ok(tar)
    }

    fn customise(&self, tar: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), ImageError> {
        let overlay = self.folder("overlay")?;
        let source = self.recipe_dir.join("overlay");
        if source.is_dir() {
            copy_normalised(&source, &overlay)?;
        }
        let full = self.recipe.install == Install::Full;
        let stage = Stage {
            image: self.name(),
            name: "customise",
            script: CUSTOMISE,
            env: vec![
                ("TAR", tar.display().to_string()),
                ("TREE", self.folder("tree")?.display().to_string()),
                ("OVERLAY", overlay.display().to_string()),
                ("RECIPE", self.recipe_dir.display().to_string()),
                ("INSTALL", if full { "full" } else { "unpack" }.into()),
                ("BOOT", self.work.join("boot").display().to_string()),
                ("PROGRAMS", self.recipe.programs.join(" ")),
                ("RAW", self.work.join("disk.raw").display().to_string()),
                ("DISK_MIB", self.file_system_mib().to_string()),
                ("UUID", self.uuid()),
                ("SOURCE_DATE_EPOCH", self.recipe.source_date_epoch.to_string()),
            ],
            log: self.cache.join(format!("{}-customise.log", self.name())),
        };
        stage.run(progress, |line| {
            let text = line.strip_prefix("@ ")?;
            let stage = if text.contains("file system") { "disk" } else { "customise" };
            Some(Progress::now(stage, text))
        })
    }

    /// What is left of the disk by partition table and firmware (see `firmware.sh`).
    fn file_system_mib(&self) -> u32 {
        match self.recipe.boot {
            Boot::Direct => self.recipe.disk_mib,
            Boot::Uefi => self.recipe.disk_mib - 66,
        }
    }

    /// The disk with the file system `root` and what firmware starts.
    fn firmware(
        &self,
        tar: &Path,
        root: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf, ImageError> {
        let raw = self.work.join("partitions.raw");
        let shown = |path: &Path| path.display().to_string();
        let stage = Stage {
            image: self.name(),
            name: "firmware",
            script: FIRMWARE,
            env: vec![
                ("TAR", shown(tar)),
                ("KERNEL", shown(&self.work.join("boot/vmlinuz"))),
                ("INITRD", shown(&self.out().join("initrd"))),
                ("CMDLINE", self.recipe.cmdline.clone()),
                ("ROOT", shown(root)),
                ("ESP", shown(&self.work.join("esp"))),
                ("RAW", shown(&raw)),
                ("DISK_MIB", self.recipe.disk_mib.to_string()),
                ("UUID", self.uuid()),
                ("SOURCE_DATE_EPOCH", self.recipe.source_date_epoch.to_string()),
            ],
            log: self.cache.join(format!("{}-firmware.log", self.name())),
        };
        stage.run(progress, |line| Some(Progress::now("disk", line.strip_prefix("@ ")?)))?;
        Ok(raw)
    }

    /// File system's id and hash seed: fixed by the image's name.
    fn uuid(&self) -> String {
        let hash = hex::encode(Sha256::digest(format!("nonstop image {}", self.name())));
        // The fixed digits make it a well-formed UUID of version 8 (made by own rules).
        format!(
            "{}-{}-8{}-8{}-{}",
            &hash[..8],
            &hash[8..12],
            &hash[12..15],
            &hash[15..18],
            &hash[18..30]
        )
    }

    /// Makes kernel, initrd and disk in `out` and the manifest that names them.
    fn finish(
        &self,
        tar: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ImageManifest, ImageError> {
        let out = self.folder("out")?;
        let boot = self.work.join("boot");
        progress(Progress::now("initrd", "unpacking the kernel, packing the initrd"));
        let packed = boot.join("vmlinuz");
        let packed = fs::read(&packed).at("read", &packed)?;
        let elf = kernel::unpack(&packed)
            .map_err(|reason| self.content(format!("the kernel of the packages: {reason}")))?;
        let path = out.join("kernel");
        fs::write(&path, elf).at("write", &path)?;
        let files = self.recipe_dir.join("initrd");
        let archive = initrd::build(
            self.name(),
            &boot,
            &files,
            &self.recipe.modules,
            self.recipe.source_date_epoch,
        )?;
        let path = out.join("initrd");
        fs::write(&path, archive).at("write", &path)?;

        progress(Progress::now("disk", "packing the disk"));
        let disk = out.join("disk.qcow2");
        let mut raw = self.work.join("disk.raw");
        let mut command = Command::new("qemu-img");
        command.env("PATH", tools::PATH);
        if self.recipe.install == Install::Full {
            ext4::set_change_times(&raw, self.recipe.source_date_epoch)?;
            if self.recipe.boot == Boot::Uefi {
                raw = self.firmware(tar, &raw, progress)?;
            }
            // One coroutine: clusters lie in the order of the disk.
            command.args(["convert", "-m", "1", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&disk);
        } else {
            command.args(["create", "-q", "-f", "qcow2"]).arg(&disk);
            command.arg(format!("{}M", self.recipe.disk_mib));
        }
        let output = command.output().at("run", Path::new("qemu-img"))?;
        if !output.status.success() {
            return Err(self.content(format!(
                "qemu-img made no disk: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        progress(Progress::now("check", "computing digests"));
        let list = tar.with_extension("list");
        let list = fs::read_to_string(&list).at("read", &list)?;
        let mut packages: Vec<String> = list.lines().map(String::from).collect();
        packages.sort();
        Ok(ImageManifest {
            version: 1,
            name: self.recipe.name.clone(),
            disk: Some(describe(&out, "disk.qcow2")?),
            disk_bytes: u64::from(self.recipe.disk_mib) << 20,
            kernel: describe(&out, "kernel")?,
            initrd: describe(&out, "initrd")?,
            cmdline: self.recipe.cmdline.clone(),
            uefi: self.recipe.boot == Boot::Uefi,
            agent: self.recipe.agent,
            test_channel: self.recipe.test_channel,
            card_ports: self.recipe.card_ports,
            user: self.recipe.user.clone(),
            rdp_port: self.recipe.rdp_port,
            packages,
        })
    }
}

/// Copies a recipe's files so that nothing of the checkout's umask or owner is left.
fn copy_normalised(from: &Path, to: &Path) -> Result<(), ImageError> {
    fs::set_permissions(to, Permissions::from_mode(0o755)).at("set mode of", to)?;
    for file in files_below(from)? {
        let (source, target) = (from.join(&file.path), to.join(&file.path));
        let mode = match file.kind {
            Kind::Folder => {
                fs::create_dir(&target).at("make folder", &target)?;
                0o755
            }
            Kind::Link => {
                let link = fs::read_link(&source).at("read link", &source)?;
                std::os::unix::fs::symlink(link, &target).at("make link", &target)?;
                continue;
            }
            Kind::File { runs } => {
                fs::copy(&source, &target).at("copy to", &target)?;
                if runs { 0o755 } else { 0o644 }
            }
        };
        fs::set_permissions(&target, Permissions::from_mode(mode)).at("set mode of", &target)?;
    }
    Ok(())
}

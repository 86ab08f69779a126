//! What an image is made of: `recipe.yaml` and the files beside it.

use crate::error::{At, ImageError};
use nonstop_model::image::ImageName;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

/// Changes when the same recipe gives another image, so that images built before are not reused.
const BUILDER: u32 = 1;

/// How the packages get into the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Install {
    /// Installed with their scripts: a system that runs from its disk.
    Full,
    /// Only unpacked: files for an initrd.
    Unpack,
}

/// What starts the image's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// The hypervisor: the disk is one file system, or empty.
    #[default]
    Direct,
    /// UEFI firmware, from the disk: it has partitions, of which the first is the firmware's and
    /// the second the file system. The hypervisor still can.
    Uefi,
}

/// recipe.yaml.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of this format: 1.
    pub version: u32,
    /// Name of the image: that of the folder.
    pub name: ImageName,
    /// Debian release, such as `trixie`.
    pub suite: String,
    /// Seconds since 1970 that stand for "now" in all that is built.
    pub source_date_epoch: u32,
    /// How packages get in.
    pub install: Install,
    /// What starts it.
    #[serde(default)]
    pub boot: Boot,
    /// Packages beside what the release calls required; recommended ones are not added.
    pub packages: Vec<String>,
    /// Path patterns (dpkg's `path-exclude`) left out of every package.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Path patterns taken in again.
    #[serde(default)]
    pub include: Vec<String>,
    /// Kernel modules in the initrd, numbered in the order given, each after what it needs.
    pub modules: Vec<String>,
    /// Programs of the packages that go into the initrd, with the libraries that they load.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Virtual size of the disk in MiB.
    pub disk_mib: u32,
    /// Kernel command line.
    pub cmdline: String,
    /// Whether a guest agent answers.
    #[serde(default)]
    pub agent: bool,
    /// Whether a root shell answers on the port `org.nonstop.test.0`: test images only.
    #[serde(default)]
    pub test_channel: bool,
    /// Whether it puts frames from the port `org.nonstop.card.N` onto its card N: canaries only.
    #[serde(default)]
    pub card_ports: bool,
    /// The researcher's user in the guest.
    #[serde(default)]
    pub user: Option<String>,
    /// Port of the guest's RDP server.
    #[serde(default)]
    pub rdp_port: Option<u16>,
}

impl Recipe {
    /// Reads and checks the recipe in `dir`.
    pub fn read(dir: &Path) -> Result<Recipe, ImageError> {
        let path = dir.join("recipe.yaml");
        let wrong = |path: &Path, reason: String| ImageError::Recipe { path: path.into(), reason };
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(wrong(dir, "no recipe.yaml here; name a folder of `images/`".into()));
            }
            other => other.at("read", &path)?,
        };
        let recipe: Recipe =
            serde_yaml::from_str(&text).map_err(|e| wrong(&path, e.to_string()))?;
        recipe.check(dir).map_err(|reason| wrong(&path, reason))?;
        Ok(recipe)
    }

    fn check(&self, dir: &Path) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!(
                "version {} is not known here; this program reads 1",
                self.version
            ));
        }
        let folder = dir.canonicalize().unwrap_or_else(|_| dir.into());
        if folder.file_name().is_none_or(|n| n.as_bytes() != self.name.as_str().as_bytes()) {
            return Err(format!(
                "name `{}` must be that of its folder, {}",
                self.name,
                folder.display()
            ));
        }
        // These words end up as arguments of apt and dpkg.
        let plain = |s: &str, extra: &str| {
            s.starts_with(|c: char| c.is_ascii_alphanumeric() || extra.starts_with('/') && c == '/')
                && s.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
        };
        if !plain(&self.suite, "-") {
            return Err(format!("suite `{}` is not a Debian release's name", self.suite));
        }
        if let Some(bad) = self.packages.iter().find(|p| !plain(p, "+-.")) {
            return Err(format!("packages: `{bad}` is not a Debian package's name"));
        }
        if let Some(bad) =
            self.exclude.iter().chain(&self.include).find(|p| !plain(p, "/+-._*?[]!@"))
        {
            return Err(format!("exclude or include: `{bad}` is not a path pattern like /usr/x/*"));
        }
        if let Some(bad) = self.modules.iter().find(|m| !plain(m, "_-")) {
            return Err(format!("modules: `{bad}` is not a kernel module's name"));
        }
        // These are words of a shell's list.
        if let Some(bad) = self.programs.iter().find(|p| !p.starts_with('/') || !plain(p, "/+-._"))
        {
            return Err(format!("programs: `{bad}` is not a path like /usr/bin/x"));
        }
        if !(1..=1 << 20).contains(&self.disk_mib) {
            return Err(format!("disk_mib {} is outside 1..=1048576", self.disk_mib));
        }
        if self.cmdline.chars().any(|c| c.is_control()) {
            return Err("cmdline has a control character; keep it on one line".into());
        }
        if self.boot == Boot::Uefi && self.install == Install::Unpack {
            return Err("boot: uefi needs install: full, the system that is on the disk".into());
        }
        if self.boot == Boot::Uefi && self.disk_mib < 256 {
            return Err(format!("disk_mib {} is below 256, which boot: uefi needs", self.disk_mib));
        }
        if self.user.is_some() && !self.agent {
            return Err("user needs agent: true: the agent sets the user's password".into());
        }
        let needed: &[&str] = match self.install {
            Install::Full => &["initrd/init", "customise"],
            Install::Unpack => &["initrd/init"],
        };
        for file in needed {
            let runs = fs::metadata(dir.join(file))
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
            if !runs {
                return Err(format!("`{file}` beside it must be there and executable (chmod +x)"));
            }
        }
        Ok(())
    }

    /// Hash over every file of the recipe's folder and this builder's version: when it differs
    /// from that of the current image, the image is stale.
    ///
    /// Package versions are not in it; `nonstop image build --force` takes in newer ones.
    pub fn inputs_digest(&self, dir: &Path) -> Result<String, ImageError> {
        let mut hash = Sha256::new();
        hash.update(format!("nonstop-image {BUILDER}\n"));
        hash.update(crate::stage::SCRIPTS);
        if self.boot == Boot::Uefi {
            hash.update(crate::stage::FIRMWARE);
        }
        for file in files_below(dir)? {
            let content = match file.kind {
                Kind::Folder => Vec::new(),
                Kind::Link => {
                    let to = fs::read_link(dir.join(&file.path)).at("read link", &file.path)?;
                    to.as_os_str().as_bytes().to_vec()
                }
                Kind::File { .. } => {
                    fs::read(dir.join(&file.path)).at("read", dir.join(&file.path))?
                }
            };
            let path = file.path.as_os_str().as_bytes();
            hash.update(format!("{:?} {} {}\n", file.kind, path.len(), content.len()));
            hash.update(path);
            hash.update(content);
        }
        Ok(hex::encode(hash.finalize()))
    }
}

/// What a file of a recipe is; all else about it is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    Link,
    File { runs: bool },
}

/// A file of a recipe, by its path relative to the folder asked for.
#[derive(Debug, Clone)]
pub(crate) struct RecipeFile {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
}

/// All files below `dir`, folders before what is in them, sorted by path.
pub(crate) fn files_below(dir: &Path) -> Result<Vec<RecipeFile>, ImageError> {
    let mut found = Vec::new();
    walk(dir, Path::new(""), &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(root: &Path, below: &Path, found: &mut Vec<RecipeFile>) -> Result<(), ImageError> {
    let here = root.join(below);
    for entry in fs::read_dir(&here).at("read folder", &here)? {
        let entry = entry.at("read folder", &here)?;
        let path = below.join(entry.file_name());
        let meta = entry.metadata().at("look at", entry.path())?;
        let kind = if meta.is_dir() {
            walk(root, &path, found)?;
            Kind::Folder
        } else if meta.is_symlink() {
            Kind::Link
        } else if meta.is_file() {
            Kind::File { runs: meta.permissions().mode() & 0o111 != 0 }
        } else {
            let reason = "is neither a file, a folder nor a symlink; remove it".into();
            return Err(ImageError::Recipe { path: entry.path(), reason });
        };
        found.push(RecipeFile { path, kind });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "version: 1\nname: tiny\nsuite: trixie\nsource_date_epoch: 1\n\
        install: unpack\npackages: [busybox-static]\nmodules: []\ndisk_mib: 1\ncmdline: quiet\n";

    fn recipe(yaml: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path().join("tiny");
        fs::create_dir_all(folder.join("initrd")).expect("mkdir");
        fs::write(folder.join("recipe.yaml"), yaml).expect("write");
        fs::write(folder.join("initrd/init"), "#!/bin/sh\n").expect("write");
        fs::set_permissions(folder.join("initrd/init"), fs::Permissions::from_mode(0o755))
            .expect("chmod");
        (dir, folder)
    }

    fn refusal(yaml: &str) -> String {
        let (_dir, folder) = recipe(yaml);
        Recipe::read(&folder).expect_err("refused").to_string()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert!(refusal(&YAML.replace("disk_mib", "disk_mb")).contains("disk_mb"));
        assert!(refusal(&YAML.replace("quiet", "[")).contains("line 9"));
        assert!(refusal(&YAML.replace("busybox", "--force;busybox")).contains("Debian package"));
        assert!(refusal(&YAML.replace("tiny", "other")).contains("that of its folder"));
        assert!(refusal(&YAML.replace("disk_mib: 1", "disk_mib: 0")).contains("disk_mib 0"));
        assert!(refusal(&YAML.replace("unpack", "full")).contains("`customise`"));
        let uefi = YAML.replace("install", "boot: uefi\ninstall");
        assert!(refusal(&uefi).contains("needs install: full"));
        assert!(refusal(&uefi.replace("unpack", "full")).contains("below 256"));
        let empty = tempfile::tempdir().expect("temp dir");
        let text = Recipe::read(empty.path()).expect_err("refused").to_string();
        assert!(text.contains("no recipe.yaml here"), "{text}");
    }

    #[test]
    fn the_inputs_digest_knows_content_names_and_the_right_to_run_and_nothing_else() {
        let digest = |change: &dyn Fn(&Path)| {
            let (_dir, folder) = recipe(YAML);
            change(&folder);
            let read = Recipe::read(&folder).expect("a recipe");
            read.inputs_digest(&folder).expect("a digest")
        };
        let plain = digest(&|_| {});
        assert_eq!(plain, digest(&|_| {}), "another folder, another time");
        let run = |f: &Path, mode| {
            fs::set_permissions(f, fs::Permissions::from_mode(mode)).expect("chmod");
        };
        assert_eq!(plain, digest(&|f| run(&f.join("initrd/init"), 0o700)), "another umask");
        assert_ne!(plain, digest(&|f| run(&f.join("recipe.yaml"), 0o755)));
        assert_ne!(plain, digest(&|f| fs::write(f.join("initrd/x"), "").expect("write")));
        assert_ne!(plain, digest(&|f| fs::write(f.join("initrd/init"), "#!/bin/sh").expect("w")));
    }

    #[test]
    fn the_recipes_of_this_repository_are_read() {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images");
        for name in ["micro", "desktop", "debuggee"] {
            let recipe = Recipe::read(&images.join(name)).expect("a recipe");
            assert_eq!(recipe.name.as_str(), name);
        }
    }
}

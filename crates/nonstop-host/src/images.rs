//! Base images as machines use them: found by name, and checked before use.
//!
//! An image is a folder `images/<name>/<digest>/` whose `image.json` has that digest and names the
//! digest of every other file (see [`nonstop_model::image`]). A digest of a file is computed once
//! and remembered for as long as the file's inode says that nothing wrote to it.

use crate::HostError;
use nonstop_model::{ImageManifest, ImageName, image::ImageFile};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The lab's folder of built images.
#[derive(Debug)]
pub struct Images {
    root: PathBuf,
    known: Mutex<HashMap<Inode, String>>,
}

/// What says that a file is still the one that was read: any write changes the last field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inode {
    dev: u64,
    ino: u64,
    size: u64,
    changed: (i64, i64),
}

impl Images {
    /// The images in the folder `root`.
    pub fn new(root: PathBuf) -> Images {
        Images { root, known: Mutex::default() }
    }

    /// Digest and manifest of the image that new machines called `name` start from.
    pub fn current(&self, name: &ImageName) -> Result<(String, ImageManifest), HostError> {
        let link = self.root.join(name.as_str()).join("current");
        let target = fs::read_link(&link).map_err(|e| missing(name, &link, e))?;
        let digest = target.file_name().and_then(|d| d.to_str()).unwrap_or_default().to_string();
        let manifest = self.manifest(name, &digest)?;
        Ok((digest, manifest))
    }

    /// Folder and manifest of the image `name` with `digest`, after checking every file of it.
    ///
    /// Errors: a file is missing, or its digest is not the one that the manifest names.
    pub fn verified(
        &self,
        name: &ImageName,
        digest: &str,
    ) -> Result<(PathBuf, ImageManifest), HostError> {
        let manifest = self.manifest(name, digest)?;
        let folder = self.root.join(name.as_str()).join(digest);
        for file in manifest.files() {
            self.check(name, &folder, file)?;
        }
        Ok((folder, manifest))
    }

    fn manifest(&self, name: &ImageName, digest: &str) -> Result<ImageManifest, HostError> {
        let path = self.root.join(name.as_str()).join(digest).join("image.json");
        let json = fs::read(&path).map_err(|e| missing(name, &path, e))?;
        let found = hex::encode(Sha256::digest(&json));
        if found != digest {
            return Err(wrong(name, &path, digest, &found));
        }
        let unreadable = |e| {
            HostError::new(format!("read the manifest {}", path.display()), e).help(rebuild(name))
        };
        let manifest: ImageManifest = serde_json::from_slice(&json).map_err(unreadable)?;
        for file in manifest.files() {
            if file.file.contains('/') || file.file.starts_with('.') || file.file.is_empty() {
                let e = format!("`{}` is not the name of a file in its folder", file.file);
                return Err(
                    HostError::new(format!("read the image `{name}`"), e).help(rebuild(name))
                );
            }
        }
        Ok(manifest)
    }

    fn check(&self, name: &ImageName, folder: &Path, file: &ImageFile) -> Result<(), HostError> {
        let path = folder.join(&file.file);
        let found = self.digest(&path).map_err(|e| missing(name, &path, e))?;
        if found == file.sha256 { Ok(()) } else { Err(wrong(name, &path, &file.sha256, &found)) }
    }

    fn digest(&self, path: &Path) -> io::Result<String> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        let inode = Inode {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&inode).cloned();
        if let Some(digest) = known {
            return Ok(digest);
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        let digest = hex::encode(hasher.finalize());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(inode, digest.clone());
        Ok(digest)
    }
}

fn rebuild(name: &ImageName) -> String {
    format!("run `nonstop image build {name}`; machines granted with it need it back as it was")
}

fn missing(name: &ImageName, path: &Path, e: io::Error) -> HostError {
    HostError::new(format!("find the image `{name}` ({})", path.display()), e).help(rebuild(name))
}

fn wrong(name: &ImageName, path: &Path, expected: &str, found: &str) -> HostError {
    let e = format!("its SHA-256 is {found}, expected {expected}");
    HostError::new(format!("check the image `{name}` ({})", path.display()), e).help(rebuild(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn image(root: &Path) -> (ImageName, String) {
        let name: ImageName = "micro".parse().expect("a name");
        let file = |file: &str, content: &str| ImageFile {
            file: file.into(),
            sha256: hex::encode(Sha256::digest(content)),
            size_bytes: content.len() as u64,
        };
        let json = serde_json::json!({
            "version": 1, "name": "micro", "disk": null, "disk_bytes": 0,
            "kernel": file("kernel", "k"), "initrd": file("initrd", "i"), "cmdline": "",
            "agent": false, "user": null, "rdp_port": null, "packages": [],
        });
        let json = serde_json::to_vec(&json).expect("json");
        let digest = hex::encode(Sha256::digest(&json));
        let folder = root.join("micro").join(&digest);
        fs::create_dir_all(&folder).expect("made");
        for (name, content) in [("image.json", &json[..]), ("kernel", b"k"), ("initrd", b"i")] {
            fs::write(folder.join(name), content).expect("written");
        }
        symlink(&digest, root.join("micro/current")).expect("linked");
        (name, digest)
    }

    #[test]
    fn an_image_that_is_whole_is_found_and_verified() {
        let dir = tempfile::tempdir().expect("a folder");
        let (name, digest) = image(dir.path());
        let images = Images::new(dir.path().into());
        assert_eq!(images.current(&name).expect("there").0, digest);
        images.verified(&name, &digest).expect("whole");
    }

    #[test]
    fn a_changed_or_missing_file_is_named_with_both_digests_also_after_it_was_good() {
        let dir = tempfile::tempdir().expect("a folder");
        let (name, digest) = image(dir.path());
        let images = Images::new(dir.path().into());
        images.verified(&name, &digest).expect("whole");
        let kernel = dir.path().join("micro").join(&digest).join("kernel");
        fs::write(&kernel, "K").expect("written");
        let e = images.verified(&name, &digest).expect_err("changed");
        assert!(e.doing.contains("kernel"), "{}", e.doing);
        assert!(e.source.expect("a cause").to_string().contains("expected"));
        fs::remove_file(&kernel).expect("removed");
        let e = images.verified(&name, &digest).expect_err("missing");
        assert!(e.help.contains("nonstop image build micro"));
    }

    #[test]
    fn a_manifest_that_was_edited_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let (name, digest) = image(dir.path());
        let json = dir.path().join("micro").join(&digest).join("image.json");
        fs::write(&json, "{}").expect("written");
        assert!(Images::new(dir.path().into()).current(&name).is_err());
    }
}

//! Finished images on the disk: found by name and digest, checked before use.

use crate::error::{At, ImageError};
use nonstop_model::image::{ImageFile, ImageManifest, ImageName};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// The folder of images, `STATE/images`.
///
/// A folder `<name>/<digest>/` is there whole or not at all: it is renamed into place after
/// everything in it was synced. `<digest>` is the SHA-256 of its image.json, which holds the
/// SHA-256 of every other file.
#[derive(Debug)]
pub struct ImageStore {
    dir: PathBuf,
    checked: Mutex<HashMap<PathBuf, Stamp>>,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Its name.
    pub name: ImageName,
    /// SHA-256 of its image.json, in lower-case hex.
    pub digest: String,
    /// Whether new machines are started from it.
    pub current: bool,
    /// What it consists of.
    pub manifest: ImageManifest,
}

/// What the kernel says about a file; writing to it changes the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Stamp> {
        let m = fs::metadata(path)?;
        Ok(Stamp {
            device: m.dev(),
            inode: m.ino(),
            size: m.size(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        })
    }
}

impl ImageStore {
    /// The store in `dir`; the folder need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> ImageStore {
        ImageStore { dir: dir.into(), checked: Mutex::default() }
    }

    /// The folder of all images.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of one finished image; where its kernel, initrd and disk lie.
    pub fn path(&self, name: &ImageName, digest: &str) -> PathBuf {
        self.dir.join(name.as_str()).join(digest)
    }

    /// The image that new machines are started from.
    ///
    /// Its image.json is checked against the digest, the other files are not: see
    /// [`verify`](Self::verify). Errors: `NotBuilt` when there is none.
    pub fn current(&self, name: &ImageName) -> Result<(String, ImageManifest), ImageError> {
        let link = self.dir.join(name.as_str()).join("current");
        let target = match fs::read_link(&link) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(ImageError::NotBuilt { name: name.to_string() });
            }
            other => other.at("read link", &link)?,
        };
        let digest =
            target.to_str().filter(|d| is_digest(d)).ok_or_else(|| ImageError::Manifest {
                name: name.to_string(),
                path: link.clone(),
                reason: format!("it points to {}, not to a digest", target.display()),
            })?;
        Ok((digest.into(), self.manifest(name, digest)?))
    }

    /// All finished images, by name and digest. Folders that are something else are passed over.
    ///
    /// An image whose image.json is missing or changed is an error, as in `verify`.
    pub fn list(&self) -> Result<Vec<StoredImage>, ImageError> {
        let mut all = Vec::new();
        for name in folders(&self.dir)? {
            let Ok(name) = name.parse::<ImageName>() else { continue };
            let link = fs::read_link(self.dir.join(name.as_str()).join("current")).ok();
            for digest in folders(&self.dir.join(name.as_str()))? {
                if !is_digest(&digest) {
                    continue;
                }
                let manifest = self.manifest(&name, &digest)?;
                let current = link.as_deref() == Some(Path::new(&digest));
                all.push(StoredImage { name: name.clone(), digest, current, manifest });
            }
        }
        all.sort_by(|a, b| (&a.name, &a.digest).cmp(&(&b.name, &b.digest)));
        Ok(all)
    }

    /// Reads every byte of the image and compares it with its digests.
    ///
    /// Errors: `Missing` or `Changed` name the file, what was expected and what is there.
    pub fn verify(&self, name: &ImageName, digest: &str) -> Result<ImageManifest, ImageError> {
        let manifest = self.manifest(name, digest)?;
        for file in manifest.files() {
            self.verify_file(name, digest, file)?;
        }
        Ok(manifest)
    }

    /// As [`verify`](Self::verify), but reads only files that changed since this store last
    /// read them whole: device, inode, size and both times are as they were.
    ///
    /// For every start of a machine: a few microseconds instead of a second.
    pub fn verify_unless_unchanged(
        &self,
        name: &ImageName,
        digest: &str,
    ) -> Result<ImageManifest, ImageError> {
        let manifest = self.manifest(name, digest)?;
        for file in manifest.files() {
            let path = self.path(name, digest).join(&file.file);
            let known = self.checked.lock().expect("no holder panics").get(&path).copied();
            match Stamp::of(&path) {
                Ok(stamp) if known == Some(stamp) => {}
                _ => self.verify_file(name, digest, file)?,
            }
        }
        Ok(manifest)
    }

    /// Checks every image in the store, whole; one result an image, problems included.
    pub fn verify_all(
        &self,
    ) -> Result<Vec<(ImageName, String, Result<(), ImageError>)>, ImageError> {
        let mut all = Vec::new();
        for name in folders(&self.dir)? {
            let Ok(name) = name.parse::<ImageName>() else { continue };
            for digest in folders(&self.dir.join(name.as_str()))? {
                if is_digest(&digest) {
                    let result = self.verify(&name, &digest).map(|_| ());
                    all.push((name.clone(), digest, result));
                }
            }
        }
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Ok(all)
    }

    fn verify_file(
        &self,
        name: &ImageName,
        digest: &str,
        file: &ImageFile,
    ) -> Result<(), ImageError> {
        let path = self.path(name, digest).join(&file.file);
        let before = match Stamp::of(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(ImageError::Missing {
                    name: name.to_string(),
                    path,
                    expected: file.sha256.clone(),
                });
            }
            other => other.at("look at", &path)?,
        };
        let found = sha256_of(&path)?;
        if found != file.sha256 || before.size != file.size_bytes {
            return Err(ImageError::Changed {
                name: name.to_string(),
                path,
                expected: file.sha256.clone(),
                expected_bytes: file.size_bytes,
                found,
                found_bytes: before.size,
            });
        }
        self.checked.lock().expect("no holder panics").insert(path, before);
        Ok(())
    }

    /// image.json of an image, which must have the digest that names its folder.
    fn manifest(&self, name: &ImageName, digest: &str) -> Result<ImageManifest, ImageError> {
        let path = self.path(name, digest).join("image.json");
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(ImageError::Missing {
                    name: name.to_string(),
                    path,
                    expected: digest.into(),
                });
            }
            other => other.at("read", &path)?,
        };
        let found = hex::encode(Sha256::digest(&bytes));
        if found != digest {
            let found_bytes = bytes.len() as u64;
            return Err(ImageError::Changed {
                name: name.to_string(),
                path,
                expected: digest.into(),
                // The size is not in the digest's name; say the one that is there.
                expected_bytes: found_bytes,
                found,
                found_bytes,
            });
        }
        let wrong = |reason: String| ImageError::Manifest {
            name: name.to_string(),
            path: path.clone(),
            reason,
        };
        let manifest: ImageManifest =
            serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        if manifest.version != 1 {
            return Err(wrong(format!("version {} is not known here", manifest.version)));
        }
        if &manifest.name != name {
            return Err(wrong(format!("it is of image `{}`", manifest.name)));
        }
        // A name from a file never leads out of the folder.
        if let Some(bad) =
            manifest.files().find(|f| f.file.contains('/') || f.file.starts_with('.'))
        {
            return Err(wrong(format!("`{}` is not a plain file name", bad.file)));
        }
        Ok(manifest)
    }
}

/// SHA-256 of a file's content, in lower-case hex.
pub(crate) fn sha256_of(path: &Path) -> Result<String, ImageError> {
    let mut file = File::open(path).at("open", path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).at("read", path)? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Whether `text` can be the name of a finished image's folder.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Names of the folders in `dir`; none when it is not there.
fn folders(dir: &Path) -> Result<Vec<String>, ImageError> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("read folder", dir)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.at("read folder", dir)?;
        if entry.file_type().at("look at", entry.path())?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

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

/// What [`ImageStore::verify_all`] found about one image.
#[derive(Debug)]
pub struct Checked {
    /// Its name.
    pub name: ImageName,
    /// The digest that names its folder.
    pub digest: String,
    /// Whether it is sound, or the first thing that is not.
    pub result: Result<(), ImageError>,
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

    /// Checks every image in the store, whole, also after one that is not sound.
    pub fn verify_all(&self) -> Result<Vec<Checked>, ImageError> {
        let mut all = Vec::new();
        for name in folders(&self.dir)? {
            let Ok(name) = name.parse::<ImageName>() else { continue };
            for digest in folders(&self.dir.join(name.as_str()))? {
                if is_digest(&digest) {
                    let result = self.verify(&name, &digest).map(|_| ());
                    all.push(Checked { name: name.clone(), digest, result });
                }
            }
        }
        all.sort_by(|a, b| (&a.name, &a.digest).cmp(&(&b.name, &b.digest)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::testing::{built, manifest};
    use std::os::unix::fs::symlink;

    fn store_with_micro() -> (tempfile::TempDir, ImageStore, String) {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = ImageStore::new(dir.path().join("images"));
        let digest = built(&store, "kernel one");
        (dir, store, digest)
    }

    fn micro() -> ImageName {
        "micro".parse().expect("a name")
    }

    /// Changes a finished image, as a disk error or a careless admin would.
    fn overwrite(path: &Path, content: &[u8]) {
        fs::remove_file(path).expect("remove");
        fs::write(path, content).expect("write");
    }

    #[test]
    fn a_finished_image_is_found_and_sound() {
        let (_dir, store, digest) = store_with_micro();
        let (current, manifest) = store.current(&micro()).expect("is there");
        assert_eq!(current, digest);
        assert_eq!(store.verify(&micro(), &digest).expect("sound"), manifest);
        assert_eq!(store.verify_unless_unchanged(&micro(), &digest).expect("sound"), manifest);
        let list = store.list().expect("list");
        assert_eq!((list.len(), list[0].current, &list[0].digest), (1, true, &digest));
        assert!(store.verify_all().expect("all").iter().all(|c| c.result.is_ok()));
    }

    #[test]
    fn an_image_never_built_says_how_to_build_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = ImageStore::new(dir.path().join("images"));
        let error = store.current(&micro()).expect_err("nothing there");
        assert_eq!(
            error.to_string(),
            "image `micro` is not built yet; run `nonstop image build micro`"
        );
        assert_eq!(store.list().expect("an empty list"), []);
    }

    #[test]
    fn a_missing_file_is_named_with_its_digest_and_the_way_out() {
        let (_dir, store, digest) = store_with_micro();
        let path = store.path(&micro(), &digest).join("initrd");
        let expected = sha256_of(&path).expect("hash");
        fs::remove_file(&path).expect("remove");
        let text = store.verify(&micro(), &digest).expect_err("missing").to_string();
        assert!(text.contains(path.to_str().expect("UTF-8")), "{text}");
        assert!(text.contains(&expected) && text.contains("nonstop image build micro"), "{text}");
    }

    #[test]
    fn a_torn_file_is_found_though_its_image_was_checked_before() {
        let (_dir, store, digest) = store_with_micro();
        store.verify(&micro(), &digest).expect("sound");
        let path = store.path(&micro(), &digest).join("kernel");
        overwrite(&path, b"kernel");
        for result in
            [store.verify(&micro(), &digest), store.verify_unless_unchanged(&micro(), &digest)]
        {
            match result {
                Err(ImageError::Changed {
                    path: p, expected_bytes: 10, found_bytes: 6, ..
                }) => {
                    assert_eq!(p, path);
                }
                other => panic!("expected Changed, got {other:?}"),
            }
        }
    }

    #[test]
    fn a_byte_changed_in_place_is_found() {
        let (_dir, store, digest) = store_with_micro();
        store.verify(&micro(), &digest).expect("sound");
        overwrite(&store.path(&micro(), &digest).join("disk.qcow2"), b"DISK");
        let text = store.verify_unless_unchanged(&micro(), &digest).expect_err("changed");
        let text = text.to_string();
        assert!(text.contains("disk.qcow2 was changed: expected SHA-256"), "{text}");
        let all = store.verify_all().expect("all");
        assert!(
            matches!(&all[..], [Checked { result: Err(ImageError::Changed { .. }), .. }]),
            "{all:?}"
        );
    }

    #[test]
    fn image_json_edited_by_hand_is_refused_by_current_too() {
        let (_dir, store, digest) = store_with_micro();
        let path = store.path(&micro(), &digest).join("image.json");
        let text = fs::read_to_string(&path).expect("read").replace("console", "init=/bin/sh");
        overwrite(&path, text.as_bytes());
        let error = store.current(&micro()).expect_err("changed");
        assert!(matches!(error, ImageError::Changed { .. }), "{error}");
    }

    #[test]
    fn a_manifest_that_leads_out_of_its_folder_is_refused() {
        let (_dir, store, _) = store_with_micro();
        let mut manifest = manifest(store.dir(), "kernel one");
        manifest.kernel.file = "../../../etc/shadow".into();
        let json = serde_json::to_vec(&manifest).expect("JSON");
        let digest = hex::encode(Sha256::digest(&json));
        fs::create_dir(store.path(&micro(), &digest)).expect("mkdir");
        fs::write(store.path(&micro(), &digest).join("image.json"), json).expect("write");
        let text = store.verify(&micro(), &digest).expect_err("refused").to_string();
        assert!(text.contains("is not a plain file name"), "{text}");
    }

    #[test]
    fn current_pointing_elsewhere_is_refused() {
        let (_dir, store, _) = store_with_micro();
        let link = store.dir().join("micro/current");
        fs::remove_file(&link).expect("remove");
        symlink("/etc", &link).expect("link");
        let text = store.current(&micro()).expect_err("refused").to_string();
        assert!(text.contains("not to a digest"), "{text}");
    }
}

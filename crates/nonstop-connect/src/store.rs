//! What is kept of labs: a folder each with the profile, the authority that is trusted, and what
//! `ssh` and RDP clients read. Nothing of it is secret; it is the person's alone all the same.

use crate::trouble::Trouble;
use nonstop_profile::{Fingerprint, Profile, Sealed};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// The folder of configuration.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// A lab that is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its folder.
    pub folder: PathBuf,
    /// The authority that is trusted.
    pub authority: Fingerprint,
    /// What it says.
    pub profile: Profile,
}

impl Kept {
    /// Host keys, for `ssh`.
    pub fn known_hosts(&self) -> PathBuf {
        self.folder.join("known_hosts")
    }

    /// The card's public key, for `ssh`.
    pub fn identity(&self) -> PathBuf {
        self.folder.join("card.pub")
    }

    /// The file for the RDP client of desktop `name`.
    pub fn rdp_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.rdp"))
    }

    /// The name by which `ssh` knows the lab's host keys.
    pub fn alias(&self) -> String {
        format!("nonstop-{}", self.authority.short())
    }

    /// Writes the host keys for `ssh`.
    pub fn pin(&self) -> Result<(), Trouble> {
        let line = |key| format!("{} {key}\n", self.alias());
        let lines = self.profile.host_keys.iter().map(line).collect::<String>();
        write(&self.known_hosts(), lines.as_bytes())
    }
}

impl Store {
    /// The configuration in `folder`, which need not be there yet.
    pub fn new(folder: PathBuf) -> Store {
        Store { folder }
    }

    /// The labs that are kept, in the order of their names. What cannot be read is left out and told
    /// to `broken`.
    pub fn labs(&self, mut broken: impl FnMut(Trouble)) -> Vec<Kept> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut labs = Vec::new();
        for folder in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
            match kept(&folder) {
                Ok(lab) => labs.push(lab),
                Err(trouble) => broken(trouble),
            }
        }
        labs.sort_by(|a, b| a.profile.lab.cmp(&b.profile.lab));
        labs
    }

    /// Keeps the profile in `file`. The authority of a lab that is not known yet is asked for:
    /// `trust` is shown the profile as that authority has it, and says whether it is the right one.
    ///
    /// Errors: no profile; another authority than the one that is trusted for this lab; older than
    /// what is kept; not trusted.
    pub fn add(
        &self,
        file: &Path,
        trust: impl FnOnce(&Profile, &Fingerprint) -> Result<(), Trouble>,
    ) -> Result<Kept, Trouble> {
        let bytes = read(file)?;
        self.take(&bytes, &file.display().to_string(), trust)
    }

    /// As [`Store::add`], with the content of a file that `from` names.
    pub fn take(
        &self,
        bytes: &[u8],
        from: &str,
        trust: impl FnOnce(&Profile, &Fingerprint) -> Result<(), Trouble>,
    ) -> Result<Kept, Trouble> {
        let refused = |e: &dyn std::fmt::Display| Trouble::Profile(from.into(), e.to_string());
        let sealed = Sealed::read(bytes).map_err(|e| refused(&e))?;
        let authority = sealed.authority();
        let profile = sealed.open(&authority).map_err(|e| refused(&e))?;
        let labs = self.labs(drop);
        match labs.iter().find(|lab| lab.authority == authority) {
            Some(known) if known.profile.issued_at > profile.issued_at => {
                return Err(Trouble::Older(profile.issued_at, known.profile.issued_at));
            }
            Some(_) => {}
            None => {
                if let Some(other) = labs.iter().find(|lab| lab.profile.lab == profile.lab) {
                    return Err(Trouble::Authority {
                        lab: profile.lab,
                        kept: other.authority,
                        new: authority,
                    });
                }
                trust(&profile, &authority)?;
            }
        }
        let folder = self.folder.join(authority.short());
        let kept = Kept { folder, authority, profile };
        private(&self.folder)?;
        private(&kept.folder)?;
        write(&kept.folder.join("authority"), format!("{authority}\n").as_bytes())?;
        kept.pin()?;
        write(&kept.folder.join("profile.json"), bytes)?;
        Ok(kept)
    }

    /// Removes what is kept of `lab`.
    pub fn forget(&self, lab: &Kept) -> Result<(), Trouble> {
        fs::remove_dir_all(&lab.folder).map_err(|e| Trouble::file(&lab.folder, &e))
    }
}

fn kept(folder: &Path) -> Result<Kept, Trouble> {
    let file = folder.join("profile.json");
    let refused =
        |e: &dyn std::fmt::Display| Trouble::Profile(file.display().to_string(), e.to_string());
    let authority = read(&folder.join("authority"))?;
    let authority: Fingerprint =
        String::from_utf8_lossy(&authority).trim().parse().map_err(|e| refused(&e))?;
    let sealed = Sealed::read(&read(&file)?).map_err(|e| refused(&e))?;
    let profile = sealed.open(&authority).map_err(|e| refused(&e))?;
    Ok(Kept { folder: folder.into(), authority, profile })
}

/// Reads a file that may be anything: no more of it than a profile has.
fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    let limit = nonstop_profile::FILE_BYTES as u64 + 1;
    fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|e| Trouble::file(path, &e))?;
    Ok(bytes)
}

/// Writes a file of the person's alone: whole or not at all.
pub fn write(path: &Path, content: &[u8]) -> Result<(), Trouble> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&new).and_then(|mut file| {
        std::io::Write::write_all(&mut file, content)?;
        file.sync_all()?;
        fs::rename(&new, path)
    });
    written.map_err(|e| Trouble::file(path, &e))
}

/// Makes a folder of the person's alone.
fn private(folder: &Path) -> Result<(), Trouble> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|e| Trouble::file(folder, &e))
}

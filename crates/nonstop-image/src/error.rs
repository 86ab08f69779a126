//! What can go wrong with an image, said so that the reader knows how to mend it.

use std::path::PathBuf;

/// A failure to read, check or build an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// No image of that name was ever finished here.
    #[error("image `{name}` is not built yet; run `nonstop image build {name}`")]
    NotBuilt {
        /// The image.
        name: String,
    },
    /// A file that image.json names is not in the folder.
    #[error(
        "image `{name}`: {path} is missing (expected SHA-256 {expected}); \
         run `nonstop image build {name} --force`"
    )]
    Missing {
        /// The image.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its digest as image.json, or the folder's name, has it.
        expected: String,
    },
    /// A file is there with other content.
    #[error(
        "image `{name}`: {path} was changed: expected SHA-256 {expected} ({expected_bytes} bytes), \
         found {found} ({found_bytes} bytes); run `nonstop image build {name} --force`"
    )]
    Changed {
        /// The image.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its digest as image.json, or the folder's name, has it.
        expected: String,
        /// Its size as recorded.
        expected_bytes: u64,
        /// What it hashes to now.
        found: String,
        /// Its size now.
        found_bytes: u64,
    },
    /// image.json has the right digest but does not say what it must.
    #[error(
        "image `{name}`: {path} cannot be used: {reason}; \
         run `nonstop image build {name} --force`"
    )]
    Manifest {
        /// The image.
        name: String,
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The recipe's folder or recipe.yaml is wrong.
    #[error("recipe {path}: {reason}")]
    Recipe {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, where, and what was expected.
        reason: String,
    },
    /// Programs that a build needs are not on this host.
    #[error("missing here: {}; run `apt-get install {}`", .programs.join(", "), .packages.join(" "))]
    Tools {
        /// The programs.
        programs: Vec<&'static str>,
        /// Debian packages that have them.
        packages: Vec<&'static str>,
    },
    /// Building needs root: package scripts run in a chroot, files get their owners.
    #[error("an image is built as root (chroot, owners of files); run this with sudo")]
    NotRoot,
    /// Another build of the same image is running.
    #[error("image `{name}` is being built by another process (it holds {lock}); wait for it")]
    Busy {
        /// The image.
        name: String,
        /// The lock's file.
        lock: PathBuf,
    },
    /// A program of the build failed.
    #[error(
        "image `{name}`, stage {stage}: {program} failed ({status}); last lines:\n{tail}\nwhole log: {log}"
    )]
    Stage {
        /// The image.
        name: String,
        /// The stage.
        stage: &'static str,
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        tail: String,
        /// Where all it said is kept.
        log: PathBuf,
    },
    /// The packages do not hold what the recipe asks for.
    #[error("image `{name}`: {reason}")]
    Content {
        /// The image.
        name: String,
        /// What was looked for and where.
        reason: String,
    },
    /// The file system refused.
    #[error("{doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Attaches what was being done to which file.
pub(crate) trait At<T> {
    fn at(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, ImageError>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, ImageError> {
        self.map_err(|source| ImageError::Io { doing, path: path.into(), source })
    }
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, ImageError> {
        self.map_err(std::io::Error::from).at(doing, path)
    }
}

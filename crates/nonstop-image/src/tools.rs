//! The host's programs that a build calls, and where Debian has them.

use crate::error::ImageError;
use std::{env, path::Path};

/// Program and the Debian package that has it.
pub const TOOLS: &[(&str, &str)] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("apt-get", "apt"),
    ("mke2fs", "e2fsprogs"),
    ("qemu-img", "qemu-utils"),
    ("sfdisk", "fdisk"),
    ("mkfs.vfat", "dosfstools"),
    ("mmd", "mtools"),
    ("mcopy", "mtools"),
    ("dd", "coreutils"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("chroot", "coreutils"),
    ("find", "findutils"),
];

/// Where programs are looked for, also when the caller's PATH lacks the sbin folders.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Says which of [`TOOLS`] are not on this host, with the command that installs them.
pub fn check() -> Result<(), ImageError> {
    let dirs: Vec<_> = env::split_paths(PATH).collect();
    let missing: Vec<_> =
        TOOLS.iter().filter(|(program, _)| !dirs.iter().any(|d| runs(&d.join(program)))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|t| t.1).collect();
    packages.sort_unstable();
    packages.dedup();
    Err(ImageError::Tools { programs: missing.iter().map(|t| t.0).collect(), packages })
}

fn runs(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        let error = ImageError::Tools {
            programs: vec!["mmdebstrap", "qemu-img"],
            packages: vec!["mmdebstrap", "qemu-utils"],
        };
        assert_eq!(
            error.to_string(),
            "missing here: mmdebstrap, qemu-img; run `apt-get install mmdebstrap qemu-utils`"
        );
        assert!(!runs(Path::new("/nowhere/mmdebstrap")) && runs(Path::new("/bin/sh")));
    }
}

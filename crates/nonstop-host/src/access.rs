//! Whether a uid without any right gets at a path: QEMU's own words for it do not name the
//! folder that is closed.

use crate::HostError;
use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

/// Why not, and how to mend it.
#[derive(Debug)]
pub(crate) struct Closed {
    text: String,
    help: String,
}

impl Closed {
    pub(crate) fn while_doing(self, doing: String) -> HostError {
        HostError::new(doing, self.text).help(self.help)
    }
}

/// Checks that others can pass all folders on the way to `path` and, where it is a file, read it.
pub(crate) fn open_to_others(path: &Path) -> Result<(), Closed> {
    for step in path.ancestors() {
        let look = |e: io::Error| Closed {
            text: format!("look at {}: {e}", step.display()),
            help: String::new(),
        };
        let meta = fs::metadata(step).map_err(look)?;
        let (what, bit, letter) =
            if meta.is_dir() { ("pass", 0o001, 'x') } else { ("read", 0o004, 'r') };
        if meta.permissions().mode() & bit == 0 {
            return Err(Closed {
                text: format!("{} does not let the machines' uids {what} it", step.display()),
                help: format!("run `chmod o+{letter} {}`", step.display()),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_folder_on_the_way_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let closed = dir.path().join("closed");
        let file = closed.join("kernel");
        fs::create_dir(&closed).expect("a folder");
        fs::write(&file, "").expect("a file");
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        };
        mode(dir.path(), 0o755);
        mode(&closed, 0o700);
        mode(&file, 0o644);
        let problem = open_to_others(&file).expect_err("closed");
        assert!(problem.text.starts_with(&closed.display().to_string()), "{}", problem.text);
        assert_eq!(problem.help, format!("run `chmod o+x {}`", closed.display()));
        mode(&closed, 0o711);
        open_to_others(&file).expect("open");
        mode(&file, 0o600);
        let problem = open_to_others(&file).expect_err("closed");
        assert_eq!(problem.help, format!("run `chmod o+r {}`", file.display()));
    }
}

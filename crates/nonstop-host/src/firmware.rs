//! UEFI firmware of machines: Debian's OVMF, and the variables that each machine has of its own.
//!
//! The build without secure boot, whose variables hold no keys: a debuggee starts whatever its
//! disk holds. Code is shared and read-only; variables are a qcow2 in the machine's generation,
//! because libvirt's internal snapshots take only that.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The firmware's code. Debian 12 and 13 have it here.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

/// Variables as they are before the first start.
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// UEFI firmware of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Code.
    pub code: PathBuf,
    /// Fresh variables.
    pub variables: PathBuf,
}

/// There is no firmware here.
#[derive(Debug, thiserror::Error)]
#[error("there is no UEFI firmware at {0}: run `apt-get install ovmf`")]
pub struct NoFirmware(String);

impl Firmware {
    /// Where Debian's is, installed or not.
    pub fn of_debian() -> Firmware {
        Firmware { code: CODE.into(), variables: VARIABLES.into() }
    }

    /// Debian's. Errors: it is not installed.
    pub fn of_host() -> Result<Firmware, NoFirmware> {
        let found = Firmware::of_debian();
        for path in [&found.code, &found.variables] {
            if !path.is_file() {
                return Err(NoFirmware(path.display().to_string()));
            }
        }
        Ok(found)
    }

    /// Makes the fresh variables of a machine in `nvram`, which does not exist yet.
    pub(crate) fn fresh_variables(&self, nvram: &Path) -> io::Result<()> {
        let output = Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .args([&self.variables, nvram])
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let _nothing_left = fs::remove_file(nvram);
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

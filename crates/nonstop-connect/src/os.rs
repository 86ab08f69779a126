//! The systems that a researcher's PC may have, and where things lie there.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// A system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Os {
    /// Linux, and what is like it.
    Linux,
    /// macOS.
    MacOs,
    /// Windows 10 and 11.
    Windows,
}

/// What the environment says of `name`.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Os {
    /// The system this runs on.
    pub fn here() -> Os {
        match std::env::consts::OS {
            "windows" => Os::Windows,
            "macos" => Os::MacOs,
            _ => Os::Linux,
        }
    }

    /// Where the configuration is kept; None where the environment names no home.
    pub fn folder(self, variable: Variable<'_>) -> Option<PathBuf> {
        let path = |name| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = || path("HOME");
        let base = match self {
            Os::Linux => path("XDG_CONFIG_HOME")
                .filter(|path| path.is_absolute())
                .or_else(|| Some(home()?.join(".config"))),
            Os::MacOs => home().map(|home| home.join("Library/Application Support")),
            Os::Windows => path("APPDATA"),
        };
        Some(base?.join("nonstop-connect"))
    }

    /// Where PKCS#11 modules for PIV cards lie, most usual first.
    pub fn modules(self) -> &'static [&'static str] {
        match self {
            Os::Linux => &[
                "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so",
                "/usr/lib/aarch64-linux-gnu/opensc-pkcs11.so",
                "/usr/lib64/opensc-pkcs11.so",
                "/usr/lib64/pkcs11/opensc-pkcs11.so",
                "/usr/lib/opensc-pkcs11.so",
                "/usr/lib/pkcs11/opensc-pkcs11.so",
                "/usr/local/lib/opensc-pkcs11.so",
            ],
            Os::MacOs => &[
                "/Library/OpenSC/lib/opensc-pkcs11.so",
                "/opt/homebrew/lib/opensc-pkcs11.so",
                "/usr/local/lib/opensc-pkcs11.so",
            ],
            Os::Windows => &[
                r"C:\Program Files\OpenSC Project\OpenSC\pkcs11\opensc-pkcs11.dll",
                r"C:\Windows\System32\opensc-pkcs11.dll",
            ],
        }
    }

    /// Where `program` lies: the system's own `ssh` and `mstsc` on Windows, else as `PATH` has it.
    pub fn program(self, program: &str, variable: Variable<'_>) -> Option<PathBuf> {
        let file = match self {
            Os::Windows => format!("{program}.exe"),
            Os::Linux | Os::MacOs => program.to_string(),
        };
        let root = variable("SystemRoot").map_or(PathBuf::from(r"C:\Windows"), PathBuf::from);
        let system = match self {
            Os::Windows => vec![root.join(r"System32\OpenSSH"), root.join("System32")],
            Os::Linux | Os::MacOs => Vec::new(),
        };
        let path = variable("PATH").unwrap_or_default();
        let named = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
        system.into_iter().chain(named).map(|folder| folder.join(&file)).find(|p| is_program(p))
    }
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

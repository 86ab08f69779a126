//! A lab whose files are screened by the program that was built.

use nonstop_model::{
    Lab,
    screening::{About, Way},
};
use nonstopd::screening::{Confined, Screened, Screener};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A user that nobody is.
pub(crate) const USER: (u32, u32) = (64_103, 64_103);

/// The SHA-256 of what is protected here: of the bytes `the lab's own`.
pub(crate) const PROTECTED: &[u8] = b"the lab's own\n";

pub(crate) struct TestLab {
    pub(crate) dir: tempfile::TempDir,
    lab: Lab,
    user: u32,
}

impl TestLab {
    pub(crate) fn new() -> TestLab {
        TestLab::with("")
    }

    /// One whose `lab.yaml` ends with `more`.
    pub(crate) fn with(more: &str) -> TestLab {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let text = format!("version: 1\nname: lab\n{more}");
        let mut lab = Lab::parse("lab.yaml", &text).expect("a lab");
        lab.programs = programs();
        lab.screening.rules = dir.path().join("rules");
        TestLab { dir, lab, user: USER.0 }
    }

    /// Puts a program of the test in place of ours.
    pub(crate) fn played_by(mut self, script: &str) -> TestLab {
        self.program("nonstop-screen", script);
        self.lab.programs = self.dir.path().into();
        self
    }

    /// Has files looked at by another user.
    pub(crate) fn looked_at_by(mut self, user: u32) -> TestLab {
        self.user = user;
        self
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut Lab)) -> TestLab {
        change(&mut self.lab);
        self
    }

    /// Writes a script that can be run.
    pub(crate) fn program(&self, name: &str, script: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let text = self.write("text", script.as_bytes());
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        // By another process: what this one has open for writing, its other tests' children have too
        // until they become a program, and such a file cannot be run.
        let copied = std::process::Command::new("cp").args([&text, &path]).status();
        assert!(copied.expect("cp").success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
        path
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, bytes).expect("written");
        path
    }

    pub(crate) fn screener(&self) -> Confined {
        let protected = sha256(PROTECTED);
        let is = move |sum: &str| Ok(sum == protected);
        Confined::with(Arc::new(self.lab.clone()), (self.user, self.user), Box::new(is))
    }

    /// Screens `bytes` that are to leave as `name`.
    pub(crate) fn screen(&self, name: &str, bytes: &[u8]) -> Screened {
        let path = self.write("file", bytes);
        self.screener().screen(open(&path), &about(name))
    }

    /// The verdict and the rules of that, as one line.
    pub(crate) fn shown(&self, name: &str, bytes: &[u8]) -> String {
        shown(&self.screen(name, bytes))
    }
}

pub(crate) fn shown(screened: &Screened) -> String {
    let rules = screened.findings.iter().map(|f| format!("{} {}", f.rule, f.verdict));
    let rules: Vec<_> = rules.collect();
    format!("{} as {}: {}", screened.verdict, screened.kind, rules.join(", "))
}

pub(crate) fn about(name: &str) -> About {
    About {
        way: Way::Export,
        name: name.into(),
        edition: None,
        resources: BTreeSet::new(),
        day_bytes: 0,
        period_bytes: 0,
    }
}

pub(crate) fn open(path: &Path) -> OwnedFd {
    File::open(path).expect("opens").into()
}

/// The folder of the programs that were built.
pub(crate) fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_nonstop-screen")).parent().expect("a folder").into()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}

/// Bytes without order, the same each time.
pub(crate) fn noise(n: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 24) as u8
    };
    std::iter::repeat_with(next).take(n).collect()
}
